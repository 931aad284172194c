//! The source of events: one at a time. Reads what is there, cuts it at the last line end, and has
//! it logged and applied; while that is under way it reads on.

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

/// While a feed is under way, so many times its size is read.
const READ_AHEAD: usize = 4;
/// How often the clock is read while a gap is waited for.
const CLOCK_CHECK_EVERY: Duration = Duration::from_secs(1);
/// A feed that takes longer than this holds the source up: the number that is missing may be among
/// what it cannot send, and such a time is no time that a gap was waited for.
const HOLD_UP: Duration = Duration::from_millis(50);

/// Why a source is closed that another node has given up.
const TAKEN_FOR_GONE: &str = "another node took it for gone";

/// The source that is connected.
struct Current {
    /// Owned by the task, so that it is closed as soon as that ends.
    stream: Weak<TcpStream>,
    task: JoinHandle<()>,
}

impl Current {
    /// Whether it has closed, although what it had sent is still being dealt with.
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
    /// Whether the source still is the one whose events count.
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

    /// Returns why it is closed; nothing when another node has one.
    async fn serve(&mut self) -> Result<Option<&'static str>, Refused> {
        if let Err(why) = lines::keep_alive(&self.stream) {
            tracing::warn!(%why, "a source that is gone without a word will not be found");
        }
        let lease = self.adapter.leases.lease(nodes::LEASE);
        if !nodes::obtain(&self.adapter, &lease).await? {
            return Ok(None);
        }
        // Given back when everything it sent is applied, or when that fails.
        let _keeper = lease.keep();
        self.adapter.set_here(true);
        let ended = self.talk(&lease).await;
        self.adapter.set_here(false);
        ended
    }

    /// Opens, and returns whether that could be done: what the last one left comes first.
    async fn open(&self, lease: &Lease) -> Result<bool, Refused> {
        loop {
            match feed::propose(&self.adapter, Command::Open { source: self.id }).await? {
                Reply::Done => return Ok(true),
                Reply::More => feed::release(&self.adapter).await?,
                // The node of the one that is connected has lost the lease.
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

    /// Feeds what comes until there is no more. Returns why.
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
                        return Ok(TAKEN_FOR_GONE);
                    }
                    self.fed(feeding.take(), &lines).await?;
                    bytes_max = self.adapter.registry.feed_bytes(feed_bytes_max);
                    // Those for whom something has come get their turn.
                    tokio::task::yield_now().await;
                }
                () = nodes::given_up(&self.adapter, self.id) => {
                    return Ok(TAKEN_FOR_GONE);
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

    /// Has bytes logged and applied.
    fn feed(&mut self, bytes: Vec<u8>) -> Feeding {
        let (adapter, source, part) = (Arc::clone(&self.adapter), self.id, self.part);
        let (begun, size) = (Instant::now(), bytes.len());
        self.part += 1;
        let done = Box::pin(async move {
            adapter.registry.wait_for_room().await;
            feed::wait_for_holds(&adapter).await;
            adapter.registry.feeding(bytes.len());
            match feed::propose(&adapter, Command::Feed { source, part, bytes }).await? {
                Reply::Done => Ok(true),
                Reply::NotTheSource => Ok(false),
                Reply::More => feed::release(&adapter).await.map(|()| true),
            }
        });
        Feeding { done, begun, bytes: size }
    }

    /// A feed is done.
    async fn fed(&mut self, fed: Option<Feeding>, lines: &Lines) -> Result<(), Refused> {
        let Some(Feeding { begun, bytes, .. }) = fed else { return Ok(()) };
        if begun.elapsed() >= HOLD_UP && self.gap().is_some() {
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
