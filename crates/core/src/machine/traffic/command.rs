//! The traffic machine's commands, replies and counters.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::structure::tally::Bounds;

/// The bounds of this machine. They affect the result of a command, so a command sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The length of a window. A change takes effect with the next window.
    pub window_ms: u64,
    /// Whether a window without calls makes a report too.
    pub empty: bool,
    /// The most children. One more is not learnt.
    pub children_max: u32,
    /// The most parents. A child of one more is not learnt.
    pub parents_max: u32,
    /// The most pairs of parents in a window. Calls between other pairs are not counted.
    pub pairs_max: u32,
    /// The most pairs of children whose calls a window holds. Calls between other pairs are not counted.
    pub held_max: u32,
    /// The most reports that are kept. Beyond that the oldest is dropped, sent or not.
    pub reports_max: u32,
    /// The most rows of all kept reports. Beyond that the oldest report is dropped; the newest stays.
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

/// A command to the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sets the bounds. What already exceeds them stays.
    Configure(Limits),
    /// The content of some frames.
    Feed {
        /// [`super::record`]s.
        #[serde(with = "crate::machine::bytes")]
        bytes: Vec<u8>,
    },
    /// A report was written to its connection.
    Delivered {
        /// The first millisecond of its window.
        start: u64,
    },
    /// A node is about to send a report that several nodes could send. From now on no other node sends it.
    /// A report that a lower token had claimed, but not marked as delivered, may have been sent: it counts
    /// as sent.
    Claim {
        /// The first millisecond of its window.
        start: u64,
        /// The fencing token of the sender's lease. A token lower than an earlier one is rejected.
        token: u64,
    },
}

/// What the proposer of a command gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// This window has no unsent report: it was sent or dropped, or the token is that of an expired
    /// lease. The caller must not send it.
    NotUnsent,
    /// A lower token had claimed this report and may have sent it. It counts as sent from now on, and the
    /// caller must not send it again.
    ClaimedBefore,
}

/// An event for watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A window has closed and made a report.
    Closed {
        /// Its first millisecond.
        start: u64,
    },
}

/// Counters since the beginning. Part of the state, so that a restart does not reset them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Calls received.
    pub calls: u64,
    /// Calls that had to wait for a child to become known.
    pub held: u64,
    /// Calls whose window closed before their children became known.
    pub unresolved: u64,
    /// Children that moved to another parent.
    pub moved: u64,
    /// Windows that made a report.
    pub windows: u64,
    /// Reports that were sent.
    pub delivered: u64,
    /// Feeds that did not end with a complete record.
    pub malformed: u64,
    /// Children not learnt because of [`Limits::children_max`].
    pub children_max: u64,
    /// Children not learnt because of [`Limits::parents_max`].
    pub parents_max: u64,
    /// Calls not counted because of [`Limits::pairs_max`].
    pub pairs_max: u64,
    /// Calls not counted because of [`Limits::held_max`].
    pub held_max: u64,
    /// Unsent reports dropped because of [`Limits::reports_max`] or [`Limits::report_rows_max`].
    pub reports_dropped: u64,
}
