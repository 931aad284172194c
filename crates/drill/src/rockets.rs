//! The drill of the rockets: numbered messages per rocket, duplicated and shuffled, and the state
//! that each rocket must have, at every moment and in the end.
//!
//! - `options`: what it can be told.
//! - `world`: which messages there are and in which order they are sent (`message` and `moment`:
//!   what one of them says, and when).
//! - `fold`: what is right.
//! - `board`: what was sent and acknowledged; `lane`: a connection that sends from it.
//! - `judge`: compares what the server shows with what is right.
//!
//! The load is a closed loop: a connection sends when what it had under way is answered, and a
//! latency counts from the writing of the request to its answer. A server that stalls is therefore
//! seen in the maximum and in the rate, less in the quantiles.

mod board;
mod fold;
mod judge;
mod lane;
mod message;
mod moment;
mod options;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

pub use options::Options;
pub use world::{Delivery, World};

use crate::Target;
use crate::http::{Client, Cluster};
use crate::metrics::Usage;
use crate::progress::Progress;
use crate::verdict::{Verdict, grouped, per_second};
use board::{Board, Report};
use judge::Judge;

/// Why a drill was not begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] crate::options::Error),
    /// Messages would be too far out of place.
    #[error(
        "--shuffle: at most {shuffle_max} is allowed with so few rockets, or the server would \
         have to hold more messages beyond a gap than --held-max"
    )]
    Shuffle {
        /// The most that is allowed.
        shuffle_max: usize,
    },
    /// There is no server to drill.
    #[error("no server to drill: give at least one")]
    NoTarget,
    /// Two options contradict each other.
    #[error("--pipeline: more than 1 is not allowed with --connection-per-message")]
    Pipeline,
}

/// What the drill found out beside the state of the rockets.
struct Findings {
    report: Report,
    elapsed: Duration,
    /// Rockets of this world were on the server before.
    known_before: bool,
    before: Usage,
    after: Usage,
    finished: bool,
    /// Why it ended before its time, if no server answered any more.
    given_up: Option<String>,
}

/// Drills a server, or several that show the same rockets: sends the world, looks at rockets
/// meanwhile, compares all of them in the end, as each server shows them. The connections are spread
/// over the servers, and one that fails goes on with the next. What is looked at is asked for with
/// `Tidings-Consistency: strong`, so that it must show whatever any of them has acknowledged.
///
/// A server may be killed and started again at the same address while this runs: what was not
/// acknowledged is sent again until it is. The future can run on any tokio runtime; a
/// current-thread one is the fastest. Dropping it stops the drill.
///
/// # Errors
///
/// [`Error`] if the options cannot be drilled; nothing was sent then. Everything that goes
/// wrong afterwards, running out of time included, is in the verdict.
pub async fn run(
    targets: &[Target],
    options: &Options,
    progress: Progress,
) -> Result<Verdict, Error> {
    if targets.is_empty() {
        return Err(Error::NoTarget);
    }
    let cluster = Cluster::new(targets, options.retry(), options.patience);
    let world = Arc::new(World::new(options)?);
    let board = Arc::new(Board::new(Arc::clone(&world), options, progress.clone()));
    progress.begin(world.deliveries().len() as u64);
    let mut judge = Judge::new(Arc::clone(&world));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(options.timeout);
    let mut findings = Findings {
        report: Report::default(),
        elapsed: Duration::ZERO,
        known_before: false,
        before: Usage::default(),
        after: Usage::default(),
        finished: false,
        given_up: None,
    };
    let mut given_up = None;
    let whole = async {
        let mut client = Client::at(0, &cluster).strong();
        findings.known_before = judge.look_before(&mut client).await;
        findings.before = Usage::ask_all(&cluster).await;
        let started = Instant::now();
        board.start();
        tokio::select! {
            () = load(&cluster, options, &board) => {}
            never = watch(&cluster, options, &board, &mut judge) => match never {},
        }
        findings.elapsed = started.elapsed();
        findings.after = Usage::ask_all(&cluster).await;
        for at in 0..cluster.len() {
            judge.check_all(&mut Client::at(at, &cluster).strong()).await;
        }
        findings.finished = true;
    };
    let started = Instant::now();
    tokio::select! {
        outcome = tokio::time::timeout_at(deadline, whole) => drop(outcome),
        why = cluster.given_up() => given_up = Some(why),
        never = progress.show() => match never {},
    }
    if findings.elapsed.is_zero() {
        findings.elapsed = started.elapsed();
    }
    findings.report = board.report();
    findings.given_up = given_up;
    Ok(verdict(options, &world, findings, judge))
}

