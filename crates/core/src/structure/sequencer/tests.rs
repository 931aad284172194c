//! The sequencer against a trivial model, and its corner cases one by one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use proptest::prelude::*;

use super::*;

#[test]
fn an_idle_sequencer_is_thirty_two_bytes_and_owns_nothing() {
    assert_eq!(size_of::<Sequencer<[u64; 8]>>(), 32);
    let mut sequencer = Sequencer::new(10);
    for number in 1..100 {
        assert_eq!(sequencer.offer(number, number), Offered::Ready(number));
    }
    assert!(sequencer.beyond.is_none());
}

#[test]
fn memory_is_freed_when_the_last_held_item_leaves() {
    let mut sequencer = Sequencer::new(1000);
    for number in 2..500 {
        assert_eq!(sequencer.offer(number, ()), Offered::Held);
    }
    assert_eq!(sequencer.offer(1, ()), Offered::Ready(()));
    while sequencer.pop_ready().is_some() {}
    assert_eq!(sequencer.next(), 500);
    assert!(sequencer.beyond.is_none());
}

#[test]
fn a_number_far_away_allocates_no_ring() {
    let mut sequencer = Sequencer::new(1000);
    assert_eq!(sequencer.offer(1_000_000_000_000, 7), Offered::Held);
    assert_eq!(sequencer.beyond.as_ref().unwrap().ring.len(), 0);
    assert_eq!(sequencer.missing().collect::<Vec<_>>(), [Gap { from: 1, to: 999_999_999_999 }]);
    assert_eq!(sequencer.drop_gap(), Some(Gap { from: 1, to: 999_999_999_999 }));
    assert_eq!(sequencer.pop_ready(), Some((1_000_000_000_000, 7)));
    assert_eq!(sequencer.lost(), 999_999_999_999);
    assert_eq!(sequencer.offer(5, 8), Offered::Late(8));
}

#[test]
fn zero_and_numbers_above_the_highest_belong_to_no_sequence() {
    let mut sequencer = Sequencer::new(10);
    assert_eq!(sequencer.offer(0, ()), Offered::Duplicate(()));
    assert_eq!(sequencer.offer(u64::MAX, ()), Offered::Duplicate(()));
    assert_eq!(sequencer.offer(NUMBER_MAX, ()), Offered::Held);
    assert!(sequencer.drop_gap().is_some());
    assert_eq!(sequencer.pop_ready(), Some((NUMBER_MAX, ())));
    assert_eq!(sequencer.next(), u64::MAX);
    assert_eq!(sequencer.offer(u64::MAX, ()), Offered::Duplicate(()));
}

#[test]
fn numbers_in_a_forgotten_range_are_reported_as_duplicates() {
    let mut sequencer = Sequencer::new(10);
    for i in 1..=(DROPPED_RANGES_MAX as u64 + 1) {
        assert_eq!(sequencer.offer(i * 2, ()), Offered::Held);
        assert!(sequencer.drop_gap().is_some());
        assert!(sequencer.pop_ready().is_some());
    }
    assert_eq!(sequencer.offer(1, ()), Offered::Duplicate(()));
    assert_eq!(sequencer.offer(3, ()), Offered::Late(()));
}

#[test]
fn a_window_holds_items_without_reallocating() {
    let mut sequencer = Sequencer::with_window(1000, 100);
    for base in 0..50u64 {
        for offset in (0..100).rev() {
            let number = base * 100 + offset + 1;
            if offset == 0 {
                assert_eq!(sequencer.offer(number, number), Offered::Ready(number));
            } else {
                assert_eq!(sequencer.offer(number, number), Offered::Held);
            }
        }
        while let Some((number, item)) = sequencer.pop_ready() {
            assert_eq!(number, item);
        }
        assert_eq!(sequencer.next(), (base + 1) * 100 + 1);
    }
    let beyond = sequencer.beyond.as_ref().unwrap();
    assert_eq!((beyond.ring.len(), beyond.far.len()), (128, 0));
}

/// A trivial model.
#[derive(Default)]
struct Model {
    passed: BTreeSet<u64>,
    dropped: BTreeSet<u64>,
    held: BTreeMap<u64, u32>,
    next: u64,
}

