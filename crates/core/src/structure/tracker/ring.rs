//! A slab whose used slots are linked in a ring, in order of arrival.
//!
//! In a full ring the newest value takes the slot of the oldest, which only moves the beginning of the ring
//! by one: no link changes, and the slab is written from end to end.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::{Hashed, Iter, NONE, Place};

/// What a slot has besides its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    /// The slot that arrived before; for the oldest, the newest.
    pub(super) prev: u32,
    /// The slot that arrived after; for the newest, the oldest. In a free slot: the next free one.
    pub(super) next: u32,
    /// Kept, so that an eviction never reads the id.
    pub(super) hashed: Hashed,
    /// How many values had been in this slot before, wrapping.
    tenancy: u32,
}

/// See the documentation of this module.
#[derive(Clone, Debug)]
pub(super) struct Ring<T> {
    /// The values of all slots, `None` in a free one. Separate from the links, so that a lookup reads no
    /// more memory than it needs.
    values: Box<[Option<T>]>,
    /// The links of the same slots.
    links: Box<[Links]>,
    /// Where the ring begins; [`NONE`] while it is empty.
    oldest: u32,
    /// The first freed slot; the others are linked by `next`.
    free: u32,
    /// Slots from here on have not been used since the ring was last empty.
    fresh: u32,
    len: u32,
}

impl<T> Ring<T> {
    pub(super) fn new(capacity: NonZeroU32) -> Self {
        let capacity = capacity.get() as usize;
        let vacant = Links { prev: NONE, next: NONE, hashed: Hashed::ZERO, tenancy: 0 };
        let mut values = Vec::new();
        values.reserve_exact(capacity);
        values.resize_with(capacity, || None);
        Self {
            values: values.into_boxed_slice(),
            links: vec![vacant; capacity].into_boxed_slice(),
            oldest: NONE,
            free: NONE,
            fresh: 0,
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    #[expect(clippy::cast_possible_truncation, reason = "its length was a u32")]
    pub(super) const fn capacity(&self) -> u32 {
        self.links.len() as u32
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len == self.capacity()
    }

    pub(super) const fn bytes(&self) -> usize {
        size_of_val(&*self.values) + size_of_val(&*self.links)
    }

    #[inline]
    pub(super) fn links(&self, slot: u32) -> Option<&Links> {
        self.links.get(slot as usize)
    }

    #[inline]
    fn links_mut(&mut self, slot: u32) -> Option<&mut Links> {
        self.links.get_mut(slot as usize)
    }

    #[inline]
    pub(super) fn value(&self, slot: u32) -> Option<&T> {
        self.values.get(slot as usize)?.as_ref()
    }

    pub(super) const fn oldest(&self) -> u32 {
        self.oldest
    }

    pub(super) fn newest(&self) -> u32 {
        self.links(self.oldest).map_or(NONE, |links| links.prev)
    }

    pub(super) fn iter(&self) -> Iter<'_, T> {
        Iter::new(&self.values, &self.links, self.oldest, self.newest(), self.len)
    }

    pub(super) fn place(&self, slot: u32) -> Place {
        Place { slot, tenancy: self.links(slot).map_or(0, |links| links.tenancy) }
    }

    /// Makes a free slot the newest. There must be one. The caller then calls [`Ring::settle`].
    pub(super) fn append(&mut self, hashed: Hashed) -> u32 {
        debug_assert!(!self.is_full(), "the caller has checked for room");
        let slot = if self.free == NONE { self.fresh } else { self.free };
        let (prev, next) = match self.links(self.oldest) {
            Some(oldest) => (oldest.prev, self.oldest),
            None => (slot, slot),
        };
        debug_assert!(self.value(slot).is_none(), "a free slot is empty");
        let Some(links) = self.links_mut(slot) else {
            return NONE;
        };
        let free = links.next;
        links.prev = prev;
        links.next = next;
        links.hashed = hashed;
        if self.free == NONE {
            self.fresh += 1;
        } else {
            self.free = free;
        }
        if self.len == 0 {
            self.oldest = slot;
        } else {
            self.link(prev, slot);
            self.link(slot, next);
        }
        self.len += 1;
        slot
    }

    /// Makes the slot of the oldest value the newest, and returns it with the hash of that value. The ring
    /// must not be empty. The caller then calls [`Ring::settle`].
    #[inline]
    pub(super) fn rotate(&mut self, hashed: Hashed) -> (u32, Hashed) {
        let slot = self.oldest;
        let Some(links) = self.links.get_mut(slot as usize) else {
            return (NONE, hashed);
        };
        let before = core::mem::replace(&mut links.hashed, hashed);
        links.tenancy = links.tenancy.wrapping_add(1);
        self.oldest = links.next;
        (slot, before)
    }

    /// Stores a value in the slot that was made the newest for it. Returns the value that was there.
    #[inline]
    pub(super) fn settle(&mut self, slot: u32, value: T) -> Option<T> {
        self.values.get_mut(slot as usize)?.replace(value)
    }

    /// Empties a slot, unlinks it and frees it.
    pub(super) fn remove(&mut self, slot: u32) -> Option<(Hashed, T)> {
        let free = self.free;
        let value = self.values.get_mut(slot as usize)?.take()?;
        let links = self.links_mut(slot)?;
        let (prev, next) = (links.prev, links.next);
        let hashed = links.hashed;
        links.next = free;
        links.tenancy = links.tenancy.wrapping_add(1);
        self.free = slot;
        self.len -= 1;
        if self.len == 0 {
            self.oldest = NONE;
            self.free = NONE;
            self.fresh = 0;
        } else {
            self.link(prev, next);
            if self.oldest == slot {
                self.oldest = next;
            }
        }
        Some((hashed, value))
    }

    /// Links two slots in this order.
    fn link(&mut self, before: u32, after: u32) {
        if let Some(links) = self.links_mut(before) {
            links.next = after;
        }
        if let Some(links) = self.links_mut(after) {
            links.prev = before;
        }
    }

    /// Checks the invariants between two operations.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.iter().count(), self.len as usize);
        let mut free = 0;
        let mut at = self.free;
        while at != NONE {
            assert!(self.value(at).is_none());
            free += 1;
            at = self.links(at).unwrap().next;
        }
        assert_eq!(free + self.len, self.fresh);
        assert!(self.fresh <= self.capacity());
    }
}
