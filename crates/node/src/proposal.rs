//! Proposals: commands on their way into the log, and why they are refused.

use tidings_core::machine::Timestamp;
use tokio::sync::oneshot;

/// Why a proposal was not taken. Nothing has changed, unless it is [`Refused::Unknown`] or [`Refused::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The log has no room. Try again when there is.
    #[error("there is no room to store it: {0}")]
    NoRoom(String),
    /// The log does not answer, and the proposal was not sent. Try again.
    #[error("the log does not answer: {0}")]
    Silent(String),
    /// The log does not answer, and the proposal may be stored, now or later. Try again if the command is idempotent.
    #[error("the log does not answer, and whether it was stored is not known: {0}")]
    Unknown(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The log is broken and the process is about to end. A restart shows whether the proposal was stored. Try again then
    /// if the command is idempotent.
    #[error("the log has failed: {0}")]
    Failed(String),
}

/// The receiver of a proposal's reply.
pub(crate) type Awaited<R> = oneshot::Receiver<Result<R, Refused>>;

/// Commands of one machine that wait for their commit.
pub(crate) trait Proposal: Send {
    /// The number of the machine that the commands are for.
    fn machine(&self) -> u8;
    /// How many entries the commands become.
    fn entries(&self) -> u64;
    /// Appends these entries to a batch.
    fn encode(&self, out: &mut Vec<u8>);
    /// Applies the commands, the first as entry number `entry`, and keeps the replies.
    fn apply(&mut self, at: Timestamp, entry: u64);
    /// Sends the replies. This is a step of its own, because a task on the proposers' runtime does it (see `queue`).
    fn answer(self: Box<Self>);
    /// Sends the refusal instead of replies. The commands may still be applied afterwards: an append of unknown outcome
    /// goes on after its proposers got [`Refused::Unknown`].
    fn refuse(&mut self, why: &Refused);
}
