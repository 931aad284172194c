//! The source of events: one at a time. Its task reads what is there, cuts it at the last line end, and has it logged and applied.
//! While that is under way it reads on.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tidings_core::machine::maze::{Command, Maze, Reply, SourceId, parse};
use tidings_core::machine::{Machine, Timestamp};
use tidings_node::{Lease, Refused};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Adapter, feed, nodes};
use crate::wire::lines::{self, Lines};
use crate::wire::tcp::Acceptor;

/// While a feed is under way, up to this many times its size is read ahead.
const READ_AHEAD: usize = 4;
/// How often the clock is read while a gap is waited for.
const CLOCK_CHECK_EVERY: Duration = Duration::from_secs(1);
/// A feed that takes longer than this throttles the source. The missing number may be among what the source cannot send, so
/// such a time does not count as waiting for a gap.
const THROTTLED_AFTER: Duration = Duration::from_millis(50);

/// Why a source is closed that another node has closed in the log.
const CLOSED_ELSEWHERE: &str =
    "another node closed it, because its own node did not renew the lease";

/// The source that is connected.
struct Current {
    /// The task owns the stream, so that it is closed as soon as the task ends.
    stream: Weak<TcpStream>,
    task: JoinHandle<()>,
}

impl Current {
    /// Returns whether the peer has closed, although what it had sent may still be applied.
    fn has_closed(&self) -> bool {
        let Some(stream) = self.stream.upgrade() else { return true };
        let ready = stream.ready(Interest::READABLE).now_or_never();
        ready.is_some_and(|ready| ready.is_ok_and(tokio::io::Ready::is_read_closed))
    }
}

/// Connections to the source's port that are open at once: the source, and sources about to be rejected.
const CONNECTIONS_MAX: usize = 16;

/// Accepts sources until the adapter stops. Returns when the last one is closed and flushed.
pub(super) async fn serve(listener: TcpListener, adapter: Arc<Adapter>) {
    let mut acceptor = Acceptor::new(listener, CONNECTIONS_MAX, adapter.stop.clone());
    let mut current: Option<Current> = None;
    while let Some((stream, address, permit)) = acceptor.next().await {
        if let Some(before) = current.take_if(|before| !before.task.is_finished()) {
            if !before.has_closed() {
                tracing::warn!(%address, "a second source is rejected: one is connected");
                adapter.sources_refused.fetch_add(1, Ordering::Relaxed);
                current = Some(before);
                continue;
            }
            // Everything is delivered before anything is reset.
            drop(before.task.await);
        }
        let source = Source::new(stream, Arc::clone(&adapter));
        let stream = Arc::downgrade(&source.stream);
        let task = tokio::spawn(async move {
            source.run().await;
            drop(permit);
        });
        current = Some(Current { stream, task });
        tracing::info!(%address, "the source is connected");
    }
    if let Some(current) = current {
        drop(current.task.await);
    }
}

/// A feed under way.
struct Feeding {
    /// Resolves to whether the source still is the one whose events count.
    done: Pin<Box<dyn Future<Output = Result<bool, Refused>> + Send>>,
    begun: Instant,
    bytes: usize,
}

struct Source {
    stream: Arc<TcpStream>,
    adapter: Arc<Adapter>,
    id: SourceId,
    /// The number of the next feed.
    part: u64,
    /// A gap that is due, by its deadline, and how many of the bytes that were there when that was found are not applied yet.
    owed: Option<(Timestamp, usize)>,
}

impl Source {
    fn new(stream: TcpStream, adapter: Arc<Adapter>) -> Self {
        let stream = Arc::new(stream);
        Self { stream, adapter, id: RandomState::new().hash_one(0), part: 0, owed: None }
    }

    async fn run(mut self) {
        match self.serve().await {
            Ok(Some(why)) => {
                tracing::info!(why, "the source is closed, and all it sent is delivered");
            }
            Ok(None) => {
                tracing::warn!("a second source is refused: one is connected to another node");
                self.adapter.sources_refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => tracing::error!(%why, "the source cannot be served"),
        }
    }

    /// Serves it until it is closed. Returns why, or `None` when another node has a source.
    async fn serve(&mut self) -> Result<Option<&'static str>, Refused> {
        if let Err(why) = lines::keep_alive(&self.stream) {
            tracing::warn!(%why, "a source that is gone without a word will not be found");
        }
        let lease = self.adapter.leases.lease(nodes::LEASE);
        if !nodes::obtain(&self.adapter, &lease).await? {
            return Ok(None);
        }
        // The lease is given back when everything that the source sent is applied, or when that fails.
        let _keeper = lease.keep();
        self.adapter.set_here(true);
        let ended = self.talk(&lease).await;
        self.adapter.set_here(false);
        ended
    }

    /// Opens the source, after what the last one left is released. Returns whether it could be opened.
    async fn open(&self, lease: &Lease) -> Result<bool, Refused> {
        loop {
            match feed::propose(&self.adapter, Command::Open { source: self.id }).await? {
                Reply::Done => return Ok(true),
                Reply::More => feed::release(&self.adapter).await?,
                // The node of the connected source has lost the lease.
                Reply::NotTheSource => match self.adapter.machine.read(Maze::connected) {
                    Some(source) if lease.is_held() => {
                        feed::propose(&self.adapter, Command::Abandon { source }).await?;
                    }
                    Some(_) => return Ok(false),
                    None => {}
                },
            }
        }
    }

