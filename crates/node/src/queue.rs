//! The queue in front of the thread that owns the log.
//!
//! Proposals that arrive while a commit is under way wait here and form the next batch. An `fdatasync` costs as much as ten
//! requests, so a batch should not be closed too early. The first proposal of a batch therefore does not wake the thread. It
//! wakes a task on the proposers' runtime ([`Queue::gather`]). A runtime runs its ready tasks in turn, so that task runs
//! after every other task that was ready to propose, and wakes the thread once for all of them. On an idle machine that is at
//! once.
//!
//! The same task sends the replies: waking a task of a runtime from another thread is a system call each, and nearly free
//! from inside.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_log::Position;
use tokio::sync::{Notify, oneshot};

use crate::proposal::{Proposal, Refused};

/// A request to the thread, other than a proposal.
pub(crate) enum Request {
    /// Asks whether an append could succeed.
    Check(oneshot::Sender<Result<(), Refused>>),
    /// Reports that a deadline may have moved.
    CheckDeadlines,
    /// Asks to apply everything that any node acknowledged before.
    Barrier(oneshot::Sender<Result<(), Refused>>),
    /// Asks for position, entries, and the digest of the machines' states.
    Digest(oneshot::Sender<(u64, u64, u128)>),
    /// Reports that a snapshot is sealed and can be written.
    Sealed(Sealed),
}

/// A snapshot from the thread that sealed it.
pub(crate) struct Sealed {
    pub(crate) position: Position,
    /// Of a snapshot taken at a checkpoint: its digest, and whether this node had asked for the checkpoint.
    pub(crate) checkpoint: Option<(u128, bool)>,
    pub(crate) body: std::io::Result<Vec<u8>>,
}

/// Proposals and requests on their way to the thread. It is bounded by its proposers, since each waits for its reply. A
/// proposal whose proposer has gone stays until its commit. While a commit stalls, all are refused and no more are taken.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the thread.
    wake: Condvar,
    /// Applied proposals, whose replies the task sends. It has a lock of its own, so that proposers do not wait for it.
    answers: Mutex<Vec<Box<dyn Proposal>>>,
    /// Wakes the task that gathers and replies.
    task: Notify,
}

#[derive(Default)]
struct Waiting {
    proposals: VecDeque<Box<dyn Proposal>>,
    requests: Vec<Request>,
    /// A task on a runtime wakes the thread. Without one, every proposer does.
    gathered: bool,
    /// The thread may begin the next batch.
    go: bool,
    /// How many proposals are being committed.
    committing: usize,
    /// How many proposals were under way when the last commit was done: in it, or queued after it.
    proposing: usize,
    /// Another node has appended something.
    news: bool,
    /// Set while the log does not answer: no proposals are taken.
    stalled: Option<Refused>,
    /// Set when no more proposals are taken. The thread ends when it has dealt with the rest.
    closed: Option<Refused>,
}

impl Waiting {
    /// Returns how many proposals make a batch while more are still coming: five eighths of those under way. A commit costs
    /// as much CPU as a dozen requests, so it should have many of them; the remaining proposers keep the processor busy
    /// while the disk works.
    fn enough(&self) -> usize {
        (self.proposing * 5 / 8).max(1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks the queue as gathered while the task of [`Queue::gather`] runs. Its runtime may end before the node does; then
/// proposers and the thread do without it.
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
        self.0.send_replies();
        self.0.go();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }

    /// Queues a proposal.
    ///
    /// # Errors
    /// [`Refused`] when the queue is closed or stalled.
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

    /// Reports that another node has appended something.
    pub(crate) fn news(&self) {
        self.lock().news = true;
        self.wake.notify_one();
    }

    /// Reports that a commit takes too long (`why`), or that it is done after all. Returns whether to go on trying.
    pub(crate) fn stalled(&self, why: Option<&str>) -> bool {
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

    /// Returns why no proposals are taken, if the log has stalled.
    pub(crate) fn why_stalled(&self) -> Option<Refused> {
        self.lock().stalled.clone()
    }

    /// Rejects further proposals and lets the thread end.
    pub(crate) fn close(&self, why: Refused) {
        self.lock().closed.get_or_insert(why);
        self.wake.notify_one();
        self.task.notify_one();
    }

    /// Rejects further proposals and refuses those that wait, since there is no thread to commit them.
    pub(crate) fn end(&self, why: &Refused) {
        self.close(why.clone());
        let (left, requests) = {
            let mut waiting = self.lock();
            (std::mem::take(&mut waiting.proposals), std::mem::take(&mut waiting.requests))
        };
        left.into_iter().for_each(|mut proposal| proposal.refuse(why));
        // A dropped request ends the wait of its sender.
        drop(requests);
    }

    /// The task that sends replies, and that wakes the thread once every ready task has proposed.
    pub(crate) async fn gather(self: Arc<Self>) {
        let task = Task::begin(self);
        let queue = &task.0;
        // The thread alone deals with a closed queue.
        while queue.lock().closed.is_none() {
            queue.task.notified().await;
            let mut before = 0;
            loop {
                queue.send_replies();
                // Runs again after every task that is ready now, or whose socket is.
                tokio::task::yield_now().await;
                let waiting = queue.lock();
                let gathered = waiting.proposals.len();
                if waiting.committing > 0 || gathered == 0 {
                    // The end of that commit wakes this task again, with replies to send.
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

    fn send_replies(&self) {
        let answers = std::mem::take(&mut *lock(&self.answers));
        answers.into_iter().for_each(Proposal::answer);
    }

    /// Lets the thread begin the next batch, if there is one.
    fn go(&self) {
        let mut waiting = self.lock();
        if !waiting.proposals.is_empty() {
            waiting.go = true;
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Ends a commit: the replies of applied proposals are sent.
    pub(crate) fn committed(&self, applied: &mut Vec<Box<dyn Proposal>>) {
        lock(&self.answers).append(applied);
        let mut waiting = self.lock();
        waiting.proposing = waiting.committing + waiting.proposals.len();
        waiting.committing = 0;
        let gathered = waiting.gathered;
        drop(waiting);
        if gathered {
            self.task.notify_one();
        } else {
            self.send_replies();
        }
    }

    /// Waits until there is something to do, or until `timeout`. Swaps the proposals into `proposals`, which is empty: the
    /// two buffers keep their memory. Returns the requests, and whether the queue is closed.
    pub(crate) fn wait(
        &self,
        proposals: &mut VecDeque<Box<dyn Proposal>>,
        timeout: Option<Duration>,
    ) -> (Vec<Request>, bool) {
        let mut waiting = self.lock();
        let has_work = waiting.go || waiting.news || !waiting.requests.is_empty();
        if !has_work && waiting.closed.is_none() {
            waiting = match timeout {
                Some(timeout) => {
                    let waited = self.wake.wait_timeout(waiting, timeout);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
        waiting.go = false;
        waiting.news = false;
        debug_assert!(proposals.is_empty());
        std::mem::swap(proposals, &mut waiting.proposals);
        if !proposals.is_empty() {
            waiting.committing = proposals.len();
        }
        (std::mem::take(&mut waiting.requests), waiting.closed.is_some())
    }
}
