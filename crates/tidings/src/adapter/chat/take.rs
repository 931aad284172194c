//! Hands messages out: at once, or to the reader that has waited longest.
//!
//! A message is taken for a request whose connection is open as far as the server can know. When the connection closes before
//! the answer was begun, the request is dropped; if its take was under way or done, the messages are put back. What was
//! handed to the operating system to be sent is gone: a reader that cannot afford to lose an answer takes with a lease.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tidings_core::machine::chat::{Command, Reply, Taken};
use tidings_core::structure::inbox::{Id, InboxMessage};
use tidings_node::Refused;
use tokio::time::Instant;
use uuid::Uuid;

use super::query::Query;
use super::waiters::Place;
use super::{Adapter, JSON, NO_STORE};
use crate::wire::http::{Problem, json};

/// An answer larger than this is written a piece of this size at a time.
const PIECE_BYTES: usize = 64 << 10;
/// What a message takes in an answer besides its text.
const MESSAGE_BYTES: usize = 60;

static MORE: HeaderName = HeaderName::from_static("tidings-more");

/// Answers a request for messages.
pub(super) async fn take(
    adapter: &Arc<Adapter>,
    user: Box<str>,
    query: Query,
) -> Result<Response, Problem> {
    if !query.wait.is_zero() {
        return wait(adapter, user, query).await;
    }
    if query.peek {
        return Ok(peek(adapter, &user, query.limit).into_response());
    }
    // Nothing is logged for an empty inbox. On a shared log another node may have stored a message that is not applied here
    // yet.
    if !adapter.machine.is_shared() && adapter.is_empty(&user) {
        return Ok(nothing());
    }
    Ok(answer(Taking::begin(adapter, &user, query).done().await?))
}

/// The messages of a user, to be shown.
struct Shown {
    messages: Vec<(Id, Box<str>)>,
    /// The length of all texts, in bytes.
    bytes: usize,
    more: bool,
}

impl Shown {
    fn into_response(self) -> Response {
        respond(self.messages, self.bytes, self.more)
    }
}

/// Copies the messages of a user, and hands out nothing.
fn peek(adapter: &Adapter, user: &str, limit: u32) -> Shown {
    let (mut bytes, mut more) = (0, false);
    let messages: Vec<(Id, Box<str>)> = adapter.machine.read(|machine| {
        let mut messages = machine.peek(adapter.machine.clock().now(), user);
        let shown = messages.by_ref().take(limit as usize).take_while(|(_, text)| {
            let fits = bytes == 0 || bytes + text.len() <= adapter.settings.take_bytes_max;
            bytes += text.len();
            more = !fits;
            fits
        });
        let shown = shown.map(|(id, text)| (*id, text.into())).collect();
        more |= messages.next().is_some();
        shown
    });
    Shown { messages, bytes, more }
}

/// Waits for something to take, and takes it.
async fn wait(adapter: &Arc<Adapter>, user: Box<str>, query: Query) -> Result<Response, Problem> {
    let deadline = Instant::now() + query.wait;
    let mut stop = adapter.stop.clone();
    let waiting = Waiting::join(adapter, user);
    // A message may be there already, but readers that wait come first.
    adapter.wake_first(&waiting.user);
    loop {
        let in_time = tokio::select! {
            biased;
            () = waiting.place.wake.notified() => true,
            _ = stop.wait_for(|stop| *stop) => return Ok(nothing()),
            () = tokio::time::sleep_until(deadline) => false,
        };
        if !in_time {
            return at_last(adapter, &waiting, query).await;
        }
        if query.peek {
            // Another reader may have taken it by now.
            let shown = peek(adapter, &waiting.user, query.limit);
            if shown.messages.is_empty() {
                continue;
            }
            return Ok(shown.into_response());
        }
        if adapter.is_empty(&waiting.user) {
            continue;
        }
        let taken = Taking::begin(adapter, &waiting.user, query).done().await?;
        if !taken.messages.is_empty() {
            return Ok(answer(taken));
        }
    }
}

/// Takes once more when the wait is over without a message: another node may have stored one that is not applied here yet, and
/// the log may have been too busy to tick a lease that has ended.
async fn at_last(
    adapter: &Arc<Adapter>,
    waiting: &Waiting,
    query: Query,
) -> Result<Response, Problem> {
    if query.peek {
        return Ok(peek(adapter, &waiting.user, query.limit).into_response());
    }
    if !adapter.machine.is_shared() {
        return Ok(nothing());
    }
    Ok(answer(Taking::begin(adapter, &waiting.user, query).done().await?))
}

/// A reader in the queue of a user.
struct Waiting {
    adapter: Arc<Adapter>,
    user: Box<str>,
    place: Place,
}

impl Waiting {
    fn join(adapter: &Arc<Adapter>, user: Box<str>) -> Self {
        let place = adapter.waiters.join(&user);
        Self { adapter: Arc::clone(adapter), user, place }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.adapter.waiters.leave(&self.user, &self.place) {
            self.adapter.wake_first(&self.user);
        }
    }
}

