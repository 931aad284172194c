//! Counts calls between parents, given calls between their children: one tumbling window at a time.
//!
//! Which child belongs to which parent comes as it comes: an addition, a move, before the calls or
//! after them. A call of a child that is not known yet is held with its like (one count for each
//! pair of children), and counted when both are known. What is held when the window closes is
//! unresolved.
//!
//! Ids are 16 bytes from outside and stand at dense places inside. A call between two known children
//! is three looks into hash tables and an addition; nothing is allocated but for a pair that was not
//! there before in this window. Rows stand in the order in which their pairs first came, so no hash
//! order shows anywhere, and a window is closed by taking the rows away: O(1), whatever there is in it.

use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::mem;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize};

mod ids;

use ids::Ids;

/// Names a child or a parent.
pub type Id = [u8; 16];

/// Where a child or a parent stands: dense, from 0, in the order in which they first came.
pub type IdIndex = u32;

/// How much is known and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Children that are known.
    pub children_max: u32,
    /// Parents that are known.
    pub parents_max: u32,
    /// Pairs of parents in a window.
    pub pairs_max: u32,
    /// Pairs of children held in a window, whether they were counted since or not.
    pub held_max: u32,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither of the others.
    Served,
    /// The caller was wrong: 400 to 499.
    Rejected,
    /// The called was wrong: 500 and above.
    Failed,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All calls.
    pub calls: u64,
    /// Those that were rejected.
    pub rejected: u32,
    /// Those that failed.
    pub failed: u32,
}

impl Counts {
    fn add(&mut self, kind: Kind) {
        self.calls += 1;
        match kind {
            Kind::Served => {}
            Kind::Rejected => self.rejected = self.rejected.saturating_add(1),
            Kind::Failed => self.failed = self.failed.saturating_add(1),
        }
    }

    fn add_all(&mut self, other: Self) {
        self.calls += other.calls;
        self.rejected = self.rejected.saturating_add(other.rejected);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

/// The calls from one parent to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Who called.
    pub from: IdIndex,
    /// Who was called.
    pub to: IdIndex,
    /// How often.
    pub counts: Counts,
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// It was not known.
    New,
    /// It belongs to another parent from now on.
    Moved,
    /// It belonged there already.
    Known,
    /// There are as many children as there may be.
    ChildrenFull,
    /// There are as many parents as there may be.
    ParentsFull,
}

/// What became of a call, or of all calls held between two children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is counted.
    Now,
    /// It waits for a child to be known.
    Held,
    /// There are as many pairs as there may be: it is not counted.
    PairsFull,
    /// As many are held as may be: it is not counted.
    HeldFull,
}

/// A window that has closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// What was counted, in the order in which the pairs first came.
    pub rows: Vec<Row>,
    /// Calls of children that were not known in time.
    pub unresolved: u64,
}

/// The calls held between two children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    source: Id,
    destination: Id,
    counts: Counts,
}

/// Counts calls. See the top of this module.
#[derive(Clone, Debug)]
pub struct Tally {
    bounds: Bounds,
    hasher: DefaultHashBuilder,
    parents: Ids,
    children: Ids,
    /// The parent of the child at each place.
    parent_of: Vec<IdIndex>,
    rows: Vec<Row>,
    /// Finds a row by its pair.
    row_of: HashTable<u32>,
    /// What is held, in the order in which it came; `None` once it is counted.
    held: Vec<Option<Held>>,
    /// Finds what is held by its pair.
    held_of: HashTable<u32>,
    /// What waits for a child that is not known, by the child: in the order of `held`.
    waiting: HashTable<(Id, Vec<u32>)>,
    /// Pairs held in this window, counted since or not.
    held_used: u32,
    /// Calls that are held.
    held_calls: u64,
}

