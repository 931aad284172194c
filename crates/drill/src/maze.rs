//! The drill of the maze: a stream of numbered events in disorder, and clients of which each must
//! receive its notifications, in order, to the byte.
//!
//! - `options`: the options of the drill, and their ranges.
//! - `world`: which events there are, in which order they are sent (`line`: their text, `malformed`:
//!   lines that are not events), and the expected notifications (`fold`: the recipients of each event).
//! - `load`: writes and reads in turns, on one thread (`source`, `client`: the two kinds of
//!   connection, `queue`: bytes that wait, `probe`: latency).
//!
//! What a client must receive is made as bytes when the event is made, and compared with what
//! arrives in pieces as large as they come. Nothing grows with the length of the stream.
//!
//! The load is a closed loop: the next event is written when the server has room for it.

mod client;
mod fold;
mod line;
mod load;
mod malformed;
mod options;
mod probe;
mod queue;
mod source;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use tokio::task::{JoinHandle, spawn_blocking};

pub use options::{Mix, Options};

use crate::Target;
use crate::error::Error;
use crate::harness::{self, Course, Drill, drive};
use crate::http::{Client, Cluster};
use crate::options::{Common, reproduce};
use crate::patience::Patience;
use crate::progress::Progress;
use crate::verdict::{Value, Verdict};
use load::{Load, Report};

/// The interval of requests for the number of registered clients.
const REGISTRATION_ASK_EVERY: Duration = Duration::from_millis(5);
/// How long such an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Descriptors beyond those of the clients.
const DESCRIPTORS_BESIDE: u64 = 128;

/// Where the server is, or several that share one maze.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Takes the events.
    pub source: SocketAddr,
    /// Take the user clients, which are spread over them.
    pub clients: Vec<SocketAddr>,
    /// Are asked for `GET /maze` and `GET /metrics`, if the server has that. Where they are as many as
    /// those above, they show when all clients are registered.
    pub http: Vec<Target>,
}

/// Drills a server: connects the clients, sends the world, and compares every byte that every
/// client receives.
///
/// The load runs on a thread of its own; the future can run on any tokio runtime with its time and
/// network enabled. Dropping it stops the drill.
///
/// # Errors
///
/// [`Error`] if the options cannot be drilled, or the clients cannot connect; no event was sent then.
/// Everything that goes wrong afterwards, running out of time included, is in the verdict.
pub async fn run(
    targets: &Targets,
    options: &Options,
    progress: Progress,
) -> Result<Verdict, Error> {
    harness::check(options, targets.clients.len())?;
    options.check()?;
    raise_descriptors(u64::from(options.clients));
    progress.begin(options.events);
    // Whether the server answers over HTTP decides nothing here, so it is never given up.
    let give_up_after = Duration::from_secs(options.common.timeout) * 2;
    let patience = Patience { give_up_after, ..options.common.patience };
    let cluster = Cluster::new(&targets.http, REGISTRATION_ASK_EVERY, patience);
    let mut server = Asked::new(targets, &cluster);
    let connected_before = server.clients().await.unwrap_or(0);
    let dropped = Dropped::default();
    let load = spawn_blocking({
        let options = options.clone();
        let targets = targets.clone();
        let progress = progress.clone();
        let dropped = Arc::clone(&dropped.0);
        move || Load::connect(options, &targets, progress, dropped)
    });
    let load = finished(load).await?;
    let unregistered = server.wait_for(connected_before, options).await;
    // A server that serves one connection at a time could not answer the harness otherwise.
    drop(server);
    let report = Report::default();
    let drill = Maze { options, load: Some(load), unregistered, report, _dropped: dropped };
    let reproduce = reproduce(options, options.seed);
    // The load's own thread keeps the time; the harness only ends a load that does not.
    let common = Common { timeout: options.common.timeout + 60, ..options.common.clone() };
    Ok(drive(drill, &cluster, &common, reproduce, &progress).await)
}

struct Maze<'a> {
    options: &'a Options,
    /// The load: connected, and taken when it runs.
    load: Option<Load>,
    /// How many clients were registered, if not all were in time.
    unregistered: Option<u64>,
    report: Report,
    _dropped: Dropped,
}

