//! A node: machines, a log, and the thread between them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tidings_core::machine::Machine;
use tidings_log::Log;
use tokio::sync::{oneshot, watch};

use crate::clock::{self, Clock};
use crate::engine::{Engine, Fatal, Progress};
use crate::entry::LEASES;
use crate::handle::Handle;
use crate::lease::{self, Lease, Leases};
use crate::memory::InMemory;
use crate::proposal::Refused;
use crate::queue::Request;
use crate::shared::{Settings, Shared, World};
use crate::slot::{Bounds, Erased, Slot, Tap};
use crate::stats::Stats;
use crate::writer;

/// How many changes of leases are kept for nodes that wait for one.
const LEASE_EVENTS_KEPT: usize = 64;

/// The digest of the states of a node's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The position of the last batch applied.
    pub position: u64,
    /// Entries applied since the beginning of the log.
    pub entries: u64,
    /// Equal on all nodes that have applied the same entries.
    pub digest: u128,
}

/// Adds machines to a node and starts it.
pub struct Builder {
    shared: Arc<Shared>,
    pub(crate) slots: Vec<Arc<dyn Erased>>,
    pub(crate) leases: Leases,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machines: Vec<_> = self.slots.iter().map(|slot| slot.name()).collect();
        f.debug_struct("Builder").field("machines", &machines).finish_non_exhaustive()
    }
}

impl Builder {
    /// Begins a node without machines, on the clock of the operating system.
    pub fn new(settings: Settings) -> Self {
        Self::with_clock(settings, Arc::new(clock::System))
    }

    /// Begins a node without machines, on another clock.
    pub fn with_clock(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared::new(settings, clock));
        let Settings { events_kept_bytes_max, .. } = settings;
        let bounds = Bounds { events: LEASE_EVENTS_KEPT, bytes: events_kept_bytes_max };
        let table = lease::machine::Table::default();
        let slot = Arc::new(Slot::new(LEASES, lease::machine::NAME, table, None, bounds));
        let slots = vec![Arc::clone(&slot) as Arc<dyn Erased>];
        let leases = Leases::new(Handle::new(slot, Arc::clone(&shared)), Arc::clone(&shared));
        Self { shared, slots, leases }
    }

    /// Adds a machine. Its number is stored in the log, so it must never be used for another machine.
    ///
    /// # Panics
    /// When the number is 0, above 126 or taken, which is a mistake in the program. (127 is the number of the leases.)
    pub fn add<M: Machine>(&mut self, id: u8, name: &'static str, machine: M) -> Handle<M> {
        self.add_slot(id, name, machine, None)
    }

    /// Adds a machine whose events a [`Tap`] takes as they occur. No event is kept, so watchers see none. Its deadlines are not
    /// ticked before [`Handle::resume_ticks`].
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

    /// Starts without a log. Proposers apply their commands themselves, and nothing outlives the process.
    pub fn start_in_memory(self) -> Node {
        let Self { shared, slots, leases } = self;
        let memory = InMemory::new(Arc::clone(&shared.clock));
        for slot in &slots {
            slot.begin_after(memory.entries());
            slot.begin_now();
            memory.wake_for(slot.next_deadline());
        }
        shared.begin(World::Memory { memory, history: RandomState::new().hash_one(0) });
        let ticked = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            if let Some(memory) = ticked.in_memory() {
                memory.tick(&slots);
            }
        });
        Node::running(shared, leases, thread, watch::Sender::new(None))
    }

    /// Recovers from the log and starts. Blocks until every entry of the log is applied, and calls `progress` about once a
    /// second meanwhile.
    ///
    /// Called on a tokio runtime, the node gathers proposals there (see `queue`). That runtime must go on running, or be
    /// dropped: one that is kept and not driven stalls every proposal.
    ///
    /// # Errors
    /// [`Fatal`] when what is stored cannot be read or understood. Nothing was written then.
    pub fn start(self, log: Box<dyn Log>, progress: impl FnMut(Progress)) -> Result<Node, Fatal> {
        let Self { shared, slots, leases } = self;
        let clock = Arc::clone(&shared.clock);
        let mut engine = Engine::recover(log, slots, clock, progress).inspect_err(|fatal| {
            // A proposal that was made before the start would wait forever.
            shared.queue.end(&Refused::Failed(fatal.to_string()));
        })?;
        engine.begin_now();
        let history = engine.history();
        shared.begin(if engine.is_shared() {
            World::SharedLog { history }
        } else {
            World::OwnLog { history }
        });
        shared.publish(engine.stats());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(Arc::clone(&shared.queue).gather());
        }
        let failed = watch::Sender::new(None);
        let report = failed.clone();
        let written = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("tidings-log".into()).spawn(move || {
            // A panic would leave every proposer waiting forever, so it ends the process.
            let run = std::panic::AssertUnwindSafe(|| writer::run(engine, &written));
            match std::panic::catch_unwind(run) {
                Ok(Ok(())) => {}
                Ok(Err(fatal)) => {
                    // A node that merely fell behind is rebuilt by the caller, which does its own logging.
                    if !fatal.is_behind() {
                        tracing::error!(%fatal, "the log has failed");
                    }
                    report.send_replace(Some(Arc::new(fatal)));
                }
                Err(_) => {
                    tracing::error!("the log's thread has panicked; ending the process");
                    std::process::abort();
                }
            }
        })?;
        Ok(Node::running(shared, leases, thread, failed))
    }
}

