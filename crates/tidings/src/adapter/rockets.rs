//! Rockets over HTTP.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tidings_core::machine::rockets::{Channel, Command, Rockets};
use tidings_node::{Builder, Handle, Refused};
use tokio::sync::{Semaphore, watch};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::contract::{Context, Machine, Service};
use crate::layers::{Layers, Unusable};
use crate::wire::http::accept::{Answering, HotRoutes};
use crate::wire::http::body::{MessageBody, Pieces};
use crate::wire::http::failures::{BadBody, BadEventId, BadParameter, Unstored};
use crate::wire::http::{Bounds, Problem, etag, page};
use crate::wire::metrics::Text;
use crate::wire::sse;

mod bulk;
mod fast;
mod list;
mod parse;
mod render;
mod schema;
mod settings;
mod single;
mod values;

use settings::Settings;

/// What the handlers share.
pub(crate) struct Adapter {
    machine: Handle<Rockets>,
    http: Bounds,
    /// The longest type, mission or reason, in bytes.
    text_bytes_max: usize,
    /// Memory for bulk bodies, in KiB.
    bulk_places: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// The answer to a message of one channel more than there may be.
fn channels_full() -> Problem {
    let detail = "there are as many channels as are allowed (rockets.channels_max), and this is none of them";
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
}

impl Service for Adapter {
    const ABOUT: &str = "The state each rocket would have, had its messages come in perfect order";
    type Settings = Settings;
    type Installed = Handle<Rockets>;

    fn settings(layers: &Layers) -> Result<Settings, Unusable> {
        Settings::read(layers)
    }

    fn install(_: &Settings, machine: Machine, builder: &mut Builder) -> Handle<Rockets> {
        builder.add(machine.id, machine.name, Rockets::default())
    }

    async fn start(
        machine: Handle<Rockets>,
        settings: Settings,
        Context { http, stop, .. }: Context,
    ) -> Result<Self, Refused> {
        let Settings { limits, text_bytes_max } = settings;
        if machine.read(|machine| machine.limits() != limits) {
            super::settle(&machine, Command::Configure(limits)).await?;
        }
        let bulk_places = Arc::new(Semaphore::new(http.bulk_total_bytes_max >> 10));
        Ok(Self { machine, http, text_bytes_max, bulk_places, stop })
    }

    fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(post_messages))
            .routes(routes!(list_rockets))
            .routes(routes!(rocket_events))
            .routes(routes!(get_rocket))
            .with_state(Arc::clone(self))
    }

    fn hot_routes(self: &Arc<Self>) -> Option<HotRoutes> {
        let adapter = Arc::clone(self);
        Some(Box::new(move |request| match (request.method(), request.uri().path()) {
            (&Method::POST, "/messages") => {
                let adapter = Arc::clone(&adapter);
                Answering::Later(Box::pin(async move {
                    let (head, body) = request.into_parts();
                    adapter.take(&head.headers, body).await
                }))
            }
            (&Method::GET, "/rockets") => {
                Answering::Now(adapter.list(request.uri(), request.headers()))
            }
            (&Method::GET, path) => {
                match path.strip_prefix("/rockets/").and_then(values::channel) {
                    Some(channel) => Answering::Now(adapter.show(channel, request.headers())),
                    None => Answering::NotMine(request),
                }
            }
            _ => Answering::NotMine(request),
        }))
    }

    fn metrics(&self, out: &mut Text) {
        let (counters, rockets, held) = self
            .machine
            .read(|machine| (machine.counters(), machine.rockets().len(), machine.held_total()));
        let outcomes = [
            ("applied", counters.applied),
            ("duplicate", counters.duplicates),
            ("late", counters.late),
        ];
        let name = "tidings_rockets_messages_total";
        out.counters(name, "Messages by what became of them.", "outcome", &outcomes);
        let anomalies = [
            ("unknown_type", counters.unknown_types),
            ("unreadable", counters.unreadable),
            ("negative", counters.negative),
            ("relaunched", counters.relaunched),
            ("after_explosion", counters.after_explosion),
        ];
        let name = "tidings_rockets_anomalies_total";
        out.counters(name, "Messages consumed without effect.", "kind", &anomalies);
        let help = "Duplicates whose content differs from that of the first message.";
        out.counter("tidings_rockets_conflicts_total", help, counters.conflicts);
        out.counter(
            "tidings_rockets_lost_total",
            "Message numbers dropped with their gap.",
            counters.lost,
        );
        let bounds = [
            ("held_max", counters.held_max),
            ("held_total_max", counters.held_total_max),
            ("channels_max", counters.channels_max),
        ];
        let name = "tidings_rockets_bounds_total";
        out.counters(name, "How often a bound was reached.", "bound", &bounds);
        out.gauge("tidings_rockets_channels", "Channels known.", rockets as u64);
        out.gauge("tidings_rockets_held", "Messages held behind gaps.", held);
    }
}

