//! The settings of the maze.

use std::time::Duration;

use tidings_core::machine::maze::Limits;

use crate::layers::{Layers, Unusable};

/// The setting with the address that the source of events connects to.
pub(super) const SOURCE: &str = "maze.source";
/// The setting with the address that user clients connect to.
pub(super) const CLIENTS: &str = "maze.clients";

/// The settings of the maze.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the source of events connects.
    pub(super) source: String,
    /// Where user clients connect.
    pub(super) clients: String,
    /// The bounds of the machine.
    pub(super) limits: Limits,
    /// Connections of user clients.
    pub(super) clients_max: usize,
    /// How long a client may take to send its id.
    pub(super) handshake_wait: Duration,
    /// How much may be queued for one client.
    pub(super) client_queue_bytes_max: usize,
    /// How much may be queued for all clients together.
    pub(super) client_queues_bytes_max: usize,
    /// How long, in all, one client may throttle the source.
    pub(super) slow_client_wait: Duration,
    /// How much is read of the source and applied at once.
    pub(super) feed_bytes_max: usize,
}

impl Settings {
    pub(super) fn read(layers: &Layers) -> Result<Self, Unusable> {
        const COUNT_MAX: u64 = (u32::MAX >> 1) as u64;
        Ok(Self {
            source: layers.address(SOURCE)?,
            clients: layers.address(CLIENTS)?,
            limits: Limits {
                held_max: layers.count("maze.held_max", 1..=COUNT_MAX)?,
                gap_wait_ms: layers.time_ms("maze.gap_wait")?,
                users_max: layers.count("maze.users_max", 1..=COUNT_MAX)?,
                follows_max: layers.count("maze.follows_max", 1..=u64::MAX >> 1)?,
                keep: layers.truth("maze.keep")?,
            },
            clients_max: layers.count("maze.clients_max", 1..=1_000_000)?,
            handshake_wait: layers.time("maze.handshake_wait")?,
            client_queue_bytes_max: layers
                .bytes("maze.client_queue_bytes_max", 1 << 10..=1 << 30)?,
            client_queues_bytes_max: layers
                .bytes("maze.client_queues_bytes_max", 1 << 10..=1 << 40)?,
            slow_client_wait: layers.time("maze.slow_client_wait")?,
            feed_bytes_max: layers.bytes("maze.feed_bytes_max", 4 << 10..=64 << 20)?,
        })
    }
}
