//! Whether the referee can be trusted: a right server passes, however it is loaded and whatever
//! happens to its connections, and every way of being wrong that we could think of is caught.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail loudly, and a server has one fault"
)]

#[path = "../support/http.rs"]
mod http;
mod server;
#[path = "../support/verdict.rs"]
mod verdict;

use std::time::Duration;

use server::{Fault, Server};
use tidings_drill::rockets::{self, Options};
use tidings_drill::{Common, Patience, Progress, Target, Verdict};

/// The options of every drill, with a limit for all of it.
fn within(seconds: u64) -> Common {
    Common { timeout: seconds, ..Common::default() }
}

/// Small enough for a server that folds everything for every question.
fn small() -> Options {
    Options {
        rockets: 10,
        messages: 3_000,
        anomalies: 0.01,
        senders: 4,
        retry_ms: 20,
        watch: 200,
        common: within(60),
        ..Options::default()
    }
}

async fn drilled(fault: Fault, options: Options) -> Verdict {
    let target = Target::from(Server::new(fault).listen(None));
    rockets::run(std::slice::from_ref(&target), &options, Progress::silent()).await.unwrap()
}

/// Drills a server that is right, in the end and in between.
async fn passes(fault: Fault, options: Options) -> Verdict {
    verdict::passed(drilled(fault, options).await)
}

/// Drills a server that is wrong; something in the verdict must say so in these words.
async fn fails(fault: Fault, options: Options, words: &str) {
    verdict::failed(&drilled(fault, options).await, words);
}

#[tokio::test]
async fn a_right_server_passes() {
    let verdict = passes(Fault::None, small()).await;
    assert_eq!(verdict.value("distinct messages").as_deref(), Some("3,000"));
    assert_eq!(verdict.value("mismatches").as_deref(), Some("0"));
    assert_eq!(verdict.value("rockets compared").as_deref(), Some("10"));
    assert!(verdict.value("server CPU per message").as_deref().is_some());
    assert_ne!(verdict.value("samples checked").as_deref(), Some("0"));
    assert!(verdict.to_string().contains("PASS (seed 444"), "{verdict}");
}

