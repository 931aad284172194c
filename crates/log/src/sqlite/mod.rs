//! The log in one SQLite file. A batch is durable when its append returns.
//!
//! The directory holds `tidings.db` (with `-wal` and `-shm` while open) and `tidings.lock`. Other
//! programs can open the file meanwhile: `sqlite3` can query it and Litestream can replicate it. A
//! second process of this program is rejected.
//!
//! - WAL with `synchronous=FULL`: an append is one transaction, written to the WAL and synced.
//! - Each row carries a checksum of ours (`envelope.rs`), because SQLite does not checksum its pages.
//! - An append inserts one row and nothing else: the last number follows from the last position.
//! - The log runs WAL checkpoints itself, after an append that fills the WAL to its bound: SQLite's
//!   automatic checkpoints do not report a failed fsync.
//!
//! # Measurements
//!
//! `examples/commit_cost.rs`, release build, one of two shared cores, a virtual disk. CPU time (user
//! and system) and p99 of a commit, in microseconds, by page size and pages between checkpoints (bulk
//! rows vary by half between runs, the others by a tenth):
//!
//! | bytes a batch | 4096/1000 | 8192/256 | 8192/512 | 8192/4096 | 16384/1000 | 8192/1000 exclusive |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | 40 | 48, 157 | 51, 206 | 48, 192 | 55, 195 | 52, 175 | 45, 159 |
//! | 1,280 | 50, 165 | 54, 232 | 51, 191 | 63, 209 | 55, 190 | 48, 160 |
//! | 40,960 | 122, 4830 | 110, 1791 | 114, 3294 | 140, 325 | 117, 362 | 105, 306 |
//! | 450,000 | 1681, 19185 | 1088, 9066 | 677, 5652 | 1413, 32005 | 1020, 50108 | 1012, 29117 |
//!
//! The sync itself takes nine tenths of a small commit. Small pages are cheaper for small batches,
//! large pages for bulk; 8192 is within 5 % of the best for each. A long WAL makes a checkpoint cost
//! more CPU as well as more time. Exclusive locking would save 5 to 8 %, but shut out `sqlite3` and
//! Litestream. fdatasync instead of fsync (`LIBSQLITE3_FLAGS=-DHAVE_FDATASYNC`) made no difference on
//! this disk.

mod directory;
mod envelope;
mod fault;
#[cfg(feature = "jetstream")]
pub(crate) mod local;
mod repair;
mod room;
mod scan;
mod schema;
mod snapshot;

use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use crate::turn::{check_snapshot_position, chunk_out_of_turn};
use crate::{AppendError, Batch, Bounds, Error, Log, Origin, Position, Snapshot};

use directory::Directory;
use envelope::Kind;
use fault::{Fault, append_error, fault, store_error};
pub use repair::{Verification, verify};
use room::SNAPSHOT_SHARE;
use scan::{Expected, scan};
use schema::{Anchor, PAGE_BYTES, int};
use snapshot::{Complete, Writing};

/// Pages written to the WAL after which it is checkpointed: 4 MiB. See the table above.
const CHECKPOINT_PAGES: u64 = 512;
/// How to open a [`Sqlite`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// The most that the database file may grow to, in bytes; the WAL adds a few MiB. `None` means as
    /// much as the disk has. Appends may use seven eighths of it, beyond which they are
    /// [`AppendError::Full`]. The last eighth is reserved for snapshots: a full log can be truncated
    /// only behind a snapshot, so without that reserve it would stay full.
    pub bytes_max: Option<u64>,
}

impl Options {
    /// Bounds the file. See [`Options::bytes_max`].
    #[must_use]
    pub const fn bytes_max(mut self, bytes_max: u64) -> Self {
        self.bytes_max = Some(bytes_max);
        self
    }
}

/// A log in a SQLite file. Dropping it checkpoints the WAL into the database file.
#[derive(Debug)]
pub struct Sqlite {
    conn: Connection,
    /// Declared after `conn`, so that the lock is released only when the database is closed.
    directory: Directory,
    origin: Origin,
    first: Position,
    next: Position,
    anchor: Anchor,
    /// The checksum of the newest batch, to recognise a retry without reading the batch back.
    last_crc: Option<u32>,
    /// The newest complete snapshot, or `None` if its row is damaged.
    snapshot: Option<Complete>,
    /// The snapshot that still lacks its last chunk.
    writing: Option<Writing>,
    snapshot_id_next: u64,
    /// Pages written to the WAL since the last checkpoint, rounded up.
    wal_pages: u64,
    bytes_max: Option<u64>,
    /// The size of the last append that found no room; 0 once an append has succeeded.
    refused_bytes: u64,
    /// Why the log is broken: every later call fails with this.
    broken: Option<String>,
}

