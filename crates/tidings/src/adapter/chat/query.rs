//! What a reader asks for: whose messages, and how.

use std::time::Duration;

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use utoipa::IntoParams;

use super::post::check_username;
use crate::wire::http::Problem;
use crate::wire::http::query::{self, Number};

/// Seconds that a reader waits for a message.
type Wait = Number<0, 60>;
type AtLeastOne = Number<1, { u32::MAX }>;

/// The parameters of a take.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// With an empty inbox, wait this many seconds for a message. Of several readers that wait, the first to come gets it.
    #[param(inline)]
    wait: Option<Wait>,
    /// Show the messages and hand out nothing.
    peek: Option<bool>,
    /// At most this many messages.
    #[param(inline)]
    limit: Option<AtLeastOne>,
    /// The messages come back after this many seconds unless each is acknowledged (DELETE) in time. At most the setting
    /// `chat.lease_max`.
    #[param(inline)]
    lease: Option<AtLeastOne>,
}

/// A request for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) wait: Duration,
    pub(super) peek: bool,
    pub(super) limit: u32,
    pub(super) lease_ms: Option<u64>,
}

impl Query {
    /// Peeks at all messages.
    pub(super) const PEEK: Self =
        Self { wait: Duration::ZERO, peek: true, limit: u32::MAX, lease_ms: None };

    /// # Errors
    /// 400 naming the parameter and what is allowed.
    pub(super) fn read(query: Option<&str>, lease_s_max: u32) -> Result<Self, Problem> {
        let asked: Parameters = query::read(query)?;
        let lease = asked.lease.map(|lease| lease.0);
        if let Some(lease) = lease.filter(|lease| *lease > lease_s_max) {
            let why = format!("{lease} is not allowed; allowed are 1 to {lease_s_max}");
            return Err(Problem::field("lease", why));
        }
        let read = Self {
            wait: Duration::from_secs(asked.wait.map_or(0, |wait| wait.0).into()),
            peek: asked.peek.unwrap_or(false),
            limit: asked.limit.map_or(u32::MAX, |limit| limit.0),
            lease_ms: lease.map(|lease| u64::from(lease) * 1000),
        };
        if read.peek && read.lease_ms.is_some() {
            return Err(Problem::field(
                "peek",
                "it hands out nothing, so it does not go with lease",
            ));
        }
        Ok(read)
    }
}

/// Returns the user of a path such as `/chat/a%2Fb`, and the segment after it, if there is one.
pub(super) fn user_of(uri: &Uri) -> Option<(&str, Option<&str>)> {
    let rest = uri.path().strip_prefix("/chat/")?;
    match rest.split_once('/') {
        Some((user, behind)) => Some((user, Some(behind))),
        None => Some((rest, None)),
    }
}

/// Reads the name of a user from a segment of a path.
///
/// # Errors
/// 400 when it is not a name.
pub(super) fn username(segment: &str) -> Result<Box<str>, Problem> {
    let name = percent_decode_str(segment).decode_utf8();
    let name = name.map_err(|_| Problem::field("username", "it is not UTF-8"))?;
    check_username(&name)?;
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_is_decoded_and_checked() {
        assert_eq!(&*username("a%2Fb").unwrap(), "a/b");
        assert_eq!(&*username("%F0%9F%9A%80+1").unwrap(), "🚀+1");
        assert_eq!(&*username("100%").unwrap(), "100%");
        assert!(username("%FF").is_err());
        assert!(username("").is_err());
        assert!(username(&"a".repeat(256)).is_ok());
        assert!(username(&"a".repeat(257)).is_err());
    }

    #[test]
    fn a_request_says_what_it_wants() {
        let read = |text: &str| Query::read(Some(text), 3600);
        let all = Query { wait: Duration::ZERO, peek: false, limit: u32::MAX, lease_ms: None };
        assert_eq!(read("").unwrap(), all);
        let some = Query { wait: Duration::from_secs(60), limit: 5, lease_ms: Some(9000), ..all };
        assert_eq!(read("wait=60&limit=5&lease=9").unwrap(), some);
        assert_eq!(read("peek=true").unwrap(), Query { peek: true, ..all });
        for wrong in [
            "wait=61",
            "wait=-1",
            "wait=1.5",
            "wait=+1",
            "wait=",
            "peek=1",
            "limit=0",
            "limit=-1",
            "limit=x",
            "lease=0",
            "lease=3601",
            "lease=1e3",
            "peek=true&lease=1",
            "page=1",
        ] {
            let name = wrong.split('=').next().unwrap();
            let problem = read(wrong).unwrap_err();
            assert!(problem.detail().starts_with(name), "{wrong}: {}", problem.detail());
        }
    }
}
