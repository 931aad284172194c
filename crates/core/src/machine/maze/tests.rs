//! The maze against a trivial server (sort everything, then route), and its rules one by one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::conformance;
use crate::machine::tests::{
    assert_golden_commands, assert_golden_snapshot, at_rising_times, restart,
};

const SOURCE: SourceId = 7;

/// Drives a machine and keeps its notifications: each line with its users, in order.
struct Driver {
    maze: Maze,
    part: u64,
    delivered: Vec<(String, Option<Vec<u64>>)>,
}

impl Driver {
    fn new(limits: Limits) -> Self {
        let mut driver = Self { maze: Maze::new(limits), part: 0, delivered: Vec::new() };
        driver.open(SOURCE);
        driver
    }

    fn apply(&mut self, at: u64, command: Command) -> Reply {
        let delivered = &mut self.delivered;
        self.maze.apply(Timestamp(at), command, &mut |notification| keep(delivered, notification))
    }

    fn tick(&mut self, at: u64) {
        let delivered = &mut self.delivered;
        self.maze.tick(Timestamp(at), &mut |notification| keep(delivered, notification));
    }

    fn open(&mut self, source: SourceId) {
        self.part = 0;
        assert_eq!(self.apply(0, Command::Open { source }), Reply::Done);
    }

    fn feed_at(&mut self, at: u64, text: &str) -> Reply {
        let part = self.part;
        self.part += 1;
        self.apply(at, Command::Feed { source: SOURCE, part, bytes: text.as_bytes().to_vec() })
    }

    fn feed(&mut self, text: &str) {
        assert_eq!(self.feed_at(0, text), Reply::Done);
    }

    fn close(&mut self) {
        let mut reply = self.apply(0, Command::Close { source: SOURCE });
        while reply == Reply::More {
            reply = self.apply(0, Command::Release { bytes_max: 64 });
        }
    }

    /// Returns the notifications since the last call, as `line>users`.
    fn delivered(&mut self) -> Vec<String> {
        let delivered = core::mem::take(&mut self.delivered);
        delivered
            .iter()
            .map(|(line, users)| match users {
                None => format!("{}>all", line.trim_end()),
                Some(users) => format!("{}>{users:?}", line.trim_end()),
            })
            .collect()
    }
}

fn keep(delivered: &mut Vec<(String, Option<Vec<u64>>)>, notification: Notification) {
    let users = match notification.to {
        Audience::Everybody => None,
        Audience::Users(mut users) => {
            users.sort_unstable();
            Some(users)
        }
    };
    delivered.push((String::from_utf8(notification.line).unwrap(), users));
}

#[test]
fn events_are_routed_in_order_by_who_follows_whom_at_that_moment() {
    let mut driver = Driver::new(Limits::default());
    driver.feed("5|S|50\n3|P|32|56\r\n");
    assert!(driver.delivered().is_empty());
    driver.feed("2|B\n1|F|60|50\n4|F|61|50\n6|U|60|50\n7|S|50\n");
    assert_eq!(
        driver.delivered(),
        [
            "1|F|60|50>[50]",
            "2|B>all",
            "3|P|32|56>[56]",
            "4|F|61|50>[50]",
            "5|S|50>[60, 61]",
            "7|S|50>[61]"
        ]
    );
}

#[test]
fn a_line_is_passed_on_unchanged_with_its_own_line_end() {
    let mut driver = Driver::new(Limits::default());
    driver.feed("2|P|1|2\n1|P|1|02\r\n0000000000000000003|P|00000000000000000001|2\r\n");
    let lines: Vec<_> = driver.delivered.iter().map(|(line, _)| line.as_str()).collect();
    let long = "0000000000000000003|P|00000000000000000001|2\r\n";
    assert_eq!(lines, ["1|P|1|02\r\n", "2|P|1|2\n", long]);
}

#[test]
fn a_repeated_follow_does_not_duplicate_a_delivery() {
    let mut driver = Driver::new(Limits::default());
    driver.feed("1|F|1|2\n2|F|1|2\n3|S|2\n4|U|1|2\n5|S|2\n");
    assert_eq!(driver.delivered(), ["1|F|1|2>[2]", "2|F|1|2>[2]", "3|S|2>[1]"]);
}

#[test]
fn a_malformed_line_is_counted_and_uses_up_no_number() {
    let mut driver = Driver::new(Limits::default());
    driver.feed(&format!("1|X\n1|B\nnonsense\n{}\n2|B\n\n", "9".repeat(2000)));
    assert_eq!(driver.delivered(), ["1|B>all", "2|B>all"]);
    let Counters { malformed, overlong, .. } = *driver.maze.counters();
    assert_eq!((malformed, overlong), (4, 1));
}

