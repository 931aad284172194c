//! An append-only log of opaque batches, and nothing else: what a batch means is not known here.
//!
//! # The law
//!
//! ```text
//!             bounds().first          bounds().next
//!                   v                       v
//!   ..(truncated).. | 4 | 5 | 6 | 7 | 8 | 9 |
//!                     ^                   ^
//!        a snapshot at 3 covers      append() returns 9
//!        everything before 4         only when 9 is durable
//! ```
//!
//! - Positions are dense: 1, 2, 3 and so on. The position of a batch never changes.
//! - [`Log::append`] returns a position only when that batch is durable as configured; a later
//!   [`Log::read`], in this process or after any crash, gives back the same bytes there.
//! - A batch names its [`Origin`] and bears a number that is dense within it. Appending the same
//!   number again, with the same bytes, changes nothing and returns the position it already has:
//!   an append whose outcome was unknown can be retried.
//! - Several origins may append to one log (not to every kind of log). Each of them reads all
//!   batches, its own and the others', in the same order.
//! - A batch that does not read back as it was written is an error that names its position.
//!   Nothing behind it is given out.
//! - Batches leave the log only by [`Log::truncate`], from the front, and only behind a complete
//!   snapshot.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "sqlite")] {
//! use tidings_log::{Log, Position, Sqlite, sqlite::Options};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! let mut log = Sqlite::open(directory, Options::default()).unwrap();
//! let number = log.last_number() + 1;
//! let position = log.append(number, b"what is to be kept").unwrap();
//! // It is on the disk now. Read it back, a mebibyte at a time:
//! let batches = log.read(Position(1), 1 << 20).unwrap();
//! assert_eq!(batches[0].position, position);
//! # }
//! ```
//!
//! # Where to look
//!
//! [`Log`] is the law as a trait, [`Sqlite`] keeps it on one machine's disk, [`Memory`] as long as
//! the process lives; with the feature `jetstream`, `JetStream` keeps it in a stream that several
//! nodes share. With the feature `conformance`: `conformance` holds an implementation to the law,
//! `faulty` fails by a plan. With `nats-server`: servers as processes, to try and to test with.
//!
//! # Limits
//!
//! A batch is one value in SQLite: 10^9 bytes at most, and held in memory two to three times while
//! it is appended. There is no reading of a part of a batch, and no search.

use core::fmt;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "conformance")]
pub mod faulty;
#[cfg(feature = "jetstream")]
pub mod jetstream;
mod memory;
#[cfg(feature = "nats-server")]
pub mod nats_server;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod turn;

#[cfg(feature = "jetstream")]
pub use jetstream::JetStream;
pub use memory::Memory;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;

/// Where a batch stands in the log: 1 for the first ever appended. 0 is "before all of them".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The position after this one.
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

/// Who appended a batch: drawn once for each data directory and kept with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub u64);

/// What one origin committed in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where it stands.
    pub position: Position,
    /// Who appended it.
    pub origin: Origin,
    /// Its number within its origin: dense, from 1.
    pub number: u64,
    /// What was appended, opaque here.
    pub body: Vec<u8>,
}

/// The part of the log that can be read: `first..next`, empty when they are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest batch still there.
    pub first: Position,
    /// Where the next append will stand, unless another origin is faster.
    pub next: Position,
}

/// A complete snapshot as it was written: it covers every batch up to and including `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last batch that it covers.
    pub position: Position,
    /// What was written, all chunks joined.
    pub body: Vec<u8>,
}

/// Why an append did not return a position.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written and nothing is harmed: there is no room. Try again when there is.
    #[error("the log has no room: {0}")]
    Full(String),
    /// Nothing was written: the number is neither the next one of this origin nor its last one, or
    /// it is the last one with other bytes than before.
    #[error("batch number {number} is refused, {expected} is the next one of this origin")]
    OutOfTurn {
        /// What was asked for.
        number: u64,
        /// What would have been taken.
        expected: u64,
    },
    /// Whether it was written is not known. Append the same number with the same bytes again.
    #[error("the outcome of the append is unknown: {0}")]
    Unknown(String),
    /// The log cannot be trusted any more (a failed fsync, say). The process must end: nothing is
    /// retried on a file whose state is unknown.
    #[error("the log is broken: {0}")]
    Broken(String),
}

