//! The last N values that arrived, distinct by id, first in first out: for example what a peer remembers of
//! the messages it has seen, or a service of the requests it has answered.
//!
//! Values are in a slab, linked in order of arrival (`ring.rs`). Fixed buckets find a value by its id
//! (`index.rs`). Both are allocated once: adding never grows anything and removing leaves no tombstone, so
//! no operation ever pauses to clean up. Only the order of arrival decides what is dropped and how values
//! are listed; the order of hashes is never exposed.
//! ```
//! use core::num::NonZeroU32;
//! use tidings_core::structure::tracker::{Inserted, Message, Tracker};
//!
//! let message = |id: &str, peer: &str| Message::new(id, peer, "data");
//! // The seed comes from outside: core draws no random numbers.
//! let mut tracker = Tracker::new(NonZeroU32::new(2).unwrap(), 0x5eed);
//! assert_eq!(tracker.insert(message("a", "peer")), Inserted::New);
//! assert_eq!(tracker.insert(message("b", "peer")), Inserted::New);
//! let again = message("a", "another peer");
//! assert_eq!(tracker.insert(again.clone()), Inserted::Duplicate(again));
//! assert_eq!(tracker.insert(message("c", "peer")), Inserted::Evicted(message("a", "peer")));
//! assert!(tracker.iter().map(|message| &*message.id).eq([b"b", b"c"]));
//! ```

use alloc::boxed::Box;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

mod hash;
mod index;
mod iter;
mod line;
mod relays;
mod ring;

pub use hash::{Folded, FoldedHasher, Sip, Trusting, TrustingHasher};
pub use index::Hashed;
pub use iter::Iter;
pub use relays::{Relayed, Relays};

use index::Index;
use ring::Ring;

/// A link to nowhere. No slot has this number: there are at most `u32::MAX` slots, from 0.
const NONE: u32 = u32::MAX;

/// How many values [`Tracker::insert_batch`] prefetches for before it adds the first of them.
const BATCH: usize = 16;

/// A slab of at most this many bytes stays in the CPU caches, so that prefetching gains nothing.
const CACHED_BYTES: usize = 8 << 20;

/// A value with an id. The id must not change while the value is tracked: a value whose id changed is no
/// longer found, and leaves when it has become the oldest.
pub trait Tracked {
    /// Distinguishes two values.
    type Id: ?Sized + Eq + Hash;

    /// Returns the id. Must be O(1).
    fn id(&self) -> &Self::Id;
}

/// A message that peers relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Identifies the message, whichever peer relays it.
    pub id: Box<[u8]>,
    /// The first peer that relayed it.
    pub peer_id: Box<[u8]>,
    /// The content.
    pub data: Box<[u8]>,
}

impl Message {
    /// Copies the id, the peer and the content into a message.
    pub fn new(id: impl AsRef<[u8]>, peer_id: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        Self {
            id: id.as_ref().into(),
            peer_id: peer_id.as_ref().into(),
            data: data.as_ref().into(),
        }
    }
}

impl Tracked for Message {
    type Id = [u8];

    fn id(&self) -> &[u8] {
        &self.id
    }
}

/// The result of adding a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a value that is not kept is returned to the caller"]
pub enum Inserted<T> {
    /// The value is tracked.
    New,
    /// The value is tracked, and the oldest value, returned here, was evicted for it.
    Evicted(T),
    /// A value with this id is tracked already and stays. The rejected value is returned.
    Duplicate(T),
}

/// No message with that id is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message not found")]
pub struct NotFound;

/// Where a value is for as long as it is tracked. No other value ever has the same place, until four billion
/// others have been in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    slot: u32,
    /// How many values had been in this slot before, wrapping.
    tenancy: u32,
}

/// Counters of a tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many values are tracked.
    pub len: u32,
    /// How many values may be tracked.
    pub capacity: u32,
    /// How many values were added, ever.
    pub inserted: u64,
    /// How many values were evicted to make room, ever.
    pub evicted: u64,
    /// How many values were rejected because their id was tracked already, ever.
    pub duplicates: u64,
    /// The most buckets ever tried to find room for a value: below ten with a good hash. A high number
    /// means that somebody chooses ids that collide. Depends on the seed, so it must not affect a reply.
    pub probe_longest: u32,
    /// The memory of slab and index, without what the values own themselves.
    pub bytes: usize,
}

