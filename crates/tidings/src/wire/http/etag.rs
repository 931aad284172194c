//! Entity tags: `"history-version"`. The history differs between servers that do not share a log,
//! so that a version of one is never taken for a version of another.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The tag of a version.
pub(crate) fn of(history: u64, version: u64) -> String {
    format!("\"{history:x}-{version:x}\"")
}

/// Whether the client has this version already (`If-None-Match`, weak comparison).
pub(crate) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag
    })
}

/// 304, or a JSON body with its tag.
pub(crate) fn json(etag: &str, body: Option<Vec<u8>>) -> Response {
    let mut response = match body {
        Some(body) => {
            let json = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, json)], body).into_response()
        }
        None => StatusCode::NOT_MODIFIED.into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(list: &str) -> bool {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, list.parse().unwrap())]);
        is_known(&headers, &of(10, 11))
    }

    #[test]
    fn a_tag_is_known_when_it_is_in_the_list_or_the_list_is_a_star() {
        assert!(known("\"a-b\""));
        assert!(known("\"x\", W/\"a-b\""));
        assert!(known("*"));
        assert!(!known("\"a-c\""));
        assert!(!known("a-b"));
    }
}
