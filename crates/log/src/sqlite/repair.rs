//! For a person whose log is damaged: what is wrong with it, and a way to go on without the rest.

use std::ops::ControlFlow;
use std::path::Path;

use super::directory::DATABASE;
use super::fault::store_error;
use super::scan::{Expected, Stop, scan};
use super::schema::{Anchor, int, meta, next, open_to_read, set_meta};
use super::{Sqlite, snapshot};
use crate::{Error, Log as _, Origin, Position};

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Who appends to this log.
    pub origin: Origin,
    /// The oldest batch that should be there.
    pub first: Position,
    /// Where the next append will stand.
    pub next: Position,
    /// Batches from `first` on that are as they were written.
    pub batches: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// The newest complete snapshot, if there is one and it reads back.
    pub snapshot: Option<Position>,
    /// Everything that does not read back: an [`Error::Damaged`] with the first batch that cannot
    /// be trusted, an [`Error::DamagedSnapshot`], both or none.
    pub damages: Vec<String>,
    /// The first batch that cannot be trusted: what [`Sqlite::cut`] would be given.
    pub damaged: Option<Position>,
}

/// Reads the whole log in `directory` once and believes none of it. Changes nothing and takes no
/// lock: it may run beside the process that has the log open, whose WAL cannot be emptied
/// meanwhile. Memory: one batch.
///
/// # Errors
/// [`Error::Store`] when the file cannot be opened or read at all.
pub fn verify(directory: &Path) -> Result<Report, Error> {
    let path = directory.join(DATABASE);
    let doing = format!("{} cannot be read", path.display());
    let mut conn = open_to_read(&path)?;
    // One transaction, so that all of it is of one moment.
    let conn = conn.transaction().map_err(|e| store_error(&doing, &e))?;
    let meta = meta(&conn, &path)?;
    let next = next(&conn, &meta).map_err(|e| store_error(&doing, &e))?;
    let mut report = Report {
        origin: meta.origin,
        first: meta.first,
        next,
        batches: 0,
        bytes: 0,
        snapshot: None,
        damages: Vec::new(),
        damaged: None,
    };
    let expected = Expected { origin: meta.origin, next, anchor: meta.anchor };
    let end = scan(&conn, meta.first, expected, |stored| {
        report.batches += 1;
        report.bytes += stored.body.len() as u64;
        ControlFlow::Continue(())
    });
    match end {
        Ok(()) => {}
        Err(Stop::Store(error)) => return Err(error),
        Err(Stop::Damaged(position, what)) => {
            report.damaged = Some(position);
            let error = Stop::Damaged(position, what).into_error(&conn, next);
            report.damages.push(error.to_string());
        }
    }
    let newest = snapshot::newest(&conn).and_then(|newest| match newest {
        Some(complete) => {
            snapshot::each_chunk(&conn, &complete, |_| {}).map(|()| Some(complete.position))
        }
        None => Ok(None),
    });
    match newest {
        Ok(position) => report.snapshot = position,
        Err(error @ Error::DamagedSnapshot { .. }) => report.damages.push(error.to_string()),
        Err(other) => return Err(other),
    }
    Ok(report)
}

impl Sqlite {
    /// Removes the batch at `from` and all behind it, so that a log damaged there can go on
    /// without them: what they held is lost. Returns how many rows were removed. Their positions
    /// are given out again, their numbers are not. Costs a read of each page of theirs, in one
    /// transaction.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::Store`] when `from` is behind the end of the log, or when a
    /// snapshot that reads back covers it (the damage is behind nobody then: truncate instead).
    /// A damaged snapshot that covers it is removed as well. Nothing is changed on an error.
    pub fn cut(&mut self, from: Position) -> Result<u64, Error> {
        self.whole()?;
        if from < self.first {
            return Err(Error::Truncated { asked: from, first: self.first });
        }
        if from > self.next {
            return Err(Error::Store(format!(
                "the log cannot be cut at position {from}: it ends before position {}",
                self.next
            )));
        }
        let drop_snapshot = match self.read_snapshot() {
            Ok(Some(snapshot)) if snapshot.position >= from => {
                return Err(Error::Store(format!(
                    "the log is not cut at position {from}: the snapshot at position {} covers \
                     it, so that nothing is lost by truncating the log up to there",
                    snapshot.position
                )));
            }
            Ok(_) => false,
            Err(Error::DamagedSnapshot { position, .. }) => position >= from,
            Err(other) => return Err(other),
        };
        let anchor = Anchor { position: from, number: self.last_number() + 1 };
        let removed = self.write("the log cannot be cut", |tx| {
            let removed = tx.execute("DELETE FROM batch WHERE position >= ?1", [int(from.0)])?;
            set_meta(tx, "anchor_position", int(anchor.position.0))?;
            set_meta(tx, "anchor_number", int(anchor.number))?;
            tx.execute("DELETE FROM meta WHERE key = 'last_crc'", [])?;
            if drop_snapshot {
                tx.execute("DELETE FROM snapshot", [])?;
            }
            Ok(removed)
        })?;
        self.anchor = anchor;
        self.next = from;
        self.last_crc = None;
        self.writing = None;
        if drop_snapshot {
            self.snapshot = None;
        }
        self.wrote(0);
        Ok(removed as u64)
    }
}
