//! Chat: an inbox for each user, whose messages expire and are handed out once.
//!
//! # Guarantees
//! - A message is handed out at most once, and during a lease to nobody else; only to its user, in order
//!   of arrival, and never after it has expired. Expiry is decided by the times of the entries.
//! - A taken message comes back in one way only: [`Command::PutBack`] with the receipt of the take that
//!   handed it out, once, and at most [`Limits::put_back_ms_max`] after it. For that long the machine
//!   remembers which receipts were used, but not the messages. A message that was put back and taken again
//!   has another receipt, so repeating the command, however late, never brings a message back twice.
//! - A leased message is hidden until it is acknowledged, which removes it, or until the lease ends, which
//!   returns it to its place. A message that expires during its lease can be acknowledged while the lease
//!   lasts, and is then gone. An acknowledgement after the end of the lease finds nothing, unless another
//!   reader has leased the message since: the machine cannot tell the two readers apart, and removes it.
//! - An idempotency key is valid for as long as its message would live, read or not. The same key with the
//!   same user, text and timeout returns the id of the first message and stores nothing; with anything
//!   else it is a conflict. Keys are global rather than per user, as the user is part of the content. Keys
//!   and contents are compared by 128 bits of SipHash-2-4: with a million live keys, the chance that two
//!   collide is one in 10^26.
//!
//! Every operation compares times to the millisecond. Memory is freed by ticks: an expired message within
//! about a second. Watchers learn of the end of a lease within 64 ms. Until it is freed, an expired message
//! counts towards the bounds over all users, but not towards the bound of its user.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Machine, Malformed, Timestamp, decode, encode};
use crate::structure::inbox::{
    Ended, HandedOut, Id, InboxMessage, Inboxes, Parts, Pushed, StoredMessage, Wanted,
};
use crate::structure::wheel::Position;

mod command;
mod keys;
mod sink;

pub use command::{Command, Counters, Limits, Receipt, Reply, Taken};
use keys::{Keys, Known, StoredKey};
pub use sink::{Discard, Event, Sink};

/// The most steps that one tick takes. A step ends a lease, frees a message or a key, or moves one closer;
/// the rest is due a millisecond later. While a million messages expire, a step takes up to 0.7
/// microseconds (`examples/inbox_memory.rs`), and each tick is a commit of its own.
const TICK_STEPS_MAX: u32 = 2048;

/// The chat machine. See the documentation of this module.
#[derive(Debug)]
pub struct Chat {
    limits: Limits,
    inboxes: Inboxes,
    keys: Keys,
    /// The highest time of an entry so far: a lower one is raised to it.
    now: u64,
    /// How many takes have handed out messages; numbers their receipts.
    takes: u64,
    /// The used receipts that are still recent enough to be accepted, with the time of their take.
    /// Ordered by number and hence by time, so that the oldest is first.
    put_back: BTreeMap<u64, u64>,
    /// Receipts up to this one are too old. Remembered, because a higher bound must not revive them.
    receipts_over: u64,
    /// When a tick that could not finish continues.
    tick_again_at: u64,
    counters: Counters,
}

