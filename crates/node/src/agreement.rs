//! Checks that the nodes that share a log have the same state. At a checkpoint each node publishes the digest of its machines'
//! states in the log, and compares the digests of the other nodes with its own.
//!
//! A node in the minority is wrong, whatever the cause: memory, disk, a server that lost what it had acknowledged, a bug. It
//! deletes its own snapshots and ends; when it is started again, it restores the shared snapshot. Without a majority all nodes
//! end, because nobody knows which is right.

use std::collections::BTreeMap;

use tidings_core::machine::Timestamp;
use tidings_log::Position;

/// How many checkpoints are remembered.
const CHECKPOINTS: usize = 4;
/// How long a disagreement without a majority may last, and how long a snapshot that no other node has confirmed waits before
/// it is shared.
const PATIENCE_MS: u64 = 15_000;
/// How long the log keeps what a node that is behind has not read.
pub(crate) const PATIENCE_BEHIND_MS: u64 = 5_000;
/// How long a snapshot waits for confirmation where no other node has ever appended. One may be there and have only read so
/// far.
const PATIENCE_ALONE_MS: u64 = 2_000;

/// The digests published at one checkpoint.
#[derive(Debug, Default)]
struct Checkpoint {
    /// By origin.
    digests: BTreeMap<u64, u128>,
    /// When this node's own digest was applied.
    own_since: Option<Timestamp>,
}

impl Checkpoint {
    /// Returns whether this node's digest is at least `ms` old.
    fn has_lasted(&self, ms: u64, now: Timestamp) -> bool {
        self.own_since.is_some_and(|since| now.0 >= since.0.saturating_add(ms))
    }
}

/// Two nodes have applied the same entries and have different states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The checkpoint at which they were compared.
    pub position: Position,
    /// The digest of this node.
    pub mine: u128,
    /// The most frequent other digest.
    pub theirs: u128,
    /// How many nodes have the digest of this node, itself included, and how many have `theirs`.
    pub votes: (usize, usize),
}

/// The digests that nodes have published lately.
#[derive(Debug)]
pub(crate) struct Agreement {
    origin: u64,
    checkpoints: BTreeMap<u64, Checkpoint>,
    /// The last position that each node appended, by origin. A node that has appended nothing since the oldest remembered
    /// checkpoint may be gone, and is removed.
    appended: BTreeMap<u64, u64>,
    /// A disagreement that may yet be decided, and since when.
    open: Option<(Disagreement, Timestamp)>,
}

/// The verdict on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// No node has another digest, or it is too early to decide.
    Agreed,
    /// Other nodes are in the minority.
    OthersDiffer(Disagreement),
    /// This node is in the minority, or there was no majority for too long.
    Wrong(Disagreement),
}

impl Agreement {
    pub(crate) const fn new(origin: u64) -> Self {
        Self { origin, checkpoints: BTreeMap::new(), appended: BTreeMap::new(), open: None }
    }

    /// Records that a node has appended a batch.
    pub(crate) fn record_append(&mut self, origin: u64, position: u64) {
        self.appended.insert(origin, position);
    }

    /// Records the digest of a node.
    pub(crate) fn record_digest(
        &mut self,
        at: Timestamp,
        origin: u64,
        position: u64,
        digest: u128,
    ) -> Judged {
        let checkpoint = self.checkpoints.entry(position).or_default();
        checkpoint.digests.entry(origin).or_insert(digest);
        if origin == self.origin {
            checkpoint.own_since.get_or_insert(at);
        }
        while self.checkpoints.len() > CHECKPOINTS {
            self.checkpoints.pop_first();
            let oldest = self.checkpoints.first_key_value().map_or(0, |(position, _)| *position);
            self.appended.retain(|_, last| *last >= oldest);
        }
        self.judge(at, position)
    }

    /// Checks again whether a disagreement has lasted too long.
    pub(crate) fn check(&mut self, now: Timestamp) -> Judged {
        match self.open {
            Some((disagreement, _)) => self.judge(now, disagreement.position.0),
            None => Judged::Agreed,
        }
    }

    /// Returns whether there is a disagreement that may yet be decided.
    pub(crate) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn judge(&mut self, now: Timestamp, position: u64) -> Judged {
        let Some(checkpoint) = self.checkpoints.get(&position) else { return Judged::Agreed };
        let Some(mine) = checkpoint.digests.get(&self.origin) else { return Judged::Agreed };
        let votes = |digest: &u128| checkpoint.digests.values().filter(|d| *d == digest).count();
        let others = checkpoint.digests.values().filter(|digest| *digest != mine);
        let Some(theirs) = others.max_by_key(|digest| (votes(digest), **digest)) else {
            return Judged::Agreed;
        };
        let disagreement = Disagreement {
            position: Position(position),
            mine: *mine,
            theirs: *theirs,
            votes: (votes(mine), votes(theirs)),
        };
        let since = self.open.filter(|(open, _)| open.position.0 == position);
        let since = since.map_or(now, |(_, since)| since);
        self.open = None;
        match disagreement.votes {
            (mine, theirs) if mine < theirs => Judged::Wrong(disagreement),
            (mine, theirs) if mine > theirs => Judged::OthersDiffer(disagreement),
            _ if now.0 >= since.0.saturating_add(PATIENCE_MS) => Judged::Wrong(disagreement),
            _ => {
                self.open = Some((disagreement, since));
                Judged::Agreed
            }
        }
    }

