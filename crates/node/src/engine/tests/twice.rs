//! A log that does not recognise a retry: the batch stands in it twice. Only the first counts, at
//! once and after a restart, whatever another node has appended between the two.

use std::sync::{Mutex, MutexGuard};

use tidings_log::{Bounds, Error, Origin, Snapshot};

use super::*;

/// Appends whatever it is given, as a stream does whose memory of message ids has run out.
#[derive(Clone)]
struct Stream {
    origin: Origin,
    batches: Arc<Mutex<Vec<Batch>>>,
    /// Decides whether an append is acknowledged, and whether another node comes in between.
    draw: Arc<Mutex<Draw>>,
}

impl Stream {
    fn new(seed: u64) -> Self {
        Self { origin: Origin(1), batches: Arc::default(), draw: Arc::new(Mutex::new(Draw(seed))) }
    }

    fn batches(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.batches.lock().unwrap()
    }

    fn push(&self, origin: Origin, number: u64, body: Vec<u8>) -> Position {
        let mut batches = self.batches();
        let position = Position(batches.len() as u64 + 1);
        batches.push(Batch { position, origin, number, body });
        position
    }

    /// Another node's batch, with a clock of its own.
    fn push_other(&self, at: u64) {
        let number = self.last_of(Origin(77)) + 1;
        self.push(Origin(77), number, batch(at, 1_000_000 + number));
    }

    fn last_of(&self, origin: Origin) -> u64 {
        let batches = self.batches();
        batches
            .iter()
            .filter(|batch| batch.origin == origin)
            .map(|batch| batch.number)
            .max()
            .unwrap_or(0)
    }
}

impl Log for Stream {
    fn origin(&self) -> Origin {
        self.origin
    }
    fn bounds(&mut self) -> Result<Bounds, Error> {
        Ok(Bounds { first: Position(1), next: Position(self.batches().len() as u64 + 1) })
    }
    fn last_number(&self) -> u64 {
        self.last_of(self.origin)
    }
    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        let (lost, between, at) = {
            let mut draw = self.draw.lock().unwrap();
            (draw.below(3) == 0, draw.below(3) == 0, draw.below(3000))
        };
        let position = self.push(self.origin, number, body.to_vec());
        if between {
            self.push_other(at);
        }
        if lost { Err(AppendError::Unknown("no answer came".to_owned())) } else { Ok(position) }
    }
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        let mut bytes = 0;
        let wanted = |batch: &&Batch| {
            let wanted = bytes < bytes_max;
            bytes += batch.body.len();
            wanted
        };
        let batches = self.batches();
        Ok(batches
            .iter()
            .filter(|batch| batch.position >= from)
            .take_while(wanted)
            .cloned()
            .collect())
    }
    fn write_snapshot(&mut self, _: Position, _: u32, _: &[u8], _: bool) -> Result<(), Error> {
        Ok(())
    }
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        Ok(None)
    }
    fn truncate(&mut self, _: Position) -> Result<u64, Error> {
        Ok(0)
    }
    fn check(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn a_batch_that_stands_in_the_log_twice_is_applied_once_at_once_and_after_a_restart() {
    for seed in 0..50 {
        let stream = Stream::new(seed);
        let mut life = Life::over(Box::new(stream.clone())).unwrap();
        for name in 1..=20 {
            let (proposal, mut reply) = life.ledger.proposal((name, 40));
            let (mut proposals, mut applied) = (VecDeque::from([proposal]), Vec::new());
            life.engine.commit(&mut proposals, &mut applied, Timestamp(name * 100)).unwrap();
            applied.into_iter().for_each(Proposal::answer);
            let place = reply.try_recv().unwrap().unwrap();
            assert_eq!(life.ledger.read(|ledger| ledger.applied[place - 1]), name, "seed {seed}");
            life.engine.tick(Timestamp(name * 100 + 50)).unwrap();
        }
        while life.engine.catch_up().unwrap() > 0 {}
        let own = |name: &&u64| **name <= 20;
        let names: Vec<_> =
            life.ledger.read(|ledger| ledger.applied.iter().filter(own).copied().collect());
        assert_eq!(names, (1..=20).collect::<Vec<_>>(), "seed {seed}");
        let again = Life::over(Box::new(stream)).unwrap();
        assert_eq!(life.state(), again.state(), "seed {seed}");
    }
}
