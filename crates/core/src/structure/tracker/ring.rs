//! A slab whose used slots are linked in a ring, in order of arrival.
//!
//! In a full ring the newest takes over the slot of the oldest, and all that is to be done is to
//! begin the ring one later: no link changes, and the slab is gone through from end to end.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::{Hashed, Iter, NONE, Place};

/// A slot of the slab.
#[derive(Clone, Debug)]
pub(super) struct Node<T> {
    /// Who arrived before; for the oldest, the newest.
    pub(super) prev: u32,
    /// Who arrived after; for the newest, the oldest. In a free slot: the next free one.
    pub(super) next: u32,
    /// Kept, so that evicting never reads the id.
    pub(super) hashed: Hashed,
    /// How many things have stood here before, wrapping.
    tenancy: u32,
    /// `None` in a free slot.
    pub(super) value: Option<T>,
}

/// See the top of this file.
#[derive(Clone, Debug)]
pub(super) struct Ring<T> {
    /// All slots there will ever be.
    nodes: Box<[Node<T>]>,
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
        let vacant =
            || Node { prev: NONE, next: NONE, hashed: Hashed::ZERO, tenancy: 0, value: None };
        let mut nodes = Vec::new();
        nodes.reserve_exact(capacity.get() as usize);
        nodes.resize_with(capacity.get() as usize, vacant);
        Self { nodes: nodes.into_boxed_slice(), oldest: NONE, free: NONE, fresh: 0, len: 0 }
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    #[expect(clippy::cast_possible_truncation, reason = "made from a u32")]
    pub(super) const fn capacity(&self) -> u32 {
        self.nodes.len() as u32
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len == self.capacity()
    }

    pub(super) const fn bytes(&self) -> usize {
        size_of_val(&*self.nodes)
    }

    #[inline]
    pub(super) fn node(&self, slot: u32) -> Option<&Node<T>> {
        self.nodes.get(slot as usize)
    }

    #[inline]
    fn node_mut(&mut self, slot: u32) -> Option<&mut Node<T>> {
        self.nodes.get_mut(slot as usize)
    }

    pub(super) fn value(&self, slot: u32) -> Option<&T> {
        self.node(slot)?.value.as_ref()
    }

    pub(super) const fn oldest(&self) -> u32 {
        self.oldest
    }

    pub(super) fn newest(&self) -> u32 {
        self.node(self.oldest).map_or(NONE, |node| node.prev)
    }

    pub(super) fn iter(&self) -> Iter<'_, T> {
        Iter::new(&self.nodes, self.oldest, self.newest(), self.len)
    }

    pub(super) fn place(&self, slot: u32) -> Place {
        Place { slot, tenancy: self.node(slot).map_or(0, |node| node.tenancy) }
    }

    /// Makes a free slot, which there must be, the newest. [`Ring::settle`] comes next.
    pub(super) fn append(&mut self, hashed: Hashed) -> u32 {
        debug_assert!(!self.is_full(), "the caller looked");
        let slot = if self.free == NONE { self.fresh } else { self.free };
        let (prev, next) = match self.node(self.oldest) {
            Some(oldest) => (oldest.prev, self.oldest),
            None => (slot, slot),
        };
        let Some(node) = self.node_mut(slot) else {
            return NONE;
        };
        debug_assert!(node.value.is_none(), "a free slot is empty");
        let free = node.next;
        (node.prev, node.next, node.hashed) = (prev, next, hashed);
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
        let Some(node) = self.nodes.get_mut(slot as usize) else {
            return (NONE, hashed);
        };
        let before = core::mem::replace(&mut node.hashed, hashed);
        node.tenancy = node.tenancy.wrapping_add(1);
        self.oldest = node.next;
        (slot, before)
    }

    /// Puts a thing into the slot that was made the newest for it; what stood there comes back.
    #[inline]
    pub(super) fn settle(&mut self, slot: u32, value: T) -> Option<T> {
        self.node_mut(slot)?.value.replace(value)
    }

    /// Empties a slot: unlinked, free.
    pub(super) fn take(&mut self, slot: u32) -> Option<(Hashed, T)> {
        let free = self.free;
        let node = self.node_mut(slot)?;
        let value = node.value.take()?;
        let (prev, next, hashed) = (node.prev, node.next, node.hashed);
        node.next = free;
        node.tenancy = node.tenancy.wrapping_add(1);
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
        if let Some(node) = self.node_mut(before) {
            node.next = after;
        }
        if let Some(node) = self.node_mut(after) {
            node.prev = before;
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
            at = self.node(at).unwrap().next;
        }
        assert_eq!(free + self.len, self.fresh);
        assert!(self.fresh <= self.capacity());
    }
}
