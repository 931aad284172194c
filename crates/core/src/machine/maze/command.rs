//! The maze's commands, replies and counters.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// The bounds of this machine. They affect the result of a command, so a command sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most events held behind gaps. Beyond that the oldest gap is skipped.
    pub held_max: u32,
    /// How long to wait for the oldest gap, counted from when it became the oldest. Then it is skipped.
    pub gap_wait_ms: u64,
    /// The most users that take part in follows. A follow with one more is ignored.
    pub users_max: u32,
    /// The most follows. One more is ignored.
    pub follows_max: u64,
    /// Whether a new source continues the numbers and the follows of the last one.
    pub keep: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            held_max: 1_000_000,
            gap_wait_ms: 5000,
            users_max: 1_000_000,
            follows_max: 10_000_000,
            keep: false,
        }
    }
}

/// Identifies a connection of a source: drawn at random by the node that accepts it.
pub type SourceId = u64;

/// A command to the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sets the bounds. What already exceeds them stays until the next event.
    Configure(Limits),
    /// A source has connected: from now on its events are accepted. Unless [`Limits::keep`] is set,
    /// numbers start at 1 again and nobody follows anybody. What a previous source left is released first;
    /// if that exceeds what one command may release, the reply is [`Reply::More`] and the source is not
    /// opened yet.
    Open {
        /// The connection.
        source: SourceId,
    },
    /// Bytes of the source, as whole lines.
    Feed {
        /// The connection.
        source: SourceId,
        /// Numbers the feeds of this connection from 0: a repeated feed changes nothing.
        part: u64,
        /// Whole lines. Anything behind the last line end counts as a malformed line.
        #[serde(with = "crate::machine::bytes")]
        bytes: Vec<u8>,
    },
    /// The source has closed: held events are released in order, and the gaps in them are skipped.
    Close {
        /// The connection.
        source: SourceId,
    },
    /// Releases more of what is ready, after [`Reply::More`].
    Release {
        /// Roughly how many bytes of lines to release at most.
        bytes_max: u32,
    },
    /// The node that held the source has ended without closing it, and the clients of that node may have
    /// lost their connections too. The source counts as closed after [`Limits::gap_wait_ms`], which gives
    /// the clients time to return, or when the next source connects.
    Abandon {
        /// The connection.
        source: SourceId,
    },
    /// The source was paused, by a client without room or a slow log, so that what it sent could not be
    /// read. The oldest gap is waited for that much longer.
    Paused {
        /// The connection.
        source: SourceId,
        /// For how long.
        ms: u64,
    },
    /// A node without the source has a client whose queue is full. The node with the source must stop
    /// reading from it, for [`PAUSE_MS`] or until [`Command::Resume`]. Requests of more than
    /// [`PAUSES_MAX`] nodes are ignored.
    Pause {
        /// The node's id: drawn at random when it started.
        by: u64,
    },
    /// The clients of that node have room again.
    Resume {
        /// The node's id.
        by: u64,
    },
}

/// How long a [`Command::Pause`] lasts if it is not renewed.
pub const PAUSE_MS: u64 = 5_000;
/// The most nodes that can pause the source at once.
pub const PAUSES_MAX: usize = 64;

/// What the proposer of a command gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, and nothing that is ready is left.
    Done,
    /// Done as far as one command may go; more events are ready. Send [`Command::Release`] when the
    /// receivers have room.
    More,
    /// Rejected, nothing has changed: another source is connected, or this one is not.
    NotTheSource,
}

/// Counters since the beginning. Part of the state, so that a restart does not reset them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Sources that have connected.
    pub sources: u64,
    /// Events applied in order.
    pub events: u64,
    /// Events whose number had come before.
    pub duplicates: u64,
    /// Events that came after their number was skipped.
    pub late: u64,
    /// Lines that are not events, over-long ones included.
    pub malformed: u64,
    /// Lines that were too long.
    pub overlong: u64,
    /// Gaps that were skipped.
    pub gaps: u64,
    /// Numbers in those gaps.
    pub lost: u64,
    /// Gaps skipped because [`Limits::held_max`] events were held.
    pub held_max: u64,
    /// Gaps skipped because [`Limits::gap_wait_ms`] had passed.
    pub gap_wait: u64,
    /// Follows ignored because of [`Limits::users_max`].
    pub users_max: u64,
    /// Follows ignored because of [`Limits::follows_max`].
    pub follows_max: u64,
}
