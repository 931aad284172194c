//! Chat over HTTP.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidings_core::machine::chat::{Chat, Command, Reply};
use tidings_node::{Builder, Handle, Refused};
use tokio::sync::watch;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::contract::{Context, Machine, Service};
use crate::layers::{Layers, Unusable};
use crate::wire::http::accept::{Answering, HotRoutes};
use crate::wire::http::body::MessageBody;
use crate::wire::http::failures::{BadBody, BadParameter, Unstored};
use crate::wire::http::{Bounds, Problem};
use crate::wire::metrics::Text;
use query::Query;
use settings::Settings;
use waiters::{Outlet, Waiters};

mod post;
mod query;
mod settings;
mod take;
mod waiters;

/// The headers of every answer that is not an error.
const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json");
const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

/// What the handlers share.
pub(crate) struct Adapter {
    machine: Handle<Chat>,
    waiters: Arc<Waiters>,
    settings: Settings,
    http: Bounds,
    stop: watch::Receiver<bool>,
}

impl Service for Adapter {
    const ABOUT: &str = "An inbox for each user, whose messages expire and are handed out once";
    type Settings = Settings;
    type Installed = (Handle<Chat>, Arc<Waiters>);

    fn settings(layers: &Layers) -> Result<Settings, Unusable> {
        Settings::read(layers)
    }

    fn install(settings: &Settings, machine: Machine, builder: &mut Builder) -> Self::Installed {
        let waiters = Arc::<Waiters>::default();
        let outlet = Outlet(Arc::clone(&waiters));
        let chat = Chat::new(settings.limits);
        (builder.add_tapped(machine.id, machine.name, chat, outlet), waiters)
    }

    async fn start(
        (machine, waiters): Self::Installed,
        settings: Settings,
        Context { http, stop, .. }: Context,
    ) -> Result<Self, Refused> {
        if machine.read(|machine| machine.limits() != settings.limits) {
            super::settle(&machine, Command::Configure(settings.limits)).await?;
        }
        machine.resume_ticks();
        Ok(Self { machine, waiters, settings, http, stop })
    }

    fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(post_message))
            .routes(routes!(get_messages))
            .routes(routes!(delete_message))
            .with_state(Arc::clone(self))
    }

    fn hot_routes(self: &Arc<Self>) -> Option<HotRoutes> {
        let adapter = Arc::clone(self);
        Some(Box::new(move |request| match *request.method() {
            Method::POST if request.uri().path() == "/chat" => {
                let adapter = Arc::clone(&adapter);
                Answering::Later(Box::pin(async move {
                    let (head, body) = request.into_parts();
                    adapter.post(&head.headers, body).await
                }))
            }
            Method::GET if matches!(query::user_of(request.uri()), Some((_, None))) => {
                let adapter = Arc::clone(&adapter);
                Answering::Later(Box::pin(async move { adapter.get(request.uri(), false).await }))
            }
            _ => Answering::NotMine(request),
        }))
    }

    fn metrics(&self, out: &mut Text) {
        let (counters, ended, keys) =
            self.machine.read(|machine| (*machine.counters(), machine.ended(), machine.keys()));
        let (messages, users, bytes, leased) = self.machine.read(|machine| {
            let inboxes = machine.inboxes();
            (inboxes.len(), inboxes.users(), inboxes.bytes(), inboxes.leased())
        });
        let outcomes = [
            ("posted", counters.posted),
            ("posted_before", counters.posted_before),
            ("key_conflict", counters.key_conflicts),
            ("taken", counters.taken),
            ("leased", counters.leased),
            ("acknowledged", counters.acknowledged),
            ("lease_ended", ended.leases),
            ("put_back", counters.put_back),
            ("expired", ended.messages),
        ];
        let name = "tidings_chat_messages_total";
        out.counters(name, "Messages by what became of them.", "outcome", &outcomes);
        let bounds = [
            ("unread_per_user_max", counters.unread_per_user_max),
            ("unread_max", counters.unread_max),
            ("unread_bytes_max", counters.unread_bytes_max),
            ("keys_max", counters.keys_max),
            ("lease_max", counters.lease_ms_max),
            ("put_back_max", counters.put_back_ms_max),
            ("put_backs_max", counters.put_backs_max),
            ("put_back_dropped", counters.put_back_dropped),
        ];
        let name = "tidings_chat_bounds_total";
        out.counters(name, "How often a bound was reached.", "bound", &bounds);
        out.gauge("tidings_chat_unread", "Unread messages.", messages);
        out.gauge("tidings_chat_unread_bytes", "Memory of unread messages and their users.", bytes);
        out.gauge("tidings_chat_leased", "Messages leased.", leased);
        out.gauge("tidings_chat_users", "Users with a message.", users);
        out.gauge("tidings_chat_keys", "Idempotency keys remembered.", keys);
        let waiting = self.waiters.count() as u64;
        out.gauge("tidings_chat_waiting", "Readers waiting for a message.", waiting);
    }
}

impl Adapter {
    async fn post(&self, headers: &HeaderMap, body: impl MessageBody) -> Response {
        post::take(self, headers, body).await.unwrap_or_else(IntoResponse::into_response)
    }

