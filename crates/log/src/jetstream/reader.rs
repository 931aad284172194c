//! Reads the stream ahead of the log's caller. A consumer fills a buffer, in order and without a gap, and
//! is opened again whenever it may have stopped delivering.

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

/// The most bytes of bodies that are read ahead.
const BUFFER_BYTES: usize = 16 << 20;
/// When a consumer has delivered nothing for this long, the reader checks whether it should have.
const IDLE_CHECK_AFTER: Duration = Duration::from_secs(4);
/// How long a read waits for a batch that is known to exist.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// The wait before the consumer is opened again after a failure.
const REOPEN_AFTER: Duration = Duration::from_millis(250);
/// Roughly what a message occupies in the stream besides its body: subject, headers, the store's own.
const MESSAGE_BYTES: u64 = 220;
/// How many attempts to fetch a batch fail before it counts as damaged.
const TRIES_MAX: u32 = 8;
/// How many checks in a row, [`IDLE_CHECK_AFTER`] apart, must find the stream shorter than known before
/// it counts as damaged: a leader that was just elected may not have caught up.
const SHORT_CHECKS_MAX: u32 = 4;

/// The state shared by the log's caller and the consumer task.
pub(super) struct Reader {
    /// The origin of this log's own appends: only batches of other origins are news.
    origin: Origin,
    /// A blocking mutex, although the consumer task is asynchronous: it is held for a few instructions
    /// and never across an await, and the caller's thread must be able to wait on `changed`.
    buffer: Mutex<ReadAhead>,
    /// Wakes the caller: a batch has arrived, or something is wrong.
    changed: Condvar,
    /// Wakes the consumer task: there is room again, or the caller reads from elsewhere.
    caller_moved: Notify,
}

/// Called on the link's thread when a batch of another origin has arrived.
type NewsCallback = Arc<dyn Fn() + Send + Sync>;

struct ReadAhead {
    /// Dense and in order; the last one stands right before `end`.
    batches: VecDeque<Batch>,
    /// The bytes of the bodies in `batches`.
    bytes: usize,
    /// The position that the consumer delivers next.
    end: Position,
    /// The oldest position in the stream, as far as is known.
    first: Position,
    /// Every position before it is known to be in the stream.
    known: Position,
    /// Roughly the bytes in the stream: what the leader last reported for all positions before
    /// `counted`, plus what has arrived since.
    stored_bytes: u64,
    counted: Position,
    /// Whether the caller has read at all: until then it is unknown from where to read ahead.
    started: bool,
    /// The consumer must be opened again, at `end`.
    reopen: bool,
    /// The position that cannot be read, and why. Nothing behind it is delivered.
    trouble: Option<(Position, Trouble)>,
    notify: Option<NewsCallback>,
}

#[derive(Clone, Debug)]
enum Trouble {
    Damaged(String),
    Truncated,
}

