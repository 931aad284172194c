//! Leases: what only one of the nodes that share a log may do at a time.
//!
//! ```text
//!   holder   take ── renew ── renew ── renew ──x (its appends no longer get through)
//!   valid    [before the take was proposed ............. + 5 s - 1 s)
//!   the log            [the entry's time .................... + 5 s)
//!   another                                                        take, with a higher token
//! ```
//! A lease is an entry of the log like any other, so all nodes agree on who has it and until when. Its
//! holder does not ask the log whether it still is the holder: it counts from the moment before its
//! last successful [`Lease::take`] was proposed, takes off [`SKEW_MAX`], and stops being the holder by
//! itself when that has passed. What is fenced is fenced by the token, which rises with each change.
//!
//! # What must hold of clocks
//! The clocks of any two nodes differ by less than [`SKEW_MAX`] at every moment, steps included. Then no
//! two holders of a lease are ever valid at once. A holder looks at two clocks, the one of the
//! operating system and one that never jumps, and counts as long as both say so: a machine that was
//! suspended wakes up as no holder. A clock that is far ahead holds leases up (nobody can take one until
//! its time has come) and breaks nothing.
//!
//! On a node that shares its log with nobody every lease is held at once and for ever, and nothing is
//! logged.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_core::machine::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::node::Shared;
use crate::slot::{Handle, Refused};
use machine::{Command, Reply, Table};

pub(crate) mod machine;

/// For how long a lease is taken, or renewed.
pub const TTL: Duration = Duration::from_secs(5);
/// The clocks of two nodes differ by less than this.
pub const SKEW_MAX: Duration = Duration::from_secs(1);
/// How often a holder renews: twice it may fail.
const RENEW_EVERY: Duration = Duration::from_millis(1500);
/// When a take that was refused is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How often the one who waits looks whether the holder has gone on renewing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The leases of a node. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    pub(crate) table: Handle<Table>,
    shared: Arc<Shared>,
    /// Names this life of the process, and counts its holders.
    life: Arc<(u64, AtomicU64)>,
}

impl Leases {
    pub(crate) fn new(table: Handle<Table>, shared: Arc<Shared>) -> Self {
        let life = RandomState::new().hash_one(0);
        Self { table, shared, life: Arc::new((life, AtomicU64::new(0))) }
    }

    /// Whether others could hold any.
    pub fn is_shared(&self) -> bool {
        self.shared.is_shared()
    }

