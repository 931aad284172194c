//! The judge of the chat. It is given the beginning and the outcome of each call, and returns the rules
//! that the whole history breaks. It has no sockets: a test can pass it the history of any server, of one that is
//! killed and restarted, or one made by hand.
//!
//! Times are those of the caller's monotonic clock. A call takes effect at one unknown instant between its
//! beginning and its end. The judge reports a breach only if no choice of these instants makes the history right:
//! of two calls that overlap, either may have come first.
//!
//! Takes are held to be linearizable, one inbox at a time, whichever of several servers they go to, as
//! far as that can be said of each pair of calls:
//!
//! - A message is handed out for good at most once, and to nobody else while it is lent.
//! - It is never handed out before its post has begun, after its post was refused, after it was
//!   acknowledged, or after it had expired.
//! - A take shows every message that was acknowledged before the take began, and that no other call
//!   can have had then; and every message that was acknowledged before the post of another began that
//!   this take shows. With a limit, it leaves out only what is newer than what it shows. So of two takes
//!   of which one ended before the other began, the later one never shows what the earlier one must have
//!   shown: that is a message missed, or lost if nobody ever has it.
//! - Within an answer, the oldest message comes first.
//!
//! It does not search for one order of all calls: a history that is wrong only as three or more calls
//! taken together, each pair of which is right, passes. A call without an answer excuses, for as long as
//! it may still have an effect, that its user lacks messages; that a message is handed out twice, it
//! never excuses.
//!
//! ```
//! use std::time::Duration;
//!
//! use tidings_drill::chat::judge::{Answer, Handed, Judge, Post, Rule, Take, Text, Tolerance};
//!
//! let at = Duration::from_millis;
//! let mut judge = Judge::new(vec!["ann".to_owned()], Tolerance::default());
//! let timeout = Duration::from_secs(60);
//! let post = Post { message: 1, user: 0, timeout, conflicts_with: None };
//! let post = judge.begin_post(0, post, at(0));
//! judge.end_post(post, &Answer::Done(17), at(1));
//! // The server is killed, so this take has no answer. It may have taken the message, or not.
//! let take = judge.begin_take(0, Take::default(), at(2));
//! judge.end_take(take, &Answer::Missing, at(3));
//! // But nobody gets it twice.
//! for time in [4, 6] {
//!     let take = judge.begin_take(0, Take::default(), at(time));
//!     let shown = vec![Handed { id: 17, text: Text::Whole(1) }];
//!     judge.end_take(take, &Answer::Done(shown), at(time + 1));
//! }
//! let found = judge.close(at(8));
//! assert_eq!(found.breaches.shortest()[0].rule(), Rule::HandedTwice);
//! println!("{}", found.breaches.shortest()[0]);
//! ```
//!
//! - `call`: the calls, and what came of them.
//! - `message`: what is known of one message.
//! - `inbox`: what is known of one user, and which takes are still to be judged.
//! - `breach`: the rules, and the calls that show that one is broken.
//!
//! What a take must contain depends on calls that are under way while it ends, so it is judged when
//! those that began before its end have ended. Then what is closed is folded away: the last
//! [`CLOSED_KEPT_MAX`] closed messages are kept, to show the calls if one is handed out again; of those
//! before only a mark stays, and a second hand-out shows one call.
//!
//! Memory: about 280 bytes for a message that is unread or kept, 16 for one that is forgotten.

mod breach;
mod call;
mod inbox;
mod message;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use breach::{Breach, Breaches, Rule};
use call::Taken;
pub use call::{Acknowledge, Answer, Begun, Handed, Post, Take, Text};
use inbox::{Doubt, Inbox};
use message::{Delete, Messages};

/// How many closed messages are kept to show the calls that closed them.
pub const CLOSED_KEPT_MAX: usize = 200_000;

/// How exactly times are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// By how much a time that the server measures may be off: its clock is coarse, and may be another.
    pub clock: Duration,
    /// For how long after its connection broke a call may still have an effect.
    pub unanswered: Duration,
    /// For how long after nobody waited for it any more, or its server said that it did not know.
    pub late: Duration,
    /// Calls go to several servers: a look must show what was acknowledged before it began, and not what
    /// another server has acknowledged while it waits.
    pub replicas: bool,
}

