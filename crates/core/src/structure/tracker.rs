//! The last N things that came, distinct by id, first in first out: what a peer remembers of the
//! messages it has seen, or a service of the requests it has answered.
//!
//! Things stand in a slab, linked in the order in which they arrived (`ring.rs`). Fixed buckets find
//! one by its id (`index.rs`). Both are allocated once: adding never grows anything, and
//! removing leaves no tombstone, so no operation ever stops to tidy up. The order of arrival alone
//! decides what is dropped and what is listed; no order of hashes is ever seen from outside.
//!
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

/// A link to nowhere. No slot bears this number: there are at most `u32::MAX` of them, from 0.
const NONE: u32 = u32::MAX;

/// How many things [`Tracker::insert_batch`] looks at before it adds the first of them.
const BATCH: usize = 16;

/// A slab of at most so many bytes stays in the caches, and needs no looking ahead.
const CACHED_BYTES: usize = 8 << 20;

/// A thing with an id. The id must not change while the thing is tracked; one that does is not
/// found any more, and leaves when its turn comes.
pub trait Tracked {
    /// What tells two of them apart.
    type Id: ?Sized + Eq + Hash;

    /// The id. O(1).
    fn id(&self) -> &Self::Id;
}

/// A message as peers hand it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What tells two messages apart, whoever sent them.
    pub id: Box<[u8]>,
    /// Who sent it first.
    pub peer_id: Box<[u8]>,
    /// What it says.
    pub data: Box<[u8]>,
}

impl Message {
    /// A copy of these three.
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

/// What became of a thing that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what is not kept comes back to the caller"]
pub enum Inserted<T> {
    /// It is tracked now.
    New,
    /// It is tracked now, and the oldest had to leave: here it is.
    Evicted(T),
    /// Its id is tracked already. What came first stays, where it is; this is what came now.
    Duplicate(T),
}

/// No message with that id is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message not found")]
pub struct NotFound;

/// Where a thing stands for as long as it is tracked. Another thing never bears the same place,
/// short of four thousand million others in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    slot: u32,
    /// How many things had stood in this slot, wrapping.
    tenancy: u32,
}

/// What a tracker has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many are tracked.
    pub len: u32,
    /// How many may be.
    pub capacity: u32,
    /// How many were taken in, ever.
    pub inserted: u64,
    /// How many were dropped to make room, ever.
    pub evicted: u64,
    /// How many came whose id was tracked already, ever.
    pub duplicates: u64,
    /// The most buckets that were ever tried to find room for one: below ten with a good hash. A
    /// high one says that somebody chooses ids that collide. Depends on the seed: not for replies.
    pub probe_longest: u32,
    /// What slab and index occupy, without what the things themselves own.
    pub bytes: usize,
}

/// Where a thing that is added belongs.
enum Claim {
    /// Its id is tracked, in this slot.
    Known(u32),
    /// This slot was made the newest for it.
    Claimed(u32),
}

/// The last N distinct things that came. See the top of this module.
#[derive(Clone)]
pub struct Tracker<T, S = Folded> {
    /// What is tracked, in order of arrival.
    ring: Ring<T>,
    /// Finds a slot of the ring by hash.
    index: Index,
    hasher: S,
    inserted: u64,
    evicted: u64,
    duplicates: u64,
}

impl<T: Tracked> Tracker<T> {
    /// An empty one that holds at most `capacity` things, with the quick keyed hash. The seed is
    /// to be drawn at random for each tracker, and kept from those who choose ids.
    ///
    /// See [`Tracker::with_hasher`] for what it costs.
    pub fn new(capacity: NonZeroU32, seed: u64) -> Self {
        Self::with_hasher(capacity, Folded::new(seed))
    }
}

impl<T: Tracked, S: BuildHasher> Tracker<T, S> {
    /// An empty one that holds at most `capacity` things. O(capacity): all memory it will ever
    /// have is allocated and written to here, 27 bytes and the size of a thing (rounded up) for
    /// each.
    ///
    /// # Panics
    /// When that is more than an allocation can have.
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

    /// The hash of an id, for [`Tracker::insert_hashed`]. Hash with a clone of
    /// [`Tracker::hasher`] to do so outside a lock.
    pub fn hash(&self, id: &T::Id) -> Hashed {
        Hashed::of(&self.hasher, id)
    }

    /// What ids are hashed with.
    pub const fn hasher(&self) -> &S {
        &self.hasher
    }

    /// Takes a thing in, unless its id is tracked already; a full tracker lets go of the oldest.
    /// O(1), allocates nothing.
    #[inline]
    pub fn insert(&mut self, value: T) -> Inserted<T> {
        let hashed = self.hash(value.id());
        self.insert_hashed(hashed, value)
    }

    /// [`Tracker::insert`] with a hash made before, by [`Tracker::hash`] or [`Hashed::of`] with the
    /// same hasher. With any other hash it is as if the id were another one: nothing else breaks.
    #[inline]
    pub fn insert_hashed(&mut self, hashed: Hashed, value: T) -> Inserted<T> {
        match self.find_or_claim(hashed, value.id()) {
            Claim::Known(_) => Inserted::Duplicate(value),
            Claim::Claimed(slot) => self.settle(slot, value),
        }
    }

