//! Commits, applies, takes snapshots, recovers. The engine has no thread and reads only the clock that it is given: the
//! writer drives it, and so does the simulation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::machine::{Malformed, Timestamp};
use tidings_log::{AppendError, Batch, Log, Position, Snapshot};

use crate::clock::Clock;
use crate::entry::{Header, LEASES, TICK};
use crate::proposal::{Proposal, Refused};
use crate::slot::Erased;
use crate::snapshot::{Applied, Taken};
use crate::stats::Stats;

/// How much of a batch's memory is kept for the next one.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
/// How much of a snapshot is written between two commits.
const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// How much of the log is read at once during recovery.
const READ_BYTES: usize = 4 << 20;
/// How often an append of unknown outcome is tried before the process ends. To a log that nodes share it is tried until it
/// succeeds: servers that are away come back, a disk that fails does not.
const APPEND_TRIES_MAX: u32 = 100;
/// After this long without an answer the log counts as stalled: pending proposals fail with [`Refused::Unknown`], new ones
/// are rejected.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// While another node is known to tick, this node ticks this much later, so that ticks are not duplicated.
const TICK_BEHIND_MS: u64 = 300;
/// Another node that has not ticked for this long may be gone.
const TICKED_LATELY_MS: u64 = 3_000;
/// How often a recovery reports its progress. A shorter one reports nothing.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How far a recovery is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Batches replayed.
    pub done: u64,
    /// Batches to replay in all.
    pub total: u64,
    /// Commands replayed.
    pub entries: u64,
    /// How long the recovery has taken.
    pub elapsed: Duration,
}

/// Called with the reason when the log has stalled, and with `None` when it answers again. Returns whether to go on trying.
type Stalled = Box<dyn FnMut(Option<&str>) -> bool + Send>;

/// A log, the machines over it, and how far they have come.
pub(crate) struct Engine {
    log: Box<dyn Log>,
    slots: Vec<Arc<dyn Erased>>,
    applied: Applied,
    /// The number of the last batch that this node has appended.
    number: u64,
    /// The batch being built. It is kept for its memory.
    buffer: Vec<u8>,
    /// Batches read and not applied yet. Without them a log that reads ahead would have to go back.
    read_ahead: Vec<Batch>,
    /// How many bytes have been appended since the last snapshot was taken.
    since_snapshot_bytes: u64,
    /// The snapshot being written: the position it covers, its bytes, the next chunk.
    writing: Option<(Position, Vec<u8>, u32)>,
    /// The position that the newest complete snapshot covers.
    covered: u64,
    /// Batches before this position are being truncated.
    truncate_before: Option<Position>,
    /// Set when other nodes share the log.
    sharing: Option<Sharing>,
    on_stall: Stalled,
    clock: Arc<dyn Clock>,
    stats: Stats,
}

