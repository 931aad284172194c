//! The drill of the chat: writers and readers of many users at once, and what a history of calls must
//! not show.
//!
//! - `options`: what it can be told.
//! - `world`: who the users are, which messages there are.
//! - `board`: which message is next, and what came of every call; `lane`: a connection that makes
//!   the calls; `answer`: what the answers say.
//! - [`judge`]: which rules the history breaks. It can be used without the rest.
//!
//! The load is a closed loop: a connection makes a call when it has the answer to the one before. When
//! all is posted, the drill waits until leases have run out and takes what is left: then every message
//! that was acknowledged with 201 must have been handed out, or may have expired.
//!
//! The server may be killed and started again meanwhile, or one of several may be, or be paused, or
//! answer 5xx: then the connection goes on with the next. A call whose connection breaks may have
//! been done: a post with a key is sent again until there is an answer, one without may be there or
//! not, and a take may have taken what was there for that user (what was taken with a lease comes back).
//! The same holds of one that is not answered in time, for longer: [`Options::late_seconds`].
//! [`Options::crashes`] says that all this is expected.

mod answer;
mod board;
pub mod judge;
mod lane;
mod options;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use options::Options;

use crate::Target;
use crate::http::Cluster;
use crate::metrics::Usage;
use crate::progress::Progress;
use crate::verdict::{Differences, Verdict, grouped, per_second};
use board::{Board, Report};
use judge::Findings;
use lane::Lane;

/// How many connections take what is left in the end.
const DRAIN_LANES: u32 = 8;

/// Why a drill was not begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] crate::options::Error),
    /// There is no server to drill.
    #[error("no server to drill: give at least one")]
    NoTarget,
}

/// What the drill found out beside the rules.
#[derive(Default)]
struct Course {
    /// What was counted until all was posted.
    load: Report,
    /// How long that took.
    elapsed: Duration,
    before: Usage,
    after: Usage,
    finished: bool,
    /// Why it ended before its time, if no server answered any more.
    given_up: Option<String>,
}

/// Drills a server, or several that show the same chat: the connections are spread over them, and one
/// that fails goes on with the next.
///
/// The servers may be killed and started again at the same address while this runs. The future can run
/// on any tokio runtime; a current-thread one is the fastest. Dropping it stops the drill.
///
/// # Errors
///
/// [`Error`] if the options cannot be drilled; nothing was sent then. Everything that goes wrong
/// afterwards, running out of time included, is in the verdict.
pub async fn run(
    targets: &[Target],
    options: &Options,
    progress: Progress,
) -> Result<Verdict, Error> {
    options.check()?;
    if targets.is_empty() {
        return Err(Error::NoTarget);
    }
    let cluster = Cluster::new(targets, options.retry(), options.patience);
    let board = Arc::new(Board::new(options, targets.len(), progress.clone()));
    progress.begin(options.messages.into());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(options.timeout);
    let mut course = Course::default();
    let started = Instant::now();
    let whole = async {
        course.before = Usage::ask_all(&cluster).await;
        let started = Instant::now();
        board.start();
        load(&cluster, options, &board).await;
        course.elapsed = started.elapsed();
        course.load = board.report();
        course.after = Usage::ask_all(&cluster).await;
        tokio::time::sleep(board.settle()).await;
        let drain = |number| Lane::new(number, &cluster, &board).drain();
        spawned((0..DRAIN_LANES).map(drain)).await;
        course.finished = true;
    };
    let mut given_up = None;
    tokio::select! {
        outcome = tokio::time::timeout_at(deadline, whole) => drop(outcome),
        why = cluster.given_up() => given_up = Some(why),
        never = progress.show() => match never {},
    }
    course.given_up = given_up;
    if course.elapsed.is_zero() {
        course.elapsed = started.elapsed();
        course.load = board.report();
    }
    Ok(verdict(options, &course, &board.report(), &board.close()))
}