    /// [`Tracker::insert`], and where the thing with that id stands, for [`Relays`].
    #[inline]
    pub fn insert_placed(&mut self, value: T) -> (Inserted<T>, Place) {
        let hashed = self.hash(value.id());
        match self.find_or_claim(hashed, value.id()) {
            Claim::Known(slot) => (Inserted::Duplicate(value), self.ring.place(slot)),
            Claim::Claimed(slot) => (self.settle(slot, value), self.ring.place(slot)),
        }
    }

    /// The first half of adding, apart so that the thing itself is moved but once.
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

    /// Asks for the bucket of the one that is the oldest after two more have left: by then it has come.
    /// One add before is too late, and more than that gains nothing more.
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

    /// The other half.
    #[inline]
    fn settle(&mut self, slot: u32, value: T) -> Inserted<T> {
        self.ring.settle(slot, value).map_or(Inserted::New, Inserted::Evicted)
    }

    /// Takes many in, in order, as [`Tracker::insert`] would, and tells what became of each. Faster
    /// than one by one when the tracker is larger than the caches, because several of them are
    /// waited for at once. Allocates nothing.
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

    /// Asks for what adding these will read: their buckets and those of the oldest, then the slots
    /// that they may be found in.
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

    /// The thing with this id. O(1).
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked.
    pub fn get(&self, id: &T::Id) -> Result<&T, NotFound> {
        let slot = self.find(self.hash(id), id).ok_or(NotFound)?;
        self.ring.value(slot).ok_or(NotFound)
    }

    /// Whether a thing with this id is tracked. O(1).
    pub fn contains(&self, id: &T::Id) -> bool {
        self.find(self.hash(id), id).is_some()
    }

    /// Where the thing with this id stands, for [`Relays`]. O(1).
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked.
    pub fn place(&self, id: &T::Id) -> Result<Place, NotFound> {
        self.find(self.hash(id), id).map(|slot| self.ring.place(slot)).ok_or(NotFound)
    }

    /// Takes out the thing with this id. Should it be added again, it is the newest. O(1).
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked; nothing has changed.
    pub fn remove(&mut self, id: &T::Id) -> Result<T, NotFound> {
        let slot = self.find(self.hash(id), id).ok_or(NotFound)?;
        self.remove_slot(slot).ok_or(NotFound)
    }

    /// What arrived after the thing with this id, in order of arrival: the next page of a list that
    /// ended with it. O(1) to begin.
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked.
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
    /// How many are tracked.
    pub const fn len(&self) -> u32 {
        self.ring.len()
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.ring.len() == 0
    }

    /// How many may be.
    pub const fn capacity(&self) -> u32 {
        self.ring.capacity()
    }

    /// What it has seen so far. O(1).
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

    /// The one that arrived first. O(1).
    pub fn oldest(&self) -> Option<&T> {
        self.ring.value(self.ring.oldest())
    }

    /// The one that arrived last. O(1).
    pub fn newest(&self) -> Option<&T> {
        self.ring.value(self.ring.newest())
    }

    /// All of them in order of arrival; `rev` gives the newest first. Allocates nothing.
    pub fn iter(&self) -> Iter<'_, T> {
        self.ring.iter()
    }

    /// Takes out the one that arrived first. O(1).
    pub fn pop_oldest(&mut self) -> Option<T> {
        self.remove_slot(self.ring.oldest())
    }

    /// Drops the oldest for as long as it is such a one (too old, say, or while all together are
    /// too large), and says how many went. O(dropped).
    pub fn evict_while(&mut self, mut is_such: impl FnMut(&T) -> bool) -> u32 {
        let before = self.len();
        while self.oldest().is_some_and(&mut is_such) {
            drop(self.pop_oldest());
        }
        before - self.len()
    }

    /// Drops all that are not such, in order of arrival. The others stay in their order. O(len).
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

    /// Drops all of them, the oldest first. What [`Tracker::stats`] has counted stays. O(len).
    pub fn clear(&mut self) {
        while self.pop_oldest().is_some() {}
    }

    /// Out of the ring, and not found any more.
    fn remove_slot(&mut self, slot: u32) -> Option<T> {
        let (hashed, value) = self.ring.remove(slot)?;
        let was_there = self.index.remove(hashed, slot);
        debug_assert!(was_there, "what is tracked can be found");
        Some(value)
    }
}

/// The four calls by the names that programs of this kind give them.
impl<T: Tracked, S: BuildHasher> Tracker<T, S> {
    /// [`Tracker::insert`] for who only wants to know whether it was new.
    pub fn add(&mut self, value: T) -> bool {
        !matches!(self.insert(value), Inserted::Duplicate(_))
    }

    /// [`Tracker::remove`] for who does not want it back.
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked; nothing has changed.
    pub fn delete(&mut self, id: &T::Id) -> Result<(), NotFound> {
        self.remove(id).map(drop)
    }

    /// [`Tracker::get`].
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked.
    pub fn message(&self, id: &T::Id) -> Result<&T, NotFound> {
        self.get(id)
    }

    /// [`Tracker::iter`].
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

/// What is tracked, in order of arrival.
impl<T: fmt::Debug, S> fmt::Debug for Tracker<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests;
