//! Assigns dense indices to ids.

use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Id, IdIndex};

/// Ids in order of first appearance. None is ever removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    all: Vec<Id>,
    /// Maps an id to its index.
    places: HashTable<IdIndex>,
}

impl Ids {
    pub(super) fn all(&self) -> &[Id] {
        &self.all
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.all.len()).unwrap_or(u32::MAX)
    }

    /// Returns the index of an id.
    #[inline]
    pub(super) fn find(&self, hasher: &DefaultHashBuilder, id: &Id) -> Option<IdIndex> {
        let is_it = |place: &IdIndex| self.all.get(*place as usize) == Some(id);
        self.places.find(hasher.hash_one(id), is_it).copied()
    }

    /// Returns the index of an id. A new id gets the next index, unless there are `count_max` already.
    pub(super) fn find_or_add(
        &mut self,
        hasher: &DefaultHashBuilder,
        id: Id,
        count_max: u32,
    ) -> Option<IdIndex> {
        if let Some(place) = self.find(hasher, &id) {
            return Some(place);
        }
        let place = Some(self.len()).filter(|place| *place < count_max)?;
        let all = &self.all;
        let rehash = |place: &IdIndex| all.get(*place as usize).map_or(0, |id| hasher.hash_one(id));
        self.places.insert_unique(hasher.hash_one(id), place, rehash);
        self.all.push(id);
        Some(place)
    }
}
