//! What goes in and out as JSON, as `/openapi.json` describes it. Messages are read by `parse` and
//! rockets written by `render`; tests hold both to these structs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A message of a rocket.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `parse` reads")]
pub(super) struct Envelope {
    metadata: Metadata,
    /// Depends on the type of message: `type`, `launchSpeed` and `mission` for `RocketLaunched`; `by` for
    /// `RocketSpeedIncreased` and `RocketSpeedDecreased`; `newMission` for `RocketMissionChanged`; `reason`
    /// for `RocketExploded`. What does not fit is consumed without effect.
    #[schema(value_type = Object, example = json!({"type": "Falcon-9", "launchSpeed": 500, "mission": "ARTEMIS"}))]
    message: serde_json::Value,
}

/// Where a message belongs.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `parse` reads")]
pub(super) struct Metadata {
    /// The rocket.
    #[schema(format = Uuid, example = "193270a9-c9cf-404a-8f83-838e71d9ae67")]
    channel: String,
    /// Its place within the channel, from 1.
    #[schema(minimum = 1, example = 1)]
    message_number: i64,
    /// When it was sent. Never used for order.
    #[schema(format = DateTime, example = "2022-02-02T19:39:05.86337+01:00")]
    message_time: String,
    /// `RocketLaunched`, `RocketSpeedIncreased`, `RocketSpeedDecreased`, `RocketMissionChanged` or
    /// `RocketExploded`. A message of any other type is consumed without effect.
    #[schema(example = "RocketLaunched")]
    message_type: String,
}

/// A `CloudEvent` with a message as its data. Its other attributes are not looked at.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `parse` reads")]
pub(super) struct CloudEvent {
    data: Envelope,
}

/// What became of a message.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `parse::outcome_name` gives")]
pub(super) enum Outcome {
    /// It was next in order and has changed the rocket.
    Applied,
    /// It is beyond a gap: shown already, and kept until the gap is filled or given up.
    Held,
    /// Its number was there before.
    Duplicate,
    /// Its number had been given up.
    Late,
    /// It was next in order and is consumed, but has no effect.
    Ignored,
}

/// The answer to a single message, when asked for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    /// The rocket.
    #[schema(format = Uuid)]
    pub(super) channel: String,
    /// The number of the message.
    #[schema(minimum = 1)]
    pub(super) message_number: u64,
    /// What became of it.
    #[schema(value_type = Outcome)]
    pub(super) outcome: &'static str,
}

/// The answer to many messages.
#[derive(Serialize, ToSchema)]
pub(super) struct BulkReceipt {
    /// How many were taken.
    pub(super) accepted: u64,
    /// What became of them.
    pub(super) outcomes: Outcomes,
    /// How many were not taken.
    pub(super) refused: u64,
    /// The first of those that were not taken.
    pub(super) rejected: Vec<Rejected>,
}

/// How many messages met each outcome.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Outcomes {
    /// Next in order; they have changed their rocket.
    pub(super) applied: u64,
    /// Beyond a gap.
    pub(super) held: u64,
    /// There before.
    pub(super) duplicate: u64,
    /// Given up before they came.
    pub(super) late: u64,
    /// Without effect.
    pub(super) ignored: u64,
}

/// A message of many that was not taken.
#[derive(Serialize, ToSchema)]
pub(super) struct Rejected {
    /// Its place among them, from 0; blank lines are not counted.
    pub(super) index: u64,
    /// What was wrong with it.
    pub(super) reason: String,
}

/// A rocket.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rocket {
    /// Its channel.
    #[schema(format = Uuid, example = "193270a9-c9cf-404a-8f83-838e71d9ae67")]
    id: String,
    /// The type of rocket; null before its launch is known.
    #[serde(rename = "type")]
    #[schema(required, example = "Falcon-9")]
    kind: Option<String>,
    /// Its speed; counted from 0 before its launch is known.
    #[schema(example = 500)]
    speed: i64,
    /// What it is for; null while nothing has said so.
    #[schema(required, example = "ARTEMIS")]
    mission: Option<String>,
    /// Whether it is still there.
    status: Status,
    /// Whether it has exploded.
    exploded: bool,
    /// Why it exploded, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The time of its first message, in order.
    #[schema(format = DateTime, example = "2022-02-02T18:39:05.86337Z")]
    created_at: String,
    /// The time of the last message, in order, that changed it.
    #[schema(format = DateTime, example = "2022-02-02T18:39:05.86337Z")]
    updated_at: String,
    sequence: Sequence,
}

/// Whether a rocket is still there.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Active,
    Exploded,
}

/// How complete the knowledge of a rocket is.
#[derive(Serialize, Deserialize, ToSchema)]
struct Sequence {
    /// The highest number known.
    #[schema(example = 1)]
    last: u64,
    /// All numbers up to this one have been applied or given up.
    #[schema(example = 1)]
    applied: u64,
    /// How many messages are held behind gaps.
    pending: u32,
    /// The gaps: first and last number of each.
    #[schema(example = json!([]))]
    missing: Vec<(u64, u64)>,
    /// How many numbers were given up.
    lost: u64,
    /// Whether every number up to the highest known one has been applied.
    complete: bool,
}
