//! Bulk requests: the good messages are taken in one commit, the bad ones are named.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_core::machine::rockets::{Command, Outcome, Reply};
use tokio::sync::SemaphorePermit;

use super::schema::{BulkReceipt, Outcomes, Rejected};
use super::{Adapter, parse};
use crate::wire::http::Problem;
use crate::wire::http::body::{MessageBody, Pieces};

/// How many bad messages are named; further ones are only counted.
const REJECTED_NAMED_MAX: usize = 1000;
/// How many messages are read before other requests get a turn.
const TURN: usize = 1024;

/// What has been read of a bulk request.
struct Bulk<'a> {
    adapter: &'a Adapter,
    commands: Vec<Command>,
    /// The index of each command among the messages of the request.
    places: Vec<u32>,
    /// How many messages were read so far.
    count: u32,
    refused: u64,
    rejected: Vec<Rejected>,
    /// Its share of the memory for bulk bodies.
    _place: SemaphorePermit<'a>,
}

impl<'a> Bulk<'a> {
    /// Waits until there is memory for a body of this size.
    async fn begin(adapter: &'a Adapter, body_bytes: usize) -> Result<Self, Problem> {
        let most = adapter.http.bulk_total_bytes_max;
        let kib = u32::try_from(body_bytes.min(most) >> 10).unwrap_or(u32::MAX);
        let place = adapter.bulk_places.acquire_many(kib).await;
        let place = place.map_err(|_| Problem::unavailable("the server is stopping"))?;
        Ok(Self {
            adapter,
            commands: Vec::new(),
            places: Vec::new(),
            count: 0,
            refused: 0,
            rejected: Vec::new(),
            _place: place,
        })
    }

    fn add(&mut self, json: &[u8]) {
        match parse::delivery(json, self.adapter.text_bytes_max) {
            Ok(delivery) => {
                self.commands.push(Command::Deliver(delivery));
                self.places.push(self.count);
            }
            Err(problem) => self.reject(self.count, problem.detail().to_owned()),
        }
        self.count = self.count.saturating_add(1);
    }

    fn reject(&mut self, index: u32, reason: String) {
        self.refused += 1;
        if self.rejected.len() < REJECTED_NAMED_MAX {
            self.rejected.push(Rejected { index: u64::from(index), reason });
        }
    }

    /// Commits the good messages and answers.
    async fn commit(mut self) -> Result<Response, Problem> {
        let commands = std::mem::take(&mut self.commands);
        let replies = self.adapter.machine.propose_all(commands).await?;
        let mut outcomes = Outcomes::default();
        let mut accepted = 0;
        let places = std::mem::take(&mut self.places);
        for (reply, place) in replies.into_iter().zip(places) {
            let Reply::Taken(outcome) = reply else {
                self.reject(place, super::channels_full().detail().to_owned());
                continue;
            };
            accepted += 1;
            *match outcome {
                Outcome::Applied => &mut outcomes.applied,
                Outcome::Held => &mut outcomes.held,
                Outcome::Duplicate => &mut outcomes.duplicate,
                Outcome::Late => &mut outcomes.late,
                Outcome::Ignored => &mut outcomes.ignored,
            } += 1;
        }
        let Self { refused, rejected, .. } = self;
        let receipt = BulkReceipt { accepted, outcomes, refused, rejected };
        let body = serde_json::to_vec(&receipt).unwrap_or_default();
        let json = HeaderValue::from_static("application/json");
        Ok(([(header::CONTENT_TYPE, json)], body).into_response())
    }
}

/// Takes a message a line, and reads each line as it comes.
pub(super) async fn take_lines(
    adapter: &Adapter,
    headers: &HeaderMap,
    body: impl MessageBody,
) -> Result<Response, Problem> {
    let mut pieces = adapter.pieces(headers, body)?;
    let mut bulk = Bulk::begin(adapter, pieces.declared_or_max()).await?;
    let mut lines =
        Lines { begun: Vec::new(), too_long: false, line_bytes_max: adapter.http.body_bytes_max };
    while let Some(piece) = pieces.next().await? {
        lines.take(&piece, &mut bulk);
    }
    lines.end(&mut bulk);
    bulk.commit().await
}

/// Cuts pieces into lines.
struct Lines {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// That line is longer than the limit: the rest of it is skipped.
    too_long: bool,
    line_bytes_max: usize,
}

impl Lines {
    fn take(&mut self, mut piece: &[u8], bulk: &mut Bulk<'_>) {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(end);
            piece = rest.get(1..).unwrap_or_default();
            if self.begun.is_empty() && !self.too_long && line.len() <= self.line_bytes_max {
                Self::add(line, bulk);
            } else {
                self.begin(line);
                self.end(bulk);
            }
        }
        self.begin(piece);
    }

    fn begin(&mut self, part: &[u8]) {
        if self.too_long || self.begun.len() + part.len() > self.line_bytes_max {
            self.too_long = true;
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(part);
        }
    }

    fn end(&mut self, bulk: &mut Bulk<'_>) {
        if std::mem::take(&mut self.too_long) {
            let why = format!("the line is longer than the {} bytes allowed", self.line_bytes_max);
            bulk.reject(bulk.count, why);
            bulk.count = bulk.count.saturating_add(1);
        }
        Self::add(&self.begun, bulk);
        self.begun.clear();
    }

    fn add(line: &[u8], bulk: &mut Bulk<'_>) {
        if !line.trim_ascii().is_empty() {
            bulk.add(line);
        }
    }
}

/// Takes an array of messages that begins with `first`.
pub(super) async fn take_array(
    adapter: &Adapter,
    pieces: Pieces<impl MessageBody>,
    first: Bytes,
) -> Result<Response, Problem> {
    take_items(adapter, pieces, first, |item| Ok(item.get())).await
}

#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Takes a batch of CloudEvents.
pub(super) async fn take_events(
    adapter: &Adapter,
    headers: &HeaderMap,
    body: impl MessageBody,
) -> Result<Response, Problem> {
    let mut pieces = adapter.pieces(headers, body)?;
    let first = pieces.next().await?.unwrap_or_default();
    take_items(adapter, pieces, first, |item| {
        let event = serde_json::from_str::<CloudEvent<'_>>(item.get());
        event.map(|event| event.data.get()).map_err(|why| format!("the event: {why}"))
    })
    .await
}

async fn take_items(
    adapter: &Adapter,
    pieces: Pieces<impl MessageBody>,
    first: Bytes,
    message_of: impl Fn(&RawValue) -> Result<&str, String> + Send,
) -> Result<Response, Problem> {
    let mut bulk = Bulk::begin(adapter, pieces.declared_or_max()).await?;
    let body = pieces.rest(first).await?;
    let items: Vec<&RawValue> = serde_json::from_slice(&body).map_err(|why| {
        Problem::bad_request(format!("the body is not an array of messages: {why}"))
    })?;
    for (place, item) in items.iter().enumerate() {
        if place % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        match message_of(item) {
            Ok(message) => bulk.add(message.as_bytes()),
            Err(why) => {
                bulk.reject(bulk.count, why);
                bulk.count = bulk.count.saturating_add(1);
            }
        }
    }
    bulk.commit().await
}
