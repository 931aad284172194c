//! The tracker against a plain `Vec`, the behaviour its users rely on, and common mistakes.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};

use proptest::prelude::*;

use super::*;

/// An id and the peer that sent it.
type Item = (u16, u8);

impl Tracked for Item {
    type Id = u16;

    fn id(&self) -> &u16 {
        &self.0
    }
}

fn capacity(capacity: u32) -> NonZeroU32 {
    NonZeroU32::new(capacity).unwrap()
}

fn for_five() -> Tracker<Item> {
    Tracker::new(capacity(5), 1)
}

fn filled(ids: impl IntoIterator<Item = u16>) -> Tracker<Item> {
    let mut tracker = for_five();
    tracker.insert_batch(ids.into_iter().map(|id| (id, 0)), |_| {});
    tracker
}

fn ids<S>(tracker: &Tracker<Item, S>) -> Vec<u16> {
    tracker.iter().map(|item| item.0).collect()
}

/// Hashes everything to the same value, so that every search visits every entry.
#[derive(Default)]
struct Constant;

impl Hasher for Constant {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        7
    }
}

/// Knows only four hashes.
#[derive(Default)]
struct Poor(u64);

impl Hasher for Poor {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = u64::from(bytes[0] & 3) << 30;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<T: Tracked, S: BuildHasher> Tracker<T, S> {
    /// Checks the invariants between two operations.
    fn check(&self) {
        self.ring.check();
        self.index.check(self.len(), |slot| self.ring.links(slot).unwrap().hashed);
        for value in self {
            let found: *const T = self.get(value.id()).unwrap();
            assert!(core::ptr::eq(found, value));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Item),
    Batch(Vec<Item>),
    Remove(u16),
    Get(u16),
    After(u16),
    Pop,
    EvictBelow(u16),
    Retain(u16),
    Clear,
}

fn step(ids: u16) -> impl Strategy<Value = Step> {
    let item = move || (0..ids, any::<u8>());
    prop_oneof![
        20 => item().prop_map(Step::Insert),
        2 => prop::collection::vec(item(), 0..50).prop_map(Step::Batch),
        8 => (0..ids).prop_map(Step::Remove),
        3 => (0..ids).prop_map(Step::Get),
        2 => (0..ids).prop_map(Step::After),
        2 => Just(Step::Pop),
        1 => (0..ids).prop_map(Step::EvictBelow),
        1 => (2u16..9).prop_map(Step::Retain),
        1 => Just(Step::Clear),
    ]
}

/// A trivial model.
struct Model {
    items: Vec<Item>,
    capacity: usize,
}

impl Model {
    fn position(&self, id: u16) -> Option<usize> {
        self.items.iter().position(|item| item.0 == id)
    }

