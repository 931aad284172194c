//! Commits, applies, takes snapshots, recovers. No thread and no clock in here: the writer drives
//! it, and so does the simulation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_core::machine::{Malformed, Timestamp};
use tidings_log::{AppendError, Batch, Log, Position, Snapshot};

use crate::entry::{Header, TICK};
use crate::lease;
use crate::slot::{Erased, Refused};
use crate::snapshot::{Applied, Taken};
use crate::writer::Proposal;

/// What is kept of a batch's memory for the next one.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
/// How much of a snapshot is written between two commits.
const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// How much of the log is read at once when recovering.
const READ_BYTES: usize = 4 << 20;
/// An append with an unknown outcome is tried again this often before the process ends. To a log that
/// others share it is tried until it succeeds.
const APPEND_TRIES_MAX: u32 = 100;
/// An append that takes longer is told of: who waits for it is answered, and nobody else is taken.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// While another node ticks, this one is so much later: one of them is enough.
const TICK_BEHIND_MS: u64 = 300;
/// Another node that has not ticked for so long may be gone.
const TICKED_LATELY_MS: u64 = 3_000;
/// Recovery tells how far it is at most this often, and not before it has taken as long.
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
    /// Since when.
    pub elapsed: Duration,
}

/// Is told why an append takes too long, or that it is done; says whether to go on trying.
type Stalled = Box<dyn FnMut(Option<&str>) -> bool + Send>;

/// A log, the machines over it, and how far they have come.
pub(crate) struct Engine {
    log: Box<dyn Log>,
    slots: Vec<Arc<dyn Erased>>,
    applied: Applied,
    /// The number of the last batch that this node has appended.
    number: u64,
    /// The batch being made; kept for its memory.
    buffer: Vec<u8>,
    /// Read already, and behind what is applied: a log that reads ahead need not go back for them.
    read_ahead: Vec<Batch>,
    /// How many bytes have been appended since the last snapshot was taken.
    since_snapshot_bytes: u64,
    /// The snapshot being written: the position it covers, its bytes, the next chunk.
    writing: Option<(Position, Vec<u8>, u32)>,
    /// What the newest complete snapshot covers.
    covered: u64,
    /// Batches up to here may go.
    truncate_before: Option<Position>,
    /// What there is when others share the log.
    sharing: Option<Sharing>,
    on_stall: Stalled,
    pub(crate) stats: EngineStats,
}

/// What an engine has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EngineStats {
    pub(crate) replayed: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    pub(crate) refused: u64,
    pub(crate) snapshots: u64,
    pub(crate) snapshots_failed: u64,
}

