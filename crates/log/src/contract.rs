//! The contract of every log: the [`Log`] trait, its types and its errors. Below every
//! implementation, so that none of them depends on another.

use core::fmt;

/// Where a batch stands in the log. The first batch ever appended stands at 1; 0 means "before all
/// batches".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Returns the position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of an appender: drawn at random once for each data directory and stored in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub u64);

/// The unit of the log: what one origin commits atomically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where the batch stands in the log.
    pub position: Position,
    /// The origin that appended it.
    pub origin: Origin,
    /// Its number within its origin: dense, starting at 1.
    pub number: u64,
    /// The appended bytes; the log does not interpret them.
    pub body: Vec<u8>,
}

/// The readable part of the log: `first..next`, empty when both are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest batch that has not been truncated.
    pub first: Position,
    /// The position of the next append, unless another origin appends first.
    pub next: Position,
}

/// A complete snapshot. It covers every batch up to and including `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last batch that the snapshot covers.
    pub position: Position,
    /// All chunks as they were written, joined.
    pub body: Vec<u8>,
}

/// Why an append did not return a position.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written, because there is no room. The log stays usable: retry when there is room.
    #[error("the log has no room: {0}")]
    Full(String),
    /// Nothing was written: the number is neither the next one nor the last one of this origin, or it is
    /// the last one with different bytes.
    #[error("batch number {number} is rejected, {expected} is the next one of this origin")]
    OutOfTurn {
        /// The rejected number.
        number: u64,
        /// The number that would have been accepted.
        expected: u64,
    },
    /// The batch may or may not have been written. Append the same number with the same bytes again.
    #[error("the outcome of the append is unknown: {0}")]
    Unknown(String),
    /// The log cannot be trusted any more, for example after a failed fsync. The process must end: an
    /// operation on a file in an unknown state is never retried.
    #[error("the log is broken: {0}")]
    Broken(String),
}

/// Why an operation other than an append failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A batch does not read back as it was written.
    #[error(
        "the batch at position {position} is damaged: {what}; {behind} batches stand behind it"
    )]
    Damaged {
        /// The first position that cannot be trusted.
        position: Position,
        /// What is wrong with it.
        what: String,
        /// How many batches stand behind it. None of them is returned by a read.
        behind: u64,
    },
    /// A snapshot does not read back as it was written.
    #[error("the snapshot at position {position} is damaged: {what}")]
    DamagedSnapshot {
        /// The position that the snapshot claims to cover.
        position: Position,
        /// What is wrong with it.
        what: String,
    },
    /// The requested batches have been truncated.
    #[error("position {asked} has been truncated, {first} is the oldest one left")]
    Truncated {
        /// The requested position.
        asked: Position,
        /// The oldest position that can still be read.
        first: Position,
    },
    /// Another process has this log open.
    #[error("{0}")]
    InUse(String),
    /// There is no room for the write, for example of a snapshot. The log is unchanged.
    #[error("the log has no room: {0}")]
    Full(String),
    /// A batch that is known to exist did not arrive in time. Retry the call.
    #[error("the log does not answer: {0}")]
    Unanswered(String),
    /// Any other failure of the store.
    #[error("{0}")]
    Store(String),
}

/// An append-only log of opaque batches.
///
/// ```text
///             bounds().first          bounds().next
///                   v                       v
///   ..(truncated).. | 4 | 5 | 6 | 7 | 8 | 9 |
///                     ^                   ^
///        a snapshot at 3 covers      append() returns 9
///        everything before 4         only when 9 is durable
/// ```
///
/// # Rules
///
/// - Positions are dense: 1, 2, 3 and so on. The position of a batch never changes.
/// - [`Log::append`] returns a position only when the batch is durable as configured. From then on every
///   [`Log::read`] of that position, in this process or after any crash, returns the same bytes.
/// - A batch carries its [`Origin`] and a number that is dense within that origin. Appending the last
///   number again with the same bytes changes nothing and returns the position that the batch already
///   has, so that an append of unknown outcome can be retried safely.
/// - Several origins may append to one log, if the implementation supports it. Each of them reads all
///   batches, its own and those of the others, in the same order.
/// - A batch that does not read back as it was written is an error that names its position. No batch
///   behind it is returned.
/// - Batches leave the log only through [`Log::truncate`], from the front, and only if a complete
///   snapshot covers them.
///
/// The `conformance` module (a feature of this crate) tests an implementation against these rules.
///
/// All calls block. A node makes them from a thread of its own.
pub trait Log: Send {
    /// Returns the origin that this handle appends as. It stays the same across restarts.
    fn origin(&self) -> Origin;

