//! The tracker over HTTP.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tidings_core::machine::tracker::{Command, Reply, Tracker};
use tidings_node::{Builder, Handle, Refused};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::contract::{Context, Machine, Service};
use crate::layers::{Layers, Unusable};
use crate::wire::http::accept::{Answering, HotRoutes};
use crate::wire::http::body::MessageBody;
use crate::wire::http::failures::{BadBody, BadParameter, Unstored};
use crate::wire::http::{Bounds, Problem, page};
use crate::wire::metrics::Text;
use settings::Settings;

mod list;
mod post;
mod schema;
mod settings;

/// The path of all messages. The path of one is below it.
const MESSAGES: &str = "/tracker/messages";
const JSON: (HeaderName, HeaderValue) =
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));

static OTHER_RELAYS: HeaderName = HeaderName::from_static("tidings-other-relays");

/// What the handlers share.
pub(crate) struct Adapter {
    machine: Handle<Tracker>,
    settings: Settings,
    http: Bounds,
}

impl Service for Adapter {
    const ABOUT: &str =
        "The last messages that peers have relayed, distinct by id, in order of arrival";
    type Settings = Settings;
    type Installed = Handle<Tracker>;

    fn settings(layers: &Layers) -> Result<Settings, Unusable> {
        Settings::read(layers)
    }

    fn install(settings: &Settings, machine: Machine, builder: &mut Builder) -> Handle<Tracker> {
        builder.add(machine.id, machine.name, Tracker::new(settings.limits))
    }

    async fn start(
        machine: Handle<Tracker>,
        settings: Settings,
        Context { http, .. }: Context,
    ) -> Result<Self, Refused> {
        if machine.read(|machine| machine.limits() != settings.limits) {
            super::settle(&machine, Command::Configure(settings.limits)).await?;
        }
        Ok(Self { machine, settings, http })
    }

    fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(post_message, list_messages))
            .routes(routes!(show_message, delete_message))
            .routes(routes!(show_peers))
            .with_state(Arc::clone(self))
    }

    fn hot_routes(self: &Arc<Self>) -> Option<HotRoutes> {
        let adapter = Arc::clone(self);
        Some(Box::new(move |request| {
            if *request.method() != Method::POST || request.uri().path() != MESSAGES {
                return Answering::NotMine(request);
            }
            let adapter = Arc::clone(&adapter);
            Answering::Later(Box::pin(async move {
                let (head, body) = request.into_parts();
                adapter.post(&head.headers, body).await
            }))
        }))
    }

    fn metrics(&self, out: &mut Text) {
        let (counters, stats, bytes) =
            self.machine.read(|machine| (*machine.counters(), machine.stats(), machine.bytes()));
        let outcomes = [
            ("new", counters.new),
            ("duplicate", counters.duplicates),
            ("removed", counters.removed),
        ];
        let name = "tidings_tracker_messages_total";
        out.counters(name, "Messages by what became of them.", "outcome", &outcomes);
        let bounds = [
            ("capacity", counters.capacity),
            ("bytes_max", counters.bytes_max),
            ("peers_max", counters.peers_max),
        ];
        let name = "tidings_tracker_bounds_total";
        out.counters(name, "How often a bound was reached.", "bound", &bounds);
        out.gauge("tidings_tracker_messages", "Tracked messages.", stats.len);
        out.gauge("tidings_tracker_bytes", "Memory of their ids, peers and data.", bytes);
        let help =
            "The most places ever tried for one id; more than ten: somebody makes ids collide.";
        out.gauge("tidings_tracker_probe_longest", help, stats.probe_longest);
    }
}

impl Adapter {
    async fn post(&self, headers: &HeaderMap, body: impl MessageBody) -> Response {
        post::take(self, headers, body).await.unwrap_or_else(IntoResponse::into_response)
    }

    fn list(&self, uri: &Uri) -> Result<Response, Problem> {
        let query = list::Query::read(uri.query())?;
        let (body, next) = self.machine.read(|machine| query.run(machine));
        let mut response = ([JSON], body).into_response();
        let next = next.map(|next| page::cursor(&next));
        let link = next.and_then(|next| page::next_link(uri.path(), uri.query(), &next));
        response.headers_mut().extend(link.map(|link| (header::LINK, link)));
        Ok(response)
    }

    fn show(&self, uri: &Uri) -> Result<Response, Problem> {
        let id = id_of(uri)?;
        let body = self.machine.read(|machine| {
            let mut body = Vec::new();
            machine.get(&id).map(|message| list::message(&mut body, message))?;
            Some(body)
        });
        Ok(([JSON], body.ok_or_else(not_found)?).into_response())
    }

