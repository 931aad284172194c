//! Whether the world is as messy as was asked for, and no messier.

use std::collections::{HashMap, HashSet};

use super::{Delivery, Options, World};
use crate::rockets::Error;

fn small() -> Options {
    Options { messages: 5_000, ..Options::default() }
}

#[test]
fn the_same_options_give_the_same_world_and_another_seed_another() {
    let (one, same) = (World::new(&small()).unwrap(), World::new(&small()).unwrap());
    let other = World::new(&Options { seed: 445, ..small() }).unwrap();
    let texts = |world: &World| {
        let mut out = Vec::new();
        world.deliveries().iter().for_each(|&delivery| world.write(delivery, &mut out));
        out
    };
    assert_eq!(texts(&one), texts(&same));
    assert_ne!(one.channel(0), other.channel(0));
}

#[test]
fn every_number_of_every_rocket_is_sent() {
    let world = World::new(&Options { rockets: 7, ..small() }).unwrap();
    assert_eq!(world.messages(), 5_000);
    let mut sent: HashSet<(u32, u32)> = HashSet::new();
    for delivery in world.deliveries() {
        sent.insert((delivery.rocket, delivery.number));
    }
    assert_eq!(sent.len(), 5_000);
    assert!(sent.iter().all(|&(rocket, n)| n >= 1 && n <= world.count(rocket as usize)));
}

#[test]
fn about_the_share_that_was_asked_for_is_sent_again() {
    let world = World::new(&small()).unwrap();
    let again = world.deliveries().len() - 5_000;
    assert!((400..600).contains(&again), "{again}");
    let world = World::new(&Options { duplicates: 1.0, ..small() }).unwrap();
    assert_eq!(world.deliveries().len(), 10_000);
}

#[test]
fn without_a_shuffle_every_rocket_is_in_order() {
    let in_order = Options { shuffle: 0, duplicates: 0.0, ..small() };
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    for &Delivery { rocket, number } in World::new(&in_order).unwrap().deliveries() {
        let last = numbers.insert(rocket, number).unwrap_or(0);
        assert_eq!(number, last + 1);
    }
}

#[test]
fn no_message_is_further_out_of_place_than_was_asked_for() {
    // One rocket: its numbers are the places.
    let options = Options { rockets: 1, duplicates: 0.0, shuffle: 50, ..small() };
    let world = World::new(&options).unwrap();
    let moved = world.deliveries().iter().zip(1u32..).map(|(d, place)| d.number.abs_diff(place));
    let furthest = moved.max().unwrap();
    assert!((30..=50).contains(&furthest), "{furthest}");
}

#[test]
fn within_the_window_no_channel_is_beyond_what_a_server_holds() {
    for rockets in [1, 3, 20] {
        let world = World::new(&Options { rockets, messages: 20_000, ..small() }).unwrap();
        let deliveries = world.deliveries();
        // Everything before `oldest` is acknowledged, it is not, everything in the window is.
        for oldest in (0..deliveries.len()).step_by(97) {
            let lost = deliveries[oldest];
            if deliveries[..oldest].contains(&lost) {
                continue;
            }
            let end = (oldest + world.window()).min(deliveries.len());
            let arrived: HashSet<u32> = deliveries[..end]
                .iter()
                .filter(|d| d.rocket == lost.rocket && d.number > lost.number)
                .map(|d| d.number)
                .collect();
            assert!(arrived.len() < 1_000, "{} held", arrived.len());
        }
    }
}

#[test]
fn a_shuffle_that_no_server_could_hold_is_refused() {
    let options = Options { rockets: 1, shuffle: 2_000, ..small() };
    let Err(Error::Options { option, why }) = World::new(&options) else { panic!("refused") };
    assert_eq!(option, "shuffle");
    assert!(why.contains("at most 449"), "{why}");
}

#[test]
fn ids_are_uuids_and_all_different() {
    let world = World::new(&Options { rockets: 1_000, ..small() }).unwrap();
    let ids: HashSet<&str> = (0..1_000).map(|rocket| world.channel(rocket)).collect();
    assert_eq!(ids.len(), 1_000);
    for id in (0..1_000).map(|rocket| world.channel(rocket)) {
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]));
    }
}

#[test]
fn some_rockets_explode_and_some_of_them_hear_more_afterwards() {
    let world = World::new(&Options { rockets: 500, messages: 50_000, ..small() }).unwrap();
    let exploded: Vec<(u32, u32)> =
        world.rockets.iter().filter_map(|r| Some((r.explodes_at?, r.count))).collect();
    assert!((100..200).contains(&exploded.len()), "{}", exploded.len());
    let more = exploded.iter().filter(|(at, count)| at < count).count();
    assert!((10..80).contains(&more), "{more}");
}