/// Posts everything, and reads meanwhile.
async fn load(cluster: &Arc<Cluster>, options: &Options, board: &Arc<Board>) {
    let lane = |number| Lane::new(number, cluster, board);
    let (writers, lanes) = (options.writers, options.writers + options.readers);
    let writing = async {
        spawned((0..writers).map(|number| lane(number).write())).await;
        board.set_written();
    };
    let reading = spawned((writers..lanes).map(|number| lane(number).read()));
    tokio::join!(writing, reading);
}

/// Runs all of these beside each other.
async fn spawned(lanes: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>) {
    let mut running: JoinSet<()> = lanes.collect();
    while running.join_next().await.is_some() {}
}

/// Writes the table.
fn verdict(options: &Options, course: &Course, report: &Report, found: &Findings) -> Verdict {
    let (load, fates) = (&course.load, found.fates);
    let mut verdict = Verdict::new("chat", options.reproduce());
    verdict.row("posts", grouped(report.posts));
    verdict.row("takes", grouped(report.takes));
    verdict.row("calls", grouped(report.calls));
    verdict.row("messages shown", grouped(report.shown));
    for (what, count) in [
        ("handed out", fates.handed_out),
        ("acknowledged", fates.acknowledged),
        ("expired", fates.expired),
        ("never posted", fates.never_posted),
        ("possibly taken", fates.doubtful),
        ("lost", fates.lost),
        ("unread", fates.unread),
    ] {
        if count > 0 {
            verdict.row(format!("messages {what}"), grouped(count));
        }
    }
    for (method, &count) in &report.unanswered {
        verdict.row(format!("{method} without an answer"), grouped(count));
    }
    for (what, count) in [("retried", report.retried), ("unknown takes", report.unknown_takes)] {
        if count > 0 {
            verdict.row(what, grouped(count));
        }
    }
    for (rule, count) in found.breaches.counts() {
        verdict.row(format!("broken: {rule}"), grouped(count));
    }
    verdict.row("breaches", grouped(found.breaches.total()));
    verdict.row("elapsed", format!("{:.2} s", course.elapsed.as_secs_f64()));
    verdict.row("requests/s", per_second(load.calls, course.elapsed));
    verdict.latency_of("post", &load.post_latency);
    verdict.latency_of("take", &load.take_latency);
    course.after.rows_since(course.before, &[("request", load.calls)], &mut verdict);
    complaints(&mut verdict, options, course, report, found);
    let mut differences = Differences::default();
    for breach in found.breaches.shortest() {
        differences.add(|| breach.to_string());
    }
    let described = found.breaches.shortest().len() as u64;
    differences.add_undescribed(found.breaches.total() - described);
    verdict.set_differences(differences);
    verdict
}

/// What is wrong beside the rules.
fn complaints(
    verdict: &mut Verdict,
    options: &Options,
    course: &Course,
    report: &Report,
    found: &Findings,
) {
    if let Some(why) = &course.given_up {
        verdict.fail(why.clone());
    } else if !course.finished {
        let done = grouped(report.done.into());
        let messages = grouped(options.messages.into());
        let seconds = options.timeout;
        verdict.fail(format!("out of time after {seconds} s with {done} of {messages} posted"));
    }
    for (&(method, status), &count) in &report.refused {
        // A server that stops or starts, or whose log is silent, may say so.
        if !(options.crashes && status >= 500) {
            verdict.fail(format!("{} calls of {method} got status {status}", grouped(count)));
        }
    }
    let unanswered: u64 = report.unanswered.values().sum();
    if unanswered > 0 && !options.crashes && course.finished {
        let unanswered = grouped(unanswered);
        verdict.fail(format!("{unanswered} calls got no answer, and --crashes was not given"));
    }
    if found.fates.unread > 0 && course.finished {
        let unread = grouped(found.fates.unread);
        verdict.fail(format!("{unread} messages were left unread, and could not be judged"));
    }
}
