//! A log in one NATS JetStream stream, shared by the nodes of a cluster.
//!
//! A message of the stream is a batch; its sequence in the stream is the batch's position. Every node
//! appends under a subject of its own and reads the whole stream.
//!
//! ```text
//! tidings.log.<origin A>   | 1 |   | 3 |   |   | 6 |
//! tidings.log.<origin B>   |   | 2 |   | 4 | 5 |   |     positions are the stream's sequences
//! ```
//!
//! - An append is one message with an id, and is taken only behind the last batch of the same
//!   origin: however often it is tried, it is stored once. One is in flight at a time.
//! - No answer within two seconds is [`AppendError::Unknown`]; the next try finds out.
//! - A body that is larger than a message may be is put into an object store first, read back, and
//!   referred to.
//! - Reading goes through an ordered consumer that fills a buffer of 16 MiB ahead. One that says
//!   nothing for 4 s is looked after, because after a change of leaders it may never say anything
//!   again. Each batch carries a checksum of ours, and positions must be dense: what is not as it was
//!   written is [`Error::Damaged`], with its position.
//! - A node's own snapshots are in a SQLite file in its directory. The stream is truncated only behind
//!   one that was shared, in an object store beside the stream.
//! - [`copy()`] brings what one machine has kept into a stream that is empty.
//!
//! # Limits
//!
//! A body is held in memory two to three times while it is appended or read. Clocks play no role.
//! Servers before 2.10.23 are refused. What the servers do when all of them lose power with their
//! default `sync_interval` is theirs: set it to `always`.

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

use crate::sqlite::beside::{Beside, Last};
use crate::{AppendError, Batch, Bounds, Error, Log, Origin, Position, Snapshot};

pub use copy::{Copied, copy};
pub use link::shown;
use link::{ANSWER_WITHIN, Driver, Link, Purpose, chain};
use message::{HEAD_BYTES_MAX, Head, read_object_name, subject};
use objects::Bucket;
pub use options::Options;
use reader::Reader;

/// The shortest time that a try of unknown outcome takes.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// After so many looks in a row it is believed that the stream has lost something.
const DOUBTS_MAX: u32 = 10;
/// A stream with a bound that holds so much of it is looked at more closely ...
const LOOK_AT_PERCENT: u8 = 50;
/// ... so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A log in a JetStream stream. See [the module](self).
pub struct JetStream {
    link: Link,
    /// After `link`: it drives it to its end.
    driver: Driver,
    reader: Arc<Reader>,
    beside: Beside,
    /// The last batch of this origin that is known to be in the stream.
    last: Last,
    /// What a body may be in a message.
    body_bytes_max: usize,
    /// What the stream may hold; 0 for no bound.
    bytes_max: u64,
    share_every_snapshot: bool,
    /// How long a shared snapshot is asked for, as [`Options::connect_within`] says.
    connect_within: Duration,
    /// When the leader was asked last because the stream was filling.
    looked_at: Instant,
    /// When the stream was made.
    history: u64,
    /// How often in a row the stream lacked what it had acknowledged.
    doubts: u32,
    /// Why nothing is done any more.
    broken: Option<String>,
}

/// What came of one try to append.
enum Outcome {
    Stored(Position),
    Failed(AppendError),
    /// The last batch of this origin is not the one that was expected; or the id is known, which
    /// says neither that the bytes are the same nor, with servers up to 2.10, that they are stored.
    Look,
}

impl JetStream {
    /// Connects to the servers, makes the stream if there is none, and opens what is this node's own.
    /// Blocks for as long as [`Options::connect_within`] says. May be called on a thread of a tokio
    /// runtime that may block.
    ///
    /// # Errors
    /// [`Error::Store`] when no server answers, is too old, or has a stream of that name that would
    /// not keep what it acknowledges; or when the directory belongs to another log.
    /// [`Error::InUse`] when another process has the directory open; [`Error::Damaged`] when the
    /// stream has lost what this node has already read.
    pub fn open(options: Options) -> Result<Self, Error> {
        Self::open_at(options, Position(1))
    }

