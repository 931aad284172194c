//! Snapshots under load, and how a long recovery shows its progress.

use std::time::Duration;

use tidings_log::sqlite::{Options, Sqlite};
use tidings_log::{AppendError, Batch, Bounds, Error, Log, Memory, Origin, Position, Snapshot};
use tidings_node::{Builder, Settings, Watched};

use crate::support::{Sum, over};

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

/// A disk on which every read takes its time, and gives one batch.
struct Slow(Memory);

impl Log for Slow {
    fn origin(&self) -> Origin {
        self.0.origin()
    }
    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.0.bounds()
    }
    fn last_number(&self) -> u64 {
        self.0.last_number()
    }
    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        self.0.append(number, body)
    }
    fn read(&mut self, from: Position, _bytes_max: usize) -> Result<Vec<Batch>, Error> {
        std::thread::sleep(Duration::from_millis(300));
        self.0.read(from, 1)
    }
    fn write_snapshot(&mut self, _: Position, _: u32, _: &[u8], _: bool) -> Result<(), Error> {
        Err(Error::Store("it takes no snapshots".to_owned()))
    }
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        Ok(None)
    }
    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.0.truncate(before)
    }
    fn check(&mut self) -> Result<(), Error> {
        self.0.check()
    }
}

#[tokio::test]
async fn a_recovery_that_takes_over_a_second_tells_how_far_it_is() {
    let log = Memory::default();
    let settings = Settings { snapshot_on_stop: false, ..Settings::default() };
    let (node, sum) = over(log.reopen(), settings);
    for _ in 0..5 {
        sum.propose_all(vec![1, 1]).await.unwrap();
    }
    node.stop().await.unwrap();
    let mut told = Vec::new();
    let mut builder = Builder::new(settings);
    let sum = builder.add(1, "sum", Sum::default());
    let node = builder.start(Box::new(Slow(log)), |progress| told.push(progress)).unwrap();
    let first = told.first().unwrap();
    assert!(first.elapsed >= Duration::from_secs(1), "not earlier");
    assert!((1..=5).contains(&first.done) && first.total == 5, "{first:?}");
    assert_eq!(first.entries, 2 * first.done);
    assert_eq!((sum.read(|sum| sum.total), node.stats().replayed), (10, 10));
    node.stop().await.unwrap();
}
