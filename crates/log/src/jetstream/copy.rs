//! Copies the log of one machine into an empty stream, for the first start of a cluster.
//!
//! ```text
//! source   ..(truncated).. | 4 | 5 | 6 | 7 | 8 |
//! stream                   | 4 | 5 | 6 |          created to begin at 4; 7 is accepted only behind 6
//! ```
//! Positions, origins, numbers and checksums stay the same. Many batches are in flight, yet they cannot
//! be reordered, because each names the position that it must follow. The stream carries a mark until
//! the copy is complete, and no node opens a stream with that mark.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::State;
use bytes::Bytes;
use tokio::time::timeout;

use super::link::{self, ANSWER_WITHIN, Driver, Link, Purpose, chain};
use super::message::{HEAD_BYTES_MAX, Head, subject};
use super::objects::Bucket;
use super::options::{Options, UNFINISHED};
use super::{AGAIN_AFTER, Outcome, failed};
use crate::{AppendError, Batch, Bounds, Error, Log, Position, Snapshot};

/// The most batches in flight to the servers.
const FLYING_MAX: usize = 64;
/// How many bytes of the source one read returns.
const READ_BYTES: usize = 1 << 20;
/// The copy fails when the servers have accepted nothing for this long: longer than an election.
const PATIENCE: Duration = Duration::from_secs(30);

/// The progress of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The bounds of the source, and of the stream when the copy is complete.
    pub bounds: Bounds,
    /// The last position that the published snapshot covers, if the source has a snapshot.
    pub snapshot: Option<Position>,
    /// Batches that an earlier, interrupted copy had already transferred.
    pub found: u64,
    /// Batches that this copy has transferred.
    pub batches: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
}

/// Copies the contents of `source` into the stream that `options` name (their directory is ignored), the
/// newest snapshot first. The stream is created, or is empty, or ends with a batch of the source: then
/// this continues an earlier copy. The source is only read. Blocks; `progress` is called about every MiB.
///
/// Memory: three times 1 MiB plus the largest batch, and two copies of the snapshot.
///
/// # Errors
/// [`Error::Store`] when the stream holds anything else, begins elsewhere or ends later, when it has
/// snapshots of another log, or when the source has been truncated and has no snapshot: then nothing is
/// copied. [`Error::Full`] at the bound of the stream; [`Error::Unanswered`] when the servers accept
/// nothing for half a minute: the copied batches stay, and calling this again continues. Otherwise as
/// [`JetStream::open`](super::JetStream::open) and as reading the source.
pub fn copy(
    source: &mut dyn Log,
    options: &Options,
    mut progress: impl FnMut(Copied),
) -> Result<Copied, Error> {
    let bounds = source.bounds()?;
    let snapshot = source.read_snapshot()?;
    let covered = snapshot.as_ref().map(|snapshot| snapshot.position);
    if bounds.first > Position(1) && covered.is_none_or(|covered| covered.next() < bounds.first) {
        return Err(Error::Store(format!(
            "the log to copy begins at position {}, and no snapshot covers what was before it",
            bounds.first
        )));
    }
    let target = Target::open(options, bounds)?;
    let mut next = target.next(source)?;
    target.check_snapshots(covered)?;
    // Before anything else: a node must not open a stream whose beginning is still missing.
    target.mark(true)?;
    if let Some(snapshot) = snapshot {
        target.share(snapshot)?;
    }
    let found = next.0 - bounds.first.0;
    let mut copied = Copied { bounds, snapshot: covered, found, batches: 0, bytes: 0 };
    let mut last_progress = Instant::now();
    while next < bounds.next {
        let batches = source.read(next, READ_BYTES)?;
        let sizes: Vec<u64> = batches.iter().map(|batch| batch.body.len() as u64).collect();
        let before = next;
        match target.publish(batches)? {
            Ok(()) if sizes.is_empty() => {
                return Err(Error::Store(format!("there is no batch at position {next} to copy")));
            }
            Ok(()) => next.0 += sizes.len() as u64,
            Err(Stop::Failed(why)) => return Err(why),
            Err(Stop::Again(why)) => {
                std::thread::sleep(AGAIN_AFTER);
                next = target.next(source)?;
                if next <= before && last_progress.elapsed() > PATIENCE {
                    return Err(Error::Unanswered(format!(
                        "the stream {} accepts nothing at position {next}: {why}",
                        target.link.name
                    )));
                }
            }
        }
        if next > before {
            last_progress = Instant::now();
        }
        copied.batches = next.0 - bounds.first.0 - found;
        let passed = usize::try_from(next.0.saturating_sub(before.0)).unwrap_or(usize::MAX);
        copied.bytes += sizes.iter().take(passed).sum::<u64>();
        progress(copied);
    }
    // The acknowledgements are not enough: ask the stream itself.
    let end = target.next(source)?;
    if end != bounds.next {
        return Err(target.unsuitable(&format!("ends before position {end} after the copy")));
    }
    target.mark(false)?;
    Ok(copied)
}

