//! A hierarchical timing wheel: reports which of many items are due, at O(1) per item, however far away
//! their times are.
//!
//! The wheel owns no item. It threads its lists through a [`Link`] in each item, so adding and removing
//! allocate nothing. Time is counted in ticks of `2^shift` ms. An item is reported in the first tick that
//! begins when it is due or later, never before. A caller that needs millisecond precision compares times
//! itself; the wheel makes sure that nothing stays forgotten.
//!
//! There are six levels of 64 lists each, and beyond them (2^36 ticks) one list for the rest. An item is at
//! the level of the highest base-64 digit in which its tick differs from the current one. When the wheel
//! reaches a list, its items are reported or move to a lower level, one by one: a step is O(1), and the
//! caller decides how many steps to take at once. (Varghese and Lauck, "Hashed and Hierarchical Timing
//! Wheels", 1987.)
//!
//! Items of one list are reported in the order in which they were added. The list of an item depends only
//! on its time and on [`Wheel::position`], so a snapshot consists of the items, list by list
//! ([`Wheel::iter`]), and the position.

use alloc::boxed::Box;
use alloc::vec;

use serde::{Deserialize, Serialize};

use super::slab::NOWHERE;

const LEVELS: usize = 6;
/// Bits in a digit.
const DIGIT: usize = 6;
/// Lists in a level.
const SLOTS: usize = 1 << DIGIT;
/// Items beyond all levels are in one of two lists, for even and odd rounds: while one is being emptied, the
/// other one is filled.
const FAR: usize = LEVELS * SLOTS;
const LISTS: usize = FAR + 2;

/// The part of the wheel that each item carries.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    before: u32,
    behind: u32,
    /// The list that the item is in; [`LISTS`] means none.
    list: u16,
}

impl Default for Link {
    fn default() -> Self {
        Self { before: NOWHERE, behind: NOWHERE, list: NO_LIST }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "386")]
const NO_LIST: u16 = LISTS as u16;

/// Access to the items of a wheel. Each has a 32-bit slot, and `u32::MAX` is never one.
pub trait Items {
    /// Returns the link of the item in a slot.
    fn link(&self, place: u32) -> Option<&Link>;
    /// Returns the link of the item in a slot, mutably.
    fn link_mut(&mut self, place: u32) -> Option<&mut Link>;
    /// Returns when the item is due, in milliseconds. Must not change while the item is on the wheel.
    fn due(&self, place: u32) -> u64;
}

/// A timing wheel. See the documentation of this module.
#[derive(Clone, Debug)]
pub struct Wheel {
    /// A tick is `2^shift` milliseconds.
    shift: u32,
    position: Position,
    lists: Box<[List]>,
    /// Which lists of each level have items, as a bit set. Excludes the list that is being emptied.
    occupied: [u64; LEVELS],
    items: u32,
}

/// How far a wheel has advanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The current tick: every item before it has been reported.
    reached: u64,
    /// The list of that tick, while it is being emptied.
    emptying: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NOWHERE, last: NOWHERE };

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a due item is no longer on the wheel"]
pub enum Step {
    /// The item in this slot is due, and no longer on the wheel.
    Due(u32),
    /// An item moved to a lower level.
    Moved,
    /// Nothing is due.
    Nothing,
}

impl Wheel {
    /// Returns an empty wheel with ticks of `2^shift` milliseconds, `shift` from 1 to 31. Allocates 3 KiB.
    pub fn new(shift: u32) -> Self {
        Self {
            shift: shift.clamp(1, 31),
            position: Position::default(),
            lists: vec![EMPTY; LISTS].into_boxed_slice(),
            occupied: [0; LEVELS],
            items: 0,
        }
    }

    /// Returns how many items are on the wheel.
    pub const fn len(&self) -> u32 {
        self.items
    }

    /// Returns whether no item is on the wheel.
    pub const fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Returns how far the wheel has advanced.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Returns the first tick that does not begin before `due`, or the last one there is.
    const fn tick(&self, due: u64) -> u64 {
        let tick = due.div_ceil(1 << self.shift);
        let last = u64::MAX >> self.shift;
        if tick < last { tick } else { last }
    }