impl Tally {
    /// Nothing is known, nothing counted.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            hasher: DefaultHashBuilder::default(),
            parents: Ids::default(),
            children: Ids::default(),
            parent_of: Vec::new(),
            rows: Vec::new(),
            row_of: HashTable::new(),
            held: Vec::new(),
            held_of: HashTable::new(),
            waiting: HashTable::new(),
            held_used: 0,
            held_calls: 0,
        }
    }

    /// Changes the bounds. What is over them already stays.
    pub const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// The parents, each at its place.
    pub fn parents(&self) -> &[Id] {
        self.parents.all()
    }

    /// The children in the order in which they first came, each with the place of its parent.
    pub fn children(&self) -> impl ExactSizeIterator<Item = (&Id, IdIndex)> {
        self.children.all().iter().zip(self.parent_of.iter().copied())
    }

    /// What this window has counted so far, in the order in which the pairs first came.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Calls that wait for a child to be known.
    pub const fn held(&self) -> u64 {
        self.held_calls
    }

    /// Whether this window has neither counted nor held anything.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.held_used == 0
    }

    /// From now on a child belongs to a parent. What was held for it and can be counted now is
    /// counted; `dropped` is told of calls for which there is no room. O(1), and O(1) for each pair of
    /// children that waited for it.
    pub fn learn(&mut self, child: Id, parent: Id, dropped: &mut impl FnMut(u64)) -> Learnt {
        let hasher = &self.hasher;
        let known = self.children.find(hasher, &child);
        if known.is_none() && self.children.len() >= self.bounds.children_max {
            return Learnt::ChildrenFull;
        }
        let Some(parent) = self.parents.find_or_add(hasher, parent, self.bounds.parents_max) else {
            return Learnt::ParentsFull;
        };
        if let Some(place) = known {
            let Some(before) = self.parent_of.get_mut(place as usize) else { return Learnt::Known };
            return if mem::replace(before, parent) == parent {
                Learnt::Known
            } else {
                Learnt::Moved
            };
        }
        self.children.find_or_add(hasher, child, self.bounds.children_max);
        self.parent_of.push(parent);
        self.release(&child, dropped);
        Learnt::New
    }

    /// Counts a call. O(1); allocates only for a pair that was not there before.
    #[inline]
    pub fn count(&mut self, source: &Id, destination: &Id, kind: Kind) -> Counted {
        let (from, to) = (self.parent(source), self.parent(destination));
        if let (Some(from), Some(to)) = (from, to) {
            let mut counts = Counts::default();
            counts.add(kind);
            return self.add(from, to, counts);
        }
        self.hold(*source, *destination, kind)
    }

    /// Closes the window: the next one is empty. O(1) but for giving memory back.
    pub fn close(&mut self) -> Closed {
        let rows = mem::take(&mut self.rows);
        // As many pairs are to be expected again.
        self.row_of.clear();
        if self.row_of.capacity() > 4 * rows.len().max(1024) {
            self.row_of = HashTable::new();
        }
        let unresolved = mem::take(&mut self.held_calls);
        (self.held, self.held_of, self.waiting) = (Vec::new(), HashTable::new(), HashTable::new());
        self.held_used = 0;
        Closed { rows, unresolved }
    }

    #[inline]
    fn parent(&self, child: &Id) -> Option<IdIndex> {
        let place = self.children.find(&self.hasher, child)?;
        self.parent_of.get(place as usize).copied()
    }

    #[inline]
    fn add(&mut self, from: IdIndex, to: IdIndex, counts: Counts) -> Counted {
        let (hasher, rows) = (&self.hasher, &mut self.rows);
        let hash = hasher.hash_one((from, to));
        let is_it =
            |row: &u32| rows.get(*row as usize).is_some_and(|row| row.from == from && row.to == to);
        if let Some(row) = self.row_of.find(hash, is_it) {
            if let Some(row) = rows.get_mut(*row as usize) {
                row.counts.add_all(counts);
            }
            return Counted::Now;
        }
        let row = u32::try_from(rows.len()).ok().filter(|row| *row < self.bounds.pairs_max);
        let Some(row) = row else { return Counted::PairsFull };
        let rehash = |row: &u32| {
            rows.get(*row as usize).map_or(0, |row| hasher.hash_one((row.from, row.to)))
        };
        self.row_of.insert_unique(hash, row, rehash);
        rows.push(Row { from, to, counts });
        Counted::Now
    }

    #[cold]
    fn hold(&mut self, source: Id, destination: Id, kind: Kind) -> Counted {
        let hasher = &self.hasher;
        let hash = hasher.hash_one((source, destination));
        let held = &mut self.held;
        let is_it = |at: &u32| {
            let held = held.get(*at as usize).and_then(Option::as_ref);
            held.is_some_and(|held| held.source == source && held.destination == destination)
        };
        if let Some(at) = self.held_of.find(hash, is_it) {
            if let Some(Some(held)) = held.get_mut(*at as usize) {
                held.counts.add(kind);
            }
            self.held_calls += 1;
            return Counted::Held;
        }
        if self.held_used >= self.bounds.held_max {
            return Counted::HeldFull;
        }
        let mut counts = Counts::default();
        counts.add(kind);
        self.held_used += 1;
        self.put_held(Held { source, destination, counts });
        Counted::Held
    }

    /// Adds what is held between two children of which one at least is not known.
    fn put_held(&mut self, new: Held) {
        let Self { hasher, held, held_of, waiting, children, .. } = self;
        let at = u32::try_from(held.len()).unwrap_or(u32::MAX);
        self.held_calls += new.counts.calls;
        held.push(Some(new));
        let rehash = |at: &u32| {
            let held = held.get(*at as usize).and_then(Option::as_ref);
            held.map_or(0, |held| hasher.hash_one((held.source, held.destination)))
        };
        held_of.insert_unique(hasher.hash_one((new.source, new.destination)), at, rehash);
        let ends = [new.source, new.destination];
        // A child that calls itself waits for itself once.
        let ends = if new.source == new.destination { ends.get(..1) } else { ends.get(..) };
        for child in ends.unwrap_or_default() {
            if children.find(hasher, child).is_some() {
                continue;
            }
            let hash = hasher.hash_one(child);
            if let Some((_, list)) = waiting.find_mut(hash, |(other, _)| other == child) {
                list.push(at);
            } else {
                let list = [at].into();
                waiting.insert_unique(hash, (*child, list), |(id, _)| hasher.hash_one(id));
            }
        }
    }

    /// A child is known now: counts what waited for it, unless it waits for another one too.
    fn release(&mut self, child: &Id, dropped: &mut impl FnMut(u64)) {
        let hash = self.hasher.hash_one(child);
        let Ok(entry) = self.waiting.find_entry(hash, |(other, _)| other == child) else { return };
        let ((_, list), _) = entry.remove();
        for at in list {
            let Some(Some(held)) = self.held.get(at as usize).copied() else { continue };
            let ends = (self.parent(&held.source), self.parent(&held.destination));
            let (Some(from), Some(to)) = ends else { continue };
            let hash = self.hasher.hash_one((held.source, held.destination));
            if let Ok(entry) = self.held_of.find_entry(hash, |other| *other == at) {
                entry.remove();
            }
            if let Some(place) = self.held.get_mut(at as usize) {
                *place = None;
            }
            self.held_calls -= held.counts.calls;
            if self.add(from, to, held.counts) == Counted::PairsFull {
                dropped(held.counts.calls);
            }
        }
    }
}

