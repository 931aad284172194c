//! The connection upstream: dials, reads frames, and sends each report when its window has closed.
//!
//! ```text
//!   frames ──▶ records ──▶ feed ──▶ machine ── closed ──▶ report ──▶ the same connection ──▶ delivered
//! ```
//! While a feed is being logged, more frames are read, up to a bound. A report counts as delivered when it has been written and
//! flushed. If the process ends between that and the entry that records it, the report is sent again.
//!
//! Of several nodes only the holder of a lease dials. Each report is claimed in the log before it is written, and written only
//! while the lease is valid, so the next holder knows what may have been sent and does not send it again. A holder that loses
//! the lease closes its connection at once. What it had read by then is still fed.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tidings_core::machine::traffic::{Command, Reply};
use tidings_node::{Refused, Retry};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_websockets::{ClientBuilder, Config, Limits, MaybeTlsStream, Message, WebSocketStream};

use super::{Adapter, parse, report};

/// The first pause before a new connection; it doubles ...
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// ... up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How often the peer is pinged.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A peer that sends nothing for this long counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// How long closing may take.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// While a feed is under way, up to this many times its size is read ahead.
const READ_AHEAD: usize = 4;
/// The pause before a log that had no room is tried again.
const ROOM_WAIT: Duration = Duration::from_millis(200);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Sink = SplitSink<Socket, Message>;

/// Why a connection has ended.
enum Ended {
    /// The server is stopping.
    Stopping,
    /// The connection broke, or was closed. `heard` says whether anything had come before.
    Gone { why: String, heard: bool },
    /// The log takes no more proposals.
    Refused(Refused),
    /// Another node may be the holder now.
    Deposed,
}

/// Dials until the server stops.
pub(super) async fn run(adapter: Arc<Adapter>, url: String) {
    let mut stop = adapter.stop.clone();
    let mut backoff = BACKOFF_MIN;
    // The lease is given back however this ends.
    let _keeper = adapter.lease.keep();
    loop {
        let token = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            token = adapter.lease.held() => token,
        };
        let ended = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = adapter.lease.lost(token) => Ended::Deposed,
            connected = connect(&adapter, &url) => match connected {
                Ok(socket) => {
                    tracing::info!(url, "connected upstream");
                    adapter.connected.store(true, Ordering::Relaxed);
                    let ended = Connection::new(&adapter, token, socket).talk().await;
                    adapter.connected.store(false, Ordering::Relaxed);
                    ended
                }
                Err(why) => Ended::Gone { why, heard: false },
            },
        };
        match ended {
            Ended::Stopping => return,
            Ended::Refused(why) => {
                tracing::error!(%why, "what comes from upstream cannot be stored");
                return;
            }
            Ended::Deposed => {
                tracing::warn!("this node lost its lease on the connection upstream: it is closed");
                continue;
            }
            Ended::Gone { why, heard } => {
                adapter.reconnect_complaint.warn(&format!("{url}: {why}"));
                if heard {
                    backoff = BACKOFF_MIN;
                }
            }
        }
        adapter.reconnects.fetch_add(1, Ordering::Relaxed);
        // Jitter: half of the pause and up to as much again, so that many clients do not come back at once.
        let half = u64::try_from(backoff.as_micros() / 2).unwrap_or(u64::MAX).max(1);
        let wait = Duration::from_micros(half + RandomState::new().hash_one(0) % half);
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // It fails only when the task that would report it is gone.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connect(adapter: &Adapter, url: &str) -> Result<Socket, String> {
    let limits = Limits::default().max_payload_len(Some(adapter.settings.frame_bytes_max));
    // A report is one frame, however long.
    let config = Config::default().frame_size(usize::MAX);
    let builder = ClientBuilder::new().uri(url).map_err(|why| why.to_string())?;
    let builder = builder.limits(limits).config(config);
    let connecting = tokio::time::timeout(CONNECT_WAIT, builder.connect()).await;
    let connected = connecting.map_err(|_| format!("no connection within {CONNECT_WAIT:?}"))?;
    let (socket, _) = connected.map_err(|why| why.to_string())?;
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        // The close is sent when there is nothing more to write.
        stream.set_nodelay(true).map_err(|why| why.to_string())?;
    }
    Ok(socket)
}

type Feeding = Pin<Box<dyn Future<Output = Result<Reply, Refused>> + Send>>;
type Sending = Pin<Box<dyn Future<Output = (Sink, Result<(), Unsent>)> + Send>>;

/// Why something was not sent.
enum Unsent {
    Gone(String),
    Refused(Refused),
    Deposed,
}

