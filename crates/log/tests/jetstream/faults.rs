//! Servers that die, stop and come back.

use std::time::{Duration, Instant};

use tidings_log::{AppendError, JetStream, Log, Position};

use crate::{World, all_before, body};

/// Appends as a node does: again and again while the outcome is unknown.
fn persist(log: &mut JetStream, number: u64) -> Position {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match log.append(number, &body(number, 500)) {
            Ok(position) => return position,
            Err(AppendError::Unknown(_)) if Instant::now() < until => {}
            Err(other) => panic!("batch {number}: {other}"),
        }
    }
}

/// Everything in front of a position, by its numbers.
fn numbers(log: &mut JetStream, next: Position) -> Vec<u64> {
    let read = all_before(log, next);
    for (batch, position) in read.iter().zip(1..) {
        assert_eq!(batch.position, Position(position));
        assert_eq!(batch.body, body(batch.number, 500));
    }
    read.iter().map(|batch| batch.number).collect()
}

#[test]
fn a_server_that_is_killed_and_comes_back_under_appends_loses_and_doubles_nothing() {
    let Some(mut world) = World::start(1) else { return };
    let (mut a, mut b) = (world.open("a"), world.open("b"));
    let mut last = Position(0);
    let (mut number, mut unknown) = (0, 0);
    for _round in 0..3 {
        for _ in 0..20 {
            number += 1;
            last = persist(&mut a, number);
        }
        world.servers.servers[0].process.kill();
        number += 1;
        match a.append(number, &body(number, 500)) {
            Err(AppendError::Unknown(_)) => unknown += 1,
            other => panic!("{other:?}"),
        }
        world.servers.servers[0].start_again().unwrap();
        last = persist(&mut a, number).max(last);
    }
    assert_eq!(unknown, 3);
    let expected: Vec<u64> = (1..=number).collect();
    assert_eq!(last, Position(number));
    assert_eq!(numbers(&mut a, last.next()), expected);
    assert_eq!(numbers(&mut b, last.next()), expected, "as another node reads it");
}

#[test]
fn a_paused_server_leaves_the_outcome_unknown_and_a_retry_finds_it() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    let server = &world.servers.servers[0];
    for number in 1..=5 {
        server.process.pause().unwrap();
        // It lies in the server's socket, and is stored as soon as that goes on.
        let paused = a.append(number, &body(number, 500));
        assert!(matches!(paused, Err(AppendError::Unknown(_))), "{paused:?}");
        server.process.resume().unwrap();
        assert_eq!(persist(&mut a, number), Position(number));
    }
    assert_eq!(numbers(&mut a, Position(6)), [1, 2, 3, 4, 5]);
}

#[test]
fn a_shared_snapshot_is_asked_for_until_a_server_answers() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    a.append(1, b"one").unwrap();
    a.write_snapshot(Position(1), 0, b"one", true).unwrap();
    a.share_snapshot().unwrap();
    let mut new = world.open("new");
    let server = &world.servers.servers[0];
    server.process.pause().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // For longer than one answer is waited for.
            std::thread::sleep(Duration::from_secs(6));
            server.process.resume().unwrap();
        });
        let snapshot = new.read_snapshot().unwrap().unwrap();
        assert_eq!((snapshot.position, &*snapshot.body), (Position(1), &b"one"[..]));
    });
}

#[test]
fn a_cluster_whose_servers_are_killed_in_turn_loses_and_doubles_nothing() {
    let Some(mut world) = World::start(3) else { return };
    let (mut a, mut b) = (world.open("a"), world.open("b"));
    let mut number = 0;
    let mut last = Position(0);
    let mut longest = Duration::ZERO;
    for server in 0..3 {
        for _ in 0..30 {
            number += 1;
            persist(&mut a, number);
            last = persist(&mut b, number);
        }
        world.servers.servers[server].process.kill();
        let killed = Instant::now();
        for _ in 0..30 {
            number += 1;
            persist(&mut a, number);
            last = persist(&mut b, number);
        }
        longest = longest.max(killed.elapsed());
        world.servers.servers[server].start_again().unwrap();
        // The next one goes when this one has caught up: two of three hold what is acknowledged.
        world.servers.until_whole("tidings").unwrap();
    }
    println!("the longest stop of appends after a kill: {longest:?}");
    assert_eq!(last, Position(2 * number));
    let read = numbers(&mut a, last.next());
    assert_eq!(numbers(&mut b, last.next()), read);
    let mut sorted = read;
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=number).flat_map(|n| [n, n]).collect::<Vec<_>>());
}