impl Adapter {
    /// A body that may be as large as a bulk request.
    fn pieces<B: MessageBody>(&self, headers: &HeaderMap, body: B) -> Result<Pieces<B>, Problem> {
        Pieces::new(headers, body, self.http.bulk_bytes_max, self.http.body_timeout)
    }

    /// Takes in messages, in whatever form they are.
    async fn take(&self, headers: &HeaderMap, body: impl MessageBody) -> Response {
        let taken = match parse::Form::of(headers) {
            Ok(parse::Form::Json) => self.take_json(headers, body).await,
            Ok(parse::Form::Ndjson) => bulk::take_lines(self, headers, body).await,
            Ok(parse::Form::CloudEvents) => bulk::take_events(self, headers, body).await,
            Err(problem) => Err(problem),
        };
        taken.unwrap_or_else(IntoResponse::into_response)
    }

    /// Takes in a JSON body: a message, or an array of them.
    async fn take_json(
        &self,
        headers: &HeaderMap,
        body: impl MessageBody,
    ) -> Result<Response, Problem> {
        let mut pieces = self.pieces(headers, body)?;
        let mut first = pieces.next().await?.unwrap_or_default();
        while first.trim_ascii().is_empty() {
            let next = pieces.next().await?;
            let empty = || Problem::bad_request("the body is empty; expected a message");
            first = next.ok_or_else(empty)?;
        }
        if first.trim_ascii_start().first() == Some(&b'[') {
            bulk::take_array(self, pieces, first).await
        } else {
            single::deliver(self, headers, pieces, first).await
        }
    }

    /// A page of rockets.
    fn list(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        let query = match list::Query::read(uri.query()) {
            Ok(query) => query,
            Err(problem) => return problem.into_response(),
        };
        let (tag, body, next) = self.machine.read(|machine| {
            let tag = etag::of(self.machine.history(), machine.version());
            if etag::is_known(headers, &tag) {
                return (tag, None, None);
            }
            let (body, next) = query.run(machine.rockets());
            (tag, Some(body), next)
        });
        let mut response = etag::json(&tag, body);
        let link =
            next.and_then(|next| page::next_link(uri.path(), uri.query(), &page::cursor(&next)));
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }

    /// One rocket.
    fn show(&self, channel: Channel, headers: &HeaderMap) -> Response {
        let found = self.machine.read(|machine| {
            let rocket = machine.get(channel)?;
            let tag = etag::of(self.machine.history(), rocket.version());
            let body = (!etag::is_known(headers, &tag)).then(|| {
                let mut body = Vec::with_capacity(512);
                render::rocket(rocket, &mut body);
                body
            });
            Some((tag, body))
        });
        if let Some((tag, body)) = found {
            etag::json(&tag, body)
        } else {
            let detail = format!("no message of rocket {channel} has been received");
            Problem::new(StatusCode::NOT_FOUND, detail).into_response()
        }
    }
}

type Shared = State<Arc<Adapter>>;

