//! What a log that keeps its batches elsewhere keeps in a directory here: who appends, which log it
//! is, this node's own snapshots, and the last batch that it knows of.

use std::path::Path;

use super::schema::{self, ELSEWHERE};
use super::{Options, Sqlite};
use crate::{Error, Origin, Position, Snapshot};

/// The last batch of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) number: u64,
    pub(crate) position: Position,
    pub(crate) crc: u32,
}

/// A directory beside a log that is elsewhere.
#[derive(Debug)]
pub(crate) struct Beside {
    file: Sqlite,
    last: Last,
}

impl Beside {
    /// Opens the directory, or makes it. `identity` is what tells one log elsewhere from another, and
    /// `name` what people call it.
    ///
    /// # Errors
    /// [`Error::Store`] when it belongs to another log, or is one itself; as [`Sqlite::open`].
    pub(crate) fn open(directory: &Path, identity: i64, name: &str) -> Result<Self, Error> {
        let file = Sqlite::open_any(directory, Options::default())?;
        let refused = |why: String| Err(Error::Store(format!("{} {why}", directory.display())));
        match schema::number(&file.conn, ELSEWHERE)? {
            Some(known) if known == identity => {}
            Some(_) => {
                return refused(format!(
                    "belongs to another log than {name} (or that one has been made anew): choose \
                     another data directory, or remove this one"
                ));
            }
            None if file.next != Position(1) => {
                return refused(format!(
                    "holds a log of its own: copy it to {name} first (tidings log copy), or choose \
                     another data directory"
                ));
            }
            None => {}
        }
        let mut beside = Self { file, last: Last::default() };
        beside.set(&[(ELSEWHERE, identity)])?;
        let number =
            |key| Ok::<_, Error>(schema::number(&beside.file.conn, key)?.unwrap_or_default());
        beside.last = Last {
            number: number("last_number")?.cast_unsigned(),
            position: Position(number("last_position")?.cast_unsigned()),
            crc: u32::try_from(number("last_crc")?).unwrap_or_default(),
        };
        Ok(beside)
    }

    pub(crate) const fn origin(&self) -> Origin {
        self.file.origin
    }

    /// The last batch of this origin that was told to [`Beside::keep_last`].
    pub(crate) const fn last(&self) -> Last {
        self.last
    }

    /// Keeps it for the time when the log has let go of the batch.
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

    /// As [`crate::Log::write_snapshot`] of a log that ends before `next`.
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

    /// What the newest complete snapshot covers.
    pub(crate) fn snapshot_position(&self) -> Option<Position> {
        self.file.snapshot.map(|snapshot| snapshot.position)
    }

    /// As [`crate::Log::read_snapshot`].
    pub(crate) fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        crate::Log::read_snapshot(&mut self.file)
    }

    /// Throws all snapshots away.
    pub(crate) fn forget_snapshots(&mut self) -> Result<(), Error> {
        self.file.write("the snapshots cannot be removed", |tx| {
            tx.execute("DELETE FROM snapshot", [])?;
            tx.execute("DELETE FROM chunk", [])
        })?;
        (self.file.snapshot, self.file.writing) = (None, None);
        Ok(())
    }

    fn set(&mut self, rows: &[(&str, i64)]) -> Result<(), Error> {
        self.file.write("what is known of the log cannot be written", |tx| {
            rows.iter().try_for_each(|(key, value)| schema::set_meta(tx, key, *value))
        })
    }
}