/// A connection, and what is under way on it.
struct Connection<'a> {
    adapter: &'a Arc<Adapter>,
    /// The fencing token under which the lease was held when the connection was made.
    token: u64,
    stream: SplitStream<Socket>,
    /// `None` while something is being sent.
    sink: Option<Sink>,
    sending: Option<Sending>,
    feeding: Option<Feeding>,
    /// Records read since the last feed was begun.
    records: Vec<u8>,
    /// When something last came, if anything did.
    heard: Option<Instant>,
    begun: Instant,
}

impl<'a> Connection<'a> {
    fn new(adapter: &'a Arc<Adapter>, token: u64, socket: Socket) -> Self {
        let (sink, stream) = socket.split();
        let (sink, sending, feeding) = (Some(sink), None, None);
        let (records, heard, begun) = (Vec::new(), None, Instant::now());
        Self { adapter, token, stream, sink, sending, feeding, records, heard, begun }
    }

    /// Serves the connection until it ends.
    async fn talk(mut self) -> Ended {
        let ended = self.serve().await;
        let Self { adapter, stream, mut sink, sending, feeding, records, .. } = self;
        if matches!(ended, Ended::Deposed) {
            // Before anything is waited for.
            drop((stream, sink.take(), sending));
        }
        // What was read is still stored.
        if let Err(why) = finish(adapter, feeding, records).await {
            return Ended::Refused(why);
        }
        if matches!(ended, Ended::Stopping)
            && let Some(mut sink) = sink.take()
        {
            // A peer that does not answer in time is left.
            let close = async { drop(sink.send(Message::close(None, "")).await) };
            drop(tokio::time::timeout(CLOSE_WAIT, close).await);
        }
        ended
    }

    async fn serve(&mut self) -> Ended {
        let mut stop = self.adapter.stop.clone();
        let mut closed = self.adapter.machine.watch(None);
        let mut look = tokio::time::interval(PING_EVERY);
        let feed_bytes_max = self.adapter.settings.feed_bytes_max;
        let gone =
            |heard: Option<Instant>, why: String| Ended::Gone { why, heard: heard.is_some() };
        loop {
            if self.feeding.is_none() && !self.records.is_empty() {
                self.feeding = Some(self.feed());
            }
            if self.sending.is_none() && self.has_unsent() {
                let (adapter, token) = (Arc::clone(self.adapter), self.token);
                self.sending = self.sink.take().map(|sink| deliver(adapter, token, sink));
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ended::Stopping,
                () = self.adapter.lease.lost(self.token) => return Ended::Deposed,
                Some(fed) = async { Some(self.feeding.as_mut()?.await) } => {
                    self.feeding = None;
                    if let Err(why) = fed {
                        return Ended::Refused(why);
                    }
                    // Other tasks get a turn.
                    tokio::task::yield_now().await;
                }
                Some((sink, sent)) = async { Some(self.sending.as_mut()?.await) } => {
                    (self.sink, self.sending) = (Some(sink), None);
                    match sent {
                        Ok(()) => {}
                        Err(Unsent::Gone(why)) => return gone(self.heard, why),
                        Err(Unsent::Refused(why)) => return Ended::Refused(why),
                        Err(Unsent::Deposed) => return Ended::Deposed,
                    }
                }
                // A window that has closed is handled above.
                _closed = closed.next(usize::MAX), if self.sending.is_none() => {}
                message = self.stream.next(), if self.records.len() < READ_AHEAD * feed_bytes_max => {
                    if let Err(why) = self.take_all(message, feed_bytes_max) {
                        return gone(self.heard, why);
                    }
                }
                _ = look.tick() => {
                    if self.heard.unwrap_or(self.begun).elapsed() > SILENCE_MAX {
                        return gone(self.heard, format!("nothing was heard for {SILENCE_MAX:?}"));
                    }
                    if let Some(sink) = self.sink.take() {
                        self.sending = Some(ping(sink));
                    }
                }
            }
        }
    }