    /// A handle on the lease of this name. Nothing is asked for yet. Each handle, and its clones, is a
    /// holder of its own: not even another one of the same node holds the lease beside it.
    ///
    /// # Panics
    /// When the name has more than 64 bytes: a mistake in the program.
    pub fn lease(&self, name: &'static str) -> Lease {
        assert!(name.len() <= machine::NAME_BYTES_MAX, "{name}: a name has at most 64 bytes");
        let (life, count) = (self.life.0, self.life.1.fetch_add(1, Ordering::Relaxed));
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

/// How a [`Lease::take`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is held now.
    Held {
        /// Rises with each change of holder; a renewal keeps it. 0 where nobody shares the log.
        token: u64,
    },
    /// Another has it.
    Other {
        /// Until then, unless it is renewed.
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
    /// A take was proposed since it was last given back.
    asked: AtomicBool,
    /// What the last successful take gave.
    valid: Mutex<Option<Valid>>,
    /// Told when that has changed.
    changed: watch::Sender<()>,
}

#[derive(Clone, Copy)]
struct Valid {
    token: u64,
    /// By the clock that never jumps.
    until: Duration,
    /// By the clock of the operating system.
    until_at: Timestamp,
}

impl Lease {
    fn shared(&self) -> &Shared {
        &self.0.leases.shared
    }

    /// Whether others could hold it: without any it is always held.
    pub fn is_shared(&self) -> bool {
        self.shared().is_shared()
    }

    fn set(&self, valid: Option<Valid>) {
        *self.0.valid.lock().unwrap_or_else(PoisonError::into_inner) = valid;
        self.0.changed.send_replace(());
    }

    /// The token under which it is held, and for how much longer without renewal.
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

    /// The token under which it is held at this moment; `None` when it is not. Two clocks are read, and
    /// nothing is asked of the log: to be called immediately before whatever only the holder may do.
    pub fn token(&self) -> Option<u64> {
        self.valid().map(|(token, _)| token)
    }

    /// For how much longer it is held if it is not renewed.
    pub fn left(&self) -> Option<Duration> {
        self.valid().map(|(_, left)| left)
    }

    /// Whether it is held at this moment.
    pub fn is_held(&self) -> bool {
        self.valid().is_some()
    }

    /// Whether it is held at this moment, and under this token: nobody else has had it since.
    pub fn is_held_as(&self, token: u64) -> bool {
        self.token() == Some(token)
    }

    /// Until when anybody has it, and under which token, as far as this node has come: one that has run
    /// out counts as free. O(log leases).
    pub fn taken_until(&self) -> Option<(u64, Timestamp)> {
        let now = self.shared().clock.now();
        let table = &self.0.leases.table;
        let taken = table
            .read(|table| table.get(self.0.name).map(|held| (held.token, Timestamp(held.until))));
        taken.filter(|(_, until)| now < *until)
    }

    /// Whether anybody has it, as far as this node has come.
    pub fn is_taken(&self) -> bool {
        self.taken_until().is_some()
    }

    /// Takes it, or renews it. Costs a commit; nothing where nobody shares the log.
    ///
    /// # Errors
    /// [`Refused`]: whether it was taken may not be known then. It does not count as held by this.
    pub async fn take(&self) -> Result<Taken, Refused> {
        if !self.is_shared() {
            return Ok(Taken::Held { token: 0 });
        }
        let clock = &self.shared().clock;
        let (before, before_at) = (clock.steady(), clock.now());
        self.0.asked.store(true, Ordering::Relaxed);
        let (name, holder) = (self.0.name.to_owned(), self.0.holder.clone());
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

    /// Gives it back, if it was taken or may have been. It is not held from here on; that others may take
    /// it stands in the log a little later, or never, and then it runs out.
    pub fn give(&self) {
        if !self.is_shared() {
            return;
        }
        let valid = *self.0.valid.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(None);
        if !self.0.asked.swap(false, Ordering::Relaxed) {
            return;
        }
        let (name, holder) = (self.0.name.to_owned(), self.0.holder.clone());
        let give = Command::Give { name, holder, token: valid.map_or(0, |valid| valid.token) };
        // Behind a take that is under way. Nobody waits for the answer.
        let (proposal, _answer) = self.0.leases.table.proposal(give);
        drop(self.shared().queue.push(proposal));
    }

    /// Takes it as soon as it is free, renews it, and takes it again when it was lost, until the future
    /// is dropped; then it is given back. Needs a runtime with timers.
    pub async fn hold(&self) {
        if !self.is_shared() {
            return std::future::pending().await;
        }
        let _giving = Giving(self);
        let mut changes = self.0.leases.table.watch(None);
        loop {
            if let Some(left) = self.taken_by_another() {
                // Whichever comes first.
                drop(timeout(left.min(LOOK_EVERY), changes.next(usize::MAX)).await);
                continue;
            }
            match self.take().await {
                Ok(Taken::Held { .. }) => sleep(RENEW_EVERY).await,
                Ok(Taken::Other { .. }) => tokio::task::yield_now().await,
                Ok(Taken::Full)
                | Err(Refused::NoRoom(_) | Refused::Silent(_) | Refused::Unknown(_)) => {
                    sleep(AGAIN_AFTER).await;
                }
                Err(Refused::Stopping | Refused::Failed(_)) => std::future::pending().await,
            }
        }
    }

    /// [`Lease::hold`], in a task of its own.
    pub fn keep(&self) -> Keeper {
        let lease = self.clone();
        let task = tokio::spawn(async move { lease.hold().await });
        Keeper { lease: self.clone(), task }
    }

    /// For how much longer another has it, as far as this node has come.
    fn taken_by_another(&self) -> Option<Duration> {
        let now = self.shared().clock.now();
        self.0.leases.table.read(|table| {
            let held = table.get(self.0.name).filter(|held| held.holder != self.0.holder)?;
            let left = held.until.checked_sub(now.0).filter(|left| *left > 0)?;
            Some(Duration::from_millis(left))
        })
    }

    /// Waits until it is held, and gives the token.
    pub async fn held(&self) -> u64 {
        let mut changed = self.0.changed.subscribe();
        loop {
            if let Some(token) = self.token() {
                return token;
            }
            // The sender lives as long as this.
            drop(changed.changed().await);
        }
    }

    /// Waits until it is not held under this token any more.
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

/// Gives a lease back when it is dropped.
struct Giving<'a>(&'a Lease);

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        self.0.give();
    }
}

/// Holds a lease until it is dropped; see [`Lease::keep`].
pub struct Keeper {
    lease: Lease,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
        // Not only when the runtime comes to it: the node may be about to stop.
        self.lease.give();
    }
}

#[cfg(test)]
mod tests;