impl Engine {
    /// Restores the last snapshot and applies what the log holds behind it.
    pub(crate) fn recover(
        mut log: Box<dyn Log>,
        slots: Vec<Arc<dyn Erased>>,
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
            stats: EngineStats::default(),
        };
        if let Some(snapshot) = snapshot {
            engine.restore(&snapshot)?;
        }
        while let Err(why) = engine.replay(&mut progress) {
            // Others may truncate what is being read, behind a snapshot that is newer.
            let newer = if why.is_behind() { engine.log.read_snapshot()? } else { None };
            match newer.filter(|snapshot| snapshot.position.0 > engine.applied.position) {
                Some(snapshot) => engine.restore(&snapshot)?,
                None => return Err(why),
            }
        }
        // Its last batch may have been truncated by others, behind a snapshot that knows of it.
        let applied = engine.applied.origins.get(&engine.origin()).copied().unwrap_or_default();
        engine.number = engine.number.max(applied);
        Ok(engine)
    }

    /// Everything stored is applied: what comes from here on is new.
    pub(crate) fn begin_now(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.live = true;
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

    /// Commits proposals from the front of the queue as one batch, applies them, and moves them to
    /// `applied` to be answered. Refuses them, and changes nothing, when the log has no room.
    pub(crate) fn commit(
        &mut self,
        proposals: &mut VecDeque<Box<dyn Proposal>>,
        applied: &mut Vec<Box<dyn Proposal>>,
        now: Timestamp,
    ) -> Result<(), Fatal> {
        if let Err(why) = self.room_below(COMMANDS_PERCENT_MAX) {
            // Who holds a lease does not lose it for that.
            proposals.retain_mut(|proposal| {
                let stays = proposal.machine() == lease::machine::ID;
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
        let (mut count, mut entries) = (0, 0);
        let mut body = self.new_body();
        // What a single proposal brings is never torn apart.
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

    /// Logs and applies a tick for every machine whose deadline has come. Returns false when the log
    /// had no room for it: then it is to be tried again later.
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

    /// When the earliest deadline of any machine is to be ticked.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let first = self.slots.iter().filter_map(|slot| slot.next_deadline()).min()?;
        Some(Timestamp(first.0.saturating_add(self.ticks_behind_ms())))
    }

    /// An empty batch with room for its header, in the memory of the last one.
    fn new_body(&mut self) -> Vec<u8> {
        let mut body = std::mem::take(&mut self.buffer);
        body.clear();
        // One huge batch does not keep its memory for ever.
        body.shrink_to(BUFFER_BYTES_KEPT);
        body.resize(Header::BYTES, 0);
        body
    }

    /// Appends one batch; retries while the outcome is unknown. Afterwards everything before the
    /// batch is applied and the batch itself is not. Returns the time at which to apply it: later
    /// than the header's when another node, whose clock is ahead, was faster. Of a log that is shared no
    /// more than `percent_max` may be taken before.
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
        let (mut tries, mut told, begun) = (0, false, Instant::now());
        loop {
            match self.log.append(number, body) {
                Ok(position) => {
                    self.number = number;
                    if told {
                        (self.on_stall)(None);
                    }
                    return Ok(position);
                }
                // A refusal means that nothing was written, unless an earlier try may have been.
                Err(AppendError::Full(why)) if tries == 0 => return Err(AppendFailed::Room(why)),
                Err(AppendError::Unknown(why) | AppendError::Full(why)) if tries < tries_max => {
                    tries += 1;
                    if !told && begun.elapsed() >= STALLED_AFTER {
                        told = true;
                        stalled(&why);
                    }
                    if told && !(self.on_stall)(Some(&why)) {
                        return Err(AppendFailed::Fatal(Fatal::Unanswered(why)));
                    }
                    // Whatever became of it, this node can only learn of it from a snapshot.
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

    /// Whether so much was appended since the last snapshot that it is time for another. Those who
    /// share a log take theirs at checkpoints.
    pub(crate) fn snapshot_is_due(&self, log_bytes: u64) -> bool {
        self.since_snapshot_bytes >= log_bytes && self.writing.is_none() && self.sharing.is_none()
    }

    /// Whether the log holds anything that no snapshot covers, be it written or half written. (One
    /// that was taken and never came to be written covers nothing.)
    pub(crate) fn has_news(&self) -> bool {
        let writing = self.writing.as_ref().map_or(0, |(position, ..)| position.0);
        self.applied.position > self.covered.max(writing)
    }

    /// Takes a snapshot: everything stands still meanwhile, so it is only copied here. It is to be
    /// sealed elsewhere and then given to [`Engine::write_snapshot`].
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

    /// Begins to write a sealed snapshot; [`Engine::work`] does it, a chunk at a time.
    pub(crate) fn write_snapshot(&mut self, position: Position, sealed: Vec<u8>) {
        self.writing = Some((position, sealed, 0));
    }

    /// Does a little of what is to be done beside the commits: a chunk of a snapshot, a slice of
    /// the log to truncate. Returns whether there is more.
    pub(crate) fn work(&mut self, now: Timestamp) -> bool {
        if let Some((position, sealed, chunk)) = self.writing.take() {
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
            return true;
        }
        // A clock that is behind the others waits for nobody for longer than they do.
        let now = self.applied.at.max(now);
        self.share(now);
        self.let_go(now);
        if let Some(before) = self.truncate_before {
            match self.log.truncate(before) {
                Ok(0) => self.truncate_before = None,
                Ok(_) => {}
                Err(why) => {
                    tracing::warn!(%why, "the log could not be truncated behind its snapshot");
                    self.truncate_before = None;
                }
            }
        }
        self.truncate_before.is_some()
    }

    /// A snapshot could not be sealed; the next is taken when its turn comes.
    pub(crate) fn snapshot_failed(&mut self, why: &std::io::Error) {
        self.stats.snapshots_failed += 1;
        self.snapshot_is_done();
        tracing::warn!(%why, "a snapshot could not be sealed; the log keeps what it covers");
    }

    /// Tells of appends that take too long, with the reason, and of their end. What it returns says
    /// whether to go on trying.
    pub(crate) fn on_stall(&mut self, tell: Stalled) {
        self.on_stall = tell;
    }

    /// Whether an append could succeed now.
    pub(crate) fn check(&mut self) -> Result<(), Refused> {
        self.log.check().map_err(|why| Refused::NoRoom(why.to_string()))?;
        self.room_below(COMMANDS_PERCENT_MAX).map_err(Refused::NoRoom)
    }

    pub(crate) const fn applied(&self) -> &Applied {
        &self.applied
    }

    /// What tells this log from all others.
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

mod fatal;
mod sharing;
mod stored;

pub use fatal::Fatal;
use sharing::{COMMANDS_PERCENT_MAX, Sharing, UPKEEP_PERCENT_MAX};

#[cfg(test)]
mod tests;
