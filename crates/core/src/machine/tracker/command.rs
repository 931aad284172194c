//! The tracker's commands, replies and counters.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// The bounds of this machine. They affect the result of a command, so a command sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most messages, at least one. One more drops the oldest.
    pub capacity: u32,
    /// The most bytes of all ids, first peers and data. While they exceed it, the oldest message is
    /// dropped; the newest stays.
    pub bytes_max: u64,
    /// The most peers counted separately for each message: the first ones that relay it. 0 counts no
    /// relays.
    pub peers_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { capacity: 10_000, bytes_max: 64 << 20, peers_max: 16 }
    }
}

/// A command to the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sets the bounds. The oldest messages that exceed them are dropped.
    Configure(Limits),
    /// A peer relays a message.
    Add {
        /// Identifies the message, whichever peer relays it.
        id: Box<str>,
        /// The peer.
        peer_id: Box<str>,
        /// The content.
        #[serde(with = "crate::machine::bytes")]
        data: Vec<u8>,
    },
    /// Stops tracking a message.
    Remove {
        /// The message.
        id: Box<str>,
    },
}

/// What the proposer of a command gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// The message is now tracked.
    New {
        /// How many of the oldest messages were dropped for it.
        evicted: u32,
    },
    /// A message with this id is tracked already. The first one stays.
    Duplicate,
    /// No message with this id is tracked. Nothing has changed.
    NotFound,
}

/// The tracker sends no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {}

/// Counters since the beginning. Part of the state, so that a restart does not reset them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages that became tracked.
    pub new: u64,
    /// Messages whose id was tracked already.
    pub duplicates: u64,
    /// Messages removed by a command.
    pub removed: u64,
    /// Messages dropped because of [`Limits::capacity`].
    pub capacity: u64,
    /// Messages dropped because of [`Limits::bytes_max`].
    pub bytes_max: u64,
    /// Relays by peers that were not counted separately because of [`Limits::peers_max`].
    pub peers_max: u64,
}
