//! Servers die, pause and return while nodes append.
//!
//! The danger is an append of unknown outcome: the server may have stored the message and died before it
//! answered. Repeating it blindly stores the batch twice, giving up loses it. What holds now: a message
//! carries an id and the expected last position of its origin, so that a retry finds the stored batch or
//! stores it once; in a cluster a batch is acknowledged only when two of three servers hold it.

use std::time::{Duration, Instant};

use tidings_log::{AppendError, JetStream, Log, Position};

use crate::{World, all_before, body};

/// Appends as a node does: retries while the outcome is unknown.
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

/// Reads everything before a position, checks it, and returns the numbers.
fn numbers(log: &mut JetStream, next: Position) -> Vec<u64> {
    let read = all_before(log, next);
    for (batch, position) in read.iter().zip(1..) {
        assert_eq!(batch.position, Position(position));
        assert_eq!(batch.body, body(batch.number, 500));
    }
    read.iter().map(|batch| batch.number).collect()
}

#[test]
fn a_server_killed_and_restarted_under_appends_neither_loses_nor_duplicates_a_batch() {
    let Some(mut world) = World::start(1) else { return };
    let mut a = world.open("a");
    let mut b = world.open("b");
    let mut last = Position(0);
    let mut number = 0;
    let mut unknown = 0;
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
        // The message lies in the server's socket, and is stored as soon as the server resumes.
        let paused = a.append(number, &body(number, 500));
        assert!(matches!(paused, Err(AppendError::Unknown(_))), "{paused:?}");
        server.process.resume().unwrap();
        assert_eq!(persist(&mut a, number), Position(number));
    }
    assert_eq!(numbers(&mut a, Position(6)), [1, 2, 3, 4, 5]);
}

#[test]
fn reading_a_shared_snapshot_is_retried_until_a_server_answers() {
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
            // Longer than the wait for one answer.
            std::thread::sleep(Duration::from_secs(6));
            server.process.resume().unwrap();
        });
        let snapshot = new.read_snapshot().unwrap().unwrap();
        assert_eq!((snapshot.position, &*snapshot.body), (Position(1), &b"one"[..]));
    });
}

#[test]
fn a_cluster_whose_servers_are_killed_in_turn_neither_loses_nor_duplicates_a_batch() {
    let Some(mut world) = World::start(3) else { return };
    let mut a = world.open("a");
    let mut b = world.open("b");
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
        // Kill the next server only when this one has caught up: two of three must hold each batch.
        world.servers.wait_until_in_sync("tidings").unwrap();
    }
    println!("the longest stop of appends after a kill: {longest:?}");
    assert_eq!(last, Position(2 * number));
    let read = numbers(&mut a, last.next());
    assert_eq!(numbers(&mut b, last.next()), read);
    let mut sorted = read;
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=number).flat_map(|n| [n, n]).collect::<Vec<_>>());
}
