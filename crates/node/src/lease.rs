//! Leases: what only one of the nodes that share a log may do at a time.
//!
//! ```text
//!   holder   take ── renew ── renew ── renew ──x (its appends no longer get through)
//!   valid    [before the take was proposed ............. + 5 s - 1 s)
//!   the log            [the entry's time .................... + 5 s)
//!   another                                                        take, with a higher token
//! ```
//! Taking a lease is an entry of the log like any other, so all nodes agree on its holder and its end. The holder does not ask
//! the log whether it still holds the lease: it counts from the moment before its last successful [`Lease::take`] was
//! proposed, subtracts [`SKEW_MAX`], and ceases to be the holder by itself after that time. The fencing token, which rises with
//! each change of holder, lets others reject late output of a deposed holder.
//!
//! # What must hold of clocks
//! The clocks of any two nodes differ by less than [`SKEW_MAX`] at every moment, steps included. Then no two holders of a lease
//! are ever valid at once. A holder reads two clocks, the one of the operating system and one that never jumps, and is valid
//! only while both say so: a machine that was suspended no longer holds its leases when it wakes up. A clock that is far ahead
//! delays leases (nobody can take one before its end) and breaks nothing.
//!
//! On a node that shares its log with no other node, every lease is held at once and forever, and nothing is logged.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_core::machine::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::handle::Handle;
use crate::proposal::Refused;
use crate::shared::Shared;
use machine::{Command, Reply, Table};

pub(crate) mod machine;

/// For how long a lease is taken, or renewed.
pub const TTL: Duration = Duration::from_secs(5);
/// The clocks of two nodes differ by less than this.
pub const SKEW_MAX: Duration = Duration::from_secs(1);
/// How often a holder renews. Two renewals in a row may fail before the lease ends.
const RENEW_EVERY: Duration = Duration::from_millis(1500);
/// The pause before a take that was refused is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How often a waiting node checks whether the holder still renews.
const CHECK_EVERY: Duration = Duration::from_secs(1);

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The leases of a node. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    pub(crate) table: Handle<Table>,
    shared: Arc<Shared>,
    /// A random name of this run of the process.
    life: u64,
    /// How many handles were made, so that each has a name of its own.
    holders: Arc<AtomicU64>,
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases").field("shared", &self.is_shared()).finish_non_exhaustive()
    }
}

impl Leases {
    pub(crate) fn new(table: Handle<Table>, shared: Arc<Shared>) -> Self {
        let life = RandomState::new().hash_one(0);
        Self { table, shared, life, holders: Arc::default() }
    }

    /// Returns whether other nodes could hold a lease.
    pub fn is_shared(&self) -> bool {
        self.shared.is_shared()
    }

    /// Returns a handle on the lease of this name. Nothing is taken yet. Each handle, with its clones, is a holder of its own:
    /// two handles of one node do not hold the lease at the same time either.
    ///
    /// # Panics
    /// When the name has more than 64 bytes: a mistake in the program.
    pub fn lease(&self, name: &'static str) -> Lease {
        assert!(name.len() <= machine::NAME_BYTES_MAX, "{name}: a name has at most 64 bytes");
        let life = self.life;
        let count = self.holders.fetch_add(1, Ordering::Relaxed);
        let holder = format!("{:016x}-{life:016x}-{count}", self.shared.history());
        Lease(Arc::new(Inner {
            name,
            holder,
            leases: self.clone(),
            asked: AtomicBool::new(false),
            valid: Mutex::new(None),
            changed: watch::Sender::new(()),
        }))
    }
}

/// The result of [`Lease::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The lease is held now.
    Held {
        /// The fencing token. It rises with each change of holder; a renewal keeps it. 0 where no other node shares the log.
        token: u64,
    },
    /// Another holder has it.
    Other {
        /// The end of the lease, unless it is renewed.
        until: Timestamp,
    },
    /// There are too many leases (64).
    Full,
}

