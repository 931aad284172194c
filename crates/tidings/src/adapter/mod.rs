//! Bytes to commands, replies and events to bytes: a module for each service, each with requests
//! and responses of its own. Adapters do not see each other.

use std::time::Duration;

use tidings_core::machine::Machine;
use tidings_node::{Handle, Refused, Retry};

pub(crate) mod chat;
pub(crate) mod maze;
pub(crate) mod rockets;
pub(crate) mod tracker;
pub(crate) mod traffic;

/// The pause before settings are logged again.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// Has the settings of a machine logged. A log whose leader is just being elected is no reason for a node not to start, so it is
/// tried until it succeeds. Settings are idempotent.
///
/// # Errors
/// [`Refused`] when it cannot succeed by itself: a log of this node alone has no room.
async fn settle<M: Machine>(machine: &Handle<M>, command: M::Command) -> Result<(), Refused>
where
    M::Command: Clone,
{
    let on_wait = |why: &Refused| tracing::warn!(%why, "the settings are not stored yet");
    let retry =
        Retry { pause: SETTLE_PAUSE, wait_for_room: false, idempotent: true, on_wait: &on_wait };
    machine.propose_until_stored(command, &retry).await.map(drop)
}
