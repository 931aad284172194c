//! A log in one NATS JetStream stream, shared by the nodes of a cluster.
//!
//! A message of the stream is a batch, and its sequence in the stream is the batch's position. Every
//! node appends under a subject of its own and reads the whole stream.
//!
//! ```text
//! tidings.log.<origin A>   | 1 |   | 3 |   |   | 6 |
//! tidings.log.<origin B>   |   | 2 |   | 4 | 5 |   |     positions are the stream's sequences
//! ```
//!
//! - An append is one message with an id. The server accepts it only behind the last batch of the same
//!   origin, so that it is stored once, however often it is retried. One append is in flight at a time.
//! - An append without an answer within two seconds is [`AppendError::Unknown`]; its retry finds out.
//! - A body larger than a message may be is written to an object store first and read back; the message
//!   then refers to it.
//! - An ordered consumer fills a buffer of 16 MiB ahead of the reader. After a change of leaders a
//!   consumer may stop delivering without an error, so one that is idle for 4 s is checked. Each batch
//!   carries a checksum of ours, and positions must be dense: a violation is [`Error::Damaged`].
//! - A node keeps its own snapshots in a SQLite file in its directory. The stream is truncated only
//!   behind a snapshot that was published to an object store next to the stream.
//! - [`copy()`] copies the log of one machine into an empty stream.
//!
//! # Limits
//!
//! An append or a read holds two to three copies of a body in memory. The log does not depend on
//! clocks. Servers before 2.10.23 are rejected. With the default `sync_interval` the servers may lose
//! acknowledged batches when all of them lose power at once: set it to `always`.

mod copy;
mod link;
mod message;
mod objects;
mod options;
mod reader;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use bytes::Bytes;

use crate::sqlite::local::{Last, LocalState};
use crate::{AppendError, Batch, Bounds, Error, Log, Origin, Position, Snapshot};

pub use copy::{Copied, copy};
pub use link::shown;
use link::{ANSWER_WITHIN, Driver, Link, Purpose, chain};
use message::{HEAD_BYTES_MAX, Head, read_object_name, subject};
use objects::Bucket;
pub use options::Options;
use reader::Reader;

/// The shortest duration of an attempt of unknown outcome.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// After this many contradicting answers in a row the stream counts as having lost data.
const DOUBTS_MAX: u32 = 10;
/// From this level on the fill of a bounded stream is refreshed from the leader ...
const REFRESH_FROM_PERCENT: u8 = 50;
/// ... this often.
const REFRESH_EVERY: Duration = Duration::from_millis(100);

/// A log in a JetStream stream. See [the module](self).
pub struct JetStream {
    link: Link,
    /// Declared after `link`, which needs the driver to close its connection.
    driver: Driver,
    reader: Arc<Reader>,
    local: LocalState,
    /// The last batch of this origin that is known to be in the stream.
    last: Last,
    /// The largest body that fits into a message; a larger one becomes an object.
    body_bytes_max: usize,
    /// The bound of the stream in bytes; 0 means none.
    bytes_max: u64,
    share_every_snapshot: bool,
    /// How long reading a shared snapshot is retried: [`Options::connect_within`].
    connect_within: Duration,
    /// When the fill was last refreshed from the leader.
    refreshed_at: Instant,
    /// When the stream was created, which identifies it: a new stream of the same name differs.
    history: u64,
    /// How often in a row the stream lacked a batch that it had acknowledged.
    doubts: u32,
    /// Why the log is broken: every later call fails with this.
    broken: Option<String>,
}

/// The result of one attempt to append.
enum Outcome {
    Stored(Position),
    Failed(AppendError),
    /// The stream must be inspected. Either the last batch of this origin is not the expected one, or
    /// the server knows the message id. The latter says neither that the bytes are the same nor, with
    /// servers up to 2.10, that they are stored.
    Inspect,
}

impl JetStream {
    /// Connects to the servers, creates the stream if it does not exist, and opens the local state.
    /// Blocks for up to [`Options::connect_within`]. May be called on a thread of a tokio runtime that may
    /// block.
    ///
    /// # Errors
    /// [`Error::Store`] when no server answers, when the server is too old, when the existing stream would
    /// not keep acknowledged batches, or when the directory belongs to another log.
    /// [`Error::InUse`] when another process has the directory open; [`Error::Damaged`] when the stream
    /// has lost batches that this node has already read.
    pub fn open(options: Options) -> Result<Self, Error> {
        Self::open_at(options, Position(1))
    }