/// A running node. Stop it with [`Node::stop`]. When it is dropped, it stops by itself, and nobody waits for the last
/// snapshot.
pub struct Node {
    shared: Arc<Shared>,
    leases: Leases,
    /// The thread that owns the log, or that ticks in memory. `None` once it is joined.
    thread: Mutex<Option<JoinHandle<()>>>,
    failed: watch::Sender<Option<Arc<Fatal>>>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Node {
    const fn running(
        shared: Arc<Shared>,
        leases: Leases,
        thread: JoinHandle<()>,
        failed: watch::Sender<Option<Arc<Fatal>>>,
    ) -> Self {
        Self { shared, leases, thread: Mutex::new(Some(thread)), failed }
    }

    /// Returns what the node has done.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Checks whether a proposal could be stored now.
    ///
    /// # Errors
    /// [`Refused`] with the reason why not.
    pub async fn check(&self) -> Result<(), Refused> {
        match self.shared.in_memory() {
            Some(memory) => memory.open(),
            None => self.request(Request::Check).await?,
        }
    }

    /// Sends a request to the thread and waits for the answer.
    async fn request<R>(
        &self,
        request: impl FnOnce(oneshot::Sender<R>) -> Request,
    ) -> Result<R, Refused> {
        let queue = &self.shared.queue;
        if let Some(why) = queue.why_stalled() {
            return Err(why);
        }
        let (sender, receiver) = oneshot::channel();
        queue.request(request(sender))?;
        // The request was dropped: the log has stalled meanwhile, or the thread has ended.
        receiver.await.map_err(|_| queue.why_stalled().unwrap_or(Refused::Stopping))
    }

    /// Returns whether other nodes share the log. What they append is applied here a little later.
    pub fn is_shared(&self) -> bool {
        self.shared.is_shared()
    }

    /// Returns the leases: what only one of the nodes that share the log may do at a time.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Returns a handle on the lease of this name. See [`Leases::lease`].
    ///
    /// # Panics
    /// When the name has more than 64 bytes, which is a mistake in the program.
    pub fn lease(&self, name: &'static str) -> Lease {
        self.leases.lease(name)
    }

    /// Waits until everything that any node acknowledged before this call is applied here. Costs a commit, shared with all
    /// others of its time, or nothing when no other node shares the log.
    ///
    /// # Errors
    /// [`Refused`] when the log does not answer, or has no room.
    pub async fn barrier(&self) -> Result<(), Refused> {
        if !self.is_shared() {
            return Ok(());
        }
        self.request(Request::Barrier).await?
    }

    /// Returns the digest of the machines' states, equal on all nodes that have applied the same entries. `None` in memory.
    /// O(state), while nothing is committed: for tests and diagnosis.
    ///
    /// # Errors
    /// [`Refused`] when the node is stopping, or the log does not answer.
    pub async fn digest(&self) -> Result<Option<Digest>, Refused> {
        if self.shared.in_memory().is_some() {
            return Ok(None);
        }
        let (position, entries, digest) = self.request(Request::Digest).await?;
        Ok(Some(Digest { position, entries, digest }))
    }

    /// Waits until the log has failed, and returns why. The node rejects everything from then on. Start another one in its
    /// place if it merely fell behind ([`Fatal::is_behind`]), or end the process.
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

    /// Rejects further proposals, commits and answers those it has, and writes a last snapshot.
    ///
    /// # Errors
    /// Why the log had failed, if it had.
    pub async fn stop(&self) -> Result<(), Arc<Fatal>> {
        self.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread has been reported by itself.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            drop(joined.await);
        }
        let failed = self.failed.borrow().clone();
        failed.map_or(Ok(()), Err)
    }

    fn close(&self) {
        self.shared.queue.close(Refused::Stopping);
        if let Some(memory) = self.shared.in_memory() {
            memory.stop();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}
