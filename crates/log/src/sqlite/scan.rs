//! Walks over stored batches and believes none of them.

use std::ops::ControlFlow;

use rusqlite::Connection;

use super::envelope::Kind;
use super::fault::{Fault, fault, store_error};
use super::schema::{Anchor, int};
use crate::{Error, Origin, Position};

/// What a walk has to know to believe a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) origin: Origin,
    pub(super) next: Position,
    pub(super) anchor: Anchor,
}

/// A batch that was stored at `position` and is as it was written.
pub(super) struct Stored<'a> {
    pub(super) position: Position,
    pub(super) number: u64,
    pub(super) body: &'a [u8],
}

/// Why a walk ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The batch at this position cannot be trusted.
    Damaged(Position, String),
    /// Something else than the batches is wrong.
    Store(Error),
}

impl Stop {
    /// The error to give out. Counts what stands behind the damage: O(batches behind it).
    pub(super) fn into_error(self, conn: &Connection, next: Position) -> Error {
        match self {
            Self::Store(error) => error,
            Self::Damaged(position, what) => {
                Error::Damaged { position, what, behind: behind(conn, position, next) }
            }
        }
    }
}

/// Hands each batch from `from` on to `visit`, in order, until it breaks off. The body is
/// SQLite's own memory: nothing is copied here.
pub(super) fn scan(
    conn: &Connection,
    from: Position,
    expected: Expected,
    mut visit: impl FnMut(Stored<'_>) -> ControlFlow<()>,
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
        let number = believe(position, head, body, expected)
            .map_err(|what| Stop::Damaged(position, what))?;
        let stored = Stored { position, number, body };
        if visit(stored).is_break() {
            break;
        }
        position = position.next();
    }
    Ok(())
}

/// The number of the batch, or why it is not the one that was written there.
fn believe(
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
            Err(format!("its number {number} was given out later"))
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

/// How many batches stand behind a damaged one; where not even that can be read, how many should.
fn behind(conn: &Connection, position: Position, next: Position) -> u64 {
    conn.query_row("SELECT count(*) FROM batch WHERE position > ?1", [int(position.0)], |row| {
        row.get::<_, i64>(0)
    })
    .map_or(next.0.saturating_sub(position.0 + 1), i64::cast_unsigned)
}
