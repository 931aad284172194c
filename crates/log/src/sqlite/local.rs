//! The local state of a node whose log is elsewhere (in JetStream): the node's origin, which log the
//! directory belongs to, the node's own snapshots, and the last batch that the node appended.
//!
//! It is the same SQLite file as a log of its own, with an empty `batch` table.

use std::path::Path;

use super::schema::{self, ELSEWHERE};
use super::{Options, Sqlite};
use crate::{Error, Origin, Position, Snapshot};

/// The last batch of an origin: enough to recognise a retry of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) number: u64,
    pub(crate) position: Position,
    pub(crate) crc: u32,
}

/// The data directory of a node whose log is elsewhere.
#[derive(Debug)]
pub(crate) struct LocalState {
    file: Sqlite,
    /// A copy of what the meta table holds, so that an unchanged value costs no write.
    last: Last,
}

impl LocalState {
    /// Opens the directory, or creates it. `identity` distinguishes the remote log from every other one;
    /// `name` is what error messages call it.
    ///
    /// # Errors
    /// [`Error::Store`] when the directory belongs to another log, or holds a log of its own; otherwise
    /// as [`Sqlite::open`].
    pub(crate) fn open(directory: &Path, identity: i64, name: &str) -> Result<Self, Error> {
        let file = Sqlite::open_any(directory, Options::default())?;
        let reject = |why: String| Err(Error::Store(format!("{} {why}", directory.display())));
        match schema::number(&file.conn, ELSEWHERE)? {
            Some(known) if known == identity => {}
            Some(_) => {
                return reject(format!(
                    "belongs to another log than {name} (or that one has been created again): choose \
                     another data directory, or remove this one"
                ));
            }
            None if file.next != Position(1) => {
                return reject(format!(
                    "holds a log of its own: copy it to {name} first (tidings log copy), or choose \
                     another data directory"
                ));
            }
            None => {}
        }
        let mut local = Self { file, last: Last::default() };
        local.set(&[(ELSEWHERE, identity)])?;
        let number =
            |key| Ok::<_, Error>(schema::number(&local.file.conn, key)?.unwrap_or_default());
        local.last = Last {
            number: number("last_number")?.cast_unsigned(),
            position: Position(number("last_position")?.cast_unsigned()),
            crc: u32::try_from(number("last_crc")?).unwrap_or_default(),
        };
        Ok(local)
    }

    pub(crate) const fn origin(&self) -> Origin {
        self.file.origin
    }

    /// Returns the batch that was last given to [`LocalState::keep_last`], also before a restart.
    pub(crate) const fn last(&self) -> Last {
        self.last
    }

    /// Stores the last batch, because a truncation of the remote log may remove it there.
    pub(crate) fn keep_last(&mut self, last: Last) -> Result<(), Error> {
        if self.last == last {
            return Ok(());
        }
        self.set(&[
            ("last_number", last.number.cast_signed()),
            ("last_position", last.position.0.cast_signed()),
            ("last_crc", i64::from(last.crc)),
        ])?;
        self.last = last;
        Ok(())
    }

    /// As [`crate::Log::write_snapshot`], for a log that ends before `next`.
    pub(crate) fn write_snapshot(
        &mut self,
        next: Position,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.file.write_snapshot_before(next, position, chunk, body, last)
    }

    /// Returns the last position that the newest complete snapshot covers.
    pub(crate) fn snapshot_position(&self) -> Option<Position> {
        self.file.snapshot.map(|snapshot| snapshot.position)
    }

    /// As [`crate::Log::read_snapshot`].
    pub(crate) fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        crate::Log::read_snapshot(&mut self.file)
    }

    /// Deletes all snapshots, the partial one included.
    pub(crate) fn forget_snapshots(&mut self) -> Result<(), Error> {
        self.file.write("the snapshots cannot be removed", |tx| {
            tx.execute("DELETE FROM snapshot", [])?;
            tx.execute("DELETE FROM chunk", [])
        })?;
        self.file.snapshot = None;
        self.file.writing = None;
        Ok(())
    }

    fn set(&mut self, rows: &[(&str, i64)]) -> Result<(), Error> {
        self.file.write("what is known of the log cannot be written", |tx| {
            rows.iter().try_for_each(|(key, value)| schema::set_meta(tx, key, *value))
        })
    }
}
