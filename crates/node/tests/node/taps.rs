//! A tap replaces apply and tick: it misses no event, knows which entries are only replayed, and its machine is not ticked before
//! the receivers of its events are there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tidings_core::machine::{Machine, Timestamp};
use tidings_log::Memory;
use tidings_node::clock::Manual;
use tidings_node::{Builder, Handle, Node, Settings, Tap, When};

use crate::support::{Sum, until};

/// The events of a tap: the total, or 0 for the bell, and when.
type Seen = Arc<Mutex<Vec<(u64, When)>>>;

/// Records events, and says no to ticks while the flag is set.
struct Keep(Seen, Arc<AtomicBool>);

impl Tap<Sum> for Keep {
    fn apply(&mut self, sum: &mut Sum, at: Timestamp, add: u64, when: When) -> u64 {
        sum.apply(at, add, &mut |event| self.0.lock().unwrap().push((event, when)))
    }

    fn tick(&mut self, sum: &mut Sum, at: Timestamp, when: When) {
        sum.tick(at, &mut |event| self.0.lock().unwrap().push((event, when)));
    }

    fn may_tick(&self, _: &Sum, _: Timestamp) -> bool {
        !self.1.load(Ordering::SeqCst)
    }
}

/// A node with a tapped machine, over a log or without one.
fn tapped(log: Option<Memory>, clock: &Arc<Manual>) -> (Node, Handle<Sum>, Seen) {
    tapped_by(Arc::default(), log, clock)
}

/// The same, with a flag that forbids ticks.
fn tapped_by(
    no: Arc<AtomicBool>,
    log: Option<Memory>,
    clock: &Arc<Manual>,
) -> (Node, Handle<Sum>, Seen) {
    let mut builder = Builder::with_clock(Settings::default(), Arc::clone(clock) as Arc<_>);
    let seen = Seen::default();
    let sum = builder.add_tapped(1, "sum", Sum::default(), Keep(Arc::clone(&seen), no));
    let node = match log {
        Some(log) => builder.start(Box::new(log), |_| {}).unwrap(),
        None => builder.start_in_memory(),
    };
    (node, sum, seen)
}

fn take(seen: &Seen) -> Vec<(u64, When)> {
    std::mem::take(&mut seen.lock().unwrap())
}

#[tokio::test]
async fn a_tap_sees_every_event_in_order_and_returns_what_the_machine_returns() {
    for log in [None, Some(Memory::default())] {
        let (node, sum, seen) = tapped(log, &Arc::default());
        assert_eq!(sum.propose(1).await.unwrap(), 1);
        assert_eq!(sum.propose_all(vec![2, 3]).await.unwrap(), [3, 6]);
        assert_eq!(take(&seen), [(1, When::Now), (3, When::Now), (6, When::Now)]);
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_tap_knows_which_entries_are_replayed() {
    let settings = Settings { snapshot_on_stop: false, ..Settings::default() };
    let log = Memory::default();
    let mut builder = Builder::new(settings);
    let sum = builder.add(1, "sum", Sum::default());
    let node = builder.start(Box::new(log.reopen()), |_| {}).unwrap();
    sum.propose_all(vec![1, 2]).await.unwrap();
    node.stop().await.unwrap();
    let (node, sum, seen) = tapped(Some(log), &Arc::default());
    sum.propose(3).await.unwrap();
    assert_eq!(take(&seen), [(1, When::Again), (3, When::Again), (6, When::Now)]);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn deadlines_are_ticked_only_after_ticks_are_resumed() {
    for log in [None, Some(Memory::default())] {
        let clock = Arc::new(Manual::default());
        let (node, sum, seen) = tapped(log, &clock);
        sum.propose(100).await.unwrap();
        clock.set(Timestamp(1000));
        // A proposal has the deadlines looked at.
        sum.propose(1).await.unwrap();
        sum.propose(1).await.unwrap();
        assert!(!sum.read(|sum| sum.rung), "its receivers are not there yet");
        sum.resume_ticks();
        until(|| sum.read(|sum| sum.rung)).await;
        assert_eq!(take(&seen).last(), Some(&(0, When::Now)));
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_ticked_while_the_tap_says_no() {
    for log in [None, Some(Memory::default())] {
        let (clock, no) = (Arc::new(Manual::default()), Arc::new(AtomicBool::new(true)));
        let (node, sum, _) = tapped_by(Arc::clone(&no), log, &clock);
        sum.resume_ticks();
        sum.propose(100).await.unwrap();
        clock.set(Timestamp(1000));
        for _ in 0..100 {
            sum.propose(1).await.unwrap();
        }
        assert!(!sum.read(|sum| sum.rung));
        no.store(false, Ordering::SeqCst);
        sum.resume_ticks();
        until(|| sum.read(|sum| sum.rung)).await;
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_watcher_of_a_tapped_machine_sees_nothing_and_delays_nothing() {
    let (node, sum, _) = tapped(Some(Memory::default()), &Arc::default());
    let mut watcher = sum.watch(None);
    sum.propose_all(vec![1, 2]).await.unwrap();
    tokio::select! {
        biased;
        seen = watcher.next(10) => panic!("there is nothing to see: {seen:?}"),
        () = std::future::ready(()) => {}
    }
    node.stop().await.unwrap();
}
