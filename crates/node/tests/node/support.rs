//! A machine, a log whose appends wait, and how to start a node with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tidings_core::machine::{Machine, Malformed, Timestamp, decode, encode};
use tidings_log::{AppendError, Bounds, Error, Log, Origin, Position, Snapshot};
use tidings_node::{Builder, Handle, Node, Refused, Settings};
use tokio::task::JoinHandle;

/// Adds up; rings once when it reaches a hundred, ten milliseconds later.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) total: u64,
    pub(crate) ring: Option<u64>,
    pub(crate) rung: bool,
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

pub(crate) fn over(log: impl Log + 'static, settings: Settings) -> (Node, Handle<Sum>) {
    let mut builder = Builder::new(settings);
    let sum = builder.add(1, "sum", Sum::default());
    (builder.start(Box::new(log), |_| {}).unwrap(), sum)
}

/// Shut until it is opened.
#[derive(Default)]
pub(crate) struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub(crate) fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
    pub(crate) fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

/// A log whose appends wait until they are let go, and are counted.
pub(crate) struct Gated {
    log: Box<dyn Log>,
    gate: Arc<Gate>,
    appends: Arc<AtomicU64>,
}

impl Gated {
    pub(crate) fn new(log: impl Log + 'static) -> (Self, Arc<Gate>, Arc<AtomicU64>) {
        let (gate, appends) = (Arc::<Gate>::default(), Arc::new(AtomicU64::new(0)));
        let (log, theirs) = (Box::new(log), (Arc::clone(&gate), Arc::clone(&appends)));
        (Self { log, gate: theirs.0, appends: theirs.1 }, gate, appends)
    }
}

/// Lets other tasks run until it is so.
pub(crate) async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

/// Proposes from a task of its own; gives every other task its turn afterwards.
pub(crate) async fn propose(sum: &Handle<Sum>, add: u64) -> JoinHandle<Result<u64, Refused>> {
    let theirs = sum.clone();
    let proposing = tokio::spawn(async move { theirs.propose(add).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    proposing
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