impl Engine {
    /// Restores the last snapshot and applies what the log holds after it.
    pub(crate) fn recover(
        mut log: Box<dyn Log>,
        slots: Vec<Arc<dyn Erased>>,
        clock: Arc<dyn Clock>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Self, Fatal> {
        let number = log.last_number();
        let snapshot = log.read_snapshot()?;
        let sharing = log.is_shared().then(|| Sharing::new(log.origin().0));
        let mut engine = Self {
            log,
            slots,
            applied: Applied::default(),
            number,
            buffer: Vec::new(),
            read_ahead: Vec::new(),
            since_snapshot_bytes: 0,
            writing: None,
            covered: 0,
            truncate_before: None,
            sharing,
            on_stall: Box::new(|_| true),
            clock,
            stats: Stats::default(),
        };
        if let Some(snapshot) = snapshot {
            engine.restore(&snapshot)?;
        }
        while let Err(why) = engine.replay(&mut progress) {
            // Another node may truncate what is being read, once it has shared a newer snapshot.
            let newer = if why.is_behind() { engine.log.read_snapshot()? } else { None };
            match newer.filter(|snapshot| snapshot.position.0 > engine.applied.position) {
                Some(snapshot) => engine.restore(&snapshot)?,
                None => return Err(why),
            }
        }
        // Another node may have truncated this node's last batch. The snapshot knows its number then.
        let applied = engine.applied.origins.get(&engine.origin()).copied().unwrap_or_default();
        engine.number = engine.number.max(applied);
        Ok(engine)
    }

    /// Ends recovery: entries are new from here on.
    pub(crate) fn begin_now(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.begin_now();
        }
        self.slots.iter().for_each(|slot| slot.begin_now());
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Fatal> {
        let position = snapshot.position;
        self.restore_from(&snapshot.body).map_err(|why| Fatal::Malformed { position, why })
    }

    fn restore_from(&mut self, sealed: &[u8]) -> Result<(), Malformed> {
        let taken = Taken::open(sealed)?;
        let mut states = taken.states.as_slice();
        for (id, length) in taken.machines {
            const WHAT: Malformed = Malformed { what: "the snapshot of a machine" };
            let length = usize::try_from(length).map_err(|_| WHAT)?;
            let (state, rest) = states.split_at_checked(length).ok_or(WHAT)?;
            let slot = self.slots.iter().find(|slot| slot.id() == id);
            slot.ok_or(WHAT)?.restore(state)?;
            states = rest;
        }
        self.applied = taken.applied;
        self.covered = self.applied.position;
        Ok(())
    }

    /// Commits proposals from the front of the queue as one batch, applies them, and moves them to `applied`. When the log
    /// has no room, refuses them and changes nothing.
    pub(crate) fn commit(
        &mut self,
        proposals: &mut VecDeque<Box<dyn Proposal>>,
        applied: &mut Vec<Box<dyn Proposal>>,
        now: Timestamp,
    ) -> Result<(), Fatal> {
        if let Err(why) = self.room_below(COMMANDS_PERCENT_MAX) {
            // A lease holder must be able to renew, or it loses its lease to a full log.
            proposals.retain_mut(|proposal| {
                let stays = proposal.machine() == LEASES;
                if !stays {
                    self.stats.refused += proposal.entries();
                    proposal.refuse(&Refused::NoRoom(why.clone()));
                }
                stays
            });
            if proposals.is_empty() {
                return Ok(());
            }
        }
        let mut count = 0;
        let mut entries = 0;
        let mut body = self.new_body();
        // The commands of one proposal stay together, so a batch can exceed the limit by one proposal.
        let batch_bytes = self.log.batch_bytes();
        for proposal in proposals.iter() {
            proposal.encode(&mut body);
            count += 1;
            entries += proposal.entries();
            if body.len() >= batch_bytes {
                break;
            }
        }
        let header = Header { at: self.applied.at.max(now), entries };
        let outcome = self.append(header, body, UPKEEP_PERCENT_MAX, &mut |why| {
            for proposal in proposals.iter_mut().take(count) {
                proposal.refuse(&Refused::Unknown(why.to_owned()));
            }
        });
        let batch = proposals.drain(..count);
        match outcome {
            Ok(at) => {
                let mut entry = self.applied.entries + 1;
                for mut proposal in batch {
                    proposal.apply(at, entry);
                    entry += proposal.entries();
                    applied.push(proposal);
                }
                self.applied.entries = entry - 1;
                Ok(())
            }
            Err(AppendFailed::Room(why)) => {
                self.stats.refused += entries;
                batch.for_each(|mut proposal| proposal.refuse(&Refused::NoRoom(why.clone())));
                Ok(())
            }
            Err(AppendFailed::Fatal(fatal)) => {
                batch.for_each(|mut proposal| proposal.refuse(&Refused::Failed(fatal.to_string())));
                Err(fatal)
            }
        }
    }

    /// Logs and applies a tick for every machine that is due. Returns false when the log had no room for it. The caller tries
    /// again later then.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Result<bool, Fatal> {
        let at = self.applied.at.max(now);
        let late = Timestamp(at.0.saturating_sub(self.ticks_behind_ms()));
        let due = |slot: &&Arc<dyn Erased>| slot.next_deadline().is_some_and(|due| due <= late);
        let due: Vec<_> = self.slots.iter().filter(due).cloned().collect();
        if due.is_empty() {
            return Ok(true);
        }
        let mut body = self.new_body();
        body.extend(due.iter().map(|slot| slot.id() | TICK));
        let header = Header { at, entries: due.len() as u64 };
        match self.append(header, body, COMMANDS_PERCENT_MAX, &mut |_| {}) {
            Ok(at) => {
                for slot in due {
                    self.applied.entries += 1;
                    slot.tick(&mut || (at, self.applied.entries));
                }
                Ok(true)
            }
            Err(AppendFailed::Room(_)) => Ok(false),
            Err(AppendFailed::Fatal(fatal)) => Err(fatal),
        }
    }

