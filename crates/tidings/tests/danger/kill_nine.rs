//! The danger: the process is killed with SIGKILL at any moment.
//!
//! A message that was acknowledged but not stored would be lost; a retry of one that was stored but not acknowledged would
//! be applied twice. What holds: an answer is sent only after its batch is committed, and sequence numbers and
//! idempotency keys are part of the replayed state.
//!
//! Each test kills the server twenty times while a drill loads it, and restarts it with the same data and port. The drill
//! retries what was not answered, and judges in the end. For the rockets it compares every field: a lost message leaves a
//! gap, a message that is applied twice shows in the speed, and messages that were held behind a gap must have survived.
//! A watcher checks in every sample that no acknowledged message has disappeared. For the chat it judges every call: an
//! acknowledged message is handed out once or expires, and what an answered take has taken stays taken.

use tidings_drill::random::Random;
use tidings_drill::{Common, Progress, Target, Verdict, chat, rockets};

use super::process::{Server, seed, until};

const KILLS: u64 = 20;

/// Little log between two snapshots, so that some kills hit a snapshot or a truncation.
const MORE: [&str; 2] = ["--snapshot-log-bytes", "100KiB"];

/// The common options of a drill that must end within this time.
fn within(seconds: u64) -> Common {
    Common { timeout: seconds, ..Common::default() }
}

/// Runs a drill whose progress goes up to `total`, kills the server repeatedly meanwhile, and
/// passes the last server to `inspect`.
fn kill_during<D: Future<Output = Verdict>>(
    total: u64,
    drill: impl FnOnce(Target, Progress) -> D + Send + 'static,
    inspect: impl FnOnce(Server, &dyn Fn() -> Server),
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
        // A random point in the first half of this kill's part of the drill.
        let at = (kill - 1) * total / KILLS + random.below(total / KILLS / 2);
        until("the drill has come so far", || progress.done() >= at || drilling.is_finished());
        server.kill();
        server = start();
    }
    let verdict = drilling.join().unwrap();
    assert!(verdict.passed(), "{verdict}");
    inspect(server, &start);
}

fn drill(options: rockets::Options) {
    let total = options.messages.into();
    let drill =
        async move |target, progress| rockets::run(&[target], &options, progress).await.unwrap();
    kill_during(total, drill, |server, start| {
        // Kills once more: the state must follow from the disk alone.
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
fn no_acknowledged_message_is_lost_or_applied_twice_when_sent_singly() {
    drill(options());
}

#[test]
fn no_acknowledged_message_is_lost_or_applied_twice_when_sent_in_bulk() {
    drill(rockets::Options { messages: 400_000, bulk: 100, ..options() });
}

/// Every acknowledged message is handed out once or expires. An answered take stays taken. A take without an answer
/// may have been applied.
#[test]
fn no_acknowledged_chat_message_is_lost_or_handed_out_twice() {
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
