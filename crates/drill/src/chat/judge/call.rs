//! The calls that the judge is given, and their outcomes.

use std::time::Duration;

use super::Tolerance;
use super::breach::Line;

/// `POST /chat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Which message. The same number again is the same message sent again under its key.
    pub message: u32,
    /// To whom, as a place in the list of users.
    pub user: u32,
    /// How long it lives.
    pub timeout: Duration,
    /// It bears the key of this message and must be refused.
    pub conflicts_with: Option<u32>,
}

/// `GET /chat/{username}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Take {
    /// Whose messages, as a place in the list of users.
    pub user: u32,
    /// The most messages to take.
    pub limit: Option<u32>,
    /// How long to wait for one.
    pub wait: Option<Duration>,
    /// For how long they are lent; without it, they are handed out for good.
    pub lease: Option<Duration>,
    /// Nothing is handed out.
    pub peek: bool,
}

impl Take {
    /// The query of its address, with the question mark if there is one.
    pub fn query(&self) -> String {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        let parts = [
            ("limit", self.limit.map(u64::from)),
            ("wait", seconds(self.wait)),
            ("lease", seconds(self.lease)),
        ];
        let part = |(name, value): (&str, Option<u64>)| Some(format!("{name}={}", value?));
        let mut parts: Vec<String> = parts.into_iter().filter_map(part).collect();
        parts.extend(self.peek.then(|| "peek=true".to_owned()));
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }
}

/// `DELETE /chat/{username}/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledge {
    /// Which message.
    pub message: u32,
}

/// A call that has begun. One that is dropped is under way for ever, and what was taken beside it is
/// never judged.
#[derive(Debug)]
#[must_use]
pub struct Begun<C> {
    /// The request.
    pub call: C,
    /// Who calls.
    pub(super) lane: u32,
    /// When.
    pub(super) begin: Duration,
    /// Tells it from others that began at the same time.
    pub(super) ticket: u64,
}

impl<C> Begun<C> {
    /// When it began.
    pub fn begin(&self) -> Duration {
        self.begin
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It was done.
    Done(T),
    /// The server says, with this status, that it has changed nothing.
    Refused(u16),
    /// The connection broke first: it may have been done, or may still be.
    Missing,
    /// No answer came for so long that nobody waits any more, or the server says that it does not know:
    /// it may have been done, or may be much later, when a server that was paused goes on.
    Late,
}

/// A message as a take shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// The id.
    pub id: u128,
    /// The text.
    pub text: Text,
}

/// Which message a text belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// To this one, as it was posted.
    Whole(u32),
    /// It names this one, and is not as it was posted.
    Altered(u32),
    /// To none.
    Strange(String),
}

/// An answered take.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) take: Take,
    pub(super) lane: u32,
    pub(super) begin: Duration,
    pub(super) end: Duration,
    /// How many messages it got.
    pub(super) count: usize,
}

impl Taken {
    /// The last instant at which it must have looked: a long poll that found nothing looked
    /// until its time was up.
    pub(super) fn looked_until(&self, tolerance: Tolerance) -> Duration {
        match self.take.wait {
            Some(wait) if self.count == 0 && !(self.take.peek && tolerance.replicas) => {
                let due = (self.begin + wait).min(self.end);
                due.saturating_sub(tolerance.clock).max(self.begin)
            }
            _ => self.begin,
        }
    }

    /// Whether its limit, and not the inbox, ended it.
    pub(super) fn is_full(&self) -> bool {
        self.take.limit.is_some_and(|limit| self.count >= limit as usize)
    }

    /// Whether another take may have had the same message after this one.
    pub(super) fn allows_after(&self, other: &Self, clock: Duration) -> bool {
        self.take.lease.is_some_and(|lease| self.begin + lease <= other.end + clock)
    }

    /// Whether its lease, if it is one, may last at this time or after.
    pub(super) fn may_hold_at(&self, at: Duration, clock: Duration) -> bool {
        self.take.lease.is_none_or(|lease| self.end + lease + clock >= at)
    }

    /// How it is shown.
    pub(super) fn line(&self) -> Line {
        let Self { take, lane, begin, end, count } = self;
        let plural = if *count == 1 { "" } else { "s" };
        let query = take.query();
        let space = if query.is_empty() { "" } else { " " };
        let text = format!("lane {lane}: GET{space}{query} -> {count} message{plural}");
        Line { begin: *begin, end: *end, text }
    }
}
