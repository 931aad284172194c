//! Puts numbered items in order. An item that continues the contiguous prefix passes through; an item
//! beyond a gap is held until the gap is filled or dropped.
//!
//! The layout serves two kinds of use. One is thousands of small sequencers (one for each channel) that
//! hold nothing most of the time: such a sequencer is 32 bytes and owns no heap memory. The other is one
//! huge, fast sequencer (millions of items a second, each displaced by up to a hundred positions): its held
//! items are in a ring indexed by the low bits of their number, so that every operation is O(1). Numbers so
//! far out that a ring would waste slots are in an ordered map.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::iter::Peekable;

use serde::{Deserialize, Serialize};

/// The highest sequence number. The one above it is the `next` of a sequencer that has reached its end.
pub const NUMBER_MAX: u64 = u64::MAX - 1;

/// How many dropped ranges are remembered, to tell late numbers from duplicates. The oldest is forgotten
/// first; a number in a forgotten range is reported as a duplicate.
pub const DROPPED_RANGES_MAX: usize = 64;

/// The most ring slots for each held item, so that a single number far away cannot make the ring large.
const SLOTS_PER_HELD_MAX: u64 = 8;

/// The result of offering an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a ready item comes back to the caller"]
pub enum Offered<T> {
    /// It is next in order. Call [`Sequencer::pop_ready`] until that returns `None`.
    Ready(T),
    /// It lies beyond a gap and is now held. Check [`Sequencer::is_overfull`].
    Held,
    /// An item with its number is held already, and stays ([`Sequencer::get`]).
    DuplicateOfHeld(T),
    /// Its number has passed (or is 0 or above [`NUMBER_MAX`], which no sequence contains).
    Duplicate(T),
    /// Its number was dropped before it came.
    Late(T),
}

/// A range of numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first number in it.
    pub from: u64,
    /// The last number in it.
    pub to: u64,
}

impl Gap {
    /// Returns how many numbers are in the range.
    pub const fn len(self) -> u64 {
        self.to - self.from + 1
    }