/// Sends everything and returns when all of it is acknowledged.
async fn load(cluster: &Arc<Cluster>, options: &Options, board: &Arc<Board>) {
    let mut lanes = JoinSet::new();
    for number in 0..options.senders as usize {
        lanes.spawn(lane::run(number, Arc::clone(cluster), options.clone(), Arc::clone(board)));
    }
    while lanes.join_next().await.is_some() {}
}

/// Looks at rockets for as long as it is let, at each server in turn.
async fn watch(
    cluster: &Arc<Cluster>,
    options: &Options,
    board: &Board,
    judge: &mut Judge,
) -> std::convert::Infallible {
    if options.watch == 0 {
        return std::future::pending().await;
    }
    let clients = (0..cluster.len()).map(|at| Client::at(at, cluster).strong());
    let (mut clients, mut turn): (Vec<Client>, usize) = (clients.collect(), 0);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / options.watch);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        turn = (turn + 1) % clients.len().max(1);
        if let Some(client) = clients.get_mut(turn) {
            judge.sample(client, board).await;
        }
    }
}

/// Writes the table.
fn verdict(options: &Options, world: &World, findings: Findings, judge: Judge) -> Verdict {
    let Findings { report, elapsed, .. } = &findings;
    let mut verdict = Verdict::new("rockets", options.reproduce());
    verdict.row("messages sent", grouped(report.messages));
    verdict.row("distinct messages", grouped(world.messages()));
    verdict.row("requests", grouped(report.requests));
    for (outcome, count) in report.acknowledged() {
        verdict.row(format!("acknowledged: {outcome}"), grouped(count));
    }
    for (cause, &count) in &report.retried {
        verdict.row(format!("sent again after {cause}"), grouped(count));
    }
    let retried: u64 = report.retried.values().sum();
    if retried > 0 {
        verdict.row("retried", grouped(retried));
    }
    verdict.row("rejected", grouped(report.rejected));
    verdict.row("samples checked", grouped(judge.samples()));
    verdict.row("rockets compared", grouped(judge.compared()));
    verdict.row("mismatches", grouped(judge.mismatches() + report.differences.total()));
    verdict.row("elapsed", format!("{:.2} s", elapsed.as_secs_f64()));
    verdict.row("requests/s", per_second(report.requests, *elapsed));
    verdict.row("messages/s", per_second(report.messages, *elapsed));
    verdict.latency(&report.latency);
    let per = [("message", report.messages), ("request", report.requests)];
    findings.after.rows_since(findings.before, &per, &mut verdict);
    complaints(&mut verdict, options, world, &findings);
    let mut differences = findings.report.differences;
    differences.merge(judge.into_differences());
    verdict.set_differences(differences);
    verdict
}

/// What is wrong beside the state of the rockets.
fn complaints(verdict: &mut Verdict, options: &Options, world: &World, findings: &Findings) {
    let report = &findings.report;
    if let Some(why) = &findings.given_up {
        verdict.fail(why.clone());
    } else if !findings.finished {
        verdict.fail(format!(
            "out of time after {} s with {} of {} messages acknowledged",
            options.timeout,
            grouped(report.acknowledged().map(|(_, count)| count).sum()),
            grouped(world.deliveries().len() as u64),
        ));
    }
    if report.rejected > 0 {
        verdict.fail(format!("{} messages were rejected", grouped(report.rejected)));
    }
    if findings.known_before {
        verdict.row("known before the drill", "yes, outcomes not judged");
        return;
    }
    // After a repetition nobody knows whether the first one arrived.
    if findings.finished && report.retried.is_empty() && report.rejected == 0 {
        let repeated = world.deliveries().len() as u64 - world.messages();
        let duplicates = report.count_of("duplicate");
        if duplicates != repeated {
            verdict.fail(format!(
                "{} messages were sent again, and {} answered as duplicates",
                grouped(repeated),
                grouped(duplicates)
            ));
        }
    }
}

/// The text of a JSON value in a difference, cut where it is long.
fn shown(value: Option<&Value>) -> String {
    const CHARS_MAX: usize = 120;
    let Some(value) = value else {
        return "nothing".to_owned();
    };
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
