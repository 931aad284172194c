//! Three ways to hash ids: a fast one, a strict one, and one for ids that are hashes already. All are keyed,
//! because strangers choose the ids. The caller supplies the key, as core draws no random numbers.

use core::hash::{BuildHasher, Hasher};

use siphasher::sip::SipHasher13;

/// Multiplies to 128 bits and XORs the halves.
#[expect(clippy::cast_possible_truncation, reason = "the result contains both halves")]
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Derives the keys from a seed by steps of `SplitMix64` (Steele, Lea and Flood, 2014).
const fn keys(seed: u64) -> [u64; 5] {
    const fn step(seed: u64, n: u64) -> u64 {
        let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    // The last key is a multiplier: an even one would lose a bit.
    [step(seed, 1), step(seed, 2), step(seed, 3), step(seed, 4), step(seed, 5) | 1]
}

/// Hashes narrower numbers like a `u64`. The default methods would hash their bytes, which is slower.
macro_rules! widen_to_u64 {
    ($($write:ident: $number:ty),*) => {$(
        #[inline]
        fn $write(&mut self, number: $number) {
            self.write_u64(u64::from(number));
        }
    )*};
}

/// Reads eight bytes; 0 beyond the end.
#[inline]
fn eight(bytes: &[u8], from: usize) -> u64 {
    let part = bytes.get(from..).and_then(<[u8]>::first_chunk);
    part.map_or(0, |part| u64::from_le_bytes(*part))
}

/// Reads four bytes; 0 beyond the end.
#[inline]
fn four(bytes: &[u8], from: usize) -> u64 {
    let part = bytes.get(from..).and_then(<[u8]>::first_chunk);
    part.map_or(0, |part| u64::from(u32::from_le_bytes(*part)))
}

/// Reads up to sixteen bytes as two words, which overlap if there are fewer.
#[inline]
fn two_words(bytes: &[u8]) -> (u64, u64) {
    match (bytes, bytes.len()) {
        ([], _) => (0, 0),
        ([first, .., last], len @ 2..4) => {
            let middle = bytes.get(len / 2).copied().unwrap_or_default();
            (u64::from(*first) | u64::from(middle) << 8, u64::from(*last))
        }
        ([only], _) => (u64::from(*only), 0),
        (_, len @ ..8) => (four(bytes, 0), four(bytes, len - 4)),
        (_, len) => (eight(bytes, 0), eight(bytes, len - 8)),
    }
}

/// The fast keyed hash: sixteen bytes for each folded multiplication. Without the seed it is hard to make ids
/// collide; use [`Sip`] where that must be infeasible.
#[derive(Clone, Debug)]
pub struct Folded {
    keys: [u64; 5],
}

impl Folded {
    /// Returns the hasher for a seed. Draw it at random for each tracker.
    pub const fn new(seed: u64) -> Self {
        Self { keys: keys(seed) }
    }
}

impl BuildHasher for Folded {
    type Hasher = FoldedHasher;

    #[inline]
    fn build_hasher(&self) -> FoldedHasher {
        FoldedHasher { state: self.keys[0], keys: self.keys }
    }
}

/// The state of one hash. Made by [`Folded`].
#[derive(Clone, Debug)]
pub struct FoldedHasher {
    state: u64,
    keys: [u64; 5],
}

impl Hasher for FoldedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let [_, key, other_key, other_state, _] = self.keys;
        // The length distinguishes inputs whose overlapping words are equal.
        let mut state = self.state ^ (bytes.len() as u64).rotate_left(32);
        // A second lane, so that the CPU overlaps two multiplications.
        let mut other = other_state;
        let mut rest = bytes;
        while rest.len() > 32 {
            state = fold(eight(rest, 0) ^ key, eight(rest, 8) ^ state);
            other = fold(eight(rest, 16) ^ other_key, eight(rest, 24) ^ other);
            rest = rest.get(32..).unwrap_or_default();
        }
        let len = rest.len();
        if len > 16 {
            state = fold(eight(rest, 0) ^ key, eight(rest, 8) ^ state);
            other = fold(eight(rest, len - 16) ^ other_key, eight(rest, len - 8) ^ other);
        } else {
            let (a, b) = two_words(rest);
            state = fold(a ^ key, b ^ state);
        }
        self.state = state ^ other;
    }

    widen_to_u64! { write_u8: u8, write_u16: u16, write_u32: u32 }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.state = fold(number ^ self.keys[1], self.state ^ self.keys[2]);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "both halves are written")]
    fn write_u128(&mut self, number: u128) {
        self.state = fold(number as u64 ^ self.keys[1], (number >> 64) as u64 ^ self.state);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        // Slices write their length here, but `write` mixes in the length itself: so this can be cheap.
        self.state = (self.state ^ number as u64).wrapping_mul(self.keys[4]);
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state ^ self.keys[0], self.keys[4])
    }
}

/// The strict keyed hash: SipHash-1-3 (Aumasson and Bernstein, 2012). No way is known to make it collide
/// without the key.
#[derive(Clone, Debug)]
pub struct Sip {
    key: (u64, u64),
}

impl Sip {
    /// Returns the hasher for a key. Draw it at random for each tracker.
    pub const fn new(key_low: u64, key_high: u64) -> Self {
        Self { key: (key_low, key_high) }
    }
}

impl BuildHasher for Sip {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key.0, self.key.1)
    }
}

/// For ids that are hashes already, made by a party that is trusted to make good ones. Reads only their last
/// eight bytes and mixes them with a seed. (The last, because many ids begin alike, with a version or a
/// time.) Whoever can choose the last eight bytes can make ids collide, and every operation slow.
#[derive(Clone, Debug)]
pub struct Trusting {
    keys: [u64; 5],
}

impl Trusting {
    /// Returns the hasher for a seed. Draw it at random for each tracker.
    pub const fn new(seed: u64) -> Self {
        Self { keys: keys(seed) }
    }
}

impl BuildHasher for Trusting {
    type Hasher = TrustingHasher;

    #[inline]
    fn build_hasher(&self) -> TrustingHasher {
        TrustingHasher { state: self.keys[0], key: self.keys[4] }
    }
}

/// The state of one hash. Made by [`Trusting`].
#[derive(Clone, Debug)]
pub struct TrustingHasher {
    state: u64,
    key: u64,
}

impl Hasher for TrustingHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let last = match bytes.last_chunk() {
            Some(last) => u64::from_le_bytes(*last),
            None => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        self.write_u64(last);
    }

    widen_to_u64! { write_u8: u8, write_u16: u16, write_u32: u32 }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.state = self.state.rotate_left(23) ^ number;
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "both halves are written")]
    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state, self.key)
    }
}

#[cfg(test)]
mod tests;
