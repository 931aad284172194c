//! Whether the nodes that share a log are what they must be: the same. Each of them says in the log
//! what its machines came to behind a checkpoint; each compares what the others say with its own.
//!
//! A node in the minority is wrong, whatever made it so: memory, disk, a server that lost what it had
//! acknowledged, a bug. It ends, having thrown away its own snapshots, and is built anew from the
//! shared one when it is started again. Where none is in the majority all end: nobody knows who is
//! right.

use std::collections::BTreeMap;

use tidings_core::machine::Timestamp;
use tidings_log::Position;

/// How many checkpoints are remembered.
const CHECKPOINTS: usize = 4;
/// How long a disagreement without a majority may last, and how long the others are waited for before
/// a snapshot is shared that nobody else has confirmed.
const PATIENCE_MS: u64 = 15_000;
/// How long a node that is behind is waited for before the log lets go of what it has not read.
pub(crate) const PATIENCE_BEHIND_MS: u64 = 5_000;
/// How long they are waited for where no other has ever appended anything: it may be there, and only
/// read so far.
const PATIENCE_ALONE_MS: u64 = 2_000;

/// What was said behind one checkpoint.
#[derive(Debug, Default)]
struct Checkpoint {
    /// By origin.
    digests: BTreeMap<u64, u128>,
    /// When this node's own was applied.
    own_since: Option<Timestamp>,
}

impl Checkpoint {
    /// Whether it is so long since this node came to it.
    fn has_lasted(&self, ms: u64, now: Timestamp) -> bool {
        self.own_since.is_some_and(|since| now.0 >= since.0.saturating_add(ms))
    }
}

/// Two nodes have applied the same entries and are not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The checkpoint at which they were compared.
    pub position: Position,
    /// What this node came to.
    pub mine: u128,
    /// What others came to.
    pub theirs: u128,
    /// How many came to the same as this node, itself included, and how many to theirs.
    pub votes: (usize, usize),
}

/// What the nodes have said lately.
#[derive(Debug)]
pub(crate) struct Agreement {
    origin: u64,
    checkpoints: BTreeMap<u64, Checkpoint>,
    /// Where each node has lately appended something. One that has not since the oldest checkpoint that
    /// is remembered may be gone.
    heard: BTreeMap<u64, u64>,
    /// A disagreement that may yet be decided, and since when.
    open: Option<(Disagreement, Timestamp)>,
}

/// What a digest has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Nobody says anything else than this node.
    Agreed,
    /// Others are in the minority.
    OthersDiffer(Disagreement),
    /// This node is in the minority, or nobody is in the majority for too long.
    Wrong(Disagreement),
}

impl Agreement {
    pub(crate) const fn new(origin: u64) -> Self {
        Self { origin, checkpoints: BTreeMap::new(), heard: BTreeMap::new(), open: None }
    }

    /// A node has appended something.
    pub(crate) fn heard(&mut self, origin: u64, position: u64) {
        self.heard.insert(origin, position);
    }