impl Tolerance {
    /// For how long after this answer a call may still have an effect.
    pub(super) fn after<T>(&self, answer: &Answer<T>) -> Option<Duration> {
        match answer {
            Answer::Done(_) | Answer::Refused(_) => None,
            Answer::Missing => Some(self.unanswered),
            Answer::Late => Some(self.late),
        }
    }
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            clock: Duration::from_millis(50),
            unanswered: Duration::from_secs(1),
            late: Duration::from_secs(30),
            replicas: false,
        }
    }
}

/// What became of the messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fates {
    /// Handed out for good.
    pub handed_out: u64,
    /// Lent and acknowledged.
    pub acknowledged: u64,
    /// Never handed out, or lent and not acknowledged, until they may have expired.
    pub expired: u64,
    /// Refused, or without an answer to their post and never seen.
    pub never_posted: u64,
    /// Possibly taken by a call without an answer.
    pub doubtful: u64,
    /// Lost.
    pub lost: u64,
    /// Alive, and no take ended after which it could be said that they are lost.
    pub unread: u64,
}

/// What the judge found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The rules that were broken.
    pub breaches: Breaches,
    /// What became of the messages.
    pub fates: Fates,
}

/// Judges a history while it happens.
#[derive(Debug)]
pub struct Judge {
    tolerance: Tolerance,
    /// What the users are called, in the order of their numbers.
    names: Vec<String>,
    inboxes: Vec<Inbox>,
    messages: Messages,
    found: Findings,
    /// The ticket of the next call.
    next: u64,
}

impl Judge {
    /// Nothing has happened yet. The users are numbered in the order of their names.
    pub fn new(names: Vec<String>, tolerance: Tolerance) -> Self {
        let inboxes = names.iter().map(|_| Inbox::default()).collect();
        let (messages, found) = (Messages::default(), Findings::default());
        Self { tolerance, names, inboxes, messages, found, next: 0 }
    }

    fn begin<C>(&mut self, lane: u32, call: C, now: Duration) -> Begun<C> {
        self.next += 1;
        Begun { call, lane, begin: now, ticket: self.next }
    }

    /// A post is about to be sent.
    pub fn begin_post(&mut self, lane: u32, post: Post, now: Duration) -> Begun<Post> {
        let first = self.messages.post(&post, lane, now);
        if let Some(inbox) = self.inboxes.get_mut(post.user as usize).filter(|_| first) {
            inbox.add(now, post.message);
        }
        self.begin(lane, post, now)
    }

    /// What came of it: the id.
    pub fn end_post(&mut self, begun: Begun<Post>, answer: &Answer<u128>, now: Duration) {
        let Begun { call, .. } = begun;
        let Some(message) = self.messages.get_mut(call.message) else { return };
        message.open = message.open.saturating_sub(1);
        match *answer {
            Answer::Done(id) => {
                message.acked.get_or_insert(now);
                let known = *message.id.get_or_insert(id);
                if let Some(other) = call.conflicts_with {
                    let why = format!("other content was taken under the key of message {other}");
                    let lines = [Some(message.line()), self.messages.line(other)];
                    self.found.breaches.add(Rule::Key, lines.into_iter().flatten(), || why);
                } else if known != id {
                    let rule = if message.sent > 1 { Rule::Key } else { Rule::Altered };
                    let name = message.name(&self.names);
                    let lines = [message.line()].into_iter().chain(message.shown());
                    self.found.breaches.add(rule, lines, || {
                        format!("{name} had the id {known:032x}, and then {id:032x}")
                    });
                }
            }
            Answer::Refused(status) => message.refused = Some(status),
            Answer::Missing | Answer::Late => {
                let late = now + self.tolerance.after(answer).unwrap_or_default();
                message.late = Some(message.late.map_or(late, |known| known.max(late)));
            }
        }
    }

    /// A take is about to be sent.
    pub fn begin_take(&mut self, lane: u32, take: Take, now: Duration) -> Begun<Take> {
        let begun = self.begin(lane, take, now);
        if let Some(inbox) = self.inboxes.get_mut(begun.call.user as usize) {
            inbox.open.insert((now, begun.ticket));
        }
        begun
    }

