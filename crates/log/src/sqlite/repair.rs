//! Tools for an operator whose log is damaged: find the damage, and cut the log before it.

use std::ops::ControlFlow;
use std::path::Path;

use super::directory::DATABASE;
use super::fault::store_error;
use super::scan::{Expected, Stop, scan};
use super::schema::{Anchor, int, meta, next, open_to_read, set_meta};
use super::{Sqlite, snapshot};
use crate::{Error, Log as _, Origin, Position};

/// The findings of [`verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The origin that appends to this log.
    pub origin: Origin,
    /// The oldest batch that should exist.
    pub first: Position,
    /// The position of the next append.
    pub next: Position,
    /// The intact batches from `first` up to the first damaged one.
    pub batches: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// The position of the newest complete snapshot, if there is one and it is intact.
    pub snapshot: Option<Position>,
    /// Every damage found: at most one [`Error::Damaged`] for the first damaged batch and one
    /// [`Error::DamagedSnapshot`].
    pub damages: Vec<String>,
    /// The first batch that cannot be trusted: the argument for [`Sqlite::cut`].
    pub damaged: Option<Position>,
}

/// Reads the whole log in `directory` once and verifies every checksum. Changes nothing and takes no
/// lock, so it may run while another process has the log open; that process cannot empty its WAL
/// meanwhile. Holds one batch in memory.
///
/// # Errors
/// [`Error::Store`] when the file cannot be opened or read at all.
pub fn verify(directory: &Path) -> Result<Verification, Error> {
    let path = directory.join(DATABASE);
    let doing = format!("{} cannot be read", path.display());
    let mut conn = open_to_read(&path)?;
    // One transaction, so that every query sees the same state.
    let conn = conn.transaction().map_err(|e| store_error(&doing, &e))?;
    let meta = meta(&conn, &path)?;
    let next = next(&conn, &meta).map_err(|e| store_error(&doing, &e))?;
    let mut found = Verification {
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
        found.batches += 1;
        found.bytes += stored.body.len() as u64;
        ControlFlow::Continue(())
    });
    match end {
        Ok(()) => {}
        Err(Stop::Store(error)) => return Err(error),
        Err(Stop::Damaged(position, what)) => {
            found.damaged = Some(position);
            let error = Stop::Damaged(position, what).into_error(&conn, next);
            found.damages.push(error.to_string());
        }
    }
    let newest = snapshot::newest(&conn).and_then(|newest| match newest {
        Some(complete) => {
            snapshot::each_chunk(&conn, &complete, |_| {}).map(|()| Some(complete.position))
        }
        None => Ok(None),
    });
    match newest {
        Ok(position) => found.snapshot = position,
        Err(error @ Error::DamagedSnapshot { .. }) => found.damages.push(error.to_string()),
        Err(other) => return Err(other),
    }
    Ok(found)
}

impl Sqlite {
    /// Removes the batch at `from` and every batch behind it, so that a log damaged there can continue.
    /// Their contents are lost. Returns how many rows were removed. Their positions are assigned again,
    /// their numbers are not: a retry of a removed batch must not pass for a new one. Reads each page of
    /// those rows, in one transaction.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::Store`] when `from` is behind the end of the log, or when an intact
    /// snapshot covers it (then truncating loses nothing). A damaged snapshot that covers it is removed
    /// as well. On an error nothing is changed.
    pub fn cut(&mut self, from: Position) -> Result<u64, Error> {
        self.ensure_usable()?;
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
        self.count_wal_pages(0);
        Ok(removed as u64)
    }
}