impl Model {
    fn drain(&mut self) -> Vec<(u64, u32)> {
        let mut out = Vec::new();
        while let Some(item) = self.held.remove(&self.next) {
            self.passed.insert(self.next);
            out.push((self.next, item));
            self.next += 1;
        }
        out
    }

    fn offer(&mut self, number: u64, item: u32) -> (Offered<u32>, Vec<(u64, u32)>) {
        if self.dropped.contains(&number) {
            (Offered::Late(item), Vec::new())
        } else if number == 0 || self.passed.contains(&number) {
            (Offered::Duplicate(item), Vec::new())
        } else if self.held.contains_key(&number) {
            (Offered::DuplicateOfHeld(item), Vec::new())
        } else if number == self.next {
            self.passed.insert(number);
            self.next += 1;
            (Offered::Ready(item), self.drain())
        } else {
            self.held.insert(number, item);
            (Offered::Held, Vec::new())
        }
    }

    fn drop_range(&mut self) -> Vec<(u64, u32)> {
        let Some(first) = self.held.keys().next().copied() else {
            return Vec::new();
        };
        self.dropped.extend(self.next..first);
        self.next = first;
        self.drain()
    }
}

fn drain(sequencer: &mut Sequencer<u32>) -> Vec<(u64, u32)> {
    core::iter::from_fn(|| sequencer.pop_ready()).collect()
}

fn compare(sequencer: &Sequencer<u32>, model: &Model) {
    assert_eq!(sequencer.next(), model.next);
    assert_eq!(sequencer.held() as usize, model.held.len());
    assert_eq!(sequencer.lost(), model.dropped.len() as u64);
    let held: Vec<_> = sequencer.held_items().map(|(number, item)| (number, *item)).collect();
    let expected: Vec<_> = model.held.iter().map(|(number, item)| (*number, *item)).collect();
    assert_eq!(held, expected);
    let missing: Vec<u64> = sequencer.missing().flat_map(|gap| gap.from..=gap.to).collect();
    let last = model.held.keys().last().copied().unwrap_or(model.next - 1);
    let expected: Vec<u64> = (model.next..last).filter(|n| !model.held.contains_key(n)).collect();
    assert_eq!(missing, expected);
    assert_eq!(sequencer.last(), last);
}

proptest! {
    #[test]
    fn it_behaves_like_the_model(
        window in prop_oneof![Just(0usize), Just(4), Just(64)],
        held_max in 1u32..40,
        steps in prop::collection::vec(
            prop_oneof![
                8 => (0u64..30).prop_map(Some),
                3 => (0u64..300).prop_map(Some),
                1 => (0u64..3000).prop_map(Some),
                1 => Just(None),
            ],
            0..400,
        ),
        restart_every in 1usize..60,
    ) {
        let mut sequencer = if window == 0 {
            Sequencer::new(held_max)
        } else {
            Sequencer::with_window(held_max, window)
        };
        let mut model = Model { next: 1, ..Model::default() };
        for (i, step) in steps.into_iter().enumerate() {
            if let Some(offset) = step {
                // Around the watermark: some numbers before it, most of them shortly behind it.
                let number = (model.next + offset).saturating_sub(5);
                let item = u32::try_from(i).unwrap();
                let (expected, released) = model.offer(number, item);
                prop_assert_eq!(sequencer.offer(number, item), expected);
                prop_assert_eq!(drain(&mut sequencer), released);
            } else {
                let released = model.drop_range();
                let gap = sequencer.drop_gap();
                prop_assert_eq!(gap.is_some(), !released.is_empty());
                prop_assert_eq!(drain(&mut sequencer), released);
            }
            while sequencer.is_overfull() {
                prop_assert!(sequencer.drop_gap().is_some());
                prop_assert_eq!(drain(&mut sequencer), model.drop_range());
            }
            prop_assert!(sequencer.held() <= held_max);
            compare(&sequencer, &model);
            if window == 0 && i % restart_every == 0 {
                let parts = sequencer.to_parts();
                let owned = Parts {
                    next: parts.next,
                    lost: parts.lost,
                    dropped: parts.dropped,
                    last: parts.last,
                    held: parts.held.into_iter().map(|(number, item)| (number, *item)).collect(),
                };
                sequencer = Sequencer::from_parts(owned, held_max).unwrap();
            }
        }
    }
}
