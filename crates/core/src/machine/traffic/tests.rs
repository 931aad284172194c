//! The traffic machine's rules one by one, and the machine against a recount.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::conformance;
use crate::machine::tests::{
    assert_golden_commands, assert_golden_snapshot, at_rising_times, restart,
};
use crate::structure::tally::Kind;

const MINUTE: u64 = 60_000;

fn id(number: u8) -> tally::Id {
    [number; 16]
}

/// An element of a feed: a child belongs to a parent, or calls another child.
#[derive(Clone, Copy, Debug)]
enum Element {
    Belongs(u8, u8),
    Call(u8, u8, Kind),
}

fn bytes(elements: &[Element]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for element in elements {
        let (one, other) = match element {
            Element::Belongs(one, other) | Element::Call(one, other, _) => (id(*one), id(*other)),
        };
        let record = match element {
            Element::Belongs(..) => Record::Belongs { child: &one, parent: &other },
            Element::Call(_, _, kind) => {
                Record::Call { source: &one, destination: &other, kind: *kind }
            }
        };
        record::write(&mut bytes, record);
    }
    assert_eq!(bytes.len(), elements.len() * record::BYTES);
    bytes
}

fn served(from: u8, to: u8) -> Element {
    Element::Call(from, to, Kind::Served)
}

fn apply(machine: &mut Traffic, at: u64, command: Command) -> (Reply, Vec<Event>) {
    let mut events = Vec::new();
    let reply = machine.apply(Timestamp(at), command, &mut |event| events.push(event));
    (reply, events)
}

fn feed(machine: &mut Traffic, at: u64, elements: &[Element]) -> Vec<Event> {
    apply(machine, at, Command::Feed { bytes: bytes(elements) }).1
}

fn tick(machine: &mut Traffic, at: u64) -> Vec<Event> {
    let mut events = Vec::new();
    machine.tick(Timestamp(at), &mut |event| events.push(event));
    events
}

/// The calls by pair of parents.
fn calls(machine: &Traffic, rows: &[Row]) -> BTreeMap<(u8, u8), u64> {
    let parent = |place: u32| machine.tally().parents()[place as usize][0];
    rows.iter().map(|row| ((parent(row.from), parent(row.to)), row.counts.calls)).collect()
}

fn only_report(machine: &Traffic) -> &WindowReport {
    let mut reports = machine.reports();
    assert_eq!(reports.len(), 1);
    reports.next().unwrap()
}

#[test]
fn a_window_is_aligned_and_closed_at_its_end() {
    let mut machine = Traffic::default();
    feed(&mut machine, MINUTE + 17, &[Element::Belongs(1, 10), served(1, 1)]);
    assert_eq!(machine.next_deadline(), Some(Timestamp(2 * MINUTE)));
    assert!(feed(&mut machine, 2 * MINUTE - 1, &[served(1, 1)]).is_empty());
    assert_eq!(tick(&mut machine, 2 * MINUTE), [Event::Closed { start: MINUTE }]);
    let report = only_report(&machine);
    assert_eq!((report.start, report.end, report.sent), (MINUTE, 2 * MINUTE, false));
    assert_eq!(calls(&machine, &report.rows), [((10, 10), 2)].into());
    assert_eq!(machine.next_deadline(), None);
}

#[test]
fn an_entry_behind_the_end_closes_the_window_first() {
    let mut machine = Traffic::default();
    feed(&mut machine, 5, &[Element::Belongs(1, 10), served(1, 1)]);
    let closed = feed(&mut machine, 7 * MINUTE, &[served(1, 1), served(1, 1)]);
    assert_eq!(closed, [Event::Closed { start: 0 }]);
    assert_eq!(calls(&machine, &only_report(&machine).rows), [((10, 10), 1)].into());
    assert_eq!(machine.window(), Some((7 * MINUTE, 8 * MINUTE)));
}

#[test]
fn a_window_without_calls_makes_no_report_unless_configured() {
    let mut machine = Traffic::default();
    feed(&mut machine, 5, &[Element::Belongs(1, 10)]);
    assert_eq!(machine.next_deadline(), None);
    let limits = Limits { empty: true, ..Limits::default() };
    apply(&mut machine, 10, Command::Configure(limits));
    assert_eq!(tick(&mut machine, MINUTE), [Event::Closed { start: 0 }]);
    assert!(only_report(&machine).rows.is_empty());
    assert!(machine.unsent().is_some());
    assert_eq!(machine.next_deadline(), Some(Timestamp(2 * MINUTE)), "and so on");
}

#[test]
fn calls_of_unknown_children_are_reported_but_not_sent() {
    let mut machine = Traffic::default();
    feed(&mut machine, 5, &[served(1, 2), served(1, 2)]);
    tick(&mut machine, MINUTE);
    assert_eq!(only_report(&machine).unresolved, 2);
    assert_eq!((machine.unsent(), machine.counters().unresolved), (None, 2));
}