/// The slot for a value that is being added.
enum Claim {
    /// Its id is tracked, in this slot.
    Known(u32),
    /// This slot was claimed for it, and is now the newest.
    Claimed(u32),
}

/// The last N distinct values that arrived. See the documentation of this module.
#[derive(Clone)]
pub struct Tracker<T, S = Folded> {
    /// The values, in order of arrival.
    ring: Ring<T>,
    /// Maps a hash to slots of the ring.
    index: Index,
    hasher: S,
    inserted: u64,
    evicted: u64,
    duplicates: u64,
}

impl<T: Tracked> Tracker<T> {
    /// Returns an empty tracker for at most `capacity` values, with the fast keyed hash. Draw the seed at
    /// random for each tracker, and keep it secret from whoever chooses ids.
    ///
    /// See [`Tracker::with_hasher`] for what it costs.
    pub fn new(capacity: NonZeroU32, seed: u64) -> Self {
        Self::with_hasher(capacity, Folded::new(seed))
    }
}

impl<T: Tracked, S: BuildHasher> Tracker<T, S> {
    /// Returns an empty tracker for at most `capacity` values. O(capacity): allocates and initialises all
    /// the memory it will ever have, 27 bytes plus the size of a value (rounded up) for each.
    ///
    /// # Panics
    /// When that exceeds the maximum size of an allocation.
    pub fn with_hasher(capacity: NonZeroU32, hasher: S) -> Self {
        Self {
            ring: Ring::new(capacity),
            index: Index::new(capacity),
            hasher,
            inserted: 0,
            evicted: 0,
            duplicates: 0,
        }
    }

    /// Returns the hash of an id, for [`Tracker::insert_hashed`]. To hash outside a lock, use a clone of
    /// [`Tracker::hasher`].
    pub fn hash(&self, id: &T::Id) -> Hashed {
        Hashed::of(&self.hasher, id)
    }

    /// Returns the hasher of ids.
    pub const fn hasher(&self) -> &S {
        &self.hasher
    }

    /// Adds a value, unless its id is tracked already. A full tracker evicts the oldest value. O(1),
    /// allocates nothing.
    #[inline]
    pub fn insert(&mut self, value: T) -> Inserted<T> {
        let hashed = self.hash(value.id());
        self.insert_hashed(hashed, value)
    }

    /// [`Tracker::insert`] with a precomputed hash, from [`Tracker::hash`] or [`Hashed::of`] with the same
    /// hasher. With a wrong hash the value is stored as if it had another id; nothing else breaks.
    #[inline]
    pub fn insert_hashed(&mut self, hashed: Hashed, value: T) -> Inserted<T> {
        match self.find_or_claim(hashed, value.id()) {
            Claim::Known(_) => Inserted::Duplicate(value),
            Claim::Claimed(slot) => self.settle(slot, value),
        }
    }

    /// [`Tracker::insert`], which also returns the place of the value with that id, for [`Relays`].
    #[inline]
    pub fn insert_placed(&mut self, value: T) -> (Inserted<T>, Place) {
        let hashed = self.hash(value.id());
        match self.find_or_claim(hashed, value.id()) {
            Claim::Known(slot) => (Inserted::Duplicate(value), self.ring.place(slot)),
            Claim::Claimed(slot) => (self.settle(slot, value), self.ring.place(slot)),
        }
    }

    /// The first half of adding a value. Separate, so that the value itself is moved only once.
    #[inline]
    fn find_or_claim(&mut self, hashed: Hashed, id: &T::Id) -> Claim {
        if let Some(slot) = self.find(hashed, id) {
            self.duplicates += 1;
            return Claim::Known(slot);
        }
        self.inserted += 1;
        let slot = if self.ring.is_full() {
            self.evicted += 1;
            let (slot, before) = self.ring.rotate(hashed);
            let was_there = self.index.remove(before, slot);
            debug_assert!(was_there, "what is tracked can be found");
            self.prefetch_victim();
            slot
        } else {
            self.ring.append(hashed)
        };
        self.index.insert(hashed, slot);
        Claim::Claimed(slot)
    }