/// Post messages
///
/// One message, or many: an array, a message a line (NDJSON), or a CloudEvents batch. 202 and 200 mean that what was taken is
/// durable and applied. Messages may come in any order and any number of times.
#[utoipa::path(
    post,
    path = "/messages",
    tag = "rockets",
    request_body(
        content(
            (schema::Envelope = "application/json"),
            (String = "application/x-ndjson", example = json!("{\"metadata\":{...},\"message\":{...}}\n")),
            (Vec<schema::CloudEvent> = "application/cloudevents-batch+json"),
        ),
        description = "A message, or an array of messages; or many in another form.",
    ),
    params(
        ("Prefer" = Option<String>, Header, description = "`return=representation` answers a single message with a body"),
    ),
    responses(
        (status = 202, description = "A single message was taken. The body is empty unless asked for with Prefer.",
            body = schema::Receipt,
            headers(("Tidings-Outcome" = schema::Outcome, description = "What became of it"))),
        (status = 200, description = "The good ones of many messages were taken, in one commit.", body = schema::BulkReceipt),
        BadBody,
        Unstored,
        (status = 507, description = "There are as many channels as are allowed, and this is none of them."),
    ),
)]
async fn post_messages(State(adapter): Shared, request: Request) -> Response {
    let (head, body) = request.into_parts();
    adapter.take(&head.headers, body).await
}

/// List rockets
///
/// Each with its state: the fold of all its known messages, in order.
#[utoipa::path(
    get,
    path = "/rockets",
    tag = "rockets",
    params(list::Parameters),
    responses(
        (status = 200, description = "A page of rockets; `Link` says where the next one is.", body = Vec<schema::Rocket>,
            headers(("ETag" = String, description = "Version of all rockets"), ("Link" = String, description = "rel=\"next\": the next page (RFC 8288)"))),
        (status = 304, description = "Nothing has changed since If-None-Match."),
        BadParameter,
    ),
)]
async fn list_rockets(State(adapter): Shared, headers: HeaderMap, uri: Uri) -> Response {
    adapter.list(&uri, &headers)
}

/// Get a rocket
#[utoipa::path(
    get,
    path = "/rockets/{id}",
    tag = "rockets",
    params(("id" = String, Path, format = Uuid, description = "Its channel", example = "193270a9-c9cf-404a-8f83-838e71d9ae67")),
    responses(
        (status = 200, description = "The rocket.", body = schema::Rocket, headers(("ETag" = String, description = "Version of this rocket"))),
        (status = 304, description = "Nothing has changed since If-None-Match."),
        (status = 400, description = "The id is not a UUID."),
        (status = 404, description = "No message of this rocket has come."),
    ),
)]
async fn get_rocket(
    State(adapter): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(channel) = values::channel(&id) else {
        return Problem::field("id", "expected a UUID").into_response();
    };
    adapter.show(channel, &headers)
}

/// Watch rockets change
///
/// Server-sent events: an `event: rocket` for each change, with the rocket as it was after it, and the entry number of the log
/// as `id`. The stream resumes after `Last-Event-ID` within the changes that are kept. A watcher that cannot keep up gets
/// `event: lagged` and continues from then.
#[utoipa::path(
    get,
    path = "/rockets/events",
    tag = "rockets",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The id of the last event seen")),
    responses(
        (status = 200, description = "The stream. A comment every 15 s keeps it open.", body = schema::Rocket, content_type = "text/event-stream"),
        BadEventId,
    ),
)]
async fn rocket_events(State(adapter): Shared, headers: HeaderMap) -> Response {
    let after = match sse::last_event_id(&headers) {
        Ok(after) => after,
        Err(problem) => return problem.into_response(),
    };
    sse::stream(adapter.machine.watch(after), adapter.stop.clone(), |view| {
        let mut data = Vec::with_capacity(512);
        render::view(view, &mut data);
        ("rocket", String::from_utf8(data).unwrap_or_default())
    })
}
