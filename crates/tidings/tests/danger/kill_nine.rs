//! The process is killed with SIGKILL at any moment.
//!
//! Twenty times the server is killed while a drill loads it, and started again on the same data and
//! port; the drill retries what is not answered. Of the rockets it compares every field in the end: an
//! acknowledged message that is gone leaves a gap, one applied twice shows in the speed, and what was
//! held behind a gap must have survived for the rest to fit; its watcher checks in every sample that
//! nothing acknowledged has been forgotten. Of the chat it judges every call: what was acknowledged
//! is handed out once or expires, and what an answered take had taken stays taken.

use tidings_drill::random::Random;
use tidings_drill::{Common, Progress, Target, Verdict, chat, rockets};

use super::process::{Server, seed, until};

const KILLS: u64 = 20;

/// Little log between two snapshots, so that snapshots and truncation are killed as well.
const MORE: [&str; 2] = ["--snapshot-log-bytes", "100KiB"];

/// The options of every drill, with a limit for all of it.
fn within(seconds: u64) -> Common {
    Common { timeout: seconds, ..Common::default() }
}

/// Runs a drill whose progress goes up to `total`, kills the server again and again meanwhile, and
/// has what is there in the end looked at.
fn kill_during<D: Future<Output = Verdict>>(
    total: u64,
    drill: impl FnOnce(Target, Progress) -> D + Send + 'static,
    look: impl FnOnce(Server, &dyn Fn() -> Server),
) {
    let seed = seed();
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), "127.0.0.1:0", &MORE);
    let http = server.http;
    let start = || Server::start(folder.path(), &http.to_string(), &MORE);
    let progress = Progress::silent();
    let drilling = std::thread::spawn({
        let progress = progress.clone();
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(drill(Target::from(http), progress))
        }
    });
    let mut random = Random::new(seed);
    for kill in 1..=KILLS {
        // Somewhere in this kill's part of the drill.
        let at = (kill - 1) * total / KILLS + random.below(total / KILLS / 2);
        until("the drill has come so far", || progress.done() >= at || drilling.is_finished());
        server.kill();
        server = start();
    }
    let verdict = drilling.join().unwrap();
    assert!(verdict.passed(), "{verdict}");
    look(server, &start);
}

fn drill(options: rockets::Options) {
    let total = options.messages.into();
    let drill =
        async move |target, progress| rockets::run(&[target], &options, progress).await.unwrap();
    kill_during(total, drill, |server, start| {
        // And once more, from what is on the disk alone.
        let before = server.get("/rockets").unwrap().body;
        server.kill();
        assert_eq!(start().get("/rockets").unwrap().body, before);
    });
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
        common: within(100),
        ..rockets::Options::default()
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_applied_twice_when_messages_come_singly() {
    drill(options());
}

#[test]
fn nothing_acknowledged_is_lost_or_applied_twice_when_messages_come_in_bulk() {
    drill(rockets::Options { messages: 400_000, bulk: 100, ..options() });
}

/// Acknowledged messages are all handed out or expired, and none twice: a take that was answered
/// stays taken, one that was not may have been done.
#[test]
fn no_message_acknowledged_is_lost_and_none_is_handed_out_twice() {
    let options = chat::Options {
        messages: 100_000,
        crashes: true,
        retry_ms: 20,
        common: within(100),
        ..chat::Options::default()
    };
    let total = options.messages.into();
    let drill =
        async move |target, progress| chat::run(&[target], &options, progress).await.unwrap();
    kill_during(total, drill, |server, _| server.kill());
}