    async fn talk(&mut self, lease: &Lease) -> Result<Option<&'static str>, Refused> {
        if !self.open(lease).await? {
            return Ok(None);
        }
        self.adapter.outside.intake.reset();
        let ended = self.read_all().await;
        self.adapter.machine.resume_ticks();
        if feed::propose(&self.adapter, Command::Close { source: self.id }).await? == Reply::More {
            feed::release(&self.adapter).await?;
        }
        ended.map(Some)
    }

    /// Feeds what the source sends until it ends. Returns why it ended.
    async fn read_all(&mut self) -> Result<&'static str, Refused> {
        let mut stop = self.adapter.stop.clone();
        let mut lines = Lines::new(parse::LINE_BYTES_MAX);
        let mut feeding: Option<Feeding> = None;
        let mut ended = None;
        let feed_bytes_max = self.adapter.piece(self.adapter.settings.feed_bytes_max);
        let mut bytes_max = feed_bytes_max;
        loop {
            if feeding.is_none() {
                if lines.has_whole() {
                    feeding = Some(self.feed(lines.take()));
                } else if let Some(why) = ended {
                    if lines.len() > 0 {
                        self.feed(lines.take_all()).done.await?;
                    }
                    return Ok(why);
                }
            }
            let read_max = if feeding.is_some() { bytes_max * READ_AHEAD } else { bytes_max };
            let is_idle = feeding.is_none() && ended.is_none();
            tokio::select! {
                biased;
                Some(fed) = async { Some((&mut feeding.as_mut()?.done).await) } => {
                    if !fed? {
                        return Ok(CLOSED_ELSEWHERE);
                    }
                    self.fed(feeding.take(), &lines).await?;
                    bytes_max = self.adapter.registry.feed_bytes(feed_bytes_max);
                    // The writers of clients get a turn.
                    tokio::task::yield_now().await;
                }
                () = nodes::closed_elsewhere(&self.adapter, self.id) => {
                    return Ok(CLOSED_ELSEWHERE);
                }
                () = async { drop(stop.wait_for(|stop| *stop).await) }, if ended.is_none() => {
                    ended = Some("stopping");
                }
                ready = self.stream.readable(), if ended.is_none() && lines.len() < read_max => {
                    match ready.and_then(|()| lines.read(&self.stream, read_max)) {
                        Ok(false) => {}
                        Ok(true) => ended = Some("it has ended"),
                        Err(why) => {
                            tracing::warn!(%why, "the connection of the source is broken");
                            ended = Some("it is gone");
                        }
                    }
                }
                () = self.gap_is_due(), if is_idle => {
                    // Nothing read is left to apply. If nothing is in the socket either, the number did not come in time.
                    if self.unread() == 0 {
                        self.adapter.outside.intake.set_waited_until(self.now());
                        self.adapter.machine.resume_ticks();
                    } else {
                        // The runtime has yet to find out that the socket is readable, and only does when this task yields.
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// Begins to log and apply bytes.
    fn feed(&mut self, bytes: Vec<u8>) -> Feeding {
        let (adapter, source, part) = (Arc::clone(&self.adapter), self.id, self.part);
        let (begun, size) = (Instant::now(), bytes.len());
        self.part += 1;
        let done = Box::pin(async move {
            adapter.registry.wait_for_room().await;
            feed::wait_for_pauses(&adapter).await;
            adapter.registry.feeding(bytes.len());
            match feed::propose(&adapter, Command::Feed { source, part, bytes }).await? {
                Reply::Done => Ok(true),
                Reply::NotTheSource => Ok(false),
                Reply::More => feed::release(&adapter).await.map(|()| true),
            }
        });
        Feeding { done, begun, bytes: size }
    }

    /// Ends a feed.
    async fn fed(&mut self, fed: Option<Feeding>, lines: &Lines) -> Result<(), Refused> {
        let Some(Feeding { begun, bytes, .. }) = fed else { return Ok(()) };
        if begun.elapsed() >= THROTTLED_AFTER && self.gap().is_some() {
            let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            feed::propose(&self.adapter, Command::Paused { source: self.id, ms }).await?;
        }
        let due = self.gap().filter(|due| *due <= self.now());
        self.owed = due.map(|due| match self.owed {
            Some((same, owed)) if same == due => (due, owed.saturating_sub(bytes)),
            Some(_) | None => (due, lines.len().saturating_add(self.unread())),
        });
        if let Some((due, 0)) = self.owed {
            self.adapter.outside.intake.set_waited_until(due);
            self.adapter.machine.resume_ticks();
        }
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.adapter.machine.clock().now()
    }

    /// Returns when the oldest gap is due, if there is a gap.
    fn gap(&self) -> Option<Timestamp> {
        self.adapter.machine.read(Maze::next_deadline)
    }

    /// Waits until the oldest gap is due and has not been waited for.
    async fn gap_is_due(&self) {
        loop {
            let Some(due) =
                self.gap().filter(|due| !self.adapter.outside.intake.has_waited_until(*due))
            else {
                // The next gap comes with a feed, after which this is called again.
                return std::future::pending().await;
            };
            let left_ms = due.0.saturating_sub(self.now().0);
            if left_ms == 0 {
                return;
            }
            // The clock may jump meanwhile.
            sleep(Duration::from_millis(left_ms).min(CLOCK_CHECK_EVERY)).await;
        }
    }

    /// Returns how many bytes have come and are not read.
    fn unread(&self) -> usize {
        // A connection that is broken brings nothing more.
        let unread = rustix::io::ioctl_fionread(&*self.stream);
        usize::try_from(unread.unwrap_or(0)).unwrap_or(usize::MAX)
    }
}
