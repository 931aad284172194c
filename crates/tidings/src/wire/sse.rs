//! Server-sent events: a machine's events to a browser or whoever else can read lines.

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

/// How often a watcher that hears nothing is told that the line is open.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How many events are fetched at once.
const EVENTS_AT_ONCE: usize = 64;

/// The entry after which the client wants to resume (`Last-Event-ID`).
///
/// # Errors
/// 400 when it is no entry number.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = id.to_str().ok().and_then(|id| id.parse().ok());
    number.map(Some).ok_or_else(|| Problem::field("Last-Event-ID", "expected the id of an event"))
}

/// Streams a watcher's events until the client goes or the server stops. `write` gives the name and
/// the data of an event. A watcher that cannot keep up gets `event: lagged` and goes on from then.
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
    // Proxies are told not to collect what is meant to arrive at once.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