/// A lease, held or not. Clones are the same holder.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    name: &'static str,
    holder: String,
    leases: Leases,
    /// Whether a take was proposed since the lease was last given back.
    asked: AtomicBool,
    /// The result of the last successful take.
    valid: Mutex<Option<Valid>>,
    /// Notified when `valid` has changed.
    changed: watch::Sender<()>,
}

#[derive(Clone, Copy)]
struct Valid {
    token: u64,
    /// The end, by the clock that never jumps.
    until: Duration,
    /// The end, by the clock of the operating system.
    until_at: Timestamp,
}

impl Lease {
    fn shared(&self) -> &Shared {
        &self.0.leases.shared
    }

    /// Returns whether another node could hold it. Otherwise it is always held.
    pub fn is_shared(&self) -> bool {
        self.shared().is_shared()
    }

    fn set(&self, valid: Option<Valid>) {
        *self.0.valid.lock().unwrap_or_else(PoisonError::into_inner) = valid;
        self.0.changed.send_replace(());
    }

    /// Returns the token under which it is held, and how long it is still held without renewal.
    fn valid(&self) -> Option<(u64, Duration)> {
        if !self.is_shared() {
            return Some((0, Duration::MAX));
        }
        let valid = *self.0.valid.lock().unwrap_or_else(PoisonError::into_inner);
        let Valid { token, until, until_at } = valid?;
        let clock = &self.shared().clock;
        let left = until.checked_sub(clock.steady()).filter(|left| !left.is_zero())?;
        let left_at = until_at.0.checked_sub(clock.now().0).filter(|left| *left > 0)?;
        Some((token, left.min(Duration::from_millis(left_at))))
    }

    /// Returns the token under which it is held at this moment, or `None`. Costs two clock reads and no access to the log, so
    /// call it immediately before each thing that only the holder may do.
    pub fn token(&self) -> Option<u64> {
        self.valid().map(|(token, _)| token)
    }

    /// Returns how long it is still held if it is not renewed.
    pub fn left(&self) -> Option<Duration> {
        self.valid().map(|(_, left)| left)
    }

    /// Returns whether it is held at this moment.
    pub fn is_held(&self) -> bool {
        self.valid().is_some()
    }

    /// Returns whether it is held at this moment under this token. Then no other holder has had it since.
    pub fn is_held_as(&self, token: u64) -> bool {
        self.token() == Some(token)
    }

    /// Returns the token and the end of the lease, whichever node holds it, as far as this node has applied the log.
    /// `None` if it is free or has ended. O(log leases).
    pub fn taken_until(&self) -> Option<(u64, Timestamp)> {
        let now = self.shared().clock.now();
        let table = &self.0.leases.table;
        let taken = table
            .read(|table| table.get(self.0.name).map(|held| (held.token, Timestamp(held.until))));
        taken.filter(|(_, until)| now < *until)
    }

    /// Returns whether anyone holds it, as far as this node has applied the log.
    pub fn is_taken(&self) -> bool {
        self.taken_until().is_some()
    }

    /// Takes or renews it. Costs a commit, or nothing where no other node shares the log.
    ///
    /// # Errors
    /// [`Refused`]: it may have been taken, and is not held.
    pub async fn take(&self) -> Result<Taken, Refused> {
        if !self.is_shared() {
            return Ok(Taken::Held { token: 0 });
        }
        let clock = &self.shared().clock;
        // Read before the proposal: the lease lasts at least from here.
        let before = clock.steady();
        let before_at = clock.now();
        self.0.asked.store(true, Ordering::Relaxed);
        let name = self.0.name.to_owned();
        let holder = self.0.holder.clone();
        let take = Command::Take { name, holder, ttl_ms: ms(TTL) };
        match self.0.leases.table.propose(take).await? {
            Reply::Held { token } => {
                let sure = TTL.saturating_sub(SKEW_MAX);
                let until = before.saturating_add(sure);
                let until_at = Timestamp(before_at.0.saturating_add(ms(sure)));
                self.set(Some(Valid { token, until, until_at }));
                Ok(Taken::Held { token })
            }
            Reply::Other { until, .. } => {
                self.set(None);
                Ok(Taken::Other { until })
            }
            Reply::Unusable | Reply::Given | Reply::NotHeld => Ok(Taken::Full),
        }
    }