    fn peers(&self, uri: &Uri) -> Result<Response, Problem> {
        let id = id_of(uri)?;
        let found = self.machine.read(|machine| {
            let (peers, others) = machine.peers(&id)?;
            let mut body = Vec::new();
            list::counts(&mut body, peers);
            Some((body, others))
        });
        let (body, others) = found.ok_or_else(not_found)?;
        if self.settings.limits.peers_max == 0 {
            let detail = "relays are not counted here (tracker.peers_max is 0)";
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
        Ok(([JSON, (OTHER_RELAYS.clone(), others.into())], body).into_response())
    }

    async fn delete(&self, uri: &Uri) -> Result<StatusCode, Problem> {
        let id = id_of(uri)?;
        match self.machine.propose(Command::Remove { id }).await? {
            Reply::Done => Ok(StatusCode::NO_CONTENT),
            Reply::NotFound | Reply::New { .. } | Reply::Duplicate => Err(not_found()),
        }
    }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "message not found: it never came, was removed, or evicted")
}

/// Returns the id in a path such as `/tracker/messages/a%2Fb/peers`.
fn id_of(uri: &Uri) -> Result<Box<str>, Problem> {
    let rest = uri.path().strip_prefix(MESSAGES).and_then(|rest| rest.strip_prefix('/'));
    let segment = rest.unwrap_or_default().split('/').next().unwrap_or_default();
    let id = percent_encoding::percent_decode_str(segment).decode_utf8();
    let id = id.map_err(|_| Problem::field("id", "it is not UTF-8"))?;
    post::check_name("id", &id)?;
    Ok(id.into())
}

type Shared = State<Arc<Adapter>>;

/// Add a message
///
/// The first message with an id is kept. A full tracker evicts the oldest. 2xx means that the relay is durable.
#[utoipa::path(
    post,
    path = "/tracker/messages",
    tag = "tracker",
    request_body(content = schema::Message, content_type = "application/json"),
    responses(
        (status = 201, description = "It is new, and tracked now.", body = schema::Added, headers(("Location" = String, description = "Where it is"))),
        (status = 200, description = "Its id is known: what came first stays.", body = schema::Added),
        BadBody,
        Unstored,
    ),
)]
async fn post_message(State(adapter): Shared, request: Request) -> Response {
    let (head, body) = request.into_parts();
    adapter.post(&head.headers, body).await
}

/// List the messages
///
/// In order of arrival, in pages. A page ends after `limit` messages, or when it has reached one mebibyte.
#[utoipa::path(
    get,
    path = "/tracker/messages",
    tag = "tracker",
    params(list::Parameters),
    responses(
        (status = 200, description = "A page; `Link` says where the next one is.", body = Vec<schema::Message>,
            headers(("Link" = String, description = "rel=\"next\": the next page (RFC 8288)"))),
        BadParameter,
    ),
)]
async fn list_messages(State(adapter): Shared, uri: Uri) -> Response {
    adapter.list(&uri).unwrap_or_else(IntoResponse::into_response)
}

/// Get a message
#[utoipa::path(
    get,
    path = "/tracker/messages/{id}",
    tag = "tracker",
    params(("id" = String, Path, description = "Which one, percent-encoded")),
    responses(
        (status = 200, description = "The message as it came first.", body = schema::Message),
        (status = 400, description = "The id is not valid."),
        (status = 404, description = "It is not tracked."),
    ),
)]
async fn show_message(State(adapter): Shared, uri: Uri) -> Response {
    adapter.show(&uri).unwrap_or_else(IntoResponse::into_response)
}

/// Remove a message
///
/// If it comes again, it is a new one.
#[utoipa::path(
    delete,
    path = "/tracker/messages/{id}",
    tag = "tracker",
    params(("id" = String, Path, description = "Which one, percent-encoded")),
    responses(
        (status = 204, description = "It is not tracked any more."),
        (status = 400, description = "The id is not valid."),
        (status = 404, description = "It is not tracked."),
        Unstored,
    ),
)]
async fn delete_message(State(adapter): Shared, uri: Uri) -> Response {
    let deleted = adapter.delete(&uri).await;
    deleted.map_or_else(IntoResponse::into_response, IntoResponse::into_response)
}

/// Get the relays of a message
///
/// How often each peer relayed it, in the order in which they first did. The first `tracker.peers_max` peers are counted one by
/// one, all others together in `Tidings-Other-Relays`.
#[utoipa::path(
    get,
    path = "/tracker/messages/{id}/peers",
    tag = "tracker",
    params(("id" = String, Path, description = "Which message, percent-encoded")),
    responses(
        (status = 200, description = "Peers and counts.", body = std::collections::BTreeMap<String, u32>,
            headers(("Tidings-Other-Relays" = u32, description = "Relays by other peers"))),
        (status = 400, description = "The id is not valid."),
        (status = 404, description = "It is not tracked, or relays are not counted."),
    ),
)]
async fn show_peers(State(adapter): Shared, uri: Uri) -> Response {
    adapter.peers(&uri).unwrap_or_else(IntoResponse::into_response)
}
