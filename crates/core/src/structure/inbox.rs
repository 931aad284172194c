//! The inboxes of many users: messages that expire, each handed out once, oldest first.
//!
//! A message is taken (and gone), or leased: hidden until it is acknowledged or the lease ends, and
//! then back in its place. Taken ones can be put back in their place too. Whether a message has
//! expired, or a lease ended, is compared to the millisecond whenever someone asks; two timing
//! wheels ([`super::wheel`]) see to it that what has expired is freed, and what is free again is
//! told, without anybody asking ([`Inboxes::work`]).
//!
//! Everything is lists over slabs. A message is in the list of its user, in order of its sequence
//! number, and in one of a wheel; a leased one keeps its place. So every step costs O(1) a message
//! that comes, goes or is passed over. A user without messages is nowhere.
//!
//! # Memory
//! 80 bytes and the text for a message, 56 and the name for a user, 5 to 12 each to find them. What
//! a peak took goes back to the allocator as it empties: at most as many places stay empty as are
//! full, and 1,024. Nothing ever waits for a copy of everything that is there. (A million messages of
//! 100 bytes to 100,000 users: 189 MiB asked of the allocator, 204 MiB resident. The allocator may
//! keep what was freed for what comes: glibc's keeps most of it.)

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

/// The end of a lease is told within 2^6 ms.
const LEASE_SHIFT: u32 = 6;

/// What is put back may go beyond every bound by this part of it: it was within the bounds when it
/// was taken.
const PUT_BACK_PART: u32 = 4;

/// Names a message, for ever and everywhere.
pub type Id = [u8; 16];

/// How much the inboxes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many messages a user has unread, leased ones included.
    pub per_user_max: u32,
    /// How many messages all users have.
    pub messages_max: u32,
    /// How many bytes these are: a message counts as its text and the name of its user.
    pub bytes_max: u64,
}

/// A message that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxMessage {
    /// Its place in the order of arrival: lower numbers come first.
    pub seq: u64,
    /// Its name.
    pub id: Id,
    /// What it says.
    pub text: Box<str>,
    /// The first millisecond at which it has expired.
    pub gone_at: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the inbox.
    Stored,
    /// One of this id is there already. Nothing has changed.
    Known,
    /// Its user has [`Bounds::per_user_max`]. Nothing has changed.
    InboxFull,
    /// All users together have [`Bounds::messages_max`]. Nothing has changed.
    MessagesFull,
    /// With it they would have more than [`Bounds::bytes_max`]. Nothing has changed.
    BytesFull,
}

/// What is wanted of an inbox.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// At most so many messages.
    pub limit: u32,
    /// At most so many bytes of text; but if there is any message, one.
    pub bytes_max: u64,
    /// The messages are leased, until this millisecond (later than now). `None`: they are taken, and
    /// gone.
    pub leased_until: Option<u64>,
}

/// What was handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOut {
    /// Oldest first.
    pub messages: Vec<InboxMessage>,
    /// Whether there is more to hand out.
    pub more: bool,
    /// Whether messages whose lease had ended came back meanwhile.
    pub returned: bool,
}

/// What has ended by itself since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Messages that expired before they were read.
    pub messages: u64,
    /// Leases that ran out.
    pub leases: u64,
}

/// The inboxes of all users. See the top of this module.
#[derive(Clone, Debug)]
pub struct Inboxes {
    bounds: Bounds,
    users: Slab<User>,
    /// Finds a user by name.
    users_by_name: Index,
    messages: Slab<InboxEntry>,
    /// Finds a message by id.
    messages_by_id: Index,
    /// Messages that are not leased, by [`InboxEntry::gone_at`].
    expiry: Wheel,
    /// Leased messages, by [`InboxEntry::until`].
    leases: Wheel,
    /// The number of the next message.
    next_seq: u64,
    /// What [`Bounds::bytes_max`] counts.
    bytes: u64,
    ended: Ended,
}

/// A user with at least one message.
#[derive(Clone, Debug)]
struct User {
    name: Box<str>,
    first: u32,
    last: u32,
    /// All messages before this one are leased: where a reader begins.
    unleased: u32,
    messages: u32,
    leased: u32,
    /// No lease ends before this.
    lease_ends: u64,
    /// No message is gone before this.
    gone_at: u64,
}

/// A message that is there.
#[derive(Clone, Debug)]
struct InboxEntry {
    seq: u64,
    id: Id,
    text: Box<str>,
    gone_at: u64,
    /// Leased until this millisecond; 0 when it is not leased.
    until: u64,
    user: u32,
    /// Its neighbours in the list of its user.
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
    /// All empty.
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

    /// Changes the bounds. What is over them already stays.
    pub const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// How many messages there are, leased ones and those that have expired but were not yet freed
    /// included.
    pub const fn len(&self) -> u32 {
        self.messages.len()
    }

    /// Whether there is no message.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many users have messages.
    pub const fn users(&self) -> u32 {
        self.users.len()
    }

    /// What [`Bounds::bytes_max`] counts.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many messages are leased.
    pub const fn leased(&self) -> u32 {
        self.leases.len()
    }

    /// What has ended by itself.
    pub const fn ended(&self) -> Ended {
        self.ended
    }

    /// Adds a message at the end of a user's inbox; from `gone_at` on it has expired. O(1); O(unread)
    /// when the inbox is full and some of it has expired.
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

    /// Hands out what a user has, oldest first; what has expired is freed on the way. O(handed out),
    /// and O(leased) when messages are leased that stand among them or whose lease has ended.
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
        let (mut out, mut bytes) = (Vec::new(), 0u64);
        let mut next = self.users.get(user).map_or(NOWHERE, |user| user.unleased);
        let mut more = false;
        while let Some(message) = self.messages.get(next) {
            let (place, behind) = (next, message.behind);
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

    /// What a user could be handed out, oldest first. Changes nothing. O(1) a step, and O(leased) as
    /// for [`Inboxes::hand_out`].
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

    /// Removes a message that is leased, expired or not. Returns whether it was: not so when the
    /// lease has ended. O(1).
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

    /// Puts messages that were taken back in their places; those that have expired or are there
    /// already are dropped. At a quarter beyond a bound the rest is dropped as well. Returns how many
    /// are back, and how many were dropped for want of room. O(unread + messages).
    ///
    /// Whether they have been put back before, and taken again, only the caller can know.
    pub fn put_back(&mut self, now: u64, user: &str, messages: Vec<InboxMessage>) -> (u32, u32) {
        let mut messages = messages;
        messages.sort_unstable_by_key(|message| message.seq);
        let (mut back, mut dropped) = (0, 0);
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

    /// When [`Inboxes::work`] has something to do. O(1).
    pub fn next_deadline(&self) -> Option<u64> {
        let deadlines = [self.expiry.next_deadline(), self.leases.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Frees what has expired and ends leases, in at most so many steps of O(1) amortised. `returned`
    /// is told each user who has a message back. Returns how many steps were left.
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

/// What a message counts as.
fn size(user: &str, text: &str) -> u64 {
    user.len() as u64 + text.len() as u64
}

#[cfg(test)]
pub(crate) mod tests;
