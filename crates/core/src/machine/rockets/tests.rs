//! The rockets machine against a trivial fold, and its rules one by one.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::conformance;
use crate::machine::tests::{assert_golden_commands, assert_golden_snapshot, restart};
use crate::structure::sequencer::Gap;

fn channel(n: u8) -> Channel {
    Channel([n; 16])
}

fn time(seconds: i64) -> MessageTime {
    MessageTime { seconds, nanoseconds: 0 }
}

fn message(n: i64, content: Content) -> RocketMessage {
    RocketMessage { time: time(n), content }
}

fn launched(speed: i64) -> Content {
    Content::Launched { kind: "Falcon-9".into(), speed, mission: "ARTEMIS".into() }
}

fn deliver(machine: &mut Rockets, channel: Channel, number: u64, content: Content) -> Reply {
    let message = message(i64::try_from(number).unwrap_or(0), content);
    let delivery = Delivery { channel, number, message };
    machine.apply(Timestamp(0), Command::Deliver(delivery), &mut |_| {})
}

fn faster(machine: &mut Rockets, number: u64) -> Outcome {
    match deliver(machine, channel(1), number, Content::SpeedIncreased(1)) {
        Reply::Taken(outcome) => outcome,
        Reply::ChannelsFull | Reply::Configured => panic!("not accepted"),
    }
}

fn only(machine: &Rockets) -> View {
    machine.get(channel(1)).unwrap().view()
}

#[test]
fn the_example_of_the_challenge_gives_three_thousand() {
    let mut machine = Rockets::default();
    let outcomes: Vec<_> = [1, 3, 3, 2, 5, 4]
        .into_iter()
        .map(|number| {
            let content = if number == 1 { launched(1000) } else { Content::SpeedIncreased(500) };
            deliver(&mut machine, channel(1), number, content)
        })
        .collect();
    use Outcome::{Applied, Duplicate, Held};
    let expected = [Applied, Held, Duplicate, Applied, Held, Applied].map(Reply::Taken);
    assert_eq!(outcomes, expected);
    assert_eq!(only(&machine).state.speed, 3000);
    assert!(only(&machine).sequence.complete());
}

#[test]
fn held_messages_are_shown_at_once_with_their_gaps() {
    let mut machine = Rockets::default();
    deliver(&mut machine, channel(1), 1, launched(100));
    deliver(&mut machine, channel(1), 7, Content::MissionChanged("MARS".into()));
    deliver(&mut machine, channel(1), 4, Content::SpeedIncreased(5));
    let view = only(&machine);
    assert_eq!(view.state.speed, 105);
    assert_eq!(view.state.mission.as_deref(), Some("MARS"));
    assert_eq!(view.state.updated, time(7));
    let missing = [Gap { from: 2, to: 3 }, Gap { from: 5, to: 6 }];
    let expected = Sequence { last: 7, applied: 1, pending: 2, missing: missing.into(), lost: 0 };
    assert_eq!(view.sequence, expected);
    assert!(!view.sequence.complete());
}

#[test]
fn a_rocket_without_its_launch_has_no_type() {
    let mut machine = Rockets::default();
    deliver(&mut machine, channel(1), 3, Content::SpeedIncreased(5));
    let view = only(&machine);
    assert_eq!((view.state.kind, view.state.mission, view.state.speed), (None, None, 5));
    assert_eq!(view.state.created, time(3));
    deliver(&mut machine, channel(1), 1, launched(100));
    let view = only(&machine);
    assert_eq!((view.state.speed, view.state.created), (105, time(1)));
}

#[test]
fn other_content_under_a_number_is_a_conflict_only_while_the_first_is_held() {
    let mut machine = Rockets::default();
    deliver(&mut machine, channel(1), 2, Content::SpeedIncreased(5));
    deliver(&mut machine, channel(1), 2, Content::SpeedIncreased(6));
    deliver(&mut machine, channel(1), 2, Content::SpeedIncreased(5));
    assert_eq!((machine.counters().conflicts, machine.counters().duplicates), (1, 2));
    deliver(&mut machine, channel(1), 1, launched(100));
    assert_eq!(only(&machine).state.speed, 105);
    deliver(&mut machine, channel(1), 2, Content::SpeedIncreased(6));
    assert_eq!((machine.counters().conflicts, machine.counters().duplicates), (1, 3));
}

