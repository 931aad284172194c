//! The stream does not hold what was appended: a foreign message, changed bytes, a lost tail, a second
//! appender with the same identity.
//!
//! None of these is an error for the server. A node that believed the stream would compute another state
//! than its peers, or acknowledge a batch at a position that is assigned a second time. What holds now:
//! every batch carries a checksum of ours, a node remembers what it has read and appended, and each
//! append is conditional on this origin's last position. A violation is reported with its position, or
//! breaks the log, before a state depends on it. What the servers have lost stays lost: the remedy is
//! `sync_interval: always`.

use std::path::Path;
use std::time::Duration;

use tidings_log::{AppendError, Error, JetStream, Log, Position};

use crate::World;

/// Reads until the damage is reported. Returns its position and description.
fn read_damage(log: &mut impl Log, from: u64) -> (u64, String) {
    loop {
        match log.read(Position(from), 1 << 20) {
            Err(Error::Damaged { position, what, .. }) => return (position.0, what),
            Err(Error::Unanswered(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_message_that_is_not_a_batch_is_reported_and_batches_before_it_are_returned() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    a.append(1, b"good").unwrap();
    world.by_hand(async |context| {
        context.publish("tidings.log.stranger", "hello".into()).await.unwrap().await.unwrap();
    });
    a.append(2, b"behind").unwrap();
    assert_eq!(a.read(Position(1), 1).unwrap()[0].body, b"good");
    let (position, what) = read_damage(&mut a, 2);
    assert_eq!(position, 2);
    assert!(what.contains("names no origin"), "{what}");
    let behind = a.read(Position(3), 1).unwrap();
    assert_eq!(behind[0].body, b"behind", "an explicit read behind the damage succeeds");
}

#[test]
fn a_batch_with_different_bytes_is_damaged() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    let subject = format!("tidings.log.{:016x}", a.origin().0 ^ 1);
    a.append(1, b"good").unwrap();
    world.by_hand(async |context| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Tidings-Number", "1");
        headers.insert("Tidings-Crc", "00000000");
        let sent = context.publish_with_headers(subject, headers, "bad".into()).await.unwrap();
        sent.await.unwrap();
    });
    a.append(2, b"").unwrap();
    assert_eq!(read_damage(&mut a, 2), (2, "its checksum does not match its bytes".to_owned()));
}

#[test]
fn a_stream_that_was_deleted_and_created_again_is_not_opened() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    for number in 1..=3 {
        a.append(number, b"x").unwrap();
    }
    a.write_snapshot(Position(3), 0, b"state", true).unwrap();
    drop(a);
    // A stream of the same name, with fewer batches than node `a` has read.
    let mut copy = world.open("b");
    copy.append(1, b"of another").unwrap();
    drop(copy);
    world.by_hand(async |context| context.delete_stream("tidings").await.map(drop).unwrap());
    let opened = JetStream::open(world.options("a"));
    let why = opened.err().unwrap().to_string();
    assert!(why.contains("created again"), "{why}");
}

#[test]
fn a_second_process_with_a_copy_of_the_directory_is_detected() {
    let Some(world) = World::start(1) else { return };
    drop(world.open("a"));
    let from = world.folder.path().join("a");
    let to = world.folder.path().join("copy");
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("tidings.db"), to.join("tidings.db")).unwrap();
    let mut a = world.open("a");
    let mut copy = world.open("copy");
    assert_eq!(a.origin(), copy.origin());
    a.append(1, b"one").unwrap();
    a.append(2, b"two").unwrap();
    let answer = copy.append(1, b"other");
    assert!(
        matches!(&answer, Err(AppendError::Broken(why)) if why.contains("copy of this node")),
        "{answer:?}"
    );
    assert_eq!(a.append(3, b"three").unwrap(), Position(3), "the copy has stored nothing");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_server_that_was_reset_to_an_earlier_state_is_detected() {
    let Some(mut world) = World::start(1) else { return };
    let store = world.folder.path().join("s1/store");
    let earlier = world.folder.path().join("earlier");
    let reset = |world: &mut World, from: &Path, to: &Path| {
        world.servers.servers[0].process.kill();
        drop(std::fs::remove_dir_all(to));
        copy(from, to);
        world.servers.servers[0].start_again().unwrap();
    };
    let mut a = world.open("a");
    a.append(1, b"one").unwrap();
    reset(&mut world, &store, &earlier);
    for number in 2..=3 {
        while a.append(number, b"more").is_err() {}
    }
    a.write_snapshot(Position(3), 0, b"state", true).unwrap();
    reset(&mut world, &earlier, &store);
    // A running node notices: its next batch does not fit behind its last one.
    let answer = loop {
        match a.append(4, b"four") {
            Err(AppendError::Unknown(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(&answer, Err(AppendError::Broken(why)) if why.contains("lost")), "{answer:?}");
    drop(a);
    // A starting node notices: it has read more than the stream holds.
    let mut options = world.options("a");
    options.connect_within = Duration::from_secs(1);
    let opened = JetStream::open(options).err().unwrap();
    assert!(matches!(&opened, Error::Damaged { position: Position(2), .. }), "{opened}");
}
