//! The referee of the maze is itself tested: a correct server passes with every kind of disturbance, and each known
//! way of being wrong is caught.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail loudly, and a server has one fault"
)]

mod server;
#[path = "../support/verdict.rs"]
mod verdict;

use server::{Fault, Server};
use tidings_drill::maze::{self, Mix, Options, Targets};
use tidings_drill::{Common, Progress, Verdict};

/// The options of every drill, with a limit for all of it.
fn within(seconds: u64) -> Common {
    Common { timeout: seconds, ..Common::default() }
}

/// Small, since the test server keeps everything as text.
fn small() -> Options {
    Options {
        events: 5_000,
        users: 40,
        clients: 20,
        mix: Mix::Heavy,
        settle_ms: 50,
        quiet_ms: 50,
        stall_ms: 500,
        common: within(60),
        ..Options::default()
    }
}

async fn drilled(fault: Fault, options: Options) -> Verdict {
    maze::run(&Server::listen(fault), &options, Progress::silent()).await.unwrap()
}

/// Drills a server that is right.
async fn passes(options: Options) -> Verdict {
    verdict::passed(drilled(Fault::None, options).await)
}

/// Drills a server that is wrong; something in the verdict must say so in these words.
async fn fails(fault: Fault, options: Options, words: &str) {
    verdict::failed(&drilled(fault, options).await, words);
}

#[tokio::test]
async fn a_right_server_passes() {
    let verdict = passes(small()).await;
    assert_eq!(verdict.value("events").as_deref(), Some("5,000"));
    assert_eq!(verdict.value("clients complete").as_deref(), Some("20 of 20"));
    assert_eq!(verdict.value("differences").as_deref(), Some("0"));
    assert_eq!(verdict.value("server memory").as_deref(), Some("1.0 MiB"));
    assert!(verdict.value("latency p50").as_deref().is_some(), "{verdict}");
    assert!(verdict.to_string().contains("PASS (seed 666"), "{verdict}");
}

