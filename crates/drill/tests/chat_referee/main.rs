//! Whether the referee of the chat can be trusted: a right server passes, however it is loaded and
//! whatever happens to its connections, and every way of being wrong that we could think of is caught.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
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
use tidings_drill::chat::{self, Options};
use tidings_drill::{Common, Patience, Progress, Target, Verdict};

/// The options of every drill, with a limit for all of it.
fn within(seconds: u64) -> Common {
    Common { timeout: seconds, ..Common::default() }
}

/// Small enough for a server that goes through every inbox for every call; without long polls, whose
/// last ones would be waited for.
fn small() -> Options {
    Options {
        messages: 3_000,
        users: 16,
        writers: 4,
        readers: 6,
        waiting: 0.0,
        retry_ms: 20,
        common: within(60),
        ..Options::default()
    }
}

async fn drilled(fault: Fault, options: Options) -> Verdict {
    let target = Target::from(Server::new(fault).listen(None));
    chat::run(&[target], &options, Progress::silent()).await.unwrap()
}

/// Drills a server that is right, in the end and in between.
async fn passes(fault: Fault, options: Options) -> Verdict {
    verdict::passed(drilled(fault, options).await)
}

/// Drills a server that is wrong; something in the verdict must say so in these words.
async fn fails(fault: Fault, options: Options, words: &str) {
    verdict::failed(&drilled(fault, options).await, words);
}

/// The count in a line of the verdict.
fn count(verdict: &Verdict, what: &str) -> u64 {
    verdict.value(what).as_deref().map_or(0, |count| count.replace(',', "").parse().unwrap())
}

#[tokio::test]
async fn a_right_server_passes() {
    let verdict = passes(Fault::None, Options { waiting: 0.1, ..small() }).await;
    assert_eq!(verdict.value("breaches").as_deref(), Some("0"));
    for what in ["handed out", "acknowledged", "expired", "never posted"] {
        assert!(count(&verdict, &format!("messages {what}")) > 0, "{what}: {verdict}");
    }
    for what in ["post latency p50", "take latency p99", "server CPU per request"] {
        assert!(verdict.value(what).as_deref().is_some(), "{what}: {verdict}");
    }
    assert!(verdict.to_string().contains("PASS (seed 444"), "{verdict}");
}

#[tokio::test]
async fn every_message_has_one_fate() {
    let options = Options { keyed: 0.0, ..small() };
    let verdict = passes(Fault::None, options).await;
    let fates = ["handed out", "acknowledged", "expired"];
    let sum: u64 = fates.iter().map(|fate| count(&verdict, &format!("messages {fate}"))).sum();
    assert_eq!(sum, 3_000, "{verdict}");
}

