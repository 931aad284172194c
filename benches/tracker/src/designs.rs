//! The designs, each used in the best way as a list of the last N distinct ids. All hash with a seeded foldhash
//! (the fastest choice for them), the Tracker with its own hash.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::hint::black_box;
use std::num::NonZeroU32;

use foldhash::fast::RandomState;
use tidings_core::structure::tracker::{Inserted, Tracked, Tracker};

/// An id that looks like the output of a hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Id(pub [u8; 32]);

/// A type of id.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {
    /// Returns the `n`th id: all are different and in no order.
    fn nth(n: u64) -> Self;
}

fn words(n: u64) -> [u64; 4] {
    std::array::from_fn(|i| {
        let mut z = (n * 4 + i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

impl Key for Id {
    fn nth(n: u64) -> Self {
        let mut id = [0; 32];
        for (part, word) in id.chunks_exact_mut(8).zip(words(n)) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        Self(id)
    }
}

impl Key for String {
    fn nth(n: u64) -> Self {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let words = words(n);
        let letter = |i: usize| LETTERS[(words[i / 11] >> (i % 11 * 5) & 63) as usize];
        (0..44).map(|i| char::from(letter(i))).collect()
    }
}

/// The last N distinct ids.
pub trait Seen<K: Key> {
    fn new(capacity: usize) -> Self;
    /// Returns whether the id is new. A known one keeps its value and its position.
    fn add(&mut self, id: K, value: u64) -> bool;
    fn get(&self, id: &K) -> Option<u64>;
    fn remove(&mut self, id: &K) -> bool;
    /// The sum of all values.
    fn sum(&self) -> u64;
    /// Adds many ids. Returns how many were new.
    fn add_all(&mut self, ids: &[K]) -> usize {
        ids.iter().filter(|id| self.add((*id).clone(), 1)).count()
    }
}

pub struct Item<K>(K, u64);

impl<K: Key> Tracked for Item<K> {
    type Id = K;
    fn id(&self) -> &K {
        &self.0
    }
}

pub struct Ours<K>(Tracker<Item<K>>);

impl<K: Key> Seen<K> for Ours<K> {
    fn new(capacity: usize) -> Self {
        let seed = std::hash::BuildHasher::hash_one(&RandomState::default(), 0);
        Self(Tracker::new(NonZeroU32::new(capacity as u32).expect("not 0"), seed))
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        !matches!(self.0.insert(Item(id, value)), Inserted::Duplicate(_))
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.0.get(id).ok().map(|item| item.1)
    }
    fn remove(&mut self, id: &K) -> bool {
        self.0.remove(id).is_ok()
    }
    fn sum(&self) -> u64 {
        self.0.iter().map(|item| item.1).sum()
    }
}

/// The Tracker, in batches of 128.
pub struct OursBatched<K>(Ours<K>);

impl<K: Key> Seen<K> for OursBatched<K> {
    fn new(capacity: usize) -> Self {
        Self(Ours::new(capacity))
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        self.0.add(id, value)
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.0.get(id)
    }
    fn remove(&mut self, id: &K) -> bool {
        self.0.remove(id)
    }
    fn sum(&self) -> u64 {
        self.0.sum()
    }
    fn add_all(&mut self, ids: &[K]) -> usize {
        let mut new = 0;
        for ids in ids.chunks(128) {
            self.0.0.insert_batch(ids.iter().map(|id| Item(id.clone(), 1)), |inserted| {
                new += usize::from(!matches!(inserted, Inserted::Duplicate(_)));
            });
        }
        new
    }
}

pub struct Lru<K: Key>(lru::LruCache<K, u64, RandomState>);

impl<K: Key> Seen<K> for Lru<K> {
    fn new(capacity: usize) -> Self {
        let capacity = capacity.try_into().expect("not 0");
        Self(lru::LruCache::with_hasher(capacity, RandomState::default()))
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        let new = !self.0.contains(&id);
        if new {
            black_box(self.0.push(id, value));
        }
        new
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.0.peek(id).copied()
    }
    fn remove(&mut self, id: &K) -> bool {
        self.0.pop(id).is_some()
    }
    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, value)| value).sum()
    }
}

pub struct Hashlink<K: Key>(hashlink::LinkedHashMap<K, u64, RandomState>, usize);

impl<K: Key> Seen<K> for Hashlink<K> {
    fn new(capacity: usize) -> Self {
        Self(
            hashlink::LinkedHashMap::with_capacity_and_hasher(capacity + 1, RandomState::default()),
            capacity,
        )
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        use hashlink::linked_hash_map::Entry;
        if let Entry::Vacant(place) = self.0.entry(id) {
            place.insert(value);
        } else {
            return false;
        }
        if self.0.len() > self.1 {
            black_box(self.0.pop_front());
        }
        true
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.0.get(id).copied()
    }
    fn remove(&mut self, id: &K) -> bool {
        self.0.remove(id).is_some()
    }
    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, value)| value).sum()
    }
}