    /// As [`JetStream::open`]; a stream that is created begins at `first`.
    ///
    /// # Errors
    /// As [`JetStream::open`].
    pub fn open_at(options: Options, first: Position) -> Result<Self, Error> {
        let connect_within = options.connect_within;
        let until = Instant::now() + connect_within;
        let driver = Driver::start()?;
        let directory = options.directory.clone();
        let share_every_snapshot = options.share_every_snapshot;
        let (link, info) = driver.call(link::open(options, first.0, Purpose::Node))??;
        let identity = info.created.unix_timestamp_nanos();
        let identity = i64::try_from(identity).unwrap_or(i64::MAX);
        let local = LocalState::open(&directory, identity, &format!("the stream {}", link.name))?;
        let state = &info.state;
        let bounds = Bounds {
            first: Position(state.first_sequence.max(1)),
            next: Position(state.last_sequence.max(state.first_sequence.saturating_sub(1))).next(),
        };
        let known = local.last().position.max(local.snapshot_position().unwrap_or_default());
        let reader = Reader::new(local.origin(), bounds);
        reader.set_stored_bytes(state.bytes, bounds.next);
        let body_bytes_max = link.client.server_info().max_payload.saturating_sub(HEAD_BYTES_MAX);
        let last = local.last();
        let mut log = Self {
            link,
            driver,
            reader,
            local,
            last,
            body_bytes_max,
            bytes_max: u64::try_from(info.config.max_bytes).unwrap_or(0),
            share_every_snapshot,
            connect_within,
            refreshed_at: Instant::now(),
            history: identity.cast_unsigned(),
            doubts: 0,
            broken: None,
        };
        log.settle(known, until)?;
        log.driver.begin(Arc::clone(&log.reader).run(log.link.clone()));
        Ok(log)
    }

    /// Waits until the stream's leader has everything that this node has already read: a leader that was
    /// just elected may lag behind, and a new stream may have no leader yet.
    fn settle(&mut self, known: Position, until: Instant) -> Result<(), Error> {
        loop {
            let in_time = Instant::now() < until;
            match self.last_stored().and_then(|stored| Ok((stored, self.refresh()?))) {
                Ok((stored, bounds))
                    if bounds.next > known
                        && stored.is_none_or(|stored| stored.number >= self.last.number) =>
                {
                    self.last = stored.unwrap_or(self.last);
                    return Ok(());
                }
                Ok((_, Bounds { next, .. })) if !in_time => {
                    let name = &self.link.name;
                    let what = format!(
                        "the stream {name} ends before it, or lacks what this node has appended, which \
                         has read up to {known}: the servers have lost what they had acknowledged"
                    );
                    return Err(Error::Damaged { position: next, what, behind: 0 });
                }
                Err(Error::Store(why)) if !in_time => return Err(Error::Store(why)),
                Ok(_) | Err(Error::Store(_)) => std::thread::sleep(AGAIN_AFTER),
                Err(why) => return Err(why),
            }
        }
    }