#[test]
fn a_late_topology_counts_for_the_open_window_only() {
    let mut machine = Traffic::default();
    feed(&mut machine, 5, &[served(1, 2)]);
    feed(&mut machine, MINUTE + 5, &[served(1, 2), served(1, 1)]);
    feed(&mut machine, MINUTE + 9, &[Element::Belongs(1, 10), Element::Belongs(2, 20)]);
    tick(&mut machine, 2 * MINUTE);
    let rows = &machine.reports().next_back().unwrap().rows;
    assert_eq!(calls(&machine, rows), [((10, 20), 1), ((10, 10), 1)].into());
}

#[test]
fn a_report_is_unsent_until_it_is_delivered_once() {
    let mut machine = Traffic::default();
    for window in 0..3 {
        feed(&mut machine, window * MINUTE, &[Element::Belongs(1, 10), served(1, 1)]);
    }
    assert_eq!(machine.unsent().map(|report| report.start), Some(0));
    let delivered = Command::Delivered { start: 0 };
    assert_eq!(apply(&mut machine, 2 * MINUTE, delivered.clone()).0, Reply::Done);
    assert_eq!(apply(&mut machine, 2 * MINUTE, delivered).0, Reply::NotUnsent);
    assert_eq!(machine.unsent().map(|report| report.start), Some(MINUTE));
    assert_eq!(machine.counters().delivered, 1);
}

fn claim(machine: &mut Traffic, start: u64, token: u64) -> Reply {
    apply(machine, 9 * MINUTE, Command::Claim { start, token }).0
}

/// Returns a machine with `count` unsent reports.
fn with_reports(count: u64) -> Traffic {
    let mut machine = Traffic::default();
    for window in 0..=count {
        feed(&mut machine, window * MINUTE, &[Element::Belongs(1, 10), served(1, 1)]);
    }
    machine
}

#[test]
fn the_claimer_of_a_report_can_claim_it_again_until_it_is_delivered() {
    let mut machine = with_reports(2);
    assert_eq!(claim(&mut machine, 0, 3), Reply::Done);
    assert_eq!(claim(&mut machine, 0, 3), Reply::Done, "its connection broke");
    apply(&mut machine, 9 * MINUTE, Command::Delivered { start: 0 });
    assert_eq!(claim(&mut machine, 0, 3), Reply::NotUnsent);
    assert_eq!(claim(&mut machine, MINUTE, 4), Reply::Done, "no claim was open");
    assert_eq!(machine.counters().delivered, 1);
}

#[test]
fn a_claim_with_a_higher_token_settles_the_open_one_and_a_lower_token_claims_nothing() {
    let mut machine = with_reports(3);
    assert_eq!(claim(&mut machine, 0, 3), Reply::Done);
    assert_eq!(claim(&mut machine, 0, 4), Reply::ClaimedBefore);
    assert_eq!(machine.unsent().map(|report| report.start), Some(MINUTE));
    assert_eq!(claim(&mut machine, MINUTE, 3), Reply::NotUnsent, "its lease has expired");
    assert_eq!(claim(&mut machine, MINUTE, 4), Reply::Done);
    assert_eq!(claim(&mut machine, 2 * MINUTE, 5), Reply::Done);
    assert_eq!(machine.unsent().map(|report| report.start), Some(2 * MINUTE));
    assert_eq!(machine.counters().delivered, 0);
}

#[test]
fn the_oldest_report_is_dropped_and_counted_if_it_was_not_sent() {
    let limits = Limits { reports_max: 2, ..Limits::default() };
    let mut machine = Traffic::new(limits);
    for window in 0..4 {
        feed(&mut machine, window * MINUTE, &[Element::Belongs(1, 10), served(1, 1)]);
        apply(&mut machine, window * MINUTE, Command::Delivered { start: 0 });
    }
    assert_eq!(
        machine.reports().map(|report| report.start).collect::<Vec<_>>(),
        [MINUTE, 2 * MINUTE]
    );
    assert_eq!(machine.counters().reports_dropped, 0);
    tick(&mut machine, 4 * MINUTE);
    assert_eq!(machine.counters().reports_dropped, 1);
    let rows = Limits { report_rows_max: 1, ..limits };
    apply(&mut machine, 4 * MINUTE, Command::Configure(rows));
    assert_eq!(machine.reports().len(), 1);
}

#[test]
fn a_change_of_length_takes_effect_with_the_next_window() {
    let mut machine = Traffic::default();
    feed(&mut machine, 5, &[Element::Belongs(1, 10), served(1, 1)]);
    let limits = Limits { window_ms: 90_000, ..Limits::default() };
    apply(&mut machine, 6, Command::Configure(limits));
    assert_eq!(machine.window(), Some((0, MINUTE)));
    feed(&mut machine, MINUTE, &[served(1, 1)]);
    assert_eq!(machine.window(), Some((MINUTE, 90_000)), "windows do not overlap");
}

#[test]
fn statuses_are_of_three_kinds() {
    let kinds = [0, 200, 399, 400, 499, 500, 599, u16::MAX].map(record::kind);
    let (served, rejected, failed) = (Kind::Served, Kind::Rejected, Kind::Failed);
    assert_eq!(kinds, [served, served, served, rejected, rejected, failed, failed, failed]);
}

