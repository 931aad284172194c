//! What watchers receive, and in which order.

use std::future::Future;
use std::task::{Context, Waker};

use tidings_core::machine::{Machine, Malformed, Timestamp};
use tidings_log::Memory;
use tidings_node::{Builder, Handle, Node, Settings, Watched, Watcher};

use crate::support::{Sum, over};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_watchers_in_order_from_every_proposer() {
    let mut builder = Builder::new(Settings { events_kept_max: 100_000, ..Settings::default() });
    let sum = builder.add(1, "sum", Sum::default());
    let node = builder.start_in_memory();
    let mut watcher = sum.watch(None);
    let propose = |_| {
        tokio::spawn({
            let sum = sum.clone();
            async move {
                for _ in 0..1000 {
                    sum.propose_all(vec![0, 1]).await.unwrap();
                }
            }
        })
    };
    let proposing: Vec<_> = (0..3).map(propose).collect();
    let (mut entry, mut last) = (0, 0);
    while last < 3000 {
        let Watched::Events(events) = watcher.next(64).await else { unreachable!("all are kept") };
        for (number, event) in events {
            assert!(number > entry && (event >= last || event == 0));
            (entry, last) = (number, last.max(event));
        }
    }
    for proposing in proposing {
        proposing.await.unwrap();
    }
    node.stop().await.unwrap();
}

/// Emits as many events as its command says, in one entry.
struct Burst;

impl Machine for Burst {
    type Command = u64;
    type Reply = ();
    type Event = u64;

    fn apply(&mut self, _at: Timestamp, count: u64, emit: &mut impl FnMut(u64)) {
        (0..count).for_each(emit);
    }

    fn snapshot(&self, _out: &mut Vec<u8>) {}

    fn restore(_bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(Self)
    }
}

fn bursts(events_kept_max: usize) -> (Node, Handle<Burst>) {
    let mut builder = Builder::new(Settings { events_kept_max, ..Settings::default() });
    let burst = builder.add(1, "burst", Burst);
    (builder.start(Box::new(Memory::default()), |_| {}).unwrap(), burst)
}

/// What is there for a watcher at this moment.
fn now<M: Machine>(watcher: &mut Watcher<M>, events_max: usize) -> Option<Watched<M::Event>> {
    let next = std::pin::pin!(watcher.next(events_max));
    match next.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(watched) => Some(watched),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn the_events_of_one_entry_are_never_torn_apart() {
    let (node, burst) = bursts(100);
    let mut watcher = burst.watch(Some(0));
    burst.propose_all(vec![3, 0, 1, 4]).await.unwrap();
    let expected = [vec![(1, 0), (1, 1), (1, 2)], vec![(3, 0), (4, 0), (4, 1), (4, 2), (4, 3)]];
    for events in expected {
        assert_eq!(now(&mut watcher, 2), Some(Watched::Events(events)));
    }
    assert_eq!((now(&mut watcher, 2), watcher.after()), (None, 4));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_is_told_so_and_goes_on_with_what_comes() {
    let (node, burst) = bursts(3);
    let mut slow = burst.watch(Some(0));
    burst.propose_all(vec![1, 2, 1]).await.unwrap();
    assert_eq!(now(&mut slow, 10), Some(Watched::Lagged(3)), "entry 1 is not kept any more");
    assert_eq!(now(&mut slow, 10), None);
    burst.propose(1).await.unwrap();
    assert_eq!(now(&mut slow, 10), Some(Watched::Events(vec![(4, 0)])));
    // Only a part of entry 2 is kept: a watcher that has not seen it has lagged, one that has continues.
    assert_eq!(now(&mut burst.watch(Some(1)), 10), Some(Watched::Lagged(4)));
    let rest = Watched::Events(vec![(3, 0), (4, 0)]);
    assert_eq!(now(&mut burst.watch(Some(2)), 10), Some(rest));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn an_entry_with_more_events_than_are_kept_is_told_as_lagging() {
    let (node, burst) = bursts(3);
    let mut watcher = burst.watch(None);
    burst.propose(5).await.unwrap();
    assert_eq!(now(&mut watcher, 10), Some(Watched::Lagged(1)));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_watcher_resumes_where_it_was_even_after_a_restart() {
    let log = Memory::default();
    let (node, sum) = over(log.reopen(), Settings::default());
    for _ in 0..4 {
        sum.propose(1).await.unwrap();
    }
    let mut watcher = sum.watch(Some(0));
    assert_eq!(now(&mut watcher, 2), Some(Watched::Events(vec![(1, 1), (2, 2)])));
    node.stop().await.unwrap();
    let (node, sum) = over(log, Settings::default());
    let mut resumed = sum.watch(Some(watcher.after()));
    assert_eq!(now(&mut resumed, 10), Some(Watched::Events(vec![(3, 3), (4, 4)])));
    // An entry that this history has not reached is another history's.
    assert_eq!(now(&mut sum.watch(Some(9)), 10), Some(Watched::Lagged(4)));
    node.stop().await.unwrap();
}