    fn insert(&mut self, item: Item) -> Inserted<Item> {
        if self.position(item.0).is_some() {
            return Inserted::Duplicate(item);
        }
        let full = self.items.len() == self.capacity;
        let evicted = full.then(|| self.items.remove(0));
        self.items.push(item);
        evicted.map_or(Inserted::New, Inserted::Evicted)
    }
}

fn take_steps<S: BuildHasher>(mut tracker: Tracker<Item, S>, steps: &[Step]) {
    let mut model = Model { items: Vec::new(), capacity: tracker.capacity() as usize };
    for step in steps {
        match step {
            Step::Insert(item) => assert_eq!(tracker.insert(*item), model.insert(*item)),
            Step::Batch(items) => {
                let mut became = Vec::new();
                tracker.insert_batch(items.iter().copied(), |inserted| became.push(inserted));
                let expected: Vec<_> = items.iter().map(|item| model.insert(*item)).collect();
                assert_eq!(became, expected);
            }
            Step::Remove(id) => {
                let expected = model.position(*id).map(|at| model.items.remove(at));
                assert_eq!(tracker.remove(id), expected.ok_or(NotFound));
            }
            Step::Get(id) => {
                let expected = model.position(*id).map(|at| &model.items[at]);
                assert_eq!(tracker.get(id), expected.ok_or(NotFound));
                assert_eq!(tracker.contains(id), expected.is_some());
            }
            Step::After(id) => {
                let expected = model.position(*id).map(|at| &model.items[at + 1..]);
                let after = tracker.iter_after(id).map(|after| after.copied().collect::<Vec<_>>());
                assert_eq!(after.ok().as_deref(), expected);
            }
            Step::Pop => {
                let expected = (!model.items.is_empty()).then(|| model.items.remove(0));
                assert_eq!(tracker.pop_oldest(), expected);
            }
            Step::EvictBelow(id) => {
                let going = model.items.iter().take_while(|item| item.0 < *id).count();
                model.items.drain(..going);
                assert_eq!(tracker.evict_while(|item| item.0 < *id) as usize, going);
            }
            Step::Retain(divisor) => {
                model.items.retain(|item| !item.0.is_multiple_of(*divisor));
                tracker.retain(|item| !item.0.is_multiple_of(*divisor));
            }
            Step::Clear => {
                model.items.clear();
                tracker.clear();
            }
        }
        tracker.check();
        assert!(tracker.iter().eq(&model.items));
        assert!(tracker.iter().rev().eq(model.items.iter().rev()));
        assert_eq!(tracker.oldest(), model.items.first());
        assert_eq!(tracker.newest(), model.items.last());
    }
}

proptest! {
    #[test]
    fn a_tracker_behaves_like_a_vec(
        places in 1u32..60,
        seed: u64,
        steps in prop::collection::vec(step(90), 0..300),
    ) {
        take_steps(Tracker::new(capacity(places), seed), &steps);
        take_steps(Tracker::with_hasher(capacity(places), Sip::new(seed, 1)), &steps);
        take_steps(Tracker::with_hasher(capacity(places), Trusting::new(seed)), &steps);
    }

    #[test]
    fn a_bad_hash_makes_it_slow_but_not_wrong(
        places in 1u32..60,
        steps in prop::collection::vec(step(90), 0..300),
    ) {
        let constant = BuildHasherDefault::<Constant>::default();
        take_steps(Tracker::with_hasher(capacity(places), constant), &steps);
        let poor = BuildHasherDefault::<Poor>::default();
        take_steps(Tracker::with_hasher(capacity(places), poor), &steps);
    }

    #[test]
    fn an_iterator_used_from_both_ends_yields_each_value_once(count in 0u16..8, from_the_front: [bool; 8]) {
        let tracker = filled(0..count);
        let mut expected = ids(&tracker);
        let mut iter = tracker.iter();
        for front in from_the_front {
            prop_assert_eq!(iter.len(), expected.len());
            let (got, wanted) = if front {
                let wanted = (!expected.is_empty()).then(|| expected.remove(0));
                (iter.next(), wanted)
            } else {
                (iter.next_back(), expected.pop())
            };
            prop_assert_eq!(got.map(|item| item.0), wanted);
        }
    }
}

#[test]
fn added_values_are_found_and_listed() {
    let tracker = filled(0..5);
    for id in 0..5 {
        assert_eq!(tracker.get(&id), Ok(&(id, 0)));
    }
    assert_eq!(ids(&tracker), [0, 1, 2, 3, 4]);
}

#[test]
fn removed_values_are_neither_found_nor_listed() {
    let mut tracker = filled(0..5);
    for id in 0..3 {
        assert_eq!(tracker.remove(&id), Ok((id, 0)));
        assert_eq!(tracker.get(&id), Err(NotFound));
        assert_eq!(tracker.remove(&id), Err(NotFound));
    }
    assert_eq!(ids(&tracker), [3, 4]);
}

#[test]
fn a_duplicate_changes_nothing_and_the_first_peer_stays() {
    let mut tracker = filled(0..5);
    for peer in [0, 0, 1, 2] {
        assert_eq!(tracker.insert((2, peer)), Inserted::Duplicate((2, peer)));
    }
    assert_eq!(ids(&tracker), [0, 1, 2, 3, 4]);
    assert_eq!(tracker.get(&2), Ok(&(2, 0)));
}

#[test]
fn a_full_tracker_keeps_the_last_ones() {
    assert_eq!(ids(&filled(0..10)), [5, 6, 7, 8, 9]);
    assert_eq!(ids(&filled((5..10).chain(5..10))), [5, 6, 7, 8, 9]);
}

#[test]
fn an_empty_tracker_finds_nothing() {
    let mut tracker = for_five();
    assert_eq!(tracker.get(&1), Err(NotFound));
    assert_eq!(tracker.remove(&1), Err(NotFound));
    assert_eq!(format!("{NotFound}"), "message not found");
    assert_eq!(tracker.pop_oldest(), None);
    assert_eq!((tracker.oldest(), tracker.newest()), (None, None));
}

#[test]
fn a_duplicate_does_not_refresh_a_value() {
    let mut tracker = filled(0..5);
    assert_eq!(tracker.insert((0, 1)), Inserted::Duplicate((0, 1)));
    assert_eq!(tracker.insert((5, 0)), Inserted::Evicted((0, 0)));
}

#[test]
fn a_lookup_does_not_refresh_a_value() {
    let mut tracker = filled(0..5);
    assert_eq!(tracker.get(&0), Ok(&(0, 0)));
    assert_eq!(tracker.insert((5, 0)), Inserted::Evicted((0, 0)));
}

#[test]
fn the_oldest_value_is_evicted_and_not_the_smallest() {
    let mut tracker = filled([9, 1, 8, 2, 7]);
    assert_eq!(tracker.insert((0, 0)), Inserted::Evicted((9, 0)));
    assert_eq!(ids(&tracker), [1, 8, 2, 7, 0]);
}

#[test]
fn a_value_removed_and_added_again_is_the_newest_and_evicted_last() {
    let mut tracker = filled(0..5);
    assert_eq!(tracker.remove(&0), Ok((0, 0)));
    assert_eq!(tracker.insert((0, 1)), Inserted::New);
    assert_eq!(ids(&tracker), [1, 2, 3, 4, 0]);
    for id in 10..14 {
        assert_eq!(tracker.insert((id, 0)), Inserted::Evicted((id - 9, 0)));
    }
    assert_eq!(tracker.get(&0), Ok(&(0, 1)));
    assert_eq!(tracker.insert((14, 0)), Inserted::Evicted((0, 1)));
}

#[test]
fn a_removal_makes_room() {
    let mut tracker = filled(0..5);
    assert_eq!(tracker.remove(&3), Ok((3, 0)));
    assert_eq!(tracker.insert((5, 0)), Inserted::New);
    assert_eq!(tracker.insert((6, 0)), Inserted::Evicted((0, 0)));
}

#[test]
fn a_tracker_for_one_value_remembers_the_last() {
    let mut tracker = Tracker::new(capacity(1), 1);
    assert_eq!(tracker.insert((1, 0)), Inserted::New);
    assert_eq!(tracker.insert((1, 1)), Inserted::Duplicate((1, 1)));
    assert_eq!(tracker.insert((2, 0)), Inserted::Evicted((1, 0)));
    assert_eq!(ids(&tracker), [2]);
}

#[test]
fn a_batch_larger_than_the_tracker_reports_every_value() {
    let mut tracker = Tracker::new(capacity(3), 1);
    let mut evicted = Vec::new();
    tracker.insert_batch((0..100u16).map(|id| (id, 0)), |inserted| match inserted {
        Inserted::New => {}
        Inserted::Evicted(item) | Inserted::Duplicate(item) => evicted.push(item.0),
    });
    assert_eq!(evicted, (0..97).collect::<Vec<u16>>());
    assert_eq!(ids(&tracker), [97, 98, 99]);
}

#[test]
fn a_batch_that_is_not_full_is_added_completely() {
    for count in [0, 1, 15, 16, 17, 32] {
        let mut tracker = Tracker::new(capacity(64), 1);
        tracker.insert_batch((0..count).map(|id| (id, 0)), |_| {});
        assert_eq!(tracker.len(), u32::from(count));
    }
}

#[test]
fn the_four_aliases_behave_like_the_operations_they_name() {
    let mut tracker = for_five();
    assert!(tracker.add((1, 0)));
    assert!(!tracker.add((1, 1)));
    assert_eq!(tracker.message(&1), Ok(&(1, 0)));
    assert_eq!(tracker.messages().collect::<Vec<_>>(), [&(1, 0)]);
    assert_eq!(tracker.delete(&1), Ok(()));
    assert_eq!(tracker.delete(&1), Err(NotFound));
    assert_eq!(tracker.message(&1), Err(NotFound));
}

#[test]
fn ids_are_bytes_of_any_length() {
    let mut tracker = Tracker::new(capacity(300), 1);
    let zeros = [0; 200];
    for length in 0..200 {
        assert_eq!(tracker.insert(Message::new(&zeros[..length], "p", "")), Inserted::New);
    }
    for length in 0..200 {
        assert_eq!(tracker.get(&zeros[..length]).unwrap().id.len(), length);
    }
}

#[test]
fn an_evicted_value_is_dropped_or_returned_exactly_once() {
    let held = Rc::new(());
    struct Counted(u16, #[expect(dead_code, reason = "only its reference count matters")] Rc<()>);
    impl Tracked for Counted {
        type Id = u16;
        fn id(&self) -> &u16 {
            &self.0
        }
    }
    let mut tracker = Tracker::new(capacity(10), 1);
    for id in 0..25 {
        tracker.add(Counted(id, Rc::clone(&held)));
        tracker.add(Counted(id, Rc::clone(&held)));
    }
    assert_eq!(Rc::strong_count(&held), 11);
    tracker.retain(|item| item.0 != 20);
    assert_eq!(Rc::strong_count(&held), 10);
    tracker.clear();
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn stats_count_every_operation() {
    let mut tracker = filled([1, 2, 2, 3, 4, 5, 6, 6, 6]);
    assert_eq!(tracker.remove(&4), Ok((4, 0)));
    let stats = tracker.stats();
    assert_eq!((stats.len, stats.capacity), (4, 5));
    assert_eq!((stats.inserted, stats.evicted, stats.duplicates), (6, 1, 3));
    assert_eq!(stats.probe_longest, 1);
    tracker.clear();
    assert_eq!(tracker.stats(), Stats { len: 0, ..stats });
}

#[test]
fn colliding_ids_show_in_the_longest_probe() {
    let constant = BuildHasherDefault::<Constant>::default();
    let mut tracker = Tracker::with_hasher(capacity(120), constant);
    tracker.insert_batch((0..120).map(|id| (id, 0)), |_| {});
    assert_eq!(tracker.stats().probe_longest, 10);
}

#[test]
fn a_churned_tracker_has_no_long_probes() {
    let mut tracker = Tracker::new(capacity(10_000), 1);
    for round in 0..60_000u32 {
        let id = u16::try_from(round % 60_000).unwrap();
        tracker.add((id, 0));
        if round % 3 == 0 {
            tracker.add((id / 2, 0));
            assert_eq!(tracker.delete(&(id / 2)), Ok(()));
        }
    }
    assert!(tracker.stats().probe_longest <= 4, "{:?}", tracker.stats());
    tracker.check();
}

#[test]
fn a_message_takes_75_bytes_of_slab_and_index() {
    let tracker: Tracker<Message> = Tracker::new(capacity(60_000), 1);
    assert_eq!((size_of::<Option<Message>>(), size_of::<ring::Links>()), (48, 16));
    assert_eq!(tracker.stats().bytes, 60_000 * 64 + 10_000 * 64);
}

#[test]
fn a_place_is_never_reused() {
    let mut tracker = Tracker::new(capacity(1), 1);
    let mut places = Vec::new();
    for id in [1, 2, 1, 2] {
        let (_, place) = tracker.insert_placed((id, 0));
        assert_eq!(tracker.place(&id), Ok(place));
        assert!(!places.contains(&place));
        places.push(place);
    }
    let (again, place) = tracker.insert_placed((2, 1));
    assert_eq!((again, place), (Inserted::Duplicate((2, 1)), places[3]));
    assert_eq!(tracker.place(&1), Err(NotFound));
}

#[test]
fn a_cleared_tracker_starts_at_the_front_of_its_slab() {
    let mut tracker = filled(0..5);
    tracker.clear();
    let slots: Vec<u32> = (0..5).map(|id| tracker.insert_placed((id, 0)).1.slot).collect();
    assert_eq!(slots, [0, 1, 2, 3, 4]);
}

#[test]
fn a_wrong_hash_affects_only_its_own_id() {
    let mut tracker = filled([1, 2]);
    let wrong = tracker.hash(&4);
    assert_eq!(tracker.insert_hashed(wrong, (3, 0)), Inserted::New);
    assert_eq!(tracker.get(&3), Err(NotFound));
    assert_eq!(ids(&tracker), [1, 2, 3]);
    tracker.evict_while(|_| true);
    assert!(tracker.is_empty());
    assert_eq!(tracker.insert((3, 0)), Inserted::New);
    tracker.check();
}

#[test]
fn a_clone_is_independent() {
    let mut tracker = filled(0..5);
    let copy = tracker.clone();
    tracker.add((5, 0));
    assert_eq!(ids(&copy), [0, 1, 2, 3, 4]);
    assert_eq!(format!("{:?}", filled(0..2)), "[(0, 0), (1, 0)]");
}
