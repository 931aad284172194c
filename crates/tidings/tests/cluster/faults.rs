//! The danger: a node or a NATS server dies, stops or is disconnected under load.
//!
//! An append whose answer is lost may or may not be stored: retried carelessly it is applied twice, given up carelessly an
//! acknowledged message is lost. A node that returns may act on a lease that has expired meanwhile. What holds: batches
//! have numbers, so that a retry is recognised; a lease is fenced by the log; a node that cannot reach a majority answers
//! 503. One fault of that kind was real: a node discarded entries that it had read ahead of a batch of its own.
//!
//! The sleeps are the duration of a fault and the time between two faults. No test uses them to wait for a condition.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tidings::cluster::{Cluster, Node};

use crate::proxy::Proxy;
use crate::world::World;

/// Drills that tolerate the failure of a part of the cluster. They are repeated until the faults are over, so
/// each is short.
const DRILLS: [&str; 3] = [
    "rockets --messages 2500 --senders 8",
    "chat --messages 2000 --crashes --keyed 1.0",
    "tracker --messages 600 --steps 50 --crashes",
];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A node dies and comes back.
fn bounce(cluster: &mut Cluster, node: usize) {
    sleep(seconds(2));
    cluster.nodes[node].process.kill();
    sleep(seconds(3));
    cluster.nodes[node].start().unwrap();
    cluster.nodes[node].until_ready().unwrap();
}

#[test]
fn nodes_are_killed_in_turn() {
    let Some(mut world) = World::start(&["--snapshot-log-bytes", "256KiB"]) else { return };
    world.drilled(&DRILLS, |cluster| {
        for node in [0, 1, 2] {
            bounce(cluster, node);
        }
    });
    world.agrees();
}

#[test]
fn servers_including_the_leader_are_killed_and_restarted_ten_times() {
    let Some(mut world) = World::start(&[]) else { return };
    world.drilled(&DRILLS[..2], |cluster| {
        for round in 0..10 {
            // Every other time the victim leads the stream, which causes an election.
            let leader = cluster.servers.leader("tidings").unwrap();
            let server = &mut cluster.servers.servers[(leader + round % 2) % 3];
            server.process.kill();
            sleep(Duration::from_millis(1500));
            server.start_again().unwrap();
            // The next server may be killed only when this one is in sync again: acknowledged data is guaranteed on
            // two of three servers, and one of the two is about to die.
            cluster.servers.wait_until_in_sync("tidings").unwrap();
        }
    });
    world.agrees();
}

#[test]
fn a_node_is_paused_for_15_seconds() {
    let Some(mut world) = World::start(&[]) else { return };
    world.drilled(&DRILLS[..2], |cluster| {
        sleep(seconds(2));
        cluster.nodes[0].process.pause().unwrap();
        sleep(seconds(15));
        cluster.nodes[0].process.resume().unwrap();
        sleep(seconds(2));
    });
    world.agrees();
}

#[test]
fn a_node_is_cut_off_from_the_servers_and_reconnected() {
    let Some(mut world) = World::start(&[]) else { return };
    let proxies: Vec<Proxy> =
        world.cluster.servers.servers.iter().map(|server| Proxy::start(server.address())).collect();
    let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
    let mut node = Node::place(&world.plan, 4, &urls).unwrap();
    node.start().unwrap();
    node.until_ready().unwrap();
    // The node behind the proxies replaces one that is stopped for good.
    world.cluster.nodes[0].process.stop();
    world.cluster.nodes[0] = node;
    world.drilled(&DRILLS[..2], |cluster| {
        sleep(seconds(2));
        proxies.iter().for_each(Proxy::cut);
        sleep(seconds(12));
        let (status, why) = cluster.nodes[0].get("/readyz").unwrap();
        assert_eq!(status, 503, "a node that is cut off is not ready: {why}");
        proxies.iter().for_each(Proxy::mend);
        sleep(seconds(5));
    });
    world.agrees();
}

/// The node that holds the upstream connection dies. Then its successor dies, together with the leader of the stream.
#[test]
fn another_node_takes_over_the_upstream_connection_of_the_traffic() {
    let Some(mut world) = World::start(&[]) else { return };
    let drill = ["traffic --rate 500 --communications 8000 --array 5 --updates 30 --crashes"];
    world.drilled(&drill, |cluster| {
        let here = |cluster: &Cluster| {
            let here = |node: &Node| {
                node.get("/traffic").is_some_and(|(_, body)| body.contains("\"upstream\":\"here\""))
            };
            cluster.nodes.iter().position(here)
        };
        let taken = |cluster: &Cluster, within: Duration| {
            let begun = Instant::now();
            loop {
                if let Some(node) = here(cluster) {
                    println!("the upstream is on a node after {:?}", begun.elapsed());
                    assert!(begun.elapsed() < within, "a takeover took {:?}", begun.elapsed());
                    return node;
                }
                assert!(begun.elapsed() < 2 * within, "no node takes over the upstream connection");
                sleep(Duration::from_millis(100));
            }
        };
        let first = taken(cluster, seconds(30));
        sleep(seconds(3));
        cluster.nodes[first].process.kill();
        let second = taken(cluster, seconds(10));
        cluster.nodes[first].start().unwrap();
        cluster.nodes[first].until_ready().unwrap();
        sleep(seconds(3));
        let leader = cluster.servers.leader("tidings").unwrap();
        cluster.nodes[second].process.kill();
        cluster.servers.servers[leader].process.kill();
        taken(cluster, seconds(15));
        cluster.servers.servers[leader].start_again().unwrap();
        cluster.nodes[second].start().unwrap();
        cluster.nodes[second].until_ready().unwrap();
    });
    world.agrees();
}

#[test]
fn a_node_with_clients_of_the_maze_is_killed() {
    let Some(mut world) = World::start(&[]) else { return };
    // The source is connected to the last node, so the first one only has clients.
    world.drilled(&["maze --events 500000 --cuts-allowed"], |cluster| bounce(cluster, 0));
    world.agrees();
}