#[test]
fn an_anomaly_is_consumed_counted_and_changes_nothing() {
    let mut machine = Rockets::default();
    let anomalies = [
        launched(100),
        launched(200),
        Content::SpeedIncreased(-1),
        Content::SpeedDecreased(-1),
        Content::UnknownType(1),
        Content::Unreadable(1),
        Content::Exploded("PRESSURE".into()),
        Content::SpeedIncreased(1),
        launched(1),
    ];
    let outcomes: Vec<_> = (1..)
        .zip(anomalies)
        .map(|(number, content)| deliver(&mut machine, channel(1), number, content))
        .collect();
    use Outcome::{Applied, Ignored};
    let expected =
        [Applied, Ignored, Ignored, Ignored, Ignored, Ignored, Applied, Ignored, Ignored];
    assert_eq!(outcomes, expected.map(Reply::Taken));
    let counters = machine.counters();
    assert_eq!((counters.relaunched, counters.negative), (1, 2));
    assert_eq!((counters.unknown_types, counters.unreadable), (1, 1));
    assert_eq!((counters.after_explosion, counters.applied), (2, 2));
    let view = only(&machine);
    assert_eq!((view.state.speed, view.state.updated), (100, time(7)));
    assert_eq!((view.sequence.applied, view.sequence.complete()), (9, true));
}

#[test]
fn speed_saturates_at_both_ends() {
    let mut machine = Rockets::default();
    deliver(&mut machine, channel(1), 1, launched(i64::MAX - 1));
    deliver(&mut machine, channel(1), 2, Content::SpeedIncreased(i64::MAX));
    assert_eq!(only(&machine).state.speed, i64::MAX);
    deliver(&mut machine, channel(1), 3, Content::SpeedDecreased(i64::MAX));
    deliver(&mut machine, channel(1), 4, Content::SpeedDecreased(i64::MAX));
    deliver(&mut machine, channel(1), 5, Content::SpeedDecreased(i64::MAX));
    assert_eq!(only(&machine).state.speed, i64::MIN);
}

#[test]
fn beyond_the_bound_the_oldest_gap_is_dropped_and_its_numbers_come_late() {
    let mut machine = Rockets::default();
    let limits = Limits { held_max: 3, ..Limits::default() };
    machine.apply(Timestamp(0), Command::Configure(limits), &mut |_| {});
    for number in [3, 4, 7] {
        assert_eq!(faster(&mut machine, number), Outcome::Held);
    }
    assert_eq!(faster(&mut machine, 9), Outcome::Held);
    let sequence = only(&machine).sequence;
    assert_eq!((sequence.applied, sequence.pending, sequence.lost), (4, 2, 2));
    assert_eq!(faster(&mut machine, 1), Outcome::Late);
    assert_eq!(faster(&mut machine, 3), Outcome::Duplicate);
    assert_eq!(faster(&mut machine, 5), Outcome::Applied);
    let counters = machine.counters();
    assert_eq!((counters.late, counters.lost, counters.held_max), (1, 2, 1));
    assert!(!only(&machine).sequence.complete());
}

#[test]
fn a_message_next_to_a_dropped_gap_is_not_lost_with_it() {
    let mut machine = Rockets::default();
    let limits = Limits { held_max: 2, ..Limits::default() };
    machine.apply(Timestamp(0), Command::Configure(limits), &mut |_| {});
    faster(&mut machine, 10);
    faster(&mut machine, 11);
    assert_eq!(faster(&mut machine, 5), Outcome::Applied);
    assert_eq!(only(&machine).sequence.missing.as_ref(), [Gap { from: 6, to: 9 }]);
}

#[test]
fn the_bound_over_all_channels_costs_the_channel_that_exceeds_it() {
    let mut machine = Rockets::default();
    let limits = Limits { held_total_max: 2, ..Limits::default() };
    machine.apply(Timestamp(0), Command::Configure(limits), &mut |_| {});
    for n in 2..=3 {
        deliver(&mut machine, channel(n), 5, Content::SpeedIncreased(1));
    }
    assert_eq!(machine.held_total(), 2);
    assert_eq!(faster(&mut machine, 5), Outcome::Applied);
    assert_eq!(machine.held_total(), 2);
    assert_eq!((machine.counters().held_total_max, machine.counters().lost), (1, 4));
    assert_eq!(machine.get(channel(2)).unwrap().view().sequence.pending, 1);
}