    /// Returns the list for an item with this tick.
    #[inline]
    fn list_of(&self, tick: u64) -> usize {
        let reached = self.position.reached;
        let tick = tick.max(reached + 1);
        let highest = 63 - (tick ^ reached).leading_zeros() as usize;
        let level = highest / DIGIT;
        if level < LEVELS {
            level * SLOTS + digit(tick, level)
        } else {
            FAR + usize::from(round(reached) % 2 == 1)
        }
    }

    /// Returns the tick at which the next non-empty list begins, and the list.
    fn next_list(&self) -> Option<(u64, usize)> {
        let reached = self.position.reached;
        // All lists of a level begin before any list of a higher one, so the first level with items decides.
        for (level, occupied) in self.occupied.iter().enumerate() {
            if *occupied != 0 {
                let slot = occupied.trailing_zeros() as usize;
                let above = reached >> (DIGIT * (level + 1)) << (DIGIT * (level + 1));
                return Some((above | (slot as u64) << (DIGIT * level), level * SLOTS + slot));
            }
        }
        let far = FAR + usize::from(round(reached) % 2 == 1);
        self.lists.get(far).filter(|list| list.first != NOWHERE)?;
        Some(((round(reached) + 1) << (DIGIT * LEVELS), far))
    }

    fn emptying(&self) -> Option<(usize, u32)> {
        let list = usize::from(self.position.emptying?);
        self.lists.get(list).map(|ends| (list, ends.first)).filter(|(_, first)| *first != NOWHERE)
    }

    /// Returns when there is something to do, in milliseconds: an item is due, or must move to a lower
    /// level. O(1).
    pub fn next_deadline(&self) -> Option<u64> {
        let tick = match self.emptying() {
            Some(_) => self.position.reached,
            None => self.next_list()?.0,
        };
        Some(tick.saturating_mul(1 << self.shift))
    }

    /// Adds an item at time `now`. An item that is already due is reported in the next tick. O(1).
    #[inline]
    pub fn insert(&mut self, now: u64, items: &mut impl Items, place: u32) {
        let now = now >> self.shift;
        if now > self.position.reached {
            self.skip_to(now);
        }
        let list = self.list_of(self.tick(items.due(place)));
        self.append(items, place, list);
        self.items += 1;
    }

    /// Advances over ticks without any work, so that new items are added at the lowest possible level.
    fn skip_to(&mut self, tick: u64) {
        if self.emptying().is_none() && self.next_list().is_none_or(|(next, _)| next > tick) {
            self.position = Position { reached: tick, emptying: None };
        }
    }

    /// Removes an item that is on the wheel. O(1).
    #[inline]
    pub fn remove(&mut self, items: &mut impl Items, place: u32) {
        self.unlink(items, place);
        self.items -= 1;
    }

    /// Records that an item on the wheel has moved to another slot. O(1).
    pub fn relocate(&mut self, items: &mut impl Items, from: u32, to: u32) {
        let Some(Link { before, behind, list }) = items.link(to).copied() else {
            return;
        };
        let Some(ends) = self.lists.get_mut(usize::from(list)) else {
            return;
        };
        match items.link_mut(before) {
            Some(before) => before.behind = to,
            None => ends.first = to,
        }
        match items.link_mut(behind) {
            Some(behind) => behind.before = to,
            None => ends.last = to,
        }
        debug_assert!(from != to);
    }

    /// Performs one unit of work that is due at `now`: reports an item, or moves one to a lower level. When
    /// this returns [`Step::Nothing`], every due item has been reported. O(1).
    pub fn step(&mut self, now: u64, items: &mut impl Items) -> Step {
        let Some((_, place)) = self.emptying().or_else(|| self.reach(now >> self.shift)) else {
            return Step::Nothing;
        };
        self.unlink(items, place);
        let tick = self.tick(items.due(place));
        if tick <= self.position.reached {
            self.items -= 1;
            return Step::Due(place);
        }
        let list = self.list_of(tick);
        self.append(items, place, list);
        Step::Moved
    }

    /// Starts to empty the next list that is due.
    fn reach(&mut self, now: u64) -> Option<(usize, u32)> {
        match self.next_list() {
            Some((tick, list)) if tick <= now => {
                let emptying = u16::try_from(list).ok();
                self.position = Position { reached: tick, emptying };
                self.vacate(list);
                self.emptying()
            }
            Some(_) | None => {
                let reached = self.position.reached.max(now);
                self.position = Position { reached, emptying: None };
                None
            }
        }
    }

