//! A node without a log: proposers apply their commands themselves, and a thread ticks what is due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_core::machine::Timestamp;

use crate::clock::{CHECK_EVERY, Clock};
use crate::proposal::Refused;
use crate::slot::Erased;

/// The deadline that ends the thread.
const END: u64 = 0;

/// Numbers entries and wakes the ticking thread, in place of a log.
pub(crate) struct InMemory {
    clock: Arc<dyn Clock>,
    /// The number of the last entry. It starts at the time of the start times 16,384, so that the numbers of an earlier
    /// run, which clients may still hold, are never those of this one.
    entries: AtomicU64,
    /// The time of the last entry.
    at: AtomicU64,
    /// Set when the node was stopped: proposals are rejected.
    stopped: AtomicBool,
    /// The deadline that the thread sleeps for, in milliseconds; `u64::MAX` for none.
    due: Mutex<u64>,
    wake: Condvar,
    /// The same as `due`, so that most proposers need not take the lock.
    due_hint: AtomicU64,
}

impl InMemory {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self {
            clock,
            entries: AtomicU64::new(now.0 << 14),
            at: AtomicU64::new(now.0),
            stopped: AtomicBool::new(false),
            due: Mutex::new(u64::MAX),
            wake: Condvar::new(),
            due_hint: AtomicU64::new(u64::MAX),
        }
    }

    /// Returns the number of the last entry.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`Refused::Stopping`] when proposals are not taken any more.
    pub(crate) fn open(&self) -> Result<(), Refused> {
        if self.stopped.load(Ordering::Relaxed) { Err(Refused::Stopping) } else { Ok(()) }
    }

    /// Returns the time of `entries` new entries, and the number of the first. Called under the lock of their machine, so
    /// that numbers reach it in their order.
    pub(crate) fn stamp(&self, entries: u64) -> (Timestamp, u64) {
        let now = self.clock.now();
        let at = self.at.fetch_max(now.0, Ordering::Relaxed).max(now.0);
        (Timestamp(at), self.entries.fetch_add(entries, Ordering::Relaxed) + 1)
    }

    /// Wakes the thread if a machine is due earlier than the thread sleeps.
    pub(crate) fn wake_for(&self, next: Option<Timestamp>) {
        let Some(Timestamp(next)) = next else { return };
        let next = next.max(END + 1);
        if next < self.due_hint.load(Ordering::Relaxed) {
            let mut due = self.lock();
            self.set_due(&mut due, next);
            self.wake.notify_one();
        }
    }

    /// Rejects proposals and ends the thread.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        *self.lock() = END;
        self.wake.notify_one();
    }

    /// Ticks the machines until the node stops.
    pub(crate) fn tick(&self, slots: &[Arc<dyn Erased>]) {
        let mut due = self.lock();
        while *due != END {
            let now = self.clock.now();
            if *due > now.0 {
                let wait = Duration::from_millis(*due - now.0).min(CHECK_EVERY);
                let waited = self.wake.wait_timeout(due, wait);
                due = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            *due = u64::MAX;
            self.due_hint.store(u64::MAX, Ordering::Relaxed);
            drop(due);
            // A tick is never stamped earlier than its deadline, not even if the clock steps back now.
            self.at.fetch_max(now.0, Ordering::Relaxed);
            let mut next = u64::MAX;
            for slot in slots {
                if slot.next_deadline().is_some_and(|deadline| deadline <= now) {
                    slot.tick(&mut || self.stamp(1));
                }
                let deadline = slot.next_deadline().map_or(u64::MAX, |deadline| deadline.0);
                next = next.min(deadline.max(END + 1));
            }
            due = self.lock();
            self.set_due(&mut due, next);
        }
    }

    /// Lowers the deadline. The order to end stays.
    fn set_due(&self, due: &mut u64, next: u64) {
        *due = next.min(*due);
        self.due_hint.store(*due, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number is whole at every moment.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