#[test]
fn a_channel_beyond_the_bound_is_rejected_and_the_others_continue() {
    let mut machine = Rockets::default();
    let limits = Limits { channels_max: 1, ..Limits::default() };
    machine.apply(Timestamp(0), Command::Configure(limits), &mut |_| {});
    assert_eq!(faster(&mut machine, 1), Outcome::Applied);
    let answer = deliver(&mut machine, channel(2), 1, launched(1));
    assert_eq!(answer, Reply::ChannelsFull);
    assert_eq!(faster(&mut machine, 2), Outcome::Applied);
    assert!(machine.get(channel(2)).is_none());
    assert_eq!(machine.counters().channels_max, 1);
}

#[test]
fn every_change_emits_the_rocket_as_it_is_right_after() {
    let mut machine = Rockets::default();
    let mut speeds = Vec::new();
    for number in [1, 3, 3, 2] {
        let message = message(1, Content::SpeedIncreased(number));
        let delivery = Delivery { channel: channel(1), number: number.unsigned_abs(), message };
        machine.apply(Timestamp(0), Command::Deliver(delivery), &mut |event| {
            speeds.push(event.state.speed);
        });
    }
    assert_eq!(speeds, [1, 4, 6]);
}

#[test]
fn a_channel_is_displayed_as_a_uuid() {
    let channel = Channel(core::array::from_fn(|i| u8::try_from(i * 17).unwrap()));
    assert_eq!(channel.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
}

#[test]
fn a_rocket_takes_at_most_176_bytes() {
    assert!(size_of::<Rocket>() <= 176, "{}", size_of::<Rocket>());
}

#[test]
fn every_published_snapshot_can_be_read() {
    let machine = assert_golden_snapshot("rockets.snapshot.v1", &golden_machine());
    assert_eq!(machine.counters(), golden_machine().counters());
}

#[test]
fn every_published_command_can_be_read() {
    assert_golden_commands("rockets.commands.v1", &golden_commands());
}

fn golden_commands() -> Vec<Command> {
    let contents = [
        launched(500),
        Content::SpeedIncreased(3000),
        Content::SpeedDecreased(-7),
        Content::MissionChanged("SHUTTLE_MIR \u{1f680}".into()),
        Content::UnknownType(7),
        Content::Unreadable(0xffff_ffff),
        Content::Exploded("PRESSURE_VESSEL_FAILURE".into()),
    ];
    let deliveries = (1..).zip(contents).map(|(number, content)| {
        let time = MessageTime { seconds: 1_643_827_145, nanoseconds: 863_370_000 };
        let message = RocketMessage { time, content };
        Command::Deliver(Delivery { channel: channel(7), number, message })
    });
    let far = Delivery {
        channel: channel(8),
        number: NUMBER_MAX,
        message: message(-1, Content::SpeedIncreased(1)),
    };
    let limits = Limits { held_max: 10, held_total_max: 20, channels_max: 30 };
    deliveries.chain([Command::Deliver(far), Command::Configure(limits)]).collect()
}

fn golden_machine() -> Rockets {
    let mut machine = Rockets::default();
    for command in golden_commands() {
        machine.apply(Timestamp(0), command, &mut |_| {});
    }
    machine
}

/// A trivial fold: all known messages of a channel, in order.
#[derive(Clone, Debug, PartialEq)]
struct Folded {
    kind: Option<Arc<str>>,
    speed: i64,
    mission: Option<Arc<str>>,
    reason: Option<Arc<str>>,
}

fn fold(known: &BTreeMap<u64, Content>) -> Folded {
    let mut rocket = Folded { kind: None, speed: 0, mission: None, reason: None };
    for content in known.values() {
        if rocket.reason.is_some() {
            break;
        }
        match content.clone() {
            Content::Launched { kind, speed, mission } if rocket.kind.is_none() => {
                rocket = Folded { kind: Some(kind), speed, mission: Some(mission), reason: None };
            }
            Content::SpeedIncreased(by) if by >= 0 => {
                rocket.speed = rocket.speed.saturating_add(by);
            }
            Content::SpeedDecreased(by) if by >= 0 => {
                rocket.speed = rocket.speed.saturating_sub(by);
            }
            Content::MissionChanged(mission) => rocket.mission = Some(mission),
            Content::Exploded(reason) => rocket.reason = Some(reason),
            Content::Launched { .. }
            | Content::SpeedIncreased(_)
            | Content::SpeedDecreased(_)
            | Content::UnknownType(_)
            | Content::Unreadable(_) => {}
        }
    }
    rocket
}

fn any_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        2 => any::<i64>().prop_map(launched),
        6 => (-100i64..1000).prop_map(Content::SpeedIncreased),
        6 => (-100i64..1000).prop_map(Content::SpeedDecreased),
        1 => any::<i64>().prop_map(Content::SpeedIncreased),
        2 => "[A-Z]{1,3}".prop_map(|mission| Content::MissionChanged(mission.into())),
        1 => Just(Content::Exploded("BANG".into())),
        1 => any::<u32>().prop_map(Content::UnknownType),
        1 => any::<u32>().prop_map(Content::Unreadable),
    ]
}