    /// Returns false: a gap has at least one number.
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// Puts numbered items in order. See the documentation of this module.
#[derive(Clone, Debug)]
pub struct Sequencer<T> {
    /// The next number in order: all numbers before it have passed.
    next: u64,
    /// How many items are held.
    held: u32,
    /// How many items may be held once the caller has handled [`Sequencer::is_overfull`].
    held_max: u32,
    /// How many numbers were dropped.
    lost: u64,
    /// Boxed and absent unless an item is held, a range is remembered, or a window was requested: so an
    /// idle sequencer stays small.
    beyond: Option<Box<Beyond<T>>>,
}

/// The state that a sequencer without gaps does not need.
#[derive(Clone, Debug)]
struct Beyond<T> {
    /// A power of two of slots, or none. Covers `next .. next + ring.len()`; number `n` is in slot
    /// `n & (ring.len() - 1)`.
    ring: Vec<Option<T>>,
    /// The ring is never smaller than this; with 0 it is freed when nothing is held.
    window: usize,
    /// Held items that were too far out for the ring when they came. They stay here, even when the ring
    /// has advanced to cover their number.
    far: BTreeMap<u64, T>,
    /// The highest number ever held.
    last: u64,
    /// Ascending, not adjacent, at most [`DROPPED_RANGES_MAX`].
    dropped: Vec<Gap>,
}

impl<T> Beyond<T> {
    const fn new() -> Self {
        Self { ring: Vec::new(), window: 0, far: BTreeMap::new(), last: 0, dropped: Vec::new() }
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked by the length of the ring")]
    fn slot(&self, number: u64) -> usize {
        number as usize & self.ring.len().wrapping_sub(1)
    }

    fn get(&self, next: u64, number: u64) -> Option<&T> {
        let in_ring = number - next < self.ring.len() as u64;
        let near =
            if in_ring { self.ring.get(self.slot(number)).and_then(Option::as_ref) } else { None };
        if near.is_none() && !self.far.is_empty() {
            return self.far.get(&number);
        }
        near
    }

    fn insert(&mut self, next: u64, held: u32, number: u64, item: T) {
        let offset = number - next;
        if offset >= self.ring.len() as u64 {
            let wanted = (offset + 1).checked_next_power_of_two().unwrap_or(u64::MAX);
            let allowed = SLOTS_PER_HELD_MAX * (u64::from(held) + 1);
            if wanted > allowed {
                self.far.insert(number, item);
                return;
            }
            self.grow(next, usize::try_from(wanted).unwrap_or(usize::MAX));
        }
        let slot = self.slot(number);
        if let Some(place) = self.ring.get_mut(slot) {
            debug_assert!(place.is_none(), "the caller has checked that the number is not held");
            *place = Some(item);
        }
    }

    /// O(slots), amortised over the items that made it necessary.
    fn grow(&mut self, next: u64, slots: usize) {
        debug_assert!(slots.is_power_of_two() && slots > self.ring.len());
        let mut ring: Vec<Option<T>> = Vec::with_capacity(slots);
        ring.resize_with(slots, || None);
        core::mem::swap(&mut ring, &mut self.ring);
        let old_mask = (ring.len() as u64).wrapping_sub(1);
        for number in next..next.saturating_add(ring.len() as u64) {
            let from = usize::try_from(number & old_mask).unwrap_or(usize::MAX);
            let to = self.slot(number);
            if let (Some(from), Some(to)) = (ring.get_mut(from), self.ring.get_mut(to)) {
                *to = from.take();
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let slot = self.slot(number);
        let near = self.ring.get_mut(slot).and_then(Option::take);
        if near.is_none() && !self.far.is_empty() {
            return self.far.remove(&number);
        }
        near
    }

    fn drop_range(&mut self, gap: Gap) {
        match self.dropped.last_mut() {
            Some(last) if last.to + 1 == gap.from => last.to = gap.to,
            Some(_) | None => {
                if self.dropped.len() == DROPPED_RANGES_MAX {
                    self.dropped.remove(0);
                }
                self.dropped.push(gap);
            }
        }
    }

    fn was_dropped(&self, number: u64) -> bool {
        let behind = self.dropped.partition_point(|gap| gap.to < number);
        self.dropped.get(behind).is_some_and(|gap| gap.from <= number)
    }
}

impl<T> Sequencer<T> {
    /// Returns a sequencer that starts with number 1 and holds at most `held_max` items. Allocates nothing.
    pub const fn new(held_max: u32) -> Self {
        Self { next: 1, held: 0, held_max, lost: 0, beyond: None }
    }

    /// Returns a sequencer that always keeps `window` slots (rounded up to a power of two), so that items
    /// displaced by less than that are held without an allocation.
    pub fn with_window(held_max: u32, window: usize) -> Self {
        let mut beyond = Beyond::new();
        beyond.window = window.next_power_of_two();
        beyond.grow(1, beyond.window);
        Self { beyond: Some(Box::new(beyond)), ..Self::new(held_max) }
    }

    /// Keeps `window` slots from now on, as [`Sequencer::with_window`] does.
    pub fn keep_window(&mut self, window: usize) {
        let beyond = self.beyond.get_or_insert_with(|| Box::new(Beyond::new()));
        beyond.window = window.next_power_of_two();
        if beyond.ring.len() < beyond.window {
            beyond.grow(self.next, beyond.window);
        }
    }

    /// Returns the next number in order.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Returns the highest number known: held, passed or dropped. 0 if there is none.
    pub fn last(&self) -> u64 {
        let passed = self.next - 1;
        self.beyond.as_ref().map_or(passed, |beyond| beyond.last.max(passed))
    }

    /// Returns how many items are held.
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// Returns how many numbers were dropped.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns how many items may be held.
    pub const fn held_max(&self) -> u32 {
        self.held_max
    }

    /// Changes how many may be held. Check [`Sequencer::is_overfull`] afterwards.
    pub const fn set_held_max(&mut self, held_max: u32) {
        self.held_max = held_max;
    }

    /// Returns whether more items are held than allowed. The caller then calls [`Sequencer::drop_gap`], and
    /// takes what becomes ready, until this is false. `offer` does not do that itself: the last item may be
    /// the one right behind the gap, and then only the numbers before it need to be dropped.
    pub const fn is_overfull(&self) -> bool {
        self.held > self.held_max
    }

    /// Accepts an item. O(1), or O(log held) for numbers far beyond the gap. An item that is ready is not
    /// stored and allocates nothing.
    pub fn offer(&mut self, number: u64, item: T) -> Offered<T> {
        if number < self.next || number > NUMBER_MAX {
            let late = self.beyond.as_ref().is_some_and(|beyond| beyond.was_dropped(number));
            return if late { Offered::Late(item) } else { Offered::Duplicate(item) };
        }
        if self.held == 0 {
            if number == self.next {
                self.next += 1;
                return Offered::Ready(item);
            }
        } else if self.get(number).is_some() {
            return Offered::DuplicateOfHeld(item);
        } else if number == self.next {
            self.next += 1;
            return Offered::Ready(item);
        }
        self.hold(number, item);
        Offered::Held
    }

    fn hold(&mut self, number: u64, item: T) {
        let beyond = self.beyond.get_or_insert_with(|| Box::new(Beyond::new()));
        beyond.insert(self.next, self.held, number, item);
        beyond.last = beyond.last.max(number);
        self.held += 1;
    }

    /// Returns the held item with the next number, if it is there. O(1), or O(log held) while items far
    /// beyond a gap are held.
    pub fn pop_ready(&mut self) -> Option<(u64, T)> {
        if self.held == 0 {
            return None;
        }
        let beyond = self.beyond.as_mut()?;
        let number = self.next;
        let item = beyond.remove(number)?;
        self.next += 1;
        self.held -= 1;
        if self.held == 0 {
            self.shrink();
        }
        Some((number, item))
    }

    /// Drops the oldest gap. The items held behind it become ready ([`Sequencer::pop_ready`]), its numbers
    /// count as lost, and any of them that comes later is [`Offered::Late`]. `None` when there is no gap.
    /// O(length of the gap, at most the slots of the ring).
    pub fn drop_gap(&mut self) -> Option<Gap> {
        let first = self.held_items().next()?.0;
        let gap = Gap { from: self.next, to: first - 1 };
        if gap.from > gap.to {
            return None;
        }
        self.lost = self.lost.saturating_add(gap.len());
        self.next = first;
        if let Some(beyond) = &mut self.beyond {
            beyond.drop_range(gap);
        }
        Some(gap)
    }

    /// Returns the held item with this number.
    pub fn get(&self, number: u64) -> Option<&T> {
        if self.held == 0 || number < self.next {
            return None;
        }
        self.beyond.as_ref()?.get(self.next, number)
    }

    /// Returns the held items in order of number, without releasing them. Allocates nothing.
    pub fn held_items(&self) -> HeldItems<'_, T> {
        let (ring, far) = match &self.beyond {
            Some(beyond) if self.held > 0 => (beyond.ring.as_slice(), &beyond.far),
            Some(_) | None => (&[][..], const { &BTreeMap::new() }),
        };
        let near =
            Near { ring, number: self.next, end: self.next.saturating_add(ring.len() as u64) };
        HeldItems { near: near.peekable(), far: far.iter().peekable(), left: self.held }
    }

    /// Returns the gaps before and between the held items, ascending. Allocates nothing.
    pub fn missing(&self) -> impl Iterator<Item = Gap> + '_ {
        let mut expected = self.next;
        self.held_items().filter_map(move |(number, _)| {
            let gap = Gap { from: expected, to: number - 1 };
            expected = number + 1;
            (gap.from <= gap.to).then_some(gap)
        })
    }

    fn shrink(&mut self) {
        let Some(beyond) = &mut self.beyond else {
            return;
        };
        debug_assert!(beyond.far.is_empty());
        if beyond.window > 0 {
            if beyond.ring.len() > beyond.window {
                beyond.ring.truncate(beyond.window);
                beyond.ring.shrink_to_fit();
            }
        } else if beyond.dropped.is_empty() {
            self.beyond = None;
        } else {
            beyond.ring = Vec::new();
        }
    }
}

/// The held items in order of number. Made by [`Sequencer::held_items`].
#[derive(Debug)]
pub struct HeldItems<'a, T> {
    near: Peekable<Near<'a, T>>,
    far: Peekable<alloc::collections::btree_map::Iter<'a, u64, T>>,
    /// How many items are still to come, so that the empty rest of the ring is not searched.
    left: u32,
}

/// Iterates over the slots of the ring in order of number.
#[derive(Debug)]
struct Near<'a, T> {
    ring: &'a [Option<T>],
    number: u64,
    end: u64,
}

