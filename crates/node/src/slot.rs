//! The slot of a machine on a node: the machine behind its lock, the events kept for watchers, and its tap.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::machine::{Machine, Malformed, Timestamp, decode, encode};
use tokio::sync::Notify;

/// The bounds on the events kept for watchers of one machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// The last events of a machine, each with the number of the entry that caused it.
#[derive(Debug)]
struct Kept<E> {
    /// Oldest first. The oldest is evicted at the bounds.
    events: VecDeque<(u64, E)>,
    /// The memory of the events, by [`Machine::event_bytes`].
    bytes: usize,
    bounds: Bounds,
    /// All events after this entry are kept.
    complete_after: u64,
}

impl<E> Kept<E> {
    /// Returns the entry of the newest event.
    fn newest(&self) -> u64 {
        self.events.back().map_or(self.complete_after, |(entry, _)| *entry)
    }
}

/// Applies the commands of a machine instead of the node, and takes the events as they occur. It is for a machine with
/// more events than can be kept, none of which may be missed.
///
/// The law: both methods change the machine exactly as [`Machine::apply`] and [`Machine::tick`] do, and return the same.
/// They are called under the machine's lock, and every proposer and reader of the machine waits meanwhile. So they neither
/// block nor call the machine's [`Handle`](crate::Handle).
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

    /// Returns whether this node may log a tick for the deadline `due`. A tap that says no when the deadline is another
    /// node's business, or when this side has not yet taken in what came in time, makes the node wait: it asks again after
    /// the next command and on [`Handle::resume_ticks`](crate::Handle::resume_ticks). Ticks that are in the log already are
    /// applied whatever this says.
    ///
    /// The thread that owns the log calls it under the machine's lock: it reads values, it makes no system call.
    fn may_tick(&self, machine: &M, due: Timestamp) -> bool {
        let _ = (machine, due);
        true
    }
}

/// When a [`Tap`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// For a new entry: its events are to be delivered.
    Now,
    /// During recovery: the events of the entry were delivered by an earlier process.
    Again,
}

/// What the lock of a slot protects.
struct State<M: Machine> {
    machine: M,
    kept: Kept<M::Event>,
    /// Takes the events instead of `kept`.
    tap: Option<Box<dyn Tap<M>>>,
    when: When,
    /// Whether deadlines are ticked. Those of a tapped machine are not before its adapter is ready for the events.
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
    /// The number of the machine in the entries: 1 to 127, never used for another machine.
    id: u8,
    name: &'static str,
    state: Mutex<State<M>>,
    /// Wakes watchers when events were kept. Each watcher finds out by itself what is new to it.
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

    /// Locks the machine. A machine whose apply has panicked may be half changed, so the process ends then.
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
    /// Decodes a command from the front of `bytes` and applies it. Watchers are woken by [`Erased::notify_watchers`], once
    /// for many commands.
    fn apply_stored(&self, at: Timestamp, entry: u64, bytes: &mut &[u8]) -> Result<(), Malformed>;
    /// Ticks the machine. `stamp` returns the time and the number of the entry. It is called under the lock, so that
    /// numbers reach the machine in their order.
    fn tick(&self, stamp: &mut dyn FnMut() -> (Timestamp, u64));
    /// Returns the deadline that the node is to tick, if there is one.
    fn next_deadline(&self) -> Option<Timestamp>;
    /// Appends the state. Returns how many bytes of it are kept events.
    fn snapshot(&self, out: &mut Vec<u8>) -> usize;
    fn restore(&self, bytes: &[u8]) -> Result<(), Malformed>;
    /// Declares that events up to this entry are not kept.
    fn begin_after(&self, entry: u64);
    fn notify_watchers(&self);
    /// Ends recovery: entries are new from here on.
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
        let due = state.machine.next_deadline().filter(|_| state.ticking)?;
        let may_tick = state.tap.as_ref().is_none_or(|tap| tap.may_tick(&state.machine, due));
        may_tick.then_some(due)
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

