//! Closes connections that are idle for too long, and all of them when the server stops.
//!
//! A timer for each request, as in hyper, costs more than parsing the head of the request. Here each
//! connection counts its requests, and one task sweeps all connections at an interval: it closes a
//! connection that has no request in progress and whose count is the same as before. An idle connection
//! is closed after 1 to 1.25 times its timeout.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;

use super::stream::Stream;

/// The number of sweeps in the shortest timeout.
const SWEEPS_PER_TIMEOUT: u32 = 4;

/// The state that a connection and the sweeper share.
pub(crate) struct Link {
    /// The number of requests so far; it wraps around.
    requests: AtomicU32,
    /// The number of requests in progress. It stays above 0 once an answer streams.
    at_work: AtomicU32,
    /// Whether the connection must close: after the request in progress when the server stops, at once when it is idle.
    close: AtomicBool,
    cut: AtomicBool,
    /// Wakes the task of the connection, which is always the same one.
    waker: Mutex<Option<Waker>>,
    /// The number of sweeps without a new request after which the connection is closed.
    sweeps_max: u32,
    /// Used by the sweeper alone: the count of requests at the last sweep, and the number of sweeps that found the same.
    seen: Mutex<(u32, u32)>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The connection ended by itself, or the client disconnected.
    Done,
    /// The connection was idle for longer than its timeout.
    Idle,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // No code panics while it holds one of these locks, so their data is valid.
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
                // One task polls a connection for its whole life, so its waker stays valid.
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
            // hyper has nothing more to do now, so the answers are written.
            stream.drain(context);
            polled.map(|ended| {
                // The client has disconnected, or has sent something that is not HTTP.
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
    /// Returns a sweeper for connections whose timeouts are at least `timeout_min`.
    pub(crate) fn new(timeout_min: Duration) -> Self {
        let every = (timeout_min / SWEEPS_PER_TIMEOUT).max(Duration::from_millis(1));
        Self { links: Mutex::new(Vec::new()), every, stopping: AtomicBool::new(false) }
    }

    /// Returns the link of a new connection.
    pub(crate) fn link(&self, timeout: Duration) -> Arc<Link> {
        let sweeps = timeout.as_nanos().div_ceil(self.every.as_nanos().max(1));
        // Under the lock, so that a stop between the creation of the link and its listing is not missed.
        let mut links = lock(&self.links);
        let link = Arc::new(Link {
            requests: AtomicU32::new(0),
            at_work: AtomicU32::new(0),
            close: AtomicBool::new(self.stopping.load(Ordering::Acquire)),
            cut: AtomicBool::new(false),
            waker: Mutex::new(None),
            sweeps_max: u32::try_from(sweeps).unwrap_or(u32::MAX),
            seen: Mutex::new((0, 0)),
        });
        links.push(Arc::downgrade(&link));
        link
    }

    /// Sweeps the connections at an interval. When `stop` is true, it asks all of them to finish, and goes on sweeping.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(self.every);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                _ = ticks.tick() => self.sweep(),
            }
        }
        self.finish_all();
        // An idle connection closes at once; one whose client stalls is cut at its timeout.
        loop {
            ticks.tick().await;
            self.sweep();
        }
    }

    fn finish_all(&self) {
        let links = lock(&self.links);
        self.stopping.store(true, Ordering::Release);
        for link in links.iter().filter_map(Weak::upgrade) {
            link.close.store(true, Ordering::Release);
            link.wake();
        }
    }

    fn sweep(&self) {
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
            if seen.1 <= link.sweeps_max {
                return true;
            }
            link.cut.store(true, Ordering::Release);
            link.wake();
            false
        });
    }
}
