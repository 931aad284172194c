//! Why a node ends.

use tidings_core::machine::Malformed;
use tidings_log::{AppendError, Position};

use crate::agreement::Disagreement;

/// Why a node cannot start, or cannot go on. It is of no more use: see [`Fatal::is_behind`] for when another
/// one in the same process can take its place.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The log does not read back, or cannot be trusted any more.
    #[error(transparent)]
    Log(#[from] tidings_log::Error),
    /// The log refused an append for good.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Something stored cannot be understood by this build.
    #[error("at position {position}: {why}")]
    Malformed {
        /// The batch that it stands in, or the snapshot.
        position: Position,
        /// What it is.
        why: Malformed,
    },
    /// An entry is for a machine that this build does not have.
    #[error(
        "the entry at position {position} is for machine {machine}, which this program does not \
         have: it was written by a later version"
    )]
    UnknownMachine {
        /// The batch that it stands in.
        position: Position,
        /// The number of the machine.
        machine: u8,
    },
    /// A node's batches are not all there.
    #[error(
        "at position {position} stands batch {number} of origin {origin:016x}, and its batch {missing} \
         stands nowhere before: the log has lost it"
    )]
    Missing {
        /// Where it was noticed.
        position: Position,
        /// Whose batch it is.
        origin: u64,
        /// The first one that is not there.
        missing: u64,
        /// The one that is.
        number: u64,
    },
    /// The log gave a place that was taken.
    #[error(
        "the log gave position {position} to a new batch, and another one had been read there: it has \
         lost what it had acknowledged"
    )]
    GivenAgain {
        /// The place.
        position: Position,
    },
    /// This node is not what the others are.
    #[error(
        "behind the checkpoint at position {} this node has come to {:032x} ({} of the nodes), others \
         to {:032x} ({} of them): what it holds is not to be trusted and is thrown away; started again, \
         it is built from the snapshot that the nodes share",
        .0.position, .0.mine, .0.votes.0, .0.theirs, .0.votes.1
    )]
    Differs(Disagreement),
    /// The node is to stop while an append has no outcome: what was proposed last may be in the log.
    #[error("stopped while the log did not answer: {0}")]
    Unanswered(String),
    /// The thread that owns the log could not be started.
    #[error("the log's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl Fatal {
    /// Whether others have truncated what this node had yet to read. Nothing is wrong with it: started
    /// again, it is built from the snapshot that the nodes share.
    pub const fn is_behind(&self) -> bool {
        matches!(self, Self::Log(tidings_log::Error::Truncated { .. }))
    }
}
