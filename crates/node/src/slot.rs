//! A place for a machine on a node: the machine behind its lock, the events kept for watchers, and
//! the handle by which the rest of the program proposes, reads and watches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::machine::{Machine, Malformed, Timestamp, decode, encode};
use tokio::sync::{Notify, oneshot};

use crate::node::Shared;
use crate::writer::{Proposal, Request};

/// Why a proposal was not taken. Nothing has changed, unless it is [`Refused::Unknown`] or
/// [`Refused::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The log has no room. Try again when there is.
    #[error("there is no room to store it: {0}")]
    NoRoom(String),
    /// The log does not answer. Try again.
    #[error("the log does not answer: {0}")]
    Silent(String),
    /// The log does not answer. Try again: if it was stored after all, the machines recognise it as
    /// far as what they are asked can be recognised.
    #[error("the log does not answer, and whether it was stored is not known: {0}")]
    Unknown(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The log is broken and the process is about to end: whether the proposal was stored will be
    /// known after a restart. Propose it again then; the machines recognise it.
    #[error("the log has failed: {0}")]
    Failed(String),
}

/// The bounds on the events kept for watchers of one machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// The last events of a machine, each with the number of the entry that caused it.
#[derive(Debug)]
struct Kept<E> {
    events: VecDeque<(u64, E)>,
    /// What they take, as told by [`Machine::event_bytes`].
    bytes: usize,
    bounds: Bounds,
    /// Events after this entry are all still here.
    complete_after: u64,
}

/// Applies the commands of a machine in the node's place, and takes what comes of them there and
/// then: for a machine with more events than can be kept, none of which may be missed.
///
/// The law: each of the two changes the machine exactly as [`Machine::apply`] and
/// [`Machine::tick`] do, and says the same. They are called under the machine's lock, so everybody
/// who proposes to it or reads it waits meanwhile: they neither block nor call the machine's
/// [`Handle`].
pub trait Tap<M: Machine>: Send + 'static {
    /// Applies one command.
    fn apply(
        &mut self,
        machine: &mut M,
        at: Timestamp,
        command: M::Command,
        when: When,
    ) -> M::Reply;

    /// Ticks the machine.
    fn tick(&mut self, machine: &mut M, at: Timestamp, when: When);

    /// Whether this node is to tick a deadline that has come: it may be another node's business, or
    /// too early, for the time in which what would come in time is held up on this side. After a no the
    /// node asks again at the next command, or at [`Handle::begin_ticking`]. A tick that is being logged
    /// still comes, and so does what another node that shares the log ticks.
    fn may_tick(&self, machine: &M) -> bool {
        let _ = machine;
        true
    }
}

/// When a [`Tap`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// What comes of it is to be delivered.
    Now,
    /// It is read again on start: whoever it was for was told in an earlier life of the process.
    Again,
}

/// What the lock of a slot protects.
struct State<M: Machine> {
    machine: M,
    kept: Kept<M::Event>,
    /// Takes the events in the place of `kept`.
    tap: Option<Box<dyn Tap<M>>>,
    when: When,
    /// Whether the machine's deadlines count yet.
    ticking: bool,
}

impl<M: Machine> State<M> {
    fn keep(kept: &mut Kept<M::Event>, entry: u64, event: M::Event) {
        kept.bytes += M::event_bytes(&event);
        kept.events.push_back((entry, event));
        while kept.events.len() > kept.bounds.events
            || (kept.bytes > kept.bounds.bytes && kept.events.len() > 1)
        {
            if let Some((entry, event)) = kept.events.pop_front() {
                kept.bytes -= M::event_bytes(&event);
                kept.complete_after = entry;
            }
        }
    }

    fn apply(&mut self, at: Timestamp, entry: u64, command: M::Command) -> M::Reply {
        let Self { machine, kept, tap, when, .. } = self;
        match tap {
            Some(tap) => tap.apply(machine, at, command, *when),
            None => machine.apply(at, command, &mut |event| Self::keep(kept, entry, event)),
        }
    }

    fn tick(&mut self, at: Timestamp, entry: u64) {
        let Self { machine, kept, tap, when, .. } = self;
        match tap {
            Some(tap) => tap.tick(machine, at, *when),
            None => machine.tick(at, &mut |event| Self::keep(kept, entry, event)),
        }
    }
}

/// A machine on a node.
pub(crate) struct Slot<M: Machine> {
    /// Its number in the entries. Never 0, never above 127, never given to another machine.
    id: u8,
    name: &'static str,
    state: Mutex<State<M>>,
    /// Told when events were kept. Watchers look for themselves what they missed.
    changed: Notify,
}