/// The stream to copy to.
struct Target {
    link: Link,
    /// Declared after `link`, which needs the driver to close its connection.
    driver: Driver,
    body_bytes_max: usize,
    /// The bounds of the source.
    bounds: Bounds,
}

/// Why publishing stopped.
enum Stop {
    /// Ask where the stream ends, and continue there.
    Again(String),
    /// The copy cannot continue.
    Failed(Error),
}

impl Target {
    fn open(options: &Options, bounds: Bounds) -> Result<Self, Error> {
        let driver = Driver::start()?;
        let options = options.clone();
        let opening = link::open(options, bounds.first.0, Purpose::Copy);
        let (link, _info) = driver.call(opening)??;
        let body_bytes_max = link.client.server_info().max_payload.saturating_sub(HEAD_BYTES_MAX);
        Ok(Self { link, driver, body_bytes_max, bounds })
    }

    fn unsuitable(&self, why: &str) -> Error {
        let name = &self.link.name;
        Error::Store(format!(
            "the stream {name} {why}: remove it (nats stream rm {name}), if nothing needs it, or choose \
             another name"
        ))
    }

    /// Repeats a request until it succeeds, for at most [`PATIENCE`]: a new stream has no leader yet, and
    /// a stream whose leader died has none for some seconds.
    fn ask<T: Send + 'static, W>(&self, work: impl Fn(Link) -> W) -> Result<T, Error>
    where
        W: Future<Output = Result<T, String>> + Send + 'static,
    {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.driver.call(work(self.link.clone()))? {
                Ok(answer) => return Ok(answer),
                Err(_) if Instant::now() < until => std::thread::sleep(AGAIN_AFTER),
                Err(why) => return Err(Error::Unanswered(why)),
            }
        }
    }

    /// Returns where the copy continues, provided that the stream holds the beginning of the source.
    fn next(&self, source: &mut dyn Log) -> Result<Position, Error> {
        let (state, last) = self.ask(last)?;
        let first = Position(state.first_sequence.max(1));
        let next = Position(state.last_sequence.max(first.0 - 1)).next();
        let Some(last) = last else {
            if next == self.bounds.first {
                return Ok(next);
            }
            let begins = self.bounds.first;
            return Err(self.unsuitable(&format!(
                "is empty and continues at position {next}, but the log to copy begins at {begins}"
            )));
        };
        let begins_later = first > self.bounds.first || next <= self.bounds.first;
        if begins_later || state.messages != next.0 - first.0 {
            return Err(
                self.unsuitable("is not empty, and does not hold the beginning of the log to copy")
            );
        }
        if next > self.bounds.next {
            return Err(self.unsuitable(&format!(
                "ends before position {next}, and the log to copy before {}",
                self.bounds.next
            )));
        }
        let at = Position(next.0 - 1);
        let batches = source.read(at, 1)?;
        let same = batches.first().is_some_and(|batch| {
            let mut head = Head::of(batch.origin, batch.number, &batch.body);
            head.is_object = last.is_object;
            head == last
        });
        if same {
            return Ok(next);
        }
        Err(self.unsuitable(&format!("is not empty, and holds another batch at position {at}")))
    }

    /// Rejects published snapshots that a node would mistake for snapshots of this log.
    fn check_snapshots(&self, covered: Option<Position>) -> Result<(), Error> {
        let shared = self.ask(|link| async move { link.shared_position().await })?;
        match shared {
            Some(shared) if covered.is_none_or(|covered| shared > covered) => {
                let name = &self.link.name;
                Err(Error::Store(format!(
                    "the stream {name} has a snapshot at position {shared} that is not of the log to copy: \
                     remove the bucket (nats object rm {name}-snapshots), if nothing needs it, or choose \
                     another name"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Sets or removes the mark that keeps nodes from opening the stream.
    fn mark(&self, unfinished: bool) -> Result<(), Error> {
        self.ask(|link| async move {
            let mut config = link.stream.get_info().await.map_err(|why| chain(&why))?.config;
            if config.metadata.contains_key(UNFINISHED) == unfinished {
                return Ok(());
            }
            if unfinished {
                config.metadata.insert(UNFINISHED.to_owned(), "1".to_owned());
            } else {
                config.metadata.remove(UNFINISHED);
            }
            link.context.update_stream(config).await.map(|_| ()).map_err(|why| chain(&why))
        })
    }

    fn share(&self, snapshot: Snapshot) -> Result<(), Error> {
        let link = self.link.clone();
        let shared = self.driver.call(async move { link.share(&snapshot).await })?;
        shared.map_err(|why| Error::Store(format!("the snapshot cannot be shared: {why}")))
    }

    fn publish(&self, batches: Vec<Batch>) -> Result<Result<(), Stop>, Error> {
        self.driver.call(publish(self.link.clone(), batches, self.body_bytes_max))
    }
}

/// Returns the state of the stream and the head of its last message.
async fn last(link: Link) -> Result<(State, Option<Head>), String> {
    let state = link.stream.get_info().await.map_err(|why| chain(&why))?.state;
    if state.messages == 0 {
        return Ok((state, None));
    }
    let message = link.stream.get_raw_message(state.last_sequence).await;
    let message = message.map_err(|why| chain(&why))?;
    let head = Head::read(&message.subject, Some(&message.headers)).unwrap_or(NO_BATCH);
    Ok((state, Some(head)))
}

/// Stands for a message that is not a batch. No source has a batch with number 0.
const NO_BATCH: Head = Head { origin: crate::Origin(0), number: 0, crc: 0, is_object: false };

/// Publishes batches, each conditional on its predecessor's position, and waits until all are stored.
async fn publish(link: Link, batches: Vec<Batch>, body_bytes_max: usize) -> Result<(), Stop> {
    let mut flying = VecDeque::with_capacity(FLYING_MAX);
    for batch in batches {
        if flying.len() >= FLYING_MAX
            && let Some(oldest) = flying.pop_front()
        {
            wait_until_stored(oldest).await?;
        }
        flying.push_back((batch.position, send(&link, batch, body_bytes_max).await?));
    }
    for sent in flying {
        wait_until_stored(sent).await?;
    }
    Ok(())
}

async fn send(link: &Link, batch: Batch, max: usize) -> Result<PublishAckFuture, Stop> {
    let Batch { position, origin, number, body } = batch;
    let mut head = Head::of(origin, number, &body);
    head.is_object = body.len() > max;
    let payload = if head.is_object {
        let put = link.put(Bucket::Bodies, &head.object_name(), &body).await;
        put.map_err(Stop::Again)?;
        Bytes::new()
    } else {
        body.into()
    };
    let mut headers = head.plain_headers(&link.name);
    headers.insert(NATS_EXPECTED_LAST_SEQUENCE, (position.0 - 1).to_string());
    let sent = link.context.publish_with_headers(subject(&link.name, origin), headers, payload);
    match timeout(2 * ANSWER_WITHIN, sent).await {
        Ok(sent) => sent.map_err(|why| stop(&why)),
        Err(_) => Err(Stop::Again("no answer".to_owned())),
    }
}

async fn wait_until_stored((position, ack): (Position, PublishAckFuture)) -> Result<(), Stop> {
    match ack.await {
        Ok(ack) if ack.sequence == position.0 => Ok(()),
        Ok(ack) => Err(Stop::Again(format!("position {position} was stored at {}", ack.sequence))),
        Err(why) => Err(stop(&why)),
    }
}

fn stop(why: &async_nats::jetstream::context::PublishError) -> Stop {
    match failed(why) {
        Outcome::Failed(AppendError::Full(why)) => Stop::Failed(Error::Full(why)),
        Outcome::Failed(other) => Stop::Again(other.to_string()),
        Outcome::Inspect | Outcome::Stored(_) => Stop::Again(chain(why)),
    }
}