/// Why something other than an append failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What stands at a position is not what was written there.
    #[error(
        "the batch at position {position} is damaged: {what}; {behind} batches stand behind it"
    )]
    Damaged {
        /// The first position that cannot be trusted.
        position: Position,
        /// What is wrong with it.
        what: String,
        /// How many batches stand behind it (not given out).
        behind: u64,
    },
    /// A snapshot does not read back as it was written.
    #[error("the snapshot at position {position} is damaged: {what}")]
    DamagedSnapshot {
        /// What it claims to cover.
        position: Position,
        /// What is wrong with it.
        what: String,
    },
    /// The batches asked for have been truncated.
    #[error("position {asked} has been truncated, {first} is the oldest one left")]
    Truncated {
        /// What was asked for.
        asked: Position,
        /// What is left.
        first: Position,
    },
    /// Another process has this log open.
    #[error("{0}")]
    InUse(String),
    /// There is no room for it (a snapshot, say). The log is as it was.
    #[error("the log has no room: {0}")]
    Full(String),
    /// What is known to be there has not come for a while. Ask again.
    #[error("the log does not answer: {0}")]
    Unanswered(String),
    /// The store said no.
    #[error("{0}")]
    Store(String),
}

/// An append-only log of opaque batches. The law is at the top of this crate; `conformance` (a
/// feature) holds an implementation to it.
///
/// All calls block; a node makes them from one thread of its own.
pub trait Log: Send {
    /// Who appends through this handle. The same after every restart.
    fn origin(&self) -> Origin;

    /// What can be read.
    ///
    /// # Errors
    /// [`Error::Store`] when the store does not answer.
    fn bounds(&mut self) -> Result<Bounds, Error>;

    /// The number of the last batch that this origin appended, 0 for none. Truncation does not
    /// change it.
    fn last_number(&self) -> u64;

    /// Appends one batch. When it returns, the batch is durable.
    ///
    /// # Errors
    /// See [`AppendError`]: each variant says whether something was written and what to do.
    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError>;

    /// How much of the room that the log may take is taken, in percent; 0 where nothing bounds it. About:
    /// what others append is known a little later. Who shares a log must keep some of it free: without
    /// room for what nodes tell each other about a snapshot, a log that is full stays full.
    fn filled_percent(&mut self) -> u8 {
        0
    }

    /// How large a batch had better be: one that has as much should be closed. A larger one is taken
    /// all the same, and costs more.
    fn batch_bytes(&self) -> usize {
        1 << 20
    }

    /// Reads batches in order from `from` on: at least one if there is one, and no further one
    /// once their bodies add up to `bytes_max`. Empty at the end of the log.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the first batch asked for is damaged (batches before a damaged one
    /// are given out first, by themselves); [`Error::Truncated`]; [`Error::Unanswered`] when what is
    /// there cannot be had at this moment; [`Error::Store`].
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error>;

    /// Writes one chunk of a snapshot that covers everything up to `position`, durably. Chunks
    /// are numbered from 0. With `last` the snapshot is complete: it replaces the one before it,
    /// at once and as a whole. A snapshot without its last chunk is never seen by anyone and is
    /// cleared away when the next one begins.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Store`]: the snapshot before it stays.
    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error>;

    /// The newest complete snapshot.
    ///
    /// # Errors
    /// [`Error::DamagedSnapshot`] or [`Error::Store`].
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error>;

    /// Removes batches before `before`, but none that the newest complete snapshot does not cover
    /// and at most a slice of them, so that appends wait for milliseconds and not for seconds.
    /// Returns how many it removed: call again until it is 0.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Store`]: nothing was removed.
    fn truncate(&mut self, before: Position) -> Result<u64, Error>;

    /// Whether an append could succeed now, as far as can be told without making one.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Store`] with the reason why not.
    fn check(&mut self) -> Result<(), Error>;

    /// What tells this log from all others: the same on every node that shares it, and after every
    /// restart.
    fn history(&self) -> u64 {
        self.origin().0
    }

    /// Whether others may append to this log.
    fn is_shared(&self) -> bool {
        false
    }

    /// From here on `tell` is called, from any thread, when batches of others have become
    /// readable. A log that nobody shares never calls it.
    fn on_news(&mut self, tell: Box<dyn Fn() + Send + Sync>) {
        drop(tell);
    }

    /// Puts the newest complete snapshot where those who share the log find it, and those who will:
    /// only what such a snapshot covers may be truncated. Nothing happens in a log that nobody
    /// shares.
    ///
    /// # Errors
    /// [`Error::Store`]: the one that was shared before it stays.
    fn share_snapshot(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Throws away the snapshots that are this handle's own, because what they hold is not to be
    /// trusted: after a restart the shared one is read. Nothing happens in a log that nobody shares.
    ///
    /// # Errors
    /// [`Error::Store`]: they are still there.
    fn forget_snapshots(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
