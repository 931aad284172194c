//! A log in memory, for tests, simulations and `--memory`: it obeys the whole law except that
//! "durable" means "as long as one handle of it is alive".

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::turn::{chunk_out_of_turn, snapshot_allowed};
use crate::{AppendError, Batch, Bounds, Error, Log, Origin, Position, Snapshot};

/// A log that keeps its batches in memory. A clone is another handle on the same contents, as is
/// what [`Memory::reopen`] and [`Memory::join`] give.
///
/// ```
/// use tidings_log::{Log, Memory, Position};
///
/// let mut log = Memory::default();
/// log.append(1, b"one")?;
/// let mut restarted = log.reopen();
/// assert_eq!(restarted.last_number(), 1);
/// assert_eq!(restarted.append(1, b"one")?, Position(1), "a retry changes nothing");
/// assert_eq!(restarted.append(2, b"two")?, Position(2));
/// # Ok::<(), tidings_log::AppendError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Memory {
    /// Who appends through this handle.
    origin: Origin,
    /// Shared by all handles; a mutex because a handle is `Send` and a test may race two of them.
    shared: Arc<Mutex<Shared>>,
}

/// Who is told of what another origin appends.
type Tell = Arc<dyn Fn() + Send + Sync>;

struct Shared {
    /// The oldest position left.
    first: Position,
    /// `batches[i]` stands at `first + i`: pushed at the back, truncated at the front.
    batches: VecDeque<Batch>,
    /// By origin; ordered, so that nothing here depends on a hash.
    owners: BTreeMap<Origin, Owner>,
    /// By origin, the last that asked to be told.
    told: BTreeMap<Origin, Tell>,
    /// The newest snapshot that was shared.
    snapshot: Option<Snapshot>,
    /// What all bodies take, and may take.
    bytes: usize,
    bytes_max: usize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("first", &self.first)
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}

/// What one origin has in the log beside its batches.
#[derive(Debug, Default)]
struct Owner {
    last_number: u64,
    /// Where the last number stands and the checksum of its bytes, to recognise a retry even
    /// when the batch itself has been truncated.
    last: Option<(Position, u32)>,
    snapshot: Option<Snapshot>,
    /// A snapshot without its last chunk yet.
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    position: Position,
    chunk_next: u32,
    body: Vec<u8>,
}

impl Default for Memory {
    /// An empty log, appended to as origin 1.
    fn default() -> Self {
        Self::new(Origin(1))
    }
}

impl Memory {
    /// An empty log, appended to as `origin`.
    pub fn new(origin: Origin) -> Self {
        let shared = Shared {
            first: Position(1),
            batches: VecDeque::new(),
            owners: BTreeMap::from([(origin, Owner::default())]),
            told: BTreeMap::new(),
            snapshot: None,
            bytes: 0,
            bytes_max: usize::MAX,
        };
        Self { origin, shared: Arc::new(Mutex::new(shared)) }
    }

    /// The same, for all handles: the bodies of batches take no more than this, truncated ones left out.
    /// What would is refused as [`AppendError::Full`].
    #[must_use]
    pub fn with_bytes_max(self, bytes_max: usize) -> Self {
        self.shared().bytes_max = bytes_max;
        self
    }

    /// The same log as a restarted process finds it: everything that was acknowledged, and no
    /// half-written snapshot. The old handle goes on working, as a process that should be dead
    /// and is not.
    #[must_use]
    pub fn reopen(&self) -> Self {
        self.join(self.origin)
    }

    /// The same log, appended to as another origin: two nodes on one stream. Each origin has its
    /// own numbers and its own snapshot; truncation waits for the oldest snapshot of them all, or
    /// for one that was shared.
    #[must_use]
    pub fn join(&self, origin: Origin) -> Self {
        self.shared().owners.entry(origin).or_default().writing = None;
        Self { origin, shared: Arc::clone(&self.shared) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A panic in another handle's call leaves the contents whole: each call changes them last.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn next(&self) -> Position {
        Position(self.first.0 + self.batches.len() as u64)
    }

    /// The last position that the snapshot of every origin covers, or the one that is shared.
    fn covered(&self) -> Position {
        let of =
            |snapshot: &Option<Snapshot>| snapshot.as_ref().map_or(Position(0), |s| s.position);
        let oldest = self.owners.values().map(|owner| of(&owner.snapshot)).min();
        oldest.unwrap_or_default().max(of(&self.snapshot))
    }

    fn fullness(&self) -> String {
        format!("it holds {} of {} bytes", self.bytes, self.bytes_max)
    }

    fn index(&self, position: Position) -> usize {
        usize::try_from(position.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX)
    }
}

impl Log for Memory {
    fn origin(&self) -> Origin {
        self.origin
    }

