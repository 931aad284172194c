//! A node that has lost what is its own, was away for too long, or is not what the others are.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::world::World;

#[test]
fn a_node_that_was_away_for_longer_than_the_log_reaches_back_is_rebuilt_from_what_was_shared() {
    let flags = ["--snapshot-log-bytes", "128KiB"];
    let Some(mut world) = World::start(&flags) else { return };
    world.passes(&["rockets --messages 2000 --senders 8"]);
    world.cluster.nodes[0].process.stop();
    // The two that are left take snapshots, agree on them, share them and let go of what they cover.
    world.without(0, |world| world.truncated_behind(2000));
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
fn a_node_that_lags_behind_a_small_log_is_waited_for_and_in_the_end_rebuilt() {
    let Some(mut world) = World::start(&["--log-bytes-max", "2MiB"]) else { return };
    // The others make room again and again meanwhile.
    world.drilled(&["rockets --messages 10000 --senders 4"], |cluster| {
        for pause_ms in [300, 3_000] {
            sleep(Duration::from_secs(2));
            cluster.nodes[2].process.pause().unwrap();
            sleep(Duration::from_millis(pause_ms));
            cluster.nodes[2].process.resume().unwrap();
        }
    });
    let read = world.agrees();
    world.cluster.nodes[2].process.pause().unwrap();
    world.without(2, |world| world.truncated_behind(read));
    world.cluster.nodes[2].process.resume().unwrap();
    world.agrees();
    // Nobody has started it again.
    let (_, metrics) = world.cluster.nodes[2].get("/metrics").unwrap();
    let rebuilt =
        |line: &str| line.starts_with("tidings_node_rebuilt_total ") && !line.ends_with(" 0");
    assert!(metrics.lines().any(rebuilt), "{metrics}");
}
