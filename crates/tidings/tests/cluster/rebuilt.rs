//! The danger: a node needs entries that the log no longer contains.
//!
//! Where checkpoints followed one another within moments (a stream with a bound that is half full), the log was once
//! truncated past a node that was only 0.1 s behind, and that node ended. CI found it, and pausing a node reproduces it: the
//! cluster lost a healthy node. What holds now: the log is truncated only when every node that was active lately has read
//! it, or has been waited for; no node requests a checkpoint while another one is about to make room; and a node that fell
//! behind even so rebuilds itself from the shared snapshot without a restart.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::world::World;

#[test]
fn a_node_that_is_behind_the_start_of_the_log_is_rebuilt_from_the_shared_snapshot() {
    let flags = ["--snapshot-log-bytes", "128KiB"];
    let Some(mut world) = World::start(&flags) else { return };
    world.passes(&["rockets --messages 2000 --senders 8"]);
    world.cluster.nodes[0].process.stop();
    // The other two take snapshots, agree on them, share them and truncate the log.
    world.without(0, |world| world.truncated_behind(2000));
    world.cluster.nodes[0].start().unwrap();
    world.cluster.nodes[0].until_ready().unwrap();
    world.agrees();
    // The same holds for a node with an empty directory.
    world.cluster.nodes[1].process.stop();
    fs::remove_dir_all(world.plan.folder.join("n2/data")).unwrap();
    world.cluster.nodes[1].start().unwrap();
    world.cluster.nodes[1].until_ready().unwrap();
    world.agrees();
    assert!(world.log(1).contains("ready after"));
}

#[test]
fn a_stream_with_a_bound_is_truncated_before_it_is_full() {
    // The size of a single message in the stream is several times the size that counts towards a snapshot.
    let Some(world) = World::start(&["--log-bytes-max", "2MiB"]) else { return };
    for _ in 0..2 {
        world.passes(&["rockets --messages 6000 --senders 4"]);
    }
    assert!(world.cluster.servers.first("tidings").unwrap() > 1, "the log is not truncated");
    world.agrees();
}

#[test]
fn the_log_waits_for_a_node_that_lags_and_a_node_that_lags_too_far_is_rebuilt() {
    let Some(mut world) = World::start(&["--log-bytes-max", "2MiB"]) else { return };
    // Meanwhile the other nodes truncate the log repeatedly.
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
    // The process was not restarted: the counter is in its memory.
    let (_, metrics) = world.cluster.nodes[2].get("/metrics").unwrap();
    let rebuilt =
        |line: &str| line.starts_with("tidings_node_rebuilt_total ") && !line.ends_with(" 0");
    assert!(metrics.lines().any(rebuilt), "{metrics}");
}