/// A ring: the oldest entry is at `next` and is replaced there. A removal shifts entries.
pub struct Indexmap<K: Key> {
    map: indexmap::IndexMap<K, u64, RandomState>,
    capacity: usize,
    next: usize,
}

impl<K: Key> Seen<K> for Indexmap<K> {
    fn new(capacity: usize) -> Self {
        let map = indexmap::IndexMap::with_capacity_and_hasher(capacity, RandomState::default());
        Self { map, capacity, next: 0 }
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        if self.map.contains_key(&id) {
            return false;
        }
        if self.map.len() < self.capacity {
            // In front of the oldest: at the end as long as no entry was removed.
            self.map.shift_insert(self.next_free(), id, value);
        } else {
            black_box(self.map.replace_index(self.next, id).is_ok());
            self.map[self.next] = value;
        }
        self.next = (self.next + 1) % self.capacity;
        true
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.map.get(id).copied()
    }
    fn remove(&mut self, id: &K) -> bool {
        let Some((place, ..)) = self.map.shift_remove_full(id) else { return false };
        if place < self.next {
            self.next -= 1;
        }
        true
    }
    fn sum(&self) -> u64 {
        let (newer, older) = self.map.as_slice().split_at(self.next.min(self.map.len()));
        older.values().chain(newer.values()).sum()
    }
}

impl<K: Key> Indexmap<K> {
    fn next_free(&self) -> usize {
        self.next.min(self.map.len())
    }
}

pub struct Schnellru<K: Key>(schnellru::LruMap<K, u64, schnellru::ByLength, RandomState>);

impl<K: Key> Seen<K> for Schnellru<K> {
    fn new(capacity: usize) -> Self {
        let limit = schnellru::ByLength::new(capacity as u32);
        Self(schnellru::LruMap::with_hasher(limit, RandomState::default()))
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        let new = self.0.peek(&id).is_none();
        if new {
            black_box(self.0.insert(id, value));
        }
        new
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.0.peek(id).copied()
    }
    fn remove(&mut self, id: &K) -> bool {
        self.0.remove(id).is_some()
    }
    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, value)| value).sum()
    }
}

pub struct QuickCache<K: Key>(
    quick_cache::unsync::Cache<K, u64, quick_cache::UnitWeighter, RandomState>,
);

impl<K: Key> Seen<K> for QuickCache<K> {
    fn new(capacity: usize) -> Self {
        Self(quick_cache::unsync::Cache::with(
            capacity,
            capacity as u64,
            quick_cache::UnitWeighter,
            RandomState::default(),
            quick_cache::unsync::DefaultLifecycle::default(),
        ))
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        let new = !self.0.contains_key(&id);
        if new {
            self.0.insert(id, value);
        }
        new
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.0.peek(id).copied()
    }
    fn remove(&mut self, id: &K) -> bool {
        self.0.remove(id).is_some()
    }
    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, value)| value).sum()
    }
}

pub struct Moka<K: Key>(moka::sync::Cache<K, u64, RandomState>);

impl<K: Key> Seen<K> for Moka<K> {
    fn new(capacity: usize) -> Self {
        let builder = moka::sync::Cache::builder()
            .max_capacity(capacity as u64)
            .initial_capacity(capacity)
            .eviction_policy(moka::policy::EvictionPolicy::lru());
        Self(builder.build_with_hasher(RandomState::default()))
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        let new = !self.0.contains_key(&id);
        if new {
            self.0.insert(id, value);
        }
        new
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.0.get(id)
    }
    fn remove(&mut self, id: &K) -> bool {
        self.0.remove(id).is_some()
    }
    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, value)| value).sum()
    }
}

/// The usual hand-written design. Each addition has a number, which distinguishes an entry of the queue from
/// the stale one of an id that was removed and added again.
pub struct MapAndQueue<K: Key> {
    map: HashMap<K, (u64, u64), RandomState>,
    queue: VecDeque<(K, u64)>,
    capacity: usize,
    added: u64,
}

impl<K: Key> Seen<K> for MapAndQueue<K> {
    fn new(capacity: usize) -> Self {
        Self {
            map: HashMap::with_capacity_and_hasher(capacity + 1, RandomState::default()),
            queue: VecDeque::with_capacity(capacity + 1),
            capacity,
            added: 0,
        }
    }
    fn add(&mut self, id: K, value: u64) -> bool {
        use std::collections::hash_map::Entry;
        self.added += 1;
        match self.map.entry(id.clone()) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(place) => place.insert((value, self.added)),
        };
        self.queue.push_back((id, self.added));
        while self.map.len() > self.capacity {
            let Some((oldest, added)) = self.queue.pop_front() else { break };
            if self.map.get(&oldest).is_some_and(|(_, of)| *of == added) {
                self.map.remove(&oldest);
            }
        }
        true
    }
    fn get(&self, id: &K) -> Option<u64> {
        self.map.get(id).map(|(value, _)| *value)
    }
    fn remove(&mut self, id: &K) -> bool {
        self.map.remove(id).is_some()
    }
    fn sum(&self) -> u64 {
        self.queue.iter().filter_map(|(id, _)| self.get(id)).sum()
    }
}
