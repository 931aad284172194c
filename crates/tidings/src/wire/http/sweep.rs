//! Closes connections that are idle for too long, and all of them when the server stops.
//!
//! A timer for each request, as hyper has it, costs more than parsing its head. Here a connection
//! counts its requests, and once in a while one task looks at all connections: one whose count has
//! not moved and that is not at work gets closed. A connection is closed between one and one and a
//! quarter times its timeout.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;

use super::stream::Stream;

/// How often all connections are looked at, as a part of the shortest timeout.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// What a connection tells the sweeper, and the other way round.
pub(crate) struct Link {
    /// Goes up with every request.
    requests: AtomicU32,
    /// How many requests are being answered; stays above 0 once an answer streams.
    at_work: AtomicU32,
    /// It is to close: after the request it is at when the server stops, at once when it is idle.
    close: AtomicBool,
    cut: AtomicBool,
    /// Wakes the task of the connection, which is always the same one.
    waker: Mutex<Option<Waker>>,
    /// After how many looks without a new request it is closed.
    looks_max: u32,
    /// Used by the sweeper alone: the count it saw last, and how often since.
    seen: Mutex<(u32, u32)>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, or because the client went.
    Done,
    /// It was idle for too long.
    Idle,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under these locks panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// A request has begun.
    pub(crate) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::Relaxed);
    }

    /// Its answer is ready to be written. An answer that `streams` keeps the connection at work.
    pub(crate) fn end(&self, streams: bool) {
        if !streams {
            self.at_work.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// Drives a connection until it ends or is cut. `stop` is called once, when it is to finish.
    pub(crate) async fn drive<C: Future<Output = hyper::Result<()>>>(
        &self,
        connection: C,
        mut stop: impl FnMut(Pin<&mut C>),
        stream: &Stream,
    ) -> Ended {
        let mut connection = pin!(connection);
        let (mut registered, mut stopped) = (false, false);
        std::future::poll_fn(|context| {
            if !registered {
                // A connection is polled by one task all its life.
                *lock(&self.waker) = Some(context.waker().clone());
                registered = true;
            }
            if !stopped && self.close.load(Ordering::Acquire) {
                stopped = true;
                stop(connection.as_mut());
            }
            if self.cut.load(Ordering::Acquire) {
                return Poll::Ready(Ended::Idle);
            }
            let polled = connection.as_mut().poll(context);
            // Nothing more can be done now: what was answered goes out.
            stream.drain(context);
            polled.map(|ended| {
                // The client's doing: it has gone, or has sent what is not HTTP.
                if let Err(why) = ended {
                    tracing::debug!(%why, "a connection broke");
                }
                Ended::Done
            })
        })
        .await
    }
}

/// All open connections.
pub(crate) struct Sweeper {
    links: Mutex<Vec<Weak<Link>>>,
    every: Duration,
    stopping: AtomicBool,
}

impl Sweeper {
    /// One for connections with timeouts not shorter than `timeout_min`.
    pub(crate) fn new(timeout_min: Duration) -> Self {
        let every = (timeout_min / LOOKS_PER_TIMEOUT).max(Duration::from_millis(1));
        Self { links: Mutex::new(Vec::new()), every, stopping: AtomicBool::new(false) }
    }

    /// A link for a new connection.
    pub(crate) fn link(&self, timeout: Duration) -> Arc<Link> {
        let looks = timeout.as_nanos().div_ceil(self.every.as_nanos().max(1));
        // Under the lock, so that a stop is not missed between looking and being listed.
        let mut links = lock(&self.links);
        let link = Arc::new(Link {
            requests: AtomicU32::new(0),
            at_work: AtomicU32::new(0),
            close: AtomicBool::new(self.stopping.load(Ordering::Acquire)),
            cut: AtomicBool::new(false),
            waker: Mutex::new(None),
            looks_max: u32::try_from(looks).unwrap_or(u32::MAX),
            seen: Mutex::new((0, 0)),
        });
        links.push(Arc::downgrade(&link));
        link
    }

    /// Looks at all connections from time to time; when `stop` says so, tells all to finish.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut looks = tokio::time::interval(self.every);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                _ = looks.tick() => self.look(),
            }
        }
        self.tell_all_to_finish();
        // An idle connection closes at once when told to; one whose client stalls is cut in time.
        loop {
            looks.tick().await;
            self.look();
        }
    }

    fn tell_all_to_finish(&self) {
        let links = lock(&self.links);
        self.stopping.store(true, Ordering::Release);
        for link in links.iter().filter_map(Weak::upgrade) {
            link.close.store(true, Ordering::Release);
            link.wake();
        }
    }

    fn look(&self) {
        lock(&self.links).retain(|link| {
            let Some(link) = link.upgrade() else {
                return false;
            };
            let requests = link.requests.load(Ordering::Relaxed);
            let mut seen = lock(&link.seen);
            if seen.0 != requests || link.at_work.load(Ordering::Relaxed) > 0 {
                *seen = (requests, 0);
                return true;
            }
            seen.1 += 1;
            if seen.1 <= link.looks_max {
                return true;
            }
            link.cut.store(true, Ordering::Release);
            link.wake();
            false
        });
    }
}
