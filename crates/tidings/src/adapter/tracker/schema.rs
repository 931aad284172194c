//! What goes in and out, described.
#![expect(dead_code, reason = "describes what `post` reads and `list` writes")]

use utoipa::ToSchema;

/// A message that peers relay.
#[derive(ToSchema)]
pub(super) struct Message {
    /// What tells it from others, 1 to 256 bytes.
    #[schema(min_length = 1, example = "6f1c")]
    id: String,
    /// Who relays it, 1 to 256 bytes; when listed: who did first.
    #[schema(rename = "peerId", min_length = 1, example = "peer-7")]
    peer_id: String,
    /// What it says, in base64 (RFC 4648, section 4, padded), at most `tracker.data_bytes_max` bytes.
    #[schema(format = Byte, example = "aGVsbG8=")]
    data: String,
}

/// What became of a message.
#[derive(ToSchema)]
pub(super) struct Added {
    #[schema(example = "6f1c")]
    id: String,
    outcome: Outcome,
    /// How many of the oldest messages had to go for it.
    evicted: u32,
}

/// In a word.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Outcome {
    New,
    Duplicate,
}
