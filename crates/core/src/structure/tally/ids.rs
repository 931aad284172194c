//! Ids from outside, each at a dense place inside.

use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Id, IdIndex};

/// Ids in the order in which they first came. None ever goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    all: Vec<Id>,
    /// Finds a place by id.
    places: HashTable<IdIndex>,
}

impl Ids {
    pub(super) fn all(&self) -> &[Id] {
        &self.all
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.all.len()).unwrap_or(u32::MAX)
    }

    /// Where an id stands.
    #[inline]
    pub(super) fn find(&self, hasher: &DefaultHashBuilder, id: &Id) -> Option<IdIndex> {
        let is_it = |place: &IdIndex| self.all.get(*place as usize) == Some(id);
        self.places.find(hasher.hash_one(id), is_it).copied()
    }

    /// Where an id stands; one that is new gets the next place, unless there are so many already.
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
