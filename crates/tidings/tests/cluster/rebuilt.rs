//! A node that has lost what is its own, was away for too long, or is not what the others are.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::world::World;

#[test]
fn a_node_that_was_away_for_longer_than_the_log_reaches_back_is_rebuilt_from_what_was_shared() {
    let flags = ["--snapshot-log-bytes", "128KiB"];
    let Some(mut world) = World::start(&flags) else { return };
    world.passes(&["rockets --messages 2000 --senders 8"]);
    world.cluster.nodes[0].process.stop();
    let rest = world.cluster.nodes.split_off(1);
    let away = std::mem::replace(&mut world.cluster.nodes, rest);
    // The two that are left take snapshots, agree on them, share them and let go of what they cover.
    let until = Instant::now() + Duration::from_secs(60);
    while !world.cluster.servers.first("tidings").is_ok_and(|first| first > 2000) {
        world.passes(&["rockets --messages 3000 --senders 8"]);
        assert!(Instant::now() < until, "the log is not truncated");
    }
    world.cluster.nodes.splice(0..0, away);
    world.cluster.nodes[0].start().unwrap();
    world.cluster.nodes[0].until_ready().unwrap();
    world.agrees();
    // A new directory is no different.
    world.cluster.nodes[1].process.stop();
    fs::remove_dir_all(world.plan.folder.join("n2/data")).unwrap();
    world.cluster.nodes[1].start().unwrap();
    world.cluster.nodes[1].until_ready().unwrap();
    world.agrees();
    assert!(world.log(1).contains("ready after"));
}

#[test]
fn a_stream_with_a_bound_is_truncated_before_it_is_full() {
    // Single messages take several times as much in the stream as they count for a snapshot.
    let Some(world) = World::start(&["--log-bytes-max", "2MiB"]) else { return };
    for _ in 0..2 {
        world.passes(&["rockets --messages 6000 --senders 4"]);
    }
    assert!(world.cluster.servers.first("tidings").unwrap() > 1, "the log is not truncated");
    world.agrees();
}

#[test]
fn a_node_that_lags_behind_a_small_log_is_waited_for_or_rebuilt() {
    let Some(mut world) = World::start(&["--log-bytes-max", "2MiB"]) else { return };
    // The others make room again and again meanwhile.
    world.drilled(&["rockets --messages 20000 --senders 4"], |cluster| {
        for pause in [300, 1_000, 3_000, 10_000] {
            sleep(Duration::from_secs(2));
            cluster.nodes[2].process.pause().unwrap();
            sleep(Duration::from_millis(pause));
            cluster.nodes[2].process.resume().unwrap();
        }
    });
    world.agrees();
    // Nobody has started it again.
    assert!(world.log(2).contains("it is built anew"));
}
