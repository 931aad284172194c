//! A deadline is ticked: not before its time, and soon after it.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::machine::Timestamp;
use tidings_log::Memory;
use tidings_log::faulty::{Fault, Faulty};
use tidings_node::clock::Manual;
use tidings_node::{Builder, Handle, Node, Settings, Watched};

use crate::support::{Sum, over, until};

async fn rings(node: Node, sum: &Handle<Sum>, clock: &Manual) {
    let mut watcher = sum.watch(None);
    sum.propose(100).await.unwrap();
    clock.set(Timestamp(1009));
    sum.propose(1).await.unwrap();
    assert!(sum.read(|sum| !sum.rung), "not before its time");
    clock.set(Timestamp(1010));
    let mut seen = Vec::new();
    while !seen.contains(&0) {
        match watcher.next(10).await {
            Watched::Events(events) => seen.extend(events.into_iter().map(|(_, event)| event)),
            Watched::Lagged(_) => unreachable!("few events"),
        }
        // A manual clock wakes nobody; a proposal has the deadlines looked at.
        if seen.len() == 2 {
            sum.propose(1).await.unwrap();
        }
    }
    assert_eq!(seen.first(), Some(&100));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_deadline_is_a_tick_in_the_log() {
    let clock = Arc::new(Manual::default());
    clock.set(Timestamp(1000));
    let mut builder = Builder::with_clock(Settings::default(), Arc::clone(&clock) as Arc<_>);
    let sum = builder.add(1, "sum", Sum::default());
    let log = Memory::default();
    let node = builder.start(Box::new(log.reopen()), |_| {}).unwrap();
    rings(node, &sum, &clock).await;
    let (node, sum) = over(log, Settings::default());
    assert!(sum.read(|sum| sum.rung));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_deadline_is_kept_in_memory_too() {
    let mut builder = Builder::new(Settings::default());
    let sum = builder.add(1, "sum", Sum::default());
    let node = builder.start_in_memory();
    let mut watcher = sum.watch(None);
    sum.propose(100).await.unwrap();
    let rung = async {
        loop {
            if let Watched::Events(events) = watcher.next(10).await
                && events.iter().any(|(_, event)| *event == 0)
            {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rung).await.unwrap();
    node.stop().await.unwrap();
}

/// A machine that wants to act from the beginning.
fn ringing(ring: u64) -> Sum {
    Sum { ring: Some(ring), ..Sum::default() }
}

#[tokio::test]
async fn a_machine_that_starts_with_a_deadline_is_ticked_without_being_asked() {
    // 0 is "at once", like any time that has passed.
    for ring in [0, 1, 1000] {
        let mut builder = Builder::new(Settings::default());
        let sum = builder.add(1, "sum", ringing(ring));
        let node = builder.start_in_memory();
        until(|| sum.read(|sum| sum.rung)).await;
        node.stop().await.unwrap();

        let mut builder = Builder::new(Settings::default());
        let sum = builder.add(1, "sum", ringing(ring));
        let node = builder.start(Box::new(Memory::default()), |_| {}).unwrap();
        until(|| sum.read(|sum| sum.rung)).await;
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_tick_without_room_in_the_log_is_tried_again() {
    let mut builder = Builder::new(Settings::default());
    let sum = builder.add(1, "sum", ringing(1));
    let log = Faulty::scripted(Memory::default(), [Some(Fault::Full), Some(Fault::Full)]);
    let node = builder.start(Box::new(log), |_| {}).unwrap();
    until(|| sum.read(|sum| sum.rung)).await;
    node.stop().await.unwrap();
}
