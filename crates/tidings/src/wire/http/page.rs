//! Paging: an opaque cursor, and the link to the next page (RFC 8288).

use axum::http::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Problem;

/// Makes a cursor of whatever says where the next page begins.
pub(crate) fn cursor<T: Serialize>(place: &T) -> String {
    let json = serde_json::to_vec(place).unwrap_or_default();
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    json.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Reads one that [`cursor`] made.
pub(crate) fn read_cursor<T: DeserializeOwned>(cursor: &str) -> Result<T, Problem> {
    let digits = cursor.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let json: Option<Vec<u8>> = digits.map(byte).collect();
    let place = json.and_then(|json| serde_json::from_slice(&json).ok());
    place.ok_or_else(|| {
        Problem::field("cursor", "expected one from the Link header of the page before")
    })
}

/// The value of a `Link` header to the next page: the same query with this cursor.
pub(crate) fn next_link(path: &str, query: Option<&str>, cursor: &str) -> Option<HeaderValue> {
    let kept = query.unwrap_or_default().split('&');
    let kept = kept.filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let all: Vec<_> = kept.map(str::to_owned).chain([format!("cursor={cursor}")]).collect();
    HeaderValue::from_str(&format!("<{path}?{}>; rel=\"next\"", all.join("&"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_anything_else_does_not() {
        let made = cursor(&("speed", 5));
        assert_eq!(read_cursor::<(String, i32)>(&made).unwrap(), ("speed".to_owned(), 5));
        for bad in ["", "5", "zz", "ée", "00", &made[2..]] {
            assert!(read_cursor::<(String, i32)>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_link_keeps_the_query_and_replaces_the_cursor() {
        let link = next_link("/rockets", Some("sort=id&cursor=aa&limit=2"), "bb").unwrap();
        assert_eq!(link, "</rockets?sort=id&limit=2&cursor=bb>; rel=\"next\"");
    }
}