#[test]
fn a_duplicate_is_dropped_and_counted_whether_its_number_is_held_or_has_passed() {
    let mut driver = Driver::new(Limits::default());
    driver.feed("1|B\n1|B\n3|B\n3|P|1|1\n2|B\n3|B\n");
    assert_eq!(driver.delivered(), ["1|B>all", "2|B>all", "3|B>all"]);
    assert_eq!(driver.maze.counters().duplicates, 3);
}

#[test]
fn when_too_many_events_are_held_the_oldest_gap_is_skipped() {
    let mut driver = Driver::new(Limits { held_max: 2, ..Limits::default() });
    driver.feed("2|B\n3|B\n");
    assert!(driver.delivered().is_empty());
    driver.feed("5|B\n");
    assert_eq!(driver.delivered(), ["2|B>all", "3|B>all"]);
    driver.feed("1|B\n");
    let Counters { gaps, lost, late, held_max, .. } = *driver.maze.counters();
    assert_eq!((gaps, lost, late, held_max), (1, 1, 1, 1));
}

#[test]
fn a_gap_is_waited_for_from_when_it_becomes_the_oldest() {
    let mut driver = Driver::new(Limits::default());
    driver.feed_at(1000, "2|B\n4|B\n");
    assert_eq!(driver.maze.next_deadline(), Some(Timestamp(6000)));
    driver.feed_at(2000, "6|B\n");
    assert_eq!(driver.maze.next_deadline(), Some(Timestamp(6000)));
    driver.feed_at(3000, "1|B\n");
    assert_eq!(driver.maze.next_deadline(), Some(Timestamp(8000)));
    driver.delivered();
    driver.tick(7999);
    assert!(driver.delivered().is_empty());
    driver.tick(8000);
    assert_eq!(driver.delivered(), ["4|B>all"]);
    assert_eq!(driver.maze.next_deadline(), Some(Timestamp(13000)));
    driver.feed_at(8500, "5|B\n");
    assert_eq!(driver.maze.next_deadline(), None);
    assert_eq!(driver.maze.counters().gap_wait, 1);
}

#[test]
fn when_a_source_closes_its_held_events_are_delivered_in_order() {
    let mut driver = Driver::new(Limits::default());
    driver.feed("9|B\n2|B\n5|B\n3|");
    driver.close();
    assert_eq!(driver.delivered(), ["2|B>all", "5|B>all", "9|B>all"]);
    let Counters { gaps, lost, malformed, .. } = *driver.maze.counters();
    assert_eq!((gaps, lost, malformed), (3, 6, 1));
    assert_eq!(driver.maze.source(), None);
}

#[test]
fn a_gap_is_waited_for_longer_by_the_time_that_the_source_was_paused() {
    let mut driver = Driver::new(Limits::default());
    driver.feed_at(1000, "2|B\n");
    driver.apply(5500, Command::Paused { source: 8, ms: 4000 });
    assert_eq!(driver.maze.next_deadline(), Some(Timestamp(6000)), "another source's pause");
    driver.apply(5500, Command::Paused { source: SOURCE, ms: 4000 });
    assert_eq!(driver.maze.next_deadline(), Some(Timestamp(10_000)));
    driver.apply(6000, Command::Paused { source: SOURCE, ms: u64::MAX });
    assert_eq!(driver.maze.next_deadline(), Some(Timestamp(11_000)), "the wait begins by now");
    driver.feed_at(10_999, "1|B\n");
    assert_eq!(driver.delivered(), ["1|B>all", "2|B>all"]);
}

#[test]
fn a_new_source_starts_at_one_and_without_follows() {
    let mut driver = Driver::new(Limits::default());
    driver.feed("1|F|1|2\n");
    driver.close();
    driver.open(SOURCE);
    driver.feed("1|S|2\n2|B\n");
    assert_eq!(driver.delivered(), ["1|F|1|2>[2]", "2|B>all"]);
}

#[test]
fn with_keep_a_new_source_continues_where_the_last_one_ended() {
    let mut driver = Driver::new(Limits::default());
    let limits = Limits { keep: true, ..Limits::default() };
    driver.apply(0, Command::Configure(limits));
    driver.feed("1|F|1|2\n");
    driver.close();
    driver.open(SOURCE);
    driver.feed("1|B\n2|S|2\n");
    assert_eq!(driver.delivered(), ["1|F|1|2>[2]", "2|S|2>[1]"]);
}

#[test]
fn a_second_source_is_rejected_while_one_is_connected() {
    let mut driver = Driver::new(Limits::default());
    assert_eq!(driver.apply(0, Command::Open { source: 8 }), Reply::NotTheSource);
    let feed = Command::Feed { source: 8, part: 0, bytes: b"1|B\n".to_vec() };
    assert_eq!(driver.apply(0, feed), Reply::NotTheSource);
    assert_eq!(driver.apply(0, Command::Close { source: 8 }), Reply::NotTheSource);
    assert!(driver.delivered().is_empty());
}

