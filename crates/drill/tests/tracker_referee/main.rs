//! Whether the referee of the tracker can be trusted: a right server passes, and every way of being
//! wrong that we could think of is caught.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail loudly, and a server has one fault"
)]

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "the tests of other referees need the rest")]
mod http;
mod server;
#[path = "../support/verdict.rs"]
mod verdict;

use server::{Fault, Server};
use tidings_drill::tracker::{self, Options};
use tidings_drill::{Common, Progress, Target, Verdict};

/// The options of every drill, with a limit for all of it.
fn within(seconds: u64) -> Common {
    Common { timeout: seconds, ..Common::default() }
}

/// Small enough for a server that goes through a list for every call.
fn small() -> Options {
    Options {
        messages: 1_500,
        capacity: 300,
        connections: 6,
        steps: 1_500,
        data_bytes: 20,
        retry_ms: 5,
        common: within(60),
        ..Options::default()
    }
}

async fn drilled(fault: Fault, options: Options) -> Verdict {
    let target = Target::from(Server::start(fault, options.capacity));
    tracker::run(&[target], &options, Progress::silent()).await.unwrap()
}

async fn fails(fault: Fault, words: &str) {
    verdict::failed(&drilled(fault, small()).await, words);
}

#[tokio::test]
async fn a_right_server_passes() {
    verdict::passed(drilled(Fault::None, small()).await);
    verdict::passed(drilled(Fault::None, Options { plain: true, ..small() }).await);
}

#[tokio::test]
async fn connections_that_break_are_no_difference_and_a_failure_unless_they_are_expected() {
    verdict::passed(drilled(Fault::Breaks, Options { crashes: true, ..small() }).await);
    fails(Fault::Breaks, "calls got no answer").await;
}

#[tokio::test]
async fn a_duplicate_that_becomes_the_newest_is_caught() {
    fails(Fault::Refresh, "listed behind one that came after it").await;
}

#[tokio::test]
async fn a_duplicate_that_replaces_the_first_is_caught() {
    fails(Fault::Overwrite, "was first").await;
}

#[tokio::test]
async fn evicting_the_smallest_id_is_caught() {
    fails(Fault::EvictSmallest, "was added 3 times").await;
}

#[tokio::test]
async fn a_ghost_that_evicts_too_early_is_caught() {
    fails(Fault::Ghost, "should be of").await;
}

#[tokio::test]
async fn a_wrong_capacity_is_caught() {
    fails(Fault::OneTooMany, "301 are listed, 300 were added").await;
    fails(Fault::OneTooFew, "299 are listed, 300 were added").await;
}

#[tokio::test]
async fn a_removal_that_is_not_done_is_caught() {
    fails(Fault::KeepsRemoved, "was removed 4 times").await;
}

#[tokio::test]
async fn a_message_that_is_new_twice_is_caught() {
    fails(Fault::AlwaysNew, "was added 3 times").await;
}

#[tokio::test]
async fn a_message_that_is_lost_is_caught() {
    // Relayed once, or it could be new once more.
    let options = Options { relays: 1, steps: 0, ..small() };
    verdict::failed(&drilled(Fault::Loses, options).await, "messages are listed");
}

#[tokio::test]
async fn relays_that_are_not_counted_are_caught() {
    fails(Fault::CountsFirstOnly, "are told").await;
}

#[tokio::test]
async fn pages_that_overlap_are_caught() {
    fails(Fault::PagesOverlap, "is listed twice").await;
}
