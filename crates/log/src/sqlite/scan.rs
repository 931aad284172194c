//! Reads stored batches in order and verifies each of them.

use std::ops::ControlFlow;

use rusqlite::Connection;

use super::envelope::Kind;
use super::fault::{Fault, fault, store_error};
use super::schema::{Anchor, int};
use crate::{Error, Origin, Position};

/// What the rows of a log must agree with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) origin: Origin,
    pub(super) next: Position,
    pub(super) anchor: Anchor,
}

/// An intact batch. Borrows its body from SQLite.
pub(super) struct StoredBatch<'a> {
    pub(super) position: Position,
    pub(super) number: u64,
    pub(super) body: &'a [u8],
}

/// Why a scan stopped early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The batch at this position cannot be trusted.
    Damaged(Position, String),
    /// The store failed, independently of any batch.
    Store(Error),
}

impl Stop {
    /// Converts to the public error. Counts the batches behind the damage, at O(n) cost.
    pub(super) fn into_error(self, conn: &Connection, next: Position) -> Error {
        match self {
            Self::Store(error) => error,
            Self::Damaged(position, what) => {
                Error::Damaged { position, what, behind: behind(conn, position, next) }
            }
        }
    }
}

/// Passes each batch from `from` on to `visit`, in order, until `visit` breaks. The body is SQLite's own
/// memory: the scan copies nothing.
pub(super) fn scan(
    conn: &Connection,
    from: Position,
    expected: Expected,
    mut visit: impl FnMut(StoredBatch<'_>) -> ControlFlow<()>,
) -> Result<(), Stop> {
    let mut position = from;
    let sql = "SELECT position, head, body FROM batch WHERE position >= ?1 ORDER BY position";
    let mut statement = conn.prepare_cached(sql).map_err(|error| stop(position, &error))?;
    let mut rows = statement.query([int(from.0)]).map_err(|error| stop(position, &error))?;
    while position < expected.next {
        let row = rows.next().map_err(|error| stop(position, &error))?;
        let stored = row.map(|row| -> rusqlite::Result<_> {
            Ok((row.get::<_, i64>(0)?, row.get_ref(1)?, row.get_ref(2)?))
        });
        let damaged = |what: &str| Stop::Damaged(position, what.to_owned());
        let (at, head, body) = match stored.transpose() {
            Ok(Some(stored)) => stored,
            Ok(None) => return Err(damaged("its row is missing")),
            Err(error) => return Err(stop(position, &error)),
        };
        if at != int(position.0) {
            return Err(damaged("its row is missing"));
        }
        let (Ok(head), Ok(body)) = (head.as_blob(), body.as_blob()) else {
            return Err(damaged("its row does not hold bytes"));
        };
        let number = verify_batch(position, head, body, expected)
            .map_err(|what| Stop::Damaged(position, what))?;
        let stored = StoredBatch { position, number, body };
        if visit(stored).is_break() {
            break;
        }
        position = position.next();
    }
    Ok(())
}

/// Returns the number of a batch, or why it is not the batch that was written at `position`.
fn verify_batch(
    position: Position,
    head: &[u8],
    body: &[u8],
    expected: Expected,
) -> Result<u64, String> {
    let [at, origin, number] = Kind::Batch.open(head, body)?;
    if at != position.0 {
        return Err(format!("it was written for position {at}"));
    }
    if origin != expected.origin.0 {
        return Err("it was written by another origin".to_owned());
    }
    match expected.anchor.number_at(position) {
        Some(expected) if number != expected => {
            Err(format!("its number is {number} instead of {expected}"))
        }
        None if number >= expected.anchor.number => {
            Err(format!("its number {number} was assigned later"))
        }
        _ => Ok(number),
    }
}

fn stop(position: Position, error: &rusqlite::Error) -> Stop {
    match fault(error) {
        Fault::Damaged => Stop::Damaged(position, format!("its page cannot be read: {error}")),
        Fault::Full | Fault::Passing | Fault::Broken => Stop::Store(store_error(
            &format!("the batch at position {position} cannot be read"),
            error,
        )),
    }
}

/// Counts the batches behind a damaged one. If not even that can be read, returns how many there should be.
fn behind(conn: &Connection, position: Position, next: Position) -> u64 {
    conn.query_row("SELECT count(*) FROM batch WHERE position > ?1", [int(position.0)], |row| {
        row.get::<_, i64>(0)
    })
    .map_or(next.0.saturating_sub(position.0 + 1), i64::cast_unsigned)
}
