//! The order that every log requires of snapshots and of their chunks.

use crate::{Error, Position};

/// Rejects a snapshot that covers batches which do not exist yet, and one that is older than the snapshot
/// it would replace: batches that were truncated behind the newer one could not be recovered.
pub(crate) fn check_snapshot_position(
    position: Position,
    newest: Option<Position>,
    next: Position,
) -> Result<(), Error> {
    if position >= next {
        return Err(Error::Store(format!(
            "a snapshot at position {position} is rejected: the log ends before position {next}"
        )));
    }
    match newest {
        Some(newest) if position < newest => Err(Error::Store(format!(
            "a snapshot at position {position} is rejected: there is a newer one at {newest}"
        ))),
        _ => Ok(()),
    }
}

/// The error for a chunk out of order. Chunks of one snapshot are numbered densely from 0.
pub(crate) fn chunk_out_of_turn(
    position: Position,
    chunk: u32,
    turn: Option<(Position, u32)>,
) -> Error {
    Error::Store(match turn {
        Some((at, next)) => format!(
            "chunk {chunk} of a snapshot at position {position} is rejected: chunk {next} of the \
             snapshot at {at} is next"
        ),
        None => format!(
            "chunk {chunk} of a snapshot at position {position} is rejected: it begins with chunk 0"
        ),
    })
}
