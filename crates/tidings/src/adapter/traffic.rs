//! Traffic: a connection upstream over WebSocket, and its state over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tidings_core::machine::traffic::{Command, Counters, Event, Traffic, WindowReport};
use tidings_core::structure::tally::{Id, Row};
use tidings_node::{Builder, Handle, Lease, Refused};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::contract::{Context, Machine, Service};
use crate::layers::{Layers, Unusable};
use crate::telemetry::Complaint;
use crate::wire::http::Problem;
use crate::wire::http::failures::{BadEventId, BadParameter};
use crate::wire::http::query::{self, Number};
use crate::wire::metrics::Text;
use crate::wire::sse;
use settings::Settings;

mod fast;
mod graph;
mod parse;
mod report;
mod schema;
mod settings;
mod upstream;

/// Rows of a window that are shown by default, and at most.
const ROWS_SHOWN: u32 = 1_000;
const ROWS_SHOWN_MAX: u32 = 100_000;
/// Children on a page.
const CHILDREN_SHOWN: usize = 10_000;

/// What the handlers and the connection share.
pub(crate) struct Adapter {
    settings: Settings,
    machine: Handle<Traffic>,
    /// Held by the one node that is connected upstream.
    lease: Lease,
    /// The window whose report was written last; 0 for none. While the log is stalled the machine may not say so yet.
    written: AtomicU64,
    stop: watch::Receiver<bool>,
    connected: AtomicBool,
    frames: AtomicU64,
    /// Elements that could not be read.
    malformed: AtomicU64,
    reconnects: AtomicU64,
    frame_complaint: Complaint,
    reconnect_complaint: Complaint,
    room_complaint: Complaint,
}

/// The name of the lease on the connection upstream.
const LEASE: &str = "traffic";

impl Service for Adapter {
    const ABOUT: &str =
        "Calls per window between the parents of services, counted from a WebSocket";
    type Settings = Settings;
    type Installed = Handle<Traffic>;

    fn settings(layers: &Layers) -> Result<Settings, Unusable> {
        Settings::read(layers)
    }

    fn install(settings: &Settings, machine: Machine, builder: &mut Builder) -> Handle<Traffic> {
        builder.add(machine.id, machine.name, Traffic::new(settings.limits))
    }

    async fn start(
        machine: Handle<Traffic>,
        settings: Settings,
        Context { leases, stop, .. }: Context,
    ) -> Result<Self, Refused> {
        if machine.read(|machine| machine.limits() != settings.limits) {
            super::settle(&machine, Command::Configure(settings.limits)).await?;
        }
        Ok(Self {
            settings,
            machine,
            lease: leases.lease(LEASE),
            written: AtomicU64::new(0),
            stop,
            connected: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            frame_complaint: Complaint::new("frames from upstream cannot be read and are skipped"),
            reconnect_complaint: Complaint::new("the connection upstream is opened again"),
            room_complaint: Complaint::new("upstream waits: the log takes nothing"),
        })
    }

    fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(get_traffic))
            .routes(routes!(get_topology))
            .routes(routes!(traffic_events))
            .routes(routes!(get_graph))
            .with_state(Arc::clone(self))
    }

    /// Dials, if there is a URL to dial.
    fn spawn(self: &Arc<Self>, _: Vec<TcpListener>) -> Vec<JoinHandle<()>> {
        let url = self.settings.url.clone();
        url.map(|url| tokio::spawn(upstream::run(Arc::clone(self), url))).into_iter().collect()
    }

    fn lease(&self) -> Option<(&'static str, bool)> {
        Some((LEASE, self.lease.is_held()))
    }

    fn metrics(&self, out: &mut Text) {
        let (counters, children, parents, pairs, held) = self.machine.read(|machine| {
            let tally = machine.tally();
            let (children, parents) = (tally.children().len(), tally.parents().len());
            (*machine.counters(), children, parents, tally.rows().len(), tally.held())
        });
        let Counters { calls, unresolved, windows, delivered, .. } = counters;
        let frames = self.frames.load(Ordering::Relaxed);
        out.counter("tidings_traffic_frames_total", "Frames received.", frames);
        let malformed = self.malformed.load(Ordering::Relaxed);
        let help = "Elements of frames that could not be read.";
        out.counter("tidings_traffic_malformed_total", help, malformed);
        let reconnects = self.reconnects.load(Ordering::Relaxed);
        out.counter("tidings_traffic_reconnects_total", "Connections opened again.", reconnects);
        let help = "Communications received.";
        out.counter("tidings_traffic_communications_total", help, calls);
        let help = "Communications whose window closed before their children were known.";
        out.counter("tidings_traffic_unresolved_total", help, unresolved);
        out.counter("tidings_traffic_windows_total", "Windows with a report.", windows);
        out.counter("tidings_traffic_delivered_total", "Reports sent.", delivered);
        let bounds = [
            ("children_max", counters.children_max),
            ("parents_max", counters.parents_max),
            ("pairs_max", counters.pairs_max),
            ("held_max", counters.held_max),
            ("reports_max", counters.reports_dropped),
        ];
        let name = "tidings_traffic_bounds_total";
        out.counters(name, "How often a bound was reached.", "bound", &bounds);
        out.gauge("tidings_traffic_children", "Known children.", children as u64);
        out.gauge("tidings_traffic_parents", "Known parents.", parents as u64);
        out.gauge("tidings_traffic_pairs", "Pairs in the open window.", pairs as u64);
        out.gauge("tidings_traffic_held", "Communications held for a child.", held);
        let connected = u64::from(self.connected.load(Ordering::Relaxed));
        out.gauge("tidings_traffic_connected", "Whether upstream is connected.", connected);
    }
}

