//! The drill of the traffic: plays the upstream server that Tidings dials to, and holds each report to
//! its own count.
//!
//! - `options`: the options of the drill, and their ranges.
//! - `wire`: the server's side of a WebSocket, by hand.
//! - `world`: parents, children and calls, and the expected counts.
//! - `shown`: what `GET /traffic` says in the end, at every server.
//! - `judge`: reports held to what must be in them (`totals`: once a server has died).
//! - `load`: sends, listens, breaks the connection (`settle`: when everything is counted; `takeover`: one
//!   server after the other).
//!
//! Which window a call belongs to is said by the clock of the server. So nothing is sent near the end of
//! a window, and before that the drill waits until everything is counted: a ping behind it is answered,
//! and `GET /traffic` shows it. Where that took too long, the two windows are summed and compared
//! together; once a server has died, all windows are, for what had been sent to it is counted some time or
//! never.

mod judge;
mod load;
mod options;
mod report;
mod shown;
mod wire;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

pub use options::Options;

use crate::Target;
use crate::error::Error;
use crate::harness::{Course, Drill, drive};
use crate::http::Cluster;
use crate::options::{check, reproduce};
use crate::progress::Progress;
use crate::verdict::{Value, Verdict};
use load::Load;

/// When a server is asked again that has not answered.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The upstream server, before anybody has connected.
#[derive(Debug)]
pub struct Upstream(std::net::TcpListener);

impl Upstream {
    /// Takes a port. Whoever dials waits until [`run`] accepts.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map(Self).map_err(|error| Error::Listen { address, error })
    }

    /// Where to dial to.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn url(&self) -> std::io::Result<String> {
        Ok(format!("ws://{}/ws", self.0.local_addr()?))
    }
}

/// Drills a server that dials to `upstream`, or several of which one at a time does, and which are asked
/// over HTTP at `targets`, if they have that.
///
/// The future can run on any tokio runtime with its time and network enabled. Dropping it stops the
/// drill.
///
/// # Errors
/// [`Error`] if the options cannot be drilled; nothing was sent then. Everything that goes wrong
/// afterwards, running out of time included, is in the verdict.
pub async fn run(
    upstream: Upstream,
    targets: &[Target],
    options: &Options,
    progress: Progress,
) -> Result<Verdict, Error> {
    check(options)?;
    let address = upstream.0.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
    let listener =
        TcpListener::from_std(upstream.0).map_err(|error| Error::Listen { address, error })?;
    progress.begin(options.communications);
    let cluster = Cluster::new(targets, ASK_AGAIN, options.common.patience);
    let shown_before = shown::communications(&cluster).await;
    let load = Load::new(options, listener, &cluster, shown_before, progress.clone());
    let drill = Traffic { cluster: &cluster, load, shown_before, failure: None };
    let reproduce = reproduce(options, options.seed);
    Ok(drive(drill, &cluster, &options.common, reproduce, &progress).await)
}

struct Traffic<'a> {
    cluster: &'a Arc<Cluster>,
    load: Load,
    /// How many communications the servers showed before anything was sent, if they show that.
    shown_before: Option<u64>,
    /// Why the load ended before its time.
    failure: Option<String>,
}

impl Drill for Traffic<'_> {
    const NAME: &'static str = "traffic";

    async fn load(&mut self) {
        self.failure = self.load.run().await.err();
    }

    async fn check(&mut self) {
        self.load.finish();
        if let Some(before) = self.shown_before.filter(|_| self.failure.is_none()) {
            shown::check(self.cluster, before, &mut self.load.report).await;
        }
    }

    fn report(mut self, course: &Course, verdict: &mut Verdict) {
        if !course.finished {
            self.load.finish();
        }
        let report = self.load.report;
        verdict.row("communications", report.calls);
        verdict.row("frames", report.frames);
        verdict.counts_above_zero(&[
            ("malformed frames", report.malformed),
            ("fragmented frames", report.fragmented),
            ("connections broken", report.broken),
            ("ends of windows that were not clear", report.unclear),
            ("reports sent again", report.again),
            ("takeovers", report.taken_over),
            ("communications in doubt", report.doubtful),
        ]);
        verdict.row("reports", report.reports);
        verdict.row("differences", report.differences.total());
        verdict.row("elapsed, pauses left out", report.busy);
        verdict.row("communications/s", Value::per_second(report.calls, report.busy));
        verdict.row("bytes/s", Value::per_second(report.bytes, report.busy));
        course.usage_rows(&[("communication", report.calls)], verdict);
        self.failure.into_iter().for_each(|why| verdict.fail(why));
        verdict.set_differences(report.differences);
    }
}
