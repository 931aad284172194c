//! The inboxes of many users: messages that expire, each handed out once, oldest first.
//!
//! A message is either taken, which removes it, or leased: hidden until it is acknowledged or the lease
//! ends, and then back in its place. Taken messages can be put back in their place too. Every operation
//! compares expiry and lease ends to the millisecond. Two timing wheels ([`super::wheel`]) free expired
//! messages and report returned ones when no operation touches them ([`Inboxes::work`]).
//!
//! Everything is linked lists over slabs. A message is in the list of its user, ordered by sequence number,
//! and in a list of one wheel; a leased message keeps its position. So every operation is O(1) for each
//! message that is added, removed or skipped. A user without messages takes no memory.
//!
//! # Memory
//! A message takes 80 bytes and its text, a user 56 and the name, and each 5 to 12 more in an index. Memory
//! of a peak returns to the allocator as the inboxes empty: at most as many slots stay empty as are full,
//! plus 1,024. No operation ever waits for a copy of everything. (A million messages of 100 bytes to 100,000
//! users request 189 MiB from the allocator, 204 MiB resident. The allocator may keep freed memory for
//! later; glibc keeps most of it.)

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::index::Index;
use super::slab::{NOWHERE, Slab};
use super::wheel::{Link, Step, Wheel};

mod lists;
mod parts;

pub use parts::{Parts, Restoring, StoredMessage, StoredUser};

/// Expired messages are freed within 2^10 ms.
const EXPIRY_SHIFT: u32 = 10;

/// The end of a lease is reported within 2^6 ms.
const LEASE_SHIFT: u32 = 6;

/// Messages that are put back may exceed every bound by one part in this many: they were within the bounds
/// when they were taken, and rejecting them would lose them.
const PUT_BACK_PART: u32 = 4;

/// Identifies a message, globally and forever.
pub type Id = [u8; 16];

/// The bounds of the inboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most unread messages of a user, leased ones included.
    pub per_user_max: u32,
    /// The most messages of all users.
    pub messages_max: u32,
    /// The most bytes of all messages: a message counts as its text and the name of its user.
    pub bytes_max: u64,
}

/// A message that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxMessage {
    /// Its position in the order of arrival: lower numbers are older.
    pub seq: u64,
    /// Its id.
    pub id: Id,
    /// Its text.
    pub text: Box<str>,
    /// The first millisecond at which it has expired.
    pub gone_at: u64,
}

/// The result of adding a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The message is in the inbox.
    Stored,
    /// A message with this id exists already. Nothing has changed.
    Known,
    /// The user has [`Bounds::per_user_max`] messages. Nothing has changed.
    InboxFull,
    /// All users together have [`Bounds::messages_max`]. Nothing has changed.
    MessagesFull,
    /// All messages would exceed [`Bounds::bytes_max`]. Nothing has changed.
    BytesFull,
}

/// What a reader wants from an inbox.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The most messages.
    pub limit: u32,
    /// The most bytes of text; if there is any message, at least one is handed out.
    pub bytes_max: u64,
    /// Lease the messages until this millisecond, which lies in the future. `None`: take them, which
    /// removes them.
    pub leased_until: Option<u64>,
}

/// What a reader got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOut {
    /// The messages, oldest first.
    pub messages: Vec<InboxMessage>,
    /// Whether there are more messages to hand out.
    pub more: bool,
    /// Whether messages whose lease had ended returned to the inbox.
    pub returned: bool,
}

/// What has ended by itself since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Messages that expired unread.
    pub messages: u64,
    /// Leases that ended without an acknowledgement.
    pub leases: u64,
}

/// The inboxes of all users. See the documentation of this module.
#[derive(Clone, Debug)]
pub struct Inboxes {
    bounds: Bounds,
    users: Slab<User>,
    /// Maps the name of a user to its slot.
    users_by_name: Index,
    messages: Slab<InboxEntry>,
    /// Maps the id of a message to its slot.
    messages_by_id: Index,
    /// The timer of messages that are not leased, by [`InboxEntry::gone_at`].
    expiry: Wheel,
    /// The timer of leased messages, by [`InboxEntry::until`].
    leases: Wheel,
    /// The sequence number of the next message.
    next_seq: u64,
    /// The bytes that [`Bounds::bytes_max`] limits.
    bytes: u64,
    ended: Ended,
}

/// A user with at least one message.
#[derive(Clone, Debug)]
struct User {
    name: Box<str>,
    first: u32,
    last: u32,
    /// Where a reader starts: all messages before this one are leased.
    unleased: u32,
    messages: u32,
    leased: u32,
    /// A lower bound of the ends of all leases.
    lease_ends: u64,
    /// A lower bound of the expiry of all messages.
    gone_at: u64,
}

