//! Readers that wait for a message (long polls), and the machine's tap that wakes them.
//!
//! The readers of a user are queued in the order in which they came, and only the first is woken: it takes what is there. A reader
//! that leaves, for whatever reason, has the next one woken if anything is left, so no wake-up is lost. A waiting reader holds
//! no lock and no thread.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::machine::Timestamp;
use tidings_core::machine::chat::{Chat, Command, Discard, Reply, Sink};
use tidings_node::{Tap, When};
use tokio::sync::Notify;

/// The waiting readers. See the top of this module.
#[derive(Default)]
pub(crate) struct Waiters {
    queues: Mutex<Queues>,
    /// How many readers wait; an atomic, so that posts need not take the lock.
    count: AtomicUsize,
}

#[derive(Default)]
struct Queues {
    /// The number of the next place.
    next: u64,
    /// The readers of each user that has any, in the order of their places.
    by_user: HashMap<Box<str>, BTreeMap<u64, Arc<Notify>>>,
}

/// A reader's place in the queue of a user.
pub(super) struct Place {
    number: u64,
    /// Notified when there may be something to take.
    pub(super) wake: Arc<Notify>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // Nothing under this lock panics half-way.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many readers wait.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Queues a reader after those that wait for the same user.
    pub(super) fn join(&self, user: &str) -> Place {
        let mut queues = self.lock();
        let (number, wake) = (queues.next, Arc::<Notify>::default());
        queues.next += 1;
        if let Some(queue) = queues.by_user.get_mut(user) {
            queue.insert(number, Arc::clone(&wake));
        } else {
            let queue = BTreeMap::from([(number, Arc::clone(&wake))]);
            queues.by_user.insert(user.into(), queue);
        }
        // Under the lock, and before the inbox is checked: what arrives from here on wakes this reader.
        self.count.fetch_add(1, Ordering::SeqCst);
        Place { number, wake }
    }

    /// Removes a reader. Returns whether others wait for the same user.
    pub(super) fn leave(&self, user: &str, place: &Place) -> bool {
        let mut queues = self.lock();
        let Some(queue) = queues.by_user.get_mut(user) else { return false };
        if queue.remove(&place.number).is_some() {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        let others = !queue.is_empty();
        if !others {
            queues.by_user.remove(user);
        }
        others
    }

    /// Wakes the first reader that waits for a user.
    pub(super) fn wake_first(&self, user: &str) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let queues = self.lock();
        if let Some((_, wake)) = queues.by_user.get(user).and_then(BTreeMap::first_key_value) {
            wake.notify_one();
        }
    }
}

/// Taps the machine: a message that arrives wakes the reader that waits for it.
pub(crate) struct Outlet(pub(crate) Arc<Waiters>);

impl Sink for &Waiters {
    fn arrived(&mut self, user: &str) {
        self.wake_first(user);
    }
}

impl Tap<Chat> for Outlet {
    fn apply(&mut self, machine: &mut Chat, at: Timestamp, command: Command, when: When) -> Reply {
        match when {
            When::Now => machine.apply_to(at, command, &mut &*self.0),
            When::Again => machine.apply_to(at, command, &mut Discard),
        }
    }

    fn tick(&mut self, machine: &mut Chat, at: Timestamp, when: When) {
        match when {
            When::Now => machine.tick_to(at, &mut &*self.0),
            When::Again => machine.tick_to(at, &mut Discard),
        }
    }
}