impl Drill for Maze<'_> {
    const NAME: &'static str = "maze";

    async fn load(&mut self) {
        if let Some(load) = self.load.take() {
            self.report = finished(spawn_blocking(move || load.run())).await;
        }
    }

    fn report(self, course: &Course, verdict: &mut Verdict) {
        let Self { options, report, unregistered, .. } = self;
        let Report { counts, elapsed, .. } = report;
        verdict.row("events", counts.events);
        verdict.counts_above_zero(&[
            ("sent again", counts.duplicates),
            ("malformed lines", counts.malformed),
            ("numbers that never came", counts.gaps),
        ]);
        verdict.row("notifications", counts.notifications);
        verdict.row("notifications/event", ratio(counts.notifications, counts.events));
        verdict.row("bytes sent", report.sent_bytes);
        verdict.row("bytes received", report.received_bytes);
        let awaited = options.clients - options.slow;
        verdict.row("clients complete", format!("{} of {awaited}", report.complete));
        verdict.counts_above_zero(&[("clients cut in mid-stream", report.cut)]);
        if options.slow > 0 {
            verdict.row("slow clients cut off", format!("{} of {}", report.cut_off, options.slow));
        }
        verdict.row("differences", report.differences.total());
        verdict.row("elapsed", elapsed);
        verdict.row("events/s", Value::per_second(counts.events, elapsed));
        verdict.row("notifications/s", Value::per_second(counts.notifications, elapsed));
        let bytes = report.sent_bytes + report.received_bytes;
        verdict.row("bytes/s", Value::per_second(bytes, elapsed));
        verdict.latency(&report.latency);
        #[expect(clippy::cast_precision_loss, reason = "a mean for a person to read")]
        let micros = report.cpu.as_secs_f64() * 1e6 / counts.events.max(1) as f64;
        verdict.row("drill CPU per event", Value::Micros(micros));
        course.usage_rows(&[("event", counts.events)], verdict);
        if let Some(registered) = unregistered {
            verdict.fail(format!(
                "GET /maze showed {registered} of {} clients {} ms after they had connected",
                options.clients, options.stall_ms
            ));
        }
        if report.cut > 0 && report.complete == 0 {
            verdict.fail("every client was cut off, and what came in the end was not judged");
        }
        for failure in report.failures {
            verdict.fail(failure);
        }
        verdict.set_differences(report.differences);
    }
}

/// Stops the load when the future of the drill is dropped.
#[derive(Default)]
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the value of a thread. A panic in the thread continues here.
async fn finished<T>(thread: JoinHandle<T>) -> T {
    match thread.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // A runtime that is shut down drops this future, too.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Raises the limit of open descriptors to what the clients need, if the system allows it.
fn raise_descriptors(clients: u64) {
    // A server in the same process holds the other ends.
    let wanted = 2 * clients + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let most = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        // If that fails, the error of a connection says so.
        let _refused =
            setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
    }
}

/// The part of `GET /maze` that is read.
#[derive(Deserialize)]
struct Shown {
    clients: u64,
}

/// The HTTP interfaces of the servers, if they have any.
struct Asked {
    clients: Vec<Client>,
    /// Whether they are all of the servers that accept clients.
    are_all: bool,
}

impl Asked {
    fn new(targets: &Targets, cluster: &Arc<Cluster>) -> Self {
        let clients = (0..cluster.len()).map(|at| Client::at(at, cluster)).collect();
        Self { clients, are_all: cluster.len() == targets.clients.len() }
    }

    /// Returns the number of clients that the servers show, or `None` if they do not all answer.
    async fn clients(&mut self) -> Option<u64> {
        let mut clients = 0;
        for client in self.clients.iter_mut().filter(|_| self.are_all) {
            let answer = tokio::time::timeout(ANSWER_WAIT, client.get("/maze")).await.ok()?;
            let shown: Shown = serde_json::from_slice(&answer.body).ok()?;
            clients += Some(shown.clients).filter(|_| answer.status == 200)?;
        }
        self.are_all.then_some(clients)
    }

    /// Waits until all clients are registered. Returns the number of registered clients if that takes too long.
    async fn wait_for(&mut self, before: u64, options: &Options) -> Option<u64> {
        let deadline = tokio::time::Instant::now() + options.stall();
        loop {
            let Some(clients) = self.clients().await else {
                tokio::time::sleep(options.settle()).await;
                return None;
            };
            let clients = clients.saturating_sub(before);
            if clients >= u64::from(options.clients) {
                return None;
            }
            if tokio::time::Instant::now() >= deadline {
                return Some(clients);
            }
            tokio::time::sleep(REGISTRATION_ASK_EVERY).await;
        }
    }
}

/// Returns a ratio with three decimals.
fn ratio(count: u64, per: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a mean for a person to read")]
    let ratio = count as f64 / per.max(1) as f64;
    format!("{ratio:.3}")
}