    /// Returns the last batch of this origin that the stream still holds.
    fn last_stored(&self) -> Result<Option<Last>, Error> {
        let link = self.link.clone();
        let subject = subject(&self.link.name, self.local.origin());
        self.driver.call(async move {
            match link.stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => {
                    let head = Head::read(&message.subject, Some(&message.headers));
                    let position = Position(message.sequence);
                    let damaged = |what| Error::Damaged { position, what, behind: 0 };
                    let Head { number, crc, .. } = head.map_err(damaged)?;
                    Ok(Some(Last { number, position, crc }))
                }
                Err(why) if why.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(why) => Err(Error::Store(chain(&why))),
            }
        })?
    }

    /// Returns whether the last batch of this origin has been truncated, perhaps by another node. Then the
    /// caller may know better than this log which number is next.
    fn last_is_gone(&self) -> bool {
        let first = self.reader.bounds().first;
        first > Position(1) && self.last.position < first
    }

    fn ensure_usable(&self) -> Result<(), Error> {
        match &self.broken {
            Some(why) => Err(Error::Store(format!("the log is broken: {why}"))),
            None => Ok(()),
        }
    }

    fn append_once(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        if let Some(why) = &self.broken {
            return Err(AppendError::Broken(why.clone()));
        }
        let head = Head::of(self.local.origin(), number, body);
        let expected = self.last.number + 1;
        if number == self.last.number && number > 0 && head.crc == self.last.crc {
            return Ok(self.last.position);
        }
        if number < expected || (number > expected && !self.last_is_gone()) {
            return Err(AppendError::OutOfTurn { number, expected });
        }
        let unknown = |why: Error| AppendError::Unknown(why.to_string());
        let mut inspected = false;
        let position = loop {
            match self.publish(head, body).map_err(unknown)? {
                Outcome::Stored(position) => break position,
                Outcome::Failed(why) => return Err(why),
                Outcome::Inspect if inspected => {
                    let why = "the servers know the batch, but do not have it yet";
                    return Err(AppendError::Unknown(why.to_owned()));
                }
                Outcome::Inspect => inspected = true,
            }
            if let Some(position) = self.inspect_last(&head)? {
                break position;
            }
        };
        if position <= self.last.position {
            return Err(self.break_for(format!(
                "the stream has assigned position {position} again: it has lost what it acknowledged"
            )));
        }
        self.last = Last { number, position, crc: head.crc };
        self.doubts = 0;
        self.reader.appended(position, body.len());
        Ok(position)
    }

    /// Makes one attempt to store a batch behind the last one.
    fn publish(&self, mut head: Head, body: &[u8]) -> Result<Outcome, Error> {
        let link = self.link.clone();
        let after = if self.last_is_gone() { 0 } else { self.last.position.0 };
        head.is_object = body.len() > self.body_bytes_max;
        let body = Bytes::copy_from_slice(body);
        self.driver.call(async move {
            let payload = if head.is_object {
                if let Err(why) = link.put(Bucket::Bodies, &head.object_name(), &body).await {
                    return Outcome::Failed(AppendError::Unknown(why));
                }
                Bytes::new()
            } else {
                body
            };
            let headers = head.headers(&link.name, after);
            let subject = subject(&link.name, head.origin);
            let acknowledged =
                async { link.context.publish_with_headers(subject, headers, payload).await?.await };
            match tokio::time::timeout(2 * ANSWER_WITHIN, acknowledged).await {
                Ok(Ok(ack)) if ack.duplicate => Outcome::Inspect,
                Ok(Ok(ack)) => Outcome::Stored(Position(ack.sequence)),
                Ok(Err(why)) => failed(&why),
                Err(_) => Outcome::Failed(AppendError::Unknown("no answer".to_owned())),
            }
        })
    }

    /// Inspects the last batch of this origin in the stream. Returns its position if it is the batch in
    /// question, and `None` when the append must be attempted again.
    fn inspect_last(&mut self, head: &Head) -> Result<Option<Position>, AppendError> {
        let unknown = |why: Error| AppendError::Unknown(why.to_string());
        let stored = self.last_stored().map_err(unknown)?;
        self.refresh().map_err(unknown)?;
        match stored {
            Some(stored) if stored.number == head.number => {
                if stored.crc == head.crc {
                    return Ok(Some(stored.position));
                }
                Err(AppendError::OutOfTurn { number: head.number, expected: head.number + 1 })
            }
            Some(stored) if stored.number + 1 == head.number => {
                self.last = stored;
                Ok(None)
            }
            // This origin had appended nothing before, or another node has truncated it.
            None if self.last.number == 0 || self.last_is_gone() => Ok(None),
            Some(stored) if stored.number > head.number => Err(self.break_for(format!(
                "batch {} of this node is in the stream, and {} was to be its next one: another \
                 process appends with a copy of this node's directory",
                stored.number, head.number
            ))),
            // A leader that was just elected may not have caught up.
            _ if self.doubts < DOUBTS_MAX => {
                self.doubts += 1;
                Err(AppendError::Unknown("the stream's leader lacks what it acknowledged".to_owned()))
            }
            found => Err(self.break_for(format!(
                "the last batch of this node in the stream is {}, and {} was acknowledged: the servers \
                 have lost it",
                found.map_or(0, |found| found.number),
                self.last.number
            ))),
        }
    }

    fn break_for(&mut self, why: String) -> AppendError {
        self.broken = Some(why.clone());
        AppendError::Broken(why)
    }

    /// Refreshes from the stream's leader where the stream begins and ends, and how full it is.
    fn refresh(&self) -> Result<Bounds, Error> {
        let link = self.link.clone();
        let info = self.driver.call(async move { link.stream.get_info().await })?;
        let state = info.map_err(|why| Error::Store(chain(&why)))?.state;
        self.reader.truncated(Position(state.first_sequence));
        self.reader.set_stored_bytes(state.bytes, Position(state.last_sequence).next());
        if state.last_sequence > 0 {
            self.reader.knows(Position(state.last_sequence));
        }
        Ok(self.reader.bounds())
    }

    /// Removes the object bodies of the batches before `before`, while those batches are still in the
    /// stream. A body that remains after a failure is removed by the next truncation.
    async fn remove_bodies(link: &Link, before: Position) -> Result<(), String> {
        for name in link.names(Bucket::Bodies).await? {
            let Some((origin, number)) = read_object_name(&name) else { continue };
            let subject = subject(&link.name, origin);
            let first_kept = link.stream.get_first_raw_message_by_subject(&subject, before.0).await;
            // Numbers are dense within an origin: a body belongs to a removed batch if its number is below
            // that of the first batch that stays, or not above that of the last one if none stays.
            let (message, gone) = match first_kept {
                Ok(message) => (message, 0),
                Err(_) => match link.stream.get_last_raw_message_by_subject(&subject).await {
                    Ok(message) if message.sequence < before.0 => (message, 1),
                    Ok(_) | Err(_) => continue,
                },
            };
            let head = Head::read(&message.subject, Some(&message.headers));
            if head.is_ok_and(|head| number < head.number + gone) {
                link.remove(Bucket::Bodies, &name).await?;
            }
        }
        Ok(())
    }
}

