//! A slab whose used slots are linked in a ring, in order of arrival.
//!
//! In a full ring the newest takes over the slot of the oldest, and all that is to be done is to
//! begin the ring one later: no link changes, and the slab is gone through from end to end.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::{Hashed, Iter, NONE, Place};

/// What a slot of the slab has beside what stands in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    /// Who arrived before; for the oldest, the newest.
    pub(super) prev: u32,
    /// Who arrived after; for the newest, the oldest. In a free slot: the next free one.
    pub(super) next: u32,
    /// Kept, so that evicting never reads the id.
    pub(super) hashed: Hashed,
    /// How many things have stood here before, wrapping.
    tenancy: u32,
}

/// See the top of this file.
#[derive(Clone, Debug)]
pub(super) struct Ring<T> {
    /// All slots there will ever be: what stands there, `None` in a free one. Apart from the links, so
    /// that finding something reads no more than that.
    values: Box<[Option<T>]>,
    /// Of the same slots.
    links: Box<[Links]>,
    /// Where the ring begins; [`NONE`] while it is empty.
    oldest: u32,
    /// The first of the freed slots, linked by `next`.
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

    #[expect(clippy::cast_possible_truncation, reason = "made from a u32")]
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

    /// Makes a free slot, which there must be, the newest. [`Ring::settle`] comes next.
    pub(super) fn append(&mut self, hashed: Hashed) -> u32 {
        debug_assert!(!self.is_full(), "the caller looked");
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
        (links.prev, links.next, links.hashed) = (prev, next, hashed);
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

    /// Makes the slot of the oldest, which there must be, the newest, and tells under what hash the
    /// oldest stood there. [`Ring::settle`] comes next.
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

    /// Puts a thing into the slot that was made the newest for it; what stood there comes back.
    #[inline]
    pub(super) fn settle(&mut self, slot: u32, value: T) -> Option<T> {
        self.values.get_mut(slot as usize)?.replace(value)
    }

    /// Empties a slot: unlinked, free.
    pub(super) fn remove(&mut self, slot: u32) -> Option<(Hashed, T)> {
        let free = self.free;
        let value = self.values.get_mut(slot as usize)?.take()?;
        let links = self.links_mut(slot)?;
        let (prev, next, hashed) = (links.prev, links.next, links.hashed);
        links.next = free;
        links.tenancy = links.tenancy.wrapping_add(1);
        self.free = slot;
        self.len -= 1;
        if self.len == 0 {
            (self.oldest, self.free, self.fresh) = (NONE, NONE, 0);
        } else {
            self.link(prev, next);
            if self.oldest == slot {
                self.oldest = next;
            }
        }
        Some((hashed, value))
    }

    /// Makes one follow the other.
    fn link(&mut self, before: u32, after: u32) {
        if let Some(links) = self.links_mut(before) {
            links.next = after;
        }
        if let Some(links) = self.links_mut(after) {
            links.prev = before;
        }
    }

    /// What must hold between any two operations.
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
