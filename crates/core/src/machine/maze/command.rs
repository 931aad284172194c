//! What is asked of the maze, what it answers, and what it counts.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// The bounds of this machine. They decide what apply does, so they are set by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many events are held behind gaps. Beyond that the oldest gap is skipped.
    pub held_max: u32,
    /// How long a gap is waited for once it is the oldest. Then it is skipped.
    pub gap_wait_ms: u64,
    /// How many users can take part in follows. A follow of one more does not stand.
    pub users_max: u32,
    /// How many follows can stand. One more does not.
    pub follows_max: u64,
    /// Whether a new source goes on where the last one ended, with its numbers and its follows.
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

/// Names a connection of a source: drawn at random by the node that it is connected to.
pub type SourceId = u64;

/// What is asked of the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// From here on these bounds hold. What is over them already stays until the next event.
    Configure(Limits),
    /// A source has connected: from here on its events count. Unless [`Limits::keep`] says
    /// otherwise, numbers start at 1 again and nobody follows anybody. What a source that is gone
    /// had left is released first; while there is more of that than one command may release, the
    /// answer is [`Reply::More`] and nothing is opened yet.
    Open {
        /// The connection.
        source: SourceId,
    },
    /// Bytes of the source: whole lines.
    Feed {
        /// The connection.
        source: SourceId,
        /// Counts the feeds of this connection, from 0: one that comes twice changes nothing.
        part: u64,
        /// Whole lines. What stands behind the last line end counts as a malformed line.
        #[serde(with = "crate::machine::bytes")]
        bytes: Vec<u8>,
    },
    /// The source has closed: what is held is released in order, and the gaps in it are skipped.
    Close {
        /// The connection.
        source: SourceId,
    },
    /// Releases more of what is ready, after [`Reply::More`].
    Release {
        /// At most about this many bytes of lines.
        bytes_max: u32,
    },
    /// The node that held the source has ended without closing it, and maybe its clients have lost
    /// their connections too: the source counts as closed once they had [`Limits::gap_wait_ms`] to
    /// return, or when the next one connects.
    Abandon {
        /// The connection.
        source: SourceId,
    },
    /// The source was held up, by a client without room or a log that is slow: what it had to send
    /// could not be read. The oldest gap is waited for as much longer.
    Paused {
        /// The connection.
        source: SourceId,
        /// For how long.
        ms: u64,
    },
    /// A node without the source has a client whose queue is full: the node with the source is to read
    /// nothing more, for [`PAUSE_MS`] or until [`Command::Resume`]. Of more than [`PAUSES_MAX`] nodes the
    /// others are not heeded.
    Pause {
        /// The node: drawn at random when it started.
        by: u64,
    },
    /// The clients of that node have room again.
    Resume {
        /// The node.
        by: u64,
    },
}

/// How long a [`Command::Pause`] stands if it is not renewed.
pub const PAUSE_MS: u64 = 5_000;
/// How many nodes can hold the source at once.
pub const PAUSES_MAX: usize = 64;

/// What the one who asked gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, and nothing that is ready is left.
    Done,
    /// Done as far as one command may go: there is more that is ready. Ask with
    /// [`Command::Release`] when those it is for have room.
    More,
    /// Refused, nothing changed: another source is connected, or none of this name.
    NotTheSource,
}

/// What has happened since the beginning. Part of the state, so a restart does not reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Sources that have connected.
    pub sources: u64,
    /// Events that had their turn.
    pub events: u64,
    /// Events whose number was there before.
    pub duplicates: u64,
    /// Events that came after their number was skipped.
    pub late: u64,
    /// Lines that are no events, over-long ones included.
    pub malformed: u64,
    /// Lines that were too long.
    pub overlong: u64,
    /// Gaps skipped.
    pub gaps: u64,
    /// Numbers in those gaps.
    pub lost: u64,
    /// Gaps skipped because [`Limits::held_max`] events were held.
    pub held_max: u64,
    /// Gaps skipped because [`Limits::gap_wait_ms`] had passed.
    pub gap_wait: u64,
    /// Follows that do not stand because of [`Limits::users_max`].
    pub users_max: u64,
    /// Follows that do not stand because of [`Limits::follows_max`].
    pub follows_max: u64,
}