#[test]
fn a_repeated_feed_changes_nothing() {
    let mut driver = Driver::new(Limits::default());
    let feed = Command::Feed { source: SOURCE, part: 0, bytes: b"1|B\nx\n".to_vec() };
    driver.apply(0, feed.clone());
    driver.apply(0, feed);
    assert_eq!(driver.delivered(), ["1|B>all"]);
    let Counters { malformed, duplicates, .. } = *driver.maze.counters();
    assert_eq!((malformed, duplicates), (1, 0));
}

#[test]
fn an_abandoned_source_is_flushed_after_the_wait_or_when_the_next_one_opens() {
    for next_opens in [false, true] {
        let mut driver = Driver::new(Limits::default());
        driver.feed_at(0, "2|B\n");
        assert_eq!(driver.apply(60_000, Command::Abandon { source: SOURCE }), Reply::Done);
        assert_eq!(driver.maze.next_deadline(), Some(Timestamp(65_000)));
        driver.tick(64_999);
        assert!(driver.delivered().is_empty());
        if next_opens {
            driver.open(8);
        } else {
            driver.tick(65_000);
            assert_eq!(driver.maze.source(), None);
        }
        assert_eq!(driver.delivered(), ["2|B>all"]);
    }
}

#[test]
fn the_events_released_by_one_command_are_bounded() {
    let mut driver = Driver::new(Limits::default());
    let many: Vec<String> = (2..20_000).map(|number| format!("{number}|B\n")).collect();
    let many = many.concat();
    driver.feed(&many);
    assert_eq!(driver.feed_at(0, "1|B\n"), Reply::More);
    let first = driver.delivered().len();
    assert!((1000..4000).contains(&first), "{first}");
    // A restart in the middle changes nothing, and no gap is waited for.
    driver.maze = restart(&driver.maze);
    assert_eq!(driver.maze.next_deadline(), None);
    let mut all = first;
    while driver.apply(0, Command::Release { bytes_max: 10_000 }) == Reply::More {
        let some = driver.delivered().len();
        assert!((1..2000).contains(&some), "{some}");
        all += some;
    }
    assert_eq!(all + driver.delivered().len(), 19_999);
}

/// A trivial server: sorts everything, then routes. The first line with a number counts.
fn model(lines: &[String]) -> Vec<(String, Option<Vec<u64>>)> {
    let mut sorted: BTreeMap<u64, String> = BTreeMap::new();
    for line in lines {
        if let (Read::Event { number, .. }, _) = parse::line(line.as_bytes()) {
            sorted.entry(number).or_insert_with(|| line.clone());
        }
    }
    let mut followers: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut delivered = Vec::new();
    for line in sorted.into_values() {
        let fields: Vec<&str> = line.trim_end().split('|').collect();
        let user = |place: usize| fields[place].parse::<u64>().unwrap();
        let users = match fields[1] {
            "F" => {
                followers.entry(user(3)).or_default().insert(user(2));
                Some(vec![user(3)])
            }
            "U" => {
                followers.entry(user(3)).or_default().remove(&user(2));
                continue;
            }
            "B" => None,
            "P" => Some(vec![user(3)]),
            _ => {
                let set = followers.get(&user(2)).cloned().unwrap_or_default();
                if set.is_empty() {
                    continue;
                }
                Some(set.into_iter().collect())
            }
        };
        delivered.push((line, users));
    }
    delivered
}

fn event_line() -> impl Strategy<Value = String> {
    let user = || 0u64..6;
    prop_oneof![
        (user(), user()).prop_map(|(from, to)| format!("F|{from}|{to}")),
        (user(), user()).prop_map(|(from, to)| format!("U|{from}|{to}")),
        Just(String::from("B")),
        (user(), user()).prop_map(|(from, to)| format!("P|{from}|{to}")),
        user().prop_map(|from| format!("S|{from}")),
    ]
}

/// Lines of a stream in any order: numbers missing, repeated and far away, and malformed lines.
fn stream() -> impl Strategy<Value = Vec<String>> {
    let number = prop_oneof![10 => 1u64..60, 1 => 1u64..5000];
    let end = prop::sample::select(vec!["\n", "\r\n"]);
    let good = (number, event_line(), end)
        .prop_map(|(number, event, end)| format!("{number}|{event}{end}"));
    let bad =
        prop::sample::select(vec!["1|X\n", "\n", "2|F|1\r\n", "-1|B\n"]).prop_map(String::from);
    prop::collection::vec(prop_oneof![8 => good, 1 => bad], 0..200)
}