    /// Returns which positions can be read.
    ///
    /// # Errors
    /// [`Error::Store`] when the store does not answer.
    fn bounds(&mut self) -> Result<Bounds, Error>;

    /// Returns the number of the last batch that this origin appended, 0 if there is none. Truncation
    /// does not change it.
    fn last_number(&self) -> u64;

    /// Appends one batch. The batch is durable when this returns.
    ///
    /// # Errors
    /// See [`AppendError`]: each variant says whether the batch was written and what the caller must do.
    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError>;

    /// Returns how much of its bound the log occupies, in percent; 0 if it has no bound. The value is
    /// approximate: appends of other origins are counted with a delay.
    ///
    /// Nodes that share a log must keep a reserve. They append notices to agree on a snapshot, and only
    /// behind a snapshot can the log be truncated: without room for those notices a full log stays full.
    fn filled_percent(&mut self) -> u8 {
        0
    }

    /// Returns the preferred size of a batch in bytes: the caller should close a batch that has reached
    /// it. Larger batches are accepted, but cost more.
    fn batch_bytes(&self) -> usize {
        1 << 20
    }

    /// Reads batches in order, starting at `from`. Returns at least one batch if there is one, and stops
    /// once the bodies add up to `bytes_max`. The result is empty at the end of the log.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the first requested batch is damaged (intact batches before a damaged one
    /// are returned first, without an error); [`Error::Truncated`]; [`Error::Unanswered`] when an
    /// existing batch cannot be read at the moment; [`Error::Store`].
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error>;

    /// Durably writes one chunk of a snapshot that covers every batch up to and including `position`.
    /// Chunks are numbered from 0. `last` completes the snapshot, which then replaces the previous one
    /// atomically. A snapshot without its last chunk is invisible, and is removed when the next one
    /// begins.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Store`]: the previous snapshot stays.
    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error>;

    /// Returns the newest complete snapshot.
    ///
    /// # Errors
    /// [`Error::DamagedSnapshot`] or [`Error::Store`].
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error>;

    /// Removes batches before `before`, but only those that the newest complete snapshot covers. Returns
    /// how many batches it removed. One call removes a bounded slice, so that an append waits
    /// milliseconds rather than seconds: call it again until it returns 0.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Store`]: nothing was removed.
    fn truncate(&mut self, before: Position) -> Result<u64, Error>;

    /// Checks whether an append could succeed now, as far as that can be known without appending.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Store`] with the reason why an append would fail.
    fn check(&mut self) -> Result<(), Error>;

    /// Returns an identifier of this log's history. It is the same on every node that shares the log and
    /// after every restart, and differs between logs.
    fn history(&self) -> u64 {
        self.origin().0
    }

    /// Returns whether other origins may append to this log.
    fn is_shared(&self) -> bool {
        false
    }

    /// Registers `notify`, which is called from any thread whenever batches of another origin have
    /// become readable. It replaces the previous callback. A log that is not shared never calls it.
    fn on_news(&mut self, notify: Box<dyn Fn() + Send + Sync>) {
        drop(notify);
    }

    /// Publishes the newest complete snapshot to every node that shares the log, present and future.
    /// Only batches that a published snapshot covers may be truncated. Does nothing in a log that is not
    /// shared.
    ///
    /// # Errors
    /// [`Error::Store`]: the previously published snapshot stays.
    fn share_snapshot(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Deletes the snapshots of this handle, because their contents are not trusted: after a restart the
    /// node reads the published snapshot instead. Does nothing in a log that is not shared.
    ///
    /// # Errors
    /// [`Error::Store`]: the snapshots are still there.
    fn forget_snapshots(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