/// What a window has counted by pair, and the calls that wait.
type Window = (BTreeMap<(u8, u8), u64>, Vec<(u8, u8)>);

fn element() -> impl Strategy<Value = Element> {
    let kind = prop_oneof![Just(Kind::Served), Just(Kind::Rejected), Just(Kind::Failed)];
    prop_oneof![
        1 => (0u8..6, 100u8..103).prop_map(|(child, parent)| Element::Belongs(child, parent)),
        3 => (0u8..6, 0u8..6, kind).prop_map(|(from, to, kind)| Element::Call(from, to, kind)),
    ]
}

proptest! {
    #[test]
    fn the_counts_of_every_window_equal_a_recount(
        feeds in prop::collection::vec((0u64..40_000, prop::collection::vec(element(), 0..20)), 0..20),
        pieces in 1usize..5,
    ) {
        let mut machine = Traffic::default();
        let mut parents = BTreeMap::new();
        let mut windows: BTreeMap<u64, Window> = BTreeMap::new();
        let mut at = 0;
        for (later, elements) in &feeds {
            at += later;
            for piece in elements.chunks(pieces) {
                feed(&mut machine, at, piece);
                machine = restart(&machine);
            }
            for element in elements {
                match *element {
                    Element::Belongs(child, parent) => drop(parents.insert(child, parent)),
                    Element::Call(from, to, _) => {
                        windows.entry(at / MINUTE).or_default().1.push((from, to));
                    }
                }
                // Only the last window that has any calls can be open.
                if let Some((start, (counted, waiting))) = windows.iter_mut().next_back()
                    && *start == at / MINUTE
                {
                    waiting.retain(|(from, to)| {
                        let ends = (parents.get(from), parents.get(to));
                        let (Some(from), Some(to)) = ends else { return true };
                        *counted.entry((*from, *to)).or_default() += 1;
                        false
                    });
                }
            }
        }
        tick(&mut machine, at + MINUTE);
        let reports: BTreeMap<u64, _> = machine
            .reports()
            .map(|report| (report.start / MINUTE, (calls(&machine, &report.rows), report.unresolved)))
            .collect();
        let expected: BTreeMap<u64, _> = windows
            .into_iter()
            .map(|(start, (counted, waiting))| (start, (counted, waiting.len() as u64)))
            .collect();
        prop_assert_eq!(reports, expected);
    }

    #[test]
    fn the_traffic_machine_keeps_the_contract(
        steps in prop::collection::vec((0u64..40_000, command()), 0..60),
        restart_every in 1usize..5,
    ) {
        conformance::check(Traffic::default, at_rising_times(steps), restart_every);
    }
}

fn command() -> impl Strategy<Value = Command> {
    let bounds = (1u32..6, 1u32..4, 1u32..9, 0u32..9, 1u32..4, 1u32..9);
    let limits = (1u64..99_000, any::<bool>(), bounds).prop_map(|(window_ms, empty, bounds)| {
        let (children_max, parents_max, pairs_max, held_max, reports_max, report_rows_max) = bounds;
        Limits {
            window_ms,
            empty,
            children_max,
            parents_max,
            pairs_max,
            held_max,
            reports_max,
            report_rows_max,
        }
    });
    let feed = prop::collection::vec(element(), 0..20);
    prop_oneof![
        1 => limits.prop_map(Command::Configure),
        6 => feed.prop_map(|elements| Command::Feed { bytes: bytes(&elements) }),
        1 => (0u64..30).prop_map(|window| Command::Delivered { start: window * MINUTE }),
        1 => (0u64..30, 0u64..5).prop_map(|(window, token)| Command::Claim { start: window * MINUTE, token }),
    ]
}

#[test]
fn stored_commands_and_snapshots_of_every_version_can_be_read() {
    let elements = [
        Element::Belongs(1, 10),
        served(1, 1),
        Element::Call(1, 2, Kind::Failed),
        Element::Call(3, 1, Kind::Rejected),
        Element::Belongs(2, 20),
    ];
    let limits = Limits { reports_max: 7, ..Limits::default() };
    let given = vec![
        (1, Command::Configure(limits)),
        (2, Command::Feed { bytes: bytes(&elements) }),
        (MINUTE, Command::Delivered { start: 0 }),
        (MINUTE + 1, Command::Feed { bytes: bytes(&elements) }),
    ];
    let commands: Vec<_> = given.iter().map(|(_, command)| command.clone()).collect();
    assert_golden_commands("traffic.commands.v1", &commands);
    let mut machine = Traffic::default();
    for (at, command) in given {
        apply(&mut machine, at, command);
    }
    assert_golden_snapshot("traffic.snapshot.v1", &machine);
    let claim = Command::Claim { start: 0, token: 300 };
    assert_golden_commands("traffic.commands.v2", core::slice::from_ref(&claim));
    apply(&mut machine, MINUTE + 2, claim);
    assert_golden_snapshot("traffic.snapshot.v2", &machine);
}