#[tokio::test]
async fn a_right_server_passes_in_every_manner_of_use() {
    let manners = [
        Options { users: 1, ..small() },
        Options { users: 3_000, ..small() },
        Options { messages: 1, ..small() },
        Options { writers: 1, readers: 1, ..small() },
        Options { readers: 0, ..small() },
        Options { plain: true, ..small() },
        Options { text_bytes: 0, ..small() },
        Options { text_bytes: 20_000, messages: 300, ..small() },
        Options { expiring: 1.0, expiring_seconds: 2, ..small() },
        Options { keyed: 1.0, expiring: 0.0, ..small() },
        Options { leased: 1.0, acknowledged: 0.5, peeking: 0.0, ..small() },
        Options { waiting: 1.0, races: 1.0, messages: 1_000, seed: 7, ..small() },
        Options { limited: 1.0, limit_max: 1, messages: 1_000, ..small() },
        Options { peeking: 0.9, ..small() },
    ];
    let drills = manners.map(|options| tokio::spawn(passes(Fault::None, options)));
    for drill in drills {
        drill.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_runs_on_many_threads_too() {
    passes(Fault::None, small()).await;
}

#[tokio::test]
async fn a_second_drill_of_the_same_server_passes() {
    let target = Target::from(Server::new(Fault::None).listen(None));
    for _ in 0..2 {
        let options = Options { messages: 500, ..small() };
        let drill = chat::run(std::slice::from_ref(&target), &options, Progress::silent());
        verdict::passed(drill.await.unwrap());
    }
}

#[tokio::test]
async fn several_servers_that_show_the_same_chat_pass() {
    let server = Server::new(Fault::None);
    let targets = [0, 1, 2].map(|_| Target::from(server.listen(None)));
    let verdict = chat::run(&targets, &small(), Progress::silent()).await.unwrap();
    assert_eq!(verdict::passed(verdict).value("server memory").as_deref(), Some("3.0 MiB"));
}

#[tokio::test]
async fn several_servers_that_show_several_chats_are_caught() {
    let targets = [0, 1].map(|_| Target::from(Server::new(Fault::None).listen(None)));
    let verdict = chat::run(&targets, &small(), Progress::silent()).await.unwrap();
    verdict::failed(&verdict, "broken: lost");
}

/// Drills two servers that show the same chat, of which one may be away at any time.
async fn drilled_at_two(fault: Fault, options: Options) -> Verdict {
    let server = Server::new(fault);
    let targets = [0, 1].map(|_| Target::from(server.listen(None)));
    let options = Options { crashes: true, ..options };
    chat::run(&targets, &options, Progress::silent()).await.unwrap()
}

#[tokio::test]
async fn servers_that_are_busy_now_and_then_are_ridden_out() {
    let verdict = verdict::passed(drilled_at_two(Fault::BusyNowAndThen, small()).await);
    assert!(count(&verdict, "retried") > 0, "{verdict}");
    assert_eq!(verdict.value("unknown takes").as_deref(), None, "a refused take has taken nothing");
}

#[tokio::test]
async fn messages_lost_by_servers_that_are_busy_now_and_then_are_caught() {
    for options in [small(), Options { keyed: 1.0, ..small() }] {
        verdict::failed(&drilled_at_two(Fault::LosesAfterBusy, options).await, "broken: lost");
    }
}

#[tokio::test]
async fn a_message_handed_out_at_two_servers_is_caught() {
    let verdict = drilled_at_two(Fault::TwiceAcrossAddresses, small()).await;
    verdict::failed(&verdict, "broken: handed out twice");
}

#[tokio::test]
async fn a_server_that_is_silent_beside_another_leaves_only_doubts() {
    let server = Server::new(Fault::None);
    let targets = [Target::from(server.listen(None)), Target::from(Server::pause())];
    let patience = Patience { answer_within: Duration::from_millis(100), ..Patience::default() };
    let options = Options {
        crashes: true,
        late_seconds: 1,
        common: Common { patience, ..within(60) },
        ..small()
    };
    let verdict = chat::run(&targets, &options, Progress::silent()).await.unwrap();
    let verdict = verdict::passed(verdict);
    assert!(count(&verdict, "unknown takes") > 0, "{verdict}");
    assert!(count(&verdict, "retried") > 0, "{verdict}");
}

#[tokio::test]
async fn a_drill_that_no_server_answers_is_given_up() {
    let patience = Patience {
        answer_within: Duration::from_millis(100),
        give_up_after: Duration::from_millis(500),
    };
    let options = Options { crashes: true, common: Common { patience, ..within(60) }, ..small() };
    let targets = [Target::from(Server::pause()), Target::from(Server::pause())];
    let verdict = chat::run(&targets, &options, Progress::silent()).await.unwrap();
    verdict::failed(&verdict, "no call has succeeded for 500ms: given up");
}

#[tokio::test]
async fn no_server_is_an_error() {
    let error = chat::run(&[], &small(), Progress::silent()).await.unwrap_err();
    assert_eq!(error.to_string(), "no server to drill: give at least one");
}

#[tokio::test]
async fn connections_that_the_server_closes_are_made_again() {
    let verdict = passes(Fault::Closes, small()).await;
    assert_eq!(verdict.value("GET without an answer").as_deref(), None, "{verdict}");
}

#[tokio::test]
async fn connections_that_break_leave_only_doubts() {
    let options = Options { crashes: true, ..small() };
    let verdict = passes(Fault::Breaks, options).await;
    assert!(count(&verdict, "GET without an answer") > 0, "{verdict}");
    assert!(count(&verdict, "POST without an answer") > 0, "{verdict}");
    fails(Fault::Breaks, small(), "calls got no answer, and --crashes was not given").await;
}

/// Drills a server that is killed three times on the way.
async fn killed(fault: Fault) -> Verdict {
    let server = Server::new(fault);
    let address = server.listen(None);
    let progress = Progress::silent();
    let (target, shown) = (Target::from(address), progress.clone());
    let options = Options { crashes: true, expiring: 0.0, messages: 6_000, ..small() };
    let drill = tokio::spawn(async move { chat::run(&[target], &options, shown).await });
    for killed_at in [600, 2_000, 4_000] {
        while progress.done() < killed_at {
            tokio::task::yield_now().await;
        }
        server.kill(address);
        server.listen(Some(address));
    }
    drill.await.unwrap().unwrap()
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_passes_if_it_forgets_nothing() {
    let verdict = verdict::passed(killed(Fault::None).await);
    assert!(count(&verdict, "POST without an answer") > 0, "{verdict}");
}

#[tokio::test]
async fn a_server_that_forgets_when_it_is_started_again_is_caught() {
    verdict::failed(&killed(Fault::ForgetsAtRestart).await, "broken: lost");
}

#[tokio::test]
async fn a_server_that_hands_out_again_when_it_is_started_again_is_caught() {
    verdict::failed(&killed(Fault::RepeatsAtRestart).await, "broken: handed out twice");
}

#[tokio::test]
async fn a_server_that_never_answers_fails_in_time() {
    let options = Options { common: within(1), ..small() };
    fails(Fault::Silent, options, "out of time after 1 s with 0 of 3,000 posted").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::from(listener.local_addr().unwrap());
    drop(listener);
    let options = Options { common: within(1), ..small() };
    let verdict = chat::run(&[target], &options, Progress::silent()).await.unwrap();
    verdict::failed(&verdict, "out of time after 1 s");
}

#[tokio::test]
async fn a_post_that_is_refused_is_caught() {
    fails(Fault::Busy, small(), "calls of POST got status 503").await;
}

#[tokio::test]
async fn an_answer_without_its_form_is_caught() {
    fails(Fault::Malformed, Options { messages: 100, ..small() }, "a malformed answer").await;
}

#[tokio::test]
async fn ids_that_are_no_uuids_of_version_7_are_caught() {
    fails(Fault::WrongIds, Options { messages: 100, ..small() }, "is no UUIDv7").await;
}

#[tokio::test]
async fn a_message_that_two_racing_readers_get_is_caught() {
    fails(Fault::TakesInTwoSteps, small(), "broken: handed out twice").await;
}

#[tokio::test]
async fn a_message_that_stays_when_it_is_taken_is_caught() {
    fails(Fault::KeepsSome, small(), "broken: handed out twice").await;
}

#[tokio::test]
async fn one_message_lost_in_a_thousand_is_caught() {
    fails(Fault::LosesSome, small(), "broken: lost").await;
}

#[tokio::test]
async fn messages_lost_by_racing_readers_are_caught() {
    fails(Fault::LosesOnRace, small(), "broken: lost").await;
}

#[tokio::test]
async fn messages_that_never_expire_are_caught() {
    let options = Options { users: 300, messages: 1_000, ..small() };
    fails(Fault::ForgetsExpiry, options, "broken: handed out after it had expired").await;
}

#[tokio::test]
async fn a_lease_that_prolongs_a_life_is_caught() {
    let options = Options { leased: 0.9, acknowledged: 0.1, ..small() };
    fails(Fault::LeaseProlongs, options, "broken: handed out after it had expired").await;
}

#[tokio::test]
async fn messages_that_expire_too_early_are_caught() {
    fails(Fault::ExpiresAtOnce, small(), "broken: lost").await;
}

#[tokio::test]
async fn users_that_are_mixed_up_are_caught() {
    for fault in [Fault::IgnoresCase, Fault::DecodesTwice, Fault::PlusIsSpace] {
        fails(fault, small(), "broken: handed out to another user").await;
    }
}

#[tokio::test]
async fn an_answer_with_the_newest_first_is_caught() {
    fails(Fault::NewestFirst, small(), "broken: out of order").await;
}

#[tokio::test]
async fn a_message_that_comes_back_in_another_place_is_caught() {
    let options = Options { leased: 0.5, limited: 0.8, ..small() };
    fails(Fault::ReturnsLast, options, "broken: out of order").await;
}

#[tokio::test]
async fn a_limit_that_takes_the_newest_is_caught() {
    let options = Options { limited: 0.9, limit_max: 1, ..small() };
    fails(Fault::LimitTakesNewest, options, "was left behind, and message").await;
}

#[tokio::test]
async fn a_limit_that_means_nothing_is_caught() {
    fails(Fault::LimitIgnored, small(), "more than the limit").await;
}

#[tokio::test]
async fn a_message_handed_out_within_its_lease_is_caught() {
    fails(Fault::LeaseIgnored, small(), "broken: handed out within a lease").await;
}

#[tokio::test]
async fn a_message_that_never_comes_back_from_its_lease_is_caught() {
    fails(Fault::LeaseForEver, small(), "broken: lost").await;
}

#[tokio::test]
async fn a_lease_that_is_none_is_caught() {
    fails(Fault::LeaseTakes, small(), "broken: an acknowledgement in time was refused").await;
}

#[tokio::test]
async fn an_acknowledgement_that_does_nothing_is_caught() {
    let words = "broken: handed out after its acknowledgement";
    fails(Fault::DeleteIgnored, small(), words).await;
}

#[tokio::test]
async fn an_acknowledgement_that_is_refused_is_caught() {
    fails(Fault::DeleteRefused, small(), "broken: an acknowledgement in time was refused").await;
}

#[tokio::test]
async fn a_long_poll_that_does_not_wait_is_caught() {
    let options = Options { waiting: 0.5, ..small() };
    fails(Fault::WaitIgnored, options, "a long poll came back early").await;
}

#[tokio::test]
async fn a_long_poll_that_does_not_notice_what_comes_is_caught() {
    let options = Options { waiting: 0.5, users: 50, ..small() };
    fails(Fault::WaitDeaf, options, "broken: missed by a take").await;
}

#[tokio::test]
async fn a_look_that_takes_is_caught() {
    fails(Fault::PeekTakes, small(), "broken: lost").await;
}

#[tokio::test]
async fn a_look_at_what_is_lent_is_caught() {
    fails(Fault::PeekShowsLent, small(), "broken: handed out within a lease").await;
}

#[tokio::test]
async fn a_look_that_sees_nothing_is_caught() {
    fails(Fault::PeekBlind, small(), "broken: missed by a take").await;
}

#[tokio::test]
async fn a_key_that_means_nothing_is_caught() {
    fails(Fault::KeyIgnored, small(), "broken: an idempotency key was not kept").await;
}

#[tokio::test]
async fn a_key_that_takes_other_content_is_caught() {
    fails(Fault::KeyTakesAnything, small(), "other content was taken under the key").await;
}

#[tokio::test]
async fn what_was_refused_and_is_handed_out_is_caught() {
    fails(Fault::KeyStoresRefused, small(), "broken: handed out and never posted").await;
}

#[tokio::test]
async fn an_id_that_is_not_that_of_the_post_is_caught() {
    fails(Fault::OtherIds, small(), "broken: handed out altered").await;
}

#[tokio::test]
async fn a_text_that_is_not_that_of_the_post_is_caught() {
    fails(Fault::AltersText, small(), "broken: handed out altered").await;
}

#[tokio::test]
async fn a_message_that_nobody_posted_is_caught() {
    fails(Fault::Invents, small(), "handed out and never posted: the text \"Buy now!\"").await;
}