impl Sqlite {
    /// Opens the log in `directory`, and creates both if they are missing.
    ///
    /// Costs a few milliseconds, independent of the length of the log. SQLite recovers from a crash
    /// here; batches are verified when they are read.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has the log open; [`Error::Store`] when the directory or
    /// the file cannot be created, belongs to another program or was written by a newer version;
    /// [`Error::Full`].
    pub fn open(directory: &Path, options: Options) -> Result<Self, Error> {
        let log = Self::open_any(directory, options)?;
        if schema::number(&log.conn, schema::ELSEWHERE)?.is_some() {
            return Err(Error::Store(format!(
                "{} belongs to a node of a cluster, whose log is in NATS: start it with the servers \
                 (--nats), or choose another data directory",
                directory.display()
            )));
        }
        Ok(log)
    }

    /// As [`Sqlite::open`], but also opens the local state of a node whose log is elsewhere.
    fn open_any(directory: &Path, options: Options) -> Result<Self, Error> {
        let directory = Directory::hold(directory)?;
        let path = directory.database();
        let conn = schema::open(&path)?;
        directory.sync()?;
        let meta = schema::meta(&conn, &path)?;
        let doing = format!("{} cannot be read", path.display());
        let next = schema::next(&conn, &meta).map_err(|e| store_error(&doing, &e))?;
        let snapshot_id_next = snapshot::id_next(&conn).map_err(|e| store_error(&doing, &e))?;
        let newest = match snapshot::newest(&conn) {
            // Every `read_snapshot` reports it again. Until it is replaced nothing counts as covered.
            Err(Error::DamagedSnapshot { .. }) => None,
            newest => newest?,
        };
        let log = Self {
            origin: meta.origin,
            first: meta.first,
            next,
            anchor: meta.anchor,
            last_crc: last_crc(&conn, next).or(meta.last_crc),
            snapshot: newest,
            writing: None,
            snapshot_id_next,
            wal_pages: 0,
            bytes_max: options.bytes_max,
            refused_bytes: 0,
            broken: None,
            conn,
            directory,
        };
        log.bound(SNAPSHOT_SHARE - 1).map_err(|e| store_error(&doing, &e))?;
        Ok(log)
    }

    const fn expected(&self) -> Expected {
        Expected { origin: self.origin, next: self.next, anchor: self.anchor }
    }

    fn ensure_usable(&self) -> Result<(), Error> {
        match &self.broken {
            Some(why) => Err(Error::Store(format!("the log is broken: {why}"))),
            None => Ok(()),
        }
    }

    /// Answers an append whose number is not the next one: it retries the last batch, or is a mistake.
    fn retried(&self, number: u64, body: &[u8], expected: u64) -> Result<Position, AppendError> {
        let last = Position(self.next.0 - 1);
        // Number 0 does not exist. A number before the anchor belongs to a batch that was cut off.
        if number > 0 && self.next > self.anchor.position && number + 1 == expected {
            let head = Kind::Batch.seal([last.0, self.origin.0, number], body);
            if self.last_crc == Some(envelope::crc_of(&head)) {
                return Ok(last);
            }
        }
        Err(AppendError::OutOfTurn { number, expected })
    }

    fn append_failed(&mut self, error: &rusqlite::Error, bytes: usize) -> AppendError {
        let error = append_error(error);
        match &error {
            AppendError::Full(_) => self.refused_bytes = bytes as u64,
            AppendError::Broken(why) => self.broken = Some(why.clone()),
            AppendError::Unknown(_) | AppendError::OutOfTurn { .. } => {}
        }
        error
    }

    /// Counts the pages of a write, and checkpoints the WAL once it is long enough. An append writes a
    /// leaf page, half a parent page on average, and the overflow pages of its body.
    fn count_wal_pages(&mut self, bytes: usize) {
        self.wal_pages += 2 + bytes as u64 / PAGE_BYTES;
        if self.wal_pages < CHECKPOINT_PAGES {
            return;
        }
        self.wal_pages = 0;
        // PASSIVE, because it never waits for readers of other programs.
        let checkpoint = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = checkpoint {
            match fault(&error) {
                // The WAL keeps growing until there is room, or until the other program is done.
                Fault::Full | Fault::Passing => {}
                // Appended batches are durable in the WAL, but nothing later would be.
                Fault::Damaged | Fault::Broken => {
                    self.broken = Some(format!("a checkpoint failed: {error}"));
                }
            }
        }
    }

