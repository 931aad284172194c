//! Bytes to commands, replies and events to bytes: a module for each service, each with requests
//! and responses of its own. Adapters do not see each other.

use std::time::Duration;

use tidings_core::machine::Machine;
use tidings_node::{Handle, Refused};

pub(crate) mod chat;
pub(crate) mod maze;
pub(crate) mod rockets;
pub(crate) mod tracker;
pub(crate) mod traffic;

/// How long a log that does not answer is left alone.
const SETTLE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Has the settings of a machine logged. Where that may work a little later it is tried until it does: a log
/// whose leader is just being elected is no reason for a node not to start.
///
/// # Errors
/// [`Refused`] when it will not work by itself.
async fn settle<M: Machine>(machine: &Handle<M>, command: M::Command) -> Result<(), Refused>
where
    M::Command: Clone,
{
    loop {
        let Err(why) = machine.propose(command.clone()).await else { return Ok(()) };
        let passes = match &why {
            Refused::Silent(_) | Refused::Unknown(_) => true,
            // Of a shared log checkpoints make some.
            Refused::NoRoom(_) => machine.is_shared(),
            Refused::Stopping | Refused::Failed(_) => false,
        };
        if !passes {
            return Err(why);
        }
        tracing::warn!(%why, "the settings are not stored yet");
        tokio::time::sleep(SETTLE_AGAIN_AFTER).await;
    }
}