/// A message in an inbox.
#[derive(Clone, Debug)]
struct InboxEntry {
    seq: u64,
    id: Id,
    text: Box<str>,
    gone_at: u64,
    /// Leased until this millisecond; 0 when it is not leased.
    until: u64,
    user: u32,
    /// The neighbours in the list of its user.
    before: u32,
    behind: u32,
    timer: Link,
}

impl InboxEntry {
    const fn is_leased(&self, now: u64) -> bool {
        self.until > now
    }

    const fn is_gone(&self, now: u64) -> bool {
        now >= self.gone_at
    }
}

impl Inboxes {
    /// Returns empty inboxes.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            users: Slab::default(),
            users_by_name: Index::default(),
            messages: Slab::default(),
            messages_by_id: Index::default(),
            expiry: Wheel::new(EXPIRY_SHIFT),
            leases: Wheel::new(LEASE_SHIFT),
            next_seq: 0,
            bytes: 0,
            ended: Ended::default(),
        }
    }

    /// Changes the bounds. What already exceeds them stays.
    pub const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Returns how many messages there are, including leased ones and expired ones that are not freed yet.
    pub const fn len(&self) -> u32 {
        self.messages.len()
    }

    /// Returns whether there is no message.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many users have messages.
    pub const fn users(&self) -> u32 {
        self.users.len()
    }

    /// Returns the bytes that [`Bounds::bytes_max`] limits.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how many messages are leased.
    pub const fn leased(&self) -> u32 {
        self.leases.len()
    }

    /// Returns what has ended by itself.
    pub const fn ended(&self) -> Ended {
        self.ended
    }

    /// Appends a message to a user's inbox; it expires at `gone_at`. O(1), or O(unread) when the inbox is
    /// full and some of its messages have expired.
    pub fn push(&mut self, now: u64, user: &str, id: Id, text: Box<str>, gone_at: u64) -> Pushed {
        if self.find(id).is_some() {
            return Pushed::Known;
        }
        let Bounds { per_user_max, messages_max, bytes_max } = self.bounds;
        let mut place = self.find_user(user);
        if let Some(full) = place.filter(|place| self.messages_of(*place) >= per_user_max) {
            self.free_gone(now, full);
            self.tidy();
            place = self.find_user(user);
        }
        if place.map_or(0, |place| self.messages_of(place)) >= per_user_max {
            return Pushed::InboxFull;
        }
        if self.messages.len() >= messages_max || !self.messages.has_room() {
            return Pushed::MessagesFull;
        }
        if self.bytes.saturating_add(size(user, &text)) > bytes_max {
            return Pushed::BytesFull;
        }
        let message = InboxMessage { seq: self.next_seq, id, text, gone_at };
        self.next_seq += 1;
        let place = place.unwrap_or_else(|| self.add_user(user));
        self.insert(now, place, message, NOWHERE);
        Pushed::Stored
    }

    /// Hands out a user's messages, oldest first, and frees expired ones on the way. O(handed out), plus
    /// O(leased) when leased messages stand among them or leases have ended.
    pub fn hand_out(&mut self, now: u64, user: &str, wanted: Wanted) -> HandedOut {
        let Some(user) = self.find_user(user) else {
            return HandedOut::default();
        };
        let returned = self.end_leases(now, user);
        let (messages, more) = self.hand_out_of(now, user, wanted);
        self.remove_if_empty(user);
        self.tidy();
        HandedOut { messages, more, returned }
    }

    fn hand_out_of(&mut self, now: u64, user: u32, wanted: Wanted) -> (Vec<InboxMessage>, bool) {
        let mut out = Vec::new();
        let mut bytes = 0u64;
        let mut next = self.users.get(user).map_or(NOWHERE, |user| user.unleased);
        let mut more = false;
        while let Some(message) = self.messages.get(next) {
            let place = next;
            let behind = message.behind;
            if message.is_leased(now) {
                next = behind;
                continue;
            }
            if message.is_gone(now) {
                self.expire(place);
                next = behind;
                continue;
            }
            bytes = bytes.saturating_add(message.text.len() as u64);
            let enough = out.len() >= wanted.limit as usize;
            if enough || (bytes > wanted.bytes_max && !out.is_empty()) {
                more = true;
                break;
            }
            let message = match wanted.leased_until {
                Some(until) => self.lease(now, place, until.max(now.saturating_add(1))),
                None => self.remove(place),
            };
            out.extend(message);
            next = behind;
        }
        if let Some(user) = self.users.get_mut(user) {
            user.unleased = next;
        }
        (out, more)
    }

    /// Returns what a reader would get, oldest first. Changes nothing. O(1) per step, plus O(leased) as for
    /// [`Inboxes::hand_out`].
    pub fn peek(&self, now: u64, user: &str) -> impl Iterator<Item = (&Id, &str)> {
        let user = self.find_user(user).and_then(|place| self.users.get(place));
        let first = user.map_or(NOWHERE, |user| {
            let ended = user.leased > 0 && now >= user.lease_ends;
            if ended { user.first } else { user.unleased }
        });
        let behind = |message: &&InboxEntry| self.messages.get(message.behind);
        core::iter::successors(self.messages.get(first), behind)
            .filter(move |message| !message.is_leased(now) && !message.is_gone(now))
            .map(|message| (&message.id, &*message.text))
    }

    /// Removes a leased message, expired or not. Returns whether it did: not if the lease has ended. O(1).
    pub fn acknowledge(&mut self, now: u64, user: &str, id: Id) -> bool {
        let Some(place) = self.find(id) else {
            return false;
        };
        let leased = self.messages.get(place).filter(|message| message.is_leased(now));
        let Some(owner) = leased.map(|message| message.user) else {
            return false;
        };
        if self.users.get(owner).is_none_or(|owner| *owner.name != *user) {
            return false;
        }
        drop(self.remove(place));
        self.remove_if_empty(owner);
        self.tidy();
        true
    }

    /// Puts taken messages back in their places. Expired ones and ones that exist already are dropped, and so
    /// is what exceeds a bound by more than a quarter. Returns how many are back, and how many were dropped
    /// for lack of room. O(unread + messages).
    ///
    /// Only the caller can know whether the messages have been put back, and taken again, before.
    pub fn put_back(&mut self, now: u64, user: &str, messages: Vec<InboxMessage>) -> (u32, u32) {
        let mut messages = messages;
        messages.sort_unstable_by_key(|message| message.seq);
        let mut back = 0;
        let mut dropped = 0;
        if let Some(place) = self.find_user(user) {
            self.free_gone(now, place);
            self.tidy();
        }
        let mut before = self
            .find_user(user)
            .and_then(|place| self.users.get(place))
            .map_or(NOWHERE, |user| user.first);
        for message in messages {
            if now >= message.gone_at {
                self.ended.messages += 1;
                continue;
            }
            if message.seq >= self.next_seq || self.find(message.id).is_some() {
                continue;
            }
            while let Some(other) = self.messages.get(before)
                && other.seq < message.seq
            {
                before = other.behind;
            }
            if self.messages.get(before).is_some_and(|other| other.seq == message.seq) {
                continue;
            }
            if !self.has_room_to_put_back(user, &message) {
                dropped += 1;
                continue;
            }
            let place = self.find_user(user).unwrap_or_else(|| self.add_user(user));
            self.insert(now, place, message, before);
            back += 1;
        }
        (back, dropped)
    }

    fn has_room_to_put_back(&self, user: &str, message: &InboxMessage) -> bool {
        let Bounds { per_user_max, messages_max, bytes_max } = self.bounds;
        let more = |max: u32| max.saturating_add(max / PUT_BACK_PART);
        let bytes_max = bytes_max.saturating_add(bytes_max / u64::from(PUT_BACK_PART));
        let unread = self.find_user(user).map_or(0, |place| self.messages_of(place));
        unread < more(per_user_max)
            && self.messages.len() < more(messages_max)
            && self.messages.has_room()
            && self.bytes.saturating_add(size(user, &message.text)) <= bytes_max
    }

    /// Returns when [`Inboxes::work`] has something to do. O(1).
    pub fn next_deadline(&self) -> Option<u64> {
        let deadlines = [self.expiry.next_deadline(), self.leases.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Frees expired messages and ends leases, in at most `steps_max` steps of amortised O(1). Calls
    /// `returned` with each user who has a message back. Returns how many steps were left.
    pub fn work(&mut self, now: u64, steps_max: u32, returned: &mut impl FnMut(&str)) -> u32 {
        let mut left = steps_max;
        while left > 0 {
            match self.leases.step(now, &mut lists::Leased(&mut self.messages)) {
                Step::Due(place) => self.end_lease(now, place, returned),
                Step::Moved => {}
                Step::Nothing => break,
            }
            left -= 1;
        }
        while left > 0 {
            match self.expiry.step(now, &mut lists::Unleased(&mut self.messages)) {
                Step::Due(place) => self.free_due(place),
                Step::Moved => {}
                Step::Nothing => break,
            }
            left -= 1;
        }
        self.tidy();
        left
    }
}

/// Returns how many bytes a message counts as.
fn size(user: &str, text: &str) -> u64 {
    user.len() as u64 + text.len() as u64
}

#[cfg(test)]
pub(crate) mod tests;
