//! The digest of the machines' states, to compare nodes that share a log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Parts;
use crate::wire::http::Problem;

/// The digest of the states of all machines.
#[derive(Serialize, ToSchema)]
#[schema(as = Digest)]
struct Found {
    /// The position of the last batch applied.
    position: u64,
    /// Entries applied since the beginning of the log.
    entries: u64,
    /// The digest, in 32 hex digits.
    #[schema(example = "0f3a55a1c2d4e6f80123456789abcdef")]
    digest: String,
}

pub(super) fn routes(parts: &Arc<Parts>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(digest)).with_state(Arc::clone(parts))
}

/// Get the digest of the state
///
/// Nodes that share a log and are at the same position have the same digest. It is made of the whole
/// state when it is asked for, and nothing is stored meanwhile: for tests and questions, not for
/// monitoring.
#[utoipa::path(
    get,
    path = "/debug/digest",
    tag = "system",
    responses(
        (status = 200, description = "The position of the node, and the digest of its state.", body = Found),
        (status = 404, description = "The server keeps its state in memory only: there is no log to compare by."),
        (status = 503, description = "The log does not answer, or the server is stopping."),
    ),
)]
async fn digest(State(parts): State<Arc<Parts>>) -> Response {
    let Some(node) = parts.node.get() else {
        return Problem::unavailable("recovering").into_response();
    };
    match node.digest().await {
        Ok(Some(found)) => {
            let digest = format!("{:032x}", found.digest);
            let digest = Found { position: found.position, entries: found.entries, digest };
            let no_store = HeaderValue::from_static("no-store");
            ([(header::CACHE_CONTROL, no_store)], Json(digest)).into_response()
        }
        Ok(None) => {
            let detail = "there is no digest in memory: without a log there are no positions, and no \
                          other node to compare with; start the server with --data";
            Problem::new(StatusCode::NOT_FOUND, detail).into_response()
        }
        Err(why) => Problem::from(why).into_response(),
    }
}