impl Default for Chat {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Chat {
    /// Returns a machine whose inboxes are all empty.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            inboxes: Inboxes::new(limits.bounds()),
            keys: Keys::default(),
            now: 0,
            takes: 0,
            put_back: BTreeMap::new(),
            receipts_over: 0,
            tick_again_at: 0,
            counters: Counters::default(),
        }
    }

    /// Returns the current bounds.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns what has happened since the beginning.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns what has ended by itself since the beginning: expired messages and leases.
    pub const fn ended(&self) -> Ended {
        self.inboxes.ended()
    }

    /// Returns the inboxes, for counting.
    pub const fn inboxes(&self) -> &Inboxes {
        &self.inboxes
    }

    /// Returns how many idempotency keys are remembered.
    pub const fn keys(&self) -> u32 {
        self.keys.len()
    }

    /// Returns what a take would hand out, oldest first, at `now` or the time of the last entry,
    /// whichever is later. Changes nothing. O(1) per message, plus O(leased) when some are leased.
    pub fn peek(&self, now: Timestamp, user: &str) -> impl Iterator<Item = (&Id, &str)> {
        self.inboxes.peek(now.0.max(self.now), user)
    }

    /// [`Machine::apply`] with a sink for the events. O(1) for each message that is added, removed or
    /// skipped; allocates only to hold more than before, and for the reply.
    pub fn apply_to(&mut self, at: Timestamp, command: Command, sink: &mut impl Sink) -> Reply {
        let now = self.advance_clock(at);
        match command {
            Command::Configure(limits) => {
                self.limits = limits;
                self.inboxes.set_bounds(limits.bounds());
                Reply::Configured
            }
            Command::Post { id, user, text, timeout_s, key } => {
                let post = Post { now, id, user: &user, timeout_s };
                let reply = self.post(&post, text, key.as_deref());
                if reply == Reply::Posted {
                    sink.arrived(&user);
                }
                reply
            }
            Command::Take { user, limit, bytes_max, lease_ms } => {
                let leased_until = lease_ms.map(|ms| now.saturating_add(self.lease(ms)));
                let wanted = Wanted { limit, bytes_max, leased_until };
                let HandedOut { messages, more, returned } =
                    self.inboxes.hand_out(now, &user, wanted);
                if returned && more {
                    sink.arrived(&user);
                }
                Reply::Taken(self.taken(now, messages, more, leased_until.is_some()))
            }
            Command::Acknowledge { user, id } => {
                if self.inboxes.acknowledge(now, &user, id) {
                    self.counters.acknowledged += 1;
                    Reply::Acknowledged
                } else {
                    Reply::NotFound
                }
            }
            Command::PutBack { user, receipt, messages } => {
                let back = self.put_back(now, &user, receipt, messages);
                if back > 0 {
                    sink.arrived(&user);
                }
                Reply::PutBack(back)
            }
        }
    }

    /// [`Machine::tick`] with a sink for the events. Takes a bounded number of steps; the rest is due a
    /// millisecond later.
    pub fn tick_to(&mut self, at: Timestamp, sink: &mut impl Sink) {
        let now = self.advance_clock(at);
        let left = self.inboxes.work(now, TICK_STEPS_MAX, &mut |user| sink.arrived(user));
        let left = self.keys.work(now, left);
        self.tick_again_at = if left == 0 { now.saturating_add(1) } else { 0 };
        self.forget_receipts(now);
    }

    fn advance_clock(&mut self, at: Timestamp) -> u64 {
        self.now = self.now.max(at.0);
        self.now
    }

    fn post(&mut self, post: &Post<'_>, text: Box<str>, key: Option<&str>) -> Reply {
        let Post { now, id, user, timeout_s } = *post;
        let key = key.map(|key| (keys::of_key(key), keys::of_content(user, &text, timeout_s)));
        match key.map(|(key, content)| self.keys.find(now, key, content)) {
            Some(Known::Same(id)) => {
                self.counters.posted_before += 1;
                return Reply::PostedBefore { id };
            }
            Some(Known::Other) => {
                self.counters.key_conflicts += 1;
                return Reply::KeyConflict;
            }
            Some(Known::Not) if self.keys.len() >= self.limits.keys_max => {
                self.counters.keys_max += 1;
                return Reply::KeysFull;
            }
            Some(Known::Not) | None => {}
        }
        // A message has expired once its age exceeds the timeout, hence the extra millisecond.
        let life_ms = u64::from(timeout_s) * 1000 + 1;
        let gone_at = now.saturating_add(life_ms);
        match self.inboxes.push(now, user, id, text, gone_at) {
            Pushed::Stored => {
                self.counters.posted += 1;
                if let Some((key, content)) = key {
                    self.keys.remember(now, StoredKey { key, content, id, gone_at });
                }
                Reply::Posted
            }
            Pushed::Known => Reply::PostedBefore { id },
            Pushed::InboxFull => {
                self.counters.unread_per_user_max += 1;
                Reply::InboxFull
            }
            Pushed::MessagesFull => {
                self.counters.unread_max += 1;
                Reply::Full
            }
            Pushed::BytesFull => {
                self.counters.unread_bytes_max += 1;
                Reply::Full
            }
        }
    }

    fn lease(&mut self, wanted_ms: u64) -> u64 {
        if wanted_ms > self.limits.lease_ms_max {
            self.counters.lease_ms_max += 1;
        }
        wanted_ms.min(self.limits.lease_ms_max).max(1)
    }

    fn taken(&mut self, now: u64, messages: Vec<InboxMessage>, more: bool, leased: bool) -> Taken {
        let count = messages.len() as u64;
        if leased {
            self.counters.leased += count;
            return Taken { messages, more, receipt: None };
        }
        self.counters.taken += count;
        let receipt = (count > 0).then(|| {
            self.takes += 1;
            Receipt { take: self.takes, at: now }
        });
        Taken { messages, more, receipt }
    }

    /// Puts back the messages of a take. Returns how many are back in the inbox.
    fn put_back(
        &mut self,
        now: u64,
        user: &str,
        receipt: Receipt,
        messages: Vec<InboxMessage>,
    ) -> u32 {
        self.forget_receipts(now);
        let Receipt { take, at } = receipt;
        if take == 0 || take > self.takes || at > now || self.put_back.contains_key(&take) {
            self.counters.put_back_again += 1;
            return 0;
        }
        if take <= self.receipts_over || now - at > self.limits.put_back_ms_max {
            self.counters.put_back_ms_max += 1;
            return 0;
        }
        if self.put_back.len() >= self.limits.put_backs_max as usize {
            self.counters.put_backs_max += 1;
            return 0;
        }
        self.put_back.insert(take, at);
        let (back, dropped) = self.inboxes.put_back(now, user, messages);
        self.counters.put_back += u64::from(back);
        self.counters.put_back_dropped += u64::from(dropped);
        back
    }

    /// Forgets receipts that are too old to be used. They are numbered in the order of their times.
    fn forget_receipts(&mut self, now: u64) {
        while let Some(oldest) = self.put_back.first_entry()
            && now.saturating_sub(*oldest.get()) > self.limits.put_back_ms_max
        {
            self.receipts_over = *oldest.key();
            oldest.remove();
        }
    }
}

