//! What is known of one user: messages that may be there, takes that are still to be judged, and calls
//! without an answer, which may have taken anything.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::breach::Rule;
use super::call::Taken;
use super::message::{Delete, Message, Messages};
use super::{Findings, Tolerance};

/// So many messages more than twice those left the last time are gone through for expired ones.
const SWEEP_MIN: usize = 64;

/// A user.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The takes and acknowledgements in progress: their beginnings and their tickets.
    pub(super) open: BTreeSet<(Duration, u64)>,
    /// Messages that may be there: when their first post began, and their numbers.
    live: BTreeSet<(Duration, u32)>,
    /// How many were live after the last sweep.
    swept: usize,
    /// Takes that were answered and are not judged, in the order of their ends.
    pub(super) pending: VecDeque<Pending>,
    /// Messages that were handed out for good or acknowledged: when that call began, and their
    /// numbers. They are live until no take before that is pending.
    pub(super) closing: BTreeSet<(Duration, u32)>,
    /// Takes without an answer.
    pub(super) doubts: Vec<Doubt>,
}

/// A take that is not judged.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) taken: Arc<Taken>,
    /// What it showed, in rising order.
    pub(super) numbers: Vec<u32>,
    /// Of these the one that was posted last: when, and its number.
    pub(super) newest: Option<(Duration, u32)>,
}

/// A take without an answer.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) begin: Duration,
    /// When it had its effect at the latest.
    pub(super) until: Duration,
    pub(super) lease: Option<Duration>,
}

impl Doubt {
    /// Whether it may have had a message at some time from `at` to `end`.
    fn may_hold(&self, message: &Message, at: Duration, end: Duration, clock: Duration) -> bool {
        let ended = self.lease.is_some_and(|lease| self.until + lease + clock < at);
        self.begin <= end && message.begin <= self.until && !ended
    }
}

impl Inbox {
    /// A message is posted to this user for the first time.
    pub(super) fn add(&mut self, begin: Duration, number: u32) {
        self.live.insert((begin, number));
    }

    /// Judges the takes that ended before everything that is under way began, and folds away what
    /// is closed.
    pub(super) fn settle(
        &mut self,
        messages: &mut Messages,
        found: &mut Findings,
        names: &[String],
        tolerance: Tolerance,
        now: Duration,
    ) {
        let horizon = self.open.first().map_or(Duration::MAX, |&(begin, _)| begin);
        while self.pending.front().is_some_and(|pending| pending.taken.end < horizon) {
            let Some(pending) = self.pending.pop_front() else { break };
            self.judge(&pending, messages, found, names, tolerance);
        }
        let earliest = self.pending.front().map_or(Duration::MAX, |pending| pending.taken.end);
        self.fold(messages, found, names, earliest);
        self.swept = self.swept.min(self.live.len());
        if self.live.len() > 2 * self.swept + SWEEP_MIN {
            self.sweep(messages, found, names, tolerance.clock, now.min(earliest));
            self.swept = self.live.len();
            let oldest = self.live.first().map_or(now, |&(begin, _)| begin);
            self.doubts.retain(|doubt| doubt.until >= oldest.min(now));
        }
    }

    /// Looks for messages that a take must have shown and has not.
    fn judge(
        &self,
        pending: &Pending,
        messages: &mut Messages,
        found: &mut Findings,
        names: &[String],
        tolerance: Tolerance,
    ) {
        let Pending { taken, numbers, newest } = pending;
        // What shows a message has looked when its post had begun.
        let shown_from = newest.map_or(Duration::ZERO, |(begin, _)| begin);
        let looked_until = taken.looked_until(tolerance).max(shown_from);
        for &(begin, number) in &self.live {
            let too_new = taken.is_full() && newest.is_none_or(|(newest, _)| begin >= newest);
            if begin > looked_until || too_new {
                break;
            }
            if numbers.binary_search(&number).is_ok() {
                continue;
            }
            let Some(message) = messages.get_mut(number) else { continue };
            if !self.must_show(message, taken, looked_until, tolerance.clock) {
                continue;
            }
            if !taken.is_full() {
                message.missed_by.get_or_insert_with(|| Arc::clone(taken));
                continue;
            }
            let Some((newest, after)) = *newest else { continue };
            if message.acked.is_some_and(|acked| acked < newest) {
                let (name, lines) = (message.name(names), [message.line(), taken.line()]);
                let lines = lines.into_iter().chain(messages.line(after));
                let describe = || format!("{name} was left behind, and message {after} was not");
                found.breaches.add(Rule::OutOfOrder, lines, describe);
                return;
            }
        }
    }