impl<M: Machine> Slot<M> {
    pub(crate) fn new(
        id: u8,
        name: &'static str,
        machine: M,
        tap: Option<Box<dyn Tap<M>>>,
        bounds: Bounds,
    ) -> Self {
        let kept = Kept { events: VecDeque::new(), bytes: 0, bounds, complete_after: 0 };
        let ticking = tap.is_none();
        let state = State { machine, kept, tap, when: When::Again, ticking };
        Self { id, name, state: Mutex::new(state), changed: Notify::new() }
    }

    /// A machine whose apply has panicked is never used again: the process ends.
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(|_: PoisonError<_>| {
            tracing::error!(machine = self.name, "a machine has panicked; ending the process");
            std::process::abort()
        })
    }
}

/// What the engine needs of a slot, whatever its machine.
pub(crate) trait Erased: Send + Sync {
    fn id(&self) -> u8;
    fn name(&self) -> &'static str;
    fn apply_stored(&self, at: Timestamp, entry: u64, bytes: &mut &[u8]) -> Result<(), Malformed>;
    /// Ticks the machine. `stamp` gives the time and the number of the entry; it is asked under the
    /// lock.
    fn tick(&self, stamp: &mut dyn FnMut() -> (Timestamp, u64));
    fn next_deadline(&self) -> Option<Timestamp>;
    /// Appends its state, and says how much of it is kept events.
    fn snapshot(&self, out: &mut Vec<u8>) -> usize;
    fn restore(&self, bytes: &[u8]) -> Result<(), Malformed>;
    /// Events up to this entry were never here.
    fn begin_after(&self, entry: u64);
    /// Wakes the watchers, after [`Erased::apply_stored`].
    fn tell_watchers(&self);
    /// Everything stored is applied: what comes from here on is new.
    fn begin_now(&self);
}

impl<M: Machine> Erased for Slot<M> {
    fn id(&self) -> u8 {
        self.id
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn apply_stored(&self, at: Timestamp, entry: u64, bytes: &mut &[u8]) -> Result<(), Malformed> {
        let command = decode("a command", bytes)?;
        self.lock().apply(at, entry, command);
        Ok(())
    }

    fn tick(&self, stamp: &mut dyn FnMut() -> (Timestamp, u64)) {
        let mut state = self.lock();
        let (at, entry) = stamp();
        state.tick(at, entry);
        drop(state);
        self.changed.notify_waiters();
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let state = self.lock();
        let may_tick = || state.tap.as_ref().is_none_or(|tap| tap.may_tick(&state.machine));
        state.machine.next_deadline().filter(|_| state.ticking && may_tick())
    }

    fn snapshot(&self, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        let state = self.lock();
        encode(&(state.kept.complete_after, state.kept.events.len() as u64), out);
        for event in &state.kept.events {
            encode(event, out);
        }
        let kept = out.len() - before;
        state.machine.snapshot(out);
        kept
    }

    fn restore(&self, mut bytes: &[u8]) -> Result<(), Malformed> {
        let mut state = self.lock();
        let (complete_after, count): (u64, u64) = decode("kept events", &mut bytes)?;
        state.kept.events.clear();
        state.kept.bytes = 0;
        state.kept.complete_after = complete_after;
        for _ in 0..count {
            let (entry, event) = decode("kept events", &mut bytes)?;
            State::<M>::keep(&mut state.kept, entry, event);
        }
        state.machine = M::restore(bytes)?;
        Ok(())
    }

    fn begin_after(&self, entry: u64) {
        self.lock().kept.complete_after = entry;
    }

    fn tell_watchers(&self) {
        self.changed.notify_waiters();
    }

    fn begin_now(&self) {
        self.lock().when = When::Now;
    }
}

/// A proposal was dropped on its way, by a thread that is coming down: it may stand in the log. What
/// is known to have changed nothing is refused, never dropped.
fn unanswered() -> Refused {
    Refused::Failed("its thread has panicked".to_owned())
}

/// Where the reply to a proposal will be.
pub(crate) type Awaited<R> = oneshot::Receiver<Result<R, Refused>>;

/// Proposes to, reads and watches one machine. Cheap to clone.
pub struct Handle<M: Machine> {
    slot: Arc<Slot<M>>,
    shared: Arc<Shared>,
}

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { slot: Arc::clone(&self.slot), shared: Arc::clone(&self.shared) }
    }
}

impl<M: Machine> Handle<M> {
    pub(crate) fn new(slot: Arc<Slot<M>>, shared: Arc<Shared>) -> Self {
        Self { slot, shared }
    }

