//! Maps the hash of a value to its slot, in fixed buckets of one cache line, in the manner of F14 (Bronson
//! and Shi, 2019).
//!
//! A bucket has twelve entries. Each has a tag with a byte of the hash, and all tags are compared at once
//! (`line.rs`). An entry whose bucket is full goes to the next bucket with room, and every bucket that it
//! passed counts it. So a search ends at the first bucket that no entry passed, and a removal takes the same
//! way and decrements the counts. No entry ever moves, and removed entries leave no trace.

use alloc::boxed::Box;
use alloc::vec;
use core::hash::{BuildHasher, Hash};
use core::num::NonZeroU32;

use super::{NONE, line};

/// Entries in a bucket.
const PLACES: usize = 12;

/// Mean number of entries in a bucket when the tracker is full. One bucket in a hundred is then full.
const FILL_MEAN: u32 = 6;

/// The hash of an id, reduced to what the index needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed(u32);

impl Hashed {
    pub(super) const ZERO: Self = Self(0);

    /// Returns the hash of an id under a hasher.
    #[expect(clippy::cast_possible_truncation, reason = "the result contains both halves")]
    #[inline]
    pub fn of<S: BuildHasher, I: ?Sized + Hash>(hasher: &S, id: &I) -> Self {
        let hash = hasher.hash_one(id);
        Self((hash ^ (hash >> 32)) as u32)
    }

    /// Returns 1 to 255; 0 marks an empty entry. Uses the low bits, because the bucket uses the high ones.
    const fn tag(self) -> u8 {
        let [low, ..] = self.0.to_le_bytes();
        if low == 0 { 1 } else { low }
    }
}

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    /// The tags of the entries, 0 for an empty one; behind them, as four bytes, how many entries passed this
    /// bucket because it was full and still exist.
    head: [u8; 16],
    /// Meaningful only where the tag is not 0.
    slots: [u32; PLACES],
}

/// A set of entries of a bucket, one bit for each.
struct Places(u32);

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(place)
    }
}

impl Bucket {
    const EMPTY: Self = Self { head: [0; 16], slots: [NONE; PLACES] };

    /// Returns the entries with this tag.
    #[inline]
    fn places(&self, tag: u8) -> Places {
        Places(line::equal(&self.head, tag) & ((1 << PLACES) - 1))
    }

    #[inline]
    fn past(&self) -> u32 {
        self.head.last_chunk().map_or(0, |past| u32::from_le_bytes(*past))
    }

    #[inline]
    fn set_past(&mut self, past: u32) {
        if let Some(place) = self.head.last_chunk_mut() {
            *place = past.to_le_bytes();
        }
    }

    /// Stores a slot in an empty entry, if there is one.
    #[inline]
    fn put(&mut self, tag: u8, slot: u32) -> bool {
        let Some(place) = self.places(0).next() else {
            return false;
        };
        if let (Some(stands), Some(bears)) = (self.slots.get_mut(place), self.head.get_mut(place)) {
            *stands = slot;
            *bears = tag;
        }
        true
    }

    /// Removes a slot, if it is in this bucket.
    #[inline]
    fn remove(&mut self, tag: u8, slot: u32) -> bool {
        let Some(place) = self.places(tag).find(|place| self.slots.get(*place) == Some(&slot))
        else {
            return false;
        };
        if let Some(bears) = self.head.get_mut(place) {
            *bears = 0;
        }
        true
    }
}

/// Maps hashes to slots. See the documentation of this module.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// At least one; their number never changes.
    buckets: Box<[Bucket]>,
    /// The most buckets ever tried to find room for an entry.
    probe_longest: u32,
}

impl Index {
    /// Returns an index with twice as many entries as there will be slots.
    pub(super) fn new(capacity: NonZeroU32) -> Self {
        let buckets = capacity.get().div_ceil(FILL_MEAN) as usize;
        Self { buckets: vec![Bucket::EMPTY; buckets].into_boxed_slice(), probe_longest: 0 }
    }

    pub(super) const fn probe_longest(&self) -> u32 {
        self.probe_longest
    }

    pub(super) const fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Returns where a search begins: the hash as a fraction of all buckets (Lemire, 2019).
    #[inline]
    fn home(&self, hashed: Hashed) -> usize {
        ((u64::from(hashed.0) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Prefetches the bucket where a search for this hash begins.
    #[inline]
    pub(super) fn prefetch(&self, hashed: Hashed) {
        if let Some(bucket) = self.buckets.get(self.home(hashed)) {
            line::prefetch(bucket);
        }
    }

    /// Returns a slot that probably has this hash, from the bucket where a search for it begins.
    #[inline]
    pub(super) fn first(&self, hashed: Hashed) -> Option<u32> {
        let bucket = self.buckets.get(self.home(hashed))?;
        bucket.slots.get(bucket.places(hashed.tag()).next()?).copied()
    }

    /// Returns the matching slot with this hash. O(1) with a good hash, O(buckets) in the worst case.
    #[inline]
    pub(super) fn find(&self, hashed: Hashed, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = hashed.tag();
        let mut at = self.home(hashed);
        for _ in 0..self.buckets.len() {
            let bucket = self.buckets.get(at)?;
            for place in bucket.places(tag) {
                let slot = *bucket.slots.get(place)?;
                if is_it(slot) {
                    return Some(slot);
                }
            }
            if bucket.past() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Adds a slot that is not in the index. There must be fewer than `capacity` slots in it.
    #[inline]
    pub(super) fn insert(&mut self, hashed: Hashed, slot: u32) {
        let tag = hashed.tag();
        let mut at = self.home(hashed);
        let mut probe = 1;
        while let Some(bucket) = self.buckets.get_mut(at) {
            if bucket.put(tag, slot) {
                break;
            }
            bucket.set_past(bucket.past() + 1);
            probe += 1;
            at = self.after(at);
        }
        self.probe_longest = self.probe_longest.max(probe);
    }

    /// Removes a slot that was inserted with this hash.
    #[inline]
    pub(super) fn remove(&mut self, hashed: Hashed, slot: u32) -> bool {
        let tag = hashed.tag();
        let mut at = self.home(hashed);
        for _ in 0..self.buckets.len() {
            let Some(bucket) = self.buckets.get_mut(at) else {
                return false;
            };
            if bucket.remove(tag, slot) {
                return true;
            }
            debug_assert!(bucket.past() > 0, "an entry further on has passed this bucket");
            bucket.set_past(bucket.past().saturating_sub(1));
            at = self.after(at);
        }
        false
    }
}

#[cfg(test)]
mod tests;