    /// A node has said what it came to.
    pub(crate) fn said(
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
            self.heard.retain(|_, last| *last >= oldest);
        }
        self.judge(at, position)
    }

    /// Time has passed.
    pub(crate) fn look(&mut self, now: Timestamp) -> Judged {
        match self.open {
            Some((disagreement, _)) => self.judge(now, disagreement.position.0),
            None => Judged::Agreed,
        }
    }

    /// Whether there is a disagreement that may yet be decided.
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

    /// Whether what this node came to behind a checkpoint can be given to others: another node has
    /// come to the same, or none has said anything for so long that there may be none.
    pub(crate) fn is_confirmed(&self, position: u64, now: Timestamp, alone: bool) -> bool {
        let Some(checkpoint) = self.checkpoints.get(&position) else { return false };
        let Some(mine) = checkpoint.digests.get(&self.origin) else { return false };
        let (same, all) = (
            checkpoint.digests.values().filter(|digest| *digest == mine).count(),
            checkpoint.digests.len(),
        );
        let patience_ms = if alone { PATIENCE_ALONE_MS } else { PATIENCE_MS };
        same == all && (same > 1 || checkpoint.has_lasted(patience_ms, now))
    }

    /// Whether nobody needs what is before a checkpoint any more: every node that was heard of lately
    /// has come to it or further, or was waited for.
    pub(crate) fn is_behind_all(&self, position: u64, now: Timestamp) -> bool {
        let has_come = |origin| {
            self.checkpoints.range(position..).any(|(_, said)| said.digests.contains_key(origin))
        };
        let checkpoint = self.checkpoints.get(&position);
        checkpoint.is_none_or(|checkpoint| checkpoint.has_lasted(PATIENCE_BEHIND_MS, now))
            || self.heard.keys().all(has_come)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Origin 1 hears what some say at the same moment.
    fn hears(digests: &[(u64, u128)]) -> (Agreement, Judged) {
        let mut agreement = Agreement::new(1);
        let mut judged = Judged::Agreed;
        for (origin, digest) in digests {
            judged = agreement.said(Timestamp(0), *origin, 7, *digest);
        }
        (agreement, judged)
    }

    #[test]
    fn nodes_that_say_the_same_agree() {
        let (agreement, judged) = hears(&[(2, 5), (1, 5), (3, 5)]);
        assert_eq!(judged, Judged::Agreed);
        assert!(agreement.is_confirmed(7, Timestamp(0), false));
        assert!(!agreement.is_confirmed(8, Timestamp(0), false));
    }

    #[test]
    fn whoever_is_in_the_minority_is_wrong() {
        assert!(matches!(hears(&[(1, 4), (2, 5), (3, 5)]).1, Judged::Wrong(_)));
        assert!(matches!(hears(&[(2, 5), (3, 5), (1, 4)]).1, Judged::Wrong(_)), "in any order");
        let (agreement, judged) = hears(&[(1, 5), (2, 5), (3, 4)]);
        assert!(matches!(judged, Judged::OthersDiffer(Disagreement { votes: (2, 1), .. })));
        assert!(
            !agreement.is_confirmed(7, Timestamp(99_999), false),
            "nothing is shared in a quarrel"
        );
    }

    #[test]
    fn without_a_majority_a_third_is_waited_for() {
        let (mut agreement, judged) = hears(&[(1, 4), (2, 5)]);
        assert_eq!(judged, Judged::Agreed);
        assert_eq!(agreement.look(Timestamp(14_999)), Judged::Agreed);
        assert!(matches!(agreement.look(Timestamp(15_000)), Judged::Wrong(_)));
        let (mut agreement, _) = hears(&[(1, 4), (2, 5)]);
        let third = agreement.said(Timestamp(1), 3, 7, 4);
        assert!(matches!(third, Judged::OthersDiffer(_)));
        assert_eq!(agreement.look(Timestamp(99_000)), Judged::Agreed, "it is decided");
    }

    #[test]
    fn a_node_that_is_alone_confirms_itself_after_a_while() {
        let (agreement, _) = hears(&[(1, 4)]);
        assert!(!agreement.is_confirmed(7, Timestamp(14_999), false));
        assert!(agreement.is_confirmed(7, Timestamp(15_000), false));
        assert!(!agreement.is_confirmed(7, Timestamp(1_999), true));
        assert!(agreement.is_confirmed(7, Timestamp(2_000), true));
    }

    #[test]
    fn what_a_node_has_not_read_is_kept_for_it_for_a_while() {
        let (mut agreement, _) = hears(&[(1, 5), (2, 5)]);
        assert!(agreement.is_behind_all(7, Timestamp(0)), "there are two");
        agreement.heard(3, 5);
        assert!(!agreement.is_behind_all(7, Timestamp(4_999)), "a third has come to 5 at least");
        assert!(agreement.is_behind_all(7, Timestamp(5_000)));
        let _agreed = agreement.said(Timestamp(0), 3, 7, 5);
        assert!(agreement.is_behind_all(7, Timestamp(0)), "to 7");
    }

    #[test]
    fn a_node_that_is_silent_for_some_checkpoints_is_not_waited_for() {
        let mut agreement = Agreement::new(1);
        agreement.heard(3, 5);
        let waited_for = [7, 8, 9, 10, 11].map(|position| {
            let _agreed = agreement.said(Timestamp(0), 1, position, 5);
            !agreement.is_behind_all(position, Timestamp(0))
        });
        assert_eq!(waited_for, [true, true, true, true, false]);
    }

    #[test]
    fn what_a_node_has_not_come_to_itself_it_does_not_judge() {
        assert_eq!(hears(&[(2, 5), (3, 4)]).1, Judged::Agreed);
    }
}
