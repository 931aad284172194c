//! The drill of the traffic: plays the upstream server that Tidings dials to, and holds each report to
//! its own count.
//!
//! - `options`: what it can be told.
//! - `wire`: the server's side of a WebSocket, by hand.
//! - `world`: parents, children, calls, and what must come of them.
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
mod shown;
mod wire;
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

pub use options::Options;

use crate::Target;
use crate::http::Cluster;
use crate::metrics::Usage;
use crate::progress::Progress;
use crate::verdict::{Verdict, grouped, per_second};
use load::{Load, Report};

/// When a server is asked again that has not answered.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why a drill was not begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] crate::options::Error),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

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
    options.check()?;
    let address = upstream.0.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
    let listener =
        TcpListener::from_std(upstream.0).map_err(|error| Error::Listen { address, error })?;
    progress.begin(options.communications);
    let cluster = Cluster::new(targets, ASK_AGAIN, options.patience);
    let before = Usage::ask_all(&cluster).await;
    let shown_before = shown::communications(&cluster).await;
    let mut load = Load::new(options, listener, &cluster, shown_before, progress.clone());
    let timeout = Duration::from_secs(options.timeout);
    let failure = tokio::select! {
        ended = tokio::time::timeout(timeout, load.run()) => match ended {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("out of time after {} s", options.timeout)),
        },
        never = progress.show() => match never {},
    };
    let after = Usage::ask_all(&cluster).await;
    let mut report = load.finish();
    if let Some(shown_before) = shown_before.filter(|_| failure.is_none()) {
        let allowed = report.calls - report.doubtful.min(report.calls)..=report.calls;
        shown::check(&cluster, shown_before, allowed, &mut report.differences).await;
    }
    Ok(verdict(options, report, failure, before, after))
}

/// Writes the table.
fn verdict(
    options: &Options,
    report: Report,
    failure: Option<String>,
    before: Usage,
    after: Usage,
) -> Verdict {
    let mut verdict = Verdict::new("traffic", options.reproduce());
    verdict.row("communications", grouped(report.calls));
    verdict.row("frames", grouped(report.frames));
    for (what, count) in [
        ("malformed frames", report.malformed),
        ("fragmented frames", report.fragmented),
        ("connections broken", report.broken),
        ("ends of windows that were not clear", report.unclear),
        ("reports sent again", report.again),
        ("takeovers", report.taken_over),
        ("communications in doubt", report.doubtful),
    ] {
        if count > 0 {
            verdict.row(what, grouped(count));
        }
    }
    verdict.row("reports", grouped(report.reports));
    verdict.row("differences", grouped(report.differences.total()));
    verdict.row("elapsed, pauses left out", format!("{:.2} s", report.busy.as_secs_f64()));
    verdict.row("communications/s", per_second(report.calls, report.busy));
    verdict.row("bytes/s", per_second(report.bytes, report.busy));
    after.rows_since(before, &[("communication", report.calls)], &mut verdict);
    failure.into_iter().for_each(|why| verdict.fail(why));
    verdict.set_differences(report.differences);
    verdict
}
