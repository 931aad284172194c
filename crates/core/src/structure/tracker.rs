//! The last N things that came, distinct by id, first in first out: what a peer remembers of the
//! messages it has seen, or a service of the requests it has answered.
//!
//! Things stand in a slab and are linked in the order in which they arrived. An [index](Index) of
//! fixed buckets finds one by its id. Both are allocated once: adding never grows anything, and
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
use alloc::vec::Vec;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

mod hash;
mod index;
mod iter;
mod relays;

pub use hash::{Folded, FoldedHasher, Sip, Trusting, TrustingHasher};
pub use index::Hashed;
pub use iter::Iter;
pub use relays::{Relayed, Relays};

use index::Index;

/// A link to nowhere. No slot bears this number: there are at most `u32::MAX` of them, from 0.
const NONE: u32 = u32::MAX;

/// How many things [`Tracker::insert_batch`] looks at before it adds the first of them.
const BATCH: usize = 16;

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
    /// The most buckets that adding one ever had to look at: 1 to 4 with a good hash. A high one
    /// says that somebody chooses ids that collide. Depends on the seed: not for replies.
    pub probe_longest: u32,
    /// What slab and index occupy, without what the things themselves own.
    pub bytes: usize,
}

/// A slot of the slab.
#[derive(Clone, Debug)]
struct Node<T> {
    /// Who arrived before; for the oldest, the newest.
    prev: u32,
    /// Who arrived after; for the newest, the oldest. In a free slot: the next free one.
    next: u32,
    /// Kept, so that evicting never reads the id.
    hashed: Hashed,
    /// How many things have stood here before, wrapping.
    tenancy: u32,
    /// `None` in a free slot.
    value: Option<T>,
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
    /// As many as may be tracked, made at once. A `Vec` that is never pushed to.
    nodes: Box<[Node<T>]>,
    /// Finds a slot by hash.
    index: Index,
    hasher: S,
    /// Where the ring of links begins; [`NONE`] while it is empty. In a full ring the newest takes
    /// over the slot of the oldest, and all that is to be done is to begin it one later.
    oldest: u32,
    /// The first of the freed slots, linked by `next`.
    free: u32,
    /// Slots from here on have not been used since it was last empty: a tracker that nobody
    /// removes from goes through the slab in order.
    fresh: u32,
    len: u32,
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
        let vacant =
            || Node { prev: NONE, next: NONE, hashed: Hashed::ZERO, tenancy: 0, value: None };
        let mut nodes = Vec::new();
        nodes.reserve_exact(capacity.get() as usize);
        nodes.resize_with(capacity.get() as usize, vacant);
        Self {
            nodes: nodes.into_boxed_slice(),
            index: Index::new(capacity),
            hasher,
            oldest: NONE,
            free: NONE,
            fresh: 0,
            len: 0,
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

    /// [`Tracker::insert_hashed`], and where the thing with that id stands, for [`Relays`].
    #[inline]
    pub fn insert_placed(&mut self, hashed: Hashed, value: T) -> (Inserted<T>, Place) {
        match self.find_or_claim(hashed, value.id()) {
            Claim::Known(slot) => (Inserted::Duplicate(value), self.place_of(slot)),
            Claim::Claimed(slot) => {
                let inserted = self.settle(slot, value);
                (inserted, self.place_of(slot))
            }
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
        if self.len < self.capacity() {
            Claim::Claimed(self.append(hashed))
        } else {
            Claim::Claimed(self.take_over_oldest(hashed))
        }
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

    /// Reads what adding these will read. A load that nothing waits for is all the prefetch that
    /// safe code has.
    fn warm(&self, batch: &[Option<(Hashed, T)>; BATCH]) {
        let mut read = 0;
        let mut oldest = self.oldest;
        for (hashed, _) in batch.iter().flatten() {
            read ^= self.index.touch(*hashed);
            if self.len == self.capacity()
                && let Some(node) = self.node(oldest)
            {
                read ^= self.index.touch(node.hashed);
                oldest = node.next;
            }
        }
        core::hint::black_box(read);
    }

    /// The thing with this id. O(1).
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked.
    pub fn get(&self, id: &T::Id) -> Result<&T, NotFound> {
        let slot = self.find(self.hash(id), id).ok_or(NotFound)?;
        self.value(slot).ok_or(NotFound)
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
        self.find(self.hash(id), id).map(|slot| self.place_of(slot)).ok_or(NotFound)
    }

    /// Takes out the thing with this id. Should it be added again, it is the newest. O(1).
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked; nothing has changed.
    pub fn remove(&mut self, id: &T::Id) -> Result<T, NotFound> {
        let slot = self.find(self.hash(id), id).ok_or(NotFound)?;
        self.take(slot).ok_or(NotFound)
    }

    /// What arrived after the thing with this id, in order of arrival: the next page of a list that
    /// ended with it. O(1) to begin.
    ///
    /// # Errors
    /// [`NotFound`] when none is tracked.
    pub fn iter_after(&self, id: &T::Id) -> Result<impl Iterator<Item = &T>, NotFound> {
        let mut at = self.find(self.hash(id), id).ok_or(NotFound)?;
        Ok(core::iter::from_fn(move || {
            let next = self.node(at)?.next;
            at = if next == self.oldest { NONE } else { next };
            self.value(at)
        }))
    }

    fn find(&self, hashed: Hashed, id: &T::Id) -> Option<u32> {
        self.index.find(hashed, |slot| {
            self.node(slot).is_some_and(|node| {
                node.hashed == hashed && node.value.as_ref().is_some_and(|value| value.id() == id)
            })
        })
    }
}

impl<T, S> Tracker<T, S> {
    /// How many are tracked.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many may be.
    #[expect(clippy::cast_possible_truncation, reason = "made from a u32")]
    pub const fn capacity(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// What it has seen so far. O(1).
    pub fn stats(&self) -> Stats {
        Stats {
            len: self.len,
            capacity: self.capacity(),
            inserted: self.inserted,
            evicted: self.evicted,
            duplicates: self.duplicates,
            probe_longest: self.index.probe_longest(),
            bytes: size_of_val(&*self.nodes) + self.index.bytes(),
        }
    }

    /// The one that arrived first. O(1).
    pub fn oldest(&self) -> Option<&T> {
        self.value(self.oldest)
    }

    /// The one that arrived last. O(1).
    pub fn newest(&self) -> Option<&T> {
        self.value(self.newest_slot())
    }

    /// All of them in order of arrival; `rev` gives the newest first. Allocates nothing.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(&self.nodes, self.oldest, self.newest_slot(), self.len)
    }

    /// Takes out the one that arrived first. O(1).
    pub fn pop_oldest(&mut self) -> Option<T> {
        self.take(self.oldest)
    }

    /// Drops the oldest for as long as it is such a one (too old, say, or while all together are
    /// too large), and says how many went. O(dropped).
    pub fn evict_while(&mut self, mut is_such: impl FnMut(&T) -> bool) -> u32 {
        let before = self.len;
        while self.oldest().is_some_and(&mut is_such) {
            drop(self.pop_oldest());
        }
        before - self.len
    }

    /// Drops all that are not such, in order of arrival. The others stay in their order. O(len).
    pub fn retain(&mut self, mut is_such: impl FnMut(&T) -> bool) {
        let mut at = self.oldest;
        for _ in 0..self.len {
            let Some(Node { next, value: Some(value), .. }) = self.node(at) else {
                return;
            };
            let next = *next;
            if !is_such(value) {
                drop(self.take(at));
            }
            at = next;
        }
    }

    /// Drops all of them, the oldest first. What [`Tracker::stats`] has counted stays. O(len).
    pub fn clear(&mut self) {
        while self.pop_oldest().is_some() {}
    }

    fn node(&self, slot: u32) -> Option<&Node<T>> {
        self.nodes.get(slot as usize)
    }

    fn node_mut(&mut self, slot: u32) -> Option<&mut Node<T>> {
        self.nodes.get_mut(slot as usize)
    }

    fn value(&self, slot: u32) -> Option<&T> {
        self.node(slot)?.value.as_ref()
    }

    fn newest_slot(&self) -> u32 {
        self.node(self.oldest).map_or(NONE, |node| node.prev)
    }

    fn place_of(&self, slot: u32) -> Place {
        Place { slot, tenancy: self.node(slot).map_or(0, |node| node.tenancy) }
    }

    /// Makes a free slot, which there must be, the newest. [`Tracker::settle`] comes next.
    fn append(&mut self, hashed: Hashed) -> u32 {
        debug_assert!(self.len < self.capacity(), "the caller looked");
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
        self.index.insert(hashed, slot);
        slot
    }

    /// Makes the slot of the oldest, which there must be, the newest. [`Tracker::settle`] comes
    /// next.
    #[inline]
    fn take_over_oldest(&mut self, hashed: Hashed) -> u32 {
        let slot = self.oldest;
        let Some(node) = self.nodes.get_mut(slot as usize) else {
            return NONE;
        };
        let was_there = self.index.remove(node.hashed, slot);
        debug_assert!(was_there, "what is tracked can be found");
        node.hashed = hashed;
        node.tenancy = node.tenancy.wrapping_add(1);
        self.oldest = node.next;
        self.evicted += 1;
        self.index.insert(hashed, slot);
        slot
    }

    /// Puts a thing into the slot that was made the newest for it.
    #[inline]
    fn settle(&mut self, slot: u32, value: T) -> Inserted<T> {
        match self.node_mut(slot).and_then(|node| node.value.replace(value)) {
            Some(oldest) => Inserted::Evicted(oldest),
            None => Inserted::New,
        }
    }

    /// Empties a slot: unlinked, not found any more, free.
    fn take(&mut self, slot: u32) -> Option<T> {
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
        let was_there = self.index.remove(hashed, slot);
        debug_assert!(was_there, "what is tracked can be found");
        Some(value)
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
