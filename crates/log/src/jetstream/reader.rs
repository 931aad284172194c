//! Reads the stream ahead of the log's caller: a consumer fills a buffer, in order and without a
//! gap, and is opened anew whenever it may have fallen silent.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::State;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::Notify;

use super::link::{Link, chain};
use super::message::Head;
use super::objects::Bucket;
use crate::{Batch, Bounds, Error, Origin, Position};

/// Bodies that are read ahead.
const BUFFER_BYTES: usize = 16 << 20;
/// A consumer that says nothing for so long is looked after.
const SILENT_AFTER: Duration = Duration::from_secs(4);
/// A read of what is known to be there waits no longer at once.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// The wait before the consumer is opened again after a failure.
const REOPEN_AFTER: Duration = Duration::from_millis(250);
/// What a message takes in the stream beside its body, about: subject, headers, what the store adds.
const MESSAGE_BYTES: u64 = 220;
/// How often a batch is fetched that cannot be had before it counts as damaged.
const TRIES_MAX: u32 = 8;
/// How often, at looks [`SILENT_AFTER`] apart, a stream that ends too early is looked at before
/// that is believed: a leader just elected may not have caught up.
const SHORT_LOOKS_MAX: u32 = 4;

/// What the log's caller and the consumer share.
pub(super) struct Reader {
    /// Who appends through this log: what others append is news.
    origin: Origin,
    state: Mutex<Ahead>,
    /// Something came, or is wrong.
    changed: Condvar,
    /// There is room again, or the place to read from has changed.
    moved: Notify,
}

/// Told, from the link's thread, when a batch of another origin has come.
type Tell = Arc<dyn Fn() + Send + Sync>;

struct Ahead {
    /// Dense, in order; the last one stands before `end`.
    batches: VecDeque<Batch>,
    /// Of the bodies in `batches`.
    bytes: usize,
    /// Where the consumer goes on.
    end: Position,
    /// The oldest position left in the stream, as far as is known.
    first: Position,
    /// Everything before it is known to be in the stream.
    known: Position,
    /// What the stream holds, in bytes, about: what the leader said last of everything before
    /// `counted`, and what has come since.
    stored_bytes: u64,
    counted: Position,
    /// Somebody has read: it is known from where on.
    started: bool,
    /// The consumer is to be opened again, at `end`.
    reopen: bool,
    /// What cannot be read, and where.
    trouble: Option<(Position, Trouble)>,
    tell: Option<Tell>,
}

#[derive(Clone, Debug)]
enum Trouble {
    Damaged(String),
    Truncated,
}

