//! The tracker's rules one by one, and the tracker against a plain list.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::conformance;
use crate::machine::tests::{assert_golden_commands, assert_golden_snapshot, snapshot};

fn limits(capacity: u32, peers_max: u32) -> Limits {
    Limits { capacity, peers_max, ..Limits::default() }
}

fn apply(machine: &mut Tracker, command: Command) -> Reply {
    machine.apply(Timestamp(0), command, &mut |event| match event {})
}

fn add(machine: &mut Tracker, id: &str, peer: &str) -> Reply {
    let data = id.as_bytes().to_vec();
    apply(machine, Command::Add { id: id.into(), peer_id: peer.into(), data })
}

fn remove(machine: &mut Tracker, id: &str) -> Reply {
    apply(machine, Command::Remove { id: id.into() })
}

fn ids(machine: &Tracker) -> Vec<&str> {
    machine.messages(None).map(|message| &*message.id).collect()
}

fn peers(machine: &Tracker, id: &str) -> (Peers, u32) {
    let (peers, others) = machine.peers(id).unwrap();
    (peers.map(|(peer, count)| (peer.into(), count)).collect(), others)
}

#[test]
fn the_first_message_with_an_id_stays_where_it_is() {
    let mut machine = Tracker::new(limits(2, 4));
    assert_eq!(add(&mut machine, "a", "x"), Reply::New { evicted: 0 });
    assert_eq!(add(&mut machine, "b", "x"), Reply::New { evicted: 0 });
    assert_eq!(add(&mut machine, "a", "y"), Reply::Duplicate);
    assert_eq!(&*machine.get("a").unwrap().peer_id, "x");
    assert_eq!(add(&mut machine, "c", "x"), Reply::New { evicted: 1 });
    assert_eq!(ids(&machine), ["b", "c"]);
}

#[test]
fn a_message_that_was_removed_and_comes_again_is_the_newest() {
    let mut machine = Tracker::new(limits(2, 4));
    add(&mut machine, "a", "x");
    add(&mut machine, "b", "x");
    assert_eq!(remove(&mut machine, "a"), Reply::Done);
    assert_eq!(remove(&mut machine, "a"), Reply::NotFound);
    assert_eq!(add(&mut machine, "a", "y"), Reply::New { evicted: 0 });
    assert_eq!(add(&mut machine, "c", "x"), Reply::New { evicted: 1 });
    assert_eq!(ids(&machine), ["a", "c"]);
    assert_eq!(peers(&machine, "a"), (vec![("y".into(), 1)], 0), "its counts were removed with it");
}

#[test]
fn relays_are_counted_by_peer_up_to_a_bound() {
    let mut machine = Tracker::new(limits(5, 2));
    for peer in ["x", "y", "z", "x", "z"] {
        let _ = add(&mut machine, "a", peer);
    }
    assert_eq!(peers(&machine, "a"), (vec![("x".into(), 2), ("y".into(), 1)], 2));
    assert_eq!(machine.counters().peers_max, 2);
    assert!(machine.peers("b").is_none());
    let mut machine = Tracker::new(limits(5, 0));
    add(&mut machine, "a", "x");
    assert_eq!(peers(&machine, "a"), (Vec::new(), 0));
}

#[test]
fn the_oldest_are_dropped_while_all_exceed_the_bound_on_bytes() {
    let mut machine = Tracker::new(Limits { bytes_max: 10, ..limits(100, 0) });
    for id in ["aa", "bb", "cc"] {
        add(&mut machine, id, "");
    }
    assert_eq!((ids(&machine), machine.bytes()), (vec!["bb", "cc"], 8));
    let long = "d".repeat(100);
    assert_eq!(add(&mut machine, &long, ""), Reply::New { evicted: 2 });
    assert_eq!((ids(&machine), machine.bytes()), (vec![&*long], 200));
    assert_eq!(machine.counters().bytes_max, 3);
    assert_eq!(add(&mut machine, "e", ""), Reply::New { evicted: 1 });
    assert_eq!(machine.bytes(), 2);
}

