//! The drill of the chat: writers and readers of many users at once, and what a history of calls must
//! not show.
//!
//! - `options`: the options of the drill, and their ranges.
//! - `world`: the users and the messages.
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

pub use options::Options;

use crate::Target;
use crate::error::Error;
use crate::harness::{self, Course, Drill, drive, join_all};
use crate::http::Cluster;
use crate::options::reproduce;
use crate::progress::Progress;
use crate::verdict::{Differences, Value, Verdict, grouped};
use board::{Board, Report};
use lane::Lane;

/// How many connections take what is left in the end.
const DRAIN_LANES: u32 = 8;

/// Drills a server, or several that show the same chat: the connections are spread over them, and one that fails goes on
/// with the next.
///
/// The servers may be killed and started again at the same address while this runs. The future can run on any tokio runtime;
/// a current-thread one is the fastest. Dropping it stops the drill.
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
    options.check()?;
    let cluster = Cluster::new(targets, options.retry(), options.common.patience);
    let board = Arc::new(Board::new(options, targets.len(), progress.clone()));
    progress.begin(options.messages.into());
    let drill = Chat { cluster: &cluster, options, board, loaded: None };
    let reproduce = reproduce(options, options.seed);
    Ok(drive(drill, &cluster, &options.common, reproduce, &progress).await)
}

struct Chat<'a> {
    cluster: &'a Arc<Cluster>,
    options: &'a Options,
    board: Arc<Board>,
    /// What was counted until all was posted.
    loaded: Option<Report>,
}

impl Drill for Chat<'_> {
    const NAME: &'static str = "chat";

    async fn load(&mut self) {
        self.board.start();
        load(self.cluster, self.options, &self.board).await;
        self.loaded = Some(self.board.report());
    }

    async fn check(&mut self) {
        tokio::time::sleep(self.board.settle()).await;
        let Self { cluster, board, .. } = self;
        join_all((0..DRAIN_LANES).map(|number| Lane::new(number, cluster, board).drain())).await;
    }

    fn reached(&self) -> String {
        let done = grouped(self.board.report().done.into());
        format!(" with {done} of {} posted", grouped(self.options.messages.into()))
    }

    fn report(self, course: &Course, verdict: &mut Verdict) {
        let report = self.board.report();
        let load = self.loaded.as_ref().unwrap_or(&report);
        let found = self.board.close();
        let fates = found.fates;
        verdict.row("posts", report.posts);
        verdict.row("takes", report.takes);
        verdict.row("calls", report.calls);
        verdict.row("messages shown", report.shown);
        verdict.counts_above_zero(&[
            ("messages handed out", fates.handed_out),
            ("messages acknowledged", fates.acknowledged),
            ("messages expired", fates.expired),
            ("messages never posted", fates.never_posted),
            ("messages possibly taken", fates.doubtful),
            ("messages lost", fates.lost),
            ("messages unread", fates.unread),
        ]);
        for (method, &count) in &report.unanswered {
            verdict.row(format!("{method} without an answer"), count);
        }
        verdict.counts_above_zero(&[
            ("retried", report.retried),
            ("unknown takes", report.unknown_takes),
        ]);
        for (rule, count) in found.breaches.counts() {
            verdict.row(format!("broken: {rule}"), count);
        }
        verdict.row("breaches", found.breaches.total());
        verdict.row("elapsed", course.elapsed);
        verdict.row("requests/s", Value::per_second(load.calls, course.elapsed));
        verdict.latency_of("post", &load.post_latency);
        verdict.latency_of("take", &load.take_latency);
        course.usage_rows(&[("request", load.calls)], verdict);
        for (&(method, status), &count) in &report.refused {
            verdict.refused(Some(method), status, count, self.options.crashes);
        }
        if course.finished {
            verdict.unanswered(report.unanswered.values().sum(), self.options.crashes);
        }
        if fates.unread > 0 && course.finished {
            let unread = grouped(fates.unread);
            verdict.fail(format!("{unread} messages were left unread, and could not be judged"));
        }
        let mut differences = Differences::default();
        for breach in found.breaches.shortest() {
            differences.add(|| breach.to_string());
        }
        let described = found.breaches.shortest().len() as u64;
        differences.add_undescribed(found.breaches.total() - described);
        verdict.set_differences(differences);
    }
}

/// Posts everything, and reads meanwhile.
async fn load(cluster: &Arc<Cluster>, options: &Options, board: &Arc<Board>) {
    let lane = |number| Lane::new(number, cluster, board);
    let writers = options.writers;
    let lanes = writers + options.readers;
    let writing = async {
        join_all((0..writers).map(|number| lane(number).write())).await;
        board.set_written();
    };
    let reading = join_all((writers..lanes).map(|number| lane(number).read()));
    tokio::join!(writing, reading);
}