impl Reader {
    pub(super) fn new(origin: Origin, bounds: Bounds) -> Arc<Self> {
        let state = Ahead {
            batches: VecDeque::new(),
            bytes: 0,
            end: bounds.first,
            first: bounds.first,
            known: bounds.next,
            stored_bytes: 0,
            counted: bounds.first,
            started: false,
            reopen: false,
            trouble: None,
            tell: None,
        };
        Arc::new(Self {
            origin,
            state: Mutex::new(state),
            changed: Condvar::new(),
            moved: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Ahead> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn on_news(&self, tell: Tell) {
        self.lock().tell = Some(tell);
    }

    pub(super) fn bounds(&self) -> Bounds {
        let ahead = self.lock();
        Bounds { first: ahead.first, next: ahead.known }
    }

    /// What the stream holds before `end`, as its leader says.
    pub(super) fn holds(&self, bytes: u64, end: Position) {
        self.lock().holds(bytes, end);
    }

    /// This node has appended a batch of so many bytes.
    pub(super) fn appended(&self, position: Position, bytes: usize) {
        let mut ahead = self.lock();
        ahead.known = ahead.known.max(position.next());
        ahead.count(position, bytes);
    }

    /// What the stream holds, in bytes, about.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.lock().stored_bytes
    }

    /// A batch is known to stand there.
    pub(super) fn knows(&self, position: Position) {
        let mut ahead = self.lock();
        ahead.known = ahead.known.max(position.next());
    }

    /// Everything before it has left the stream.
    pub(super) fn truncated(&self, first: Position) {
        let mut ahead = self.lock();
        ahead.first = ahead.first.max(first);
    }

    /// Takes batches out of the buffer, as [`crate::Log::read`] says. Waits for what is known to be
    /// in the stream.
    ///
    /// # Errors
    /// [`Error::Unanswered`] when it has not come for a while.
    pub(super) fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        let mut ahead = self.lock();
        if from < ahead.first {
            return Err(Error::Truncated { asked: from, first: ahead.first });
        }
        if ahead.seek(from) {
            self.moved.notify_one();
        }
        let until = Instant::now() + READ_WITHIN;
        loop {
            let waited = Instant::now() >= until;
            if ahead.has(bytes_max) || waited {
                let taken = ahead.take(from, bytes_max);
                if !taken.is_empty() {
                    self.moved.notify_one();
                    return Ok(taken);
                }
            }
            if let Some((position, trouble)) = &ahead.trouble
                && *position == from
            {
                return Err(match trouble {
                    Trouble::Truncated => Error::Truncated { asked: from, first: ahead.first },
                    Trouble::Damaged(what) => Error::Damaged {
                        position: *position,
                        what: what.clone(),
                        behind: ahead.known.0.saturating_sub(position.0 + 1),
                    },
                });
            }
            if from >= ahead.known {
                return Ok(Vec::new());
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Err(Error::Unanswered(format!(
                    "the batch at position {from} is in the stream and does not come"
                )));
            };
            let waited = self.changed.wait_timeout(ahead, left);
            ahead = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads on and on.
    pub(super) async fn run(self: Arc<Self>, link: Link) {
        let (mut tries, mut short) = (0, 0);
        loop {
            // Behind what is wrong nothing is given out.
            while self.lock().stuck() {
                self.moved.notified().await;
            }
            let from = {
                let mut ahead = self.lock();
                ahead.reopen = false;
                ahead.end
            };
            let stopped = self.follow(&link, from, &mut short).await;
            if self.lock().end > from {
                tries = 0;
            }
            if let Err(why) = stopped {
                tries += 1;
                tracing::warn!(position = from.0, tries, why = %why, "the stream is read anew");
                if let Failed::Batch(why) = why
                    && tries >= TRIES_MAX
                {
                    let at = self.lock().end;
                    self.fail(at, Trouble::Damaged(why));
                }
                tokio::time::sleep(REOPEN_AFTER).await;
            }
        }
    }

    /// Opens a consumer and takes what it gives. Returns when it is to be opened again.
    async fn follow(&self, link: &Link, from: Position, short: &mut u32) -> Result<(), Failed> {
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.0 },
            ..OrderedConfig::default()
        };
        let consumer = link.stream.create_consumer(config).await?;
        let name = consumer.cached_info().name.clone();
        let mut messages = consumer.messages().await?;
        let taken = self.take_all(link, &mut messages, short).await;
        // The servers would keep it for another half minute; nobody waits for them to let go.
        let stream = link.stream.clone();
        drop(tokio::spawn(async move { stream.delete_consumer(&name).await }));
        taken
    }

    /// Takes what a consumer gives. Returns when another one is to be opened.
    async fn take_all(
        &self,
        link: &Link,
        messages: &mut Ordered,
        short: &mut u32,
    ) -> Result<(), Failed> {
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(SILENT_AFTER, messages.next()) => next,
                () = self.moved.notified() => {
                    if self.lock().reopen { return Ok(()) }
                    continue;
                }
            };
            match next {
                Err(_silence) => {
                    let state = link.stream.get_info().await?.state;
                    if self.look(&state, short) {
                        let (position, last) = (self.lock().end.0, state.last_sequence);
                        tracing::warn!(position, last, "the consumer has fallen silent");
                        return Ok(());
                    }
                }
                Ok(None) => return Err(Failed::Server("the consumer has ended".to_owned())),
                Ok(Some(message)) => {
                    let message = message?;
                    let position = Position(
                        message
                            .info()
                            .map_err(|why| Failed::Server(why.to_string()))?
                            .stream_sequence,
                    );
                    let message = message.message;
                    let body = message.payload;
                    self.take(link, position, &message.subject, message.headers.as_ref(), body)
                        .await?;
                    *short = 0;
                    self.until_room().await;
                    if self.lock().reopen || self.lock().stuck() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Nothing has come for a while: looks whether something should have. Returns whether the consumer
    /// is to be opened again.
    fn look(&self, state: &State, short: &mut u32) -> bool {
        let mut ahead = self.lock();
        let next = Position(state.last_sequence).next();
        if next < ahead.known {
            *short += 1;
            if *short >= SHORT_LOOKS_MAX {
                let known = ahead.known;
                drop(ahead);
                self.fail(
                    next,
                    Trouble::Damaged(format!(
                        "the stream has lost it: {known} was to be the next position, {next} is"
                    )),
                );
            }
            return true;
        }
        *short = 0;
        ahead.first = ahead.first.max(Position(state.first_sequence));
        ahead.known = next;
        ahead.holds(state.bytes, next);
        ahead.end < next
    }

    /// Takes in one message.
    async fn take(
        &self,
        link: &Link,
        position: Position,
        subject: &str,
        headers: Option<&async_nats::HeaderMap>,
        body: Bytes,
    ) -> Result<(), Failed> {
        let expected = self.lock().end;
        if position < expected {
            return Ok(());
        }
        if position > expected {
            return self.missing(link, expected).await;
        }
        let head = Head::read(subject, headers).map_err(Failed::Batch)?;
        let body = if head.is_object {
            link.get(Bucket::Bodies, &head.object_name()).await.map_err(Failed::Batch)?
        } else {
            body.into()
        };
        if !head.fits(&body) {
            return Err(Failed::Batch("its checksum does not match its bytes".to_owned()));
        }
        let Head { origin, number, .. } = head;
        self.add(Batch { position, origin, number, body });
        Ok(())
    }

    fn add(&self, batch: Batch) {
        let mut ahead = self.lock();
        if ahead.end != batch.position || ahead.reopen {
            return;
        }
        ahead.end = batch.position.next();
        ahead.known = ahead.known.max(ahead.end);
        ahead.bytes += batch.body.len();
        let is_other = batch.origin != self.origin;
        if is_other {
            ahead.count(batch.position, batch.body.len());
        }
        let tell = ahead.tell.clone().filter(|_| is_other);
        ahead.batches.push_back(batch);
        drop(ahead);
        self.changed.notify_all();
        if let Some(tell) = tell {
            tell();
        }
    }

    /// The consumer has left something out: it has been truncated, or this replica of the stream has
    /// lost it. The leader is asked.
    async fn missing(&self, link: &Link, position: Position) -> Result<(), Failed> {
        let state = link.stream.get_info().await?.state;
        if state.first_sequence > position.0 {
            self.truncated(Position(state.first_sequence));
            self.fail(position, Trouble::Truncated);
            return Ok(());
        }
        let found = link.stream.get_raw_message(position.0).await;
        let message = found.map_err(|why| {
            Failed::Batch(format!("it is missing from the stream ({})", chain(&why)))
        })?;
        let headers = Some(&message.headers);
        Box::pin(self.take(link, position, &message.subject, headers, message.payload.clone()))
            .await?;
        // Opened anew behind it.
        self.lock().reopen = true;
        Ok(())
    }

    fn fail(&self, position: Position, trouble: Trouble) {
        self.lock().trouble = Some((position, trouble));
        self.changed.notify_all();
    }

    async fn until_room(&self) {
        while self.lock().is_full() {
            self.moved.notified().await;
        }
    }
}

impl Ahead {
    fn holds(&mut self, bytes: u64, end: Position) {
        (self.stored_bytes, self.counted) = (bytes, end);
    }

    fn count(&mut self, position: Position, bytes: usize) {
        if position >= self.counted {
            self.stored_bytes += bytes as u64 + MESSAGE_BYTES;
        }
    }

    /// Makes sure that what comes stands at `from` or leads there. Returns whether the consumer has
    /// to go elsewhere.
    fn seek(&mut self, from: Position) -> bool {
        while let Some(front) = self.batches.front()
            && front.position < from
        {
            self.drop_front();
        }
        let next = self.batches.front().map_or(self.end, |front| front.position);
        // What lies a little ahead comes by itself, unless something is in the way.
        if self.started && (next == from || (next < from && self.trouble.is_none())) {
            return false;
        }
        self.batches.clear();
        (self.bytes, self.end, self.trouble) = (0, from, None);
        (self.started, self.reopen) = (true, true);
        true
    }

    /// Whether there is something, and as much as is wanted or can be had.
    fn has(&self, bytes_max: usize) -> bool {
        let all = self.end >= self.known || self.trouble.is_some() || self.is_full();
        !self.batches.is_empty() && (all || self.bytes >= bytes_max)
    }

    fn take(&mut self, from: Position, bytes_max: usize) -> Vec<Batch> {
        let mut taken: Vec<Batch> = Vec::new();
        let mut bytes = 0_usize;
        while let Some(front) = self.batches.front() {
            if front.position < from {
                self.drop_front();
                continue;
            }
            if bytes >= bytes_max && !taken.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(front.body.len());
            taken.extend(self.drop_front());
        }
        taken
    }

    fn drop_front(&mut self) -> Option<Batch> {
        let front = self.batches.pop_front()?;
        self.bytes -= front.body.len();
        Some(front)
    }

    fn is_full(&self) -> bool {
        self.bytes >= BUFFER_BYTES && !self.reopen
    }

    /// Whether there is nothing to be done until the caller reads from elsewhere.
    fn stuck(&self) -> bool {
        (self.trouble.is_some() || !self.started) && !self.reopen
    }
}

/// Why a consumer is to be opened again.
#[derive(Debug)]
enum Failed {
    /// The servers did not answer as they should.
    Server(String),
    /// The batch that is next cannot be had, or is not one.
    Batch(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Server(why) | Self::Batch(why)) = self;
        f.write_str(why)
    }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(why: E) -> Self {
        Self::Server(chain(&why))
    }
}
