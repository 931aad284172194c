//! A node: machines, a log, and the thread between them.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tidings_core::machine::{Machine, Timestamp};
use tidings_log::Log;
use tokio::sync::{oneshot, watch};

use crate::clock::{self, Clock};
use crate::engine::{Engine, EngineStats, Fatal, Progress};
use crate::lease::{self, Lease, Leases};
use crate::slot::{Bounds, Erased, Handle, Refused, Slot, Tap};
use crate::snapshot::Applied;
use crate::writer::{self, CLOCK_LOOK_EVERY, Queue, Request};

/// How many changes of leases are kept for those who wait for one.
const LEASE_EVENTS_KEPT: usize = 64;

/// The bounds of a node.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A snapshot is taken when this much was appended since the last one. What is behind a
    /// snapshot is not replayed on start.
    pub snapshot_log_bytes: u64,
    /// Whether a snapshot is taken when the node stops.
    pub snapshot_on_stop: bool,
    /// How many events of each machine are kept for watchers to resume.
    pub events_kept_max: usize,
    /// How much memory these events may take, by machine.
    pub events_kept_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            snapshot_log_bytes: 64 << 20,
            snapshot_on_stop: true,
            events_kept_max: 10_000,
            events_kept_bytes_max: 16 << 20,
        }
    }
}

/// What a node has done since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// The last batch applied; 0 in memory.
    pub position: u64,
    /// Entries applied since the beginning of the log.
    pub entries: u64,
    /// Entries that the start replayed from the log.
    pub replayed: u64,
    /// Batches committed.
    pub batches: u64,
    /// Bytes committed.
    pub bytes: u64,
    /// Commands refused because the log had no room.
    pub refused: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Snapshots that could not be written.
    pub snapshots_failed: u64,
}

/// What the machines of a node come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The last batch applied.
    pub position: u64,
    /// Entries applied since the beginning of the log.
    pub entries: u64,
    /// Of all states.
    pub digest: u128,
}

/// What the handles, the node and its thread share.
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    /// Set when there is no log: entries are applied where they are proposed.
    in_memory: OnceLock<InMemory>,
    history: OnceLock<u64>,
    /// Whether others share the log.
    with_others: AtomicBool,
    stats: Mutex<Stats>,
}

/// What stands for the log when there is none.
pub(crate) struct InMemory {
    clock: Arc<dyn Clock>,
    /// The number of the last entry. It starts at the time of the start times 16,384, so that an
    /// entry number of an earlier run is never mistaken for one of this run.
    entries: AtomicU64,
    /// The time of the last entry.
    at: AtomicU64,
    /// The node was stopped: nothing more is taken.
    stopped: AtomicBool,
    /// The deadline that the clock's thread sleeps for, in milliseconds; `u64::MAX` for none.
    due: Mutex<u64>,
    wake: Condvar,
    /// The same as `due`, to look at without the lock.
    due_hint: AtomicU64,
}

