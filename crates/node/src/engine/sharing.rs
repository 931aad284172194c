//! What an engine does because others share its log: it follows what they append, takes snapshots
//! where all of them do, compares what they come to, and shares a snapshot so that the log can be
//! truncated.

use tidings_core::machine::{Timestamp, encode};
use tidings_log::Position;

use super::{AppendFailed, Engine, Fatal, TICK_BEHIND_MS, TICKED_LATELY_MS};
use crate::agreement::{Agreement, Judged, PATIENCE_BEHIND_MS};
use crate::entry::{Header, NODES, Notice};
use crate::slot::Refused;
use crate::snapshot::Taken;

/// With so much of a shared log's room taken a checkpoint is asked for, in percent ...
const CHECKPOINT_PERCENT: u8 = 50;
/// ... commands and ticks are refused ...
pub(super) const COMMANDS_PERCENT_MAX: u8 = 75;
/// ... and so are barriers and what becomes of leases. What is left is for notices.
pub(super) const UPKEEP_PERCENT_MAX: u8 = 90;
/// How long no checkpoint is asked for after a snapshot could not be shared.
const SHARE_AGAIN_MS: u64 = 5_000;
/// Several nodes may ask for a checkpoint at once: one that follows another so soon is the same.
const CHECKPOINTS_APART_MS: u64 = 1_000;
/// When none has made room for so long since the last checkpoint, it is not going to.
const CHECKPOINT_LASTS_MS: u64 = 2 * PATIENCE_BEHIND_MS;

/// What there is beside, when a log is shared.
pub(super) struct Sharing {
    agreement: Agreement,
    /// Recovery is over: checkpoints count.
    pub(super) live: bool,
    /// When another node last ticked a machine.
    pub(super) others_ticked: Timestamp,
    /// A snapshot taken at a checkpoint, to be sealed, and whether this node asked for it.
    taken: Option<(Taken, bool)>,
    /// A snapshot taken here is not written yet.
    busy: bool,
    /// The snapshot that this node is to share once others have come to the same.
    to_share: Option<u64>,
    /// Before this none is asked for.
    not_before: Timestamp,
    /// When the last checkpoint was, and where the log began then.
    last: Option<(Timestamp, Position)>,
    /// What the snapshot before the newest one covers.
    pub(super) covered_before: u64,
    /// A checkpoint behind which the log is to be truncated as soon as nobody needs it any more.
    let_go: Option<u64>,
}

impl Sharing {
    pub(super) const fn new(origin: u64) -> Self {
        Self {
            agreement: Agreement::new(origin),
            live: false,
            others_ticked: Timestamp(0),
            taken: None,
            busy: false,
            to_share: None,
            not_before: Timestamp(0),
            last: None,
            covered_before: 0,
            let_go: None,
        }
    }

    /// Whether the last checkpoint was only just before.
    fn is_soon(&self, at: Timestamp) -> bool {
        let soon =
            |(last, _): (Timestamp, Position)| at.0 < last.0.saturating_add(CHECKPOINTS_APART_MS);
        self.last.is_some_and(soon)
    }
}