    /// Prefetches the bucket of the value that will be the oldest after two more evictions: by then it has
    /// arrived. One eviction ahead is too late, and more than two gain nothing.
    #[inline]
    fn prefetch_victim(&self) {
        if self.ring.bytes() > CACHED_BYTES
            && let Some(oldest) = self.ring.links(self.ring.oldest())
            && let Some(second) = self.ring.links(oldest.next)
            && let Some(third) = self.ring.links(second.next)
        {
            self.index.prefetch(third.hashed);
        }
    }

    /// The second half of adding a value.
    #[inline]
    fn settle(&mut self, slot: u32, value: T) -> Inserted<T> {
        self.ring.settle(slot, value).map_or(Inserted::New, Inserted::Evicted)
    }

    /// Adds many values in order, as [`Tracker::insert`] would, and calls `became` with each result. Faster
    /// than adding them one by one if the tracker exceeds the CPU caches, because the cache misses of
    /// several values overlap. Allocates nothing.
    pub fn insert_batch(
        &mut self,
        values: impl IntoIterator<Item = T>,
        mut became: impl FnMut(Inserted<T>),
    ) {
        let mut values = values.into_iter();
        if self.ring.bytes() <= CACHED_BYTES {
            values.for_each(|value| became(self.insert(value)));
            return;
        }
        loop {
            let mut batch: [Option<(Hashed, T)>; BATCH] =
                core::array::from_fn(|_| values.next().map(|value| (self.hash(value.id()), value)));
            let last = batch.last().is_none_or(Option::is_none);
            self.warm(&batch);
            for (hashed, value) in batch.iter_mut().filter_map(Option::take) {
                became(self.insert_hashed(hashed, value));
            }
            if last {
                return;
            }
        }
    }

    /// Prefetches what adding these values will read: their buckets and those of the oldest values, then the
    /// slots in which they may be found.
    fn warm(&self, batch: &[Option<(Hashed, T)>; BATCH]) {
        let mut oldest = self.ring.oldest();
        for (hashed, _) in batch.iter().flatten() {
            self.index.prefetch(*hashed);
            if self.ring.is_full()
                && let Some(links) = self.ring.links(oldest)
            {
                self.index.prefetch(links.hashed);
                oldest = links.next;
            }
        }
        for (hashed, _) in batch.iter().flatten() {
            if let Some(value) = self.index.first(*hashed).and_then(|slot| self.ring.value(slot)) {
                line::prefetch(value);
            }
        }
    }

    /// Returns the value with this id. O(1).
    ///
    /// # Errors
    /// [`NotFound`] when no value has this id.
    pub fn get(&self, id: &T::Id) -> Result<&T, NotFound> {
        let slot = self.find(self.hash(id), id).ok_or(NotFound)?;
        self.ring.value(slot).ok_or(NotFound)
    }

    /// Returns whether a value with this id is tracked. O(1).
    pub fn contains(&self, id: &T::Id) -> bool {
        self.find(self.hash(id), id).is_some()
    }

    /// Returns the place of the value with this id, for [`Relays`]. O(1).
    ///
    /// # Errors
    /// [`NotFound`] when no value has this id.
    pub fn place(&self, id: &T::Id) -> Result<Place, NotFound> {
        self.find(self.hash(id), id).map(|slot| self.ring.place(slot)).ok_or(NotFound)
    }

    /// Removes the value with this id. If it is added again, it is the newest. O(1).
    ///
    /// # Errors
    /// [`NotFound`] when no value has this id; nothing has changed.
    pub fn remove(&mut self, id: &T::Id) -> Result<T, NotFound> {
        let slot = self.find(self.hash(id), id).ok_or(NotFound)?;
        self.remove_slot(slot).ok_or(NotFound)
    }

    /// Returns the values that arrived after the one with this id, in order of arrival: the next page of a
    /// list that ended with it. O(1) to start.
    ///
    /// # Errors
    /// [`NotFound`] when no value has this id.
    pub fn iter_after(&self, id: &T::Id) -> Result<impl Iterator<Item = &T>, NotFound> {
        let mut at = self.find(self.hash(id), id).ok_or(NotFound)?;
        Ok(core::iter::from_fn(move || {
            let next = self.ring.links(at)?.next;
            at = if next == self.ring.oldest() { NONE } else { next };
            self.ring.value(at)
        }))
    }

