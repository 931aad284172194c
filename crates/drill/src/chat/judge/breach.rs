//! The rules, and the breaches of them: each with the calls that show it, those with the fewest calls
//! kept.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How many breaches are kept with their calls; all are counted.
const KEPT_MAX: usize = 20;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A message is handed out for good at most once.
    HandedTwice,
    /// A message that is lent is handed out to nobody else until its lease is over.
    WithinLease,
    /// A message that was acknowledged is not handed out again.
    AfterAcknowledge,
    /// A message is not handed out when its age is over its timeout.
    AfterExpiry,
    /// A message is handed out to the user it was posted to.
    WrongUser,
    /// Text and id are those of the post.
    Altered,
    /// A message that is handed out was posted, and the post was not rejected.
    NeverPosted,
    /// A message that was acknowledged with 201 is handed out while it lives.
    Lost,
    /// A take hands out all that is there.
    Missed,
    /// The oldest message comes first.
    OutOfOrder,
    /// A take hands out no more than it was asked for.
    OverLimit,
    /// A long poll that finds nothing lasts as long as it was asked to.
    ReturnedEarly,
    /// The same key gives the same id, and takes no other content.
    Key,
    /// A message that is lent can be acknowledged.
    AcknowledgeRefused,
    /// An answer has the form that it must have.
    Malformed,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HandedTwice => "handed out twice",
            Self::WithinLease => "handed out within a lease",
            Self::AfterAcknowledge => "handed out after its acknowledgement",
            Self::AfterExpiry => "handed out after it had expired",
            Self::WrongUser => "handed out to another user",
            Self::Altered => "handed out altered",
            Self::NeverPosted => "handed out and never posted",
            Self::Lost => "lost",
            Self::Missed => "missed by a take",
            Self::OutOfOrder => "out of order",
            Self::OverLimit => "more than the limit",
            Self::ReturnedEarly => "a long poll came back early",
            Self::Key => "an idempotency key was not kept",
            Self::AcknowledgeRefused => "an acknowledgement in time was refused",
            Self::Malformed => "a malformed answer",
        })
    }
}

/// A call as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) begin: Duration,
    pub(super) end: Duration,
    pub(super) text: String,
}

/// A rule that was broken, and the calls that show it.
#[derive(Debug, Clone)]
pub struct Breach {
    rule: Rule,
    /// Which message or user.
    subject: String,
    /// The calls, in the order in which they began.
    lines: Vec<Line>,
}

impl Breach {
    /// Which rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// How many calls show it.
    pub fn calls(&self) -> usize {
        self.lines.len()
    }

    /// By which the shortest history comes first, and of these the earliest.
    fn rank(&self) -> (usize, Duration) {
        (self.lines.len(), self.lines.last().map_or(Duration::ZERO, |line| line.end))
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.subject)?;
        for Line { begin, end, text } in &self.lines {
            let (begin, end) = (begin.as_secs_f64(), end.as_secs_f64());
            write!(f, "\n    {begin:>11.6} s to {end:>11.6} s  {text}")?;
        }
        Ok(())
    }
}

/// The breaches found: the shortest ones in full, all of them counted.
#[derive(Debug, Clone, Default)]
pub struct Breaches {
    /// The shortest first.
    kept: Vec<Breach>,
    counts: BTreeMap<Rule, u64>,
}

impl Breaches {
    /// Counts one; it is described only if it is among the shortest.
    pub(super) fn add(
        &mut self,
        rule: Rule,
        lines: impl IntoIterator<Item = Line>,
        describe: impl FnOnce() -> String,
    ) {
        *self.counts.entry(rule).or_default() += 1;
        let mut lines: Vec<Line> = lines.into_iter().collect();
        lines.sort_by_key(|line| (line.begin, line.end));
        let mut breach = Breach { rule, subject: String::new(), lines };
        let place = self.kept.partition_point(|kept| kept.rank() <= breach.rank());
        if place < KEPT_MAX {
            breach.subject = describe();
            self.kept.insert(place, breach);
            self.kept.truncate(KEPT_MAX);
        }
    }

    /// The ones with the fewest calls, the fewest first.
    pub fn shortest(&self) -> &[Breach] {
        &self.kept
    }

    /// How often each rule was broken.
    pub fn counts(&self) -> impl Iterator<Item = (Rule, u64)> {
        self.counts.iter().map(|(&rule, &count)| (rule, count))
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}
