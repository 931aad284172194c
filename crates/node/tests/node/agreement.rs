//! Nodes that share a log compare the digests of their states.

use tidings_log::{Log, Memory, Origin};
use tidings_node::{Builder, Handle, Node, Settings};

use crate::support::{Sum, over, until};

const SETTINGS: Settings = Settings {
    snapshot_log_bytes: 2000,
    snapshot_on_stop: true,
    events_kept_max: 100,
    events_kept_bytes_max: 1 << 20,
};

fn off_by_one(log: impl Log + 'static) -> (Node, Handle<Sum>) {
    let mut builder = Builder::new(SETTINGS);
    let sum = builder.add(1, "sum", Sum { total: 1, ..Sum::default() });
    (builder.start(Box::new(log), |_| {}).unwrap(), sum)
}

#[tokio::test]
async fn a_node_that_differs_says_where_and_ends_and_the_others_go_on() {
    let log = Memory::new(Origin(1));
    let logs = [log.join(Origin(2)), log.join(Origin(3))];
    let [second, third] = logs;
    let (first, sum) = over(log.reopen(), SETTINGS);
    let (second, _) = over(second, SETTINGS);
    let (third, wrong) = off_by_one(third);
    for add in 0..300 {
        sum.propose(add).await.unwrap();
    }
    let why = third.failed().await.to_string();
    assert!(why.contains("at the checkpoint at position"), "{why}");
    assert!(why.contains("(1 of the nodes)") && why.contains("(2 of the nodes)"), "{why}");
    assert!(wrong.propose(1).await.is_err(), "it takes nothing more");
    assert!(third.stop().await.is_err());
    for add in 300..600 {
        sum.propose(add).await.unwrap();
    }
    let total = (0..600).sum::<u64>();
    first.barrier().await.unwrap();
    assert_eq!(sum.read(|sum| sum.total), total);
    // Started again it is built from what the others hold, and is one of them.
    let (third, right) = over(log.join(Origin(3)), SETTINGS);
    third.barrier().await.unwrap();
    assert_eq!(right.read(|sum| sum.total), total);
    first.barrier().await.unwrap();
    second.barrier().await.unwrap();
    for node in [&first, &second, &third] {
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_one_node_was_acknowledged_another_shows_behind_a_barrier() {
    let log = Memory::new(Origin(1));
    let other = log.join(Origin(2));
    let ((first, sum), (second, theirs)) = (over(log.reopen(), SETTINGS), over(other, SETTINGS));
    for add in 1..=50 {
        sum.propose(add).await.unwrap();
        second.barrier().await.unwrap();
        assert_eq!(theirs.read(|sum| sum.total), (1..=add).sum::<u64>());
    }
    until(|| first.stats().position == second.stats().position).await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}