    /// What came of it: the messages, in the order of the answer.
    pub fn end_take(&mut self, begun: Begun<Take>, answer: &Answer<Vec<Handed>>, now: Duration) {
        let Begun { call: take, lane, begin, ticket } = begun;
        let user = take.user as usize;
        let Some(inbox) = self.inboxes.get_mut(user) else { return };
        inbox.open.remove(&(begin, ticket));
        match answer {
            Answer::Done(handed) => {
                let count = handed.len();
                let taken = Arc::new(Taken { take, lane, begin, end: now, count });
                self.judge_form(&taken);
                let mut numbers: Vec<u32> =
                    handed.iter().filter_map(|handed| self.hand(&taken, handed)).collect();
                self.judge_order(&taken, &numbers);
                let newest = self.newest(&numbers);
                numbers.sort_unstable();
                if let Some(inbox) = self.inboxes.get_mut(user) {
                    inbox.pending.push_back(inbox::Pending { taken, numbers, newest });
                }
            }
            Answer::Refused(_) => {}
            Answer::Missing | Answer::Late => {
                let until = now + self.tolerance.after(answer).unwrap_or_default();
                if !take.peek {
                    inbox.doubts.push(Doubt { begin, until, lease: take.lease });
                }
            }
        }
        self.settle(user, now);
    }

    /// An acknowledgement is about to be sent.
    pub fn begin_acknowledge(
        &mut self,
        lane: u32,
        call: Acknowledge,
        now: Duration,
    ) -> Begun<Acknowledge> {
        let begun = self.begin(lane, call, now);
        if let Some(message) = self.messages.get_mut(begun.call.message) {
            message.open_deletes += 1;
            if let Some(inbox) = self.inboxes.get_mut(message.user as usize) {
                inbox.open.insert((now, begun.ticket));
            }
        }
        begun
    }

    /// What came of it.
    pub fn end_acknowledge(
        &mut self,
        begun: Begun<Acknowledge>,
        answer: &Answer<()>,
        now: Duration,
    ) {
        let Begun { call, lane, begin, ticket } = begun;
        let Some(message) = self.messages.get_mut(call.message) else { return };
        let user = message.user as usize;
        message.open_deletes = message.open_deletes.saturating_sub(1);
        let mut delete = Delete { lane, begin, end: now, status: None };
        match *answer {
            Answer::Done(()) => {
                delete.status = Some(204);
                message.deletes.push(delete);
            }
            Answer::Missing | Answer::Late => message.deletes.push(delete),
            // It could not be done at this time, and nothing has changed.
            Answer::Refused(503) => {}
            Answer::Refused(status) => {
                delete.status = Some(status);
                let doubts = self.inboxes.get(user).is_some_and(|inbox| !inbox.doubts.is_empty());
                let lease = message.lent_during(&delete, self.tolerance.clock);
                if let Some(lease) = lease.filter(|_| !doubts) {
                    let name = message.name(&self.names);
                    let lines = [message.line(), lease.line(), delete.line()];
                    self.found.breaches.add(Rule::AcknowledgeRefused, lines, || name);
                }
            }
        }
        let closed = message.closed_at();
        if let Some(inbox) = self.inboxes.get_mut(user) {
            inbox.open.remove(&(begin, ticket));
            if let Some(closed) = closed {
                inbox.closing.insert((closed, call.message));
            }
        }
        self.settle(user, now);
    }

    /// Records that an answer was malformed. The caller also reports the outcome of the call.
    pub fn malformed<C: std::fmt::Debug>(&mut self, begun: &Begun<C>, now: Duration, why: &str) {
        let text = format!("lane {}: {:?}", begun.lane, begun.call);
        let line = breach::Line { begin: begun.begin, end: now, text };
        self.found.breaches.add(Rule::Malformed, [line], || why.to_owned());
    }

