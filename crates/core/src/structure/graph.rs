//! Who follows whom: for every user the set of followers, readable as one slice.
//!
//! Users have 64-bit ids outside and dense indices inside, assigned in the order in which they are first
//! named. So a walk over followers is one pass over 32-bit indices, and a caller that keeps something for
//! each user can use a `Vec`.
//!
//! Followers are a set. A small one is searched linearly (128 indices are eight cache lines), a large one
//! has a hash index of its own, so that every operation is O(1) whatever the number of followers.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize};

/// The index of a user: dense, from 0, in the order in which users were first named.
pub type UserIndex = u32;

/// With more followers than this a user gets a hash index over them.
const SEARCHED_MAX: usize = 128;

/// With fewer followers than this the hash index is removed. Well below [`SEARCHED_MAX`], so that a user at
/// the limit does not build and drop an index with every follow.
const INDEXED_MIN: usize = 64;

/// The result of a follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The follow is new.
    New,
    /// The follow existed already.
    Again,
    /// Rejected: the bound on follows is reached.
    FollowsFull,
    /// Rejected: the bound on users is reached, and this would add one.
    UsersFull,
}

/// Who follows whom. See the documentation of this module.
#[derive(Clone, Debug)]
pub struct Graph {
    users_max: u32,
    follows_max: u64,
    /// How many follows there are.
    follows: u64,
    /// The id of the user at each index.
    ids: Vec<u64>,
    /// The followers of the user at each index.
    followers: Vec<Followers>,
    /// Maps an id to its index. Seeded per instance, because strangers choose the ids.
    places: HashTable<UserIndex>,
    hasher: DefaultHashBuilder,
}

/// A set of users.
#[derive(Clone, Debug, Default)]
struct Followers {
    /// In no meaningful order, but in the same order on every node.
    list: Vec<UserIndex>,
    /// For a large set: maps a user to its position in `list`.
    index: Option<Box<HashTable<u32>>>,
}

impl Followers {
    fn find(&self, place: UserIndex, hasher: &DefaultHashBuilder) -> Option<usize> {
        match &self.index {
            None => self.list.iter().position(|other| *other == place),
            Some(index) => {
                let is_it = |at: &u32| self.list.get(*at as usize) == Some(&place);
                index.find(hasher.hash_one(place), is_it).map(|at| *at as usize)
            }
        }
    }

    fn insert(&mut self, place: UserIndex, hasher: &DefaultHashBuilder) -> bool {
        if self.find(place, hasher).is_some() {
            return false;
        }
        self.list.push(place);
        if self.index.is_some() {
            self.index_last(hasher);
        } else if self.list.len() > SEARCHED_MAX {
            self.make_index(hasher);
        }
        true
    }

    fn index_last(&mut self, hasher: &DefaultHashBuilder) {
        let Self { list, index: Some(index) } = self else { return };
        let Some(place) = list.last() else { return };
        let at = u32::try_from(list.len() - 1).unwrap_or(u32::MAX);
        let rehash = |at: &u32| list.get(*at as usize).map_or(0, |place| hasher.hash_one(place));
        index.insert_unique(hasher.hash_one(place), at, rehash);
    }

    /// O(followers), amortised over the follows that made it necessary.
    fn make_index(&mut self, hasher: &DefaultHashBuilder) {
        let mut index = HashTable::with_capacity(2 * self.list.len());
        for (at, place) in (0u32..).zip(&self.list) {
            // There is room for twice as many, so nothing is rehashed.
            index.insert_unique(hasher.hash_one(place), at, |_| 0);
        }
        self.index = Some(Box::new(index));
    }

    fn remove(&mut self, place: UserIndex, hasher: &DefaultHashBuilder) -> bool {
        let Some(at) = self.find(place, hasher) else {
            return false;
        };
        let last = self.list.len() - 1;
        if let Some(index) = &mut self.index {
            let entry = |at: usize| move |other: &u32| *other as usize == at;
            if let Ok(gone) = index.find_entry(hasher.hash_one(place), entry(at)) {
                gone.remove();
            }
            // The last follower moves to the freed position.
            if let Some(moved) = self.list.last().filter(|_| at != last)
                && let Some(stands) = index.find_mut(hasher.hash_one(moved), entry(last))
            {
                *stands = u32::try_from(at).unwrap_or(u32::MAX);
            }
        }
        self.list.swap_remove(at);
        if self.list.len() < INDEXED_MIN {
            self.index = None;
        }
        // Give memory back after a crowd has left.
        if self.list.capacity() > SEARCHED_MAX && self.list.len() < self.list.capacity() / 4 {
            self.list.shrink_to(self.list.capacity() / 2);
        }
        true
    }
}

