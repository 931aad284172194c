//! Takes in a message: the hot path.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_core::machine::chat::{Command, Reply};
use uuid::Uuid;

use super::{Adapter, JSON, NO_STORE};
use crate::wire::http::body::{MessageBody, Pieces};
use crate::wire::http::{Problem, json};

/// The longest text.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The longest name of a user.
pub(super) const USERNAME_BYTES_MAX: usize = 256;
/// The longest life of a message: a year.
const TIMEOUT_S_MAX: u32 = 31_536_000;
/// How long a message lives by default.
const TIMEOUT_S: u32 = 60;
/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 255;

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A message as it is posted.
#[derive(Deserialize)]
struct Post<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    username: Cow<'a, str>,
    /// Kept as it was written, so that an error can show it.
    #[serde(borrow, default)]
    timeout: Option<&'a RawValue>,
}

/// Takes a message. 201 means that it is durable and can be taken.
pub(super) async fn take(
    adapter: &Adapter,
    headers: &HeaderMap,
    body: impl MessageBody,
) -> Result<Response, Problem> {
    json::check_media_type(headers)?;
    let key = idempotency_key(headers)?;
    let (bytes_max, timeout) = (adapter.http.body_bytes_max, adapter.http.body_timeout);
    let mut pieces = Pieces::new(headers, body, bytes_max, timeout)?;
    let first = pieces.next().await?.unwrap_or_default();
    let body = pieces.rest(first).await?;
    let id = Uuid::now_v7();
    answer(id, &adapter.machine.propose(command(&body, id, key)?).await?)
}

fn command(body: &[u8], id: Uuid, key: Option<Box<str>>) -> Result<Command, Problem> {
    if body.trim_ascii().is_empty() {
        return Err(Problem::bad_request("the body is empty; expected a message"));
    }
    let Post { text, username, timeout } = json::read(body, "the message")?;
    if text.len() > TEXT_BYTES_MAX {
        let why = format!("{} bytes are too long; allowed are {TEXT_BYTES_MAX}", text.len());
        return Err(Problem::field("text", why));
    }
    check_username(&username)?;
    let timeout_s =
        timeout.map_or(Ok(TIMEOUT_S), |raw| seconds("timeout", raw.get(), 0, TIMEOUT_S_MAX))?;
    let (user, text) = (Box::from(username), Box::from(text));
    Ok(Command::Post { id: id.into_bytes(), user, text, timeout_s, key })
}

/// Checks that a text can be the name of a user.
pub(super) fn check_username(username: &str) -> Result<(), Problem> {
    if (1..=USERNAME_BYTES_MAX).contains(&username.len()) {
        return Ok(());
    }
    let length = username.len();
    Err(Problem::field(
        "username",
        format!("{length} bytes are not allowed; expected 1 to {USERNAME_BYTES_MAX}"),
    ))
}

/// Reads a whole number of seconds.
pub(super) fn seconds(field: &str, text: &str, min: u32, max: u32) -> Result<u32, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().ok().filter(|seconds| digits && (min..=max).contains(seconds));
    seconds.ok_or_else(|| {
        let text = json::shortened(text);
        Problem::field(
            field,
            format!("{text} is not allowed; expected a whole number of seconds, {min} to {max}"),
        )
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let mut keys = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let text = key.to_str().ok().filter(|text| (1..=KEY_BYTES_MAX).contains(&text.len()));
    if let (Some(text), None) = (text, keys.next()) {
        return Ok(Some(text.into()));
    }
    let why = format!("expected one, of 1 to {KEY_BYTES_MAX} visible ASCII characters");
    Err(Problem::field("Idempotency-Key", why))
}

fn created(id: Uuid) -> Response {
    let mut body = Vec::with_capacity(48);
    body.extend_from_slice(b"{\"id\":\"");
    body.extend_from_slice(id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    body.extend_from_slice(b"\"}");
    (StatusCode::CREATED, [JSON, NO_STORE], Body::from(body)).into_response()
}

/// Turns the reply into an answer.
fn answer(id: Uuid, reply: &Reply) -> Result<Response, Problem> {
    Err(match reply {
        Reply::Posted => return Ok(created(id)),
        Reply::PostedBefore { id } => return Ok(created(Uuid::from_bytes(*id))),
        Reply::InboxFull => {
            let detail = "this user has as many unread messages as are allowed \
                          (chat.unread_per_user_max): when some are read or expire there is room";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
        Reply::Full => {
            let detail = "there are as many unread messages as are allowed (chat.unread_max, \
                          chat.unread_bytes_max): when some are read or expire there is room";
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
        }
        Reply::KeysFull => {
            let detail = "as many idempotency keys are remembered as are allowed (chat.keys_max): \
                          without one the message can be stored";
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
        }
        Reply::KeyConflict => Problem::field("Idempotency-Key", "it was used for another message")
            .with_status(StatusCode::UNPROCESSABLE_ENTITY),
        Reply::Configured
        | Reply::Taken(_)
        | Reply::Acknowledged
        | Reply::NotFound
        | Reply::PutBack(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "that is no answer to a message")
        }
    })
}
