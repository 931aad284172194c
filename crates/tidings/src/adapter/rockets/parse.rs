//! Reads messages: the usual shape by hand (`fast`), every other shape by serde.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_core::machine::rockets::{Content, Delivery, NUMBER_MAX, Outcome, RocketMessage};

use super::fast;
use super::values::{channel, time};
use crate::wire::http::{Problem, json};

/// The forms that messages come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A message, or an array of them.
    Json,
    /// A message a line.
    Ndjson,
    /// An array of CloudEvents with messages as their data.
    CloudEvents,
}

impl Form {
    /// Returns the form that `Content-Type` names. Without one, and with the form type that `curl -d` sends, it is JSON.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Ok(Self::Json);
        };
        let text = value.to_str().unwrap_or_default();
        let media = text.split(';').next().unwrap_or_default().trim();
        let forms = [
            ("application/json", Self::Json),
            ("application/x-www-form-urlencoded", Self::Json),
            ("application/x-ndjson", Self::Ndjson),
            ("application/cloudevents-batch+json", Self::CloudEvents),
        ];
        let form = forms.iter().find(|(name, _)| media.eq_ignore_ascii_case(name));
        form.map(|(_, form)| *form).ok_or_else(|| {
            let detail = format!(
                "Content-Type: {text:?} is not taken here; allowed are application/json, \
                 application/x-ndjson and application/cloudevents-batch+json"
            );
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        })
    }
}

/// Returns the name of an outcome in answers.
pub(super) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Held => "held",
        Outcome::Duplicate => "duplicate",
        Outcome::Late => "late",
        Outcome::Ignored => "ignored",
    }
}

/// Reads one message. Texts longer than `text_bytes_max` make its content unreadable.
///
/// # Errors
/// 400 naming the field, when the envelope cannot be read. Nothing in `message` is an error.
pub(super) fn delivery(json: &[u8], text_bytes_max: usize) -> Result<Delivery, Problem> {
    if let Some(delivery) = fast::delivery(json, text_bytes_max) {
        return Ok(delivery);
    }
    slow(json, text_bytes_max)
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    message_number: u64,
    #[serde(borrow)]
    message_time: Cow<'a, str>,
    #[serde(borrow)]
    message_type: Cow<'a, str>,
}

/// The same by serde: any shape that JSON allows.
pub(super) fn slow(json: &[u8], text_bytes_max: usize) -> Result<Delivery, Problem> {
    let envelope: Envelope<'_> = json::read(json, "the message")?;
    let metadata = envelope.metadata;
    let channel = channel(&metadata.channel).ok_or_else(|| {
        Problem::field(
            "metadata.channel",
            format!("{:?} is not a UUID", json::shortened(&metadata.channel)),
        )
    })?;
    let number = metadata.message_number;
    if !(1..=NUMBER_MAX).contains(&number) {
        let why = format!("{number} is not allowed; expected 1 to {NUMBER_MAX}");
        return Err(Problem::field("metadata.messageNumber", why));
    }
    let time = time(&metadata.message_time).ok_or_else(|| {
        let why = format!("{:?} is not an RFC 3339 time", json::shortened(&metadata.message_time));
        Problem::field("metadata.messageTime", why)
    })?;
    let raw = envelope.message.map_or("", RawValue::get);
    let content = content(&metadata.message_type, raw, text_bytes_max);
    Ok(Delivery { channel, number, message: RocketMessage { time, content } })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Launched<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    launch_speed: i64,
    #[serde(borrow)]
    mission: Cow<'a, str>,
}

#[derive(Deserialize)]
struct By {
    by: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewMission<'a> {
    #[serde(borrow)]
    new_mission: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Reason<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

fn content(kind: &str, raw: &str, text_bytes_max: usize) -> Content {
    let digest = || crc32c::crc32c_append(crc32c::crc32c(kind.as_bytes()), raw.as_bytes());
    let text = |text: Cow<'_, str>| -> Option<Arc<str>> {
        (text.len() <= text_bytes_max).then(|| Arc::from(text))
    };
    let content = match kind {
        "RocketLaunched" => serde_json::from_str::<Launched<'_>>(raw).ok().and_then(|launched| {
            let kind = text(launched.kind)?;
            let mission = text(launched.mission)?;
            Some(Content::Launched { kind, speed: launched.launch_speed, mission })
        }),
        "RocketSpeedIncreased" => {
            serde_json::from_str::<By>(raw).ok().map(|by| Content::SpeedIncreased(by.by))
        }
        "RocketSpeedDecreased" => {
            serde_json::from_str::<By>(raw).ok().map(|by| Content::SpeedDecreased(by.by))
        }
        "RocketMissionChanged" => serde_json::from_str::<NewMission<'_>>(raw)
            .ok()
            .and_then(|changed| text(changed.new_mission).map(Content::MissionChanged)),
        "RocketExploded" => serde_json::from_str::<Reason<'_>>(raw)
            .ok()
            .and_then(|exploded| text(exploded.reason).map(Content::Exploded)),
        _ => return Content::UnknownType(digest()),
    };
    content.unwrap_or_else(|| Content::Unreadable(digest()))
}

#[cfg(test)]
mod tests;
