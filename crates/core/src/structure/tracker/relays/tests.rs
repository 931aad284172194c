//! Relay counts against a list, and what happens to them when their message leaves.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::{Tracked, Tracker};
use super::*;

impl Tracked for u64 {
    type Id = Self;

    fn id(&self) -> &Self {
        self
    }
}

const fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn both(capacity: u32, peers_max: u32) -> (Tracker<u64>, Relays<u8>) {
    (Tracker::new(number(capacity), 1), Relays::new(number(capacity), number(peers_max)))
}

fn relay(tracker: &mut Tracker<u64>, relays: &mut Relays<u8>, id: u64, peer: u8) -> Relayed {
    let (_, place) = tracker.insert_placed(id);
    relays.count(place, peer)
}

fn peers(tracker: &Tracker<u64>, relays: &Relays<u8>, id: u64) -> Vec<(u8, u32)> {
    let place = tracker.place(&id).unwrap();
    relays.peers(place).map(|(peer, count)| (*peer, count)).collect()
}

/// A message, the counts of its first three peers, and the count of all others.
type Counts = (u64, Vec<(u8, u32)>, u32);

proptest! {
    #[test]
    fn relays_are_counted_like_in_a_list(
        relayed in prop::collection::vec((0u64..12, 0u8..5), 0..200),
    ) {
        let (mut tracker, mut relays) = both(6, 3);
        let mut model: Vec<Counts> = Vec::new();
        for (id, peer) in relayed {
            if !model.iter().any(|(other, ..)| *other == id) {
                if model.len() == 6 {
                    model.remove(0);
                }
                model.push((id, Vec::new(), 0));
            }
            let (_, peers, others) = model.iter_mut().find(|(other, ..)| *other == id).unwrap();
            let expected = if let Some(of_peer) = peers.iter_mut().find(|of| of.0 == peer) {
                of_peer.1 += 1;
                Relayed::Counted(of_peer.1)
            } else if peers.len() < 3 {
                peers.push((peer, 1));
                Relayed::Counted(1)
            } else {
                *others += 1;
                Relayed::Other
            };
            prop_assert_eq!(relay(&mut tracker, &mut relays, id, peer), expected);
        }
        for (id, of_peers, others) in model {
            prop_assert_eq!(peers(&tracker, &relays, id), of_peers);
            prop_assert_eq!(relays.others(tracker.place(&id).unwrap()), others);
        }
    }
}

#[test]
fn a_message_in_a_reused_slot_does_not_inherit_counts() {
    let (mut tracker, mut relays) = both(1, 2);
    for peer in [1, 2, 3, 3] {
        let _: Relayed = relay(&mut tracker, &mut relays, 10, peer);
    }
    let (_, place) = tracker.insert_placed(11);
    assert_eq!((relays.peers(place).count(), relays.others(place)), (0, 0));
    assert_eq!(relay(&mut tracker, &mut relays, 11, 3), Relayed::Counted(1));
    assert_eq!(peers(&tracker, &relays, 11), [(3, 1)]);
}

#[test]
fn a_message_that_is_removed_and_comes_again_counts_from_one() {
    let (mut tracker, mut relays) = both(4, 2);
    assert_eq!(relay(&mut tracker, &mut relays, 10, 1), Relayed::Counted(1));
    assert_eq!(relay(&mut tracker, &mut relays, 10, 1), Relayed::Counted(2));
    assert_eq!(tracker.remove(&10), Ok(10));
    assert_eq!(relay(&mut tracker, &mut relays, 10, 1), Relayed::Counted(1));
}

#[test]
fn relays_of_a_message_that_is_gone_are_not_counted() {
    let (mut tracker, mut relays) = both(1, 2);
    assert_eq!(relay(&mut tracker, &mut relays, 10, 1), Relayed::Counted(1));
    let gone = tracker.place(&10).unwrap();
    assert_eq!(relay(&mut tracker, &mut relays, 11, 2), Relayed::Counted(1));
    assert_eq!(relays.count(gone, 1), Relayed::Gone);
    relays.forget(gone);
    assert_eq!((relays.peers(gone).count(), relays.others(gone)), (0, 0));
    assert_eq!(peers(&tracker, &relays, 11), [(2, 1)]);
}

#[test]
fn a_tenancy_that_wraps_is_still_the_later_one() {
    let mut relays = Relays::new(number(1), number(1));
    for tenancy in [0x7fff_ffff, 0xffff_fffe, 0xffff_ffff, 0, 1] {
        assert_eq!(relays.count(Place { slot: 0, tenancy }, 'p'), Relayed::Counted(1));
    }
    assert_eq!(relays.count(Place { slot: 0, tenancy: 0xffff_ffff }, 'p'), Relayed::Gone);
}

#[test]
fn relays_at_a_place_of_a_larger_tracker_are_not_counted() {
    let mut relays = Relays::new(number(2), number(2));
    let beyond = Place { slot: 2, tenancy: 0 };
    assert_eq!(relays.count(beyond, 1), Relayed::Gone);
    assert_eq!((relays.peers(beyond).count(), relays.others(beyond)), (0, 0));
}

#[test]
fn forgetting_a_message_drops_its_peers() {
    use alloc::rc::Rc;
    let mut tracker = Tracker::new(number(2), 1);
    let mut relays = Relays::new(number(2), number(2));
    let peer = Rc::new(1);
    let (_, place) = tracker.insert_placed(10u64);
    assert_eq!(relays.count(place, Rc::clone(&peer)), Relayed::Counted(1));
    assert_eq!(relays.count(place, Rc::clone(&peer)), Relayed::Counted(2));
    assert_eq!(Rc::strong_count(&peer), 2);
    relays.forget(place);
    assert_eq!((Rc::strong_count(&peer), relays.peers_max()), (1, number(2)));
}
