//! The wheel against a list of times: each item is reported in its tick and not before, and items of one
//! list in the order in which they were added.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const SHIFT: u32 = 3;

/// Items that consist of nothing but a time.
#[derive(Clone, Default)]
struct Times(Vec<(u64, Link)>);

impl Items for Times {
    fn link(&self, place: u32) -> Option<&Link> {
        self.0.get(place as usize).map(|(_, link)| link)
    }

    fn link_mut(&mut self, place: u32) -> Option<&mut Link> {
        self.0.get_mut(place as usize).map(|(_, link)| link)
    }

    fn due(&self, place: u32) -> u64 {
        self.0[place as usize].0
    }
}

impl Times {
    fn add(&mut self, wheel: &mut Wheel, now: u64, due: u64) -> u32 {
        let place = u32::try_from(self.0.len()).unwrap();
        self.0.push((due, Link::default()));
        wheel.insert(now, self, place);
        place
    }
}

fn all_due(wheel: &mut Wheel, items: &mut Times, now: u64) -> Vec<u32> {
    let mut due = Vec::new();
    loop {
        match wheel.step(now, items) {
            Step::Due(place) => due.push(place),
            Step::Moved => {}
            Step::Nothing => return due,
        }
    }
}

#[test]
fn an_item_is_reported_in_the_first_tick_that_begins_when_it_is_due_or_later() {
    let mut wheel = Wheel::new(SHIFT);
    let mut items = Times::default();
    items.add(&mut wheel, 0, 8);
    items.add(&mut wheel, 0, 9);
    assert_eq!(wheel.next_deadline(), Some(8));
    assert_eq!(all_due(&mut wheel, &mut items, 7), []);
    assert_eq!(all_due(&mut wheel, &mut items, 8), [0]);
    assert_eq!(wheel.next_deadline(), Some(16));
    assert_eq!(all_due(&mut wheel, &mut items, 15), []);
    assert_eq!(all_due(&mut wheel, &mut items, 16), [1]);
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn an_item_moves_at_most_once_for_each_level() {
    let mut wheel = Wheel::new(10);
    let mut items = Times::default();
    let year = 31_536_000_000;
    items.add(&mut wheel, 1_700_000_000_000, 1_700_000_000_000 + year);
    let mut moves = 0;
    while let Some(now) = wheel.next_deadline() {
        match wheel.step(now, &mut items) {
            Step::Moved => moves += 1,
            Step::Due(_) => assert!((year..=year + 1024).contains(&(now - 1_700_000_000_000))),
            Step::Nothing => {}
        }
    }
    assert!((1..LEVELS).contains(&moves), "{moves}");
    assert!(wheel.is_empty());
}

#[test]
fn an_empty_wheel_advances_without_work() {
    let mut wheel = Wheel::new(SHIFT);
    let mut items = Times::default();
    items.add(&mut wheel, 1 << 60, (1 << 60) + 5);
    assert_eq!(wheel.next_deadline(), Some((1 << 60) + 8));
}

#[test]
fn the_last_timestamp_is_reached() {
    let mut wheel = Wheel::new(SHIFT);
    let mut items = Times::default();
    for due in [u64::MAX, u64::MAX - 1, 1 << 50, 0] {
        items.add(&mut wheel, 0, due);
    }
    assert_eq!(all_due(&mut wheel, &mut items, 1 << 51), [3, 2]);
    items.add(&mut wheel, u64::MAX, u64::MAX);
    let mut due = all_due(&mut wheel, &mut items, u64::MAX - 7);
    due.extend(all_due(&mut wheel, &mut items, u64::MAX));
    due.sort_unstable();
    assert_eq!(due[..2], [0, 1]);
}

#[test]
fn an_impossible_position_is_rejected() {
    let at = |reached, list: Option<usize>| {
        let emptying = list.map(|list| u16::try_from(list).unwrap());
        Wheel::at(SHIFT, Position { reached, emptying }).is_some()
    };
    assert!(at(5, Some(5)) && at(64, Some(SLOTS + 1)) && at(0, Some(FAR + 1)));
    assert!(!at(5, Some(6)) && !at(0, Some(FAR)) && !at(0, Some(LISTS)));
    assert!(!at(u64::MAX, None));
}

fn step() -> impl Strategy<Value = (u8, u64)> {
    // Times of every magnitude: the highest bit decides on the level.
    let size = prop_oneof![6 => 0u32..12, 3 => 0u32..30, 1 => 0u32..45];
    (0u8..10, (size, any::<u64>()).prop_map(|(bits, at)| at % (1 << bits)))
}

proptest! {
    #[test]
    fn it_behaves_like_a_list_of_times(
        start in prop_oneof![Just(0u64), 0u64..1 << 45],
        steps in prop::collection::vec(step(), 0..300),
        restart_every in 1usize..20,
    ) {
        let mut wheel = Wheel::new(SHIFT);
        let mut items = Times::default();
        let mut now = start;
        // What is on the wheel.
        let mut model: Vec<u32> = Vec::new();
        // When each item was added.
        let mut added = Vec::new();
        for (i, (what, time)) in steps.into_iter().enumerate() {
            match what {
                0..=4 => {
                    added.push(now);
                    model.push(items.add(&mut wheel, now, now + time));
                }
                5 if !model.is_empty() => {
                    let place = model.remove(usize::try_from(time).unwrap() % model.len());
                    wheel.remove(&mut items, place);
                }
                6 => {
                    // Only some steps: the rest is reported later.
                    now += time;
                    for _ in 0..3 {
                        if let Step::Due(place) = wheel.step(now, &mut items) {
                            prop_assert!(items.due(place) <= now);
                            model.retain(|other| *other != place);
                        }
                    }
                }
                _ => {
                    now += time;
                    let due = all_due(&mut wheel, &mut items, now);
                    for place in &due {
                        prop_assert!(items.due(*place) <= now, "reported before it is due");
                    }
                    model.retain(|place| !due.contains(place));
                    for place in &model {
                        // An item that was already due when it was added is reported in the next tick.
                        let tick = items.due(*place).div_ceil(1 << SHIFT).max((added[*place as usize] >> SHIFT) + 1);
                        prop_assert!(tick << SHIFT > now, "not reported");
                    }
                    prop_assert!(wheel.next_deadline().is_none_or(|deadline| deadline > now));
                }
            }
            prop_assert_eq!(wheel.len() as usize, model.len());
            prop_assert_eq!(wheel.next_deadline().is_some(), !model.is_empty());
            if i % restart_every == 0 {
                let mut other_items = items.clone();
                for (_, link) in &mut other_items.0 {
                    *link = Link::default();
                }
                let mut other = Wheel::at(SHIFT, wheel.position()).unwrap();
                let stored: Vec<_> = wheel.iter(|place| items.link(place).copied()).collect();
                for (place, emptying) in stored {
                    prop_assert!(other.restore_item(&mut other_items, place, emptying));
                }
                prop_assert_eq!(other.next_deadline(), wheel.next_deadline());
                // From here to the end both report the same items in the same order.
                let mut one = wheel.clone();
                let mut one_items = items.clone();
                let mut two = other.clone();
                let mut two_items = other_items.clone();
                let mut later = now;
                while let Some(deadline) = one.next_deadline() {
                    later = later.max(deadline);
                    prop_assert_eq!(two.next_deadline(), Some(deadline));
                    prop_assert_eq!(one.step(later, &mut one_items), two.step(later, &mut two_items));
                }
                wheel = other;
                items = other_items;
            }
        }
        // Items that are moved to other slots are reported all the same.
        for place in &mut model {
            let to = u32::try_from(items.0.len()).unwrap();
            let moved = items.0[*place as usize];
            items.0.push(moved);
            items.0[*place as usize].1 = Link::default();
            wheel.relocate(&mut items, *place, to);
            *place = to;
        }
        let mut due = all_due(&mut wheel, &mut items, 1 << 62);
        due.sort_unstable();
        model.sort_unstable();
        prop_assert_eq!(due, model);
    }
}