impl InMemory {
    fn new(clock: Arc<dyn Clock>) -> Self {
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

    /// Whether proposals are still taken.
    ///
    /// # Errors
    /// [`Refused::Stopping`] when they are not.
    pub(crate) fn open(&self) -> Result<(), Refused> {
        if self.stopped.load(Ordering::Relaxed) { Err(Refused::Stopping) } else { Ok(()) }
    }

    /// The time of so many new entries, and the number of the first of them. Called under the lock
    /// of their machine, so that numbers reach it in their order.
    pub(crate) fn stamp(&self, entries: u64) -> (Timestamp, u64) {
        let now = self.clock.now();
        let at = self.at.fetch_max(now.0, Ordering::Relaxed).max(now.0);
        (Timestamp(at), self.entries.fetch_add(entries, Ordering::Relaxed) + 1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks protect is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// What stands for the log; `None` when there is a log.
    pub(crate) fn in_memory(&self) -> Option<&InMemory> {
        self.in_memory.get()
    }

    /// In memory: lets the clock's thread know if a machine wants to act earlier than it sleeps.
    pub(crate) fn deadline_may_have_moved(&self, next: impl FnOnce() -> Option<Timestamp>) {
        let (Some(memory), Some(next)) = (self.in_memory.get(), next()) else {
            return;
        };
        // 0 ends the thread.
        let next = next.0.max(1);
        if next < memory.due_hint.load(Ordering::Relaxed) {
            let mut due = lock(&memory.due);
            *due = next.min(*due);
            memory.due_hint.store(*due, Ordering::Relaxed);
            memory.wake.notify_one();
        }
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.with_others.load(Ordering::Relaxed)
    }

    pub(crate) fn history(&self) -> u64 {
        *self.history.get_or_init(|| RandomState::new().hash_one(0))
    }

    pub(crate) fn publish(&self, applied: &Applied, engine: EngineStats) {
        *lock(&self.stats) = Stats {
            position: applied.position,
            entries: applied.entries,
            replayed: engine.replayed,
            batches: engine.batches,
            bytes: engine.bytes,
            refused: engine.refused,
            snapshots: engine.snapshots,
            snapshots_failed: engine.snapshots_failed,
        };
    }
}

/// Puts a node together.
pub struct Builder {
    shared: Arc<Shared>,
    pub(crate) slots: Vec<Arc<dyn Erased>>,
    pub(crate) leases: Leases,
}

impl Builder {
    /// A node without machines, on the clock of the operating system.
    pub fn new(settings: Settings) -> Self {
        Self::with_clock(settings, Arc::new(clock::System))
    }

    /// A node without machines, on a clock of its own.
    pub fn with_clock(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            queue: Arc::default(),
            clock,
            settings,
            in_memory: OnceLock::new(),
            history: OnceLock::new(),
            with_others: AtomicBool::new(false),
            stats: Mutex::default(),
        };
        let shared = Arc::new(shared);
        let Settings { events_kept_bytes_max, .. } = settings;
        let bounds = Bounds { events: LEASE_EVENTS_KEPT, bytes: events_kept_bytes_max };
        let (id, table) = (lease::machine::ID, lease::machine::Table::default());
        let slot = Arc::new(Slot::new(id, lease::machine::NAME, table, None, bounds));
        let slots = vec![Arc::clone(&slot) as Arc<dyn Erased>];
        let leases = Leases::new(Handle::new(slot, Arc::clone(&shared)), Arc::clone(&shared));
        Self { shared, slots, leases }
    }

    /// Adds a machine. Its number stands in the log: it is never given to another one.
    ///
    /// # Panics
    /// When the number is 0, above 126 or taken: a mistake in the program. (127 is that of the leases.)
    pub fn add<M: Machine>(&mut self, id: u8, name: &'static str, machine: M) -> Handle<M> {
        self.add_slot(id, name, machine, None)
    }

    /// Adds a machine whose events a [`Tap`] takes as they come: no event is kept, watchers see
    /// none, and none is missed. Its deadlines do not count before [`Handle::begin_ticking`].
    ///
    /// # Panics
    /// As [`Builder::add`].
    pub fn add_tapped<M: Machine>(
        &mut self,
        id: u8,
        name: &'static str,
        machine: M,
        tap: impl Tap<M>,
    ) -> Handle<M> {
        self.add_slot(id, name, machine, Some(Box::new(tap)))
    }

    fn add_slot<M: Machine>(
        &mut self,
        id: u8,
        name: &'static str,
        machine: M,
        tap: Option<Box<dyn Tap<M>>>,
    ) -> Handle<M> {
        assert!((1..=126).contains(&id), "machine {name}: numbers are 1 to 126");
        assert!(self.slots.iter().all(|slot| slot.id() != id), "machine {name}: {id} is taken");
        let Settings { events_kept_max, events_kept_bytes_max, .. } = self.shared.settings;
        let bounds = Bounds { events: events_kept_max, bytes: events_kept_bytes_max };
        let slot = Arc::new(Slot::new(id, name, machine, tap, bounds));
        self.slots.push(Arc::clone(&slot) as Arc<dyn Erased>);
        Handle::new(slot, Arc::clone(&self.shared))
    }

    /// Starts without a log: proposals are applied by who makes them, and nothing outlives the
    /// process.
    pub fn start_in_memory(self) -> Node {
        let memory = InMemory::new(Arc::clone(&self.shared.clock));
        let first = memory.entries.load(Ordering::Relaxed);
        for slot in &self.slots {
            slot.begin_after(first);
            slot.begin_now();
        }
        let _first_time = self.shared.in_memory.set(memory);
        for slot in &self.slots {
            self.shared.deadline_may_have_moved(|| slot.next_deadline());
        }
        let (failed, _) = watch::channel(None);
        let (shared, slots) = (Arc::clone(&self.shared), self.slots);
        let thread = std::thread::spawn(move || tick_in_memory(&shared, &slots));
        let leases = self.leases;
        Node { shared: self.shared, leases, thread: Mutex::new(Some(thread)), failed }
    }

    /// Recovers from the log and starts. Blocks until every entry of the log is applied;
    /// `progress` is called about once a second meanwhile.
    ///
    /// Called on a tokio runtime, the node gathers proposals there (see `writer`): that runtime must
    /// go on running, or be dropped. One that is kept and not driven holds every proposal up.
    ///
    /// # Errors
    /// [`Fatal`]: what is stored cannot be read or understood. Nothing was written.
    pub fn start(self, log: Box<dyn Log>, progress: impl FnMut(Progress)) -> Result<Node, Fatal> {
        let Self { shared, slots, leases } = self;
        let mut engine = Engine::recover(log, slots, progress).inspect_err(|fatal| {
            // Who has proposed already would wait for ever.
            shared.queue.end(&Refused::Failed(fatal.to_string()));
        })?;
        engine.begin_now();
        let _first_time = shared.history.set(engine.history());
        shared.with_others.store(engine.is_shared(), Ordering::Relaxed);
        shared.publish(engine.applied(), engine.stats);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(Arc::clone(&shared.queue).gather());
        }
        let (failed, _) = watch::channel(None);
        let (theirs, tell) = (Arc::clone(&shared), failed.clone());
        let thread = std::thread::Builder::new().name("tidings-log".into()).spawn(move || {
            // Who waits for an answer of a thread that has panicked would wait for ever.
            let run = std::panic::AssertUnwindSafe(|| writer::run(engine, &theirs));
            match std::panic::catch_unwind(run) {
                Ok(Ok(())) => {}
                Ok(Err(fatal)) => {
                    // Of the one that only is behind tells whoever starts another in its place.
                    if !fatal.is_behind() {
                        tracing::error!(%fatal, "the log has failed");
                    }
                    tell.send_replace(Some(Arc::new(fatal)));
                }
                Err(_) => {
                    tracing::error!("the log's thread has panicked; ending the process");
                    std::process::abort();
                }
            }
        })?;
        Ok(Node { shared, leases, thread: Mutex::new(Some(thread)), failed })
    }
}

/// A running node. Stop it with [`Node::stop`]; dropped, it stops by itself without a last
/// snapshot being waited for.
pub struct Node {
    shared: Arc<Shared>,
    leases: Leases,
    thread: Mutex<Option<JoinHandle<()>>>,
    failed: watch::Sender<Option<Arc<Fatal>>>,
}

impl Node {
    /// What it has done.
    pub fn stats(&self) -> Stats {
        let mut stats = *lock(&self.shared.stats);
        if let Some(memory) = self.shared.in_memory.get() {
            stats.entries = memory.entries.load(Ordering::Relaxed);
        }
        stats
    }

