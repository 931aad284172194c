//! The knowledge about one message, and the storage of all of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::CLOSED_KEPT_MAX;
use super::breach::{Line, Rule};
use super::call::{Post, Taken};

/// A message that is remembered.
#[derive(Debug)]
pub(super) struct Message {
    number: u32,
    pub(super) user: u32,
    /// Who posted it first.
    lane: u32,
    timeout: Duration,
    /// When its first post began.
    pub(super) begin: Duration,
    /// How often it was posted.
    pub(super) sent: u32,
    /// The posts of the message that are in progress.
    pub(super) open: u32,
    /// When the first of its posts that was answered with 201 had been.
    pub(super) acked: Option<Duration>,
    /// Until when a post without an answer may have stored it.
    pub(super) late: Option<Duration>,
    /// The status with which a post was refused.
    pub(super) refused: Option<u16>,
    /// As the server said first, in the answer to a post or to a take.
    pub(super) id: Option<u128>,
    /// Takes that have shown it, but for looks.
    pub(super) handed: Vec<Arc<Taken>>,
    /// Acknowledgements that were, or may have been, accepted.
    pub(super) deletes: Vec<Delete>,
    /// The acknowledgements in progress.
    pub(super) open_deletes: u32,
    /// The first take that must have shown it, and did not.
    pub(super) missed_by: Option<Arc<Taken>>,
}

/// An acknowledgement that has ended.
#[derive(Debug)]
pub(super) struct Delete {
    pub(super) lane: u32,
    pub(super) begin: Duration,
    pub(super) end: Duration,
    /// Nothing if there was no answer.
    pub(super) status: Option<u16>,
}

impl Delete {
    pub(super) fn line(&self) -> Line {
        let Self { lane, begin, end, status } = *self;
        let status = status.map_or("no answer".to_owned(), |status| status.to_string());
        Line { begin, end, text: format!("lane {lane}: DELETE -> {status}") }
    }
}

/// A user's name in quotes.
pub(super) fn quoted(names: &[String], user: u32) -> String {
    format!("{:?}", names.get(user as usize).map_or("", String::as_str))
}

impl Message {
    /// What it is called in a breach.
    pub(super) fn name(&self, names: &[String]) -> String {
        format!("message {} to user {}", self.number, quoted(names, self.user))
    }

    /// Its post.
    pub(super) fn line(&self) -> Line {
        let status = match (self.acked, self.refused) {
            (Some(_), _) => "201".to_owned(),
            (None, Some(status)) => status.to_string(),
            (None, None) => "no answer".to_owned(),
        };
        let times = if self.sent > 1 { format!(", {} times", self.sent) } else { String::new() };
        let timeout = self.timeout.as_secs();
        let text = format!("lane {}: POST timeout {timeout} s{times} -> {status}", self.lane);
        let end = self.acked.or(self.late).unwrap_or(self.begin);
        Line { begin: self.begin, end, text }
    }

    /// The first take that showed it.
    pub(super) fn shown(&self) -> Option<Line> {
        self.handed.first().map(|taken| taken.line())
    }

    /// It was never taken by the server, as far as its answers say.
    pub(super) fn is_refused(&self) -> bool {
        self.open == 0 && self.acked.is_none() && self.late.is_none() && self.refused.is_some()
    }

    /// The latest that it can have been stored, if it was.
    fn stored_by(&self) -> Option<Duration> {
        self.acked.or(if self.open == 0 { self.late } else { None })
    }

    /// From when on it has expired for sure.
    pub(super) fn expired_from(&self, clock: Duration) -> Option<Duration> {
        self.stored_by().map(|stored| stored.saturating_add(self.timeout) + clock)
    }

    /// Whether it may have expired at this time.
    pub(super) fn may_be_expired(&self, at: Duration, clock: Duration) -> bool {
        at + clock >= self.begin.saturating_add(self.timeout)
    }

    /// When the call began that closed it, if it is closed: handed out for good or acknowledged.
    pub(super) fn closed_at(&self) -> Option<Duration> {
        let handed = self.handed.iter().filter(|taken| taken.take.lease.is_none());
        let deleted = self.deletes.iter().filter(|delete| delete.status.is_some());
        let closed = handed.map(|taken| taken.begin).chain(deleted.map(|delete| delete.begin));
        closed.min()
    }