/// Messages of up to four channels, each numbered from 1 within its channel, shuffled and duplicated at
/// random.
fn any_deliveries() -> impl Strategy<Value = Vec<(u8, u64, Content)>> {
    prop::collection::vec(prop::collection::vec(any_content(), 0..40), 1..4)
        .prop_flat_map(|channels| {
            let all: Vec<_> = (0u8..)
                .zip(channels)
                .flat_map(|(id, contents)| {
                    (1u64..).zip(contents).map(move |(number, content)| (id, number, content))
                })
                .collect();
            let count = all.len();
            let order = prop::collection::vec(0..count.max(1), 0..count * 3 + 1);
            (Just(all).prop_shuffle(), order)
        })
        .prop_map(|(all, again)| {
            let extra = again.iter().filter_map(|i| all.get(*i).cloned());
            let mut out = all.clone();
            for (place, delivery) in extra.enumerate() {
                let place = (place * 7) % (out.len() + 1);
                out.insert(place, delivery);
            }
            out
        })
}

proptest! {
    #[test]
    fn for_any_permutation_and_duplication_the_state_is_the_in_order_fold_of_the_known_messages(
        deliveries in any_deliveries(),
        restart_every in 1usize..50,
    ) {
        let mut machine = Rockets::default();
        let mut known: BTreeMap<u8, BTreeMap<u64, Content>> = BTreeMap::new();
        for (i, (id, number, content)) in deliveries.into_iter().enumerate() {
            if i % restart_every == 0 {
                machine = restart(&machine);
            }
            let new = !known.get(&id).is_some_and(|known| known.contains_key(&number));
            known.entry(id).or_default().entry(number).or_insert(content.clone());
            let reply = deliver(&mut machine, channel(id), number, content);
            prop_assert_eq!(reply == Reply::Taken(Outcome::Duplicate), !new);
            for (id, known) in &known {
                let rocket = machine.get(channel(*id)).unwrap();
                let State { kind, speed, mission, reason, .. } = rocket.state().clone();
                prop_assert_eq!(Folded { kind, speed, mission, reason }, fold(known));
                // The contiguous prefix has been applied for good.
                let contiguous = (1..=u64::from(u8::MAX)).take_while(|n| known.contains_key(n)).count() as u64;
                prop_assert_eq!(rocket.sequencer.next(), contiguous + 1);
                let prefix = known.range(..=contiguous).map(|(n, c)| (*n, c.clone())).collect();
                let State { kind, speed, mission, reason, .. } = rocket.folded.clone();
                prop_assert_eq!(Folded { kind, speed, mission, reason }, fold(&prefix));
            }
        }
    }

    #[test]
    fn the_rockets_machine_keeps_the_contract(
        deliveries in prop::collection::vec((0u8..4, 1u64..60, any_content()), 0..200),
        limits in (1u32..8, 1u64..20, 1u32..5),
        restart_every in 1usize..40,
    ) {
        let (held_max, held_total_max, channels_max) = limits;
        let configure = Command::Configure(Limits { held_max, held_total_max, channels_max });
        let mut commands = vec![(Timestamp(1), configure)];
        commands.extend(deliveries.into_iter().map(|(id, number, content)| {
            let message = message(1, content);
            (Timestamp(2), Command::Deliver(Delivery { channel: channel(id), number, message }))
        }));
        conformance::check(Rockets::default, commands, restart_every);
    }
}