proptest! {
    #[test]
    fn a_stream_in_any_pieces_is_routed_as_by_a_trivial_server(
        lines in stream(),
        pieces in prop::collection::vec(1usize..20, 1..40),
    ) {
        let mut driver = Driver::new(Limits::default());
        let mut rest = lines.as_slice();
        let mut piece = pieces.iter().cycle();
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*piece.next().unwrap()).min(rest.len()));
            driver.feed(&now.concat());
            rest = later;
        }
        driver.close();
        prop_assert_eq!(&driver.delivered, &model(&lines));
        let malformed = lines.iter().filter(|line| !matches!(parse::line(line.as_bytes()).0, Read::Event { .. }));
        prop_assert_eq!(driver.maze.counters().malformed, malformed.count() as u64);
    }

    #[test]
    fn the_maze_keeps_the_contract(
        steps in prop::collection::vec((0u64..4000, command()), 0..60),
        restart_every in 1usize..5,
    ) {
        conformance::check(Maze::default, at_rising_times(steps), restart_every);
    }
}

fn command() -> impl Strategy<Value = Command> {
    let source = || 1u64..3;
    let limits = (1u32..50, 1u64..9000, 1u32..9, 1u64..9, any::<bool>()).prop_map(
        |(held_max, gap_wait_ms, users_max, follows_max, keep)| Limits {
            held_max,
            gap_wait_ms,
            users_max,
            follows_max,
            keep,
        },
    );
    prop_oneof![
        1 => limits.prop_map(Command::Configure),
        3 => source().prop_map(|source| Command::Open { source }),
        12 => (source(), 0u64..8, stream()).prop_map(|(source, part, lines)| Command::Feed {
            source,
            part,
            bytes: lines.concat().into_bytes(),
        }),
        1 => source().prop_map(|source| Command::Close { source }),
        1 => (0u64..4).prop_map(|by| Command::Pause { by }),
        1 => (0u64..4).prop_map(|by| Command::Resume { by }),
        1 => (0u32..500).prop_map(|bytes_max| Command::Release { bytes_max }),
        1 => source().prop_map(|source| Command::Abandon { source }),
        1 => (source(), 0u64..9000).prop_map(|(source, ms)| Command::Paused { source, ms }),
    ]
}

/// Applies commands at `at` and ignores what they emit.
fn apply_all(machine: &mut Maze, at: u64, commands: &[Command]) {
    for command in commands {
        machine.apply(Timestamp(at), command.clone(), &mut |_| {});
    }
}
fn golden_commands() -> Vec<Command> {
    let limits = Limits { held_max: 5, gap_wait_ms: 4, users_max: 3, follows_max: 2, keep: true };
    let bytes = b"1|F|60|50\n3|B\r\nnonsense\n5|S|0000000000000000000050\n".to_vec();
    vec![
        Command::Configure(limits),
        Command::Open { source: u64::MAX },
        Command::Feed { source: u64::MAX, part: 0, bytes },
        Command::Close { source: 1 },
        Command::Release { bytes_max: 100 },
        Command::Abandon { source: u64::MAX },
        Command::Paused { source: u64::MAX, ms: 70 },
    ]
}

#[test]
fn stored_commands_and_snapshots_of_every_version_can_be_read() {
    let mut machine = Maze::default();
    let first = golden_commands();
    assert_golden_commands("maze.commands.v1", &first);
    apply_all(&mut machine, 1, &first);
    assert_golden_snapshot("maze.snapshot.v1", &machine);
    let second =
        [Command::Pause { by: 3 }, Command::Pause { by: u64::MAX }, Command::Resume { by: 3 }];
    assert_golden_commands("maze.commands.v2", &second);
    apply_all(&mut machine, 2, &second);
    assert_golden_snapshot("maze.snapshot.v2", &machine);
}

#[test]
fn a_node_pauses_the_source_until_it_resumes_or_its_request_expires() {
    let mut driver = Driver::new(Limits::default());
    assert_eq!(driver.maze.paused_until(), None);
    driver.apply(10, Command::Pause { by: 1 });
    driver.apply(20, Command::Pause { by: 2 });
    driver.apply(30, Command::Pause { by: 1 });
    assert_eq!(driver.maze.paused_until(), Some(Timestamp(30 + PAUSE_MS)));
    driver.apply(40, Command::Resume { by: 1 });
    assert_eq!(driver.maze.paused_until(), Some(Timestamp(20 + PAUSE_MS)));
    driver.apply(20 + PAUSE_MS, Command::Pause { by: 1 });
    assert_eq!(driver.maze.pauses.len(), 1, "the other request has expired");
    for by in 2..1000 {
        driver.apply(20 + PAUSE_MS, Command::Pause { by });
    }
    assert_eq!(driver.maze.pauses.len(), PAUSES_MAX);
}
