//! One message in one request: the hot path.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tidings_core::machine::rockets::{Command, Outcome, Reply};

use super::{Adapter, parse, schema};
use crate::wire::http::Problem;
use crate::wire::http::body::{MessageBody, Pieces};

static OUTCOME: HeaderName = HeaderName::from_static("tidings-outcome");

/// Takes in one message. `first` is the beginning of the body.
pub(super) async fn deliver(
    adapter: &Adapter,
    headers: &HeaderMap,
    mut pieces: Pieces<impl MessageBody>,
    first: Bytes,
) -> Result<Response, Problem> {
    pieces.limit(adapter.http.body_bytes_max)?;
    let body = pieces.rest(first).await?;
    let delivery = parse::delivery(&body, adapter.text_bytes_max)?;
    let channel = delivery.channel;
    let number = delivery.number;
    match adapter.machine.propose(Command::Deliver(delivery)).await? {
        Reply::Taken(outcome) => {
            let mut response = taken(outcome);
            if wants_body(headers) {
                let outcome = parse::outcome_name(outcome);
                let channel = channel.to_string();
                let receipt = schema::Receipt { channel, message_number: number, outcome };
                let body = serde_json::to_vec(&receipt).unwrap_or_default();
                *response.body_mut() = Body::from(body);
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
            }
            Ok(response)
        }
        Reply::ChannelsFull => Err(super::channels_full()),
        Reply::Configured => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "not a message")),
    }
}

fn taken(outcome: Outcome) -> Response {
    let mut response = StatusCode::ACCEPTED.into_response();
    let name = HeaderValue::from_static(parse::outcome_name(outcome));
    response.headers_mut().insert(OUTCOME.clone(), name);
    response
}

fn wants_body(headers: &HeaderMap) -> bool {
    let prefers = headers.get_all("prefer").iter().filter_map(|prefer| prefer.to_str().ok());
    prefers
        .flat_map(|prefer| prefer.split([',', ';']))
        .any(|prefer| prefer.trim() == "return=representation")
}
