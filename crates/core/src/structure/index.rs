//! Maps a hash to the slot of an item in a slab, with many small tables instead of a large one: a growing
//! table rehashes all its items, which for a million items would be a noticeable pause.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// The number of tables. With a million items, a table that grows rehashes 4,096 of them.
const TABLES: usize = 256;

/// A table with fewer slots than this is never shrunk.
const SHRINK_MIN: usize = 64;

/// Slots by hash. Seeded per instance, because strangers choose the keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// [`TABLES`] tables, or none before the first insertion.
    tables: Vec<HashTable<u32>>,
    hasher: DefaultHashBuilder,
}

impl Index {
    /// Returns the hash that all other methods expect.
    #[inline]
    pub(crate) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Selects a table by bits that the tables do not use themselves: those use the highest and lowest.
    #[inline]
    fn table(hash: u64) -> usize {
        usize::from(hash.to_le_bytes()[5]) % TABLES
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.tables.get(Self::table(hash))?.find(hash, |place| is_it(*place)).copied()
    }

    /// Adds a slot that is not in the index. `rehash` returns the hash of the item in a slot. Amortised
    /// O(1), O(items / 256) when a table grows.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        place: u32,
        rehash: impl Fn(&DefaultHashBuilder, u32) -> u64,
    ) {
        let Self { tables, hasher } = self;
        if tables.is_empty() {
            tables.resize_with(TABLES, HashTable::new);
        }
        if let Some(table) = tables.get_mut(Self::table(hash)) {
            table.insert_unique(hash, place, |place| rehash(hasher, *place));
        }
    }

    /// Removes a slot that is in the index. Gives memory back when a table is mostly empty.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        place: u32,
        rehash: impl Fn(&DefaultHashBuilder, u32) -> u64,
    ) {
        let Self { tables, hasher } = self;
        let Some(table) = tables.get_mut(Self::table(hash)) else {
            return;
        };
        match table.find_entry(hash, |other| *other == place) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => debug_assert!(false, "only an indexed slot is removed"),
        }
        if table.capacity() > SHRINK_MIN && table.len() < table.capacity() / 8 {
            table.shrink_to(2 * table.len(), |place| rehash(hasher, *place));
        }
    }

    /// Records that an item has moved to another slot.
    pub(crate) fn relocate(&mut self, hash: u64, from: u32, to: u32) {
        let table = self.tables.get_mut(Self::table(hash));
        if let Some(place) = table.and_then(|table| table.find_mut(hash, |place| *place == from)) {
            *place = to;
        }
    }
}
