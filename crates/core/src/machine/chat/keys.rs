//! Idempotency keys: for each, what it was used for and the id that was given, as long as the message
//! would live.
//!
//! Keys and contents are kept as 128 bits of `SipHash-2-4` under a fixed key (they are stored, and must
//! mean the same everywhere). Its authors promise nothing against collisions made on purpose under
//! a key that is known; whoever makes one deceives himself alone: he must bring both contents and the
//! key.

use core::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::structure::inbox::Id;
use crate::structure::index::Index;
use crate::structure::slab::Slab;
use crate::structure::wheel::{Items, Link, Position, Step, Wheel};

/// Keys are freed within 2^10 ms of their end.
const SHIFT: u32 = 10;

/// 128 bits that stand for a key or a content.
pub(super) type Digest = [u8; 16];

/// Stands for a key.
pub(super) fn of_key(key: &str) -> Digest {
    digest(&[key.as_bytes()])
}

/// Stands for what was posted.
pub(super) fn of_content(user: &str, text: &str, timeout_s: u32) -> Digest {
    digest(&[&timeout_s.to_le_bytes(), user.as_bytes(), text.as_bytes()])
}

fn digest(parts: &[&[u8]]) -> Digest {
    let mut hasher = SipHasher24::new();
    for part in parts {
        // With their lengths: no two lists of parts are written alike.
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish128().as_bytes()
}

/// What is known of a key. Stored in snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) key: Digest,
    pub(super) content: Digest,
    pub(super) id: Id,
    /// The first millisecond at which it is forgotten.
    pub(super) gone_at: u64,
}

/// What a key was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing that is remembered.
    Not,
    /// The same, under this id.
    Same(Id),
    /// Something else.
    Other,
}

/// All keys.
#[derive(Debug)]
pub(super) struct Keys {
    entries: Slab<Entry>,
    index: Index,
    wheel: Wheel,
}

#[derive(Debug)]
struct Entry {
    stored: StoredKey,
    timer: Link,
}

/// The keys as their wheel sees them.
struct Timed<'a>(&'a mut Slab<Entry>);

impl Items for Timed<'_> {
    fn link(&self, place: u32) -> Option<&Link> {
        self.0.get(place).map(|entry| &entry.timer)
    }

    fn link_mut(&mut self, place: u32) -> Option<&mut Link> {
        self.0.get_mut(place).map(|entry| &mut entry.timer)
    }

    fn due(&self, place: u32) -> u64 {
        self.0.get(place).map_or(0, |entry| entry.stored.gone_at)
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self { entries: Slab::default(), index: Index::default(), wheel: Wheel::new(SHIFT) }
    }
}

impl Keys {
    /// How many are remembered, those included that are over and not yet freed.
    pub(super) const fn len(&self) -> u32 {
        self.entries.len()
    }

    fn place(&self, key: Digest) -> Option<u32> {
        let is_it = |place| self.entries.get(place).is_some_and(|entry| entry.stored.key == key);
        self.index.find(self.index.hash(key), is_it)
    }

    /// What a key was used for. O(1).
    pub(super) fn find(&self, now: u64, key: Digest, content: Digest) -> Known {
        let entry = self.place(key).and_then(|place| self.entries.get(place));
        match entry.map(|entry| &entry.stored).filter(|stored| now < stored.gone_at) {
            None => Known::Not,
            Some(stored) if stored.content == content => Known::Same(stored.id),
            Some(_) => Known::Other,
        }
    }

    /// Remembers a key that is not known. O(1).
    pub(super) fn remember(&mut self, now: u64, key: StoredKey) {
        if let Some(over) = self.place(key.key) {
            self.wheel.remove(&mut Timed(&mut self.entries), over);
            self.remove(over);
        }
        let place = self.add(key);
        self.wheel.insert(now, &mut Timed(&mut self.entries), place);
        self.tidy();
    }

    fn add(&mut self, stored: StoredKey) -> u32 {
        debug_assert!(self.entries.has_room());
        let hash = self.index.hash(stored.key);
        let place = self.entries.insert(Entry { stored, timer: Link::default() });
        let entries = &self.entries;
        self.index.insert(hash, place, |hasher, place| hash_key(hasher, entries, place));
        place
    }

    /// Removes one that is not on the wheel.
    fn remove(&mut self, place: u32) {
        let Some(entry) = self.entries.remove(place) else {
            return;
        };
        let entries = &self.entries;
        let hash = self.index.hash(entry.stored.key);
        self.index.remove(hash, place, |hasher, place| hash_key(hasher, entries, place));
    }

    fn tidy(&mut self) {
        while let Some((from, to)) = self.entries.compact() {
            self.wheel.relocate(&mut Timed(&mut self.entries), from, to);
            if let Some(entry) = self.entries.get(to) {
                self.index.relocate(self.index.hash(entry.stored.key), from, to);
            }
        }
    }

    /// When [`Keys::work`] has something to do. O(1).
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Frees what is over, in at most so many steps of O(1) amortised. Returns how many were left.
    pub(super) fn work(&mut self, now: u64, steps_max: u32) -> u32 {
        let mut left = steps_max;
        while left > 0 {
            match self.wheel.step(now, &mut Timed(&mut self.entries)) {
                Step::Due(place) => self.remove(place),
                Step::Moved => {}
                Step::Nothing => break,
            }
            left -= 1;
        }
        self.tidy();
        left
    }

    /// How far the wheel has come: to be stored.
    pub(super) const fn position(&self) -> Position {
        self.wheel.position()
    }

    /// All keys, as they are to be stored.
    pub(super) fn stored(&self) -> impl Iterator<Item = (StoredKey, bool)> {
        let link = |place| self.entries.get(place).map(|entry| entry.timer);
        self.wheel
            .iter(link)
            .filter_map(|(place, emptying)| Some((self.entries.get(place)?.stored, emptying)))
    }

    /// None yet, on a wheel that has come so far. `None` for a position that no wheel reaches.
    pub(super) fn at(position: Position) -> Option<Self> {
        Some(Self { wheel: Wheel::at(SHIFT, position)?, ..Self::default() })
    }

    /// Adds the next key that was stored. `None` when it contradicts what is there.
    #[must_use = "what cannot be right is not to be used"]
    pub(super) fn restore(&mut self, key: StoredKey, emptying: bool) -> Option<()> {
        if self.place(key.key).is_some() || !self.entries.has_room() {
            return None;
        }
        let place = self.add(key);
        let stands = self.wheel.restore_item(&mut Timed(&mut self.entries), place, emptying);
        stands.then_some(())
    }
}

fn hash_key(hasher: &impl core::hash::BuildHasher, entries: &Slab<Entry>, place: u32) -> u64 {
    entries.get(place).map_or(0, |entry| hasher.hash_one(entry.stored.key))
}
