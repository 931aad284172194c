//! The harness of every drill: it measures the load, keeps the time, shows the progress, and writes what all verdicts have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::http::Cluster;
use crate::metrics::Usage;
use crate::options::{self, Common};
use crate::progress::Progress;
use crate::verdict::Verdict;

/// One drill of a service: a world, its load, and its referee.
pub(crate) trait Drill {
    /// The name of the service.
    const NAME: &'static str;

    /// Looks at the servers before anything is sent.
    async fn prepare(&mut self) {}

    /// Applies the load. The time and the servers' use of the machine are measured around it.
    async fn load(&mut self);

    /// Compares what the servers show in the end with what is right.
    async fn check(&mut self) {}

    /// Returns how far the load is, for a drill that ran out of time.
    fn reached(&self) -> String {
        String::new()
    }

    /// Writes the rows, the failures and the differences.
    fn report(self, course: &Course, verdict: &mut Verdict);
}

/// The course of a drill.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// How long the load took, or until the drill ended.
    pub(crate) elapsed: Duration,
    /// What the servers had used before the load.
    pub(crate) before: Usage,
    /// What they had used after it.
    pub(crate) after: Usage,
    /// Whether it came to its end.
    pub(crate) finished: bool,
}

impl Course {
    /// Writes what the servers used, for each of these counts.
    pub(crate) fn usage_rows(&self, per: &[(&str, u64)], verdict: &mut Verdict) {
        self.after.rows_since(self.before, per, verdict);
    }
}

/// Checks options, and that there is a server.
///
/// # Errors
/// [`Error`] if the drill cannot begin.
pub(crate) fn check<O: clap::Args + Serialize>(options: &O, targets: usize) -> Result<(), Error> {
    options::check(options)?;
    if targets == 0 { Err(Error::NoTarget) } else { Ok(()) }
}

/// Runs a drill from its preparation to its verdict. Whatever goes wrong, running out of time included, is in the verdict.
pub(crate) async fn drive<D: Drill>(
    mut drill: D,
    cluster: &Arc<Cluster>,
    common: &Common,
    reproduce: String,
    progress: &Progress,
) -> Verdict {
    let mut course = Course::default();
    let mut given_up = None;
    let begun = Instant::now();
    let whole = async {
        drill.prepare().await;
        course.before = Usage::ask_all(cluster).await;
        let started = Instant::now();
        drill.load().await;
        course.elapsed = started.elapsed();
        course.after = Usage::ask_all(cluster).await;
        drill.check().await;
        course.finished = true;
    };
    tokio::select! {
        outcome = tokio::time::timeout(Duration::from_secs(common.timeout), whole) => drop(outcome),
        why = cluster.given_up() => given_up = Some(why),
        never = progress.show() => match never {},
    }
    if course.elapsed.is_zero() {
        course.elapsed = begun.elapsed();
    }
    let mut verdict = Verdict::new(D::NAME, reproduce);
    if let Some(why) = given_up {
        verdict.fail(why);
    } else if !course.finished {
        verdict.fail(format!("out of time after {} s{}", common.timeout, drill.reached()));
    }
    drill.report(&course, &mut verdict);
    verdict
}

/// Runs all of these concurrently, to their end.
pub(crate) async fn join_all(
    tasks: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>,
) {
    let mut running: JoinSet<()> = tasks.collect();
    while running.join_next().await.is_some() {}
}