    /// Gives it back, if it was taken or may have been. It is not held from here on. Others can take it once that is logged; if
    /// it never is, the lease ends by itself.
    pub fn give(&self) {
        if !self.is_shared() {
            return;
        }
        let valid = *self.0.valid.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(None);
        if !self.0.asked.swap(false, Ordering::Relaxed) {
            return;
        }
        let name = self.0.name.to_owned();
        let holder = self.0.holder.clone();
        let give = Command::Give { name, holder, token: valid.map_or(0, |valid| valid.token) };
        // Queued after a take that is under way. Nobody waits for the reply.
        let (proposal, _answer) = self.0.leases.table.proposal(give);
        drop(self.shared().queue.push(proposal));
    }

    /// Takes it as soon as it is free, renews it, and takes it again when it was lost. When the future is dropped, the lease is
    /// given back. Needs a runtime with timers.
    pub async fn hold(&self) {
        if !self.is_shared() {
            return std::future::pending().await;
        }
        let _giving = Giving(self);
        let mut changes = self.0.leases.table.watch(None);
        loop {
            if let Some(left) = self.taken_by_another() {
                // Until it ends, it changes, or the next check.
                drop(timeout(left.min(CHECK_EVERY), changes.next(usize::MAX)).await);
                continue;
            }
            match self.take().await {
                Ok(Taken::Held { .. }) => sleep(RENEW_EVERY).await,
                Ok(Taken::Other { .. }) => tokio::task::yield_now().await,
                Ok(Taken::Full)
                | Err(Refused::NoRoom(_) | Refused::Silent(_) | Refused::Unknown(_)) => {
                    sleep(RETRY_AFTER).await;
                }
                Err(Refused::Stopping | Refused::Failed(_)) => std::future::pending().await,
            }
        }
    }

    /// Runs [`Lease::hold`] in a task of its own, until the result is dropped.
    pub fn keep(&self) -> Keeper {
        let lease = self.clone();
        let task = tokio::spawn(async move { lease.hold().await });
        Keeper { lease: self.clone(), task }
    }

    /// Returns how long another holder still has it, as far as this node has applied the log.
    fn taken_by_another(&self) -> Option<Duration> {
        let now = self.shared().clock.now();
        self.0.leases.table.read(|table| {
            let held = table.get(self.0.name).filter(|held| held.holder != self.0.holder)?;
            let left = held.until.checked_sub(now.0).filter(|left| *left > 0)?;
            Some(Duration::from_millis(left))
        })
    }

    /// Waits until it is held. Returns the token.
    pub async fn held(&self) -> u64 {
        let mut changed = self.0.changed.subscribe();
        loop {
            if let Some(token) = self.token() {
                return token;
            }
            // It does not fail: `self` keeps the sender.
            drop(changed.changed().await);
        }
    }

    /// Waits until it is no longer held under this token.
    pub async fn lost(&self, token: u64) {
        if !self.is_shared() {
            return std::future::pending().await;
        }
        let mut changed = self.0.changed.subscribe();
        while let Some((_, left)) = self.valid().filter(|(held, _)| *held == token) {
            drop(timeout(left, changed.changed()).await);
        }
    }
}

/// Gives a lease back on drop.
struct Giving<'a>(&'a Lease);

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        self.0.give();
    }
}

/// Holds a lease until it is dropped. See [`Lease::keep`].
pub struct Keeper {
    lease: Lease,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
        // The aborted task would give it back too, but only when the runtime gets to it, and the node may stop before.
        self.lease.give();
    }
}

#[cfg(test)]
mod tests;
