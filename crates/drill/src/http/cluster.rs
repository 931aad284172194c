//! The servers that a drill talks to, how patiently, and whether any of them still answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Target;
use crate::patience::Patience;

/// How often it is looked whether none has answered for too long.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One server, or several that show the same.
#[derive(Debug)]
pub(crate) struct Cluster {
    targets: Vec<Target>,
    /// How long to wait before a call is made again.
    retry: Duration,
    patience: Patience,
    started: Instant,
    /// Since when calls fail and none succeeds, in milliseconds from the start and 1; 0 when the last
    /// one has succeeded.
    failing_since: AtomicU64,
}

impl Cluster {
    pub(crate) fn new(targets: &[Target], retry: Duration, patience: Patience) -> Arc<Self> {
        let (targets, started) = (targets.to_vec(), Instant::now());
        Arc::new(Self { targets, retry, patience, started, failing_since: AtomicU64::new(0) })
    }

    /// How many servers there are.
    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// The `at`th, counted round and round.
    pub(crate) fn target(&self, at: usize) -> Option<&Target> {
        self.targets.get(at % self.targets.len().max(1))
    }

    pub(crate) fn retry(&self) -> Duration {
        self.retry
    }

    pub(crate) fn answer_within(&self) -> Duration {
        self.patience.answer_within
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// A call was answered, and not with 5xx.
    pub(crate) fn succeeded(&self) {
        // Usually nothing is written, so that connections on several threads do not disturb each other.
        if self.failing_since.load(Ordering::Relaxed) != 0 {
            self.failing_since.store(0, Ordering::Relaxed);
        }
    }

    /// A connection could not be made or broke, no answer came in time, or it was 5xx.
    pub(crate) fn failed(&self) {
        let (now, order) = (self.now(), Ordering::Relaxed);
        // If calls fail already, since then.
        let _since_before = self.failing_since.compare_exchange(0, now, order, order);
    }

    /// Waits until no call has succeeded for too long while some failed, and says so.
    pub(crate) async fn given_up(&self) -> String {
        let after = self.patience.give_up_after;
        loop {
            let since = self.failing_since.load(Ordering::Relaxed);
            let failing = Duration::from_millis(self.now().saturating_sub(since));
            if since != 0 && failing >= after {
                return format!("no call has succeeded for {after:?}: given up");
            }
            tokio::time::sleep(LOOK_EVERY.min(after)).await;
        }
    }
}
