//! A tap stands in the place of apply and tick: it misses nothing, is told what is only read again,
//! and nothing that is due is done before whoever receives is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tidings_core::machine::{Machine, Timestamp};
use tidings_log::Memory;
use tidings_node::clock::Manual;
use tidings_node::{Builder, Handle, Node, Settings, Tap, When};

use crate::support::{Sum, until};

/// What came through a tap: the total or the bell (0), and when.
type Seen = Arc<Mutex<Vec<(u64, When)>>>;

/// Sees, and says no to ticks while the flag stands.
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

/// The same, with the flag that forbids ticks.
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
async fn a_tap_sees_every_event_in_order_and_says_what_the_machine_says() {
    for log in [None, Some(Memory::default())] {
        let (node, sum, seen) = tapped(log, &Arc::default());
        assert_eq!(sum.propose(1).await.unwrap(), 1);
        assert_eq!(sum.propose_all(vec![2, 3]).await.unwrap(), [3, 6]);
        assert_eq!(take(&seen), [(1, When::Now), (3, When::Now), (6, When::Now)]);
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_read_again_on_start_is_told_as_such() {
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
async fn deadlines_count_from_when_ticking_begins() {
    for log in [None, Some(Memory::default())] {
        let clock = Arc::new(Manual::default());
        let (node, sum, seen) = tapped(log, &clock);
        sum.propose(100).await.unwrap();
        clock.set(Timestamp(1000));
        // A proposal has the deadlines looked at.
        sum.propose(1).await.unwrap();
        sum.propose(1).await.unwrap();
        assert!(!sum.read(|sum| sum.rung), "nobody is there to hear it");
        sum.resume_ticks();
        until(|| sum.read(|sum| sum.rung)).await;
        assert_eq!(take(&seen).last(), Some(&(0, When::Now)));
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn while_a_tap_says_no_nothing_is_ticked_and_when_it_is_asked_again_it_is() {
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
async fn a_watcher_of_a_tapped_machine_sees_nothing_and_holds_nothing_up() {
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
