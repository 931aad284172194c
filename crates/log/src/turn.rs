//! What every log refuses to take as a snapshot.

use crate::{Error, Position};

/// Refuses a snapshot of batches that are not there yet, or one older than what it would replace:
/// what is truncated behind the newer one could not be had again.
pub(crate) fn snapshot_allowed(
    position: Position,
    newest: Option<Position>,
    next: Position,
) -> Result<(), Error> {
    if position >= next {
        return Err(Error::Store(format!(
            "a snapshot at position {position} is refused: the log ends before position {next}"
        )));
    }
    match newest {
        Some(newest) if position < newest => Err(Error::Store(format!(
            "a snapshot at position {position} is refused: there is a newer one at {newest}"
        ))),
        _ => Ok(()),
    }
}

/// Chunks come in order, from 0, for one position.
pub(crate) fn chunk_out_of_turn(
    position: Position,
    chunk: u32,
    turn: Option<(Position, u32)>,
) -> Error {
    Error::Store(match turn {
        Some((at, next)) => format!(
            "chunk {chunk} of a snapshot at position {position} is refused: chunk {next} of the \
             snapshot at {at} is next"
        ),
        None => format!(
            "chunk {chunk} of a snapshot at position {position} is refused: it begins with chunk 0"
        ),
    })
}
