//! The entries of a bucket one by one, and the invariants between buckets.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

impl Index {
    /// Checks the invariants between two operations, for `len` slots with these hashes.
    pub(in super::super) fn check(&self, len: u32, hashed: impl Fn(u32) -> Hashed) {
        let mut past = vec![0; self.buckets.len()];
        let mut found = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            for (place, slot) in bucket.slots.iter().enumerate() {
                let tag = bucket.head[place];
                if tag == 0 {
                    continue;
                }
                let hashed = hashed(*slot);
                assert_eq!(tag, hashed.tag());
                found += 1;
                let mut from = self.home(hashed);
                while from != at {
                    past[from] += 1;
                    from = self.after(from);
                }
            }
        }
        assert_eq!(found, len);
        assert!(self.buckets.iter().map(Bucket::past).eq(past));
    }
}

proptest! {
    #[test]
    fn all_tags_are_compared_as_one_by_one(tags: [u8; PLACES], tag: u8, same in 0u8..16) {
        let tags = tags.map(|other| if other & 15 == same { tag } else { other });
        let mut bucket = Bucket::EMPTY;
        bucket.head[..PLACES].copy_from_slice(&tags);
        bucket.set_past(u32::from_le_bytes([tag; 4]));
        let mut places: Vec<usize> = bucket.places(tag).collect();
        places.sort_unstable();
        let expected: Vec<usize> = (0..PLACES).filter(|place| tags[*place] == tag).collect();
        prop_assert_eq!(places, expected);
    }

    #[test]
    fn a_search_begins_at_an_existing_bucket(hash: u32, capacity in 1u32..100_000) {
        let index = Index::new(NonZeroU32::new(capacity).unwrap());
        prop_assert!(index.home(Hashed(hash)) < index.buckets.len());
        prop_assert!(index.buckets.len() * PLACES >= 2 * capacity as usize);
        prop_assert_ne!(Hashed(hash).tag(), 0);
    }
}

#[test]
fn a_bucket_is_one_cache_line() {
    assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
}

#[test]
fn a_bucket_has_room_for_twelve_entries() {
    let mut bucket = Bucket::EMPTY;
    for slot in 0..12 {
        assert!(bucket.put(255, slot));
    }
    assert!(!bucket.put(255, 12));
    assert!(!bucket.remove(254, 5));
    assert!(bucket.remove(255, 5));
    assert!(!bucket.remove(255, 5));
    assert!(bucket.put(1, 12));
    assert!(!bucket.put(1, 13));
    assert!(bucket.remove(1, 12));
}

#[test]
fn a_search_ends_at_a_bucket_that_no_entry_passed() {
    let capacity = NonZeroU32::new(60).unwrap();
    let mut index = Index::new(capacity);
    // All in the last bucket, so that they wrap around the end.
    let hashed = Hashed(u32::MAX);
    for slot in 0..30 {
        index.insert(hashed, slot);
    }
    assert_eq!(index.probe_longest(), 3);
    let last = index.buckets.len() - 1;
    let past: Vec<u32> = index.buckets.iter().map(Bucket::past).collect();
    assert_eq!((past[last], past[0], past[1]), (18, 6, 0));
    assert_eq!(index.find(hashed, |slot| slot == 29), Some(29));
    assert_eq!(index.find(hashed, |slot| slot == 30), None);
    for slot in 0..30 {
        assert!(index.remove(hashed, slot));
    }
    index.check(0, |_| hashed);
    assert_eq!(index.find(hashed, |_| true), None);
}
