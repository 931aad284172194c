//! Idempotency keys: for each, the digest of its content and the id of its message, for as long as the
//! message would live.
//!
//! Keys and contents are kept as 128 bits of `SipHash-2-4` with a fixed key, because they are stored and
//! must mean the same on every node. With a known key, `SipHash` promises nothing against deliberate
//! collisions; but whoever makes one must supply both contents and the key, and deceives only himself.

use core::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::structure::inbox::Id;
use crate::structure::index::Index;
use crate::structure::slab::Slab;
use crate::structure::wheel::{Items, Link, Position, Step, Wheel};

/// Keys are freed within 2^10 ms of their expiry.
const SHIFT: u32 = 10;

/// A 128-bit digest of a key or a content.
pub(super) type Digest = [u8; 16];

/// Returns the digest of a key.
pub(super) fn of_key(key: &str) -> Digest {
    digest(&[key.as_bytes()])
}

/// Returns the digest of everything that makes two posts the same.
pub(super) fn of_content(user: &str, text: &str, timeout_s: u32) -> Digest {
    digest(&[&timeout_s.to_le_bytes(), user.as_bytes(), text.as_bytes()])
}

fn digest(parts: &[&[u8]]) -> Digest {
    let mut hasher = SipHasher24::new();
    for part in parts {
        // The lengths are hashed too, so that no two lists of parts give the same bytes.
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish128().as_bytes()
}

/// A remembered key. Stored in snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) key: Digest,
    pub(super) content: Digest,
    pub(super) id: Id,
    /// The first millisecond at which the key is forgotten.
    pub(super) gone_at: u64,
}

/// What a key was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing, as far as is remembered.
    Not,
    /// The same content, under this id.
    Same(Id),
    /// Other content.
    Other,
}

/// All remembered keys.
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

/// The keys, as the timing wheel sees them.
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
    /// Returns how many keys are remembered, including expired ones that are not freed yet.
    pub(super) const fn len(&self) -> u32 {
        self.entries.len()
    }

    fn place(&self, key: Digest) -> Option<u32> {
        let is_it = |place| self.entries.get(place).is_some_and(|entry| entry.stored.key == key);
        self.index.find(self.index.hash(key), is_it)
    }

    /// Returns what a key was used for. O(1).
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

    /// Removes a key that is not on the wheel.
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

    /// Returns when [`Keys::work`] has something to do. O(1).
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Frees expired keys, in at most `steps_max` steps of amortised O(1). Returns how many steps are left.
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

    /// Returns how far the wheel has advanced, for a snapshot.
    pub(super) const fn position(&self) -> Position {
        self.wheel.position()
    }

    /// Returns all keys for a snapshot, in the order in which the wheel holds them.
    pub(super) fn stored(&self) -> impl Iterator<Item = (StoredKey, bool)> {
        let link = |place| self.entries.get(place).map(|entry| entry.timer);
        self.wheel
            .iter(link)
            .filter_map(|(place, emptying)| Some((self.entries.get(place)?.stored, emptying)))
    }

    /// Returns an empty set whose wheel is at `position`, or `None` for an impossible position.
    pub(super) fn at(position: Position) -> Option<Self> {
        Some(Self { wheel: Wheel::at(SHIFT, position)?, ..Self::default() })
    }

    /// Adds the next stored key. `None` when it contradicts the keys that are there.
    #[must_use = "a contradictory snapshot must not be used"]
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
