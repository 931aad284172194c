//! Stores inboxes message by message, and restores them.
//!
//! Messages are stored in the order in which the wheels hold them, so that restored inboxes free expired
//! messages in the same order as inboxes that kept running. The order within each inbox follows from the
//! sequence numbers.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::super::slab::NOWHERE;
use super::super::wheel::{Link, Position, Wheel};
use super::lists::{Leased, Unleased, hash_message};
use super::{Bounds, EXPIRY_SHIFT, Ended, Id, InboxEntry, Inboxes, LEASE_SHIFT, size};

/// Everything but the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// How many messages there are.
    pub messages: u32,
    /// The sequence number of the next message.
    pub next_seq: u64,
    /// What has ended by itself.
    pub ended: Ended,
    /// How far the expiry wheel has advanced.
    pub expiry: Position,
    /// How far the lease wheel has advanced.
    pub leases: Position,
}

/// A message with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage<'a> {
    /// Its user.
    pub user: StoredUser<'a>,
    /// Its position in the order of arrival, unique within its user.
    pub seq: u64,
    /// Its id.
    pub id: Id,
    /// Its text.
    pub text: Cow<'a, str>,
    /// The first millisecond at which it has expired.
    pub gone_at: u64,
    /// Leased until this millisecond; 0 when it is not leased.
    pub until: u64,
    /// Whether its wheel is currently emptying the list that it is in.
    pub emptying: bool,
}

/// The user of a message. Users are numbered from 0, in the order in which they are first named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredUser<'a> {
    /// A user who was not named before.
    New(Cow<'a, str>),
    /// The user with this number.
    Known(u32),
}

/// Inboxes that are being restored.
#[derive(Debug)]
pub struct Restoring {
    inboxes: Inboxes,
    /// How many messages are still to come.
    missing: u32,
    /// The slot of each user, by number.
    users: Vec<u32>,
    /// The sequence number and the slot of each message.
    order: Vec<(u64, u32)>,
}

impl Inboxes {
    /// Returns everything but the messages, for a snapshot.
    pub fn parts(&self) -> Parts {
        Parts {
            messages: self.len(),
            next_seq: self.next_seq,
            ended: self.ended,
            expiry: self.expiry.position(),
            leases: self.leases.position(),
        }
    }

    /// Returns all messages, for a snapshot. O(messages), allocates 4 bytes per user.
    pub fn stored(&self) -> impl Iterator<Item = StoredMessage<'_>> {
        let link = |place| self.messages.get(place).map(|message: &InboxEntry| message.timer);
        let mut numbers = vec![NOWHERE; self.users.places() as usize];
        let mut known = 0;
        let on_wheels = self.expiry.iter(link).chain(self.leases.iter(link));
        on_wheels.filter_map(move |(place, emptying)| {
            let &InboxEntry { seq, id, ref text, gone_at, until, user, .. } =
                self.messages.get(place)?;
            let number = numbers.get_mut(user as usize)?;
            let user = if *number == NOWHERE {
                *number = known;
                known += 1;
                StoredUser::New(Cow::Borrowed(&*self.users.get(user)?.name))
            } else {
                StoredUser::Known(*number)
            };
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

    /// Starts to restore inboxes that behave like the stored ones. `None` when the parts contradict each
    /// other.
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
    /// Returns how many messages are still to come.
    pub const fn missing(&self) -> u32 {
        self.missing
    }

    /// Adds the next message. `None` when it contradicts the earlier ones.
    #[must_use = "a contradictory snapshot must not be used"]
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
        let timer = Link::default();
        let nowhere = NOWHERE;
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

    /// Returns the inboxes once all messages are added. `None` when their sequence is impossible.
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
