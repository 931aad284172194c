//! What is committed together, and what is answered.

use std::sync::atomic::Ordering;

use tidings_log::Memory;
use tidings_log::faulty::{Fault, Faulty};
use tidings_node::{Builder, Refused, Settings};

use crate::support::{Gated, Sum, over};

#[tokio::test]
async fn what_is_proposed_during_a_commit_shares_the_next_one() {
    let (log, gate, appends) = Gated::new(Memory::default());
    let (node, sum) = over(log, Settings::default());
    let propose = |add| {
        tokio::spawn({
            let sum = sum.clone();
            async move { sum.propose(add).await.unwrap() }
        })
    };
    let first = propose(1);
    while appends.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..50).map(|_| propose(1)).collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_eq!(first.await.unwrap(), 1);
    for (place, other) in (2..).zip(others) {
        assert_eq!(other.await.unwrap(), place);
    }
    assert_eq!(appends.load(Ordering::SeqCst), 2);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn in_memory_and_over_a_log_the_replies_are_the_same() {
    let mut builder = Builder::new(Settings::default());
    let quick = builder.add(1, "sum", Sum::default());
    let node = builder.start_in_memory();
    let (durable, slow) = over(Memory::default(), Settings::default());
    for add in 0..50 {
        assert_eq!(quick.propose(add).await, slow.propose(add).await);
        let all = vec![add; 5];
        assert_eq!(quick.propose_all(all.clone()).await, slow.propose_all(all).await);
    }
    node.stop().await.unwrap();
    durable.stop().await.unwrap();
}

#[tokio::test]
async fn without_room_a_proposal_is_refused_and_changes_nothing() {
    let log = Faulty::scripted(Memory::default(), [None, Some(Fault::Full)]);
    let (node, sum) = over(log, Settings::default());
    assert_eq!(sum.propose(1).await, Ok(1));
    assert!(matches!(sum.propose(1).await, Err(Refused::NoRoom(_))));
    assert_eq!(sum.propose(1).await, Ok(2));
    assert_eq!(node.stats().refused, 1);
    node.stop().await.unwrap();
}
