//! Values inside of messages, as both parsers read them.

use tidings_core::machine::rockets::{Channel, MessageTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads a UUID in any of its written forms.
pub(super) fn channel(text: &str) -> Option<Channel> {
    uuid::Uuid::try_parse(text).ok().map(|uuid| Channel(uuid.into_bytes()))
}

/// Reads an RFC 3339 time in the years 0 to 9999 of UTC.
pub(super) fn time(text: &str) -> Option<MessageTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let seconds = time.unix_timestamp();
    let nanoseconds = time.nanosecond();
    let utc = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    (0..=9999).contains(&utc.year()).then_some(MessageTime { seconds, nanoseconds })
}
