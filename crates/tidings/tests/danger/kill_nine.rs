//! The process is killed with SIGKILL at any moment.
//!
//! A drill sends a shuffled, duplicated world of rockets and retries what is not answered. Twenty
//! times the server is killed while it is loaded, and started again on the same data and port. In
//! the end the drill compares every field of every rocket: an acknowledged message that is gone
//! leaves a gap, one applied twice shows in the speed, and what was held behind a gap must have
//! survived for the rest to fit. During the drill its watcher checks in every sample that nothing
//! acknowledged has been forgotten.

use tidings_drill::random::Random;
use tidings_drill::{Progress, Target, rockets};

use super::process::{Server, seed, until};

const KILLS: u64 = 20;

fn drill(options: &rockets::Options) {
    let seed = seed();
    let folder = tempfile::tempdir().unwrap();
    // Little log between two snapshots, so that snapshots and truncation are killed as well.
    let more = ["--snapshot-log-bytes", "100KiB"];
    let mut server = Server::start(folder.path(), "127.0.0.1:0", &more);
    let http = server.http;
    let progress = Progress::silent();
    let drilling = std::thread::spawn({
        let (options, progress) = (options.clone(), progress.clone());
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(rockets::run(&Target::from(http), &options, progress)).unwrap()
        }
    });
    let mut random = Random::new(seed);
    let total = u64::from(options.messages);
    for kill in 1..=KILLS {
        // Somewhere in this kill's part of the drill.
        let at = (kill - 1) * total / KILLS + random.below(total / KILLS / 2);
        until("the drill has come so far", || progress.done() >= at || drilling.is_finished());
        server.kill();
        server = Server::start(folder.path(), &http.to_string(), &more);
    }
    let verdict = drilling.join().unwrap();
    assert!(verdict.passed(), "{verdict}");
    // And once more, from what is on the disk alone.
    let before = server.get("/rockets").unwrap().body;
    server.kill();
    let server = Server::start(folder.path(), &http.to_string(), &more);
    assert_eq!(server.get("/rockets").unwrap().body, before);
}

fn options() -> rockets::Options {
    rockets::Options {
        messages: 40_000,
        senders: 8,
        shuffle: 100,
        duplicates: 0.2,
        anomalies: 0.01,
        watch: 50,
        retry_ms: 20,
        timeout: 100,
        ..rockets::Options::default()
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_applied_twice_when_messages_come_singly() {
    drill(&options());
}

#[test]
fn nothing_acknowledged_is_lost_or_applied_twice_when_messages_come_in_bulk() {
    drill(&rockets::Options { messages: 400_000, bulk: 100, ..options() });
}