impl Reader {
    pub(super) fn new(origin: Origin, bounds: Bounds) -> Arc<Self> {
        let buffer = ReadAhead {
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
            notify: None,
        };
        Arc::new(Self {
            origin,
            buffer: Mutex::new(buffer),
            changed: Condvar::new(),
            caller_moved: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, ReadAhead> {
        // No code under this lock can panic halfway through a change.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn on_news(&self, notify: NewsCallback) {
        self.lock().notify = Some(notify);
    }

    pub(super) fn bounds(&self) -> Bounds {
        let ahead = self.lock();
        Bounds { first: ahead.first, next: ahead.known }
    }

    /// Records how many bytes the leader reports for the positions before `end`.
    pub(super) fn set_stored_bytes(&self, bytes: u64, end: Position) {
        self.lock().set_stored_bytes(bytes, end);
    }

    /// Records that this node has appended a batch with a body of `bytes`.
    pub(super) fn appended(&self, position: Position, bytes: usize) {
        let mut ahead = self.lock();
        ahead.known = ahead.known.max(position.next());
        ahead.count(position, bytes);
    }

    /// Returns roughly how many bytes the stream holds.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.lock().stored_bytes
    }

    /// Records that a batch exists at `position`.
    pub(super) fn knows(&self, position: Position) {
        let mut ahead = self.lock();
        ahead.known = ahead.known.max(position.next());
    }

    /// Records that every batch before `first` has left the stream.
    pub(super) fn truncated(&self, first: Position) {
        let mut ahead = self.lock();
        ahead.first = ahead.first.max(first);
    }

    /// Takes batches out of the buffer, as [`crate::Log::read`] describes. Waits for batches that are
    /// known to be in the stream.
    ///
    /// # Errors
    /// [`Error::Unanswered`] when the batch has not arrived within [`READ_WITHIN`].
    pub(super) fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        let mut ahead = self.lock();
        if from < ahead.first {
            return Err(Error::Truncated { asked: from, first: ahead.first });
        }
        if ahead.seek(from) {
            self.caller_moved.notify_one();
        }
        let until = Instant::now() + READ_WITHIN;
        loop {
            let waited = Instant::now() >= until;
            if ahead.has(bytes_max) || waited {
                let taken = ahead.drain(from, bytes_max);
                if !taken.is_empty() {
                    self.caller_moved.notify_one();
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
                    "the batch at position {from} is in the stream, but does not arrive"
                )));
            };
            let answer = self.changed.wait_timeout(ahead, left);
            ahead = answer.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Keeps the buffer filled, forever. Opens a consumer, and another one whenever it ends.
    pub(super) async fn run(self: Arc<Self>, link: Link) {
        let mut tries = 0;
        let mut short_checks = 0;
        loop {
            // Nothing behind a damaged batch is delivered.
            while self.lock().is_stuck() {
                self.caller_moved.notified().await;
            }
            let from = {
                let mut ahead = self.lock();
                ahead.reopen = false;
                ahead.end
            };
            let stopped = self.follow(&link, from, &mut short_checks).await;
            if self.lock().end > from {
                tries = 0;
            }
            if let Err(why) = stopped {
                tries += 1;
                tracing::warn!(position = from.0, tries, why = %why, "reopening the consumer");
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

    /// Opens a consumer and takes what it delivers. Returns when another one must be opened.
    async fn follow(
        &self,
        link: &Link,
        from: Position,
        short_checks: &mut u32,
    ) -> Result<(), Failed> {
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.0 },
            ..OrderedConfig::default()
        };
        let consumer = link.stream.create_consumer(config).await?;
        let name = consumer.cached_info().name.clone();
        let mut messages = consumer.messages().await?;
        let stopped = self.take_all(link, &mut messages, short_checks).await;
        // The servers would keep the consumer for another half minute. Nobody waits for the deletion.
        let stream = link.stream.clone();
        drop(tokio::spawn(async move { stream.delete_consumer(&name).await }));
        stopped
    }

    /// Takes what a consumer delivers. Returns when another one must be opened.
    async fn take_all(
        &self,
        link: &Link,
        messages: &mut Ordered,
        short_checks: &mut u32,
    ) -> Result<(), Failed> {
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(IDLE_CHECK_AFTER, messages.next()) => next,
                () = self.caller_moved.notified() => {
                    if self.lock().reopen { return Ok(()) }
                    continue;
                }
            };
            match next {
                Err(_silence) => {
                    let state = link.stream.get_info().await?.state;
                    if self.must_reopen(&state, short_checks) {
                        let position = self.lock().end.0;
                        let last = state.last_sequence;
                        tracing::warn!(position, last, "the consumer has stopped delivering");
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
                    self.accept(link, position, &message.subject, message.headers.as_ref(), body)
                        .await?;
                    *short_checks = 0;
                    self.wait_for_room().await;
                    if self.lock().reopen || self.lock().is_stuck() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Decides, after nothing has arrived for a while, whether the consumer must be opened again: after a
    /// change of leaders an ordered consumer may never deliver anything again, and reports no error.
    fn must_reopen(&self, state: &State, short_checks: &mut u32) -> bool {
        let mut ahead = self.lock();
        let next = Position(state.last_sequence).next();
        if next < ahead.known {
            *short_checks += 1;
            if *short_checks >= SHORT_CHECKS_MAX {
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
        *short_checks = 0;
        ahead.first = ahead.first.max(Position(state.first_sequence));
        ahead.known = next;
        ahead.set_stored_bytes(state.bytes, next);
        ahead.end < next
    }

    /// Verifies one message and adds its batch to the buffer.
    async fn accept(
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
            return self.fetch_missing(link, expected).await;
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
        let notify = ahead.notify.clone().filter(|_| is_other);
        ahead.batches.push_back(batch);
        // The callback may call this reader, so it must run without the lock.
        drop(ahead);
        self.changed.notify_all();
        if let Some(notify) = notify {
            notify();
        }
    }

    /// Asks the stream's leader about a batch that the consumer skipped: it has been truncated, or the
    /// replica that serves the consumer has lost it.
    async fn fetch_missing(&self, link: &Link, position: Position) -> Result<(), Failed> {
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
        Box::pin(self.accept(link, position, &message.subject, headers, message.payload.clone()))
            .await?;
        // The consumer is beyond this position already: open another one behind it.
        self.lock().reopen = true;
        Ok(())
    }

    fn fail(&self, position: Position, trouble: Trouble) {
        self.lock().trouble = Some((position, trouble));
        self.changed.notify_all();
    }

    async fn wait_for_room(&self) {
        while self.lock().is_full() {
            self.caller_moved.notified().await;
        }
    }
}

impl ReadAhead {
    fn set_stored_bytes(&mut self, bytes: u64, end: Position) {
        self.stored_bytes = bytes;
        self.counted = end;
    }

    /// Counts a batch, unless the leader's last report included it.
    fn count(&mut self, position: Position, bytes: usize) {
        if position >= self.counted {
            self.stored_bytes += bytes as u64 + MESSAGE_BYTES;
        }
    }

    /// Prepares the buffer for a read at `from`: drops the batches before it. Returns whether the consumer
    /// must be opened elsewhere.
    fn seek(&mut self, from: Position) -> bool {
        while let Some(front) = self.batches.front()
            && front.position < from
        {
            self.drop_front();
        }
        let next = self.batches.front().map_or(self.end, |front| front.position);
        // A position a little ahead arrives by itself, unless something is in the way.
        if self.started && (next == from || (next < from && self.trouble.is_none())) {
            return false;
        }
        self.batches.clear();
        self.bytes = 0;
        self.end = from;
        self.trouble = None;
        self.started = true;
        self.reopen = true;
        true
    }

    /// Returns whether a read can be answered: with as much as it asked for, or all that can be had.
    fn has(&self, bytes_max: usize) -> bool {
        let all = self.end >= self.known || self.trouble.is_some() || self.is_full();
        !self.batches.is_empty() && (all || self.bytes >= bytes_max)
    }

    fn drain(&mut self, from: Position, bytes_max: usize) -> Vec<Batch> {
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

    /// Returns whether there is nothing to do until the caller reads from elsewhere.
    fn is_stuck(&self) -> bool {
        (self.trouble.is_some() || !self.started) && !self.reopen
    }
}

/// Why a consumer must be opened again.
#[derive(Debug)]
enum Failed {
    /// The servers did not answer as they should. Repeated without a limit.
    Server(String),
    /// The next batch cannot be fetched, or the message is not a batch. Repeated [`TRIES_MAX`] times.
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