/// A tally taken apart, to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    parents: Vec<Id>,
    children: Vec<(Id, IdIndex)>,
    rows: Vec<Row>,
    held: Vec<Held>,
    held_used: u32,
}

impl Tally {
    /// Takes a copy apart. O(all there is).
    pub fn to_parts(&self) -> Parts {
        Parts {
            parents: self.parents.all().to_vec(),
            children: self.children().map(|(child, parent)| (*child, parent)).collect(),
            rows: self.rows.clone(),
            held: self.held.iter().flatten().copied().collect(),
            held_used: self.held_used,
        }
    }

    /// Puts one together again that behaves as the one taken apart did. `None` when the parts
    /// contradict each other: they were not made by [`Tally::to_parts`].
    pub fn from_parts(parts: Parts, bounds: Bounds) -> Option<Self> {
        let full = u32::MAX;
        let all = Bounds { children_max: full, parents_max: full, pairs_max: full, held_max: full };
        let mut tally = Self::new(all);
        let parents = parts.parents.len();
        for (place, parent) in parts.parents.into_iter().enumerate() {
            let stands = tally.parents.find_or_add(&tally.hasher, parent, full)?;
            (stands as usize == place).then_some(())?;
        }
        for (place, (child, parent)) in parts.children.into_iter().enumerate() {
            let stands = tally.children.find_or_add(&tally.hasher, child, full)?;
            (stands as usize == place && (parent as usize) < parents).then_some(())?;
            tally.parent_of.push(parent);
        }
        for Row { from, to, counts } in parts.rows {
            let before = tally.rows.len();
            tally.add(from, to, counts);
            let is_new = tally.rows.len() > before;
            (is_new && from.max(to) < u32::try_from(parents).ok()?).then_some(())?;
        }
        for held in parts.held {
            let known =
                tally.parent(&held.source).is_some() && tally.parent(&held.destination).is_some();
            let hash = tally.hasher.hash_one((held.source, held.destination));
            let is_it = |at: &u32| {
                let other = tally.held.get(*at as usize).and_then(Option::as_ref);
                other.is_some_and(|other| {
                    (other.source, other.destination) == (held.source, held.destination)
                })
            };
            (!known && tally.held_of.find(hash, is_it).is_none()).then_some(())?;
            tally.held_calls.checked_add(held.counts.calls)?;
            tally.put_held(held);
        }
        (parts.held_used as usize >= tally.held.len()).then_some(())?;
        tally.held_used = parts.held_used;
        tally.bounds = bounds;
        Some(tally)
    }
}

#[cfg(test)]
mod tests;
