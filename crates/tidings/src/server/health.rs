//! Liveness, readiness and metrics of the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidings_node::Node;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Parts;
use crate::telemetry::Process;
use crate::wire::http::Problem;
use crate::wire::metrics::Text;

/// The state of the server.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// In a word.
    status: &'static str,
}

pub(super) fn routes(parts: &Arc<Parts>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(alive))
        .routes(routes!(ready))
        .routes(routes!(metrics))
        .with_state(Arc::clone(parts))
}

/// Check that the process is alive
#[utoipa::path(get, path = "/healthz", tag = "system", responses((status = 200, description = "It is.", body = Status)))]
pub(super) async fn alive() -> Response {
    answer("alive")
}

/// Check that messages can be taken
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "system",
    responses(
        (status = 200, description = "Recovered, and the log can be written.", body = Status),
        (status = 503, description = "Recovering, stopping, or no room."),
    ),
)]
async fn ready(State(parts): State<Arc<Parts>>) -> Response {
    let Some(node) = parts.node.get() else {
        return Problem::unavailable("recovering").into_response();
    };
    match node.check().await {
        Ok(()) => answer("ready"),
        Err(why) => Problem::from(why).into_response(),
    }
}

fn answer(status: &'static str) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    ([(header::CACHE_CONTROL, no_store)], Json(Status { status })).into_response()
}

/// Get the metrics in the text format of Prometheus
#[utoipa::path(get, path = "/metrics", tag = "system", responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain")))]
async fn metrics(State(parts): State<Arc<Parts>>) -> Response {
    let mut text = Text::default();
    let process = Process::now();
    let help = "User and system CPU time spent.";
    text.counter("process_cpu_seconds_total", help, process.cpu_seconds);
    text.gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes);
    text.gauge("process_open_fds", "Open descriptors.", process.open_fds);
    let http = &parts.connections;
    let open = http.open.load(Ordering::Relaxed);
    text.gauge("tidings_http_connections", "Open connections.", open);
    let accepted = http.accepted.load(Ordering::Relaxed);
    text.counter("tidings_http_connections_total", "Connections accepted.", accepted);
    let requests = http.requests.load(Ordering::Relaxed);
    text.counter("tidings_http_requests_total", "Requests answered.", requests);
    let help = "Answers that closed their connection because many connections were open.";
    let busy = http.closed_busy.load(Ordering::Relaxed);
    text.counter("tidings_http_connections_busy_total", help, busy);
    if let Some(node) = parts.node.get() {
        log_metrics(node, &mut text);
    }
    let services = parts.services.get().map(Vec::as_slice).unwrap_or_default();
    if parts.node.get().is_some_and(Node::is_shared) {
        let help = "How often this node fell behind the log and was rebuilt.";
        let rebuilt = parts.rebuilt.load(Ordering::Relaxed);
        text.counter("tidings_node_rebuilt_total", help, rebuilt);
        let leases = services.iter().filter_map(|(_, running)| running.lease());
        let leases: Vec<_> = leases.map(|(name, held)| (name, u64::from(held))).collect();
        let help = "Whether this node holds a lease that only one node of the cluster can hold.";
        text.gauges("tidings_lease_held", help, "lease", &leases);
    }
    for (_, running) in services {
        running.metrics(&mut text);
    }
    let content_type = HeaderValue::from_static(Text::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, content_type)], text.into_string()).into_response()
}

fn log_metrics(node: &Node, text: &mut Text) {
    let stats = node.stats();
    text.gauge("tidings_log_position", "Position of the last batch applied.", stats.position);
    let help = "Entries applied since the beginning of the log.";
    text.counter("tidings_log_entries_total", help, stats.entries);
    text.counter("tidings_log_batches_total", "Batches committed.", stats.batches);
    text.counter("tidings_log_bytes_total", "Bytes committed.", stats.bytes);
    let help = "Commands rejected because the log had no room.";
    text.counter("tidings_log_refused_total", help, stats.refused);
    text.counter("tidings_log_snapshots_total", "Snapshots written.", stats.snapshots);
    let help = "Snapshots that could not be written.";
    text.counter("tidings_log_snapshots_failed_total", help, stats.snapshots_failed);
}
