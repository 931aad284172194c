//! The tally against a model that keeps all calls and recounts them each time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const MANY: Bounds = Bounds { children_max: 99, parents_max: 99, pairs_max: 99, held_max: 99 };

fn id(number: u8) -> Id {
    [number; 16]
}

/// Returns the counts by pair of parents.
fn by_pair(tally: &Tally, rows: &[Row]) -> BTreeMap<(u8, u8), (u64, u32, u32)> {
    let parent = |place: IdIndex| tally.parents()[place as usize][0];
    let rows = rows.iter().map(|row| {
        let Counts { calls, rejected, failed } = row.counts;
        ((parent(row.from), parent(row.to)), (calls, rejected, failed))
    });
    rows.collect()
}

fn learn(tally: &mut Tally, child: u8, parent: u8) -> Learnt {
    tally.learn(id(child), id(parent), &mut |_| {})
}

#[test]
fn calls_between_children_are_counted_between_their_parents() {
    let mut tally = Tally::new(MANY);
    for (child, parent) in [(1, 10), (2, 10), (3, 20)] {
        assert_eq!(learn(&mut tally, child, parent), Learnt::New);
    }
    tally.count(&id(1), &id(3), Kind::Served);
    tally.count(&id(2), &id(3), Kind::Failed);
    tally.count(&id(1), &id(2), Kind::Rejected);
    let rows = by_pair(&tally, tally.rows());
    assert_eq!(rows, [((10, 20), (2, 0, 1)), ((10, 10), (1, 1, 0))].into());
    assert_eq!(tally.close().unresolved, 0);
    assert!(tally.is_empty());
}

#[test]
fn a_call_is_held_until_both_children_are_known_but_not_beyond_its_window() {
    let mut tally = Tally::new(MANY);
    assert_eq!(tally.count(&id(1), &id(2), Kind::Served), Counted::Held);
    assert_eq!(tally.count(&id(1), &id(1), Kind::Served), Counted::Held);
    learn(&mut tally, 1, 10);
    assert_eq!(by_pair(&tally, tally.rows()), [((10, 10), (1, 0, 0))].into());
    learn(&mut tally, 2, 20);
    assert_eq!(tally.held(), 0);
    tally.count(&id(3), &id(1), Kind::Served);
    let closed = tally.close();
    assert_eq!((closed.rows.len(), closed.unresolved), (2, 1));
    learn(&mut tally, 3, 30);
    assert!(tally.is_empty());
}

#[test]
fn a_child_that_moves_counts_for_its_new_parent_from_then_on() {
    let mut tally = Tally::new(MANY);
    learn(&mut tally, 1, 10);
    tally.count(&id(1), &id(1), Kind::Served);
    assert_eq!(learn(&mut tally, 1, 10), Learnt::Known);
    assert_eq!(learn(&mut tally, 1, 20), Learnt::Moved);
    tally.count(&id(1), &id(1), Kind::Served);
    let rows = by_pair(&tally, tally.rows());
    assert_eq!(rows, [((10, 10), (1, 0, 0)), ((20, 20), (1, 0, 0))].into());
}

#[test]
fn at_a_bound_nothing_more_is_learnt_counted_or_held() {
    let bounds = Bounds { children_max: 2, parents_max: 1, pairs_max: 1, held_max: 1 };
    let mut tally = Tally::new(bounds);
    learn(&mut tally, 1, 10);
    assert_eq!(learn(&mut tally, 2, 20), Learnt::ParentsFull);
    assert_eq!(learn(&mut tally, 2, 10), Learnt::New);
    assert_eq!(learn(&mut tally, 3, 10), Learnt::ChildrenFull);
    assert_eq!(tally.count(&id(1), &id(3), Kind::Served), Counted::Held);
    assert_eq!(tally.count(&id(1), &id(3), Kind::Served), Counted::Held, "another of the same");
    assert_eq!(tally.count(&id(3), &id(1), Kind::Served), Counted::HeldFull);
    assert_eq!(tally.count(&id(1), &id(2), Kind::Served), Counted::Now);
    tally.set_bounds(Bounds { parents_max: 2, ..bounds });
    assert_eq!(learn(&mut tally, 1, 20), Learnt::Moved);
    assert_eq!(tally.count(&id(1), &id(2), Kind::Served), Counted::PairsFull);
    tally.set_bounds(Bounds { children_max: 3, ..bounds });
    let mut dropped = 0;
    assert_eq!(tally.learn(id(3), id(10), &mut |calls| dropped += calls), Learnt::New);
    assert_eq!(dropped, 2, "the held calls have no room among the pairs");
}

#[derive(Clone, Debug)]
enum Step {
    Learn(u8, u8),
    Count(u8, u8, Kind),
    Close,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(Kind::Served), Just(Kind::Rejected), Just(Kind::Failed)];
    let step = prop_oneof![
        4 => (0u8..8, 100u8..104).prop_map(|(child, parent)| Step::Learn(child, parent)),
        12 => (0u8..8, 0u8..8, kind).prop_map(|(from, to, kind)| Step::Count(from, to, kind)),
        1 => Just(Step::Close),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn the_counts_of_every_window_equal_a_recount(steps in steps()) {
        let mut tally = Tally::new(MANY);
        let mut parents: BTreeMap<u8, u8> = BTreeMap::new();
        let mut counted: BTreeMap<(u8, u8), (u64, u32, u32)> = BTreeMap::new();
        let mut held: Vec<(u8, u8, Kind)> = Vec::new();
        for step in steps {
            match step {
                Step::Learn(child, parent) => {
                    learn(&mut tally, child, parent);
                    parents.insert(child, parent);
                }
                Step::Count(from, to, kind) => {
                    tally.count(&id(from), &id(to), kind);
                    held.push((from, to, kind));
                }
                Step::Close => {
                    let closed = tally.close();
                    prop_assert_eq!(by_pair(&tally, &closed.rows), core::mem::take(&mut counted));
                    prop_assert_eq!(closed.unresolved, held.len() as u64);
                    held.clear();
                }
                Step::Restart => {
                    let parts = tally.to_parts();
                    tally = Tally::from_parts(parts.clone(), MANY).unwrap();
                    prop_assert_eq!(tally.to_parts(), parts);
                }
            }
            held.retain(|(from, to, kind)| {
                let (Some(from), Some(to)) = (parents.get(from), parents.get(to)) else { return true };
                let counts = counted.entry((*from, *to)).or_default();
                counts.0 += 1;
                counts.1 += u32::from(*kind == Kind::Rejected);
                counts.2 += u32::from(*kind == Kind::Failed);
                false
            });
            prop_assert_eq!(tally.held(), held.len() as u64);
            prop_assert_eq!(by_pair(&tally, tally.rows()), counted.clone());
        }
    }
}
