//! The routes that belong to no service, and what all routes share.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Redirect;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::tag::Tag;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::{Parts, digest, health};
use crate::service::Service;
use crate::wire::http::{Problem, consistency, failures};

#[derive(OpenApi)]
#[openapi(info(
    title = "Tidings",
    description = "Takes in messages that arrive late, twice and out of order, and hands them on \
                       once, in order. Every error is a problem document (RFC 9457) and has changed \
                       nothing, unless its type says that this is not known; a 2xx answer means \
                       durable and applied.",
))]
struct Description;

/// Returns the routes that answer until the node has recovered: the server is alive and not ready.
pub(super) fn starting() -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .fallback(async || Problem::unavailable("recovering; GET /readyz says when it is done"))
}

/// Returns the routes that are there whichever services are served.
pub(super) fn common(parts: &Arc<Parts>) -> OpenApiRouter {
    let mut description = Description::openapi();
    let services = Service::ALL.into_iter().map(|service| (service.name(), service.about()));
    let tag =
        |(name, about): (&str, &str)| Tag::builder().name(name).description(Some(about)).build();
    description.tags = Some(services.chain([("system", "State of the server")]).map(tag).collect());
    OpenApiRouter::with_openapi(description)
        .merge(health::routes(parts))
        .merge(digest::routes(parts))
}

/// Adds the description of all routes, and answers for paths and methods that do not exist.
pub(super) fn finish(api: OpenApiRouter) -> Router {
    let (router, mut description) = api.split_for_parts();
    consistency::describe(&mut description);
    failures::describe(&mut description);
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
