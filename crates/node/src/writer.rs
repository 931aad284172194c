//! The thread that owns the log, and the queue in front of it.
//!
//! What comes while a commit is under way waits in the queue and makes up the next batch. An
//! `fdatasync` costs as much as ten requests, so a batch should not be closed too early either:
//! the first proposal of a batch does not wake the thread itself. It wakes a task on the runtime
//! that the proposers run on, and as a runtime runs its ready tasks in turn, that task comes after
//! everybody who was ready too; only then is the thread woken, for all of them at once. On an idle
//! machine that is at once.
//!
//! The same task gives the answers: waking a task of a runtime from outside is a system call each,
//! from inside it is next to nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tidings_core::machine::Timestamp;
use tidings_log::Position;
use tokio::sync::{Notify, oneshot};

use crate::engine::{Engine, Fatal};
use crate::node::Shared;
use crate::slot::Refused;
use crate::snapshot::Taken;

/// A deadline is slept for no longer than this at once: a clock that was put forward meanwhile, or
/// a machine that was suspended, makes it come earlier.
pub(crate) const CLOCK_LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often a node looks whether others have confirmed what it came to.
const WAITING_LOOK_EVERY: Duration = Duration::from_secs(1);
/// When a tick for which the log had no room is tried again.
const TICK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Commands of one machine that wait for their commit.
pub(crate) trait Proposal: Send {
    /// The number of the machine that they are for.
    fn machine(&self) -> u8;
    /// How many entries they become.
    fn entries(&self) -> u64;
    /// Appends these entries.
    fn encode(&self, out: &mut Vec<u8>);
    /// Applies them, the first as entry number `entry`, and keeps the answer.
    fn apply(&mut self, at: Timestamp, entry: u64);
    /// Gives the answer that was kept.
    fn answer(self: Box<Self>);
    /// Answers why there will be no answer. It may still be applied.
    fn refuse(&mut self, why: &Refused);
}

/// What the thread is asked besides proposals.
pub(crate) enum Request {
    /// Whether an append could succeed.
    Check(oneshot::Sender<Result<(), Refused>>),
    /// A deadline may have moved.
    Look,
    /// That everything acknowledged anywhere before is applied.
    Barrier(oneshot::Sender<Result<(), Refused>>),
    /// What everything comes to: position, entries, digest.
    Digest(oneshot::Sender<(u64, u64, u128)>),
    /// A snapshot is sealed and can be written.
    Sealed(Sealed),
}

/// A snapshot out of the thread that sealed it.
pub(crate) struct Sealed {
    position: Position,
    /// What it came to, and whether this node had asked all for it, when it was taken at a checkpoint.
    checkpoint: Option<(u128, bool)>,
    body: std::io::Result<Vec<u8>>,
}

/// The queue in front of the thread. Holds one proposal for each who waits for an
/// answer; one whose proposer has gone stays until its commit. When a commit takes too long all are
/// refused, and no more are taken until it is done.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the thread.
    wake: Condvar,
    /// Applied, to be answered by the task.
    answers: Mutex<Vec<Box<dyn Proposal>>>,
    /// Wakes the task that gathers and answers.
    task: Notify,
}

#[derive(Default)]
struct Waiting {
    proposals: VecDeque<Box<dyn Proposal>>,
    requests: Vec<Request>,
    /// There is a task on a runtime that wakes the thread; without one, whoever proposes does.
    gathered: bool,
    /// The thread may begin the next batch.
    go: bool,
    /// How many proposals are being committed.
    committing: usize,
    /// How many were under way when the last commit was done: in it, or behind it.
    proposing: usize,
    /// Others have appended something.
    news: bool,
    /// The log does not answer: no proposals are taken until it does.
    stalled: Option<Refused>,
    /// No more proposals are taken; the thread ends when it has dealt with what is there.
    closed: Option<Refused>,
}