impl<'a, T> Iterator for Near<'a, T> {
    type Item = (u64, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        let mask = (self.ring.len() as u64).wrapping_sub(1);
        while self.number < self.end {
            let number = self.number;
            self.number += 1;
            let slot = usize::try_from(number & mask).unwrap_or(usize::MAX);
            if let Some(item) = self.ring.get(slot).and_then(Option::as_ref) {
                return Some((number, item));
            }
        }
        None
    }
}

impl<'a, T> Iterator for HeldItems<'a, T> {
    type Item = (u64, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let far_first = match (self.near.peek(), self.far.peek()) {
            (Some((near, _)), Some((far, _))) => **far < *near,
            (near, _) => near.is_none(),
        };
        if far_first {
            self.far.next().map(|(number, item)| (*number, item))
        } else {
            self.near.next()
        }
    }
}

/// The contents of a sequencer, for a snapshot. Made by [`Sequencer::to_parts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts<T> {
    /// The next number in order.
    pub next: u64,
    /// How many numbers were dropped.
    pub lost: u64,
    /// The remembered dropped ranges, ascending.
    pub dropped: Vec<Gap>,
    /// The highest number ever held.
    pub last: u64,
    /// The held items, ascending.
    pub held: Vec<(u64, T)>,
}

impl<T> Sequencer<T> {
    /// Borrows the contents, for a snapshot. O(held).
    pub fn to_parts(&self) -> Parts<&T> {
        Parts {
            next: self.next,
            lost: self.lost,
            dropped: self.beyond.as_ref().map(|beyond| beyond.dropped.clone()).unwrap_or_default(),
            last: self.last(),
            held: self.held_items().collect(),
        }
    }

    /// Restores a sequencer that behaves like the stored one. `None` when the parts contradict each other,
    /// so that [`Sequencer::to_parts`] cannot have made them.
    pub fn from_parts(parts: Parts<T>, held_max: u32) -> Option<Self> {
        let Parts { next, lost, dropped, last, held } = parts;
        let ranges_ascend = dropped.iter().all(|gap| gap.from <= gap.to && gap.to < next)
            && dropped.is_sorted_by(|a, b| a.to < b.from);
        if next == 0 || dropped.len() > DROPPED_RANGES_MAX || !ranges_ascend {
            return None;
        }
        let mut sequencer = Self { next, lost, ..Self::new(held_max) };
        if !dropped.is_empty() {
            sequencer.beyond = Some(Box::new(Beyond { last, dropped, ..Beyond::new() }));
        }
        for (number, item) in held {
            let known = number < next || number > NUMBER_MAX || sequencer.get(number).is_some();
            if known {
                return None;
            }
            // This includes an item that is ready but has not been popped.
            sequencer.hold(number, item);
        }
        Some(sequencer)
    }
}

#[cfg(test)]
mod tests;
