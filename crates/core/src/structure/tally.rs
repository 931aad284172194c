//! Counts calls between parents, given calls between their children: one tumbling window at a time.
//!
//! Which child belongs to which parent can arrive at any time, before or after the calls, and can change. A
//! call of an unknown child is held (as one count for each pair of children) and counted when both children
//! are known. What is still held when the window closes is unresolved.
//!
//! Ids have 16 bytes outside and a dense index inside. Counting a call between two known children takes
//! three hash-table lookups and an addition; only a pair that is new in this window allocates. Rows are in
//! the order in which their pairs first appeared, so hash order is never exposed. Closing a window moves
//! the rows out: O(1), whatever it contains.

use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::mem;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize};

mod ids;

use ids::Ids;

/// Identifies a child or a parent.
pub type Id = [u8; 16];

/// The index of a child or a parent: dense, from 0, in order of first appearance.
pub type IdIndex = u32;

/// The bounds of a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most children.
    pub children_max: u32,
    /// The most parents.
    pub parents_max: u32,
    /// The most pairs of parents in a window.
    pub pairs_max: u32,
    /// The most pairs of children that a window ever held, whether they have been counted since or not.
    pub held_max: u32,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither rejected nor failed.
    Served,
    /// The caller's fault: 400 to 499.
    Rejected,
    /// The callee's fault: 500 and above.
    Failed,
}

/// Numbers of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All calls.
    pub calls: u64,
    /// Rejected calls.
    pub rejected: u32,
    /// Failed calls.
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
    /// The caller.
    pub from: IdIndex,
    /// The callee.
    pub to: IdIndex,
    /// The numbers of calls.
    pub counts: Counts,
}

/// The result of learning the parent of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// The child was unknown.
    New,
    /// The child belongs to another parent from now on.
    Moved,
    /// The child belonged to that parent already.
    Known,
    /// Rejected: the bound on children is reached.
    ChildrenFull,
    /// Rejected: the bound on parents is reached.
    ParentsFull,
}

/// The result of counting a call, or all calls held between two children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is counted.
    Now,
    /// It is held until both children are known.
    Held,
    /// The bound on pairs is reached: it is not counted.
    PairsFull,
    /// The bound on held pairs is reached: it is not counted.
    HeldFull,
}

/// A closed window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// The counts, in the order in which the pairs first appeared.
    pub rows: Vec<Row>,
    /// Calls of children that did not become known in time.
    pub unresolved: u64,
}

/// The calls held between two children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    source: Id,
    destination: Id,
    counts: Counts,
}

/// Counts calls. See the documentation of this module.
#[derive(Clone, Debug)]
pub struct Tally {
    bounds: Bounds,
    hasher: DefaultHashBuilder,
    parents: Ids,
    children: Ids,
    /// The parent of the child at each index.
    parent_of: Vec<IdIndex>,
    rows: Vec<Row>,
    /// Maps a pair of parents to its row.
    row_of: HashTable<u32>,
    /// Held calls in order of arrival; `None` once they are counted.
    held: Vec<Option<Held>>,
    /// Maps a pair of children to its held calls.
    held_of: HashTable<u32>,
    /// Maps an unknown child to the held calls that wait for it, in the order of `held`.
    waiting: HashTable<(Id, Vec<u32>)>,
    /// Pairs held in this window, counted since or not.
    held_used: u32,
    /// Calls that are held.
    held_calls: u64,
}

impl Tally {
    /// Returns a tally that knows and counts nothing.
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

    /// Changes the bounds. What already exceeds them stays.
    pub const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Returns the parents, by index.
    pub fn parents(&self) -> &[Id] {
        self.parents.all()
    }

    /// Returns the children in order of first appearance, each with the index of its parent.
    pub fn children(&self) -> impl ExactSizeIterator<Item = (&Id, IdIndex)> {
        self.children.all().iter().zip(self.parent_of.iter().copied())
    }

    /// Returns the counts of this window so far, in the order in which the pairs first appeared.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns how many calls wait for a child to become known.
    pub const fn held(&self) -> u64 {
        self.held_calls
    }

    /// Returns whether this window has neither counted nor held anything.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.held_used == 0
    }

    /// Records that a child belongs to a parent. Held calls that can now be counted are counted; `dropped`
    /// is called with the number of calls for which there is no room. O(1), plus O(1) for each pair of
    /// children that waited for this child.
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

    /// Counts a call. O(1); allocates only for a new pair.
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

    /// Closes the window and starts an empty one. O(1), apart from freeing memory.
    pub fn close(&mut self) -> Closed {
        let rows = mem::take(&mut self.rows);
        // Keep the table: the next window will probably have as many pairs.
        self.row_of.clear();
        if self.row_of.capacity() > 4 * rows.len().max(1024) {
            self.row_of = HashTable::new();
        }
        let unresolved = mem::take(&mut self.held_calls);
        self.held = Vec::new();
        self.held_of = HashTable::new();
        self.waiting = HashTable::new();
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
        let hasher = &self.hasher;
        let rows = &mut self.rows;
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

    /// Holds calls between two children, at least one of which is unknown.
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
        // A child that calls itself must be listed once, or its calls would be counted twice.
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

    /// Counts the calls that waited for a child that is now known, unless they wait for another child too.
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

/// The contents of a tally, for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    parents: Vec<Id>,
    children: Vec<(Id, IdIndex)>,
    rows: Vec<Row>,
    held: Vec<Held>,
    held_used: u32,
}

impl Tally {
    /// Copies the contents, for a snapshot. O(everything).
    pub fn to_parts(&self) -> Parts {
        Parts {
            parents: self.parents.all().to_vec(),
            children: self.children().map(|(child, parent)| (*child, parent)).collect(),
            rows: self.rows.clone(),
            held: self.held.iter().flatten().copied().collect(),
            held_used: self.held_used,
        }
    }

    /// Restores a tally that behaves like the stored one. `None` when the parts contradict each other, so
    /// that [`Tally::to_parts`] cannot have made them.
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