impl Graph {
    /// Returns a graph without follows, with bounds on users and follows. Allocates nothing.
    pub fn new(users_max: u32, follows_max: u64) -> Self {
        Self {
            users_max,
            follows_max,
            follows: 0,
            ids: Vec::new(),
            followers: Vec::new(),
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Changes the bounds. What already exceeds them stays.
    pub const fn set_bounds(&mut self, users_max: u32, follows_max: u64) {
        self.users_max = users_max;
        self.follows_max = follows_max;
    }

    /// Returns how many follows there are.
    pub const fn follows(&self) -> u64 {
        self.follows
    }

    /// Returns the ids of all users that ever took part in a follow, by index.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Returns the index of a user that ever took part in a follow. O(1).
    pub fn place(&self, id: u64) -> Option<UserIndex> {
        let is_it = |place: &UserIndex| self.ids.get(*place as usize) == Some(&id);
        self.places.find(self.hasher.hash_one(id), is_it).copied()
    }

    /// Returns the current followers of a user, in no meaningful order. O(1).
    pub fn followers(&self, id: u64) -> &[UserIndex] {
        let followers = self.place(id).and_then(|place| self.followers.get(place as usize));
        followers.map_or(&[], |followers| &followers.list)
    }

    /// Makes `follower` follow `followed`. Unknown users get an index. O(1), allocates only to grow.
    pub fn follow(&mut self, follower: u64, followed: u64) -> Followed {
        let (Some(follower), Some(followed)) =
            (self.place_or_new(follower), self.place_or_new(followed))
        else {
            return Followed::UsersFull;
        };
        let full = self.follows >= self.follows_max;
        let Some(followers) = self.followers.get_mut(followed as usize) else {
            return Followed::UsersFull;
        };
        if full {
            let stands = followers.find(follower, &self.hasher).is_some();
            return if stands { Followed::Again } else { Followed::FollowsFull };
        }
        if followers.insert(follower, &self.hasher) {
            self.follows += 1;
            Followed::New
        } else {
            Followed::Again
        }
    }

    /// Makes `follower` no longer follow `followed`. Returns whether it did. O(1).
    pub fn unfollow(&mut self, follower: u64, followed: u64) -> bool {
        let (Some(follower), Some(followed)) = (self.place(follower), self.place(followed)) else {
            return false;
        };
        let followers = self.followers.get_mut(followed as usize);
        let gone = followers.is_some_and(|followers| followers.remove(follower, &self.hasher));
        self.follows -= u64::from(gone);
        gone
    }

    /// Removes all users and follows, and keeps the bounds.
    pub fn clear(&mut self) {
        *self = Self::new(self.users_max, self.follows_max);
    }

    fn place_or_new(&mut self, id: u64) -> Option<UserIndex> {
        if let Some(place) = self.place(id) {
            return Some(place);
        }
        let place =
            UserIndex::try_from(self.ids.len()).ok().filter(|place| *place < self.users_max)?;
        let hasher = &self.hasher;
        let ids = &self.ids;
        let rehash =
            |place: &UserIndex| ids.get(*place as usize).map_or(0, |id| hasher.hash_one(id));
        self.places.insert_unique(hasher.hash_one(id), place, rehash);
        self.ids.push(id);
        self.followers.push(Followers::default());
        Some(place)
    }
}

/// The contents of a graph, for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The id of the user at each index.
    pub ids: Vec<u64>,
    /// The followers of the user at each index, in their internal order.
    pub followers: Vec<Vec<UserIndex>>,
}

impl Graph {
    /// Copies the contents, for a snapshot. O(users + follows).
    pub fn to_parts(&self) -> Parts {
        let followers = self.followers.iter().map(|followers| followers.list.clone()).collect();
        Parts { ids: self.ids.clone(), followers }
    }

    /// Restores a graph that behaves like the stored one. `None` when the parts contradict each other, so
    /// that [`Graph::to_parts`] cannot have made them.
    pub fn from_parts(parts: Parts, users_max: u32, follows_max: u64) -> Option<Self> {
        let Parts { ids, followers } = parts;
        let mut graph = Self::new(u32::MAX, u64::MAX);
        for (place, id) in ids.iter().enumerate() {
            if graph.place_or_new(*id)? as usize != place {
                return None;
            }
        }
        if followers.len() != ids.len() {
            return None;
        }
        for (followed, list) in graph.followers.iter_mut().zip(followers) {
            for follower in list {
                let known = (follower as usize) < ids.len();
                if !known || !followed.insert(follower, &graph.hasher) {
                    return None;
                }
                graph.follows += 1;
            }
        }
        graph.set_bounds(users_max, follows_max);
        Some(graph)
    }
}

#[cfg(test)]
mod tests;
