//! Copies a log, as one machine kept it, into a stream that is empty: for the first start of a cluster.
//!
//! ```text
//! source   ..(truncated).. | 4 | 5 | 6 | 7 | 8 |
//! stream                   | 4 | 5 | 6 |          made to begin at 4; 7 is taken only behind 6
//! ```
//! Positions, origins, numbers and checksums stay. Many batches are in flight, and the order cannot
//! change: each names the position that it stands behind. As long as the copy is not whole the stream
//! bears a mark, and no node opens it.

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

/// Batches that are under way to the servers.
const FLYING_MAX: usize = 64;
/// How much of the source is read at once; what is under way has been read.
const READ_BYTES: usize = 1 << 20;
/// How long servers may take nothing before the copy is given up: longer than an election.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// What the source holds, and the stream at the end.
    pub bounds: Bounds,
    /// What the snapshot covers that was shared, if the source has one.
    pub snapshot: Option<Position>,
    /// Batches that an earlier copy had brought.
    pub found: u64,
    /// Batches that this one has brought.
    pub batches: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Copies what `source` holds into the stream that `options` name (their directory plays no role), the
/// newest snapshot first. The stream is made, or is empty, or ends with a batch of the source: then an
/// earlier copy goes on. The source is only read. Blocks; `progress` is called every MiB or so.
///
/// Memory: 1 MiB and the largest batch, three times over; a snapshot, twice.
///
/// # Errors
/// [`Error::Store`] when the stream holds anything else, begins elsewhere or ends later, when others
/// have put snapshots beside it, or when the source has been truncated and has no snapshot: then nothing
/// is copied. [`Error::Full`] at the bound of the stream; [`Error::Unanswered`] when the servers take
/// nothing for half a minute: what has been copied stays, and the same call goes on. As
/// [`JetStream::open`](super::JetStream::open), and whatever reading the source gives.
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
            "what is to be copied begins at position {}, and no snapshot covers what was before it",
            bounds.first
        )));
    }
    let target = Target::open(options, bounds)?;
    let mut next = target.next(source)?;
    target.check_snapshots(covered)?;
    target.mark(true)?;
    if let Some(snapshot) = snapshot {
        target.share(snapshot)?;
    }
    let found = next.0 - bounds.first.0;
    let mut copied = Copied { bounds, snapshot: covered, found, batches: 0, bytes: 0 };
    let mut moved = Instant::now();
    while next < bounds.next {
        let batches = source.read(next, READ_BYTES)?;
        let sizes: Vec<u64> = batches.iter().map(|batch| batch.body.len() as u64).collect();
        let before = next;
        match target.publish(batches)? {
            Ok(()) if sizes.is_empty() => {
                return Err(Error::Store(format!("there is no batch at position {next} to copy")));
            }
            Ok(()) => next.0 += sizes.len() as u64,
            Err(Stop::For(why)) => return Err(why),
            Err(Stop::Again(why)) => {
                std::thread::sleep(AGAIN_AFTER);
                next = target.next(source)?;
                if next <= before && moved.elapsed() > PATIENCE {
                    return Err(Error::Unanswered(format!(
                        "the stream {} takes nothing at position {next}: {why}",
                        target.link.name
                    )));
                }
            }
        }
        if next > before {
            moved = Instant::now();
        }
        copied.batches = next.0 - bounds.first.0 - found;
        let passed = usize::try_from(next.0.saturating_sub(before.0)).unwrap_or(usize::MAX);
        copied.bytes += sizes.iter().take(passed).sum::<u64>();
        progress(copied);
    }
    // What the stream itself says.
    let end = target.next(source)?;
    if end != bounds.next {
        return Err(target.refused(&format!("ends before position {end} after the copy")));
    }
    target.mark(false)?;
    Ok(copied)
}

/// The stream that is copied to.
struct Target {
    link: Link,
    /// After `link`: it drives it to its end.
    driver: Driver,
    body_bytes_max: usize,
    /// Of the source.
    bounds: Bounds,
}

/// Why publishing has stopped.
enum Stop {
    /// Look where the stream ends, and go on there.
    Again(String),
    For(Error),
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

    fn refused(&self, why: &str) -> Error {
        let name = &self.link.name;
        Error::Store(format!(
            "the stream {name} {why}: remove it (nats stream rm {name}), if nothing needs it, or choose \
             another name"
        ))
    }

    /// Asks until there is an answer, for a while: a stream that was just made has no leader yet, and
    /// one whose leader has died has none for some seconds.
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

    /// Where the stream goes on, if what it holds is the beginning of the source.
    fn next(&self, source: &mut dyn Log) -> Result<Position, Error> {
        let (state, last) = self.ask(last)?;
        let first = Position(state.first_sequence.max(1));
        let next = Position(state.last_sequence.max(first.0 - 1)).next();
        let Some(last) = last else {
            if next == self.bounds.first {
                return Ok(next);
            }
            let begins = self.bounds.first;
            return Err(self.refused(&format!(
                "is empty and goes on at position {next}, and what is to be copied begins at {begins}"
            )));
        };
        let begins_later = first > self.bounds.first || next <= self.bounds.first;
        if begins_later || state.messages != next.0 - first.0 {
            return Err(self.refused("is not empty, and does not hold what is to be copied"));
        }
        if next > self.bounds.next {
            return Err(self.refused(&format!(
                "ends before position {next}, and what is to be copied before {}",
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
        Err(self.refused(&format!("is not empty, and holds another batch at position {at}")))
    }

    /// Refuses snapshots that a node would take for ones of this log.
    fn check_snapshots(&self, covered: Option<Position>) -> Result<(), Error> {
        let shared = self.ask(|link| async move { link.shared().await })?;
        match shared {
            Some(shared) if covered.is_none_or(|covered| shared > covered) => {
                let name = &self.link.name;
                Err(Error::Store(format!(
                    "beside the stream {name} is a snapshot at position {shared} that is not of what is to \
                     be copied: remove the bucket (nats object rm {name}-snapshots), if nothing needs it, or \
                     choose another name"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Marks the stream as one that no node may open yet, or takes the mark away.
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

/// How the stream stands, and what is in front of its last batch.
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

/// Stands for a message that is no batch: no source has one with number 0.
const NO_BATCH: Head = Head { origin: crate::Origin(0), number: 0, crc: 0, is_object: false };

/// Publishes batches, each behind the position before its own, and waits until all are stored.
async fn publish(link: Link, batches: Vec<Batch>, body_bytes_max: usize) -> Result<(), Stop> {
    let mut flying = VecDeque::with_capacity(FLYING_MAX);
    for batch in batches {
        if flying.len() >= FLYING_MAX
            && let Some(oldest) = flying.pop_front()
        {
            stored(oldest).await?;
        }
        flying.push_back((batch.position, send(&link, batch, body_bytes_max).await?));
    }
    for sent in flying {
        stored(sent).await?;
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

async fn stored((position, ack): (Position, PublishAckFuture)) -> Result<(), Stop> {
    match ack.await {
        Ok(ack) if ack.sequence == position.0 => Ok(()),
        Ok(ack) => Err(Stop::Again(format!("position {} for that at {position}", ack.sequence))),
        Err(why) => Err(stop(&why)),
    }
}

fn stop(why: &async_nats::jetstream::context::PublishError) -> Stop {
    match failed(why) {
        Outcome::Failed(AppendError::Full(why)) => Stop::For(Error::Full(why)),
        Outcome::Failed(other) => Stop::Again(other.to_string()),
        Outcome::Look | Outcome::Stored(_) => Stop::Again(chain(why)),
    }
}
