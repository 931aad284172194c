//! The drill of the rockets: numbered messages per rocket, duplicated and shuffled, and the state
//! that each rocket must have, at every moment and in the end.
//!
//! - `options`: the options of the drill, and their ranges.
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
use std::time::Duration;

pub use options::Options;
pub use world::{Delivery, World};

use crate::Target;
use crate::error::Error;
use crate::harness::{self, Course, Drill, drive, join_all};
use crate::http::{Client, Cluster};
use crate::options::reproduce;
use crate::progress::Progress;
use crate::verdict::{Value, Verdict, grouped};
use board::{Board, Report};
use judge::Judge;

/// Drills a server, or several that show the same rockets: sends the world, checks rockets meanwhile, and compares all of them
/// in the end, as each server shows them. The connections are spread over the servers, and one that fails goes on with the
/// next. What is checked is requested with `Tidings-Consistency: strong`, so that it must show whatever any server has
/// acknowledged.
///
/// A server may be killed and started again at the same address while this runs: what was not acknowledged is sent again
/// until it is. The future can run on any tokio runtime; a current-thread one is the fastest. Dropping it stops the drill.
///
/// # Errors
///
/// [`Error`] if the options cannot be drilled; nothing was sent then. Everything that goes wrong afterwards, running out of
/// time included, is in the verdict.
pub async fn run(
    targets: &[Target],
    options: &Options,
    progress: Progress,
) -> Result<Verdict, Error> {
    harness::check(options, targets.len())?;
    let cluster = Cluster::new(targets, options.retry(), options.common.patience);
    let world = Arc::new(World::new(options)?);
    let board = Arc::new(Board::new(Arc::clone(&world), options, progress.clone()));
    progress.begin(world.deliveries().len() as u64);
    let judge = Judge::new(Arc::clone(&world));
    let drill = Rockets { cluster: &cluster, options, world, board, judge, known_before: false };
    let reproduce = reproduce(options, options.seed);
    Ok(drive(drill, &cluster, &options.common, reproduce, &progress).await)
}

struct Rockets<'a> {
    cluster: &'a Arc<Cluster>,
    options: &'a Options,
    world: Arc<World>,
    board: Arc<Board>,
    judge: Judge,
    /// Rockets of this world were on the server before.
    known_before: bool,
}

impl Drill for Rockets<'_> {
    const NAME: &'static str = "rockets";

    async fn prepare(&mut self) {
        let mut client = Client::at(0, self.cluster).strong();
        self.known_before = self.judge.look_before(&mut client).await;
    }

    async fn load(&mut self) {
        let Self { cluster, options, board, judge, .. } = self;
        board.start();
        let lane =
            |number| lane::run(number, Arc::clone(cluster), options.clone(), Arc::clone(board));
        tokio::select! {
            () = join_all((0..options.senders as usize).map(lane)) => {}
            never = watch(cluster, options, board, judge) => match never {},
        }
    }

    async fn check(&mut self) {
        for at in 0..self.cluster.len() {
            self.judge.check_all(&mut Client::at(at, self.cluster).strong()).await;
        }
    }

    fn reached(&self) -> String {
        let acknowledged = self.board.report().acknowledged().map(|(_, count)| count).sum();
        let all = self.world.deliveries().len() as u64;
        format!(" with {} of {} messages acknowledged", grouped(acknowledged), grouped(all))
    }

    fn report(self, course: &Course, verdict: &mut Verdict) {
        let report = self.board.report();
        verdict.row("messages sent", report.messages);
        verdict.row("distinct messages", self.world.messages());
        verdict.row("requests", report.requests);
        for (outcome, count) in report.acknowledged() {
            verdict.row(format!("acknowledged: {outcome}"), count);
        }
        for (cause, &count) in &report.retried {
            verdict.row(format!("sent again after {cause}"), count);
        }
        verdict.counts_above_zero(&[("retried", report.retried.values().sum())]);
        verdict.row("rejected", report.rejected);
        verdict.row("samples checked", self.judge.samples());
        verdict.row("rockets compared", self.judge.compared());
        verdict.row("mismatches", self.judge.mismatches() + report.differences.total());
        verdict.row("elapsed", course.elapsed);
        verdict.row("requests/s", Value::per_second(report.requests, course.elapsed));
        verdict.row("messages/s", Value::per_second(report.messages, course.elapsed));
        verdict.latency(&report.latency);
        course.usage_rows(&[("message", report.messages), ("request", report.requests)], verdict);
        self.complaints(&report, course.finished, verdict);
        let mut differences = report.differences;
        differences.merge(self.judge.into_differences());
        verdict.set_differences(differences);
    }
}

impl Rockets<'_> {
    /// Writes what is wrong besides the state of the rockets.
    fn complaints(&self, report: &Report, finished: bool, verdict: &mut Verdict) {
        if report.rejected > 0 {
            verdict.fail(format!("{} messages were rejected", grouped(report.rejected)));
        }
        if self.known_before {
            verdict.row("known before the drill", "yes, outcomes not judged");
            return;
        }
        // After a repetition nobody knows whether the first one arrived.
        if finished && report.retried.is_empty() && report.rejected == 0 {
            let repeated = self.world.deliveries().len() as u64 - self.world.messages();
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
}

/// Checks rockets until it is dropped, at each server in turn.
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
    let mut clients: Vec<Client> = clients.collect();
    let mut turn = 0;
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

/// The text of a JSON value in a difference, cut where it is long.
fn shown(value: Option<&serde_json::Value>) -> String {
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
