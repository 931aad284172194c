//! The handle of a machine: how the rest of the program proposes to it, reads it and watches it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::machine::{Machine, Timestamp, encode};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::proposal::{Awaited, Proposal, Refused};
use crate::queue::Request;
use crate::shared::Shared;
use crate::slot::{Erased as _, Slot, Watcher};

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

impl<M: Machine> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("machine", &self.slot.name()).finish_non_exhaustive()
    }
}

/// How [`Handle::propose_until_stored`] deals with refusals that pass.
pub struct Retry<'a> {
    /// The pause between two tries.
    pub pause: Duration,
    /// Whether to wait for room. In a log that nodes share, checkpoints make room, so it is always waited for there.
    pub wait_for_room: bool,
    /// Whether to propose again when the outcome is unknown. The command may then be stored twice, so it must be
    /// idempotent. Without it, [`Refused::Unknown`] is returned: the node goes on appending the proposal by itself, until
    /// it is stored or the process ends.
    pub idempotent: bool,
    /// Called with the reason before each pause.
    pub on_wait: &'a (dyn Fn(&Refused) + Sync),
}

impl fmt::Debug for Retry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("pause", &self.pause)
            .field("wait_for_room", &self.wait_for_room)
            .field("idempotent", &self.idempotent)
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Handle<M> {
    pub(crate) const fn new(slot: Arc<Slot<M>>, shared: Arc<Shared>) -> Self {
        Self { slot, shared }
    }

    /// Logs and applies one command. In memory the caller applies it; over a log it waits for the commit that the command
    /// shares with all others of its time.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed, or after [`Refused::Unknown`] and [`Refused::Failed`] that is not known.
    pub async fn propose(&self, command: M::Command) -> Result<M::Reply, Refused> {
        if let Some(memory) = self.shared.in_memory() {
            memory.open()?;
            let reply = self.slot.apply_one(command, || memory.stamp(1));
            memory.wake_for(self.slot.next_deadline());
            return Ok(reply);
        }
        self.queued(self.proposal(command)).await
    }

    /// Logs all commands in one commit and applies them. The replies are in their order. Readers may see the first commands
    /// applied before the last.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed, or after [`Refused::Unknown`] and [`Refused::Failed`] that is not known.
    pub async fn propose_all(&self, commands: Vec<M::Command>) -> Result<Vec<M::Reply>, Refused> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(memory) = self.shared.in_memory() {
            memory.open()?;
            let replies = self.slot.apply_all(commands, |entries| memory.stamp(entries));
            memory.wake_for(self.slot.next_deadline());
            return Ok(replies);
        }
        self.queued(self.proposals(commands)).await
    }

    /// Proposes a command until it is stored and applied, through everything that passes by itself.
    ///
    /// # Errors
    /// [`Refused`] when no further try would help: the node is stopping or has failed; there is no room and `retry` does
    /// not wait for it; the outcome is unknown and the command is not idempotent.
    pub async fn propose_until_stored(
        &self,
        command: M::Command,
        retry: &Retry<'_>,
    ) -> Result<M::Reply, Refused>
    where
        M::Command: Clone,
    {
        if self.shared.in_memory().is_some() {
            // Nothing there passes by itself, and large commands are not copied.
            return self.propose(command).await;
        }
        loop {
            let refused = match self.propose(command.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(refused) => refused,
            };
            let passes = match refused {
                Refused::NoRoom(_) => retry.wait_for_room || self.is_shared(),
                Refused::Silent(_) => true,
                Refused::Unknown(_) => retry.idempotent,
                Refused::Stopping | Refused::Failed(_) => false,
            };
            if !passes {
                return Err(refused);
            }
            (retry.on_wait)(&refused);
            tokio::time::sleep(retry.pause).await;
        }
    }

    async fn queued<R>(
        &self,
        (proposal, reply): (Box<dyn Proposal>, Awaited<R>),
    ) -> Result<R, Refused> {
        self.shared.queue.push(proposal)?;
        // What is known to have changed nothing is refused. A proposal is dropped without a word only by a thread that is
        // coming down, and may be in the log then.
        let dropped = |_| Err(Refused::Failed("its thread has panicked".to_owned()));
        reply.await.unwrap_or_else(dropped)
    }

    /// Makes a proposal of one command.
    pub(crate) fn proposal(&self, command: M::Command) -> (Box<dyn Proposal>, Awaited<M::Reply>) {
        self.envelope(One(command))
    }

    /// Makes a proposal of commands that stay together.
    pub(crate) fn proposals(
        &self,
        commands: Vec<M::Command>,
    ) -> (Box<dyn Proposal>, Awaited<Vec<M::Reply>>) {
        self.envelope(Many(commands))
    }

    fn envelope<L: Load<M>>(&self, load: L) -> (Box<dyn Proposal>, Awaited<L::Replies>) {
        let (reply, receiver) = oneshot::channel();
        let slot = Arc::clone(&self.slot);
        let entries = load.entries();
        let stage = Stage::Waiting(load);
        (Box::new(Envelope { slot, entries, stage, reply: Some(reply) }), receiver)
    }

    /// Has the deadlines of a machine with a [`Tap`](crate::Tap) ticked from here on. Without a tap they always are. Called
    /// again, it makes the node ask [`Tap::may_tick`](crate::Tap::may_tick) again.
    pub fn resume_ticks(&self) {
        self.slot.begin_ticking();
        let Some(next) = self.slot.next_deadline() else { return };
        match self.shared.in_memory() {
            Some(memory) => memory.wake_for(Some(next)),
            // A node that is stopping ticks no more.
            None => drop(self.shared.queue.request(Request::CheckDeadlines)),
        }
    }

    /// Reads the machine under its lock. Proposers and other readers of the machine wait meanwhile, so copy what is needed
    /// and return.
    pub fn read<R>(&self, read: impl FnOnce(&M) -> R) -> R {
        self.slot.read(read)
    }

    /// Watches the machine's events: those after entry `after`, or from now on.
    pub fn watch(&self, after: Option<u64>) -> Watcher<M> {
        Watcher::new(Arc::clone(&self.slot), after)
    }

    /// Returns whether other nodes share the log. What they append is applied here a little later.
    pub fn is_shared(&self) -> bool {
        self.shared.is_shared()
    }

    /// Returns the node's clock.
    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// Returns the name of this history of entries. It is the same for all runs over one log, and drawn anew for each run
    /// in memory. Versions of two histories cannot be compared.
    pub fn history(&self) -> u64 {
        self.shared.history()
    }
}

