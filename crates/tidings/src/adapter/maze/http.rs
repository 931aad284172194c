//! The state of the maze over HTTP.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Adapter;
use crate::wire::metrics::Text;

/// How often the counts are recorded for the rates.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// The rates are means over this many records.
const RECORDS: usize = 5;

/// The state of the maze.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// Whether a source is connected, to this node or another.
    source: bool,
    /// Connections of user clients whose id is known.
    clients: usize,
    /// Connections that have not sent their id yet.
    handshakes: usize,
    /// The number of the next event in order.
    next: u64,
    /// Events held behind a gap.
    held: u32,
    /// Edges of the follower graph.
    follows: u64,
    /// Events applied in order.
    events: u64,
    /// Notifications to clients that were connected, since the server started.
    notifications: u64,
    /// Events a second, over the last five.
    events_per_second: u64,
    /// Notifications a second, over the last five.
    notifications_per_second: u64,
    /// Gaps skipped.
    gaps: u64,
    /// Numbers in those gaps.
    lost: u64,
    /// Events whose number had come before.
    duplicates: u64,
    /// Events that came after their number had been skipped.
    late: u64,
    /// Lines that are not events.
    malformed: u64,
    /// Sources that have connected.
    sources: u64,
    /// Sources rejected because one was connected, since the server started.
    sources_refused: u64,
    /// Connections closed because they sent no valid id in time, since the server started.
    clients_refused: u64,
    /// Clients disconnected because they throttled the source, since the server started.
    slow_clients_cut: u64,
}

/// The counts of the last seconds.
#[derive(Default)]
pub(super) struct Rates(Mutex<VecDeque<(Instant, u64, u64)>>);

impl Rates {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, u64, u64)>> {
        // Nothing under this lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, events: u64, notifications: u64) {
        let mut notes = self.lock();
        notes.push_back((Instant::now(), events, notifications));
        if notes.len() > RECORDS + 1 {
            notes.pop_front();
        }
    }

    /// Events and notifications a second.
    fn per_second(&self) -> (u64, u64) {
        let notes = self.lock();
        let (Some(first), Some(last)) = (notes.front(), notes.back()) else { return (0, 0) };
        let ms = u64::try_from((last.0 - first.0).as_millis()).unwrap_or(u64::MAX);
        let rate = |from: u64, to: u64| (to - from).saturating_mul(1000).checked_div(ms);
        (rate(first.1, last.1).unwrap_or(0), rate(first.2, last.2).unwrap_or(0))
    }
}

/// Records the counts. Runs until it is dropped.
pub(super) async fn rate(adapter: Arc<Adapter>) {
    let mut every = tokio::time::interval(RECORD_EVERY);
    loop {
        every.tick().await;
        let events = adapter.machine.read(|machine| machine.counters().events);
        adapter.rates.record(events, adapter.registry.counts().1);
    }
}

pub(super) fn routes(adapter: Arc<Adapter>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(get_maze)).with_state(adapter)
}

/// Appends the counters and gauges.
pub(super) fn metrics(adapter: &Adapter, out: &mut Text) {
    let status = adapter.status();
    let overflowed = adapter.registry.lock().overflowed;
    let limits = adapter.machine.read(|machine| *machine.counters());
    out.counter("tidings_maze_events_total", "Events applied in order.", status.events);
    let help = "Notifications to clients that were connected.";
    out.counter("tidings_maze_notifications_total", help, status.notifications);
    let lines = [
        ("duplicate", status.duplicates),
        ("late", status.late),
        ("malformed", limits.malformed - limits.overlong),
        ("overlong", limits.overlong),
    ];
    let name = "tidings_maze_lines_dropped_total";
    out.counters(name, "Lines without effect, by reason.", "reason", &lines);
    out.counter("tidings_maze_gaps_total", "Gaps skipped.", status.gaps);
    out.counter("tidings_maze_lost_total", "Numbers in gaps that were skipped.", status.lost);
    let bounds = [
        ("held_max", limits.held_max),
        ("gap_wait", limits.gap_wait),
        ("users_max", limits.users_max),
        ("follows_max", limits.follows_max),
        ("slow_client_wait", status.slow_clients_cut - overflowed),
    ];
    // Only where the source can be connected to another node.
    let queues = [("client_queues_bytes_max", overflowed)];
    let queues = if adapter.leases.is_shared() { &queues[..] } else { &[] };
    let bounds = [&bounds[..], queues].concat();
    let name = "tidings_maze_bounds_total";
    out.counters(name, "How often a bound was reached.", "bound", &bounds);
    out.counter("tidings_maze_sources_total", "Sources that connected.", status.sources);
    let help = "Sources rejected because one was connected.";
    out.counter("tidings_maze_sources_refused_total", help, status.sources_refused);
    let help = "Connections that sent no valid id in time.";
    out.counter("tidings_maze_clients_refused_total", help, status.clients_refused);
    out.gauge("tidings_maze_clients", "Connected user clients.", status.clients);
    out.gauge("tidings_maze_held", "Events held behind gaps.", status.held);
    out.gauge("tidings_maze_next", "The number of the next event in order.", status.next);
    out.gauge("tidings_maze_follows", "Edges of the follower graph.", status.follows);
}

impl Adapter {
    fn status(&self) -> Status {
        let (counters, next, held, follows, connected) = self.machine.read(|machine| {
            let (next, held) = (machine.next(), machine.held());
            let (follows, connected) = (machine.graph().follows(), machine.connected().is_some());
            (*machine.counters(), next, held, follows, connected)
        });
        let connected = connected && self.leases.is_shared();
        let overflowed = self.registry.lock().overflowed;
        let (clients, notifications) = self.registry.counts();
        let (events_per_second, notifications_per_second) = self.rates.per_second();
        Status {
            source: connected || self.source_connected.load(Ordering::Relaxed),
            clients,
            handshakes: self.handshakes.load(Ordering::Relaxed),
            next,
            held,
            follows,
            events: counters.events,
            notifications,
            events_per_second,
            notifications_per_second,
            gaps: counters.gaps,
            lost: counters.lost,
            duplicates: counters.duplicates,
            late: counters.late,
            malformed: counters.malformed,
            sources: counters.sources,
            sources_refused: self.sources_refused.load(Ordering::Relaxed),
            clients_refused: self.refused.load(Ordering::Relaxed),
            slow_clients_cut: overflowed + self.registry.cut_off.load(Ordering::Relaxed),
        }
    }
}

/// Get the state of the maze
///
/// The connections, the position in the sequence, and what was dropped. The source and the user clients themselves speak lines
/// over TCP.
#[utoipa::path(get, path = "/maze", tag = "maze", responses((status = 200, description = "The state.", body = Status)))]
async fn get_maze(State(adapter): State<Arc<Adapter>>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(adapter.status())).into_response()
}
