//! Several nodes append to one stream.
//!
//! Replicas agree only if every node reads the same batches in the same order, its own included. And a
//! node that was away while the others truncated must neither start from its old snapshot, whose
//! continuation is gone, nor reuse a number. What holds now: the stream's sequence is the only order,
//! truncation never passes a published snapshot, and a node whose own snapshot is too old starts from
//! the published one.

use std::sync::mpsc;
use std::time::Duration;

use tidings_log::{Error, Log, Position};

use crate::{World, all_before, body};

#[test]
fn all_nodes_read_all_batches_in_the_same_order() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    let mut b = world.open("b");
    assert_ne!(a.origin(), b.origin());
    for number in 1..=20 {
        let first = a.append(number, &body(number, 100)).unwrap();
        let second = b.append(number, &body(number, 3000)).unwrap();
        assert!(first < second, "a later append has a higher position");
    }
    let mut late = world.open("c");
    let read = all_before(&mut late, Position(41));
    assert_eq!(read.len(), 40);
    // The last acknowledged append of b has the highest position, so b knows of all before it.
    assert_eq!(all_before(&mut b, Position(41)), read);
    while a.bounds().unwrap().next < Position(41) {
        drop(a.read(Position(1), 1).unwrap());
    }
    assert_eq!(all_before(&mut a, Position(41)), read);
}

#[test]
fn a_node_is_notified_of_other_nodes_appends_but_not_of_its_own() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    let mut b = world.open("b");
    let (sender, news) = mpsc::sync_channel(8);
    b.on_news(Box::new(move || sender.send(()).unwrap()));
    assert!(b.read(Position(1), 1).unwrap().is_empty());
    b.append(1, b"own").unwrap();
    a.append(1, b"another's").unwrap();
    news.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(news.recv_timeout(Duration::from_millis(100)).is_err());
}

#[test]
fn a_body_larger_than_a_message_is_readable_by_all_and_is_removed_with_its_batch() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    let mut b = world.open("b");
    assert!(a.batch_bytes() < 1 << 20);
    a.append(1, &body(1, 3 << 20)).unwrap();
    a.append(2, b"small").unwrap();
    let read = b.read(Position(1), usize::MAX);
    // b may not know of them yet: then its own append makes it known.
    let read = if let Ok(read) = &read
        && read.len() == 2
    {
        read.clone()
    } else {
        b.append(1, b"").unwrap();
        b.read(Position(1), usize::MAX).unwrap()
    };
    assert_eq!(read[0].body, body(1, 3 << 20));
    a.write_snapshot(Position(2), 0, b"state", true).unwrap();
    a.share_snapshot().unwrap();
    assert_eq!(a.truncate(Position(3)).unwrap(), 2);
    world.by_hand(async |context| {
        let bucket = context.get_object_store("tidings-bodies").await.unwrap();
        let mut list = bucket.list().await.unwrap();
        assert!(futures_util::StreamExt::next(&mut list).await.is_none());
    });
    assert_eq!(a.append(3, b"next").unwrap(), Position(4));
}

#[test]
fn a_new_node_and_one_that_was_away_start_from_the_shared_snapshot() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    let mut away = world.open("away");
    away.append(1, b"one").unwrap();
    away.write_snapshot(Position(1), 0, b"old", true).unwrap();
    drop(away);
    for number in 1..=5 {
        a.append(number, b"x").unwrap();
    }
    a.write_snapshot(Position(4), 0, b"up to ", false).unwrap();
    a.write_snapshot(Position(4), 1, b"four", true).unwrap();
    assert_eq!(a.truncate(Position(5)).unwrap(), 0, "the snapshot is not shared yet");
    a.share_snapshot().unwrap();
    assert_eq!(a.truncate(Position(99)).unwrap(), 4);
    for node in ["new", "away"] {
        let mut log = world.open(node);
        let snapshot = log.read_snapshot().unwrap().unwrap();
        assert_eq!((snapshot.position, &*snapshot.body), (Position(4), &b"up to four"[..]));
        assert_eq!(log.read(snapshot.position.next(), 99).unwrap().len(), 2);
        let lost = log.read(Position(4), 1);
        assert!(matches!(lost, Err(Error::Truncated { .. })), "{lost:?}");
    }
    // The last batch of that node is truncated: it accepts the next number that its caller knows.
    let mut away = world.open("away");
    assert_eq!(away.append(2, b"two").unwrap(), Position(7));
}

#[test]
fn only_the_newest_two_snapshots_are_kept() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    for number in 1..=4 {
        a.append(number, b"x").unwrap();
        a.write_snapshot(Position(number), 0, b"state", true).unwrap();
        a.share_snapshot().unwrap();
    }
    world.by_hand(async |context| {
        let bucket = context.get_object_store("tidings-snapshots").await.unwrap();
        let list = bucket.list().await.unwrap();
        assert_eq!(futures_util::StreamExt::count(list).await, 2);
    });
}

#[test]
fn forgotten_snapshots_are_not_read_again() {
    let Some(world) = World::start(1) else { return };
    let mut a = world.open("a");
    a.append(1, b"x").unwrap();
    a.write_snapshot(Position(1), 0, b"wrong", true).unwrap();
    a.forget_snapshots().unwrap();
    assert_eq!(a.read_snapshot().unwrap(), None);
    drop(a);
    assert_eq!(world.open("a").read_snapshot().unwrap(), None);
}
