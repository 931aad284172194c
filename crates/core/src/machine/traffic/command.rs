//! What is asked of the traffic, what it answers, and what it counts.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::structure::tally::Bounds;

/// The bounds of this machine. They decide what apply does, so they are set by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How long a window is. A change holds from the next one on.
    pub window_ms: u64,
    /// Whether a window without calls makes a report too.
    pub empty: bool,
    /// How many children are known. One more is not learnt.
    pub children_max: u32,
    /// How many parents are known. A child of one more is not learnt.
    pub parents_max: u32,
    /// How many pairs of parents a window counts. Calls between others are not counted.
    pub pairs_max: u32,
    /// How many pairs of children a window holds calls of. Calls between others are not counted.
    pub held_max: u32,
    /// How many reports are kept. The oldest goes, sent or not.
    pub reports_max: u32,
    /// How many rows they may have together. The oldest report goes; the newest stays.
    pub report_rows_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_ms: 60_000,
            empty: false,
            children_max: 1_000_000,
            parents_max: 100_000,
            pairs_max: 2_000_000,
            held_max: 100_000,
            reports_max: 60,
            report_rows_max: 4_000_000,
        }
    }
}

impl Limits {
    pub(super) const fn bounds(&self) -> Bounds {
        Bounds {
            children_max: self.children_max,
            parents_max: self.parents_max,
            pairs_max: self.pairs_max,
            held_max: self.held_max,
        }
    }
}

/// What is asked of the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// From here on these bounds hold. What is over them already stays.
    Configure(Limits),
    /// What some frames said.
    Feed {
        /// [`super::record`]s.
        #[serde(with = "crate::machine::bytes")]
        bytes: Vec<u8>,
    },
    /// A report was written to the connection it is for.
    Delivered {
        /// The first millisecond of its window.
        start: u64,
    },
    /// A node is about to send a report, where several could. From here on no other one sends it: what a
    /// node with a lower token had claimed, and not told to be delivered, may have been sent, and counts
    /// as sent.
    Claim {
        /// The first millisecond of its window.
        start: u64,
        /// The fencing token of the lease under which it is sent. One that is lower than any before is
        /// refused.
        token: u64,
    },
}

/// What the one who asked gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// There is no unsent report of this window: it was sent before, or dropped, or the token is a
    /// deposed one's. Nothing is to be sent.
    NotUnsent,
    /// Somebody with a lower token had claimed this report, and may have sent it: it counts as sent from
    /// here on, and is not sent again.
    ClaimedBefore,
}

/// What watchers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A window has closed, and there is a report of it.
    Closed {
        /// Its first millisecond.
        start: u64,
    },
}

/// What has happened since the beginning. Part of the state, so a restart does not reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Calls that came.
    pub calls: u64,
    /// Calls that had to wait for a child to be known.
    pub held: u64,
    /// Calls whose window closed before their children were known.
    pub unresolved: u64,
    /// Children that moved to another parent.
    pub moved: u64,
    /// Windows that made a report.
    pub windows: u64,
    /// Reports that were sent.
    pub delivered: u64,
    /// Feeds whose end was no record.
    pub malformed: u64,
    /// Children not learnt because of [`Limits::children_max`].
    pub children_max: u64,
    /// Children not learnt because of [`Limits::parents_max`].
    pub parents_max: u64,
    /// Calls not counted because of [`Limits::pairs_max`].
    pub pairs_max: u64,
    /// Calls not counted because of [`Limits::held_max`].
    pub held_max: u64,
    /// Reports that went unsent because of [`Limits::reports_max`] or [`Limits::report_rows_max`].
    pub reports_dropped: u64,
}
