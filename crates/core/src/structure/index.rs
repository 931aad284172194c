//! Finds the place of an item in a slab by a hash, in many small tables instead of a large one: a
//! table that grows hashes all its items again, and with a million items that is a pause.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// How many tables. With a million items, one that grows hashes 4,096 of them.
const TABLES: usize = 256;

/// A table with fewer slots than this keeps them.
const SHRINK_MIN: usize = 64;

/// Places by hash. Seeded per instance: what is looked up comes from strangers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// [`TABLES`] of them, or none as long as nothing was ever added.
    tables: Vec<HashTable<u32>>,
    hasher: DefaultHashBuilder,
}

impl Index {
    /// The hash by which all else here goes.
    #[inline]
    pub(crate) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// A table uses the highest and the lowest bits itself.
    #[inline]
    fn table(hash: u64) -> usize {
        usize::from(hash.to_le_bytes()[5]) % TABLES
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.tables.get(Self::table(hash))?.find(hash, |place| is_it(*place)).copied()
    }

    /// Adds a place that is not there yet. `rehash` gives the hash of the item at a place. O(1)
    /// amortised, O(items / 256) when a table grows.
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

    /// Removes a place that is there. Gives memory back when a table is mostly empty.
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
            Err(_) => debug_assert!(false, "what is removed was added"),
        }
        if table.capacity() > SHRINK_MIN && table.len() < table.capacity() / 8 {
            table.shrink_to(2 * table.len(), |place| rehash(hasher, *place));
        }
    }

    /// What stood at one place stands at another now.
    pub(crate) fn relocate(&mut self, hash: u64, from: u32, to: u32) {
        let table = self.tables.get_mut(Self::table(hash));
        if let Some(place) = table.and_then(|table| table.find_mut(hash, |place| *place == from)) {
            *place = to;
        }
    }
}