    /// Has one command logged and applied. In memory that happens here and now; over a log it
    /// waits for the commit that the command shares with all others of its time.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed, or after [`Refused::Failed`] that is not known.
    pub async fn propose(&self, command: M::Command) -> Result<M::Reply, Refused> {
        if let Some(memory) = self.shared.in_memory() {
            memory.open()?;
            let mut state = self.slot.lock();
            let (at, entry) = memory.stamp(1);
            let reply = state.apply(at, entry, command);
            drop(state);
            self.after_direct();
            return Ok(reply);
        }
        let (proposal, reply) = self.proposal(command);
        self.shared.queue.push(proposal)?;
        reply.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// A command on its way, and where its reply will be.
    pub(crate) fn proposal(&self, command: M::Command) -> (Box<dyn Proposal>, Awaited<M::Reply>) {
        let (reply, receiver) = oneshot::channel();
        let (slot, stage) = (Arc::clone(&self.slot), Stage::Waiting(command));
        (Box::new(Single { slot, stage, reply: Some(reply) }), receiver)
    }

    /// Has all commands logged in one commit and applied; the replies are in their order. Readers
    /// may see the first of them applied before the last.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed, or after [`Refused::Failed`] that is not known.
    pub async fn propose_all(&self, commands: Vec<M::Command>) -> Result<Vec<M::Reply>, Refused> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(memory) = self.shared.in_memory() {
            memory.open()?;
            let replies = self.slot.apply_all(commands, |entries| memory.stamp(entries));
            self.after_direct();
            return Ok(replies);
        }
        let (proposal, replies) = self.proposals(commands);
        self.shared.queue.push(proposal)?;
        replies.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Commands on their way together, and where their replies will be.
    pub(crate) fn proposals(
        &self,
        commands: Vec<M::Command>,
    ) -> (Box<dyn Proposal>, Awaited<Vec<M::Reply>>) {
        let (reply, receiver) = oneshot::channel();
        let (slot, entries) = (Arc::clone(&self.slot), commands.len() as u64);
        (
            Box::new(Bulk { slot, entries, stage: Stage::Waiting(commands), reply: Some(reply) }),
            receiver,
        )
    }

    fn after_direct(&self) {
        self.slot.changed.notify_waiters();
        self.shared.deadline_may_have_moved(|| Erased::next_deadline(&*self.slot));
    }

    /// From here on the deadlines of a machine with a [`Tap`] count: until those who receive what
    /// comes of a tick are there, nothing that is due is done. Without a tap they always count.
    /// Called again when a tap that has said no ([`Tap::may_tick`]) may say something else.
    pub fn begin_ticking(&self) {
        self.slot.lock().ticking = true;
        let Some(next) = Erased::next_deadline(&*self.slot) else { return };
        self.shared.deadline_may_have_moved(|| Some(next));
        // A node that is stopping ticks no more.
        drop(self.shared.queue.request(Request::Look));
    }

    /// Looks at the machine. It stands still meanwhile, and so does everybody who proposes to it:
    /// look, copy what is needed, and leave.
    pub fn read<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(&self.slot.lock().machine)
    }

    /// Watches the machine's events: those after entry `after`, or from now on.
    pub fn watch(&self, after: Option<u64>) -> Watcher<M> {
        let after = after.unwrap_or_else(|| {
            let state = self.slot.lock();
            state.kept.events.back().map_or(state.kept.complete_after, |(entry, _)| *entry)
        });
        Watcher { slot: Arc::clone(&self.slot), after }
    }

    /// Whether others share the log: what they append is applied here a little later.
    pub fn is_shared(&self) -> bool {
        self.shared.is_shared()
    }

    /// Names this history of entries: equal for all runs over one log, drawn anew for each run in
    /// memory. Versions of two histories say nothing about each other.
    pub fn history(&self) -> u64 {
        self.shared.history()
    }
}

/// How many commands are applied before readers get a turn.
const APPLY_SLICE: usize = 1024;

impl<M: Machine> Slot<M> {
    /// Applies commands a slice at a time. `stamp` gives the time of so many entries and the number
    /// of the first; it is asked under the lock, so that numbers reach the machine in their order.
    fn apply_all(
        &self,
        commands: Vec<M::Command>,
        mut stamp: impl FnMut(u64) -> (Timestamp, u64),
    ) -> Vec<M::Reply> {
        let mut replies = Vec::with_capacity(commands.len());
        let mut commands = commands.into_iter();
        while commands.len() > 0 {
            let mut state = self.lock();
            let slice = commands.len().min(APPLY_SLICE);
            let (at, first) = stamp(slice as u64);
            let slice = (first..).zip(commands.by_ref().take(slice));
            replies.extend(slice.map(|(entry, command)| state.apply(at, entry, command)));
        }
        replies
    }
}

/// What a watcher is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Watched<E> {
    /// What has happened since, oldest first, each with the number of its entry.
    Events(Vec<(u64, E)>),
    /// More has happened than is kept. The watcher goes on behind the entry given here.
    Lagged(u64),
}

/// Follows the events of one machine. Costs nothing while nothing happens, and holds nothing up
/// when it is slow: it is told that it lagged.
pub struct Watcher<M: Machine> {
    slot: Arc<Slot<M>>,
    /// The entry whose events it has seen.
    after: u64,
}

