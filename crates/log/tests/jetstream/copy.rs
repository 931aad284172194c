//! Copies the log of one machine into a stream.
//!
//! Positions are part of what a node stores (its snapshot covers positions), so a copy that shifted one
//! batch would make every node that starts from it compute a wrong state. And an interrupted copy looks
//! like a short log: a node that opened it would append behind the gap, and the rest could never be
//! copied. What holds now: each batch is conditional on its predecessor's position, a mark on the stream
//! keeps nodes out until the copy is complete, and a stream that holds anything else is rejected
//! untouched.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidings_log::jetstream::{Copied, Options, copy};
use tidings_log::{Bounds, JetStream, Log, Position, Sqlite, sqlite};

use crate::{World, all, body};

/// The log of a machine, in a folder of its own.
fn machine(world: &World, name: &str) -> Sqlite {
    Sqlite::open(&world.folder.path().join(name), sqlite::Options::default()).unwrap()
}

/// Appends `count` batches.
fn fill(log: &mut Sqlite, count: u64, bytes: usize) {
    for _ in 0..count {
        let number = log.last_number() + 1;
        log.append(number, &body(number, bytes)).unwrap();
    }
}

/// Truncates behind a snapshot at `position`.
fn snapshot(log: &mut Sqlite, position: u64) {
    log.write_snapshot(Position(position), 0, b"state", true).unwrap();
    while log.truncate(Position(position).next()).unwrap() > 0 {}
}

fn copy_all(source: &mut Sqlite, options: &Options) -> Copied {
    copy(source, options, |_| {}).unwrap()
}

fn rejection(source: &mut impl Log, options: &Options) -> String {
    copy(source, options, |_| panic!("something was copied")).unwrap_err().to_string()
}

#[test]
fn an_empty_log_creates_a_stream_that_begins_at_1() {
    let Some(world) = World::start(1) else { return };
    let mut source = machine(&world, "one");
    let done = copy_all(&mut source, &world.options("unused"));
    assert_eq!((done.batches, done.found, done.snapshot), (0, 0, None));
    assert!(!world.folder.path().join("unused").exists());
    let mut node = world.open("a");
    assert_eq!(node.read_snapshot().unwrap(), None);
    assert_eq!(node.append(1, b"first").unwrap(), Position(1));
}

#[test]
fn positions_origins_numbers_and_bodies_of_any_size_are_kept() {
    let Some(world) = World::start(3) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 300, 200);
    fill(&mut source, 1, 3 << 20);
    fill(&mut source, 5, 0);
    let done = copy_all(&mut source, &world.options("unused"));
    assert_eq!((done.batches, done.bytes), (306, 300 * 200 + (3 << 20)));
    let mut node = world.open("a");
    assert_eq!(all(&mut node), all(&mut source));
    assert_eq!(node.append(1, b"next").unwrap(), Position(307));
}

#[test]
fn a_truncated_log_keeps_its_first_position_and_its_snapshot() {
    let Some(world) = World::start(1) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 10, 100);
    snapshot(&mut source, 7);
    let done = copy_all(&mut source, &world.options("unused"));
    assert_eq!(done.bounds, Bounds { first: Position(8), next: Position(11) });
    assert_eq!(done.snapshot, Some(Position(7)));
    for name in ["a", "b"] {
        let mut node = world.open(name);
        let found = node.read_snapshot().unwrap().unwrap();
        assert_eq!((found.position, &*found.body), (Position(7), &b"state"[..]));
        let batches = all(&mut node);
        assert_eq!(batches, all(&mut source));
        assert_eq!(batches[0].number, 8);
    }
}

#[test]
fn a_log_with_nothing_but_a_snapshot_continues_at_its_position() {
    let Some(world) = World::start(1) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 10, 100);
    snapshot(&mut source, 10);
    assert_eq!(copy_all(&mut source, &world.options("unused")).batches, 0);
    let mut node = world.open("a");
    assert_eq!(node.read_snapshot().unwrap().unwrap().position, Position(10));
    assert_eq!(node.append(1, b"next").unwrap(), Position(11));
}

#[test]
fn an_interrupted_copy_continues_where_it_ended_and_no_node_opens_it_before() {
    let Some(world) = World::start(1) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 120, 100_000);
    snapshot(&mut source, 10);
    let options = world.options("unused");
    let died = catch_unwind(AssertUnwindSafe(|| copy(&mut source, &options, |_| panic!("dies"))));
    assert!(died.is_err());
    let Err(why) = JetStream::open(world.options("a")) else { panic!("it was opened") };
    assert!(why.to_string().contains("tidings log copy"), "{why}");
    let mut reported = Vec::new();
    let done = copy(&mut source, &options, |copied| reported.push(copied.batches)).unwrap();
    assert!(done.found > 0 && done.batches > 0, "{done:?}");
    assert_eq!(done.found + done.batches, 110);
    assert_eq!(reported.last(), Some(&done.batches));
    assert!(reported.len() > 1, "progress is reported more than once: {reported:?}");
    assert_eq!(all(&mut world.open("a")), all(&mut source));
    let again = copy_all(&mut source, &options);
    assert_eq!((again.found, again.batches), (110, 0), "another copy changes nothing");
}

