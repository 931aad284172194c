//! The hashes distribute typical ids, depend on their seed, and read every byte.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Returns how many of 4,096 ids fall into the fullest of 4,096 buckets: by the high bits of what a tracker
/// keeps of a hash, and by the low bits.
fn crowds(hasher: &impl BuildHasher, ids: impl Iterator<Item = Vec<u8>>) -> (usize, usize) {
    let mut high = vec![0; 4096];
    let mut low = vec![0; 4096];
    for id in ids {
        let hash = hasher.hash_one(id.as_slice());
        let hash = hash ^ (hash >> 32);
        high[usize::try_from((hash >> 20) & 0xfff).unwrap()] += 1;
        low[usize::try_from(hash & 0xfff).unwrap()] += 1;
    }
    (high.into_iter().max().unwrap(), low.into_iter().max().unwrap())
}

/// Ids of 32 bytes that differ only in 12 bits, starting `at` a byte.
fn alike(at: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..4096u16).map(move |number| {
        let mut id = vec![0; 32];
        id[at..at + 2].copy_from_slice(&number.to_le_bytes());
        id
    })
}

#[test]
fn almost_equal_ids_are_distributed() {
    fn fullest_is_at_most(most: usize, hasher: &impl BuildHasher, at: usize) {
        let (high, low) = crowds(hasher, alike(at));
        assert!(high <= most && low <= most, "{high} and {low} where byte {at} differs");
    }
    // By chance alone the fullest of 4,096 has 7 to 11 ids. Ids that are trusted to be hashes get only one
    // multiplication, which does a little worse for ids that are not.
    for seed in 0..20 {
        for at in 0..31 {
            fullest_is_at_most(14, &Folded::new(seed), at);
            fullest_is_at_most(14, &Sip::new(seed, 0), at);
        }
        for at in 24..31 {
            fullest_is_at_most(32, &Trusting::new(seed), at);
        }
    }
}

#[test]
fn equal_bytes_of_different_length_have_different_hashes() {
    let zeros = [0; 100];
    let hasher = Folded::new(1);
    let hashes: BTreeSet<u64> = (0..100).map(|length| hasher.hash_one(&zeros[..length])).collect();
    assert_eq!(hashes.len(), 100);
    let whole = |length: usize| {
        let mut hasher = hasher.build_hasher();
        hasher.write(&zeros[..length]);
        hasher.finish()
    };
    assert_eq!((0..100).map(whole).collect::<BTreeSet<u64>>().len(), 100);
}

#[test]
fn numbers_of_every_width_are_distributed() {
    fn spread<H: core::hash::Hash>(hasher: &impl BuildHasher, ids: impl Iterator<Item = H>) {
        let hashes: BTreeSet<u64> = ids.map(|id| hasher.hash_one(id)).collect();
        assert_eq!(hashes.len(), 200);
    }
    fn every_width(hasher: &impl BuildHasher) {
        spread(hasher, 0..200u8);
        spread(hasher, 0..200u16);
        spread(hasher, 0..200u32);
        spread(hasher, 0..200u64);
        spread(hasher, 0..200u128);
        spread(hasher, (0..200u128).map(|number| number << 64));
        spread(hasher, 0..200usize);
        spread(hasher, (0..200u64).map(|number| (number, number)));
        spread(hasher, (0..200u8).map(|number| alloc::format!("id {number}")));
    }
    every_width(&Folded::new(1));
    every_width(&Sip::new(1, 2));
    every_width(&Trusting::new(1));
}

proptest! {
    #[test]
    fn every_byte_affects_the_hash(bytes in prop::collection::vec(any::<u8>(), 1..80), at: usize, seed: u64) {
        let mut other = bytes.clone();
        other[at % bytes.len()] ^= 1;
        let folded = Folded::new(seed);
        prop_assert_ne!(folded.hash_one(bytes.as_slice()), folded.hash_one(other.as_slice()));
        let sip = Sip::new(seed, seed);
        prop_assert_ne!(sip.hash_one(bytes.as_slice()), sip.hash_one(other.as_slice()));
    }

    #[test]
    fn the_seed_affects_the_hash(bytes in prop::collection::vec(any::<u8>(), 0..80), seed: u64) {
        let bytes = bytes.as_slice();
        let other = seed ^ 1;
        prop_assert_ne!(Folded::new(seed).hash_one(bytes), Folded::new(other).hash_one(bytes));
        prop_assert_ne!(Trusting::new(seed).hash_one(bytes), Trusting::new(other).hash_one(bytes));
        prop_assert_ne!(Sip::new(seed, 0).hash_one(bytes), Sip::new(other, 0).hash_one(bytes));
        prop_assert_ne!(Sip::new(0, seed).hash_one(bytes), Sip::new(0, other).hash_one(bytes));
    }

    #[test]
    fn the_trusting_hash_reads_the_last_eight_bytes(front in prop::collection::vec(any::<u8>(), 24), a: u64) {
        let id = |front: &[u8]| [front, &a.to_le_bytes()].concat();
        let hasher = Trusting::new(1);
        prop_assert_eq!(hasher.hash_one(id(&front)), hasher.hash_one(id(&[0; 24])));
    }
}

#[test]
fn the_strict_hash_equals_that_of_the_standard_library() {
    let id = [7; 45];
    for length in 0..id.len() {
        let mut expected = std::hash::DefaultHasher::new();
        expected.write(&id[..length]);
        let mut hasher = Sip::new(0, 0).build_hasher();
        hasher.write(&id[..length]);
        assert_eq!(hasher.finish(), expected.finish());
    }
}