    /// Runs a write other than an append in a transaction.
    fn write<T>(
        &mut self,
        doing: &str,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let done =
            self.conn.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|tx| {
                let done = work(&tx)?;
                tx.commit()?;
                Ok(done)
            });
        done.map_err(|error| {
            if fault(&error) == Fault::Broken {
                self.broken = Some(error.to_string());
            }
            store_error(doing, &error)
        })
    }

    /// Writes a chunk of a snapshot, for a log that ends before `next`.
    fn write_snapshot_before(
        &mut self,
        next: Position,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.ensure_usable()?;
        check_snapshot_position(position, self.snapshot.map(|s| s.position), next)?;
        let writing = if chunk == 0 {
            let id = self.snapshot_id_next;
            self.snapshot_id_next += 1;
            Writing { id, position, chunk_next: 0, bytes: 0 }
        } else {
            match self.writing {
                Some(w) if (w.position, w.chunk_next) == (position, chunk) => w,
                other => {
                    let turn = other.map(|w| (w.position, w.chunk_next));
                    return Err(chunk_out_of_turn(position, chunk, turn));
                }
            }
        };
        // Only a snapshot may use the reserve of the file's bound.
        let doing = "the bound of the file cannot be set";
        self.bound(SNAPSHOT_SHARE).map_err(|e| store_error(doing, &e))?;
        let done = self.write_chunk(writing, body, last);
        self.bound(SNAPSHOT_SHARE - 1).map_err(|e| store_error(doing, &e))?;
        done
    }

    fn write_chunk(&mut self, writing: Writing, body: &[u8], last: bool) -> Result<(), Error> {
        let complete = self.snapshot;
        let done = self.write("the snapshot cannot be written", |tx| {
            snapshot::clear(tx, complete, Some(writing))?;
            snapshot::add(tx, writing, body, last)
        })?;
        self.writing = Some(Writing {
            chunk_next: writing.chunk_next + 1,
            bytes: writing.bytes + body.len() as u64,
            ..writing
        });
        if done.is_some() {
            self.snapshot = done;
            self.writing = None;
        }
        self.count_wal_pages(body.len());
        Ok(())
    }
}

impl Log for Sqlite {
    fn origin(&self) -> Origin {
        self.origin
    }

    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.ensure_usable()?;
        Ok(Bounds { first: self.first, next: self.next })
    }

    fn last_number(&self) -> u64 {
        self.anchor.number + (self.next.0 - self.anchor.position.0) - 1
    }

    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        if let Some(why) = &self.broken {
            return Err(AppendError::Broken(why.clone()));
        }
        let expected = self.last_number() + 1;
        if number != expected {
            return self.retried(number, body, expected);
        }
        let position = self.next;
        let head = Kind::Batch.seal([position.0, self.origin.0, number], body);
        self.conn
            .prepare_cached("INSERT INTO batch VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![int(position.0), &head[..], body]))
            .map_err(|error| self.append_failed(&error, body.len()))?;
        self.next = position.next();
        self.last_crc = Some(envelope::crc_of(&head));
        self.refused_bytes = 0;
        self.count_wal_pages(body.len());
        Ok(position)
    }

    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        self.ensure_usable()?;
        if from < self.first {
            return Err(Error::Truncated { asked: from, first: self.first });
        }
        let mut batches = Vec::new();
        let mut bytes = 0_usize;
        let end = scan(&self.conn, from, self.expected(), |stored| {
            bytes = bytes.saturating_add(stored.body.len());
            batches.push(Batch {
                position: stored.position,
                origin: self.origin,
                number: stored.number,
                body: stored.body.to_vec(),
            });
            if bytes >= bytes_max {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        match end {
            Err(stop) if batches.is_empty() => Err(stop.into_error(&self.conn, self.next)),
            // Intact batches are returned; the next read starts at the damaged one and reports it.
            Ok(()) | Err(_) => Ok(batches),
        }
    }

    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.write_snapshot_before(self.next, position, chunk, body, last)
    }

    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        self.ensure_usable()?;
        match snapshot::newest(&self.conn)? {
            Some(complete) => snapshot::read(&self.conn, &complete).map(Some),
            None => Ok(None),
        }
    }

    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.remove_slice(before)
    }

    /// Takes the write lock, checks that the file still exists, and checks for room: the disk and
    /// [`Options::bytes_max`] must leave 1 MiB, or twice the size of the last append if that found no
    /// room. Writes nothing, so it detects neither a failing disk nor a quota. An append smaller than
    /// 1 MiB may succeed although this reports that there is no room.
    fn check(&mut self) -> Result<(), Error> {
        self.check_room()
    }
}

/// Returns the checksum of the newest batch, if its row exists and has the right length.
fn last_crc(conn: &Connection, next: Position) -> Option<u32> {
    let sql = "SELECT head FROM batch WHERE position = ?1";
    let head: [u8; envelope::HEAD_BYTES] =
        conn.query_row(sql, [int(next.0 - 1)], |row| row.get(0)).ok()?;
    Some(envelope::crc_of(&head))
}