    /// Whether a take must have found a message, however the instants of the calls lie.
    fn must_show(
        &self,
        message: &Message,
        taken: &Taken,
        looked_until: Duration,
        clock: Duration,
    ) -> bool {
        let (at, end) = (looked_until, taken.end);
        message.acked.is_some_and(|acked| acked < at)
            && !message.may_be_expired(end, clock)
            && message.handed.iter().all(|had| had.begin > end || !had.may_hold_at(at, clock))
            && message.deletes.iter().all(|delete| delete.begin > end)
            && !self.doubts.iter().any(|doubt| doubt.may_hold(message, at, end, clock))
    }

    /// Folds away what was closed by calls that began before all takes that are not judged ended.
    fn fold(
        &mut self,
        messages: &mut Messages,
        found: &mut Findings,
        names: &[String],
        earliest: Duration,
    ) {
        while self.closing.first().is_some_and(|&(closed, _)| closed <= earliest) {
            let Some((_, number)) = self.closing.pop_first() else { break };
            let Some(message) = messages.get_mut(number) else { continue };
            // One that is handed out twice is closed twice.
            if !self.live.remove(&(message.begin, number)) {
                continue;
            }
            report(message, found, names);
            let acknowledged = message.deletes.iter().any(|delete| delete.status.is_some());
            if acknowledged {
                found.fates.acknowledged += 1;
            } else {
                found.fates.handed_out += 1;
            }
            messages.close(number);
        }
    }

    /// Folds away what has expired for sure or was refused.
    fn sweep(
        &mut self,
        messages: &mut Messages,
        found: &mut Findings,
        names: &[String],
        clock: Duration,
        now: Duration,
    ) {
        self.live.retain(|&(_, number)| {
            let Some(message) = messages.get_mut(number) else { return false };
            let expired = message.expired_from(clock).is_some_and(|expired| expired < now);
            if !expired && !message.is_refused() {
                return true;
            }
            let lost = report(message, found, names);
            if message.acked.is_none() && message.handed.is_empty() {
                found.fates.never_posted += 1;
            } else if !lost {
                found.fates.expired += 1;
            }
            messages.close(number);
            false
        });
    }

    /// Says what became of everything that is still live.
    pub(super) fn close(
        &mut self,
        messages: &mut Messages,
        found: &mut Findings,
        names: &[String],
        tolerance: Tolerance,
        now: Duration,
    ) {
        self.fold(messages, found, names, Duration::MAX);
        self.sweep(messages, found, names, tolerance.clock, now);
        for (_, number) in std::mem::take(&mut self.live) {
            let Some(message) = messages.get_mut(number) else { continue };
            let lost = report(message, found, names);
            let doubtful = !message.deletes.is_empty()
                || self.doubts.iter().any(|d| d.may_hold(message, now, now, tolerance.clock));
            let fates = &mut found.fates;
            if lost {
                continue;
            }
            if message.acked.is_none() && message.handed.is_empty() {
                fates.never_posted += 1;
            } else if message.may_be_expired(now, tolerance.clock) {
                fates.expired += 1;
            } else if doubtful {
                fates.doubtful += 1;
            } else {
                fates.unread += 1;
            }
        }
    }
}

/// Reports a message that a take must have shown and has not, if there is one: as lost if nobody had
/// it afterwards. Whether it was lost.
fn report(message: &Message, found: &mut Findings, names: &[String]) -> bool {
    let Some(missed) = &message.missed_by else { return false };
    let after = message.handed.iter().find(|taken| taken.end > missed.end);
    let deleted = message.deletes.iter().find(|delete| delete.status.is_some());
    let lease = message.handed.iter().rfind(|taken| taken.end <= missed.end);
    let lines = [Some(message.line()), lease.map(|taken| taken.line()), Some(missed.line())];
    let after = after.map(|taken| taken.line()).or(deleted.map(Delete::line));
    let rule = if after.is_some() { Rule::Missed } else { Rule::Lost };
    let lines = lines.into_iter().chain([after]).flatten();
    found.breaches.add(rule, lines, || message.name(names));
    if rule == Rule::Lost {
        found.fates.lost += 1;
    }
    rule == Rule::Lost
}
