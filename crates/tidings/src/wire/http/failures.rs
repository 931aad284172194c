//! The description of problem answers: what many operations share, and the body that all of them have.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema as _};

use super::Problem;

/// Describes answers that several operations share.
macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $description:literal,)* })*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status.to_owned(), RefOr::T(Response::new($description)))),*].into()
            }
        }
    )*};
}

failures! {
    /// A body cannot be read.
    BadBody {
        "400": "Not a message: nothing was changed.",
        "408": "The body did not come in time.",
        "413": "The body is too large.",
        "415": "The media type is not taken here.",
    }
    /// A query string is wrong.
    BadParameter {
        "400": "A parameter is wrong; the problem names it.",
    }
    /// A stream cannot be resumed.
    BadEventId {
        "400": "Last-Event-ID is not the id of an event.",
    }
    /// A change cannot be stored.
    Unstored {
        "503": "It cannot be stored now, or it is not known whether it was: the type says which. Try again.",
    }
}

/// Gives every answer of status 400 and above the body that all of them have.
pub(crate) fn describe(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    let operations = api.paths.paths.values_mut().flat_map(|item| {
        [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch]
    });
    for operation in operations.flatten() {
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response
                && status.as_str() >= "400"
            {
                let schema = Ref::from_schema_name(Problem::name());
                let content = ContentBuilder::new().schema(Some(schema)).build();
                response.content.insert("application/problem+json".to_owned(), RefOr::T(content));
            }
        }
    }
}