    /// Answers GET, or HEAD, which hands out nothing.
    async fn get(self: &Arc<Self>, uri: &Uri, head: bool) -> Response {
        let read = || {
            let (segment, _) = query::user_of(uri).unwrap_or_default();
            let lease_s_max = u32::try_from(self.settings.limits.lease_ms_max / 1000);
            let query = Query::read(uri.query(), lease_s_max.unwrap_or(u32::MAX))?;
            Ok::<_, Problem>((query::username(segment)?, query))
        };
        let taken = match read() {
            Ok((user, _)) if head => take::take(self, user, Query::PEEK).await,
            Ok((user, query)) => take::take(self, user, query).await,
            Err(problem) => Err(problem),
        };
        taken.unwrap_or_else(IntoResponse::into_response)
    }

    async fn acknowledge(&self, uri: &Uri) -> Result<StatusCode, Problem> {
        let (segment, id) = query::user_of(uri).unwrap_or_default();
        let user = query::username(segment)?;
        let id = Uuid::try_parse(id.unwrap_or_default());
        let id = id.map_err(|_| Problem::field("id", "expected a UUID"))?.into_bytes();
        if self.machine.propose(Command::Acknowledge { user, id }).await? == Reply::Acknowledged {
            return Ok(StatusCode::NO_CONTENT);
        }
        let detail = "no such message is leased: it was acknowledged, or its lease has ended";
        Err(Problem::new(StatusCode::NOT_FOUND, detail))
    }

    /// Returns whether there is nothing to take.
    fn is_empty(&self, user: &str) -> bool {
        self.machine.read(|machine| machine.peek(self.machine.clock().now(), user).next().is_none())
    }

    /// Wakes the first reader that waits for a user, if there is anything to take.
    fn wake_first(&self, user: &str) {
        if !self.is_empty(user) {
            self.waiters.wake_first(user);
        }
    }
}

type Shared = State<Arc<Adapter>>;

/// A message for a user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `post` reads")]
struct Post {
    /// The text, at most 64 KiB.
    #[schema(example = "see you at the pad")]
    text: String,
    /// The recipient, 1 to 256 bytes.
    #[schema(min_length = 1, example = "ada")]
    username: String,
    /// Seconds after which it expires if it is not read.
    #[schema(minimum = 0, maximum = 31_536_000, default = 60)]
    timeout: Option<u32>,
}

/// A message that is stored.
#[derive(Serialize, ToSchema)]
struct Created {
    /// A `UUIDv7`.
    #[schema(example = "01936f0e-1e7c-7c3a-9c41-0d6a7a3c5b21")]
    id: String,
}

/// A message that is handed out.
#[derive(Serialize, ToSchema)]
struct Message {
    text: String,
    id: String,
}

/// Post a message
///
/// It waits in the inbox of its user until it is read once, or expires. 201 means that it is durable.
#[utoipa::path(
    post,
    path = "/chat",
    tag = "chat",
    request_body(content = Post, content_type = "application/json"),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again, with the same message, gives the same id and stores nothing")),
    responses(
        (status = 201, description = "It is in the inbox.", body = Created),
        BadBody,
        (status = 422, description = "The idempotency key was used for another message."),
        (status = 429, description = "The user has as many unread messages as are allowed."),
        Unstored,
        (status = 507, description = "All users together have as many unread messages as are allowed."),
    ),
)]
async fn post_message(State(adapter): Shared, request: Request) -> Response {
    let (head, body) = request.into_parts();
    adapter.post(&head.headers, body).await
}

/// Read an inbox
///
/// Hands out every message that has not expired and was not handed out before, oldest first. Of any number of concurrent readers
/// exactly one gets each message. HEAD hands out nothing.
#[utoipa::path(
    get,
    path = "/chat/{username}",
    tag = "chat",
    params(("username" = String, Path, description = "Whose inbox, percent-encoded"), query::Parameters),
    responses(
        (status = 200, description = "The messages; none for an unknown user.", body = Vec<Message>,
            headers(("Tidings-More" = bool, description = "There is more to take at once"))),
        BadParameter,
        (status = 503, description = "Nothing can be handed out now: try again. After the type `unknown`, what would have been handed out may be gone, or leased if it was asked for so."),
    ),
)]
async fn get_messages(State(adapter): Shared, method: Method, uri: Uri) -> Response {
    adapter.get(&uri, method == Method::HEAD).await
}

/// Acknowledge a leased message
///
/// It is removed, and does not come back to the inbox.
#[utoipa::path(
    delete,
    path = "/chat/{username}/{id}",
    tag = "chat",
    params(
        ("username" = String, Path, description = "Whose inbox, percent-encoded"),
        ("id" = String, Path, format = Uuid, description = "Which message"),
    ),
    responses(
        (status = 204, description = "It is removed."),
        (status = 400, description = "The id is not a UUID."),
        (status = 404, description = "No such message is leased."),
        Unstored,
    ),
)]
async fn delete_message(State(adapter): Shared, uri: Uri) -> Response {
    let acknowledged = adapter.acknowledge(&uri).await;
    acknowledged.map_or_else(IntoResponse::into_response, IntoResponse::into_response)
}
