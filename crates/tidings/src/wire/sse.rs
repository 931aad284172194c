//! Server-sent events: the events of a machine, for browsers and other clients.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tidings_core::machine::Machine;
use tidings_node::{Watched, Watcher};
use tokio::sync::watch;

use super::http::Problem;
use super::http::accept::Streams;

/// The interval of comments that show an idle client that the connection is open.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The most events that are fetched at once.
const EVENTS_AT_ONCE: usize = 64;

/// Returns the entry after which the client resumes (`Last-Event-ID`).
///
/// # Errors
/// 400 if it is not the number of an entry.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = id.to_str().ok().and_then(|id| id.parse().ok());
    number.map(Some).ok_or_else(|| Problem::field("Last-Event-ID", "expected the id of an event"))
}

/// Streams the events of a watcher until the client disconnects or the server stops. `write` returns the name and
/// the data of an event. A client that falls too far behind gets `event: lagged`, and then the events from there on.
pub(crate) fn stream<M: Machine>(
    watcher: Watcher<M>,
    stop: watch::Receiver<bool>,
    write: impl Fn(&M::Event) -> (&'static str, String) + Send + 'static,
) -> Response {
    let ready = std::collections::VecDeque::new();
    let events = stream::unfold(
        (watcher, stop, ready, write),
        |(mut watcher, mut stop, mut ready, write)| async move {
            if ready.is_empty() {
                let watched = tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return None,
                    watched = watcher.next(EVENTS_AT_ONCE) => watched,
                };
                match watched {
                    Watched::Events(events) => ready.extend(events.iter().map(|(entry, event)| {
                        let (name, data) = write(event);
                        Event::default().event(name).id(entry.to_string()).data(data)
                    })),
                    Watched::Lagged(entry) => {
                        let data = "{\"reason\":\"more has happened than is kept\"}";
                        let lagged =
                            Event::default().event("lagged").id(entry.to_string()).data(data);
                        ready.push_back(lagged);
                    }
                }
            }
            let event = ready.pop_front()?;
            Some((Ok::<_, Infallible>(event), (watcher, stop, ready, write)))
        },
    );
    let heartbeat = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    let mut response = Sse::new(events).keep_alive(heartbeat).into_response();
    response.extensions_mut().insert(Streams);
    // Asks proxies such as nginx not to buffer the stream.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