/// Returns which part of `all` is `part`, in percent; 0 if `all` is 0, which means "no bound".
fn percent(part: u64, all: u64) -> u8 {
    let percent = u128::from(part) * 100 / u128::from(all.max(1));
    if all == 0 { 0 } else { u8::try_from(percent.min(100)).unwrap_or(100) }
}

/// Classifies the error of a publish.
fn failed(why: &PublishError) -> Outcome {
    let text = chain(why);
    if why.kind() == PublishErrorKind::WrongLastSequence {
        return Outcome::Inspect;
    }
    let source = std::error::Error::source(why);
    let answer = source.and_then(|source| source.downcast_ref::<jetstream::Error>());
    match answer.map(jetstream::Error::error_code) {
        Some(jetstream::ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT) => Outcome::Inspect,
        // This code has many causes. Only the text says "maximum bytes exceeded", or messages.
        Some(jetstream::ErrorCode::STREAM_STORE_FAILED) if text.contains("maximum") => {
            Outcome::Failed(AppendError::Full(text))
        }
        Some(
            jetstream::ErrorCode::INSUFFICIENT_RESOURCES
            | jetstream::ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | jetstream::ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ) => Outcome::Failed(AppendError::Full(text)),
        _ => Outcome::Failed(AppendError::Unknown(text)),
    }
}

