//! Inboxes taken apart to be stored, a message at a time, and put together again.
//!
//! Messages are stored in the order in which they stand on the wheels, so that those who are put
//! together again free what has expired in the same order as those that never were taken apart. Their
//! order in each inbox is that of their numbers.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::super::slab::NOWHERE;
use super::super::wheel::{Link, Position, Wheel};
use super::lists::{Leased, Unleased, hash_message};
use super::{Bounds, EXPIRY_SHIFT, Ended, Id, InboxEntry, Inboxes, LEASE_SHIFT, size};

/// All of the inboxes but the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// How many messages there are.
    pub messages: u32,
    /// The number of the next one.
    pub next_seq: u64,
    /// What has ended by itself.
    pub ended: Ended,
    /// How far the wheel of expiry has come.
    pub expiry: Position,
    /// How far the wheel of leases has come.
    pub leases: Position,
}

/// A message, and all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage<'a> {
    /// Whose it is.
    pub user: StoredUser<'a>,
    /// Its place in the order of arrival; no other of this user has it.
    pub seq: u64,
    /// Its name.
    pub id: Id,
    /// What it says.
    pub text: Cow<'a, str>,
    /// The first millisecond at which it has expired.
    pub gone_at: u64,
    /// Leased until this millisecond; 0 when it is not leased.
    pub until: u64,
    /// Whether its wheel is in the middle of the list that it stands in.
    pub emptying: bool,
}

/// Whose a message is. Users are numbered, from 0, in the order in which they are first named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredUser<'a> {
    /// A user who was not named before.
    New(Cow<'a, str>),
    /// The user of this number.
    Known(u32),
}

/// Inboxes that are being put together again.
#[derive(Debug)]
pub struct Restoring {
    inboxes: Inboxes,
    /// How many messages are to come.
    missing: u32,
    /// Where the user of each number stands.
    users: Vec<u32>,
    /// The number and the place of each message.
    order: Vec<(u64, u32)>,
}

impl Inboxes {
    /// What is to be stored besides the messages.
    pub fn parts(&self) -> Parts {
        Parts {
            messages: self.len(),
            next_seq: self.next_seq,
            ended: self.ended,
            expiry: self.expiry.position(),
            leases: self.leases.position(),
        }
    }

    /// All messages, as they are to be stored. O(messages), allocates 4 bytes a user.
    pub fn stored(&self) -> impl Iterator<Item = StoredMessage<'_>> {
        let link = |place| self.messages.get(place).map(|message: &InboxEntry| message.timer);
        let mut numbers = vec![NOWHERE; self.users.places() as usize];
        let mut known = 0;
        let on_wheels = self.expiry.iter(link).chain(self.leases.iter(link));
        on_wheels.filter_map(move |(place, emptying)| {
            let InboxEntry { seq, id, text, gone_at, until, user, .. } =
                self.messages.get(place)?;
            let number = numbers.get_mut(*user as usize)?;
            let user = if *number == NOWHERE {
                *number = known;
                known += 1;
                StoredUser::New(Cow::Borrowed(&*self.users.get(*user)?.name))
            } else {
                StoredUser::Known(*number)
            };
            let (seq, id, gone_at, until) = (*seq, *id, *gone_at, *until);
            Some(StoredMessage {
                user,
                seq,
                id,
                text: Cow::Borrowed(text),
                gone_at,
                until,
                emptying,
            })
        })
    }

    /// Begins to put inboxes together again that behave as those taken apart did. `None` when the
    /// parts contradict each other.
    pub fn restore(parts: Parts, bounds: Bounds) -> Option<Restoring> {
        let Parts { messages, next_seq, ended, expiry, leases } = parts;
        let inboxes = Self {
            next_seq,
            ended,
            expiry: Wheel::at(EXPIRY_SHIFT, expiry)?,
            leases: Wheel::at(LEASE_SHIFT, leases)?,
            ..Self::new(bounds)
        };
        Some(Restoring { inboxes, missing: messages, users: Vec::new(), order: Vec::new() })
    }
}

impl Restoring {
    /// How many messages are to come.
    pub const fn missing(&self) -> u32 {
        self.missing
    }

    /// Adds the next message. `None` when it contradicts what is there.
    #[must_use = "what cannot be right is not to be used"]
    pub fn put(&mut self, message: StoredMessage<'_>) -> Option<()> {
        let StoredMessage { user, seq, id, text, gone_at, until, emptying } = message;
        let inboxes = &mut self.inboxes;
        self.missing = self.missing.checked_sub(1)?;
        let possible =
            seq < inboxes.next_seq && inboxes.find(id).is_none() && inboxes.messages.has_room();
        if !possible {
            return None;
        }
        let user = match user {
            StoredUser::Known(number) => *self.users.get(number as usize)?,
            StoredUser::New(name) => {
                if inboxes.find_user(&name).is_some() {
                    return None;
                }
                let place = inboxes.add_user(&name);
                self.users.push(place);
                place
            }
        };
        let text = text.into_owned().into_boxed_str();
        inboxes.bytes += size(&inboxes.users.get(user)?.name, &text);
        let (timer, nowhere) = (Link::default(), NOWHERE);
        let place = inboxes.messages.insert(InboxEntry {
            seq,
            id,
            text,
            gone_at,
            until,
            user,
            before: nowhere,
            behind: nowhere,
            timer,
        });
        let hash = inboxes.messages_by_id.hash(u128::from_ne_bytes(id));
        let messages = &inboxes.messages;
        inboxes.messages_by_id.insert(hash, place, |hasher, at| hash_message(hasher, messages, at));
        self.order.push((seq, place));
        let stands = if until == 0 {
            inboxes.expiry.restore_item(&mut Unleased(&mut inboxes.messages), place, emptying)
        } else {
            inboxes.leases.restore_item(&mut Leased(&mut inboxes.messages), place, emptying)
        };
        stands.then_some(())
    }

    /// All messages are there: what it has become. `None` when that cannot be.
    pub fn finish(self) -> Option<Inboxes> {
        let Self { mut inboxes, missing, mut order, .. } = self;
        if missing > 0 {
            return None;
        }
        order.sort_unstable();
        for (seq, place) in order {
            let owner = inboxes.messages.get(place)?.user;
            let user = inboxes.users.get_mut(owner)?;
            if inboxes.messages.get(user.last).is_some_and(|last| last.seq >= seq) {
                return None;
            }
            let message = inboxes.messages.get_mut(place)?;
            message.before = user.last;
            user.messages += 1;
            user.gone_at = user.gone_at.min(message.gone_at);
            if message.until != 0 {
                user.leased += 1;
                user.lease_ends = user.lease_ends.min(message.until);
            } else if user.unleased == NOWHERE {
                user.unleased = place;
            }
            let before = core::mem::replace(&mut user.last, place);
            match inboxes.messages.get_mut(before) {
                Some(before) => before.behind = place,
                None => user.first = place,
            }
        }
        Some(inboxes)
    }
}