impl Engine {
    /// Whether others may append to the log.
    pub(crate) const fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }

    /// Of a log that others share, some room is kept for what they tell each other: without it, none of
    /// it would ever be truncated again.
    pub(super) fn room_below(&mut self, percent_max: u8) -> Result<(), String> {
        if self.sharing.is_none() {
            return Ok(());
        }
        let percent = self.log.filled_percent();
        if percent < percent_max || percent_max >= 100 {
            return Ok(());
        }
        Err(format!(
            "{percent} % of it are taken; from {percent_max} % on what is left is kept for checkpoints, \
             which make room"
        ))
    }

    /// Has `tell` called when there is something to [`Engine::follow`].
    pub(crate) fn on_news(&mut self, tell: Box<dyn Fn() + Send + Sync>) {
        self.log.on_news(tell);
    }

    /// Applies some of what others have appended. Returns whether there may be more.
    pub(crate) fn follow(&mut self) -> Result<bool, Fatal> {
        Ok(self.is_shared() && self.catch_up()? > 0)
    }

    /// Makes sure that everything that was acknowledged anywhere before this call is applied here: a
    /// batch of nothing goes through the log.
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

    /// How much later than its deadline a tick is this node's business: another one that ticks has a
    /// head start.
    pub(super) fn ticks_behind_ms(&self) -> u64 {
        let lately = |sharing: &&Sharing| {
            self.applied.at.0 < sharing.others_ticked.0.saturating_add(TICKED_LATELY_MS)
        };
        self.sharing.as_ref().filter(lately).map_or(0, |_| TICK_BEHIND_MS)
    }

    /// Takes in what a node has told the others. It is no entry of any machine, and has no number.
    pub(super) fn heed(&mut self, origin: u64, notice: Notice) -> Result<(), Fatal> {
        let at = self.applied.at;
        let mine = origin == self.origin();
        match notice {
            Notice::Checkpoint => {
                let free =
                    |sharing: &Sharing| sharing.live && !sharing.busy && !sharing.is_soon(at);
                if self.sharing.as_ref().is_some_and(free) && self.writing.is_none() {
                    let taken = self.take_snapshot();
                    let first = self.log.bounds()?.first;
                    if let Some(sharing) = &mut self.sharing {
                        sharing.last = Some((at, first));
                        sharing.busy = true;
                        sharing.taken = Some((taken, mine));
                    }
                }
                Ok(())
            }
            Notice::Digest { position, digest } => {
                let Some(sharing) = &mut self.sharing else { return Ok(()) };
                // What this node came to in an earlier life it has come to anew.
                if mine && !sharing.live {
                    return Ok(());
                }
                let judged = sharing.agreement.said(at, origin, position, digest);
                self.act_on(judged)
            }
        }
    }

    fn act_on(&mut self, judged: Judged) -> Result<(), Fatal> {
        match judged {
            Judged::Agreed => Ok(()),
            Judged::OthersDiffer(disagreement) => {
                tracing::error!(?disagreement, "another node is not what this one is: it ends");
                Ok(())
            }
            Judged::Wrong(disagreement) => {
                self.log.forget_snapshots()?;
                Err(Fatal::Differs(disagreement))
            }
        }
    }

    /// Time has passed: a disagreement may have lasted for too long.
    pub(crate) fn look(&mut self, now: Timestamp) -> Result<(), Fatal> {
        let now = self.applied.at.max(now);
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let judged = sharing.agreement.look(now);
        self.act_on(judged)
    }

    /// Whether to [`Engine::look`] and [`Engine::work`] now and then though nothing comes.
    pub(crate) fn is_waiting(&self) -> bool {
        let waits = |sharing: &Sharing| {
            sharing.to_share.is_some() || sharing.let_go.is_some() || sharing.agreement.is_open()
        };
        self.sharing.as_ref().is_some_and(waits)
    }

    /// Asks all nodes for a snapshot when it is time for one. They do not ask all at once.
    pub(crate) fn ask_for_checkpoint(
        &mut self,
        log_bytes: u64,
        now: Timestamp,
    ) -> Result<(), Fatal> {
        let now = self.applied.at.max(now);
        let later = log_bytes / 16 * (self.origin() % 8);
        let Some(sharing) = &self.sharing else { return Ok(()) };
        let busy = sharing.busy || sharing.to_share.is_some();
        if busy || sharing.is_soon(now) || now < sharing.not_before {
            return Ok(());
        }
        let enough = self.since_snapshot_bytes >= log_bytes.saturating_add(later);
        if enough || (self.since_snapshot_bytes > 0 && self.is_filling(now)?) {
            self.tell(Notice::Checkpoint, now)?;
        }
        Ok(())
    }

    /// Whether the log has little room left, and the last checkpoint is not about to make some.
    fn is_filling(&mut self, now: Timestamp) -> Result<bool, Fatal> {
        if self.log.filled_percent() < CHECKPOINT_PERCENT {
            return Ok(false);
        }
        let last = self.sharing.as_ref().and_then(|sharing| sharing.last);
        let Some((at, first)) = last else { return Ok(true) };
        let is_over = now.0 >= at.0.saturating_add(CHECKPOINT_LASTS_MS);
        Ok(is_over || self.log.bounds()?.first > first)
    }

    /// The snapshot to be sealed, and whether this node asked for it.
    pub(crate) fn taken_at_checkpoint(&mut self) -> Option<(Taken, bool)> {
        self.sharing.as_mut()?.taken.take()
    }

    /// A snapshot is sealed: tells the others what it came to.
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
        self.tell(Notice::Digest { position: position.0, digest }, now)
    }

    /// The snapshot taken at a checkpoint is written, or never will be.
    pub(super) fn snapshot_is_done(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.busy = false;
        }
    }

    /// Shares the snapshot that is to be shared, if others have come to the same. Where there is room the
    /// log keeps what comes behind the one before it, for a node that is started again.
    pub(super) fn share(&mut self, now: Timestamp) {
        let covered = self.covered;
        // An origin is known once it has appended something.
        let alone = self.applied.origins.len() <= 1;
        let Some(sharing) = &mut self.sharing else { return };
        let due = sharing.to_share.filter(|position| {
            *position == covered && sharing.agreement.is_confirmed(*position, now, alone)
        });
        let Some(position) = due else {
            // One that could not be written, or is older than what was written since.
            sharing.to_share = sharing.to_share.filter(|position| *position >= covered);
            return;
        };
        sharing.to_share = None;
        match self.log.share_snapshot() {
            Ok(()) => {
                let scarce = self.log.filled_percent() >= CHECKPOINT_PERCENT;
                let behind = if scarce { position } else { sharing.covered_before };
                // One that is waited for is not put off by the next.
                sharing.let_go.get_or_insert(behind);
            }
            Err(why) => {
                sharing.not_before = Timestamp(now.0.saturating_add(SHARE_AGAIN_MS));
                sharing.last = None;
                self.stats.snapshots_failed += 1;
                tracing::warn!(position, %why, "the snapshot could not be shared; the log keeps what it covers");
            }
        }
    }

    /// Has the log truncated behind what was shared, once that takes nothing from a node that has yet to
    /// read it.
    pub(super) fn let_go(&mut self, now: Timestamp) {
        let Some(sharing) = &mut self.sharing else { return };
        let behind_all = |position: &u64| sharing.agreement.is_behind_all(*position, now);
        if let Some(position) = sharing.let_go.take_if(|position| behind_all(position)) {
            self.truncate_before = Some(Position(position).next());
        }
    }

    /// A node has appended a batch.
    pub(super) fn heard(&mut self, origin: u64, position: Position) {
        if let Some(sharing) = &mut self.sharing {
            sharing.agreement.heard(origin, position.0);
        }
    }

    fn tell(&mut self, notice: Notice, now: Timestamp) -> Result<(), Fatal> {
        let mut body = self.new_body();
        body.push(NODES);
        encode(&notice, &mut body);
        let header = Header { at: self.applied.at.max(now), entries: 1 };
        match self.append(header, body, 100, &mut |_| {}) {
            Ok(_) => self.heed(self.origin(), notice),
            // What was to be told is told at the next checkpoint.
            Err(AppendFailed::Room(why)) => {
                tracing::warn!(why, "the log has no room for what nodes tell each other");
                Ok(())
            }
            Err(AppendFailed::Fatal(fatal)) => Err(fatal),
        }
    }

    /// What everything comes to, as the nodes compare it.
    pub(crate) fn digest(&mut self) -> (u64, u64, u128) {
        let since = self.since_snapshot_bytes;
        let taken = self.take_snapshot();
        self.since_snapshot_bytes = since;
        (taken.applied.position, taken.applied.entries, taken.digest())
    }
}