    /// Reads a message and those that have come after it.
    fn take_all(
        &mut self,
        first: Option<Result<Message, tokio_websockets::Error>>,
        bytes_max: usize,
    ) -> Result<(), String> {
        self.heard = Some(Instant::now());
        let mut next = Some(first);
        while let Some(message) = next {
            let message = message.ok_or("it has ended")?.map_err(|why| why.to_string())?;
            if let Some(text) = message.as_text() {
                self.adapter.frames.fetch_add(1, Ordering::Relaxed);
                if let Err(malformed) = parse::frame(text, &mut self.records) {
                    self.adapter.malformed.fetch_add(malformed.count, Ordering::Relaxed);
                    self.adapter.frame_complaint.warn(&malformed.why);
                }
            } else if message.is_binary() {
                self.adapter.frames.fetch_add(1, Ordering::Relaxed);
                self.adapter.malformed.fetch_add(1, Ordering::Relaxed);
                self.adapter.frame_complaint.warn(&"a binary frame");
            } else if let Some((code, reason)) = message.as_close() {
                return Err(format!("it was closed: {} {reason}", u16::from(code)));
            }
            if self.records.len() >= bytes_max {
                break;
            }
            next = self.stream.next().now_or_never();
        }
        Ok(())
    }

    fn has_unsent(&self) -> bool {
        self.sink.is_some() && self.adapter.machine.read(|machine| machine.unsent().is_some())
    }

    /// Begins to log and apply the records.
    fn feed(&mut self) -> Feeding {
        let bytes = std::mem::take(&mut self.records);
        self.records.reserve(bytes.len());
        propose(Arc::clone(self.adapter), Command::Feed { bytes })
    }
}

/// Logs everything that was read.
async fn finish(
    adapter: &Arc<Adapter>,
    feeding: Option<Feeding>,
    bytes: Vec<u8>,
) -> Result<(), Refused> {
    if let Some(feeding) = feeding {
        feeding.await?;
    }
    if !bytes.is_empty() {
        propose(Arc::clone(adapter), Command::Feed { bytes }).await?;
    }
    Ok(())
}

/// Proposes records of frames until they are stored. They are not idempotent, so they are not proposed again when the outcome
/// is unknown: the node goes on appending them by itself.
fn propose(adapter: Arc<Adapter>, command: Command) -> Feeding {
    Box::pin(async move {
        match propose_until_stored(&adapter, command, false).await {
            Err(Refused::Unknown(why)) => {
                adapter.room_complaint.warn(&why);
                Ok(Reply::Done)
            }
            done => done,
        }
    })
}

async fn propose_until_stored(
    adapter: &Adapter,
    command: Command,
    idempotent: bool,
) -> Result<Reply, Refused> {
    let on_wait = |why: &Refused| adapter.room_complaint.warn(why);
    let retry = Retry { pause: ROOM_WAIT, wait_for_room: true, idempotent, on_wait: &on_wait };
    adapter.machine.propose_until_stored(command, &retry).await
}

/// Claims a report for this node. Returns whether it is to be sent.
async fn claim(adapter: &Adapter, start: u64, token: u64) -> Result<bool, Unsent> {
    if !adapter.lease.is_shared() {
        return Ok(true);
    }
    // Claiming a report again changes nothing.
    match propose_until_stored(adapter, Command::Claim { start, token }, true).await {
        Ok(Reply::Done) => Ok(true),
        Ok(Reply::NotUnsent) => Ok(false),
        Ok(Reply::ClaimedBefore) => {
            let start = report::time(start);
            tracing::warn!(
                start,
                "the report of this window is not sent again: the node that was connected upstream before may have \
                 sent it"
            );
            Ok(false)
        }
        Err(why) => Err(Unsent::Refused(why)),
    }
}

/// Sends the oldest unsent report, and records that.
fn deliver(adapter: Arc<Adapter>, token: u64, mut sink: Sink) -> Sending {
    Box::pin(async move {
        let sent = send_oldest(adapter, token, &mut sink).await;
        (sink, sent)
    })
}

async fn send_oldest(adapter: Arc<Adapter>, token: u64, sink: &mut Sink) -> Result<(), Unsent> {
    let Some((start, text)) = report::oldest_unsent(&adapter).await else { return Ok(()) };
    // While the log is stalled, the machine may not know yet that it was sent.
    if start == 0 || adapter.written.load(Ordering::Relaxed) != start {
        if !claim(&adapter, start, token).await? {
            return Ok(());
        }
        if !adapter.lease.is_held_as(token) {
            return Err(Unsent::Deposed);
        }
        let sent = sink.send(Message::text(text)).await;
        sent.map_err(|why| Unsent::Gone(why.to_string()))?;
        adapter.written.store(start, Ordering::Relaxed);
    }
    let delivered = propose(adapter, Command::Delivered { start }).await;
    delivered.map(drop).map_err(Unsent::Refused)
}

fn ping(mut sink: Sink) -> Sending {
    Box::pin(async move {
        let sent = sink.send(Message::ping("")).await;
        (sink, sent.map_err(|why| Unsent::Gone(why.to_string())))
    })
}