/// The content of a post, without its text.
struct Post<'a> {
    now: u64,
    id: Id,
    user: &'a str,
    timeout_s: u32,
}

impl Machine for Chat {
    type Command = Command;
    type Reply = Reply;
    type Event = Event;

    fn apply(&mut self, at: Timestamp, command: Command, emit: &mut impl FnMut(Event)) -> Reply {
        self.apply_to(at, command, &mut sink::Owning(emit))
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [self.inboxes.next_deadline(), self.keys.next_deadline()];
        let deadline = deadlines.into_iter().flatten().min()?;
        Some(Timestamp(deadline.max(self.tick_again_at)))
    }

    fn tick(&mut self, at: Timestamp, emit: &mut impl FnMut(Event)) {
        self.tick_to(at, &mut sink::Owning(emit));
    }

    fn event_bytes(event: &Event) -> usize {
        let Event::Arrived { user } = event;
        size_of::<Event>() + user.len()
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        encode(
            &ChatSnapshot::V1(Head {
                limits: self.limits,
                counters: self.counters,
                now: self.now,
                takes: self.takes,
                tick_again_at: self.tick_again_at,
                inboxes: self.inboxes.parts(),
                keys: self.keys.len(),
                keys_position: self.keys.position(),
                put_back: self.put_back.len() as u64,
                receipts_over: self.receipts_over,
            }),
            out,
        );
        self.inboxes.stored().for_each(|message| encode(&message, out));
        self.keys.stored().for_each(|key| encode(&key, out));
        self.put_back.iter().for_each(|used| encode(&used, out));
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a snapshot of the chat";
        let wrong = || Malformed { what: WHAT };
        let ChatSnapshot::V1(head) = decode(WHAT, &mut bytes)?;
        let mut inboxes = Inboxes::restore(head.inboxes, head.limits.bounds()).ok_or_else(wrong)?;
        while inboxes.missing() > 0 {
            let message: StoredMessage<'_> = decode(WHAT, &mut bytes)?;
            inboxes.put(message).ok_or_else(wrong)?;
        }
        let inboxes = inboxes.finish().ok_or_else(wrong)?;
        let mut keys = Keys::at(head.keys_position).ok_or_else(wrong)?;
        for _ in 0..head.keys {
            let (key, emptying): (StoredKey, bool) = decode(WHAT, &mut bytes)?;
            keys.restore(key, emptying).ok_or_else(wrong)?;
        }
        let mut put_back = BTreeMap::new();
        for _ in 0..head.put_back {
            let (take, at) = decode(WHAT, &mut bytes)?;
            let last = put_back.last_key_value().map_or(head.receipts_over, |(last, _)| *last);
            if take <= last || take > head.takes {
                return Err(wrong());
            }
            put_back.insert(take, at);
        }
        if !bytes.is_empty() || head.tick_again_at > head.now.saturating_add(1) {
            return Err(wrong());
        }
        let Head { limits, counters, now, takes, receipts_over, tick_again_at, .. } = head;
        Ok(Self {
            limits,
            inboxes,
            keys,
            now,
            takes,
            put_back,
            receipts_over,
            tick_again_at,
            counters,
        })
    }
}

/// The beginning of a snapshot. The messages, the keys and the used receipts follow. A published variant
/// never changes.
#[derive(Serialize, Deserialize)]
enum ChatSnapshot {
    V1(Head),
}

#[derive(Serialize, Deserialize)]
struct Head {
    limits: Limits,
    counters: Counters,
    now: u64,
    takes: u64,
    tick_again_at: u64,
    inboxes: Parts,
    keys: u32,
    keys_position: Position,
    put_back: u64,
    receipts_over: u64,
}

#[cfg(test)]
mod tests;