    /// Whether a proposal could be stored now.
    ///
    /// # Errors
    /// [`Refused`] with the reason why not.
    pub async fn check(&self) -> Result<(), Refused> {
        if let Some(memory) = self.shared.in_memory.get() {
            return memory.open();
        }
        if let Some(why) = self.shared.queue.why_stalled() {
            return Err(why);
        }
        let (sender, receiver) = oneshot::channel();
        self.shared.queue.request(Request::Check(sender))?;
        receiver.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Whether others share the log: what they append is applied here a little later.
    pub fn is_shared(&self) -> bool {
        self.shared.is_shared()
    }

    /// What only one of the nodes that share the log may do at a time.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// A handle on the lease of this name. See [`Leases::lease`].
    ///
    /// # Panics
    /// When the name has more than 64 bytes: a mistake in the program.
    pub fn lease(&self, name: &'static str) -> Lease {
        self.leases.lease(name)
    }

    /// Waits until everything that was acknowledged by any node before this call is applied here.
    /// Costs a commit, shared with all others of its time; nothing when nobody shares the log.
    ///
    /// # Errors
    /// [`Refused`] when the log does not answer, or has no room.
    pub async fn barrier(&self) -> Result<(), Refused> {
        if !self.is_shared() {
            return Ok(());
        }
        if let Some(why) = self.shared.queue.why_stalled() {
            return Err(why);
        }
        let (sender, receiver) = oneshot::channel();
        self.shared.queue.request(Request::Barrier(sender))?;
        receiver.await.unwrap_or(Err(Refused::Stopping))
    }

    /// What the machines come to: how far they are, and a digest that is equal on all nodes that are
    /// as far. `None` in memory. O(state): for tests and questions.
    ///
    /// # Errors
    /// [`Refused`] when the node is stopping, or the log does not answer.
    pub async fn digest(&self) -> Result<Option<Digest>, Refused> {
        if self.shared.in_memory().is_some() {
            return Ok(None);
        }
        let stalled = || self.shared.queue.why_stalled();
        if let Some(why) = stalled() {
            return Err(why);
        }
        let (sender, receiver) = oneshot::channel();
        self.shared.queue.request(Request::Digest(sender))?;
        let answered = receiver.await;
        let (position, entries, digest) =
            answered.map_err(|_| stalled().unwrap_or(Refused::Stopping))?;
        Ok(Some(Digest { position, entries, digest }))
    }

    /// Waits until the log has failed and says why. The node takes nothing more then: start another one in
    /// its place if it only was behind ([`Fatal::is_behind`]), or end the process.
    pub async fn failed(&self) -> Arc<Fatal> {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(why) = failed.borrow_and_update().clone() {
                return why;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes no more proposals, commits and answers those it has, writes a last snapshot.
    ///
    /// # Errors
    /// Why the log had failed, if it had.
    pub async fn stop(&self) -> Result<(), Arc<Fatal>> {
        self.close();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A thread that panicked has told so by itself.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            drop(joined.await);
        }
        let failed = self.failed.borrow().clone();
        failed.map_or(Ok(()), Err)
    }

    fn close(&self) {
        self.shared.queue.close(Refused::Stopping);
        if let Some(memory) = self.shared.in_memory.get() {
            memory.stopped.store(true, Ordering::Relaxed);
            // The clock's thread ends at deadline 0.
            *lock(&memory.due) = 0;
            memory.wake.notify_one();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}

/// Ticks the machines of a node without a log. A deadline of 0 ends it.
fn tick_in_memory(shared: &Shared, slots: &[Arc<dyn Erased>]) {
    let Some(memory) = shared.in_memory.get() else {
        return;
    };
    let mut due = lock(&memory.due);
    while *due != 0 {
        let now = shared.clock.now();
        if *due > now.0 {
            let wait = Duration::from_millis(*due - now.0).min(CLOCK_LOOK_EVERY);
            let waited = memory.wake.wait_timeout(due, wait);
            due = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        *due = u64::MAX;
        memory.due_hint.store(u64::MAX, Ordering::Relaxed);
        drop(due);
        // A tick is never stamped before what it is for, not even if the clock is put back now.
        memory.at.fetch_max(now.0, Ordering::Relaxed);
        let mut next = u64::MAX;
        for slot in slots {
            if slot.next_deadline().is_some_and(|deadline| deadline <= now) {
                slot.tick(&mut || memory.stamp(1));
            }
            next = next.min(slot.next_deadline().map_or(u64::MAX, |deadline| deadline.0.max(1)));
        }
        due = lock(&memory.due);
        *due = next.min(*due);
        memory.due_hint.store(*due, Ordering::Relaxed);
    }
}
