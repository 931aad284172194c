//! Proposing to the machine of the maze, for the source and for the upkeep of several nodes.

use std::time::Duration;

use tidings_core::machine::maze::{Command, Maze, PAUSE_MS, Reply};
use tidings_node::{Refused, Retry};
use tokio::time::timeout;

use super::Adapter;

/// The pause before a log that had no room is tried again.
const ROOM_WAIT: Duration = Duration::from_millis(200);
/// How much is released at once of the events that a command had to leave.
const RELEASE_BYTES: usize = 256 << 10;

/// Proposes a command until it is stored. Every command that is proposed here is idempotent: stored twice, it counts once.
pub(super) async fn propose(adapter: &Adapter, command: Command) -> Result<Reply, Refused> {
    let on_wait = |why: &Refused| adapter.room_complaint.warn(why);
    let retry =
        Retry { pause: ROOM_WAIT, wait_for_room: true, idempotent: true, on_wait: &on_wait };
    adapter.machine.propose_until_stored(command, &retry).await
}

/// Releases the events that a command had to leave, as the clients have room.
pub(super) async fn release(adapter: &Adapter) -> Result<(), Refused> {
    loop {
        adapter.registry.wait_for_room().await;
        wait_for_pauses(adapter).await;
        let bytes = adapter.registry.feed_bytes(adapter.piece(RELEASE_BYTES));
        adapter.registry.feeding(bytes);
        let bytes_max = u32::try_from(bytes).unwrap_or(u32::MAX);
        if propose(adapter, Command::Release { bytes_max }).await? != Reply::More {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Waits while any node has the source paused.
pub(super) async fn wait_for_pauses(adapter: &Adapter) {
    while adapter.leases.is_shared() {
        let mut changed = std::pin::pin!(adapter.outside.source_changed.notified());
        changed.as_mut().enable();
        let Some(until) = adapter.machine.read(Maze::paused_until) else { return };
        // Whatever the clocks say, no pause lasts longer.
        let left_ms = until.0.saturating_sub(adapter.machine.clock().now().0).min(PAUSE_MS);
        if left_ms == 0 {
            return;
        }
        drop(timeout(Duration::from_millis(left_ms), changed).await);
    }
}
