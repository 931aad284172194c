//! A node from outside: group commit, stopping, failing, deadlines, watchers, snapshots.

#![expect(clippy::unwrap_used, reason = "a test ends where it does not go on")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tidings_core::machine::{Machine, Malformed, Timestamp, decode, encode};
use tidings_log::faulty::{Fault, Faulty};
use tidings_log::sqlite::{Options, Sqlite};
use tidings_log::{AppendError, Bounds, Error, Log, Memory, Origin, Position, Snapshot};
use tidings_node::clock::Manual;
use tidings_node::{Builder, Handle, Node, Refused, Settings, Watched};

/// Adds up; rings once when it reaches a hundred, ten milliseconds later.
#[derive(Default)]
struct Sum {
    total: u64,
    ring: Option<u64>,
    rung: bool,
}

impl Machine for Sum {
    type Command = u64;
    type Reply = u64;
    type Event = u64;

    fn apply(&mut self, at: Timestamp, add: u64, emit: &mut impl FnMut(u64)) -> u64 {
        self.total += add;
        if self.total >= 100 && !self.rung {
            self.ring.get_or_insert(at.0 + 10);
        }
        emit(self.total);
        self.total
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.ring.map(Timestamp)
    }

    fn tick(&mut self, _at: Timestamp, emit: &mut impl FnMut(u64)) {
        (self.ring, self.rung) = (None, true);
        emit(0);
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        encode(&(self.total, self.ring, self.rung), out);
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let (total, ring, rung) = decode("a sum", &mut bytes)?;
        Ok(Self { total, ring, rung })
    }
}

fn over(log: impl Log + 'static, settings: Settings) -> (Node, Handle<Sum>) {
    let mut builder = Builder::new(settings);
    let sum = builder.add(1, "sum", Sum::default());
    (builder.start(Box::new(log), |_| {}).unwrap(), sum)
}

/// Shut until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

/// A log whose appends wait until they are let go, and are counted.
struct Gated {
    log: Memory,
    gate: Arc<Gate>,
    appends: Arc<AtomicU64>,
}

impl Log for Gated {
    fn origin(&self) -> Origin {
        self.log.origin()
    }
    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.log.bounds()
    }
    fn last_number(&self) -> u64 {
        self.log.last_number()
    }
    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.gate.pass();
        self.log.append(number, body)
    }
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<tidings_log::Batch>, Error> {
        self.log.read(from, bytes_max)
    }
    fn write_snapshot(
        &mut self,
        at: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.log.write_snapshot(at, chunk, body, last)
    }
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        self.log.read_snapshot()
    }
    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.log.truncate(before)
    }
    fn check(&mut self) -> Result<(), Error> {
        self.log.check()
    }
}

#[tokio::test]
async fn what_is_proposed_during_a_commit_shares_the_next_one() {
    let (gate, appends) = (Arc::<Gate>::default(), Arc::new(AtomicU64::new(0)));
    let log =
        Gated { log: Memory::default(), gate: Arc::clone(&gate), appends: Arc::clone(&appends) };
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
async fn a_node_that_was_stopped_takes_nothing_and_has_lost_nothing() {
    let log = Memory::default();
    let (node, sum) = over(log.reopen(), Settings::default());
    assert_eq!(sum.propose(7).await, Ok(7));
    node.stop().await.unwrap();
    assert_eq!(sum.propose(7).await, Err(Refused::Stopping));
    let (node, sum) = over(log.reopen(), Settings::default());
    assert_eq!(sum.read(|sum| sum.total), 7);
    assert_eq!(node.stats().replayed, 0, "the last snapshot covers everything");
    node.stop().await.unwrap();
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

#[tokio::test]
async fn a_broken_log_says_so_to_everybody() {
    let log = Faulty::scripted(Memory::default(), [None, Some(Fault::Broken)]);
    let (node, sum) = over(log, Settings::default());
    assert_eq!(sum.propose(1).await, Ok(1));
    assert!(matches!(sum.propose(1).await, Err(Refused::Failed(_))));
    assert!(node.failed().await.contains("the log is broken"));
    assert!(matches!(sum.propose(1).await, Err(Refused::Failed(_))));
    assert!(node.stop().await.is_err());
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_watchers_in_order_whoever_proposes() {
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

#[tokio::test]
async fn a_runtime_that_ends_leaves_the_node_to_the_others() {
    let log = Memory::default();
    let (node, sum) = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = runtime.block_on(async { over(log, Settings::default()) });
        runtime.block_on(async { started.1.propose(1).await.unwrap() });
        started
    })
    .join()
    .unwrap();
    assert_eq!(sum.propose(1).await, Ok(2));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn snapshots_are_taken_and_the_log_is_truncated_while_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { snapshot_log_bytes: 2000, ..Settings::default() };
    let open = || Sqlite::open(folder.path(), Options::default()).unwrap();
    let (node, sum) = over(open(), settings);
    for add in 0..300 {
        sum.propose(add).await.unwrap();
    }
    assert!(node.stats().snapshots > 0);
    node.stop().await.unwrap();
    let mut log = open();
    let Bounds { first, next } = log.bounds().unwrap();
    assert!(first.0 > 1 && next.0 > 300, "{first}..{next}");
    let (node, sum) = over(log, settings);
    assert_eq!(sum.read(|sum| sum.total), (0..300).sum::<u64>());
    let Watched::Events(events) = sum.watch(Some(299)).next(10).await else { unreachable!("kept") };
    assert!(!events.is_empty(), "events are kept across a restart");
    node.stop().await.unwrap();
}
