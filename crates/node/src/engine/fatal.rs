//! The errors that end a node.

use tidings_core::machine::Malformed;
use tidings_log::{AppendError, Position};

use crate::agreement::Disagreement;

/// Why a node cannot start, or cannot go on. The node cannot be used any more. [`Fatal::is_behind`] says when another node in
/// the same process can take its place.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The log cannot be read, or cannot be trusted any more.
    #[error(transparent)]
    Log(#[from] tidings_log::Error),
    /// The log refused an append for good.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Something stored cannot be understood by this build.
    #[error("at position {position}: {why}")]
    Malformed {
        /// The position of the batch or the snapshot.
        position: Position,
        /// What cannot be decoded.
        why: Malformed,
    },
    /// An entry is for a machine that this build does not have.
    #[error(
        "the entry at position {position} is for machine {machine}, which this program does not \
         have: it was written by a later version"
    )]
    UnknownMachine {
        /// The position of the batch.
        position: Position,
        /// The number of the machine.
        machine: u8,
    },
    /// A batch of a node is missing.
    #[error(
        "position {position} holds batch {number} of origin {origin:016x}, and no earlier position holds its \
         batch {missing}: the log has lost it"
    )]
    Missing {
        /// The position where that was noticed.
        position: Position,
        /// The node that appended the batch.
        origin: u64,
        /// The number of the first batch that is missing.
        missing: u64,
        /// The number of the batch that was found.
        number: u64,
    },
    /// The log gave a position twice.
    #[error(
        "the log gave position {position} to a new batch, though another batch had been read there: it has lost \
         what it had acknowledged"
    )]
    GivenAgain {
        /// The position.
        position: Position,
    },
    /// This node has another state than the other nodes.
    #[error(
        "at the checkpoint at position {} the state of this node has digest {:032x} ({} of the nodes), of others \
         {:032x} ({} of the nodes): its own snapshots are deleted; started again, it restores the snapshot that \
         the nodes share",
        .0.position, .0.mine, .0.votes.0, .0.theirs, .0.votes.1
    )]
    Differs(Disagreement),
    /// The node was stopped while the outcome of an append was unknown: the last proposals may be in the log.
    #[error("stopped while the log did not answer: {0}")]
    Unanswered(String),
    /// The thread that owns the log could not be started.
    #[error("the log's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl Fatal {
    /// Returns whether the node merely fell behind: another node has truncated what this one had yet to read. Started again, it
    /// restores the snapshot that the nodes share.
    pub const fn is_behind(&self) -> bool {
        matches!(self, Self::Log(tidings_log::Error::Truncated { .. }))
    }
}
