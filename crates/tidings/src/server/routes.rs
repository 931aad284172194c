//! The routes that belong to no service, and what all routes have in common.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Redirect;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::{Parts, digest, health};
use crate::wire::http::{Problem, consistency};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidings",
        description = "Takes in messages that arrive late, twice and out of order, and hands them on \
                       once, in order. Every error is a problem document (RFC 9457) and has changed \
                       nothing, unless its type says that this is not known; a 2xx answer means \
                       durable and applied.",
    ),
    tags(
        (name = "rockets", description = "The state each rocket would have, had its messages come in perfect order"),
        (name = "chat", description = "An inbox for each user, whose messages expire and are handed out once"),
        (name = "maze", description = "Numbered events over TCP, put in order and passed on by who follows whom"),
        (name = "traffic", description = "Calls per window between the parents of services, counted from a WebSocket"),
        (name = "tracker", description = "The last messages that peers have relayed, distinct by id, in order of arrival"),
        (name = "system", description = "How the server is"),
    ),
)]
struct Description;

/// Answers while the log is being read: alive, not ready.
pub(super) fn starting() -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .fallback(async || Problem::unavailable("recovering; GET /readyz says when it is done"))
}

/// What there is whichever services run.
pub(super) fn common(parts: &Arc<Parts>) -> OpenApiRouter {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(health::routes(parts))
        .merge(digest::routes(parts))
}

/// Adds the description of all routes, and answers for those that do not exist.
pub(super) fn finish(api: OpenApiRouter) -> Router {
    let (router, mut description) = api.split_for_parts();
    consistency::describe(&mut description);
    router
        .merge(SwaggerUi::new("/swagger").url("/openapi.json", description))
        .route("/", get(async || Redirect::temporary("/swagger/")))
        .fallback(async |uri: Uri| {
            let detail =
                format!("there is nothing at {}; /swagger shows what there is", uri.path());
            Problem::new(StatusCode::NOT_FOUND, detail)
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let detail =
                format!("{method} is not for {}; the Allow header says what is", uri.path());
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
}