/// The commands of one proposal.
trait Load<M: Machine>: Send + 'static {
    type Replies: Send + 'static;
    fn entries(&self) -> u64;
    fn encode(&self, machine: u8, out: &mut Vec<u8>);
    fn apply(self, slot: &Slot<M>, at: Timestamp, entry: u64) -> Self::Replies;
}

struct One<C>(C);

impl<M: Machine> Load<M> for One<M::Command> {
    type Replies = M::Reply;

    fn entries(&self) -> u64 {
        1
    }

    fn encode(&self, machine: u8, out: &mut Vec<u8>) {
        out.push(machine);
        encode(&self.0, out);
    }

    fn apply(self, slot: &Slot<M>, at: Timestamp, entry: u64) -> M::Reply {
        slot.apply_one(self.0, || (at, entry))
    }
}

struct Many<C>(Vec<C>);

impl<M: Machine> Load<M> for Many<M::Command> {
    type Replies = Vec<M::Reply>;

    fn entries(&self) -> u64 {
        self.0.len() as u64
    }

    fn encode(&self, machine: u8, out: &mut Vec<u8>) {
        for command in &self.0 {
            out.push(machine);
            encode(command, out);
        }
    }

    fn apply(self, slot: &Slot<M>, at: Timestamp, entry: u64) -> Vec<M::Reply> {
        let mut next = entry;
        slot.apply_all(self.0, |entries| {
            let first = next;
            next += entries;
            (at, first)
        })
    }
}

/// What a proposal holds.
enum Stage<L, R> {
    /// Its commands wait for their commit.
    Waiting(L),
    /// They are being applied, or their replies were sent.
    Spent,
    /// They were applied.
    Applied(R),
}

/// Commands on their way to the log, and the sender of their replies.
struct Envelope<M: Machine, L: Load<M>> {
    slot: Arc<Slot<M>>,
    entries: u64,
    stage: Stage<L, L::Replies>,
    /// `None` when the proposal was refused before its commit was done.
    reply: Option<oneshot::Sender<Result<L::Replies, Refused>>>,
}

impl<M: Machine, L: Load<M>> Proposal for Envelope<M, L> {
    fn machine(&self) -> u8 {
        self.slot.machine_id()
    }

    fn entries(&self) -> u64 {
        self.entries
    }

    fn encode(&self, out: &mut Vec<u8>) {
        if let Stage::Waiting(load) = &self.stage {
            load.encode(self.machine(), out);
        }
    }

    fn apply(&mut self, at: Timestamp, entry: u64) {
        if let Stage::Waiting(load) = std::mem::replace(&mut self.stage, Stage::Spent) {
            self.stage = Stage::Applied(load.apply(&self.slot, at, entry));
        }
    }

    fn answer(self: Box<Self>) {
        // The proposer may have gone away. The commands are applied all the same.
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