    /// Returns whether this node's snapshot of a checkpoint can be shared: another node has published the same digest, or none
    /// has published any for so long that there may be none.
    pub(crate) fn is_confirmed(&self, position: u64, now: Timestamp, alone: bool) -> bool {
        let Some(checkpoint) = self.checkpoints.get(&position) else { return false };
        let Some(mine) = checkpoint.digests.get(&self.origin) else { return false };
        let agreed = checkpoint.digests.values().all(|digest| digest == mine);
        let patience_ms = if alone { PATIENCE_ALONE_MS } else { PATIENCE_MS };
        agreed && (checkpoint.digests.len() > 1 || checkpoint.has_lasted(patience_ms, now))
    }

    /// Returns whether no node needs the log before a checkpoint any more: every node that appended lately has published a digest
    /// of it or of a later one, or has had the time to.
    pub(crate) fn is_read_by_all(&self, position: u64, now: Timestamp) -> bool {
        let has_read = |origin| {
            self.checkpoints.range(position..).any(|(_, later)| later.digests.contains_key(origin))
        };
        let checkpoint = self.checkpoints.get(&position);
        checkpoint.is_none_or(|checkpoint| checkpoint.has_lasted(PATIENCE_BEHIND_MS, now))
            || self.appended.keys().all(has_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Origin 1 sees digests that are published at the same moment.
    fn published(digests: &[(u64, u128)]) -> (Agreement, Judged) {
        let mut agreement = Agreement::new(1);
        let mut judged = Judged::Agreed;
        for (origin, digest) in digests {
            judged = agreement.record_digest(Timestamp(0), *origin, 7, *digest);
        }
        (agreement, judged)
    }

    #[test]
    fn nodes_with_the_same_digest_agree() {
        let (agreement, judged) = published(&[(2, 5), (1, 5), (3, 5)]);
        assert_eq!(judged, Judged::Agreed);
        assert!(agreement.is_confirmed(7, Timestamp(0), false));
        assert!(!agreement.is_confirmed(8, Timestamp(0), false));
    }

    #[test]
    fn a_node_in_the_minority_is_wrong() {
        assert!(matches!(published(&[(1, 4), (2, 5), (3, 5)]).1, Judged::Wrong(_)));
        assert!(matches!(published(&[(2, 5), (3, 5), (1, 4)]).1, Judged::Wrong(_)), "in any order");
        let (agreement, judged) = published(&[(1, 5), (2, 5), (3, 4)]);
        assert!(matches!(judged, Judged::OthersDiffer(Disagreement { votes: (2, 1), .. })));
        assert!(
            !agreement.is_confirmed(7, Timestamp(99_999), false),
            "nothing is shared during a disagreement"
        );
    }

    #[test]
    fn without_a_majority_the_decision_waits_for_a_third_node() {
        let (mut agreement, judged) = published(&[(1, 4), (2, 5)]);
        assert_eq!(judged, Judged::Agreed);
        assert_eq!(agreement.check(Timestamp(14_999)), Judged::Agreed);
        assert!(matches!(agreement.check(Timestamp(15_000)), Judged::Wrong(_)));
        let (mut agreement, _) = published(&[(1, 4), (2, 5)]);
        let third = agreement.record_digest(Timestamp(1), 3, 7, 4);
        assert!(matches!(third, Judged::OthersDiffer(_)));
        assert_eq!(agreement.check(Timestamp(99_000)), Judged::Agreed, "it is decided");
    }

    #[test]
    fn a_node_alone_confirms_its_own_snapshot_after_a_while() {
        let (agreement, _) = published(&[(1, 4)]);
        assert!(!agreement.is_confirmed(7, Timestamp(14_999), false));
        assert!(agreement.is_confirmed(7, Timestamp(15_000), false));
        assert!(!agreement.is_confirmed(7, Timestamp(1_999), true));
        assert!(agreement.is_confirmed(7, Timestamp(2_000), true));
    }

    #[test]
    fn the_log_is_kept_for_a_while_for_a_node_that_has_not_read_it() {
        let (mut agreement, _) = published(&[(1, 5), (2, 5)]);
        assert!(agreement.is_read_by_all(7, Timestamp(0)), "there are two");
        agreement.record_append(3, 5);
        assert!(!agreement.is_read_by_all(7, Timestamp(4_999)), "a third node has read up to 5");
        assert!(agreement.is_read_by_all(7, Timestamp(5_000)));
        let _agreed = agreement.record_digest(Timestamp(0), 3, 7, 5);
        assert!(agreement.is_read_by_all(7, Timestamp(0)), "up to 7");
    }

    #[test]
    fn the_log_is_not_kept_for_a_node_that_was_silent_for_some_checkpoints() {
        let mut agreement = Agreement::new(1);
        agreement.record_append(3, 5);
        let waited_for = [7, 8, 9, 10, 11].map(|position| {
            let _agreed = agreement.record_digest(Timestamp(0), 1, position, 5);
            !agreement.is_read_by_all(position, Timestamp(0))
        });
        assert_eq!(waited_for, [true, true, true, true, false]);
    }

    #[test]
    fn a_node_without_a_digest_of_its_own_judges_nobody() {
        assert_eq!(published(&[(2, 5), (3, 4)]).1, Judged::Agreed);
    }
}