impl Log for JetStream {
    fn origin(&self) -> Origin {
        self.local.origin()
    }

    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.ensure_usable()?;
        Ok(self.reader.bounds())
    }

    fn last_number(&self) -> u64 {
        self.last.number
    }

    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        let begun = Instant::now();
        let outcome = self.append_once(number, body);
        if matches!(outcome, Err(AppendError::Unknown(_))) {
            // A server without a leader answers at once, and the caller retries at once: slow it down.
            std::thread::sleep(AGAIN_AFTER.saturating_sub(begun.elapsed()));
        }
        outcome
    }

    /// Asks the leader once the stream is half full, because other nodes may have truncated it.
    fn filled_percent(&mut self) -> u8 {
        let percent = percent(self.reader.stored_bytes(), self.bytes_max);
        if percent < REFRESH_FROM_PERCENT || self.refreshed_at.elapsed() < REFRESH_EVERY {
            return percent;
        }
        // On failure the old value stays, and the next call asks again.
        drop(self.refresh());
        self.refreshed_at = Instant::now();
        self::percent(self.reader.stored_bytes(), self.bytes_max)
    }

    fn batch_bytes(&self) -> usize {
        self.body_bytes_max.saturating_sub(self.body_bytes_max / 8)
    }

    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        self.ensure_usable()?;
        self.reader.read(from, bytes_max)
    }

    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.ensure_usable()?;
        let next = self.reader.bounds().next;
        self.local.write_snapshot(next, position, chunk, body, last)?;
        if last {
            self.local.keep_last(self.last)?;
            // Another node may have truncated meanwhile, and the fill decides when the next snapshot is due.
            drop(self.refresh());
            if self.share_every_snapshot {
                self.share_snapshot()?;
            }
        }
        Ok(())
    }

    /// Returns this node's own newest snapshot, unless the stream no longer holds the batches behind it:
    /// then the newest shared one.
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        self.ensure_usable()?;
        let first = self.reader.bounds().first;
        let own = self.local.snapshot_position();
        if own.is_some_and(|own| own.next() >= first) {
            return self.local.read_snapshot();
        }
        let until = Instant::now() + self.connect_within;
        let shared = loop {
            let link = self.link.clone();
            match self.driver.call(async move { link.shared_snapshot().await })? {
                Ok(shared) => break shared,
                // The bucket may have no leader at the moment, or the snapshot may just have been replaced.
                Err(_) if Instant::now() < until => std::thread::sleep(AGAIN_AFTER),
                Err(why) => return Err(Error::Store(why)),
            }
        };
        if first > Position(1) && shared.as_ref().is_none_or(|s| s.position.next() < first) {
            return Err(Error::Store(format!(
                "the stream {} begins at position {first}, and no shared snapshot covers what was \
                 before it",
                self.link.name
            )));
        }
        Ok(shared)
    }

    /// Purges the stream on the servers in one request, never beyond what a shared snapshot covers.
    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.ensure_usable()?;
        let bounds = self.reader.bounds();
        if before <= bounds.first {
            return Ok(0);
        }
        self.local.keep_last(self.last)?;
        let link = self.link.clone();
        let purged = self.driver.call(async move {
            let Some(covered) = link.shared_position().await? else { return Ok(None) };
            let before = before.min(covered.next()).min(bounds.next);
            if before <= bounds.first {
                return Ok(None);
            }
            Self::remove_bodies(&link, before).await?;
            let purge = link.stream.purge().sequence(before.0);
            let done = purge.await.map_err(|why| chain(&why))?;
            if done.success { Ok(Some(before)) } else { Err("the servers rejected it".to_owned()) }
        })?;
        let purged = purged.map_err(|why: String| {
            Error::Store(format!("the stream {} cannot be truncated: {why}", self.link.name))
        })?;
        let Some(before) = purged else { return Ok(0) };
        self.reader.truncated(before);
        // How full the stream is now is asked for again by the next call, if this request fails.
        drop(self.refresh());
        Ok(before.0 - bounds.first.0)
    }

    /// Asks the stream's leader whether it answers and whether the stream's bound leaves room.
    fn check(&mut self) -> Result<(), Error> {
        self.ensure_usable()?;
        let link = self.link.clone();
        let info = self.driver.call(async move {
            tokio::time::timeout(ANSWER_WITHIN, link.stream.get_info()).await
        })?;
        let no_leader = || Error::Store(format!("the stream {} does not answer", self.link.name));
        let info = info.map_err(|_| no_leader())?.map_err(|why| Error::Store(chain(&why)))?;
        let bytes_max = u64::try_from(info.config.max_bytes).unwrap_or(0);
        if bytes_max > 0 && info.state.bytes >= bytes_max {
            return Err(Error::Full(format!(
                "the stream {} holds {} of {bytes_max} bytes",
                self.link.name, info.state.bytes
            )));
        }
        Ok(())
    }

    fn history(&self) -> u64 {
        self.history
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn on_news(&mut self, notify: Box<dyn Fn() + Send + Sync>) {
        self.reader.on_news(notify.into());
    }

    fn share_snapshot(&mut self) -> Result<(), Error> {
        let Some(snapshot) = self.local.read_snapshot()? else { return Ok(()) };
        let link = self.link.clone();
        let shared = self.driver.call(async move { link.share(&snapshot).await })?;
        shared.map_err(|why| Error::Store(format!("the snapshot cannot be shared: {why}")))
    }

    fn forget_snapshots(&mut self) -> Result<(), Error> {
        self.local.forget_snapshots()
    }
}
