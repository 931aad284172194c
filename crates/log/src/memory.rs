//! A log in memory, for tests, simulations and `--memory`. It keeps the whole contract, except that
//! "durable" means "while at least one handle exists".

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::turn::{check_snapshot_position, chunk_out_of_turn};
use crate::{AppendError, Batch, Bounds, Error, Log, Origin, Position, Snapshot};

/// A log that keeps its batches in memory. Cloning, [`Memory::reopen`] and [`Memory::join`] return
/// another handle on the same contents.
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
    /// The origin that this handle appends as.
    origin: Origin,
    /// Common to all handles. A mutex, because handles are `Send` and tests race two of them.
    contents: Arc<Mutex<Contents>>,
}

/// Notifies one origin that another one has appended.
type NewsCallback = Arc<dyn Fn() + Send + Sync>;

struct Contents {
    /// The oldest position that has not been truncated.
    first: Position,
    /// `batches[i]` stands at `first + i`: pushed at the back, truncated at the front.
    batches: VecDeque<Batch>,
    /// By origin. Ordered, so that no behaviour depends on a hash.
    origins: BTreeMap<Origin, OriginState>,
    /// By origin: the last callback that it registered.
    watchers: BTreeMap<Origin, NewsCallback>,
    /// The newest published snapshot.
    published: Option<Snapshot>,
    /// The bytes of all bodies.
    bytes: usize,
    /// The most that `bytes` may reach.
    bytes_max: usize,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents")
            .field("first", &self.first)
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}

/// What the log keeps for one origin besides its batches.
#[derive(Debug, Default)]
struct OriginState {
    last_number: u64,
    /// Where the last number stands and the checksum of its body, to recognise a retry even after
    /// the batch has been truncated.
    last: Option<(Position, u32)>,
    snapshot: Option<Snapshot>,
    /// A snapshot that still lacks its last chunk.
    partial: Option<PartialSnapshot>,
}

#[derive(Debug)]
struct PartialSnapshot {
    position: Position,
    chunk_next: u32,
    body: Vec<u8>,
}

impl Default for Memory {
    /// Returns an empty log, appended to as origin 1.
    fn default() -> Self {
        Self::new(Origin(1))
    }
}

impl Memory {
    /// Returns an empty log, appended to as `origin`.
    pub fn new(origin: Origin) -> Self {
        let contents = Contents {
            first: Position(1),
            batches: VecDeque::new(),
            origins: BTreeMap::from([(origin, OriginState::default())]),
            watchers: BTreeMap::new(),
            published: None,
            bytes: 0,
            bytes_max: usize::MAX,
        };
        Self { origin, contents: Arc::new(Mutex::new(contents)) }
    }

    /// Bounds the bodies of all batches that are not truncated, for all handles. An append beyond the
    /// bound is [`AppendError::Full`].
    #[must_use]
    pub fn with_bytes_max(self, bytes_max: usize) -> Self {
        self.contents().bytes_max = bytes_max;
        self
    }

    /// Returns the log as a restarted process finds it: everything that was acknowledged, and no partial
    /// snapshot. The old handle keeps working, like a process that should be dead and is not.
    #[must_use]
    pub fn reopen(&self) -> Self {
        self.join(self.origin)
    }

    /// Returns the same log, appended to as another origin: two nodes on one stream. Each origin has its
    /// own numbers and its own snapshot. Truncation waits until the snapshot of every origin, or a
    /// published one, covers the batches.
    #[must_use]
    pub fn join(&self, origin: Origin) -> Self {
        self.contents().origins.entry(origin).or_default().partial = None;
        Self { origin, contents: Arc::clone(&self.contents) }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // A panic in another handle's call leaves the contents valid: each call modifies them last.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn next(&self) -> Position {
        Position(self.first.0 + self.batches.len() as u64)
    }

    /// Returns the last position that may be truncated: every origin's snapshot covers it, or the
    /// published one does.
    fn covered(&self) -> Position {
        let position =
            |snapshot: &Option<Snapshot>| snapshot.as_ref().map_or(Position(0), |s| s.position);
        let oldest = self.origins.values().map(|state| position(&state.snapshot)).min();
        oldest.unwrap_or_default().max(position(&self.published))
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
        let contents = self.contents();
        Ok(Bounds { first: contents.first, next: contents.next() })
    }