    /// As [`JetStream::open`]; a stream that is made begins at `first`.
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
        let beside = Beside::open(&directory, identity, &format!("the stream {}", link.name))?;
        let state = &info.state;
        let bounds = Bounds {
            first: Position(state.first_sequence.max(1)),
            next: Position(state.last_sequence.max(state.first_sequence.saturating_sub(1))).next(),
        };
        let known = beside.last().position.max(beside.snapshot_position().unwrap_or_default());
        let reader = Reader::new(beside.origin(), bounds);
        reader.holds(state.bytes, bounds.next);
        let body_bytes_max = link.client.server_info().max_payload.saturating_sub(HEAD_BYTES_MAX);
        let last = beside.last();
        let mut log = Self {
            link,
            driver,
            reader,
            beside,
            last,
            body_bytes_max,
            bytes_max: u64::try_from(info.config.max_bytes).unwrap_or(0),
            share_every_snapshot,
            connect_within,
            looked_at: Instant::now(),
            history: identity.cast_unsigned(),
            doubts: 0,
            broken: None,
        };
        log.settle(known, until)?;
        log.driver.begin(Arc::clone(&log.reader).run(log.link.clone()));
        Ok(log)
    }

    /// Waits until the stream's leader is as far as this node has already read: one that was just
    /// elected may not be, and a stream that was just made may have none.
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

    /// The last batch of this origin that the stream still has.
    fn last_stored(&self) -> Result<Option<Last>, Error> {
        let (link, subject) = (self.link.clone(), subject(&self.link.name, self.beside.origin()));
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

    /// Whether the last batch of this origin has been truncated, perhaps by others: then the caller
    /// may know better than this log which number is next.
    fn last_is_gone(&self) -> bool {
        let first = self.reader.bounds().first;
        first > Position(1) && self.last.position < first
    }

    fn whole(&self) -> Result<(), Error> {
        match &self.broken {
            Some(why) => Err(Error::Store(format!("the log is broken: {why}"))),
            None => Ok(()),
        }
    }

    fn append_once(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        if let Some(why) = &self.broken {
            return Err(AppendError::Broken(why.clone()));
        }
        let head = Head::of(self.beside.origin(), number, body);
        let expected = self.last.number + 1;
        if number == self.last.number && number > 0 && head.crc == self.last.crc {
            return Ok(self.last.position);
        }
        if number < expected || (number > expected && !self.last_is_gone()) {
            return Err(AppendError::OutOfTurn { number, expected });
        }
        let unknown = |why: Error| AppendError::Unknown(why.to_string());
        let position = match self.publish(head, body).map_err(unknown)? {
            Outcome::Stored(position) => position,
            Outcome::Failed(why) => return Err(why),
            Outcome::Look => match self.look(&head)? {
                Some(position) => position,
                None => match self.publish(head, body).map_err(unknown)? {
                    Outcome::Stored(position) => position,
                    Outcome::Failed(why) => return Err(why),
                    Outcome::Look => {
                        let why = "the servers know of the batch and do not have it yet";
                        return Err(AppendError::Unknown(why.to_owned()));
                    }
                },
            },
        };
        if position <= self.last.position {
            return Err(self.break_for(format!(
                "the stream has given position {position} again: it has lost what it acknowledged"
            )));
        }
        self.last = Last { number, position, crc: head.crc };
        self.doubts = 0;
        self.reader.appended(position, body.len());
        Ok(position)
    }

    /// Tries once to store a batch behind the last one.
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
                Ok(Ok(ack)) if ack.duplicate => Outcome::Look,
                Ok(Ok(ack)) => Outcome::Stored(Position(ack.sequence)),
                Ok(Err(why)) => failed(&why),
                Err(_) => Outcome::Failed(AppendError::Unknown("no answer".to_owned())),
            }
        })
    }

    /// Looks at the last batch of this origin in the stream. Returns the position of the batch if it is
    /// that one, and `None` when it is to be tried again.
    fn look(&mut self, head: &Head) -> Result<Option<Position>, AppendError> {
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
            // Nothing of this origin was there before, or others have truncated it.
            None if self.last.number == 0 || self.last_is_gone() => Ok(None),
            Some(stored) if stored.number > head.number => Err(self.break_for(format!(
                "batch {} of this node is in the stream, and {} was to be its next one: another \
                 process appends with a copy of this node's directory",
                stored.number, head.number
            ))),
            // A leader that was just elected may not have got that far.
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

    /// Asks the stream's leader where it begins and ends.
    fn refresh(&self) -> Result<Bounds, Error> {
        let link = self.link.clone();
        let info = self.driver.call(async move { link.stream.get_info().await })?;
        let state = info.map_err(|why| Error::Store(chain(&why)))?.state;
        self.reader.truncated(Position(state.first_sequence));
        self.reader.holds(state.bytes, Position(state.last_sequence).next());
        if state.last_sequence > 0 {
            self.reader.knows(Position(state.last_sequence));
        }
        Ok(self.reader.bounds())
    }

    /// Removes the bodies of batches before `before`, which are still in the stream. What fails is done
    /// the next time.
    async fn remove_bodies(link: &Link, before: Position) -> Result<(), String> {
        for name in link.names(Bucket::Bodies).await? {
            let Some((origin, number)) = read_object_name(&name) else { continue };
            let subject = subject(&link.name, origin);
            let behind = link.stream.get_first_raw_message_by_subject(&subject, before.0).await;
            let (message, gone) = match behind {
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

/// How much of `all` a part is; nothing of what has no bound.
fn percent(part: u64, all: u64) -> u8 {
    let percent = u128::from(part) * 100 / u128::from(all.max(1));
    if all == 0 { 0 } else { u8::try_from(percent.min(100)).unwrap_or(100) }
}

/// What a server's refusal means.
fn failed(why: &PublishError) -> Outcome {
    let text = chain(why);
    if why.kind() == PublishErrorKind::WrongLastSequence {
        return Outcome::Look;
    }
    let source = std::error::Error::source(why);
    let refused = source.and_then(|source| source.downcast_ref::<jetstream::Error>());
    match refused.map(jetstream::Error::error_code) {
        Some(jetstream::ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT) => Outcome::Look,
        // The store's own words: "maximum bytes exceeded", "maximum messages exceeded".
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
        self.beside.origin()
    }

    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.whole()?;
        Ok(self.reader.bounds())
    }

    fn last_number(&self) -> u64 {
        self.last.number
    }

    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        let begun = Instant::now();
        let outcome = self.append_once(number, body);
        if matches!(outcome, Err(AppendError::Unknown(_))) {
            // A server without a leader says so at once; whoever tries again need not be as quick.
            std::thread::sleep(AGAIN_AFTER.saturating_sub(begun.elapsed()));
        }
        outcome
    }

    /// The leader is asked where that matters: others may have truncated.
    fn filled_percent(&mut self) -> u8 {
        let percent = percent(self.reader.stored_bytes(), self.bytes_max);
        if percent < LOOK_AT_PERCENT || self.looked_at.elapsed() < LOOK_EVERY {
            return percent;
        }
        // Who does not answer is asked again.
        drop(self.refresh());
        self.looked_at = Instant::now();
        self::percent(self.reader.stored_bytes(), self.bytes_max)
    }

    fn batch_bytes(&self) -> usize {
        self.body_bytes_max.saturating_sub(self.body_bytes_max / 8)
    }

    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        self.whole()?;
        self.reader.read(from, bytes_max)
    }

    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.whole()?;
        let next = self.reader.bounds().next;
        self.beside.write_snapshot(next, position, chunk, body, last)?;
        if last {
            self.beside.keep_last(self.last)?;
            // Another node may have truncated meanwhile; how much room there is decides on the next one.
            drop(self.refresh());
            if self.share_every_snapshot {
                self.share_snapshot()?;
            }
        }
        Ok(())
    }

    /// This node's own newest one, unless the stream no longer has what is behind it: then the newest
    /// that was shared.
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        self.whole()?;
        let first = self.reader.bounds().first;
        let own = self.beside.snapshot_position();
        if own.is_some_and(|own| own.next() >= first) {
            return self.beside.read_snapshot();
        }
        let until = Instant::now() + self.connect_within;
        let shared = loop {
            let link = self.link.clone();
            match self.driver.call(async move { link.shared_snapshot().await })? {
                Ok(shared) => break shared,
                // The bucket may have no leader for a moment, or the snapshot have just been replaced.
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

    /// Purges the stream on the servers, whole, and never beyond what a shared snapshot covers.
    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.whole()?;
        let bounds = self.reader.bounds();
        if before <= bounds.first {
            return Ok(0);
        }
        self.beside.keep_last(self.last)?;
        let link = self.link.clone();
        let purged = self.driver.call(async move {
            let Some(covered) = link.shared().await? else { return Ok(None) };
            let before = before.min(covered.next()).min(bounds.next);
            if before <= bounds.first {
                return Ok(None);
            }
            Self::remove_bodies(&link, before).await?;
            let purge = link.stream.purge().sequence(before.0);
            let done = purge.await.map_err(|why| chain(&why))?;
            if done.success { Ok(Some(before)) } else { Err("it was refused".to_owned()) }
        })?;
        let purged = purged.map_err(|why: String| {
            Error::Store(format!("the stream {} cannot be truncated: {why}", self.link.name))
        })?;
        let Some(before) = purged else { return Ok(0) };
        self.reader.truncated(before);
        // How much is left it tells again when it is asked.
        drop(self.refresh());
        Ok(before.0 - bounds.first.0)
    }

    /// Asks the stream's leader, and looks whether there is room under the stream's bound.
    fn check(&mut self) -> Result<(), Error> {
        self.whole()?;
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

    fn on_news(&mut self, tell: Box<dyn Fn() + Send + Sync>) {
        self.reader.on_news(tell.into());
    }

    fn share_snapshot(&mut self) -> Result<(), Error> {
        let Some(snapshot) = self.beside.read_snapshot()? else { return Ok(()) };
        let link = self.link.clone();
        let shared = self.driver.call(async move { link.share(&snapshot).await })?;
        shared.map_err(|why| Error::Store(format!("the snapshot cannot be shared: {why}")))
    }

    fn forget_snapshots(&mut self) -> Result<(), Error> {
        self.beside.forget_snapshots()
    }
}