    fn occupy(&mut self, list: usize) {
        if let Some(occupied) = self.occupied.get_mut(list / SLOTS) {
            *occupied |= 1 << (list % SLOTS);
        }
    }

    fn vacate(&mut self, list: usize) {
        if let Some(occupied) = self.occupied.get_mut(list / SLOTS) {
            *occupied &= !(1 << (list % SLOTS));
        }
    }

    #[inline]
    fn append(&mut self, items: &mut impl Items, place: u32, list: usize) {
        let Some(ends) = self.lists.get_mut(list) else {
            debug_assert!(false, "there are {LISTS} lists");
            return;
        };
        let before = core::mem::replace(&mut ends.last, place);
        match items.link_mut(before) {
            Some(before) => before.behind = place,
            None => ends.first = place,
        }
        if let Some(link) = items.link_mut(place) {
            let list = u16::try_from(list).unwrap_or(NO_LIST);
            *link = Link { before, behind: NOWHERE, list };
        }
        self.occupy(list);
    }

    #[inline]
    fn unlink(&mut self, items: &mut impl Items, place: u32) {
        let Some(Link { before, behind, list }) = items.link_mut(place).map(core::mem::take) else {
            return;
        };
        let list = usize::from(list);
        let Some(ends) = self.lists.get_mut(list) else {
            debug_assert!(false, "only an item on the wheel is removed");
            return;
        };
        match items.link_mut(before) {
            Some(before) => before.behind = behind,
            None => ends.first = behind,
        }
        match items.link_mut(behind) {
            Some(behind) => behind.before = before,
            None => ends.last = before,
        }
        if ends.first == NOWHERE {
            self.vacate(list);
        }
    }

    /// Returns the slots of all items, list by list, and whether each is in the list that is being emptied.
    /// Items added in this order to a [`Wheel::at`] the same position are reported in the same order as
    /// here.
    pub fn iter(
        &self,
        link: impl Fn(u32) -> Option<Link> + Copy,
    ) -> impl Iterator<Item = (u32, bool)> {
        let emptying = self.position.emptying;
        (0..NO_LIST).zip(&self.lists).flat_map(move |(list, ends)| {
            let behind = move |place: &u32| link(*place).map(|link| link.behind);
            let walk = core::iter::successors(Some(ends.first), behind);
            let walk = walk.take_while(|place| *place != NOWHERE);
            walk.map(move |place| (place, Some(list) == emptying))
        })
    }

    /// Returns an empty wheel at a position, or `None` for an impossible position.
    pub fn at(shift: u32, position: Position) -> Option<Self> {
        let mut wheel = Self::new(shift);
        let reached = position.reached;
        let possible = position.emptying.is_none_or(|list| {
            let list = usize::from(list);
            match list.checked_sub(FAR) {
                None => list % SLOTS == digit(reached, list / SLOTS),
                Some(parity) => parity < 2 && round(reached) % 2 != parity as u64,
            }
        });
        (possible && reached <= u64::MAX >> wheel.shift).then(|| {
            wheel.position = position;
            wheel
        })
    }

    /// Adds an item to a wheel that is being restored, in the order of [`Wheel::iter`]. Returns whether the
    /// item can have been there.
    pub fn restore_item(&mut self, items: &mut impl Items, place: u32, emptying: bool) -> bool {
        let list = if emptying {
            self.position.emptying.map(usize::from)
        } else {
            Some(self.list_of(self.tick(items.due(place))))
        };
        let Some(list) = list else { return false };
        self.append(items, place, list);
        if emptying {
            self.vacate(list);
        }
        self.items += 1;
        true
    }
}

/// Returns a base-64 digit of a tick.
#[expect(clippy::cast_possible_truncation, reason = "below 64")]
const fn digit(tick: u64, level: usize) -> usize {
    ((tick >> (DIGIT * level)) % SLOTS as u64) as usize
}

/// Returns how often all levels have wrapped around.
const fn round(tick: u64) -> u64 {
    tick >> (DIGIT * LEVELS)
}

#[cfg(test)]
mod tests;
