//! Errors as `application/problem+json` (RFC 9457): what was wrong, where, and what is allowed.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidings_node::Refused;
use utoipa::ToSchema;

/// An error, as RFC 9457 has it. Nothing was changed, unless its type says that this is not known.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Why it cannot be stored or answered now, to tell one 503 from another:
    /// `urn:tidings:problem:no-room`, `:silent` (the log does not answer) and `:stopping` have changed
    /// nothing; after `:unknown` and `:failed` it may have happened: ask again, with the same number or
    /// Idempotency-Key. Any other problem has none.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uri", example = "urn:tidings:problem:silent")]
    kind: Option<&'static str>,
    /// The HTTP status.
    #[schema(example = 400)]
    status: u16,
    /// The HTTP status in words.
    #[schema(example = "Bad Request")]
    title: &'static str,
    /// What was wrong, and what is allowed.
    #[schema(
        example = "metadata.messageNumber: invalid value: integer `0`, expected 1 to 9223372036854775807"
    )]
    detail: String,
    /// The field, parameter or header at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "metadata.messageNumber")]
    field: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: None,
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Error"),
            detail: detail.into(),
            field: None,
        }
    }

    /// A request that is wrong in one field.
    pub(crate) fn field(field: &str, why: impl std::fmt::Display) -> Self {
        let detail = format!("{field}: {why}");
        Self { field: Some(field.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    /// The same with another status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { detail: self.detail, field: self.field, ..Self::new(status, "") }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Refused> for Problem {
    fn from(why: Refused) -> Self {
        let (kind, advice) = match why {
            Refused::NoRoom(_) => ("urn:tidings:problem:no-room", NOTHING_CHANGED),
            Refused::Silent(_) => ("urn:tidings:problem:silent", NOTHING_CHANGED),
            Refused::Stopping => ("urn:tidings:problem:stopping", NOTHING_CHANGED),
            Refused::Unknown(_) => ("urn:tidings:problem:unknown", MAYBE_DONE),
            Refused::Failed(_) => ("urn:tidings:problem:failed", MAYBE_DONE),
        };
        Self { kind: Some(kind), ..Self::unavailable(format!("{why}; {advice}")) }
    }
}

/// What happened to a rejected request, and what to do.
const NOTHING_CHANGED: &str = "nothing was changed, try again";
const MAYBE_DONE: &str = "it may have happened: ask again, with the same number or Idempotency-Key \
                          where it has one, and it is not done twice";

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a refused proposal, and its type and words.
    fn answered(why: Refused) -> (Response, String, String) {
        let problem = Problem::from(why);
        let (kind, detail) = (problem.kind.unwrap_or_default().to_owned(), problem.detail.clone());
        (problem.into_response(), kind, detail)
    }

    #[test]
    fn a_refusal_says_whether_it_may_have_happened_and_when_to_ask_again() {
        let why = || "the stream".to_owned();
        for (refused, name, unknown) in [
            (Refused::NoRoom(why()), "no-room", false),
            (Refused::Silent(why()), "silent", false),
            (Refused::Stopping, "stopping", false),
            (Refused::Unknown(why()), "unknown", true),
            (Refused::Failed(why()), "failed", true),
        ] {
            let (response, kind, detail) = answered(refused);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1");
            assert_eq!(kind, format!("urn:tidings:problem:{name}"));
            assert_eq!(detail.contains("nothing was changed"), !unknown, "{detail}");
            assert_eq!(detail.contains("the same number or Idempotency-Key"), unknown, "{detail}");
        }
    }
}
