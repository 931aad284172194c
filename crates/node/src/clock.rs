//! The clock of a node. It is injected, so that a test or a simulation can move time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidings_core::machine::Timestamp;

/// How long the node sleeps for a deadline before it reads the clock again. If the clock was put forward meanwhile, or the
/// machine was suspended, the deadline comes earlier.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(60);

/// Reads the time. The clock may jump; the node never lets the time of an entry run backwards.
pub trait Clock: Send + Sync + 'static {
    /// Returns the milliseconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> Timestamp;

    /// Returns the time since an arbitrary moment in the life of this process. It never jumps and never runs backwards.
    fn steady(&self) -> Duration {
        static BEGUN: OnceLock<Instant> = OnceLock::new();
        BEGUN.get_or_init(Instant::now).elapsed()
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that moves only when a test sets it.
#[derive(Debug, Default)]
pub struct Manual(AtomicU64);

impl Manual {
    /// Sets the time.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Moves the time forward.
    pub fn advance(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    /// Returns what it was set to, since 1970.
    fn steady(&self) -> Duration {
        Duration::from_millis(self.now().0)
    }
}