#[tokio::test]
async fn a_right_server_passes_in_every_manner_of_sending() {
    let manners = [
        Options { connection_per_message: true, ..small() },
        Options { pipeline: 16, ..small() },
        Options { bulk: 100, ..small() },
        Options { bulk: 7, pipeline: 3, ..small() },
        Options { rockets: 1, messages: 1_500, ..small() },
        Options { rockets: 50, messages: 50, ..small() },
        Options { messages: 1, ..small() },
        Options { shuffle: 0, duplicates: 0.0, ..small() },
        Options { duplicates: 1.0, messages: 1_000, ..small() },
        Options { anomalies: 0.5, seed: 7, ..small() },
        Options { rate: 5_000, messages: 1_000, ..small() },
        Options { watch: 0, senders: 1, ..small() },
    ];
    for options in manners {
        passes(Fault::None, options).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_runs_on_many_threads_too() {
    passes(Fault::None, Options { senders: 16, pipeline: 4, ..small() }).await;
}

#[tokio::test]
async fn a_second_drill_of_the_same_server_passes() {
    let target = Target::from(Server::new(Fault::None).listen(None));
    for _ in 0..2 {
        let verdict = rockets::run(std::slice::from_ref(&target), &small(), Progress::silent())
            .await
            .unwrap();
        assert!(verdict.passed(), "{verdict}");
    }
}

/// Drills two servers that show the same rockets.
async fn drilled_at_two(fault: Fault, options: Options) -> Verdict {
    let server = Server::new(fault);
    let targets = [0, 1].map(|_| Target::from(server.listen(None)));
    rockets::run(&targets, &options, Progress::silent()).await.unwrap()
}

#[tokio::test]
async fn several_servers_that_show_the_same_rockets_pass_and_each_is_compared() {
    for options in [
        small(),
        Options { pipeline: 8, ..small() },
        Options { bulk: 30, ..small() },
        Options { connection_per_message: true, ..small() },
    ] {
        let verdict = verdict::passed(drilled_at_two(Fault::None, options.clone()).await);
        assert_eq!(verdict.value("rockets compared").as_deref(), Some("20"), "{verdict}");
        assert_eq!(verdict.value("retried").as_deref(), None, "{verdict}");
        let verdict = verdict::passed(drilled_at_two(Fault::Busy, options).await);
        assert!(verdict.value("retried").as_deref().is_some(), "{verdict}");
    }
}

#[tokio::test]
async fn several_servers_that_show_several_worlds_are_caught() {
    let targets = [0, 1].map(|_| Target::from(Server::new(Fault::None).listen(None)));
    let verdict = rockets::run(&targets, &small(), Progress::silent()).await.unwrap();
    verdict::failed(&verdict, "rocket ");
}

#[tokio::test]
async fn a_server_that_shows_less_than_another_is_caught() {
    let (server, short) = (Server::new(Fault::None), Server::new(Fault::ShortList));
    let same = |server: &std::sync::Arc<Server>| Target::from(server.listen(None));
    // Nothing is sent to the one that shows less, so only its list is wrong.
    let options = Options { senders: 1, watch: 0, ..small() };
    let targets = [same(&server), same(&short)];
    let verdict = rockets::run(&targets, &options, Progress::silent()).await.unwrap();
    verdict::failed(&verdict, "not in GET /rockets");
}

#[tokio::test]
async fn messages_lost_by_servers_that_are_busy_now_and_then_are_caught() {
    let unseen = Options { watch: 0, ..small() };
    let words = ["were acknowledged and are not known", "sequence: expected"];
    for (options, words) in [small(), unseen].into_iter().zip(words) {
        let verdict = drilled_at_two(Fault::LosesAfterBusy, options).await;
        assert!(verdict.value("retried").as_deref().is_some(), "{verdict}");
        verdict::failed(&verdict, words);
    }
}

#[tokio::test]
async fn a_server_that_dies_beside_another_is_ridden_out() {
    let (server, dying) = (Server::new(Fault::None), Server::new(Fault::None));
    let address = dying.listen(None);
    dying.kill(address);
    // It comes back when all is sent, and shows what the other has.
    let targets = [Target::from(server.listen(None)), Target::from(address)];
    let progress = Progress::silent();
    let shown = progress.clone();
    let drill = tokio::spawn(async move { rockets::run(&targets, &small(), shown).await });
    while progress.done() < 3_000 {
        tokio::task::yield_now().await;
    }
    server.listen(Some(address));
    let verdict = verdict::passed(drill.await.unwrap().unwrap());
    assert!(verdict.value("sent again after a connection error").as_deref().is_some(), "{verdict}");
}

/// Waits a tenth of a second for an answer, and half a second for any.
fn impatient() -> Patience {
    Patience {
        answer_within: Duration::from_millis(100),
        give_up_after: Duration::from_millis(500),
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_left_for_the_next_and_missed_in_the_end() {
    let server = Server::new(Fault::None);
    let targets = [Target::from(server.listen(None)), Target::from(Server::pause())];
    let options = Options { common: Common { patience: impatient(), ..within(60) }, ..small() };
    let verdict = rockets::run(&targets, &options, Progress::silent()).await.unwrap();
    assert!(verdict.value("sent again after no answer in time").as_deref().is_some(), "{verdict}");
    assert!(verdict.value("acknowledged: applied").as_deref().is_some(), "{verdict}");
    verdict::failed(&verdict, "no call has succeeded for 500ms: given up");
}

#[tokio::test]
async fn a_drill_that_no_server_answers_is_given_up() {
    let targets = [Target::from(Server::pause()), Target::from(Server::pause())];
    let options = Options { common: Common { patience: impatient(), ..within(60) }, ..small() };
    let verdict = rockets::run(&targets, &options, Progress::silent()).await.unwrap();
    verdict::failed(&verdict, "no call has succeeded for 500ms: given up");
}

#[tokio::test]
async fn no_server_is_an_error() {
    let error = rockets::run(&[], &small(), Progress::silent()).await.unwrap_err();
    assert_eq!(error.to_string(), "no server to drill: give at least one");
}

#[tokio::test]
async fn requests_that_are_refused_are_sent_again_until_they_are_taken() {
    for options in [small(), Options { pipeline: 8, ..small() }, Options { bulk: 30, ..small() }] {
        let verdict = passes(Fault::Busy, options).await;
        assert!(verdict.value("sent again after status 503").as_deref().is_some(), "{verdict}");
    }
}

#[tokio::test]
async fn connections_that_break_lose_nothing() {
    for options in [small(), Options { pipeline: 8, ..small() }] {
        let verdict = passes(Fault::Breaks, options).await;
        assert!(
            verdict.value("sent again after a connection error").as_deref().is_some(),
            "{verdict}"
        );
    }
}

#[tokio::test]
async fn connections_that_the_server_closes_are_made_again() {
    let verdict = passes(Fault::Closes, small()).await;
    assert_eq!(verdict.value("sent again after a connection error").as_deref(), None, "{verdict}");
    // With more under way, what the server did not read makes the system reset the connection.
    let pipelined = Options { pipeline: 8, ..small() };
    passes(Fault::Closes, pipelined).await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_passes_if_it_forgets_nothing() {
    let server = Server::new(Fault::None);
    let address = server.listen(None);
    let progress = Progress::silent();
    let (target, shown) = (Target::from(address), progress.clone());
    let options = small();
    let drill = tokio::spawn(async move { rockets::run(&[target], &options, shown).await });
    for killed_at in [300, 1_000, 2_000] {
        while progress.done() < killed_at {
            tokio::task::yield_now().await;
        }
        server.kill(address);
        server.listen(Some(address));
    }
    let verdict = drill.await.unwrap().unwrap();
    assert!(verdict.passed(), "{verdict}");
    assert!(verdict.value("sent again after a connection error").as_deref().is_some(), "{verdict}");
}

#[tokio::test]
async fn a_server_that_forgets_when_it_is_started_again_is_caught() {
    let server = Server::new(Fault::None);
    let address = server.listen(None);
    let progress = Progress::silent();
    let (target, shown) = (Target::from(address), progress.clone());
    let drill = tokio::spawn(async move { rockets::run(&[target], &small(), shown).await });
    while progress.done() < 1_000 {
        tokio::task::yield_now().await;
    }
    server.kill(address);
    Server::new(Fault::None).listen(Some(address));
    let verdict = drill.await.unwrap().unwrap();
    assert!(!verdict.passed(), "{verdict}");
    // By the watcher on the way, or by the comparison in the end; only the first few are shown.
    let shown = verdict.to_string();
    let words = ["were acknowledged and are not known", "sequence: expected"];
    assert!(words.iter().any(|words| shown.contains(words)), "{verdict}");
}

#[tokio::test]
async fn a_server_that_never_answers_fails_in_time() {
    fails(
        Fault::Silent,
        Options { common: within(1), ..small() },
        "out of time after 1 s with 0 of",
    )
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::from(listener.local_addr().unwrap());
    drop(listener);
    let options = Options { common: within(1), ..small() };
    let verdict =
        rockets::run(std::slice::from_ref(&target), &options, Progress::silent()).await.unwrap();
    assert!(!verdict.passed(), "{verdict}");
}

#[tokio::test]
async fn a_duplicate_applied_twice_is_caught() {
    fails(Fault::AppliesDuplicates, small(), "speed: expected").await;
}

#[tokio::test]
async fn messages_applied_as_they_arrive_are_caught() {
    let options = Options { anomalies: 0.0, ..small() };
    fails(Fault::ArrivalOrder, options, ": expected").await;
}

#[tokio::test]
async fn a_lost_acknowledged_message_is_caught_while_the_load_runs() {
    let options = Options { rate: 10_000, ..small() };
    fails(Fault::LosesAcknowledged, options, "were acknowledged and are not known").await;
}

#[tokio::test]
async fn a_lost_acknowledged_message_is_caught_in_the_end() {
    let options = Options { watch: 0, ..small() };
    fails(Fault::LosesAcknowledged, options, "sequence: expected").await;
}

#[tokio::test]
async fn a_wrong_time_of_the_last_update_is_caught() {
    fails(Fault::WrongUpdatedAt, small(), "updatedAt: expected").await;
}

#[tokio::test]
async fn a_gap_that_is_not_shown_is_caught_while_the_load_runs() {
    let options = Options { messages: 6_000, shuffle: 200, rate: 15_000, ..small() };
    fails(Fault::HidesGaps, options, "during the load, ").await;
}

#[tokio::test]
async fn a_speed_that_stops_at_zero_is_caught() {
    fails(Fault::NoNegativeSpeed, small(), "speed: expected").await;
}

#[tokio::test]
async fn a_rocket_that_flies_on_after_its_explosion_is_caught() {
    // Enough rockets that some hear more after it.
    let options = Options { rockets: 100, ..small() };
    fails(Fault::LivesAfterExplosion, options, "updatedAt: expected").await;
}

#[tokio::test]
async fn a_time_that_is_not_in_utc_is_caught() {
    fails(Fault::TimesAsSent, small(), "createdAt: expected").await;
}

#[tokio::test]
async fn a_rocket_that_is_not_in_the_list_is_caught() {
    fails(Fault::ShortList, small(), "not in GET /rockets").await;
}

#[tokio::test]
async fn a_duplicate_answered_as_applied_is_caught() {
    fails(Fault::DuplicateAnsweredAsApplied, small(), "and 0 answered as duplicates").await;
}

#[tokio::test]
async fn a_rejected_item_of_a_bulk_is_caught() {
    fails(Fault::RejectsInBulk, Options { bulk: 100, ..small() }, "it is the seventh").await;
}
