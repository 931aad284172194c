//! Takes in a message: the hot path.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tidings_core::machine::tracker::{Command, Reply};

use super::{Adapter, JSON, MESSAGES};
use crate::wire::http::body::{MessageBody, Pieces};
use crate::wire::http::{Problem, json};

/// The longest id, and the longest name of a peer.
const NAME_BYTES_MAX: usize = 256;

/// Unreserved characters (RFC 3986) are not encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A message as it is posted.
#[derive(Deserialize)]
struct Post<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "peerId")]
    peer_id: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// Takes a message. 2xx means that its relay is durable.
pub(super) async fn take(
    adapter: &Adapter,
    headers: &HeaderMap,
    body: impl MessageBody,
) -> Result<Response, Problem> {
    json::check_media_type(headers)?;
    let (bytes_max, timeout) = (adapter.http.body_bytes_max, adapter.http.body_timeout);
    let mut pieces = Pieces::new(headers, body, bytes_max, timeout)?;
    let first = pieces.next().await?.unwrap_or_default();
    let body = pieces.rest(first).await?;
    let Post { id, peer_id, data } = read(&body)?;
    let data = decode(&data, adapter.settings.data_bytes_max)?;
    let (id, peer_id) = (Box::<str>::from(id), Box::from(peer_id));
    let command = Command::Add { id: id.clone(), peer_id, data };
    answer(&id, adapter.machine.propose(command).await?)
}

fn read(body: &[u8]) -> Result<Post<'_>, Problem> {
    if body.trim_ascii().is_empty() {
        return Err(Problem::bad_request("the body is empty; expected a message"));
    }
    let post: Post<'_> = json::read(body, "the message")?;
    check_name("id", &post.id)?;
    check_name("peerId", &post.peer_id)?;
    Ok(post)
}

/// Checks that a text can be an id, or the name of a peer.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), Problem> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let length = name.len();
    let why = format!("{length} bytes are not allowed; expected 1 to {NAME_BYTES_MAX}");
    Err(Problem::field(field, why))
}

fn decode(text: &str, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let data = STANDARD.decode(text).map_err(|why| {
        let why = format!("it is not base64 with padding (RFC 4648, section 4): {why}");
        Problem::field("data", why)
    })?;
    if data.len() > bytes_max {
        let length = data.len();
        let why = format!(
            "{length} bytes are too many; allowed are {bytes_max} (tracker.data_bytes_max)"
        );
        return Err(Problem::field("data", why).with_status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Ok(data)
}

fn answer(id: &str, reply: Reply) -> Result<Response, Problem> {
    let (status, outcome, evicted) = match reply {
        Reply::New { evicted } => (StatusCode::CREATED, "new", evicted),
        Reply::Duplicate => (StatusCode::OK, "duplicate", 0),
        Reply::Done | Reply::NotFound => {
            let detail = "that is no answer to a message";
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        }
    };
    let mut body = Vec::with_capacity(48 + id.len());
    body.extend_from_slice(b"{\"id\":");
    json::text(&mut body, id);
    body.extend_from_slice(b",\"outcome\":\"");
    body.extend_from_slice(outcome.as_bytes());
    body.extend_from_slice(b"\",\"evicted\":");
    body.extend_from_slice(itoa::Buffer::new().format(evicted).as_bytes());
    body.push(b'}');
    let mut response = (status, [JSON], body).into_response();
    if status == StatusCode::CREATED {
        let location = format!("{MESSAGES}/{}", utf8_percent_encode(id, ENCODED));
        let location = HeaderValue::try_from(location).ok();
        response.headers_mut().extend(location.map(|location| (header::LOCATION, location)));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_or_named_as_wrong() {
        assert_eq!(decode("", 0).unwrap(), b"");
        assert_eq!(decode("aGVsbG8=", 5).unwrap(), b"hello");
        for wrong in ["aGVsbG8", "aGVsbG8=x", "aGVs bG8=", "-_-_", "aGVsbG9="] {
            assert!(decode(wrong, 5).unwrap_err().detail().starts_with("data"), "{wrong}");
        }
        assert!(decode("aGVsbG8=", 4).unwrap_err().detail().contains("allowed are 4"));
    }
}
