//! What an engine does because other nodes share its log: it follows what they append, takes snapshots where all of them do,
//! compares digests, and shares a snapshot so that the log can be truncated.

use tidings_core::machine::{Timestamp, encode};
use tidings_log::Position;

use super::checkpoint::{CHECKPOINT_PERCENT, SHARE_RETRY_MS, Sharing, UPKEEP_PERCENT_MAX};
use super::{AppendFailed, Engine, Fatal, TICK_BEHIND_MS, TICKED_LATELY_MS};
use crate::agreement::Judged;
use crate::entry::{Header, NODES, Notice};
use crate::proposal::Refused;
use crate::snapshot::Taken;

impl Engine {
    /// Returns whether other nodes may append to the log.
    pub(crate) const fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }

    /// Fails when a shared log is filled to `percent_max` or more. Some room is kept for notices: without checkpoints a full
    /// log could never be truncated again.
    pub(super) fn room_below(&mut self, percent_max: u8) -> Result<(), String> {
        if self.sharing.is_none() {
            return Ok(());
        }
        let percent = self.log.filled_percent();
        if percent < percent_max || percent_max >= 100 {
            return Ok(());
        }
        Err(format!(
            "it is filled to {percent} %; from {percent_max} % on the rest is kept for checkpoints, which make \
             room"
        ))
    }

    /// Sets what is called when there is something to [`Engine::follow`].
    pub(crate) fn on_news(&mut self, call: Box<dyn Fn() + Send + Sync>) {
        self.log.on_news(call);
    }

    /// Applies some of what other nodes have appended. Returns whether there may be more.
    pub(crate) fn follow(&mut self) -> Result<bool, Fatal> {
        Ok(self.is_shared() && self.catch_up()? > 0)
    }

    /// Applies everything that any node acknowledged before this call, by appending an empty batch: what comes before it in the
    /// log is applied first.
    pub(crate) fn barrier(&mut self, now: Timestamp) -> Result<Result<(), Refused>, Fatal> {
        if !self.is_shared() {
            return Ok(Ok(()));
        }
        let body = self.new_body();
        let header = Header { at: self.applied.at.max(now), entries: 0 };
        match self.append(header, body, UPKEEP_PERCENT_MAX, &mut |_| {}) {
            Ok(_) => Ok(Ok(())),
            Err(AppendFailed::Room(why)) => Ok(Err(Refused::NoRoom(why))),
            Err(AppendFailed::Fatal(fatal)) => Err(fatal),
        }
    }

    /// Returns how long after a deadline this node ticks. A node that is known to tick goes first, so that ticks are not
    /// duplicated.
    pub(super) fn ticks_behind_ms(&self) -> u64 {
        let lately = |sharing: &&Sharing| {
            self.applied.at.0 < sharing.others_ticked.0.saturating_add(TICKED_LATELY_MS)
        };
        self.sharing.as_ref().filter(lately).map_or(0, |_| TICK_BEHIND_MS)
    }

    /// Applies a notice. It is an entry of no machine, and has no number.
    pub(super) fn apply_notice(&mut self, origin: u64, notice: Notice) -> Result<(), Fatal> {
        let at = self.applied.at;
        let is_mine = origin == self.origin();
        match notice {
            Notice::Checkpoint => {
                let is_free = self.sharing.as_ref().is_some_and(|sharing| sharing.is_free(at));
                if is_free && self.writing.is_none() {
                    let taken = self.take_snapshot();
                    let first = self.log.bounds()?.first;
                    if let Some(sharing) = &mut self.sharing {
                        sharing.keep(at, first, taken, is_mine);
                    }
                }
                Ok(())
            }
            Notice::Digest { position, digest } => {
                let Some(sharing) = &mut self.sharing else { return Ok(()) };
                // This node's digest of an earlier life may be wrong, which is why the node was started again.
                if is_mine && sharing.is_recovering() {
                    return Ok(());
                }
                let judged = sharing.agreement.record_digest(at, origin, position, digest);
                self.act_on(judged)
            }
        }
    }

    fn act_on(&mut self, judged: Judged) -> Result<(), Fatal> {
        match judged {
            Judged::Agreed => Ok(()),
            Judged::OthersDiffer(disagreement) => {
                tracing::error!(?disagreement, "another node has a different state, and ends");
                Ok(())
            }
            Judged::Wrong(disagreement) => {
                self.log.forget_snapshots()?;
                Err(Fatal::Differs(disagreement))
            }
        }
    }

    /// Checks whether a disagreement has lasted for too long.
    pub(crate) fn check_agreement(&mut self, now: Timestamp) -> Result<(), Fatal> {
        let now = self.applied.at.max(now);
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let judged = sharing.agreement.check(now);
        self.act_on(judged)
    }

    /// Returns whether to call [`Engine::check_agreement`] and [`Engine::work`] now and then though nothing comes.
    pub(crate) fn is_waiting(&self) -> bool {
        self.sharing.as_ref().is_some_and(Sharing::is_waiting)
    }

    /// Asks all nodes for a checkpoint when it is time for one. Each node waits for a little more log than the one before, so
    /// that they do not all ask at once.
    pub(crate) fn ask_for_checkpoint(
        &mut self,
        log_bytes: u64,
        now: Timestamp,
    ) -> Result<(), Fatal> {
        let now = self.applied.at.max(now);
        let later = log_bytes / 16 * (self.origin() % 8);
        if !self.sharing.as_ref().is_some_and(|sharing| sharing.may_ask(now)) {
            return Ok(());
        }
        let enough = self.since_snapshot_bytes >= log_bytes.saturating_add(later);
        if enough || (self.since_snapshot_bytes > 0 && self.is_filling(now)?) {
            self.publish(Notice::Checkpoint, now)?;
        }
        Ok(())
    }

    /// Returns whether the log has little room left, and the last checkpoint is not about to make some.
    fn is_filling(&mut self, now: Timestamp) -> Result<bool, Fatal> {
        if self.log.filled_percent() < CHECKPOINT_PERCENT {
            return Ok(false);
        }
        let last = self.sharing.as_ref().and_then(|sharing| sharing.last);
        let Some((at, first)) = last else { return Ok(true) };
        Ok(Sharing::is_over(at, now) || self.log.bounds()?.first > first)
    }

    /// Returns the snapshot that is to be sealed, and whether this node asked for the checkpoint.
    pub(crate) fn taken_at_checkpoint(&mut self) -> Option<(Taken, bool)> {
        self.sharing.as_mut()?.take_snapshot()
    }

    /// Publishes the digest of a snapshot, once it is sealed.
    pub(crate) fn sealed_at_checkpoint(
        &mut self,
        position: Position,
        digest: u128,
        asked: bool,
        now: Timestamp,
    ) -> Result<(), Fatal> {
        if let Some(sharing) = &mut self.sharing
            && asked
        {
            sharing.to_share = Some(position.0);
        }
        self.publish(Notice::Digest { position: position.0, digest }, now)
    }

    /// Ends the snapshot that was taken at a checkpoint: it is written, or never will be.
    pub(super) fn snapshot_is_done(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.snapshot_is_done();
        }
    }

    /// Shares the snapshot that is to be shared, if another node has confirmed its digest. Where there is room, the log keeps
    /// the batches since the snapshot before: a node that is started again then replays them instead of fetching the snapshot.
    pub(super) fn share(&mut self, now: Timestamp) {
        let covered = self.covered;
        // An origin is known once it has appended something.
        let alone = self.applied.origins.len() <= 1;
        let Some(sharing) = &mut self.sharing else { return };
        let due = sharing.to_share.filter(|position| {
            *position == covered && sharing.agreement.is_confirmed(*position, now, alone)
        });
        let Some(position) = due else {
            // It could not be written, or a newer one has been written since.
            sharing.to_share = sharing.to_share.filter(|position| *position >= covered);
            return;
        };
        sharing.to_share = None;
        match self.log.share_snapshot() {
            Ok(()) => {
                let scarce = self.log.filled_percent() >= CHECKPOINT_PERCENT;
                let covered = if scarce { position } else { sharing.covered_before };
                // A truncation that is waiting for nodes to read is not put off by the next.
                sharing.to_truncate.get_or_insert(covered);
            }
            Err(why) => {
                sharing.not_before = Timestamp(now.0.saturating_add(SHARE_RETRY_MS));
                sharing.last = None;
                self.stats.snapshots_failed += 1;
                tracing::warn!(position, %why, "the snapshot could not be shared; the log keeps what it covers");
            }
        }
    }

    /// Releases the log up to the shared snapshot for truncation, once no node has yet to read it.
    pub(super) fn release(&mut self, now: Timestamp) {
        let Some(sharing) = &mut self.sharing else { return };
        let agreement = &sharing.agreement;
        let is_read = |position: &mut u64| agreement.is_read_by_all(*position, now);
        if let Some(position) = sharing.to_truncate.take_if(is_read) {
            self.truncate_before = Some(Position(position).next());
        }
    }

    fn publish(&mut self, notice: Notice, now: Timestamp) -> Result<(), Fatal> {
        let mut body = self.new_body();
        body.push(NODES);
        encode(&notice, &mut body);
        let header = Header { at: self.applied.at.max(now), entries: 1 };
        match self.append(header, body, 100, &mut |_| {}) {
            Ok(_) => self.apply_notice(self.origin(), notice),
            // The next checkpoint makes up for it.
            Err(AppendFailed::Room(why)) => {
                tracing::warn!(why, "the log has no room for a notice to the other nodes");
                Ok(())
            }
            Err(AppendFailed::Fatal(fatal)) => Err(fatal),
        }
    }

    /// Returns position, entries, and the digest of the machines' states, as nodes compare it.
    pub(crate) fn digest(&mut self) -> (u64, u64, u128) {
        let since = self.since_snapshot_bytes;
        let taken = self.take_snapshot();
        self.since_snapshot_bytes = since;
        (taken.applied.position, taken.applied.entries, taken.digest())
    }
}