#[tokio::test]
async fn a_right_server_passes_whatever_mischief_is_made() {
    let mischief = [
        Options { mix: Mix::Light, ..small() },
        Options { clients: 90, ..small() },
        Options { events: 1, ..small() },
        Options { batch: 1, ..small() },
        Options { batch: 700, crlf: true, ..small() },
        Options { duplicates: 0.2, ..small() },
        Options { malformed: 0.2, ..small() },
        Options { gaps: 0.01, ..small() },
        Options { slow: 5, ..small() },
        Options { returning: 5, ..small() },
        Options { dying_sources: 3, ..small() },
        Options { chunk: 1, events: 500, ..small() },
        Options { chunk: 7, ..small() },
        Options {
            duplicates: 0.1,
            malformed: 0.1,
            gaps: 0.02,
            slow: 3,
            returning: 4,
            dying_sources: 2,
            chunk: 1_000,
            ..small()
        },
    ];
    for options in mischief {
        passes(options).await;
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_of_itself_is_given_time() {
    let targets = Targets { http: Vec::new(), ..Server::listen(Fault::None) };
    let options = Options { settle_ms: 300, ..small() };
    let verdict = maze::run(&targets, &options, Progress::silent()).await.unwrap();
    assert!(verdict.passed(), "{verdict}");
    assert_eq!(verdict.value("server memory").as_deref(), None);
}

#[tokio::test]
async fn clients_are_spread_over_several_servers_of_one_maze() {
    // A notification that is lost while a client is away is no fault, so no client is away where one is lost.
    for (fault, returning) in [(Fault::None, 5), (Fault::LosesOne, 0)] {
        let targets = Server::listen_at(fault, 3);
        let options = Options { returning, ..small() };
        let verdict = maze::run(&targets, &options, Progress::silent()).await.unwrap();
        assert_eq!(verdict.passed(), fault == Fault::None, "{verdict}");
    }
}

#[tokio::test]
async fn a_client_that_is_cut_off_is_judged_on_what_it_got_where_that_is_allowed() {
    let allowed = Options { cuts_allowed: true, ..small() };
    let verdict = verdict::passed(drilled(Fault::CutsOff, allowed.clone()).await);
    assert_eq!(verdict.value("clients cut in mid-stream").as_deref(), Some("1"));
    assert_eq!(verdict.value("clients complete").as_deref(), Some("19 of 20"));
    fails(Fault::LosesOne, allowed.clone(), ": expected \"").await;
    fails(Fault::LosesLast, allowed.clone(), "never came, the first line is").await;
    let alone = Options { clients: 1, ..allowed };
    fails(Fault::CutsOff, alone, "every client was cut off").await;
}

#[tokio::test]
async fn clients_that_a_server_never_registers_are_caught() {
    fails(Fault::ShowsNobody, Options { events: 10, ..small() }, "showed 0 of 20 clients").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_names_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let targets = Targets { source: nobody, clients: vec![nobody], http: Vec::new() };
    let error = maze::run(&targets, &small(), Progress::silent()).await.unwrap_err();
    let words = format!("the user clients could not connect to {nobody}");
    assert!(error.to_string().starts_with(&words), "{error}");
}

#[tokio::test]
async fn a_drill_that_is_dropped_lets_go_of_the_server() {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (source, clients) = (bind(), bind());
    let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap();
    let targets =
        Targets { source: address(&source), clients: vec![address(&clients)], http: Vec::new() };
    let options = Options { events: 100_000_000, ..small() };
    let drill =
        tokio::spawn(
            async move { maze::run(&targets, &options, Progress::silent()).await.unwrap() },
        );
    let accepted = tokio::task::spawn_blocking(move || source.accept().unwrap().0).await.unwrap();
    drill.abort();
    // The end comes, although most of the events have not: as an end or as a broken connection.
    let copied = tokio::task::spawn_blocking(move || {
        std::io::copy(&mut &accepted, &mut std::io::sink()).unwrap_or(0)
    });
    assert!(copied.await.unwrap() < 500_000_000);
}

#[tokio::test]
async fn a_server_that_reads_nothing_fails_in_time() {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (source, clients) = (bind(), bind());
    let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap();
    let targets =
        Targets { source: address(&source), clients: vec![address(&clients)], http: Vec::new() };
    let stalled = Options { events: 10_000_000, ..small() };
    let verdict = maze::run(&targets, &stalled, Progress::silent()).await.unwrap();
    assert!(verdict.failures()[0].starts_with("nothing moved for 500 ms"), "{verdict}");
    let out_of_time = Options { common: within(1), stall_ms: 10_000, ..stalled };
    let verdict = maze::run(&targets, &out_of_time, Progress::silent()).await.unwrap();
    assert!(verdict.failures()[0].starts_with("out of time after 1 s"), "{verdict}");
}

#[tokio::test]
async fn a_lost_notification_is_caught() {
    fails(Fault::LosesOne, small(), ": expected \"").await;
}

#[tokio::test]
async fn a_notification_out_of_order_is_caught() {
    fails(Fault::SwapsTwo, small(), ": expected \"").await;
}

#[tokio::test]
async fn a_delivery_doubled_by_a_second_follow_is_caught() {
    fails(Fault::DoublesFollow, small(), ": expected \"").await;
}

#[tokio::test]
async fn a_delivery_to_the_wrong_client_is_caught() {
    fails(Fault::WrongClient, small(), ": expected \"").await;
}

#[tokio::test]
async fn a_forgotten_unfollow_is_caught() {
    fails(Fault::ForgetsUnfollow, small(), ": expected \"").await;
}

#[tokio::test]
async fn a_delivery_after_an_unfollow_is_caught() {
    fails(Fault::LateUnfollow, small(), ": expected \"").await;
}

#[tokio::test]
async fn a_line_in_two_pieces_is_caught() {
    fails(Fault::SplitsLine, small(), "\\n\"").await;
}

#[tokio::test]
async fn a_line_end_that_is_not_as_it_was_sent_is_caught() {
    fails(Fault::StripsCr, Options { crlf: true, ..small() }, "\\r\\n\", got \"").await;
    fails(Fault::StripsCr, Options { malformed: 0.2, ..small() }, "\\r\\n\", got \"").await;
}

#[tokio::test]
async fn last_lines_that_never_come_are_caught() {
    fails(Fault::LosesLast, small(), "never came, the first line is").await;
}

#[tokio::test]
async fn last_lines_that_come_only_when_the_source_closes_are_caught() {
    fails(Fault::LateAtClose, small(), "while the source was open").await;
}

#[tokio::test]
async fn what_comes_again_when_the_source_closes_is_caught() {
    fails(Fault::RepeatsAtClose, small(), "expected nothing, got").await;
}

#[tokio::test]
async fn a_duplicate_that_is_routed_is_caught() {
    fails(Fault::RoutesDuplicates, Options { duplicates: 0.1, ..small() }, "expected").await;
}

#[tokio::test]
async fn half_a_line_taken_for_an_event_is_caught() {
    fails(Fault::TakesTorn, Options { dying_sources: 1, ..small() }, "|B\\n\"").await;
}

#[tokio::test]
async fn a_graph_that_outlives_its_source_is_caught() {
    fails(Fault::KeepsGraph, Options { dying_sources: 1, ..small() }, "expected").await;
}

#[tokio::test]
async fn events_forgotten_when_a_source_dies_are_caught() {
    fails(Fault::ForgetsHeld, Options { dying_sources: 1, ..small() }, "never came").await;
}

#[tokio::test]
async fn a_malformed_line_that_uses_up_a_number_is_caught() {
    fails(Fault::MalformedCounts, Options { malformed: 0.1, ..small() }, "expected").await;
}

#[tokio::test]
async fn a_malformed_line_that_ends_the_connection_is_caught() {
    fails(Fault::MalformedKills, Options { malformed: 0.1, ..small() }, "failed: ").await;
}

#[tokio::test]
async fn a_gap_that_is_never_skipped_is_caught() {
    fails(Fault::StopsAtGap, Options { gaps: 0.01, ..small() }, "never came").await;
}

#[tokio::test]
async fn a_gap_that_is_none_and_is_skipped_is_caught() {
    fails(Fault::ImpatientWithGaps, small(), "expected").await;
}

#[tokio::test]
async fn a_client_that_is_cut_off_is_caught() {
    fails(Fault::CutsOff, small(), "the server closed the connection").await;
}

#[tokio::test]
async fn what_a_client_receives_again_on_its_return_is_caught() {
    fails(Fault::RepeatsOnReturn, Options { returning: 5, ..small() }, "differs: client").await;
}

#[tokio::test]
async fn what_a_client_misses_after_its_return_is_caught() {
    let words = "has missed lines that came when it was back";
    fails(Fault::DeafOnReturn, Options { returning: 5, ..small() }, words).await;
}