#[test]
fn a_copy_continues_when_a_server_dies() {
    let Some(mut world) = World::start(3) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 150, 100_000);
    let options = world.options("unused");
    let servers = &mut world.servers.servers;
    let mut kills = 0;
    let done = copy(&mut source, &options, |_| {
        if kills < servers.len() {
            servers[kills].process.kill();
            servers[kills].start_again().unwrap();
            kills += 1;
        }
    });
    assert_eq!((done.unwrap().batches, kills), (150, 3));
    assert_eq!(all(&mut world.open("a")), all(&mut source));
}

#[test]
fn a_stream_that_holds_something_else_is_rejected_and_not_changed() {
    let Some(world) = World::start(1) else { return };
    let options = world.options("unused");
    let mut source = machine(&world, "one");
    fill(&mut source, 5, 100);
    let mut node = world.open("a");
    for number in 1..=3 {
        node.append(number, b"of a cluster").unwrap();
    }
    let why = rejection(&mut source, &options);
    assert!(why.contains("is not empty, and holds another batch at position 3"), "{why}");
    for number in 4..=6 {
        node.append(number, b"of a cluster").unwrap();
    }
    assert!(rejection(&mut source, &options).contains("ends before position 7"));
    fill(&mut source, 5, 100);
    snapshot(&mut source, 4);
    let why = rejection(&mut source, &options);
    assert!(why.contains("holds another batch at position 6"), "{why}");
    snapshot(&mut source, 8);
    assert!(
        rejection(&mut source, &options).contains("does not hold the beginning of the log to copy")
    );
    assert_eq!(node.append(7, b"next").unwrap(), Position(7));
    drop(node);
    assert_eq!(all(&mut world.open("a")).len(), 7, "a node still opens it");
}

#[test]
fn a_copy_that_a_node_has_appended_to_is_not_copied_to_again() {
    let Some(world) = World::start(1) else { return };
    let options = world.options("unused");
    let mut source = machine(&world, "one");
    fill(&mut source, 5, 100);
    copy_all(&mut source, &options);
    let mut node = world.open("a");
    node.append(1, b"of the cluster").unwrap();
    assert!(rejection(&mut source, &options).contains("ends before position 7"));
    fill(&mut source, 5, 100);
    assert!(rejection(&mut source, &options).contains("holds another batch at position 6"));
    assert_eq!(all(&mut node).len(), 6);
}

#[test]
fn an_empty_stream_that_begins_elsewhere_is_rejected() {
    let Some(world) = World::start(1) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 5, 100);
    snapshot(&mut source, 2);
    drop(world.open("a"));
    let why = rejection(&mut source, &world.options("unused"));
    assert!(why.contains("continues at position 1, but the log to copy begins at 3"), "{why}");
}

#[test]
fn an_empty_stream_that_a_node_has_created_is_accepted() {
    let Some(world) = World::start(1) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 5, 100);
    drop(world.open("a"));
    assert_eq!(copy_all(&mut source, &world.options("unused")).batches, 5);
    assert_eq!(all(&mut world.open("a")), all(&mut source));
}

#[test]
fn a_snapshot_of_another_log_is_rejected() {
    let Some(world) = World::start(1) else { return };
    let mut node = world.open("a");
    for number in 1..=9 {
        node.append(number, b"x").unwrap();
    }
    node.write_snapshot(Position(9), 0, b"another's", true).unwrap();
    node.share_snapshot().unwrap();
    drop(node);
    world.by_hand(async |context| {
        context.delete_stream("tidings").await.unwrap();
    });
    let mut source = machine(&world, "one");
    fill(&mut source, 5, 100);
    let why = rejection(&mut source, &world.options("unused"));
    assert!(why.contains("a snapshot at position 9 that is not of the log to copy"), "{why}");
}

#[test]
fn a_copy_into_a_full_stream_reports_that_it_is_full() {
    let Some(world) = World::start(1) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 10, 30_000);
    let mut options = world.options("unused");
    options.bytes_max = Some(200_000);
    let why = copy(&mut source, &options, |_| {}).unwrap_err();
    assert!(matches!(why, tidings_log::Error::Full(_)), "{why}");
}

#[test]
fn a_truncated_log_without_a_snapshot_is_rejected_before_anything_is_created() {
    let Some(world) = World::start(1) else { return };
    let mut source = machine(&world, "one");
    fill(&mut source, 5, 100);
    snapshot(&mut source, 2);
    drop(source);
    let file = world.folder.path().join("one/tidings.db");
    rusqlite::Connection::open(file).unwrap().execute("DELETE FROM snapshot", []).unwrap();
    let why = rejection(&mut machine(&world, "one"), &world.options("unused"));
    assert!(why.contains("begins at position 3, and no snapshot covers"), "{why}");
    world.by_hand(async |context| assert!(context.get_stream("tidings").await.is_err()));
}
