//! The linked lists of messages and users over the slabs, and how they stay consistent when an item is
//! added, removed or moved.

use alloc::boxed::Box;

use super::super::slab::{NOWHERE, Slab};
use super::super::wheel::{Items, Link};
use super::{Id, InboxEntry, InboxMessage, Inboxes, User, size};

/// The messages as the expiry wheel sees them.
pub(super) struct Unleased<'a>(pub(super) &'a mut Slab<InboxEntry>);

/// The messages as the lease wheel sees them.
pub(super) struct Leased<'a>(pub(super) &'a mut Slab<InboxEntry>);

impl Items for Unleased<'_> {
    fn link(&self, place: u32) -> Option<&Link> {
        self.0.get(place).map(|message| &message.timer)
    }

    fn link_mut(&mut self, place: u32) -> Option<&mut Link> {
        self.0.get_mut(place).map(|message| &mut message.timer)
    }

    fn due(&self, place: u32) -> u64 {
        self.0.get(place).map_or(0, |message| message.gone_at)
    }
}

impl Items for Leased<'_> {
    fn link(&self, place: u32) -> Option<&Link> {
        self.0.get(place).map(|message| &message.timer)
    }

    fn link_mut(&mut self, place: u32) -> Option<&mut Link> {
        self.0.get_mut(place).map(|message| &mut message.timer)
    }

    fn due(&self, place: u32) -> u64 {
        self.0.get(place).map_or(0, |message| message.until)
    }
}

impl Inboxes {
    pub(super) fn find(&self, id: Id) -> Option<u32> {
        let is_it = |place| self.messages.get(place).is_some_and(|message| message.id == id);
        self.messages_by_id.find(self.messages_by_id.hash(u128::from_ne_bytes(id)), is_it)
    }

    pub(super) fn find_user(&self, name: &str) -> Option<u32> {
        let is_it = |place| self.users.get(place).is_some_and(|user| *user.name == *name);
        self.users_by_name.find(self.users_by_name.hash(name), is_it)
    }

    pub(super) fn messages_of(&self, user: u32) -> u32 {
        self.users.get(user).map_or(0, |user| user.messages)
    }

    /// Adds a user. The caller adds a message right away. There is room: users never outnumber messages.
    pub(super) fn add_user(&mut self, name: &str) -> u32 {
        let hash = self.users_by_name.hash(name);
        let place = self.users.insert(User {
            name: name.into(),
            first: NOWHERE,
            last: NOWHERE,
            unleased: NOWHERE,
            messages: 0,
            leased: 0,
            lease_ends: u64::MAX,
            gone_at: u64::MAX,
        });
        let users = &self.users;
        self.users_by_name.insert(hash, place, |hasher, place| hash_user(hasher, users, place));
        place
    }

    /// Removes a user who has no message left.
    pub(super) fn remove_if_empty(&mut self, place: u32) {
        let Some(user) = self.users.get(place).filter(|user| user.messages == 0) else {
            return;
        };
        let hash = self.users_by_name.hash(&*user.name);
        self.users.remove(place);
        let users = &self.users;
        self.users_by_name.remove(hash, place, |hasher, place| hash_user(hasher, users, place));
    }

    /// Inserts a message that is not leased into the list of its user, before `behind` or at the end.
    pub(super) fn insert(&mut self, now: u64, owner: u32, message: InboxMessage, behind: u32) {
        let InboxMessage { seq, id, text, gone_at } = message;
        let Some(user) = self.users.get_mut(owner) else {
            debug_assert!(false, "the caller has found the user");
            return;
        };
        self.bytes += size(&user.name, &text);
        let before = match self.messages.get(behind) {
            Some(behind) => behind.before,
            None => user.last,
        };
        let timer = Link::default();
        let stored =
            InboxEntry { seq, id, text, gone_at, until: 0, user: owner, before, behind, timer };
        let place = self.messages.insert(stored);
        match self.messages.get_mut(before) {
            Some(before) => before.behind = place,
            None => user.first = place,
        }
        match self.messages.get_mut(behind) {
            Some(behind) => behind.before = place,
            None => user.last = place,
        }
        user.messages += 1;
        user.gone_at = user.gone_at.min(gone_at);
        let unleased = self.messages.get(user.unleased);
        if unleased.is_none_or(|unleased| seq < unleased.seq) {
            user.unleased = place;
        }
        self.expiry.insert(now, &mut Unleased(&mut self.messages), place);
        let hash = self.messages_by_id.hash(u128::from_ne_bytes(id));
        let messages = &self.messages;
        self.messages_by_id.insert(hash, place, |hasher, at| hash_message(hasher, messages, at));
    }