    fn bounds(&mut self) -> Result<Bounds, Error> {
        let shared = self.shared();
        Ok(Bounds { first: shared.first, next: shared.next() })
    }

    fn last_number(&self) -> u64 {
        let shared = self.shared();
        shared.owners.get(&self.origin).map_or(0, |o| o.last_number)
    }

    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        let mut guard = self.shared();
        let shared = &mut *guard;
        let position = shared.next();
        let owner = shared.owners.entry(self.origin).or_default();
        let expected = owner.last_number + 1;
        let crc = crc32c::crc32c(body);
        if number != expected {
            return match owner.last {
                Some((at, same)) if number == owner.last_number && same == crc => Ok(at),
                _ => Err(AppendError::OutOfTurn { number, expected }),
            };
        }
        if shared.bytes.saturating_add(body.len()) > shared.bytes_max {
            return Err(AppendError::Full(shared.fullness()));
        }
        shared.bytes += body.len();
        owner.last_number = number;
        owner.last = Some((position, crc));
        shared.batches.push_back(Batch {
            position,
            origin: self.origin,
            number,
            body: body.to_vec(),
        });
        let others = shared.told.iter().filter(|(origin, _)| **origin != self.origin);
        let others: Vec<Tell> = others.map(|(_, tell)| Arc::clone(tell)).collect();
        drop(guard);
        others.iter().for_each(|tell| tell());
        Ok(position)
    }

    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        let shared = self.shared();
        if from < shared.first {
            return Err(Error::Truncated { asked: from, first: shared.first });
        }
        let mut batches = Vec::new();
        let mut bytes = 0_usize;
        for batch in shared.batches.iter().skip(shared.index(from)) {
            if bytes >= bytes_max && !batches.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(batch.body.len());
            batches.push(batch.clone());
        }
        Ok(batches)
    }

    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        let mut shared = self.shared();
        let next = shared.next();
        let owner = shared.owners.entry(self.origin).or_default();
        let newest = owner.snapshot.as_ref().map(|s| s.position);
        snapshot_allowed(position, newest, next)?;
        if chunk == 0 {
            owner.writing = Some(Writing { position, chunk_next: 0, body: Vec::new() });
        }
        let turn = owner.writing.as_ref().map(|w| (w.position, w.chunk_next));
        if let Some(writing) = &mut owner.writing
            && turn == Some((position, chunk))
        {
            writing.chunk_next += 1;
            writing.body.extend_from_slice(body);
        } else {
            return Err(chunk_out_of_turn(position, chunk, turn));
        }
        if last && let Some(Writing { position, body, .. }) = owner.writing.take() {
            owner.snapshot = Some(Snapshot { position, body });
        }
        Ok(())
    }

    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        let shared = self.shared();
        let owner = shared.owners.get(&self.origin);
        let own = owner.and_then(|owner| owner.snapshot.as_ref());
        // Where what is behind its own has been truncated, there is one that was shared.
        let behind = |own: &&Snapshot| own.position.next() >= shared.first;
        Ok(own.filter(behind).or(shared.snapshot.as_ref()).or(own).cloned())
    }

    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        let mut shared = self.shared();
        let before = before.min(shared.covered().next()).min(shared.next());
        if before <= shared.first {
            return Ok(0);
        }
        let removed = shared.index(before);
        let bytes: usize = shared.batches.drain(..removed).map(|batch| batch.body.len()).sum();
        shared.bytes -= bytes;
        shared.first = before;
        Ok(removed as u64)
    }

    fn filled_percent(&mut self) -> u8 {
        let shared = self.shared();
        u8::try_from(shared.bytes.saturating_mul(100) / shared.bytes_max.max(1)).unwrap_or(100)
    }

    fn check(&mut self) -> Result<(), Error> {
        let shared = self.shared();
        if shared.bytes < shared.bytes_max { Ok(()) } else { Err(Error::Full(shared.fullness())) }
    }

    fn is_shared(&self) -> bool {
        self.shared().owners.len() > 1
    }

    fn on_news(&mut self, tell: Box<dyn Fn() + Send + Sync>) {
        self.shared().told.insert(self.origin, tell.into());
    }

    fn share_snapshot(&mut self) -> Result<(), Error> {
        let mut shared = self.shared();
        let own = shared.owners.get(&self.origin).and_then(|owner| owner.snapshot.clone());
        shared.snapshot = own.or(shared.snapshot.take());
        Ok(())
    }

    fn forget_snapshots(&mut self) -> Result<(), Error> {
        if let Some(owner) = self.shared().owners.get_mut(&self.origin) {
            owner.snapshot = None;
        }
        Ok(())
    }
}
