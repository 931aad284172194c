//! What is asked of the tracker, what it answers, and what it counts.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// The bounds of this machine. They decide what apply does, so they are set by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many messages are tracked, at least one. With one more the oldest goes.
    pub capacity: u32,
    /// What their ids, peers and data may take together. While they take more the oldest goes; the
    /// newest stays.
    pub bytes_max: u64,
    /// How many peers are told apart for each message, the first ones that relay it. 0 counts no
    /// relays.
    pub peers_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { capacity: 10_000, bytes_max: 64 << 20, peers_max: 16 }
    }
}

/// What is asked of the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// From here on these bounds hold. The oldest messages that are over them go.
    Configure(Limits),
    /// A peer relays a message.
    Add {
        /// What tells two messages apart, whoever relays them.
        id: Box<str>,
        /// Who relays it.
        peer_id: Box<str>,
        /// What it says.
        #[serde(with = "crate::machine::bytes")]
        data: Vec<u8>,
    },
    /// A message is not to be tracked any more.
    Remove {
        /// Which one.
        id: Box<str>,
    },
}

/// What the one who asked gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// The message is tracked now.
    New {
        /// How many of the oldest had to go for it.
        evicted: u32,
    },
    /// A message with this id is tracked already; what came first stays.
    Duplicate,
    /// No message with this id is tracked. Nothing has changed.
    NotFound,
}

/// What watchers are told: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {}

/// What has happened since the beginning. Part of the state, so a restart does not reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages taken in.
    pub new: u64,
    /// Messages that came with an id that was tracked already.
    pub duplicates: u64,
    /// Messages removed because somebody asked for it.
    pub removed: u64,
    /// Messages dropped because of [`Limits::capacity`].
    pub capacity: u64,
    /// Messages dropped because of [`Limits::bytes_max`].
    pub bytes_max: u64,
    /// Relays by peers that are not told apart because of [`Limits::peers_max`].
    pub peers_max: u64,
}