    /// Returns when the earliest deadline of any machine is to be ticked.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let first = self.slots.iter().filter_map(|slot| slot.next_deadline()).min()?;
        Some(Timestamp(first.0.saturating_add(self.ticks_behind_ms())))
    }

    /// Returns an empty batch with room for its header, in the memory of the last one.
    fn new_body(&mut self) -> Vec<u8> {
        let mut body = std::mem::take(&mut self.buffer);
        body.clear();
        // A huge batch must not keep its memory.
        body.shrink_to(BUFFER_BYTES_KEPT);
        body.resize(Header::BYTES, 0);
        body
    }

    /// Appends one batch, and retries while the outcome is unknown. Afterwards everything before the batch is applied and the
    /// batch itself is not. Returns the time at which to apply it: later than the header's when another node, whose clock is
    /// ahead, was faster. Fails when a shared log is filled to `percent_max` or more.
    fn append(
        &mut self,
        header: Header,
        mut body: Vec<u8>,
        percent_max: u8,
        stalled: &mut dyn FnMut(&str),
    ) -> Result<Timestamp, AppendFailed> {
        if let Err(why) = self.room_below(percent_max) {
            self.buffer = body;
            return Err(AppendFailed::Room(why));
        }
        if let Some(place) = body.first_chunk_mut() {
            *place = header.to_bytes();
        }
        let appended = self.append_body(&body, stalled);
        let bytes = body.len() as u64;
        self.buffer = body;
        let position = self.catch_up_before(appended?).map_err(AppendFailed::Fatal)?;
        self.applied.position = position.0;
        self.applied.at = self.applied.at.max(header.at);
        self.applied.origins.insert(self.log.origin().0, self.number);
        self.since_snapshot_bytes += bytes;
        self.stats.batches += 1;
        self.stats.bytes += bytes;
        Ok(self.applied.at)
    }

    fn append_body(
        &mut self,
        body: &[u8],
        stalled: &mut dyn FnMut(&str),
    ) -> Result<Position, AppendFailed> {
        let number = self.number + 1;
        let tries_max = if self.sharing.is_some() { u32::MAX } else { APPEND_TRIES_MAX };
        let begun = self.clock.steady();
        let mut tries = 0;
        let mut is_stalled = false;
        loop {
            match self.log.append(number, body) {
                Ok(position) => {
                    self.number = number;
                    if is_stalled {
                        (self.on_stall)(None);
                    }
                    return Ok(position);
                }
                // Nothing was written, unless an earlier try of unknown outcome was.
                Err(AppendError::Full(why)) if tries == 0 => return Err(AppendFailed::Room(why)),
                Err(AppendError::Unknown(why) | AppendError::Full(why)) if tries < tries_max => {
                    tries += 1;
                    if !is_stalled && self.has_stalled(begun) {
                        is_stalled = true;
                        stalled(&why);
                    }
                    if is_stalled && !(self.on_stall)(Some(&why)) {
                        return Err(AppendFailed::Fatal(Fatal::Unanswered(why)));
                    }
                    // If another node has truncated the log past this node, the outcome can only be learnt from the
                    // shared snapshot.
                    self.reaches_back().map_err(AppendFailed::Fatal)?;
                    if tries.is_power_of_two() {
                        tracing::warn!(
                            number,
                            why,
                            tries,
                            "an append of unknown outcome is tried again"
                        );
                    }
                }
                Err(other) => return Err(AppendFailed::Fatal(other.into())),
            }
        }
    }

    /// Returns whether a call to the log that began at `begun` has taken so long that the log counts as stalled.
    fn has_stalled(&self, begun: Duration) -> bool {
        self.clock.steady().saturating_sub(begun) >= STALLED_AFTER
    }

    /// Returns whether enough was appended since the last snapshot for another. Nodes that share a log take theirs at
    /// checkpoints instead.
    pub(crate) fn snapshot_is_due(&self, log_bytes: u64) -> bool {
        self.since_snapshot_bytes >= log_bytes && self.writing.is_none() && self.sharing.is_none()
    }

    /// Returns whether the log holds anything that no snapshot covers. A snapshot that is being written counts; one that was
    /// taken and never written does not.
    pub(crate) fn is_uncovered(&self) -> bool {
        let writing = self.writing.as_ref().map_or(0, |(position, ..)| position.0);
        self.applied.position > self.covered.max(writing)
    }

    /// Takes a snapshot. Nothing is applied meanwhile, so the states are only copied here. The caller has them sealed on
    /// another thread, and passes the result to [`Engine::write_snapshot`].
    pub(crate) fn take_snapshot(&mut self) -> Taken {
        let (mut states, mut kept) = (Vec::new(), Vec::new());
        let mut machines = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let before = states.len();
            kept.push(slot.snapshot(&mut states));
            machines.push((slot.id(), (states.len() - before) as u64));
            tracing::debug!(machine = slot.name(), bytes = states.len() - before, "snapshot taken");
        }
        self.since_snapshot_bytes = 0;
        Taken { applied: self.applied.clone(), machines, states, kept }
    }

    /// Begins to write a sealed snapshot. [`Engine::work`] writes it, one chunk a call.
    pub(crate) fn write_snapshot(&mut self, position: Position, sealed: Vec<u8>) {
        self.writing = Some((position, sealed, 0));
    }

    /// Does a little work between commits: writes a chunk of a snapshot, or truncates a slice of the log. Returns whether
    /// there is more.
    pub(crate) fn work(&mut self, now: Timestamp) -> bool {
        if let Some((position, sealed, chunk)) = self.writing.take() {
            self.write_chunk(position, sealed, chunk);
            return true;
        }
        // The log's time counts where this node's clock is behind it: it waits no longer than other nodes do.
        let now = self.applied.at.max(now);
        self.share(now);
        self.release(now);
        if let Some(before) = self.truncate_before {
            match self.log.truncate(before) {
                Ok(0) => self.truncate_before = None,
                Ok(_) => {}
                Err(why) => {
                    tracing::warn!(%why, "the log could not be truncated up to its snapshot");
                    self.truncate_before = None;
                }
            }
        }
        self.truncate_before.is_some()
    }

    fn write_chunk(&mut self, position: Position, sealed: Vec<u8>, chunk: u32) {
        let from = chunk as usize * SNAPSHOT_CHUNK_BYTES;
        let rest = sealed.get(from..).unwrap_or_default();
        let last = rest.len() <= SNAPSHOT_CHUNK_BYTES;
        let body = rest.get(..SNAPSHOT_CHUNK_BYTES).unwrap_or(rest);
        match self.log.write_snapshot(position, chunk, body, last) {
            Ok(()) if last => {
                self.stats.snapshots += 1;
                let before = std::mem::replace(&mut self.covered, position.0);
                match &mut self.sharing {
                    Some(sharing) => sharing.covered_before = before,
                    None => self.truncate_before = Some(position.next()),
                }
            }
            Ok(()) => self.writing = Some((position, sealed, chunk + 1)),
            Err(why) => {
                self.stats.snapshots_failed += 1;
                tracing::warn!(%position, %why, "the snapshot could not be written; the log keeps what it covers");
            }
        }
        if self.writing.is_none() {
            self.snapshot_is_done();
        }
    }

    /// Drops a snapshot that could not be sealed. The next is taken when it is due.
    pub(crate) fn snapshot_failed(&mut self, why: &std::io::Error) {
        self.stats.snapshots_failed += 1;
        self.snapshot_is_done();
        tracing::warn!(%why, "a snapshot could not be sealed; the log keeps what it covers");
    }

    pub(crate) fn on_stall(&mut self, call: Stalled) {
        self.on_stall = call;
    }

    /// Checks whether an append could succeed now.
    pub(crate) fn check(&mut self) -> Result<(), Refused> {
        self.log.check().map_err(|why| Refused::NoRoom(why.to_string()))?;
        self.room_below(COMMANDS_PERCENT_MAX).map_err(Refused::NoRoom)
    }

    /// Returns what the engine has done so far.
    pub(crate) fn stats(&self) -> Stats {
        let Applied { position, entries, .. } = self.applied;
        Stats { position, entries, ..self.stats }
    }

    /// Returns the name of the log's history.
    pub(crate) fn history(&self) -> u64 {
        self.log.history()
    }

    pub(crate) fn origin(&self) -> u64 {
        self.log.origin().0
    }
}

/// Why a batch was not appended.
enum AppendFailed {
    /// Nothing was written; it may be tried later.
    Room(String),
    Fatal(Fatal),
}

mod checkpoint;
mod fatal;
mod sharing;
mod stored;

use checkpoint::{COMMANDS_PERCENT_MAX, Sharing, UPKEEP_PERCENT_MAX};
pub use fatal::Fatal;

#[cfg(test)]
mod tests;
