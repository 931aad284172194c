//! The JSON of requests and answers, as `/openapi.json` describes it. `parse` reads messages and `render` writes rockets by hand;
//! tests check both against these structs.

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

/// The envelope of a message.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `parse` reads")]
pub(super) struct Metadata {
    /// The rocket.
    #[schema(format = Uuid, example = "193270a9-c9cf-404a-8f83-838e71d9ae67")]
    channel: String,
    /// The sequence number within the channel, from 1.
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

/// A `CloudEvent` with a message as its data. Its other attributes are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `parse` reads")]
pub(super) struct CloudEvent {
    data: Envelope,
}

/// The outcome of a message.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `parse::outcome_name` gives")]
pub(super) enum Outcome {
    /// Next in order: it has changed the rocket.
    Applied,
    /// Beyond a gap: it is shown already, and held until the gap is filled or dropped.
    Held,
    /// The number had come before.
    Duplicate,
    /// The number had been dropped with its gap.
    Late,
    /// Next in order and consumed, without effect.
    Ignored,
}

/// The answer to a single message, if `Prefer: return=representation` asks for it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    /// The rocket.
    #[schema(format = Uuid)]
    pub(super) channel: String,
    /// The number of the message.
    #[schema(minimum = 1)]
    pub(super) message_number: u64,
    /// The outcome.
    #[schema(value_type = Outcome)]
    pub(super) outcome: &'static str,
}

/// The answer to many messages.
#[derive(Serialize, ToSchema)]
pub(super) struct BulkReceipt {
    /// How many messages were taken.
    pub(super) accepted: u64,
    /// How many had each outcome.
    pub(super) outcomes: Outcomes,
    /// How many were not taken.
    pub(super) refused: u64,
    /// The first messages that were not taken.
    pub(super) rejected: Vec<Rejected>,
}

/// How many messages had each outcome.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Outcomes {
    /// Next in order: they have changed their rocket.
    pub(super) applied: u64,
    /// Beyond a gap.
    pub(super) held: u64,
    /// Their number had come before.
    pub(super) duplicate: u64,
    /// Their number had been dropped with its gap.
    pub(super) late: u64,
    /// Consumed without effect.
    pub(super) ignored: u64,
}

/// A message of a bulk request that was not taken.
#[derive(Serialize, ToSchema)]
pub(super) struct Rejected {
    /// The index in the request, from 0; blank lines are not counted.
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
    /// The mission; null before a message has named it.
    #[schema(required, example = "ARTEMIS")]
    mission: Option<String>,
    /// `exploded`, or else `active`.
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

/// The status of a rocket.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Active,
    Exploded,
}

/// How complete the known messages of a rocket are.
#[derive(Serialize, Deserialize, ToSchema)]
struct Sequence {
    /// The highest known number.
    #[schema(example = 1)]
    last: u64,
    /// All numbers up to this one were applied or dropped.
    #[schema(example = 1)]
    applied: u64,
    /// How many messages are held behind gaps.
    pending: u32,
    /// The gaps: the first and the last number of each.
    #[schema(example = json!([]))]
    missing: Vec<(u64, u64)>,
    /// How many numbers were dropped with their gap.
    lost: u64,
    /// Whether every number up to the highest known one has been applied.
    complete: bool,
}
