//! The fast world is held to the dumbest server there can be: read every line that was sent, sort
//! them all, then route with plain sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::options::{Mix, Options};
use super::super::queue::Queue;
use super::World;

/// Everything that a source sends, and what each client must receive.
fn made(options: &Options, source: u32) -> (World, Vec<u8>, Vec<Vec<u8>>) {
    let claimed = World::claimed(options);
    let mut world = World::new(options, &claimed, source);
    let mut sent = Queue::default();
    let mut expected: Vec<Queue> = claimed.iter().map(|_| Queue::default()).collect();
    while !world.is_done() {
        world.make_batch(&mut sent, &mut expected);
    }
    let expected = expected.iter().map(|queue| queue.front().to_vec()).collect();
    (world, sent.front().to_vec(), expected)
}

/// The number and the other fields of a line that is an event.
fn parsed(line: &[u8]) -> Option<(u64, Vec<String>)> {
    if line.len() > 1_024 {
        return None;
    }
    let line = line.strip_suffix(b"\n")?;
    let text = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok()?;
    let mut fields = text.split('|');
    let is_number = |field: &&str| {
        !field.is_empty()
            && field.bytes().all(|b| b.is_ascii_digit())
            && field.parse::<u64>().is_ok()
    };
    let number = fields.next().filter(is_number)?.parse().ok()?;
    let rest: Vec<String> = fields.map(str::to_owned).collect();
    let users = match rest.first()?.as_str() {
        "F" | "U" | "P" => 2,
        "S" => 1,
        "B" => 0,
        _ => return None,
    };
    let ids_are_numbers = rest[1..].iter().all(|field| is_number(&field.as_str()));
    (rest.len() == users + 1 && ids_are_numbers && number > 0).then_some((number, rest))
}

/// What the clients, who are these users, receive of it.
fn routed(sent: &[u8], clients: &[String]) -> Vec<Vec<u8>> {
    let mut events: BTreeMap<u64, (Vec<String>, Vec<u8>)> = BTreeMap::new();
    for line in sent.split_inclusive(|&byte| byte == b'\n') {
        if let Some((number, fields)) = parsed(line) {
            events.entry(number).or_insert((fields, line.to_vec()));
        }
    }
    let mut followers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut received = vec![Vec::new(); clients.len()];
    for (fields, line) in events.into_values() {
        let heard: BTreeSet<String> = match fields[0].as_str() {
            "F" => {
                followers.entry(fields[2].clone()).or_default().insert(fields[1].clone());
                BTreeSet::from([fields[2].clone()])
            }
            "U" => {
                followers.entry(fields[2].clone()).or_default().remove(&fields[1]);
                BTreeSet::new()
            }
            "P" => BTreeSet::from([fields[2].clone()]),
            "S" => followers.get(&fields[1]).cloned().unwrap_or_default(),
            _ => clients.iter().cloned().collect(),
        };
        for (client, bytes) in clients.iter().zip(&mut received) {
            if heard.contains(client) {
                bytes.extend_from_slice(&line);
            }
        }
    }
    received
}

fn names(world: &World, options: &Options) -> Vec<String> {
    let name = |&user| String::from_utf8(world.name(user).to_vec()).unwrap();
    World::claimed(options).iter().map(name).collect()
}

proptest! {
    #[test]
    fn what_is_expected_is_what_the_dumbest_server_would_send(
        seed: u64,
        events in 1..2_000u64,
        users in 2..60u32,
        clients in 1..150u32,
        batch in 1..300u32,
        heavy: bool,
        crlf: bool,
        shares in prop::array::uniform3(prop_oneof![Just(0.0), Just(0.05), Just(0.4)]),
        dying_sources in 0..2u32,
    ) {
        let [duplicates, malformed, gaps] = shares;
        let dying_sources = dying_sources.min(u32::try_from(events - 1).unwrap());
        let mix = if heavy { Mix::Heavy } else { Mix::Light };
        let options = Options {
            events, seed, users, clients, batch, mix, duplicates, malformed, gaps, dying_sources,
            crlf, ..Options::default()
        };
        prop_assert!(options.check().is_ok());
        for source in 0..=dying_sources {
            let (world, sent, expected) = made(&options, source);
            let received = routed(&sent, &names(&world, &options));
            let lines: usize = expected.iter().map(|bytes| bytes.split(|&b| b == b'\n').count() - 1).sum();
            prop_assert_eq!(world.counts.notifications, lines as u64);
            prop_assert_eq!(expected, received);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    let options = Options { events: 5_000, malformed: 0.1, duplicates: 0.1, ..Options::default() };
    let (_, sent, expected) = made(&options, 0);
    let (_, again, expected_again) = made(&options, 0);
    assert_eq!((&sent, expected), (&again, expected_again));
    let (_, other, _) = made(&Options { seed: 7, ..options }, 0);
    assert_ne!(sent, other);
}

#[test]
fn the_mixes_have_as_many_notifications_as_they_say() {
    let thousandths = |mix, events| {
        let (world, ..) = made(&Options { events, mix, ..Options::default() }, 0);
        world.counts.notifications * 1_000 / events
    };
    let light = thousandths(Mix::Light, 1_000_000);
    assert!((105..115).contains(&light), "{light}");
    let heavy = thousandths(Mix::Heavy, 500_000);
    assert!((4_000..4_800).contains(&heavy), "{heavy}");
}

#[test]
fn every_malformed_line_is_one_to_the_dumbest_server() {
    let options = Options { events: 20_000, malformed: 0.5, ..Options::default() };
    let (world, sent, _) = made(&options, 0);
    let lines = sent.split_inclusive(|&byte| byte == b'\n');
    let (mut good, mut bad, mut over_long) = (0, 0, 0);
    for line in lines {
        match parsed(line) {
            Some(_) => good += 1,
            None => bad += 1,
        }
        over_long += u64::from(line.len() > 65_536);
    }
    assert_eq!((good, bad), (20_000, world.counts.malformed));
    assert!(over_long > 0);
}

#[test]
fn events_are_no_farther_from_their_place_than_a_batch() {
    let (_, sent, _) = made(&Options { events: 10_000, ..Options::default() }, 0);
    let lines: Vec<&[u8]> = sent.split_inclusive(|&byte| byte == b'\n').collect();
    let numbers: Vec<usize> =
        lines.iter().map(|line| usize::try_from(parsed(line).unwrap().0).unwrap()).collect();
    assert!(numbers.iter().enumerate().all(|(at, number)| at.abs_diff(number - 1) < 100));
    assert!(numbers.windows(2).any(|two| two[0] > two[1]));
}
