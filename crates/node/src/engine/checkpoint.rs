//! The state of a node that shares its log, between checkpoints.
//!
//! ```text
//!   a notice asks for a checkpoint
//!     └▶ Taken ──▶ Sealing ──▶ (digest published) ──▶ written: Idle
//!                                  └▶ to_share ──▶ confirmed by another node, shared ──▶ to_truncate ──▶ truncated
//! ```
//! The first line of states is about this node's newest snapshot. The second line may still be about the checkpoint before:
//! a snapshot waits there for the other nodes, and meanwhile the next can be taken.

use tidings_core::machine::Timestamp;
use tidings_log::Position;

use crate::agreement::{Agreement, PATIENCE_BEHIND_MS};
use crate::snapshot::Taken;

/// A checkpoint is asked for when a shared log is filled to this percentage ...
pub(super) const CHECKPOINT_PERCENT: u8 = 50;
/// ... commands and ticks are rejected from here on ...
pub(super) const COMMANDS_PERCENT_MAX: u8 = 75;
/// ... and barriers and leases from here on. The rest is for notices, without which no log is ever truncated.
pub(super) const UPKEEP_PERCENT_MAX: u8 = 90;
/// How long this node asks for no checkpoint after it could not share a snapshot.
pub(super) const SHARE_RETRY_MS: u64 = 5_000;
/// Several nodes may ask for a checkpoint at once. One that follows another within this time is ignored.
const CHECKPOINTS_APART_MS: u64 = 1_000;
/// A checkpoint that has made no room after this time is not going to.
const CHECKPOINT_LASTS_MS: u64 = 2 * PATIENCE_BEHIND_MS;

/// What a node keeps, besides its machines, while other nodes share its log.
pub(super) struct Sharing {
    pub(super) agreement: Agreement,
    /// This node's newest snapshot.
    snapshot: Snapshot,
    /// When another node last ticked a machine.
    pub(super) others_ticked: Timestamp,
    /// The checkpoint whose snapshot this node is to share once another node confirms it. The node that asked for the
    /// checkpoint shares it.
    pub(super) to_share: Option<u64>,
    /// The checkpoint up to which the log is to be truncated once every node has read that far.
    pub(super) to_truncate: Option<u64>,
    /// No checkpoint is asked for before this time.
    pub(super) not_before: Timestamp,
    /// The time of the last checkpoint, and where the log began then.
    pub(super) last: Option<(Timestamp, Position)>,
    /// The position that the snapshot before the newest one covers.
    pub(super) covered_before: u64,
}

/// Where this node's newest snapshot is.
enum Snapshot {
    /// The node recovers. Checkpoints in the log are from the past.
    Recovering,
    /// No snapshot is under way.
    Idle,
    /// Taken, and to be sealed.
    Taken { taken: Taken, asked: bool },
    /// Being sealed by another thread, or being written.
    Sealing,
}

impl Sharing {
    pub(super) const fn new(origin: u64) -> Self {
        Self {
            agreement: Agreement::new(origin),
            snapshot: Snapshot::Recovering,
            others_ticked: Timestamp(0),
            to_share: None,
            to_truncate: None,
            not_before: Timestamp(0),
            last: None,
            covered_before: 0,
        }
    }

    pub(super) fn begin_now(&mut self) {
        self.snapshot = Snapshot::Idle;
    }

    pub(super) const fn is_recovering(&self) -> bool {
        matches!(self.snapshot, Snapshot::Recovering)
    }

    /// Returns whether a checkpoint at this time is to be taken.
    pub(super) fn is_free(&self, at: Timestamp) -> bool {
        matches!(self.snapshot, Snapshot::Idle) && !self.is_soon(at)
    }

    /// Returns whether this node can ask for a checkpoint.
    pub(super) fn may_ask(&self, now: Timestamp) -> bool {
        let idle = matches!(self.snapshot, Snapshot::Recovering | Snapshot::Idle);
        idle && self.to_share.is_none() && !self.is_soon(now) && now >= self.not_before
    }

    /// Returns whether the last checkpoint was only just before.
    fn is_soon(&self, at: Timestamp) -> bool {
        self.last.is_some_and(|(last, _)| at.0 < last.0.saturating_add(CHECKPOINTS_APART_MS))
    }

    /// Returns whether a checkpoint taken at `at` has had the time to make room.
    pub(super) const fn is_over(at: Timestamp, now: Timestamp) -> bool {
        now.0 >= at.0.saturating_add(CHECKPOINT_LASTS_MS)
    }

    /// Keeps a snapshot until [`Sharing::take_snapshot`]. `asked` says whether this node asked for the checkpoint.
    pub(super) fn keep(&mut self, at: Timestamp, first: Position, taken: Taken, asked: bool) {
        self.last = Some((at, first));
        self.snapshot = Snapshot::Taken { taken, asked };
    }

    /// Returns the snapshot that is to be sealed, and whether this node asked for the checkpoint.
    pub(super) fn take_snapshot(&mut self) -> Option<(Taken, bool)> {
        match std::mem::replace(&mut self.snapshot, Snapshot::Sealing) {
            Snapshot::Taken { taken, asked } => Some((taken, asked)),
            other @ (Snapshot::Recovering | Snapshot::Idle | Snapshot::Sealing) => {
                self.snapshot = other;
                None
            }
        }
    }

    /// The newest snapshot is written, or never will be.
    pub(super) fn snapshot_is_done(&mut self) {
        if matches!(self.snapshot, Snapshot::Sealing) {
            self.snapshot = Snapshot::Idle;
        }
    }

    /// Returns whether this node waits for other nodes, and must look at the clock now and then though nothing comes.
    pub(super) fn is_waiting(&self) -> bool {
        self.to_share.is_some() || self.to_truncate.is_some() || self.agreement.is_open()
    }
}
