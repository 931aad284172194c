//! How fresh an answer must be, as a request says in `Tidings-Consistency`. A node answers from what
//! it has applied, which may be a little behind when others share its log; asked for `strong`, it waits
//! until it has applied everything that any node had acknowledged before.

use axum::http::{HeaderMap, HeaderName};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr, Required};

use super::Problem;

static HEADER: HeaderName = HeaderName::from_static("tidings-consistency");
/// The same as it is written.
const NAME: &str = "Tidings-Consistency";
/// The one value there is.
const STRONG: &str = "strong";
/// Under which name all operations refer to the description.
const COMPONENT: &str = "Consistency";
/// A wrong value is shown up to here.
const SHOWN_CHARS_MAX: usize = 64;

/// Whether a request asks for a strong answer. `O(1)` when it says nothing.
///
/// # Errors
/// A 400 that names the header, its value and what is allowed.
pub(super) fn is_strong(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut strong = false;
    for value in headers.get_all(&HEADER) {
        if value.as_bytes() != STRONG.as_bytes() {
            let shown = String::from_utf8_lossy(value.as_bytes());
            let shown: String = shown.chars().take(SHOWN_CHARS_MAX).collect();
            let why = format!("invalid value {shown:?}; expected {STRONG:?}, or no such header");
            return Err(Problem::field(NAME, why));
        }
        strong = true;
    }
    Ok(strong)
}

/// Describes the header once, and refers to that from everything that can be read.
pub(crate) fn describe(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    components.parameters.insert(COMPONENT.to_owned(), RefOr::T(parameter()));
    for item in api.paths.paths.values_mut() {
        if let Some(read) = &mut item.get {
            let reference = Ref::new(format!("#/components/parameters/{COMPONENT}"));
            read.parameters.get_or_insert_default().push(RefOr::Ref(reference));
        }
    }
}

fn parameter() -> Parameter {
    let description = "`strong`: the answer shows everything that any node had acknowledged before \
                       the request, or is a 503 while the log does not answer. Without it, what this \
                       node has applied: always what it has acknowledged itself, and what others have \
                       a little later. Costs a commit, shared with all others of its time; nothing \
                       when no other node shares the log. Any other value is a 400";
    let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([STRONG]));
    ParameterBuilder::new()
        .name(NAME)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked(values: &[&'static str]) -> Result<bool, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&HEADER, HeaderValue::from_static(value));
        }
        is_strong(&headers).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn only_strong_is_allowed_however_often() {
        assert_eq!(asked(&[]), Ok(false));
        assert_eq!(asked(&["strong"]), Ok(true));
        assert_eq!(asked(&["strong", "strong"]), Ok(true));
        for wrong in ["", "Strong", "weak", "strong, strong"] {
            let expected = format!(
                "Tidings-Consistency: invalid value {wrong:?}; expected \"strong\", or no such header"
            );
            assert_eq!(asked(&["strong", wrong]), Err(expected));
        }
    }

    #[test]
    fn a_long_value_is_shown_in_part() {
        let long: &'static str = Box::leak("x".repeat(5_000).into_boxed_str());
        assert!(asked(&[long]).unwrap_err().len() < 200);
    }
}