/// A copy of a window, to be rendered.
struct Window {
    start: u64,
    end: u64,
    rows: Vec<Row>,
    /// How many rows there are in all.
    pairs: usize,
    unresolved: u64,
    /// `None` for the open window.
    sent: Option<bool>,
}

impl Window {
    fn of(report: &WindowReport, rows_max: usize) -> Self {
        let WindowReport { start, end, rows, unresolved, sent } = report;
        let shown = rows.get(..rows.len().min(rows_max)).unwrap_or_default().to_vec();
        let (start, end, unresolved) = (*start, *end, *unresolved);
        Self { start, end, rows: shown, pairs: rows.len(), unresolved, sent: Some(*sent) }
    }

    fn open(machine: &Traffic, rows_max: usize) -> Option<Self> {
        let (start, end) = machine.window()?;
        let (rows, unresolved) = (machine.tally().rows(), machine.tally().held());
        let shown = rows.get(..rows.len().min(rows_max)).unwrap_or_default().to_vec();
        Some(Self { start, end, rows: shown, pairs: rows.len(), unresolved, sent: None })
    }

    fn shown(&self, parents: &[Id]) -> schema::Window {
        let rows = report::named(&self.rows, parents);
        schema::Window {
            start: report::time(self.start),
            end: report::time(self.end),
            pairs: self.pairs,
            unresolved: self.unresolved,
            sent: self.sent,
            calls: rows.into_iter().map(schema::Call::from).collect(),
        }
    }
}

type Rows = Number<1, ROWS_SHOWN_MAX>;
type Skip = Number<0, { u32::MAX }>;

/// The parameters of `GET /traffic`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WindowParameters {
    /// How many pairs of each window are shown (default 1000).
    #[param(inline)]
    rows: Option<Rows>,
}

/// The parameters of `GET /traffic/topology`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TopologyParameters {
    /// How many children to leave out from the beginning. A page has 10000.
    #[param(inline)]
    skip: Option<Skip>,
}

fn no_store(body: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], body).into_response()
}

type Handler = State<Arc<Adapter>>;

/// Get the windows
///
/// The open window so far, the last closed windows, and what was dropped.
#[utoipa::path(
    get,
    path = "/traffic",
    tag = "traffic",
    params(WindowParameters),
    responses(
        (status = 200, description = "The windows.", body = schema::Status),
        BadParameter,
    ),
)]
async fn get_traffic(State(adapter): Handler, uri: Uri) -> Result<Response, Problem> {
    let WindowParameters { rows } = query::read(uri.query())?;
    let rows_max = rows.map_or(ROWS_SHOWN, |rows| rows.0) as usize;
    let (window, reports, parents, children, counters) = adapter.machine.read(|machine| {
        let reports: Vec<_> =
            machine.reports().map(|report| Window::of(report, rows_max)).collect();
        let (parents, children) =
            (machine.tally().parents().to_vec(), machine.tally().children().len());
        (Window::open(machine, rows_max), reports, parents, children, *machine.counters())
    });
    let status = schema::Status {
        connected: adapter.connected.load(Ordering::Relaxed),
        upstream: schema::Upstream::of(&adapter.lease),
        window: window.map(|window| window.shown(&parents)),
        reports: reports.iter().rev().map(|window| window.shown(&parents)).collect(),
        children,
        parents: parents.len(),
        frames: adapter.frames.load(Ordering::Relaxed),
        communications: counters.calls,
        unresolved: counters.unresolved,
        malformed: adapter.malformed.load(Ordering::Relaxed),
        reconnects: adapter.reconnects.load(Ordering::Relaxed),
        delivered: counters.delivered,
        dropped: counters.reports_dropped,
    };
    Ok(no_store(axum::Json(status)))
}