    /// Removes a message. The caller removes the user if it was the last one.
    pub(super) fn remove(&mut self, place: u32) -> Option<InboxMessage> {
        if self.messages.get(place)?.until == 0 {
            self.expiry.remove(&mut Unleased(&mut self.messages), place);
        } else {
            self.leases.remove(&mut Leased(&mut self.messages), place);
        }
        self.unlink(place)
    }

    /// Removes a message that is on no wheel.
    fn unlink(&mut self, place: u32) -> Option<InboxMessage> {
        let InboxEntry { seq, id, text, gone_at, until, user, before, behind, .. } =
            self.messages.remove(place)?;
        let hash = self.messages_by_id.hash(u128::from_ne_bytes(id));
        let messages = &self.messages;
        self.messages_by_id.remove(hash, place, |hasher, at| hash_message(hasher, messages, at));
        if let Some(user) = self.users.get_mut(user) {
            match self.messages.get_mut(before) {
                Some(before) => before.behind = behind,
                None => user.first = behind,
            }
            match self.messages.get_mut(behind) {
                Some(behind) => behind.before = before,
                None => user.last = before,
            }
            if user.unleased == place {
                user.unleased = behind;
            }
            user.messages -= 1;
            user.leased -= u32::from(until != 0);
            self.bytes -= size(&user.name, &text);
        }
        Some(InboxMessage { seq, id, text, gone_at })
    }

    /// Frees an expired message. The caller removes the user if it was the last one.
    pub(super) fn expire(&mut self, place: u32) {
        self.ended.messages += 1;
        drop(self.remove(place));
    }

    /// Frees an expired message that the wheel has removed already.
    pub(super) fn free_due(&mut self, place: u32) {
        let user = self.messages.get(place).map(|message| message.user);
        self.ended.messages += 1;
        drop(self.unlink(place));
        if let Some(user) = user {
            self.remove_if_empty(user);
        }
    }

    fn copy(&self, place: u32) -> Option<InboxMessage> {
        let InboxEntry { seq, id, text, gone_at, .. } = self.messages.get(place)?;
        Some(InboxMessage { seq: *seq, id: *id, text: Box::clone(text), gone_at: *gone_at })
    }

    /// Leases a message that is not leased. It keeps its position.
    pub(super) fn lease(&mut self, now: u64, place: u32, until: u64) -> Option<InboxMessage> {
        self.expiry.remove(&mut Unleased(&mut self.messages), place);
        let message = self.messages.get_mut(place)?;
        message.until = until;
        if let Some(user) = self.users.get_mut(message.user) {
            user.leased += 1;
            user.lease_ends = user.lease_ends.min(until);
        }
        self.leases.insert(now, &mut Leased(&mut self.messages), place);
        self.copy(place)
    }

    /// Ends the expired leases of a user. Returns whether messages returned. The caller removes the user if
    /// it has no message left.
    pub(super) fn end_leases(&mut self, now: u64, owner: u32) -> bool {
        let Some(user) = self.users.get(owner) else {
            return false;
        };
        if user.leased == 0 || now < user.lease_ends {
            return false;
        }
        let mut leased = user.leased;
        let mut next = user.first;
        let mut returned = false;
        let mut lease_ends = u64::MAX;
        while leased > 0
            && let Some(message) = self.messages.get(next)
        {
            let place = next;
            let behind = message.behind;
            if message.until != 0 {
                leased -= 1;
                if message.is_leased(now) {
                    lease_ends = lease_ends.min(message.until);
                } else {
                    self.leases.remove(&mut Leased(&mut self.messages), place);
                    returned |= self.unlease(now, place);
                }
            }
            next = behind;
        }
        if let Some(user) = self.users.get_mut(owner) {
            user.lease_ends = lease_ends;
        }
        returned
    }

