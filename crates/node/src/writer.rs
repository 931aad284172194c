//! The thread that owns the log. It drives the engine and serves the queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidings_log::Position;

use crate::clock::CHECK_EVERY;
use crate::engine::{Engine, Fatal};
use crate::proposal::{Proposal, Refused};
use crate::queue::{Request, Sealed};
use crate::shared::Shared;
use crate::snapshot::Taken;

/// How often a node that waits for others checks whether they have confirmed its digest.
const WAITING_CHECK_EVERY: Duration = Duration::from_secs(1);
/// The pause before a tick for which the log had no room is tried again.
const TICK_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Drives an engine until the queue is closed or the log has failed.
pub(crate) fn run(mut engine: Engine, shared: &Arc<Shared>) -> Result<(), Fatal> {
    let queue = Arc::clone(&shared.queue);
    engine.on_news(Box::new(move || queue.news()));
    let queue = Arc::clone(&shared.queue);
    engine.on_stall(Box::new(move |why| queue.stalled(why)));
    let mut writer =
        Writer { engine, shared, proposals: VecDeque::new(), applied: Vec::new(), sealing: false };
    let outcome = writer.run();
    let why = match &outcome {
        Ok(()) => Refused::Stopping,
        Err(fatal) => Refused::Failed(fatal.to_string()),
    };
    std::mem::take(&mut writer.proposals).into_iter().for_each(|mut left| left.refuse(&why));
    shared.queue.end(&why);
    outcome
}

fn is_barrier(request: &Request) -> bool {
    matches!(request, Request::Barrier(_))
}

struct Writer<'a> {
    engine: Engine,
    shared: &'a Arc<Shared>,
    /// Taken from the queue and not committed yet.
    proposals: VecDeque<Box<dyn Proposal>>,
    /// Applied, and not passed on yet to the task that sends replies.
    applied: Vec<Box<dyn Proposal>>,
    /// A snapshot is being sealed on another thread.
    sealing: bool,
}

impl Writer<'_> {
    fn run(&mut self) -> Result<(), Fatal> {
        let mut more_work = false;
        let mut ticked = true;
        loop {
            let timeout =
                if more_work { Some(Duration::ZERO) } else { self.until_deadline(ticked) };
            let (requests, closed) = self.shared.queue.wait(&mut self.proposals, timeout);
            // The commits below come after the requests for a barrier, so each serves as their barrier.
            let barriers = self.barriers(requests.iter().any(is_barrier))?;
            while !self.proposals.is_empty() {
                let now = self.shared.clock.now();
                let committed = self.engine.commit(&mut self.proposals, &mut self.applied, now);
                self.shared.queue.committed(&mut self.applied);
                committed?;
            }
            let news = self.engine.follow()?;
            let now = self.shared.clock.now();
            ticked = self.engine.tick(now)?;
            for request in requests {
                self.answer(request, &barriers)?;
            }
            let log_bytes = self.shared.settings.snapshot_log_bytes;
            self.engine.check_agreement(now)?;
            self.engine.ask_for_checkpoint(log_bytes, now)?;
            if let Some((taken, asked)) = self.engine.taken_at_checkpoint() {
                self.seal(taken, Some(asked));
            } else if !self.sealing && self.engine.snapshot_is_due(log_bytes) {
                let taken = self.engine.take_snapshot();
                self.seal(taken, None);
            }
            more_work = self.engine.work(now) || news;
            self.shared.publish(self.engine.stats());
            if closed {
                self.finish();
                return Ok(());
            }
        }
    }

    /// Returns how long there is nothing to do unless a proposal arrives.
    fn until_deadline(&self, ticked: bool) -> Option<Duration> {
        let waiting = self.engine.is_waiting().then_some(WAITING_CHECK_EVERY);
        let deadline = self.until_tick(ticked);
        deadline.into_iter().chain(waiting).min()
    }

    fn until_tick(&self, ticked: bool) -> Option<Duration> {
        let due = self.engine.next_deadline()?;
        if !ticked {
            return Some(TICK_RETRY_AFTER);
        }
        let wait_ms = due.0.saturating_sub(self.shared.clock.now().0);
        Some(Duration::from_millis(wait_ms).min(CHECK_EVERY))
    }

    /// Appends a barrier for the requests that want one, unless a commit is about to serve as it.
    fn barriers(&mut self, wanted: bool) -> Result<Result<(), Refused>, Fatal> {
        if !wanted || !self.proposals.is_empty() {
            return Ok(Ok(()));
        }
        self.engine.barrier(self.shared.clock.now())
    }

    fn answer(&mut self, request: Request, barriers: &Result<(), Refused>) -> Result<(), Fatal> {
        match request {
            // The next round checks all deadlines.
            Request::CheckDeadlines => {}
            Request::Check(reply) => drop(reply.send(self.engine.check())),
            Request::Barrier(reply) => drop(reply.send(barriers.clone())),
            Request::Digest(reply) => drop(reply.send(self.engine.digest())),
            Request::Sealed(Sealed { position, checkpoint, body }) => {
                self.sealing = false;
                match body {
                    Ok(body) => self.engine.write_snapshot(position, body),
                    Err(why) => self.engine.snapshot_failed(&why),
                }
                if let Some((digest, asked)) = checkpoint {
                    let now = self.shared.clock.now();
                    self.engine.sealed_at_checkpoint(position, digest, asked, now)?;
                }
            }
        }
        Ok(())
    }

    /// Seals a snapshot on a thread of its own, while commits go on. `checkpoint` is set for a snapshot of a checkpoint, and says
    /// whether this node asked for it.
    fn seal(&mut self, taken: Taken, checkpoint: Option<bool>) {
        let position = Position(taken.applied.position);
        let queue = Arc::clone(&self.shared.queue);
        let sealing = std::thread::Builder::new().name("tidings-seal".into()).spawn(move || {
            let checkpoint = checkpoint.map(|asked| (taken.digest(), asked));
            let sealed = Sealed { position, checkpoint, body: taken.seal() };
            // When the queue was closed meanwhile, stopping takes a snapshot of its own.
            drop(queue.request(Request::Sealed(sealed)));
        });
        match sealing {
            Ok(_) => self.sealing = true,
            // The process has too many threads at the moment. Commits go on without a snapshot.
            Err(why) => self.engine.snapshot_failed(&why),
        }
    }

    /// Writes the last snapshot, so that the next start has nothing to replay.
    fn finish(&mut self) {
        if self.shared.settings.snapshot_on_stop && self.engine.is_uncovered() {
            let taken = self.engine.take_snapshot();
            let position = Position(taken.applied.position);
            match taken.seal() {
                Ok(sealed) => self.engine.write_snapshot(position, sealed),
                Err(why) => self.engine.snapshot_failed(&why),
            }
        }
        while self.engine.work(self.shared.clock.now()) {}
        self.shared.publish(self.engine.stats());
    }
}