type Proposing = Pin<Box<dyn Future<Output = Result<Reply, Refused>> + Send>>;

/// A take under way. When it is dropped before it is done, it goes on by itself, and the messages are put back.
struct Taking {
    adapter: Arc<Adapter>,
    user: Box<str>,
    proposing: Option<Proposing>,
}

impl Taking {
    fn begin(adapter: &Arc<Adapter>, user: &str, query: Query) -> Self {
        let command = Command::Take {
            user: user.into(),
            limit: query.limit,
            bytes_max: adapter.settings.take_bytes_max as u64,
            lease_ms: query.lease_ms,
        };
        let machine = adapter.machine.clone();
        let proposing: Proposing = Box::pin(async move { machine.propose(command).await });
        Self { adapter: Arc::clone(adapter), user: user.into(), proposing: Some(proposing) }
    }

    async fn done(mut self) -> Result<Taken, Problem> {
        let Some(proposing) = &mut self.proposing else { return Ok(Taken::default()) };
        let reply = proposing.await;
        self.proposing = None;
        if let Reply::Taken(taken) = reply? {
            return Ok(taken);
        }
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "that is no answer to a take"))
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let Some(proposing) = self.proposing.take() else { return };
        let (adapter, user) = (Arc::clone(&self.adapter), std::mem::take(&mut self.user));
        tokio::spawn(async move {
            let Ok(Reply::Taken(Taken { messages, receipt: Some(receipt), .. })) = proposing.await
            else {
                return;
            };
            let count = messages.len();
            let command = Command::PutBack { user, receipt, messages };
            if let Err(why) = adapter.machine.propose(command).await {
                tracing::warn!(count, %why, "messages whose reader has gone cannot be put back");
            }
        });
    }
}

/// An empty inbox.
fn nothing() -> Response {
    (StatusCode::OK, [JSON, NO_STORE], Body::from(Bytes::from_static(b"[]"))).into_response()
}

fn answer(taken: Taken) -> Response {
    let bytes = taken.messages.iter().map(|message| message.text.len()).sum();
    let messages = taken.messages.into_iter();
    let messages = messages.map(|InboxMessage { id, text, .. }| (id, text)).collect();
    respond(messages, bytes, taken.more)
}

/// Writes messages. `bytes` is the length of their texts.
fn respond(messages: Vec<(Id, Box<str>)>, text_bytes: usize, more: bool) -> Response {
    let bytes = text_bytes + MESSAGE_BYTES * messages.len();
    let mut pieces = pieces(messages, bytes.min(PIECE_BYTES));
    let body = if bytes <= PIECE_BYTES {
        Body::from(pieces.next().unwrap_or_default())
    } else {
        Body::from_stream(stream::unfold(pieces, async |mut pieces| {
            // Other requests get a turn between two pieces.
            tokio::task::yield_now().await;
            pieces.next().map(|piece| (Ok::<_, Infallible>(piece), pieces))
        }))
    };
    let mut response = (StatusCode::OK, [JSON, NO_STORE], body).into_response();
    if more {
        response.headers_mut().insert(MORE.clone(), HeaderValue::from_static("true"));
    }
    response
}

/// An array of messages, written a piece at a time as the body is polled.
fn pieces(messages: Vec<(Id, Box<str>)>, piece_bytes: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut messages = messages.into_iter();
    let mut separator = b'[';
    std::iter::from_fn(move || {
        if separator == 0 {
            return None;
        }
        let mut piece = Vec::with_capacity(piece_bytes + MESSAGE_BYTES);
        for (id, text) in messages.by_ref() {
            piece.push(separator);
            separator = b',';
            message(&mut piece, &id, &text);
            if piece.len() >= PIECE_BYTES {
                return Some(piece);
            }
        }
        if separator == b'[' {
            piece.push(separator);
        }
        separator = 0;
        piece.push(b']');
        Some(piece)
    })
}

fn message(out: &mut Vec<u8>, id: &Id, text: &str) {
    out.extend_from_slice(b"{\"text\":");
    json::text(out, text);
    out.extend_from_slice(b",\"id\":\"");
    let mut buffer = Uuid::encode_buffer();
    let id = Uuid::from_bytes(*id).as_hyphenated().encode_lower(&mut buffer);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_the_same_in_one_piece_and_in_many() {
        for (count, length) in [(0, 0), (1, 1), (1, 100_000), (3, 70_000), (5_000, 30)] {
            let text = "\"\\\n\u{1}🚀x".repeat(length / 9 + 1);
            let messages: Vec<(Id, Box<str>)> = (0..count)
                .map(|i: u32| (u128::from(i).to_be_bytes(), text.as_str().into()))
                .collect();
            let expected: Vec<_> = messages
                .iter()
                .map(|(id, text)| serde_json::json!({"text": &**text, "id": Uuid::from_bytes(*id).to_string()}))
                .collect();
            let pieces: Vec<_> = pieces(messages, 100).collect();
            assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() >= PIECE_BYTES));
            let read: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
            assert_eq!(read, serde_json::Value::Array(expected));
        }
    }
}