    /// Ends the lease of a message that the wheel has removed already.
    pub(super) fn end_lease(&mut self, now: u64, place: u32, returned: &mut impl FnMut(&str)) {
        let Some(owner) = self.messages.get(place).map(|message| message.user) else {
            return;
        };
        if !self.unlease(now, place) {
            self.remove_if_empty(owner);
        } else if let Some(user) = self.users.get(owner) {
            returned(&user.name);
        }
    }

    /// Ends the lease of a message that is on no wheel. Returns whether the message returned: not if it has
    /// expired meanwhile. The caller removes the user if it was the last one.
    fn unlease(&mut self, now: u64, place: u32) -> bool {
        self.ended.leases += 1;
        let Some(message) = self.messages.get_mut(place) else {
            return false;
        };
        if message.is_gone(now) {
            self.ended.messages += 1;
            drop(self.unlink(place));
            return false;
        }
        message.until = 0;
        let owner = message.user;
        let seq = message.seq;
        if let Some(user) = self.users.get_mut(owner) {
            user.leased -= 1;
            let unleased = self.messages.get(user.unleased);
            if unleased.is_none_or(|unleased| seq < unleased.seq) {
                user.unleased = place;
            }
        }
        self.expiry.insert(now, &mut Unleased(&mut self.messages), place);
        true
    }

    /// Frees all expired messages of a user. O(unread) if there are any, else O(1).
    pub(super) fn free_gone(&mut self, now: u64, owner: u32) {
        let Some(user) = self.users.get(owner).filter(|user| now >= user.gone_at) else {
            return;
        };
        let mut next = user.first;
        let mut gone_at = u64::MAX;
        while let Some(message) = self.messages.get(next) {
            let place = next;
            let behind = message.behind;
            if message.is_gone(now) && !message.is_leased(now) {
                self.ended.leases += u64::from(message.until != 0);
                self.expire(place);
            } else {
                gone_at = gone_at.min(message.gone_at.max(message.until));
            }
            next = behind;
        }
        if let Some(user) = self.users.get_mut(owner) {
            user.gone_at = gone_at;
        }
        self.remove_if_empty(owner);
    }

    /// Compacts the slabs, and updates every link to an item that moved.
    pub(super) fn tidy(&mut self) {
        while let Some((from, to)) = self.messages.compact() {
            self.message_moved(from, to);
        }
        while let Some((from, to)) = self.users.compact() {
            self.user_moved(from, to);
        }
    }

    fn message_moved(&mut self, from: u32, to: u32) {
        let Some(message) = self.messages.get(to) else {
            return;
        };
        let owner = message.user;
        let before = message.before;
        let behind = message.behind;
        let hash = self.messages_by_id.hash(u128::from_ne_bytes(message.id));
        let leased = message.until != 0;
        self.messages_by_id.relocate(hash, from, to);
        if leased {
            self.leases.relocate(&mut Leased(&mut self.messages), from, to);
        } else {
            self.expiry.relocate(&mut Unleased(&mut self.messages), from, to);
        }
        let Some(user) = self.users.get_mut(owner) else {
            return;
        };
        match self.messages.get_mut(before) {
            Some(before) => before.behind = to,
            None => user.first = to,
        }
        match self.messages.get_mut(behind) {
            Some(behind) => behind.before = to,
            None => user.last = to,
        }
        if user.unleased == from {
            user.unleased = to;
        }
    }

    /// O(messages of the user). A user moves at most once each time that half of all users leave.
    fn user_moved(&mut self, from: u32, to: u32) {
        let Some(user) = self.users.get(to) else {
            return;
        };
        self.users_by_name.relocate(self.users_by_name.hash(&*user.name), from, to);
        let mut next = user.first;
        while let Some(message) = self.messages.get_mut(next) {
            message.user = to;
            next = message.behind;
        }
    }
}

pub(super) fn hash_message(
    hasher: &impl core::hash::BuildHasher,
    messages: &Slab<InboxEntry>,
    place: u32,
) -> u64 {
    messages.get(place).map_or(0, |message| hasher.hash_one(u128::from_ne_bytes(message.id)))
}

fn hash_user(hasher: &impl core::hash::BuildHasher, users: &Slab<User>, place: u32) -> u64 {
    users.get(place).map_or(0, |user| hasher.hash_one(&*user.name))
}