/// Get the topology
///
/// Each child with its parent, in the order in which the children first came, in the format of upstream.
#[utoipa::path(
    get,
    path = "/traffic/topology",
    tag = "traffic",
    params(TopologyParameters),
    responses(
        (status = 200, description = "A page of children.", body = Vec<schema::Belongs>,
            headers(("Link" = String, description = "rel=\"next\": the next page (RFC 8288)"))),
        BadParameter,
    ),
)]
async fn get_topology(State(adapter): Handler, uri: Uri) -> Result<Response, Problem> {
    let TopologyParameters { skip } = query::read(uri.query())?;
    let skip = skip.map_or(0, |skip| skip.0) as usize;
    let (shown, all) = adapter.machine.read(|machine| {
        let (children, parents) = (machine.tally().children(), machine.tally().parents());
        let all = children.len();
        let page = children.skip(skip).take(CHILDREN_SHOWN);
        let page =
            page.filter_map(|(child, parent)| Some((*parents.get(parent as usize)?, *child)));
        (page.collect::<Vec<_>>(), all)
    });
    let next = skip + shown.len();
    let shown: Vec<_> = shown.into_iter().map(schema::Belongs::from).collect();
    let mut response = no_store(axum::Json(shown));
    if next < all
        && let Ok(link) =
            HeaderValue::try_from(format!("</traffic/topology?skip={next}>; rel=\"next\""))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// Watch windows close
///
/// Server-sent events: an `event: report` for each window, as `GET /traffic` shows it, with the entry number of the log as `id`.
#[utoipa::path(
    get,
    path = "/traffic/events",
    tag = "traffic",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The id of the last event seen")),
    responses(
        (status = 200, description = "The stream. A comment every 15 s keeps it open.", body = schema::Window, content_type = "text/event-stream"),
        BadEventId,
    ),
)]
async fn traffic_events(State(adapter): Handler, headers: HeaderMap) -> Result<Response, Problem> {
    let after = sse::last_event_id(&headers)?;
    let watcher = adapter.machine.watch(after);
    Ok(sse::stream(watcher, adapter.stop.clone(), move |Event::Closed { start }| {
        let found = adapter.machine.read(|machine| {
            let report = machine.reports().find(|report| report.start == *start)?;
            Some((Window::of(report, ROWS_SHOWN_MAX as usize), machine.tally().parents().to_vec()))
        });
        let shown = found.map(|(window, parents)| window.shown(&parents));
        ("report", serde_json::to_string(&shown).unwrap_or_default())
    }))
}

/// Draw the last window
///
/// Parents are nodes, calls are edges: wider with their count, redder with the share of errors. Of many parents, the 50 busiest
/// are shown.
#[utoipa::path(
    get,
    path = "/traffic/graph.svg",
    tag = "traffic",
    responses((status = 200, description = "The last window that has closed, or the open one.", body = String, content_type = "image/svg+xml")),
)]
async fn get_graph(State(adapter): Handler) -> Response {
    let (window, parents) = adapter.machine.read(|machine| {
        let last = machine.reports().rev().find(|report| !report.rows.is_empty());
        let window = match last {
            Some(report) => Some(Window::of(report, usize::MAX)),
            None => Window::open(machine, usize::MAX),
        };
        (window, machine.tally().parents().to_vec())
    });
    let draw = move || {
        let Some(window) = window else { return graph::svg(&[], "no window") };
        let (start, end) = (report::time(window.start), report::time(window.end));
        graph::svg(&report::named(&window.rows, &parents), &format!("calls from {start} to {end}"))
    };
    let drawn = tokio::task::spawn_blocking(draw).await;
    match drawn {
        Ok(svg) => no_store(([(header::CONTENT_TYPE, "image/svg+xml")], svg)),
        Err(_) => Problem::unavailable("the picture cannot be drawn").into_response(),
    }
}
