//! Items in numbered slots, stored in chunks. Growing copies nothing, so no operation ever waits for a copy
//! of everything, and memory of a peak is given back.
//!
//! Removing an item leaves a hole, which is filled first. When there are more holes than items,
//! [`Slab::compact`] moves the last items into holes, two for each removed item, and frees whole chunks.
//! Only the owner knows who refers to a slot, so `compact` reports each move.

use alloc::vec::Vec;

/// No slot: a link that leads nowhere.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Slots in a chunk. Few in tests, so that small tests see items move.
pub(crate) const CHUNK: usize = if cfg!(test) { 8 } else { 1024 };

/// Items in slots. See the documentation of this module.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    /// Every chunk is full except the last one; none is empty.
    chunks: Vec<Vec<Cell<T>>>,
    items: u32,
    holes: u32,
    /// The first hole to fill. Each hole links to its neighbours.
    hole: u32,
}

#[derive(Clone, Debug)]
enum Cell<T> {
    Item(T),
    Hole { before: u32, behind: u32 },
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), items: 0, holes: 0, hole: NOWHERE }
    }
}

impl<T> Slab<T> {
    /// Returns how many items there are.
    pub(crate) const fn len(&self) -> u32 {
        self.items
    }

    /// Returns how many slots there are, including holes.
    pub(crate) const fn places(&self) -> u32 {
        self.items + self.holes
    }

    #[inline]
    fn place(&self, at: u32) -> Option<&Cell<T>> {
        let at = at as usize;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    #[inline]
    fn place_mut(&mut self, at: u32) -> Option<&mut Cell<T>> {
        let at = at as usize;
        self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        match self.place(at) {
            Some(Cell::Item(item)) => Some(item),
            Some(Cell::Hole { .. }) | None => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.place_mut(at) {
            Some(Cell::Item(item)) => Some(item),
            Some(Cell::Hole { .. }) | None => None,
        }
    }

    /// Returns whether there is room for another item: not when a link cannot name another slot.
    pub(crate) const fn has_room(&self) -> bool {
        self.items < NOWHERE
    }

    /// Inserts an item and returns its slot. The caller has checked for room. O(1).
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        debug_assert!(self.has_room());
        if self.hole != NOWHERE {
            let at = self.hole;
            self.unlink_hole(at);
            if let Some(place) = self.place_mut(at) {
                *place = Cell::Item(item);
            }
            self.items += 1;
            return at;
        }
        let at = self.items;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(Cell::Item(item)),
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Cell::Item(item));
                self.chunks.push(chunk);
            }
        }
        self.items += 1;
        at
    }

    /// Removes an item. Call [`Slab::compact`] afterwards. O(1).
    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let hole = self.hole;
        let place = self.place_mut(at)?;
        if matches!(place, Cell::Hole { .. }) {
            return None;
        }
        let was = core::mem::replace(place, Cell::Hole { before: NOWHERE, behind: hole });
        if let Some(Cell::Hole { before, .. }) = self.place_mut(hole) {
            *before = at;
        }
        self.hole = at;
        self.holes += 1;
        self.items -= 1;
        match was {
            Cell::Item(item) => Some(item),
            Cell::Hole { .. } => None,
        }
    }

    fn unlink_hole(&mut self, at: u32) {
        let Some(Cell::Hole { before, behind }) = self.place(at) else {
            debug_assert!(false, "the list of holes links holes only");
            return;
        };
        let (before, behind) = (*before, *behind);
        match self.place_mut(before) {
            Some(Cell::Hole { behind: next, .. }) => *next = behind,
            Some(Cell::Item(_)) | None => self.hole = behind,
        }
        if let Some(Cell::Hole { before: next, .. }) = self.place_mut(behind) {
            *next = before;
        }
        self.holes -= 1;
    }

    /// Gives memory back while holes outnumber items by more than a chunk. Moves one item and returns its
    /// old and new slot, or `None` when nothing is left to do. Amortised O(1) for each removed item.
    pub(crate) fn compact(&mut self) -> Option<(u32, u32)> {
        while self.holes as usize > self.items as usize + CHUNK {
            let last = self.places() - 1;
            if self.get(last).is_none() {
                self.unlink_hole(last);
                self.drop_last();
                continue;
            }
            let to = self.hole;
            self.unlink_hole(to);
            let moved = self.drop_last();
            if let (Some(moved), Some(place)) = (moved, self.place_mut(to)) {
                *place = moved;
            }
            return Some((last, to));
        }
        None
    }

    fn drop_last(&mut self) -> Option<Cell<T>> {
        let chunk = self.chunks.last_mut()?;
        let last = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slot_takes_no_more_than_an_item_with_a_spare_bit_pattern() {
        use alloc::boxed::Box;
        assert_eq!(size_of::<Cell<(Box<str>, u64)>>(), size_of::<(Box<str>, u64)>());
    }

    #[test]
    fn after_a_peak_at_most_a_chunk_and_twice_the_items_remain() {
        let mut slab = Slab::default();
        let places: Vec<u32> = (0..100_000).map(|item| slab.insert(item)).collect();
        // Remove from the front, so that the last items must move.
        let mut stands: BTreeMap<u32, u32> = (0..).zip(places).collect();
        for item in 0..99_990 {
            assert_eq!(slab.remove(stands[&item]), Some(item));
            while let Some((_, to)) = slab.compact() {
                stands.insert(*slab.get(to).unwrap(), to);
            }
            assert!(slab.places() as usize <= 2 * slab.len() as usize + CHUNK);
        }
        assert!(slab.chunks.len() * CHUNK <= 20 + 2 * CHUNK);
        assert!((99_990..100_000).all(|item| slab.get(stands[&item]) == Some(&item)));
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 0..600)) {
            let mut slab = Slab::default();
            let mut stands = Vec::new();
            let mut growing = true;
            for (item, (with_the_stream, pick)) in (0u32..).zip(steps) {
                // Long phases of growth and shrinkage: only then is there something to compact.
                growing = if stands.len() > 100 { false } else { growing || stands.is_empty() };
                if growing == (with_the_stream || pick % 3 == 0) || stands.is_empty() {
                    stands.push((slab.insert(item), item));
                } else {
                    let (at, item) = stands.swap_remove(usize::from(pick) % stands.len());
                    prop_assert_eq!(slab.remove(at), Some(item));
                    prop_assert_eq!(slab.remove(at), None);
                    while let Some((from, to)) = slab.compact() {
                        stands.iter_mut().find(|(at, _)| *at == from).unwrap().0 = to;
                    }
                }
                prop_assert_eq!(slab.len() as usize, stands.len());
                prop_assert!(slab.places() as usize <= 2 * stands.len() + CHUNK);
            }
            for (at, item) in &stands {
                prop_assert_eq!(slab.get(*at), Some(item));
            }
        }
    }
}
