//! Reads JSON bodies, and says where one is wrong.

use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::Problem;

/// Media types that are not a single JSON value, and that a sender does not name by mistake.
const NOT_JSON: [&str; 6] = [
    "application/x-ndjson",
    "application/cloudevents-batch+json",
    "application/xml",
    "text/xml",
    "text/html",
    "multipart/form-data",
];

/// Whether a body can be read as JSON, whatever its `Content-Type` says short of another media type
/// that is known: `curl -d` names one of a form, others none at all.
///
/// # Errors
/// 415 naming the media type.
pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    if NOT_JSON.iter().any(|name| media.eq_ignore_ascii_case(name)) {
        let detail =
            format!("Content-Type: {text:?} is not taken here; allowed is application/json");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

/// Reads a value. `what` is what it is called when it is wrong as a whole.
///
/// # Errors
/// 400 naming the field.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a [u8], what: &str) -> Result<T, Problem> {
    serde_json::from_slice(json).map_err(|_| explain::<T>(json, what))
}

/// Reads it once more to say where it is wrong.
fn explain<'a, T: Deserialize<'a>>(json: &'a [u8], what: &str) -> Problem {
    let mut reader = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(_) => Problem::bad_request(format!("the body goes on behind {what}")),
        Err(why) if why.inner().is_data() => {
            let (path, why) = (why.path().to_string(), why.inner().to_string());
            match (path.as_str(), missing(&why)) {
                (".", Some(field)) => Problem::field(field, "it is missing"),
                (path, Some(field)) => Problem::field(&format!("{path}.{field}"), "it is missing"),
                (".", None) => Problem::bad_request(format!("{what}: {why}")),
                (path, None) => Problem::field(path, why),
            }
        }
        Err(why) => Problem::bad_request(format!("the body is not JSON: {}", why.inner())),
    }
}

/// The name of the field whose absence serde complains of.
fn missing(why: &str) -> Option<&str> {
    why.strip_prefix("missing field `")?.split('`').next()
}

/// The beginning of a text, for an error message.
pub(crate) fn shortened(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

/// Writes a text in its quotation marks.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail, and a text is always one of JSON.
    drop(serde_json::to_writer(out, text));
}
