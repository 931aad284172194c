//! What a reader asks for: whose messages, and how.

use std::time::Duration;

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use utoipa::IntoParams;

use super::post::{check_username, seconds};
use crate::wire::http::Problem;

/// The longest that a reader waits for a message.
const WAIT_S_MAX: u32 = 60;

/// What can be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `Query::read` reads")]
pub(super) struct Parameters {
    /// With an empty inbox, wait so many seconds for a message. Of several who wait, the first who
    /// came gets it.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u32>,
    /// Look at the messages and hand out nothing.
    peek: Option<bool>,
    /// At most so many messages.
    #[param(minimum = 1)]
    limit: Option<u32>,
    /// The messages come back after so many seconds unless each is acknowledged (DELETE) in time.
    #[param(minimum = 1, maximum = 3600)]
    lease: Option<u32>,
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
    /// To look only.
    pub(super) const PEEK: Self =
        Self { wait: Duration::ZERO, peek: true, limit: u32::MAX, lease_ms: None };

    /// # Errors
    /// 400 naming the parameter and what is allowed.
    pub(super) fn read(query: Option<&str>, lease_s_max: u32) -> Result<Self, Problem> {
        let mut read = Self { wait: Duration::ZERO, peek: false, limit: u32::MAX, lease_ms: None };
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "wait" => {
                    let wait = seconds(&name, &value, 0, WAIT_S_MAX)?;
                    read.wait = Duration::from_secs(wait.into());
                }
                "peek" => {
                    read.peek = value.parse().map_err(|_| {
                        Problem::field(
                            &name,
                            format!("{value:?} is not allowed; allowed are true and false"),
                        )
                    })?;
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    read.limit = limit.ok_or_else(|| {
                        let why = format!(
                            "{value:?} is not allowed; expected a whole number, 1 to {}",
                            u32::MAX
                        );
                        Problem::field(&name, why)
                    })?;
                }
                "lease" => {
                    let lease = seconds(&name, &value, 1, lease_s_max)?;
                    read.lease_ms = Some(u64::from(lease) * 1000);
                }
                _ => {
                    return Err(Problem::field(
                        &name,
                        "there is no such parameter; allowed are wait, peek, limit and lease",
                    ));
                }
            }
        }
        if read.peek && read.lease_ms.is_some() {
            return Err(Problem::field(
                "peek",
                "it hands out nothing, so it does not go with lease",
            ));
        }
        Ok(read)
    }
}

/// The user of a path such as `/chat/a%2Fb`, and what stands behind the name, if anything.
pub(super) fn user_of(uri: &Uri) -> Option<(&str, Option<&str>)> {
    let rest = uri.path().strip_prefix("/chat/")?;
    match rest.split_once('/') {
        Some((user, behind)) => Some((user, Some(behind))),
        None => Some((rest, None)),
    }
}

/// The name of a user, from a segment of a path.
///
/// # Errors
/// 400 when that is no name.
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