impl Waiting {
    /// How many proposals are enough for a batch, when more are still coming: five eighths of those
    /// that are under way at this time. A commit costs as much CPU as a dozen requests, so it should
    /// have many; the others keep the processor busy while the disk is.
    fn enough(&self) -> usize {
        (self.proposing * 5 / 8).max(1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task of [`Queue::gather`]. Its runtime may end before the node does: then proposers and the
/// thread do without it.
struct Task(Arc<Queue>);

impl Task {
    fn begin(queue: Arc<Queue>) -> Self {
        queue.lock().gathered = true;
        Self(queue)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.lock().gathered = false;
        self.0.answer_all();
        self.0.go();
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }

    /// Queues a proposal.
    pub(crate) fn push(&self, proposal: Box<dyn Proposal>) -> Result<(), Refused> {
        let mut waiting = self.lock();
        if let Some(why) = waiting.closed.as_ref().or(waiting.stalled.as_ref()) {
            return Err(why.clone());
        }
        waiting.proposals.push_back(proposal);
        if waiting.proposals.len() > 1 {
            return Ok(());
        }
        if waiting.gathered {
            drop(waiting);
            self.task.notify_one();
        } else {
            waiting.go = true;
            drop(waiting);
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(crate) fn request(&self, request: Request) -> Result<(), Refused> {
        let mut waiting = self.lock();
        if let Some(why) = &waiting.closed {
            return Err(why.clone());
        }
        waiting.requests.push(request);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Others have appended something.
    fn news(&self) {
        self.lock().news = true;
        self.wake.notify_one();
    }

    /// A commit takes too long (`why`), or is done after all. Returns whether it is worth going on.
    fn stalled(&self, why: Option<&str>) -> bool {
        let why = why.map(|why| Refused::Silent(why.to_owned()));
        let (left, requests, open) = {
            let mut waiting = self.lock();
            waiting.stalled.clone_from(&why);
            let open = waiting.closed.is_none();
            if why.is_none() {
                return open;
            }
            let answerable = |request: &mut Request| {
                matches!(request, Request::Check(_) | Request::Barrier(_) | Request::Digest(_))
            };
            let requests: Vec<_> = waiting.requests.extract_if(.., answerable).collect();
            (std::mem::take(&mut waiting.proposals), requests, open)
        };
        let why = why.unwrap_or(Refused::Stopping);
        left.into_iter().for_each(|mut proposal| proposal.refuse(&why));
        for request in requests {
            if let Request::Check(reply) | Request::Barrier(reply) = request {
                drop(reply.send(Err(why.clone())));
            }
        }
        open
    }

    /// Why no proposals are taken, if the log does not answer.
    pub(crate) fn why_stalled(&self) -> Option<Refused> {
        self.lock().stalled.clone()
    }

    /// Takes no more proposals and lets the thread end.
    pub(crate) fn close(&self, why: Refused) {
        self.lock().closed.get_or_insert(why);
        self.wake.notify_one();
        self.task.notify_one();
    }

    /// Takes no more proposals and refuses those that wait: there is no thread, or it has ended.
    pub(crate) fn end(&self, why: &Refused) {
        self.close(why.clone());
        let (left, requests) = {
            let mut waiting = self.lock();
            (std::mem::take(&mut waiting.proposals), std::mem::take(&mut waiting.requests))
        };
        left.into_iter().for_each(|mut proposal| proposal.refuse(why));
        // Whoever waits for one is told so by its end.
        drop(requests);
    }

    /// The task that answers, and that wakes the thread once everybody who was ready has proposed.
    pub(crate) async fn gather(self: Arc<Self>) {
        let task = Task::begin(self);
        let queue = &task.0;
        // A queue that is closed is dealt with by the thread alone.
        while queue.lock().closed.is_none() {
            queue.task.notified().await;
            let mut before = 0;
            loop {
                queue.answer_all();
                // Runs again behind all who are ready now, and behind those whose sockets are.
                tokio::task::yield_now().await;
                let waiting = queue.lock();
                let gathered = waiting.proposals.len();
                if waiting.committing > 0 || gathered == 0 {
                    // When that commit is done there are answers to give.
                    break;
                }
                if gathered == before || gathered >= waiting.enough() {
                    drop(waiting);
                    queue.go();
                    break;
                }
                before = gathered;
            }
        }
    }

    fn answer_all(&self) {
        let answers = std::mem::take(&mut *lock(&self.answers));
        answers.into_iter().for_each(Proposal::answer);
    }

    /// Lets the thread begin the next batch, if there is anything for it.
    fn go(&self) {
        let mut waiting = self.lock();
        if !waiting.proposals.is_empty() {
            waiting.go = true;
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Has proposals answered that are applied: the commit is done.
    fn answer(&self, applied: &mut Vec<Box<dyn Proposal>>) {
        lock(&self.answers).append(applied);
        let mut waiting = self.lock();
        waiting.proposing = waiting.committing + waiting.proposals.len();
        waiting.committing = 0;
        let gathered = waiting.gathered;
        drop(waiting);
        if gathered {
            self.task.notify_one();
        } else {
            self.answer_all();
        }
    }

    /// Waits until there is something to do, or until `timeout`. Swaps the proposals into
    /// `proposals`, which is empty. Returns the requests, and whether the queue is closed.
    fn take(
        &self,
        proposals: &mut VecDeque<Box<dyn Proposal>>,
        timeout: Option<Duration>,
    ) -> (Vec<Request>, bool) {
        let mut waiting = self.lock();
        let idle = |waiting: &Waiting| {
            let calm = !waiting.go && !waiting.news;
            calm && waiting.requests.is_empty() && waiting.closed.is_none()
        };
        if idle(&waiting) {
            waiting = match timeout {
                Some(timeout) => {
                    let waited = self.wake.wait_timeout(waiting, timeout);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
        (waiting.go, waiting.news) = (false, false);
        debug_assert!(proposals.is_empty());
        std::mem::swap(proposals, &mut waiting.proposals);
        if !proposals.is_empty() {
            waiting.committing = proposals.len();
        }
        (std::mem::take(&mut waiting.requests), waiting.closed.is_some())
    }
}

/// Drives an engine until the queue is closed or the log has failed.
pub(crate) fn run(mut engine: Engine, shared: &Arc<Shared>) -> Result<(), Fatal> {
    let queue = Arc::clone(&shared.queue);
    engine.on_news(Box::new(move || queue.news()));
    let queue = Arc::clone(&shared.queue);
    engine.on_stall(Box::new(move |why| queue.stalled(why)));
    let (proposals, applied) = (VecDeque::new(), Vec::new());
    let mut writer = Writer { engine, shared, proposals, applied, sealing: false };
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
    /// Taken from the queue, not yet committed.
    proposals: VecDeque<Box<dyn Proposal>>,
    /// Applied, not yet handed to the task that answers.
    applied: Vec<Box<dyn Proposal>>,
    /// A snapshot is being sealed on another thread.
    sealing: bool,
}

impl Writer<'_> {
    fn run(&mut self) -> Result<(), Fatal> {
        let (mut more_work, mut ticked) = (false, true);
        loop {
            let timeout =
                if more_work { Some(Duration::ZERO) } else { self.until_deadline(ticked) };
            let (requests, closed) = self.shared.queue.take(&mut self.proposals, timeout);
            // Asked for before the commits below, which are as good as one of their own.
            let barriers = self.barriers(requests.iter().any(is_barrier))?;
            while !self.proposals.is_empty() {
                let now = self.shared.clock.now();
                let committed = self.engine.commit(&mut self.proposals, &mut self.applied, now);
                self.shared.queue.answer(&mut self.applied);
                committed?;
            }
            let news = self.engine.follow()?;
            let now = self.shared.clock.now();
            ticked = self.engine.tick(now)?;
            for request in requests {
                self.answer(request, &barriers)?;
            }
            let log_bytes = self.shared.settings.snapshot_log_bytes;
            self.engine.look(now)?;
            self.engine.ask_for_checkpoint(log_bytes, now)?;
            if let Some((taken, asked)) = self.engine.taken_at_checkpoint() {
                self.seal(taken, Some(asked));
            } else if !self.sealing && self.engine.snapshot_is_due(log_bytes) {
                let taken = self.engine.take_snapshot();
                self.seal(taken, None);
            }
            more_work = self.engine.work(now) || news;
            self.shared.publish(self.engine.applied(), self.engine.stats);
            if closed {
                self.finish();
                return Ok(());
            }
        }
    }

    /// How long there is nothing to do unless someone proposes. A tick that found no room is tried
    /// again after a while.
    fn until_deadline(&self, ticked: bool) -> Option<Duration> {
        let waiting = self.engine.is_waiting().then_some(WAITING_LOOK_EVERY);
        let deadline = self.until_tick(ticked);
        deadline.into_iter().chain(waiting).min()
    }

    fn until_tick(&self, ticked: bool) -> Option<Duration> {
        let due = self.engine.next_deadline()?;
        if !ticked {
            return Some(TICK_AGAIN_AFTER);
        }
        let wait_ms = due.0.saturating_sub(self.shared.clock.now().0);
        Some(Duration::from_millis(wait_ms).min(CLOCK_LOOK_EVERY))
    }

    /// A commit of its own for those who wait for a barrier, unless one is about to be made.
    fn barriers(&mut self, wanted: bool) -> Result<Result<(), Refused>, Fatal> {
        if !wanted || !self.proposals.is_empty() {
            return Ok(Ok(()));
        }
        self.engine.barrier(self.shared.clock.now())
    }

    fn answer(&mut self, request: Request, barriers: &Result<(), Refused>) -> Result<(), Fatal> {
        match request {
            // The next round looks at all deadlines.
            Request::Look => {}
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

    /// Has a snapshot sealed on a thread of its own, while commits go on. One that was taken at a
    /// checkpoint says whether this node had asked for it.
    fn seal(&mut self, taken: Taken, checkpoint: Option<bool>) {
        let position = Position(taken.applied.position);
        let queue = Arc::clone(&self.shared.queue);
        let sealing = std::thread::Builder::new().name("tidings-seal".into()).spawn(move || {
            let checkpoint = checkpoint.map(|asked| (taken.digest(), asked));
            let sealed = Sealed { position, checkpoint, body: taken.seal() };
            // Who has closed the queue meanwhile takes a snapshot of its own.
            drop(queue.request(Request::Sealed(sealed)));
        });
        match sealing {
            Ok(_) => self.sealing = true,
            // There are no more threads to be had. That passes; commits do not wait for it.
            Err(why) => self.engine.snapshot_failed(&why),
        }
    }

    /// The last snapshot, so that the next start has nothing to replay.
    fn finish(&mut self) {
        if self.shared.settings.snapshot_on_stop && self.engine.has_news() {
            let taken = self.engine.take_snapshot();
            let position = Position(taken.applied.position);
            match taken.seal() {
                Ok(sealed) => self.engine.write_snapshot(position, sealed),
                Err(why) => self.engine.snapshot_failed(&why),
            }
        }
        while self.engine.work(self.shared.clock.now()) {}
        self.shared.publish(self.engine.applied(), self.engine.stats);
    }
}