impl<M: Machine> Watcher<M> {
    /// The entry behind which it goes on.
    pub const fn after(&self) -> u64 {
        self.after
    }

    /// Waits for events and takes at most `events_max` of them. Nothing is lost when the future is
    /// dropped.
    pub async fn next(&mut self, events_max: usize) -> Watched<M::Event> {
        loop {
            let slot = Arc::clone(&self.slot);
            let mut changed = std::pin::pin!(slot.changed.notified());
            changed.as_mut().enable();
            if let Some(watched) = self.look(events_max) {
                return watched;
            }
            changed.await;
        }
    }

    fn look(&mut self, events_max: usize) -> Option<Watched<M::Event>> {
        let slot = Arc::clone(&self.slot);
        let state = slot.lock();
        let kept = &state.kept;
        let newest = kept.events.back().map_or(kept.complete_after, |(entry, _)| *entry);
        if self.after < kept.complete_after || self.after > newest {
            self.after = newest;
            return Some(Watched::Lagged(newest));
        }
        let first = kept.events.partition_point(|(entry, _)| *entry <= self.after);
        let mut end = first.saturating_add(events_max).min(kept.events.len());
        let entry_of = |place: usize| kept.events.get(place).map(|(entry, _)| *entry);
        // The events of one entry are never torn apart: a watcher resumes behind entries.
        while end > 0 && end < kept.events.len() && entry_of(end) == entry_of(end - 1) {
            end += 1;
        }
        let events: Vec<_> = kept.events.range(first..end).cloned().collect();
        self.after = events.last()?.0;
        Some(Watched::Events(events))
    }
}

/// What a proposal of one command or of many becomes.
enum Stage<C, R> {
    /// It waits for its commit.
    Waiting(C),
    /// It has been applied.
    Applied(R),
}

/// One command on its way.
struct Single<M: Machine> {
    slot: Arc<Slot<M>>,
    stage: Stage<M::Command, Option<M::Reply>>,
    /// Gone when it was answered early.
    reply: Option<oneshot::Sender<Result<M::Reply, Refused>>>,
}

impl<M: Machine> Proposal for Single<M> {
    fn machine(&self) -> u8 {
        self.slot.id
    }

    fn entries(&self) -> u64 {
        1
    }

    fn encode(&self, out: &mut Vec<u8>) {
        if let Stage::Waiting(command) = &self.stage {
            out.push(self.slot.id);
            encode(command, out);
        }
    }

    fn apply(&mut self, at: Timestamp, entry: u64) {
        if let Stage::Waiting(command) = std::mem::replace(&mut self.stage, Stage::Applied(None)) {
            let reply = self.slot.lock().apply(at, entry, command);
            self.stage = Stage::Applied(Some(reply));
            self.slot.changed.notify_waiters();
        }
    }

    fn answer(self: Box<Self>) {
        // The one who asked may have gone away; the command is applied all the same.
        if let (Stage::Applied(Some(reply)), Some(to)) = (self.stage, self.reply) {
            drop(to.send(Ok(reply)));
        }
    }

    fn refuse(&mut self, why: &Refused) {
        if let Some(to) = self.reply.take() {
            drop(to.send(Err(why.clone())));
        }
    }
}

/// Commands on their way together.
struct Bulk<M: Machine> {
    slot: Arc<Slot<M>>,
    entries: u64,
    stage: Stage<Vec<M::Command>, Vec<M::Reply>>,
    /// Gone when it was answered early.
    reply: Option<oneshot::Sender<Result<Vec<M::Reply>, Refused>>>,
}

impl<M: Machine> Proposal for Bulk<M> {
    fn machine(&self) -> u8 {
        self.slot.id
    }

    fn entries(&self) -> u64 {
        self.entries
    }

    fn encode(&self, out: &mut Vec<u8>) {
        if let Stage::Waiting(commands) = &self.stage {
            for command in commands {
                out.push(self.slot.id);
                encode(command, out);
            }
        }
    }

    fn apply(&mut self, at: Timestamp, entry: u64) {
        let applied = Stage::Applied(Vec::new());
        if let Stage::Waiting(commands) = std::mem::replace(&mut self.stage, applied) {
            let mut next = entry;
            let replies = self.slot.apply_all(commands, |entries| {
                let first = next;
                next += entries;
                (at, first)
            });
            self.stage = Stage::Applied(replies);
            self.slot.changed.notify_waiters();
        }
    }

    fn answer(self: Box<Self>) {
        if let (Stage::Applied(replies), Some(to)) = (self.stage, self.reply) {
            drop(to.send(Ok(replies)));
        }
    }

    fn refuse(&mut self, why: &Refused) {
        if let Some(to) = self.reply.take() {
            drop(to.send(Err(why.clone())));
        }
    }
}