    fn last_number(&self) -> u64 {
        let contents = self.contents();
        contents.origins.get(&self.origin).map_or(0, |state| state.last_number)
    }

    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        let mut guard = self.contents();
        let contents = &mut *guard;
        let position = contents.next();
        let state = contents.origins.entry(self.origin).or_default();
        let expected = state.last_number + 1;
        let crc = crc32c::crc32c(body);
        if number != expected {
            return match state.last {
                Some((at, same)) if number == state.last_number && same == crc => Ok(at),
                Some((at, same)) if number == state.last_number && same == crc => Ok(at),
                _ => Err(AppendError::OutOfTurn { number, expected }),
            };
        }
        if contents.bytes.saturating_add(body.len()) > contents.bytes_max {
            return Err(AppendError::Full(contents.fullness()));
        }
        contents.bytes += body.len();
        state.last_number = number;
        state.last = Some((position, crc));
        contents.batches.push_back(Batch {
            position,
            origin: self.origin,
            number,
            body: body.to_vec(),
        });
        let watchers = contents.watchers.iter().filter(|(origin, _)| **origin != self.origin);
        let watchers: Vec<NewsCallback> = watchers.map(|(_, notify)| Arc::clone(notify)).collect();
        // A callback may call this log, so it must run without the lock.
        drop(guard);
        watchers.iter().for_each(|notify| notify());
        Ok(position)
    }

    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        let contents = self.contents();
        if from < contents.first {
            return Err(Error::Truncated { asked: from, first: contents.first });
        }
        let mut batches = Vec::new();
        let mut bytes = 0_usize;
        for batch in contents.batches.iter().skip(contents.index(from)) {
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
        let mut contents = self.contents();
        let next = contents.next();
        let state = contents.origins.entry(self.origin).or_default();
        let newest = state.snapshot.as_ref().map(|s| s.position);
        check_snapshot_position(position, newest, next)?;
        if chunk == 0 {
            state.partial = Some(PartialSnapshot { position, chunk_next: 0, body: Vec::new() });
        }
        let turn = state.partial.as_ref().map(|w| (w.position, w.chunk_next));
        if let Some(partial) = &mut state.partial
            && turn == Some((position, chunk))
        {
            partial.chunk_next += 1;
            partial.body.extend_from_slice(body);
        } else {
            return Err(chunk_out_of_turn(position, chunk, turn));
        }
        if last && let Some(PartialSnapshot { position, body, .. }) = state.partial.take() {
            state.snapshot = Some(Snapshot { position, body });
        }
        Ok(())
    }

    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        let contents = self.contents();
        let state = contents.origins.get(&self.origin);
        let own = state.and_then(|state| state.snapshot.as_ref());
        // If batches behind our own snapshot have been truncated, a published snapshot covers them.
        let reaches = |own: &&Snapshot| own.position.next() >= contents.first;
        Ok(own.filter(reaches).or(contents.published.as_ref()).or(own).cloned())
    }

    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        let mut contents = self.contents();
        let before = before.min(contents.covered().next()).min(contents.next());
        if before <= contents.first {
            return Ok(0);
        }
        let removed = contents.index(before);
        let bytes: usize = contents.batches.drain(..removed).map(|batch| batch.body.len()).sum();
        contents.bytes -= bytes;
        contents.first = before;
        Ok(removed as u64)
    }

    fn filled_percent(&mut self) -> u8 {
        let contents = self.contents();
        u8::try_from(contents.bytes.saturating_mul(100) / contents.bytes_max.max(1)).unwrap_or(100)
    }

    fn check(&mut self) -> Result<(), Error> {
        let contents = self.contents();
        if contents.bytes < contents.bytes_max {
            Ok(())
        } else {
            Err(Error::Full(contents.fullness()))
        }
    }

    fn is_shared(&self) -> bool {
        self.contents().origins.len() > 1
    }

    fn on_news(&mut self, notify: Box<dyn Fn() + Send + Sync>) {
        self.contents().watchers.insert(self.origin, notify.into());
    }

    fn share_snapshot(&mut self) -> Result<(), Error> {
        let mut contents = self.contents();
        let own = contents.origins.get(&self.origin).and_then(|state| state.snapshot.clone());
        contents.published = own.or(contents.published.take());
        Ok(())
    }

    fn forget_snapshots(&mut self) -> Result<(), Error> {
        if let Some(state) = self.contents().origins.get_mut(&self.origin) {
            state.snapshot = None;
        }
        Ok(())
    }
}