    fn notify_watchers(&self) {
        self.changed.notify_waiters();
    }

    fn begin_now(&self) {
        self.lock().when = When::Now;
    }
}

/// How many commands are applied under one lock. Readers get a turn in between.
const APPLY_SLICE: usize = 1024;

impl<M: Machine> Slot<M> {
    pub(crate) const fn machine_id(&self) -> u8 {
        self.id
    }

    /// Applies one command and wakes the watchers. `stamp` returns the time and the number of the entry. It is called under
    /// the lock, so that numbers reach the machine in their order.
    pub(crate) fn apply_one(
        &self,
        command: M::Command,
        stamp: impl FnOnce() -> (Timestamp, u64),
    ) -> M::Reply {
        let mut state = self.lock();
        let (at, entry) = stamp();
        let reply = state.apply(at, entry, command);
        drop(state);
        self.changed.notify_waiters();
        reply
    }

    /// Applies commands a slice at a time, and wakes the watchers at the end. `stamp` is given how many entries it is for,
    /// and returns the time and the number of the first. It is called under the lock.
    pub(crate) fn apply_all(
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
        self.changed.notify_waiters();
        replies
    }

    /// Has deadlines ticked from here on.
    pub(crate) fn begin_ticking(&self) {
        self.lock().ticking = true;
    }

    /// Reads the machine under its lock.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&M) -> R) -> R {
        read(&self.lock().machine)
    }
}

/// What a watcher receives.
#[derive(Debug, PartialEq, Eq)]
pub enum Watched<E> {
    /// The events since the last call, oldest first, each with the number of its entry.
    Events(Vec<(u64, E)>),
    /// More events occurred than are kept. The watcher resumes after the entry given here.
    Lagged(u64),
}

/// Follows the events of one machine. It costs nothing while there are none, and a slow watcher delays nobody: it misses
/// events, and [`Watched::Lagged`] says so.
pub struct Watcher<M: Machine> {
    slot: Arc<Slot<M>>,
    /// The entry up to which it has seen the events.
    after: u64,
}

impl<M: Machine> fmt::Debug for Watcher<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("machine", &self.slot.name)
            .field("after", &self.after)
            .finish()
    }
}

impl<M: Machine> Watcher<M> {
    /// Watches the events after entry `after`, or from now on.
    pub(crate) fn new(slot: Arc<Slot<M>>, after: Option<u64>) -> Self {
        let after = after.unwrap_or_else(|| slot.lock().kept.newest());
        Self { slot, after }
    }

    /// Returns the entry up to which it has seen the events.
    pub const fn after(&self) -> u64 {
        self.after
    }

    /// Waits for events and returns at most `events_max` of them, or a few more: the events of one entry stay together.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self, events_max: usize) -> Watched<M::Event> {
        loop {
            let slot = Arc::clone(&self.slot);
            let mut changed = std::pin::pin!(slot.changed.notified());
            changed.as_mut().enable();
            if let Some(watched) = self.poll(events_max) {
                return watched;
            }
            changed.await;
        }
    }

    /// Returns what is new, if anything is.
    fn poll(&mut self, events_max: usize) -> Option<Watched<M::Event>> {
        let slot = Arc::clone(&self.slot);
        let state = slot.lock();
        let kept = &state.kept;
        let newest = kept.newest();
        if self.after < kept.complete_after || self.after > newest {
            self.after = newest;
            return Some(Watched::Lagged(newest));
        }
        let first = kept.events.partition_point(|(entry, _)| *entry <= self.after);
        let mut end = first.saturating_add(events_max).min(kept.events.len());
        let entry_of = |place: usize| kept.events.get(place).map(|(entry, _)| *entry);
        // The events of one entry stay together, because a watcher resumes after an entry.
        while end > 0 && end < kept.events.len() && entry_of(end) == entry_of(end - 1) {
            end += 1;
        }
        let events: Vec<_> = kept.events.range(first..end).cloned().collect();
        self.after = events.last()?.0;
        Some(Watched::Events(events))
    }
}