#[test]
fn new_bounds_drop_the_oldest_and_keep_order_and_counts() {
    let mut machine = Tracker::new(limits(5, 3));
    for id in ["a", "b", "c", "d"] {
        for peer in ["x", "y", "z"] {
            let _ = add(&mut machine, id, peer);
        }
    }
    apply(&mut machine, Command::Configure(limits(3, 2)));
    assert_eq!(ids(&machine), ["b", "c", "d"]);
    assert_eq!(peers(&machine, "c"), (vec![("x".into(), 1), ("y".into(), 1)], 1));
    assert_eq!((machine.counters().capacity, machine.bytes()), (1, 9));
    apply(&mut machine, Command::Configure(limits(50, 0)));
    assert_eq!(ids(&machine), ["b", "c", "d"]);
    apply(&mut machine, Command::Configure(Limits { bytes_max: 4, ..limits(50, 0) }));
    assert_eq!(ids(&machine), ["d"]);
}

#[test]
fn a_list_continues_behind_a_message_whatever_was_removed() {
    let mut machine = Tracker::new(limits(4, 0));
    for id in ["a", "b", "c", "d"] {
        add(&mut machine, id, "x");
    }
    let after = |machine: &Tracker, arrival, id: &str| -> Vec<_> {
        machine.messages(Some((arrival, id))).map(|message| message.id.clone()).collect()
    };
    assert_eq!(after(&machine, 2, "b"), ["c".into(), "d".into()]);
    assert_eq!(after(&machine, 4, "d"), []);
    remove(&mut machine, "b");
    assert_eq!(after(&machine, 2, "b"), ["c".into(), "d".into()], "b is removed");
    add(&mut machine, "b", "x");
    assert_eq!(after(&machine, 2, "b"), ["c".into(), "d".into(), "b".into()], "b came again");
    add(&mut machine, "e", "x");
    assert_eq!(after(&machine, 1, "a"), ["c".into(), "d".into(), "b".into(), "e".into()]);
}

/// The peers of a message with their counts.
type Peers = Vec<(Box<str>, u32)>;

/// A trivial tracker: a list, with the counts of each message and those of other peers.
#[derive(Default)]
struct Model {
    messages: Vec<(TrackedMessage, Peers, u32)>,
    arrivals: u64,
}

impl Model {
    fn keep_to(&mut self, limits: Limits) -> u32 {
        let before = self.messages.len();
        let bytes = |model: &Self| model.messages.iter().map(|(m, ..)| m.bytes()).sum::<u64>();
        while self.messages.len() > limits.capacity as usize
            || (bytes(self) > limits.bytes_max && self.messages.len() > 1)
        {
            self.messages.remove(0);
        }
        u32::try_from(before - self.messages.len()).unwrap()
    }

    fn relay(&mut self, id: &str, peer: &str, limits: Limits) {
        let found = self.messages.iter_mut().find(|(message, ..)| &*message.id == id);
        let (_, peers, others) = found.unwrap();
        if limits.peers_max == 0 {
            return;
        }
        match peers.iter().position(|(other, _)| &**other == peer) {
            Some(place) => peers[place].1 += 1,
            None if peers.len() < limits.peers_max as usize => peers.push((peer.into(), 1)),
            None => *others += 1,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u8, u8),
    Remove(u8),
    Configure(u8, u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..20_u8, 0..6_u8, 0..9_u8).prop_map(|(id, peer, length)| Step::Add(id, peer, length)),
        3 => (0..20_u8).prop_map(Step::Remove),
        1 => (1..9_u8, 8..120_u8, 1..5_u8).prop_map(|(n, bytes, peers)| Step::Configure(n, bytes, peers)),
    ]
}