    /// The rule, if any, that forbids a take to show it, and the calls that forbid it.
    pub(super) fn forbids(
        &self,
        taken: &Taken,
        altered: bool,
        clock: Duration,
    ) -> Option<(Rule, Option<Line>)> {
        if self.user != taken.take.user {
            return Some((Rule::WrongUser, None));
        }
        if altered {
            return Some((Rule::Altered, None));
        }
        if self.is_refused() {
            return Some((Rule::NeverPosted, None));
        }
        let deleted = |delete: &&Delete| delete.status.is_some() && delete.end < taken.begin;
        if let Some(delete) = self.deletes.iter().find(deleted) {
            return Some((Rule::AfterAcknowledge, Some(delete.line())));
        }
        for before in &self.handed {
            // A look may have come before.
            let looked_before = taken.take.peek && taken.begin <= before.end;
            let allowed = before.allows_after(taken, clock) || taken.allows_after(before, clock);
            if !allowed && !looked_before {
                let lent = before.take.lease.is_some();
                let rule = if lent { Rule::WithinLease } else { Rule::HandedTwice };
                return Some((rule, Some(before.line())));
            }
        }
        let expired = self.expired_from(clock).is_some_and(|expired| taken.begin > expired);
        expired.then_some((Rule::AfterExpiry, None))
    }

    /// The take that held it for sure while an acknowledgement was under way that was refused, if
    /// nothing else can have been the reason.
    pub(super) fn lent_during(&self, delete: &Delete, clock: Duration) -> Option<&Taken> {
        if self.open_deletes > 0
            || !self.deletes.is_empty()
            || self.may_be_expired(delete.end, clock)
        {
            return None;
        }
        let holds = |taken: &&Arc<Taken>| {
            let lease = taken.take.lease.unwrap_or_default();
            taken.end < delete.begin && delete.end + clock < taken.begin + lease
        };
        self.handed.iter().find(holds).map(Arc::as_ref)
    }
}

/// What is kept at a number.
#[derive(Debug, Default)]
enum Slot {
    /// Never posted.
    #[default]
    Empty,
    Kept(Box<Message>),
    /// Closed long ago.
    Forgotten,
}

/// All messages, by number.
#[derive(Debug, Default)]
pub(super) struct Messages {
    slots: Vec<Slot>,
    /// Those that are closed and kept, the one closed first in front.
    closed: VecDeque<u32>,
}

impl Messages {
    /// A message is posted. Whether it is the first time.
    pub(super) fn post(&mut self, post: &Post, lane: u32, now: Duration) -> bool {
        let place = post.message as usize;
        if place >= self.slots.len() {
            self.slots.resize_with(place + 1, Slot::default);
        }
        match self.slots.get_mut(place) {
            Some(Slot::Kept(message)) => {
                message.sent += 1;
                message.open += 1;
                false
            }
            Some(slot @ Slot::Empty) => {
                *slot = Slot::Kept(Box::new(Message {
                    number: post.message,
                    user: post.user,
                    lane,
                    timeout: post.timeout,
                    begin: now,
                    sent: 1,
                    open: 1,
                    acked: None,
                    late: None,
                    refused: None,
                    id: None,
                    handed: Vec::new(),
                    deletes: Vec::new(),
                    open_deletes: 0,
                    missed_by: None,
                }));
                true
            }
            Some(Slot::Forgotten) | None => false,
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&Message> {
        match self.slots.get(number as usize) {
            Some(Slot::Kept(message)) => Some(message),
            Some(Slot::Empty | Slot::Forgotten) | None => None,
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Message> {
        match self.slots.get_mut(number as usize) {
            Some(Slot::Kept(message)) => Some(message),
            Some(Slot::Empty | Slot::Forgotten) | None => None,
        }
    }

    /// The post of a message, if it is kept.
    pub(super) fn line(&self, number: u32) -> Option<Line> {
        self.get(number).map(Message::line)
    }

    /// Whether it was closed and is kept no more.
    pub(super) fn is_forgotten(&self, number: u32) -> bool {
        matches!(self.slots.get(number as usize), Some(Slot::Forgotten))
    }

    /// A message is closed: it is kept for a while.
    pub(super) fn close(&mut self, number: u32) {
        self.closed.push_back(number);
        if self.closed.len() > CLOSED_KEPT_MAX
            && let Some(oldest) = self.closed.pop_front()
            && let Some(slot) = self.slots.get_mut(oldest as usize)
        {
            *slot = Slot::Forgotten;
        }
    }
}
