//! Pages of messages, and messages as JSON.

use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use tidings_core::machine::tracker::{TrackedMessage, Tracker};
use utoipa::IntoParams;

use crate::wire::http::query::{self, Number};
use crate::wire::http::{Problem, json, page};

/// The most messages on a page, and how many are on one by default.
const LIMIT_MAX: u32 = 10_000;
const LIMIT: usize = 1_000;
/// A page ends at this length, because proposers wait for the machine while a page is written.
const PAGE_BYTES: usize = 1 << 20;

type Limit = Number<1, LIMIT_MAX>;

/// The parameters of a page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// How many messages are on a page (default: 1000).
    #[param(inline)]
    limit: Option<Limit>,
    /// Where the page begins: from the `Link` header of the page before.
    cursor: Option<String>,
}

/// Where a page begins: after this message, which may be gone by then.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    arrival: u64,
    id: String,
}

/// A request for a page.
#[derive(Debug)]
pub(super) struct Query {
    limit: usize,
    after: Option<Place>,
}

impl Query {
    /// # Errors
    /// 400 naming the parameter and what is allowed.
    pub(super) fn read(query: Option<&str>) -> Result<Self, Problem> {
        let Parameters { limit, cursor } = query::read(query)?;
        let after = cursor.map(|cursor| page::read_cursor(&cursor)).transpose()?;
        Ok(Self { limit: limit.map_or(LIMIT, |limit| limit.0 as usize), after })
    }

    /// Returns the page as JSON, and where the next one begins.
    pub(super) fn run(&self, tracker: &Tracker) -> (Vec<u8>, Option<Place>) {
        let after = self.after.as_ref().map(|place| (place.arrival, &*place.id));
        let mut messages = tracker.messages(after).peekable();
        let mut body = vec![b'['];
        let mut last = None;
        while body.len() < PAGE_BYTES
            && let Some(shown) = messages.next()
        {
            message(&mut body, shown);
            body.push(b',');
            let count = last.map_or(1, |(count, _)| count + 1);
            last = Some((count, shown));
            if count == self.limit {
                break;
            }
        }
        if last.is_some() {
            // The comma after the last message.
            body.pop();
        }
        body.push(b']');
        let last = last.filter(|_| messages.peek().is_some());
        let place =
            |(_, at): (_, &TrackedMessage)| Place { arrival: at.arrival, id: at.id.to_string() };
        (body, last.map(place))
    }
}

/// Writes a message.
pub(super) fn message(out: &mut Vec<u8>, message: &TrackedMessage) {
    out.extend_from_slice(b"{\"id\":");
    json::text(out, &message.id);
    out.extend_from_slice(b",\"peerId\":");
    json::text(out, &message.peer_id);
    out.extend_from_slice(b",\"data\":\"");
    // Writing to memory does not fail.
    drop(EncoderWriter::new(&mut *out, &STANDARD).write_all(&message.data));
    out.extend_from_slice(b"\"}");
}

/// Writes an object of counts.
pub(super) fn counts<'a>(out: &mut Vec<u8>, counts: impl Iterator<Item = (&'a str, u32)>) {
    out.push(b'{');
    for (place, (name, count)) in counts.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        json::text(out, name);
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    }
    out.push(b'}');
}