fn command(step: &Step) -> Command {
    match step {
        Step::Add(id, peer, length) => Command::Add {
            id: format!("id {id}").into(),
            peer_id: format!("peer {peer}").into(),
            data: vec![*id; usize::from(*length)],
        },
        Step::Remove(id) => Command::Remove { id: format!("id {id}").into() },
        Step::Configure(capacity, bytes, peers) => Command::Configure(Limits {
            capacity: u32::from(*capacity),
            bytes_max: u64::from(*bytes),
            peers_max: u32::from(*peers),
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_behaves_like_a_plain_list(steps in prop::collection::vec(step(), 1..120)) {
        // Never more peers than are counted separately: another test covers those beyond.
        let mut bounds = limits(5, 9);
        let mut machine = Tracker::new(bounds);
        let mut model = Model::default();
        for step in &steps {
            match command(step) {
                Command::Configure(Limits { capacity, bytes_max, .. }) => {
                    bounds = Limits { capacity, bytes_max, ..bounds };
                    prop_assert_eq!(apply(&mut machine, Command::Configure(bounds)), Reply::Done);
                    model.keep_to(bounds);
                }
                Command::Add { id, peer_id, data } => {
                    let known = model.messages.iter().any(|(message, ..)| message.id == id);
                    let asked = Command::Add { id: id.clone(), peer_id: peer_id.clone(), data: data.clone() };
                    let reply = apply(&mut machine, asked);
                    if known {
                        prop_assert_eq!(reply, Reply::Duplicate);
                        model.relay(&id, &peer_id, bounds);
                        continue;
                    }
                    model.arrivals += 1;
                    let message = TrackedMessage { id: id.clone(), peer_id: peer_id.clone(), data, arrival: model.arrivals };
                    model.messages.push((message, Vec::new(), 0));
                    model.relay(&id, &peer_id, bounds);
                    prop_assert_eq!(reply, Reply::New { evicted: model.keep_to(bounds) });
                }
                Command::Remove { id } => {
                    let before = model.messages.len();
                    model.messages.retain(|(message, ..)| message.id != id);
                    let found = before > model.messages.len();
                    let expected = if found { Reply::Done } else { Reply::NotFound };
                    prop_assert_eq!(apply(&mut machine, Command::Remove { id }), expected);
                }
            }
            prop_assert!(machine.messages(None).eq(model.messages.iter().map(|(message, ..)| message)));
            for (message, expected, others) in &model.messages {
                prop_assert_eq!(peers(&machine, &message.id), (expected.clone(), *others));
                prop_assert_eq!(machine.get(&message.id), Some(message));
            }
            let bytes: u64 = model.messages.iter().map(|(message, ..)| message.bytes()).sum();
            prop_assert_eq!(machine.bytes(), bytes);
        }
    }

    #[test]
    fn the_tracker_keeps_the_contract(
        steps in prop::collection::vec(step(), 1..80),
        restart_every in 1..20_usize,
    ) {
        let commands = steps.iter().map(|step| (Timestamp(0), command(step)));
        conformance::check(|| Tracker::new(limits(5, 2)), commands, restart_every);
    }
}

#[test]
fn stored_commands_and_snapshots_of_the_first_version_can_be_read() {
    let steps = [
        Step::Configure(3, 100, 2),
        Step::Add(1, 1, 3),
        Step::Add(2, 1, 4),
        Step::Add(1, 2, 3),
        Step::Add(1, 3, 3),
        Step::Remove(2),
        Step::Add(4, 1, 8),
    ];
    let commands: Vec<Command> = steps.iter().map(command).collect();
    assert_golden_commands("tracker.commands.v1", &commands);
    let mut machine = Tracker::default();
    for command in commands {
        apply(&mut machine, command);
    }
    assert_golden_snapshot("tracker.snapshot.v1", &machine);
}

#[test]
fn an_impossible_snapshot_is_rejected() {
    let mut machine = Tracker::new(limits(3, 2));
    add(&mut machine, "a", "x");
    add(&mut machine, "b", "x");
    let snapshot = snapshot(&machine);
    assert!(Tracker::restore(&snapshot).is_ok());
    assert!(Tracker::restore(&snapshot[..snapshot.len() - 1]).is_err(), "cut short");
    assert!(Tracker::restore(&[&snapshot[..], &[0]].concat()).is_err(), "with a byte behind it");
    let twice = snapshot.iter().map(|byte| if *byte == b'b' { b'a' } else { *byte });
    assert!(Tracker::restore(&twice.collect::<Vec<_>>()).is_err(), "one id twice");
    let mut small = Vec::new();
    encode(&TrackerSnapshot::V1(limits(1, 2), 2, Counters::default(), 2), &mut small);
    assert!(Tracker::restore(&small).is_err(), "more messages than the capacity");
}