    fn find(&self, hashed: Hashed, id: &T::Id) -> Option<u32> {
        self.index.find(hashed, |slot| self.ring.value(slot).is_some_and(|value| value.id() == id))
    }
}

impl<T, S> Tracker<T, S> {
    /// Returns how many values are tracked.
    pub const fn len(&self) -> u32 {
        self.ring.len()
    }

    /// Returns whether no value is tracked.
    pub const fn is_empty(&self) -> bool {
        self.ring.len() == 0
    }

    /// Returns how many values may be tracked.
    pub const fn capacity(&self) -> u32 {
        self.ring.capacity()
    }

    /// Returns the counters. O(1).
    pub fn stats(&self) -> Stats {
        Stats {
            len: self.len(),
            capacity: self.capacity(),
            inserted: self.inserted,
            evicted: self.evicted,
            duplicates: self.duplicates,
            probe_longest: self.index.probe_longest(),
            bytes: self.ring.bytes() + self.index.bytes(),
        }
    }

    /// Returns the oldest value. O(1).
    pub fn oldest(&self) -> Option<&T> {
        self.ring.value(self.ring.oldest())
    }

    /// Returns the newest value. O(1).
    pub fn newest(&self) -> Option<&T> {
        self.ring.value(self.ring.newest())
    }

    /// Returns all values in order of arrival; `rev` gives the newest first. Allocates nothing.
    pub fn iter(&self) -> Iter<'_, T> {
        self.ring.iter()
    }

    /// Removes the oldest value. O(1).
    pub fn pop_oldest(&mut self) -> Option<T> {
        self.remove_slot(self.ring.oldest())
    }

    /// Evicts the oldest value for as long as it matches (is too old, say, or all values are too large
    /// together). Returns how many were evicted. O(evicted).
    pub fn evict_while(&mut self, mut is_such: impl FnMut(&T) -> bool) -> u32 {
        let before = self.len();
        while self.oldest().is_some_and(&mut is_such) {
            drop(self.pop_oldest());
        }
        before - self.len()
    }

    /// Removes all values that do not match. The others keep their order. O(len).
    pub fn retain(&mut self, mut is_such: impl FnMut(&T) -> bool) {
        let mut at = self.ring.oldest();
        for _ in 0..self.len() {
            let (Some(links), Some(value)) = (self.ring.links(at), self.ring.value(at)) else {
                return;
            };
            let next = links.next;
            if !is_such(value) {
                drop(self.remove_slot(at));
            }
            at = next;
        }
    }

    /// Removes all values, the oldest first. The counters of [`Tracker::stats`] stay. O(len).
    pub fn clear(&mut self) {
        while self.pop_oldest().is_some() {}
    }

    /// Removes a value from ring and index.
    fn remove_slot(&mut self, slot: u32) -> Option<T> {
        let (hashed, value) = self.ring.remove(slot)?;
        let was_there = self.index.remove(hashed, slot);
        debug_assert!(was_there, "what is tracked can be found");
        Some(value)
    }
}

/// The four operations under the names that are usual in peer-to-peer programs.
impl<T: Tracked, S: BuildHasher> Tracker<T, S> {
    /// Adds a value as [`Tracker::insert`] does. Returns whether it was new.
    pub fn add(&mut self, value: T) -> bool {
        !matches!(self.insert(value), Inserted::Duplicate(_))
    }

    /// Removes a value as [`Tracker::remove`] does, and drops it.
    ///
    /// # Errors
    /// [`NotFound`] when no value has this id; nothing has changed.
    pub fn delete(&mut self, id: &T::Id) -> Result<(), NotFound> {
        self.remove(id).map(drop)
    }

    /// Returns a value as [`Tracker::get`] does.
    ///
    /// # Errors
    /// [`NotFound`] when no value has this id.
    pub fn message(&self, id: &T::Id) -> Result<&T, NotFound> {
        self.get(id)
    }

    /// Returns all values as [`Tracker::iter`] does.
    pub fn messages(&self) -> Iter<'_, T> {
        self.iter()
    }
}

impl<'a, T, S> IntoIterator for &'a Tracker<T, S> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Formats the values in order of arrival.
impl<T: fmt::Debug, S> fmt::Debug for Tracker<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests;