    /// All calls have ended, this late: what is missing now was lost.
    pub fn close(mut self, now: Duration) -> Findings {
        for user in 0..self.inboxes.len() {
            self.settle(user, now);
            let Some(inbox) = self.inboxes.get_mut(user) else { continue };
            inbox.close(&mut self.messages, &mut self.found, &self.names, self.tolerance, now);
        }
        self.found
    }

    /// What was found so far; losses are known only in the end.
    pub fn breaches(&self) -> &Breaches {
        &self.found.breaches
    }

    /// Judges the takes of a user that can be judged now.
    fn settle(&mut self, user: usize, now: Duration) {
        if let Some(inbox) = self.inboxes.get_mut(user) {
            inbox.settle(&mut self.messages, &mut self.found, &self.names, self.tolerance, now);
        }
    }

    /// What can be said of a take on its own.
    fn judge_form(&mut self, taken: &Taken) {
        let user = || message::quoted(&self.names, taken.take.user);
        if taken.take.limit.is_some_and(|limit| taken.count > limit as usize) {
            self.found.breaches.add(Rule::OverLimit, [taken.line()], user);
        }
        let due = taken.take.wait.map_or(Duration::ZERO, |wait| taken.begin + wait);
        if taken.count == 0 && taken.end + self.tolerance.clock < due {
            self.found.breaches.add(Rule::ReturnedEarly, [taken.line()], user);
        }
    }

    /// A take shows a message: whether it may. Its number, if it is one of this user.
    fn hand(&mut self, taken: &Arc<Taken>, handed: &Handed) -> Option<u32> {
        let number = match &handed.text {
            Text::Whole(number) | Text::Altered(number) => *number,
            Text::Strange(text) => {
                let user = message::quoted(&self.names, taken.take.user);
                let why = || format!("the text {text:?} to user {user}");
                self.found.breaches.add(Rule::NeverPosted, [taken.line()], why);
                return None;
            }
        };
        let clock = self.tolerance.clock;
        let Some(message) = self.messages.get_mut(number) else {
            let rule = if self.messages.is_forgotten(number) {
                Rule::HandedTwice
            } else {
                Rule::NeverPosted
            };
            self.found.breaches.add(rule, [taken.line()], || format!("message {number}"));
            return None;
        };
        let known = *message.id.get_or_insert(handed.id);
        let altered = matches!(handed.text, Text::Altered(_)) || known != handed.id;
        if let Some((rule, more)) = message.forbids(taken, altered, clock) {
            let name = message.name(&self.names);
            let lines = [message.line()].into_iter().chain(more).chain([taken.line()]);
            self.found.breaches.add(rule, lines, || {
                let user = message::quoted(&self.names, taken.take.user);
                if rule == Rule::WrongUser {
                    format!("{name}, to user {user}")
                } else if rule == Rule::Altered && known != handed.id {
                    format!("{name}: id {:032x}, and it was {known:032x}", handed.id)
                } else {
                    name
                }
            });
        }
        if !taken.take.peek {
            message.handed.push(Arc::clone(taken));
            if let Some(closed) = message.closed_at()
                && let Some(inbox) = self.inboxes.get_mut(message.user as usize)
            {
                inbox.closing.insert((closed, number));
            }
        }
        (message.user == taken.take.user).then_some(number)
    }

    /// Within one answer, a message must not come after one that was posted when it had been
    /// acknowledged.
    fn judge_order(&mut self, taken: &Taken, numbers: &[u32]) {
        let mut newest: Option<(Duration, u32)> = None;
        for &number in numbers {
            let Some(message) = self.messages.get(number) else { continue };
            if let (Some(acked), Some((begin, before))) = (message.acked, newest)
                && acked < begin
                && let Some(other) = self.messages.get(before)
            {
                let lines = [message.line(), other.line(), taken.line()];
                self.found.breaches.add(Rule::OutOfOrder, lines, || {
                    format!("{} after message {before}", message.name(&self.names))
                });
                return;
            }
            newest = newest.max(Some((message.begin, number)));
        }
    }

    /// The message in an answer that was posted last.
    fn newest(&self, numbers: &[u32]) -> Option<(Duration, u32)> {
        let begun = |&number| self.messages.get(number).map(|message| (message.begin, number));
        numbers.iter().filter_map(begun).max()
    }
}
