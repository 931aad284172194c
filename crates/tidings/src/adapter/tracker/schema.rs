//! The JSON of requests and answers, as `/openapi.json` describes it.
#![expect(dead_code, reason = "describes what `post` reads and `list` writes")]

use utoipa::ToSchema;

/// A message that peers relay.
#[derive(ToSchema)]
pub(super) struct Message {
    /// The id, 1 to 256 bytes.
    #[schema(min_length = 1, example = "6f1c")]
    id: String,
    /// The peer that relays it, 1 to 256 bytes; in a list, the peer that relayed it first.
    #[schema(rename = "peerId", min_length = 1, example = "peer-7")]
    peer_id: String,
    /// The content, in base64 (RFC 4648, section 4, padded), at most `tracker.data_bytes_max` bytes.
    #[schema(format = Byte, example = "aGVsbG8=")]
    data: String,
}

/// The outcome of a post.
#[derive(ToSchema)]
pub(super) struct Added {
    #[schema(example = "6f1c")]
    id: String,
    outcome: Outcome,
    /// How many of the oldest messages were evicted for it.
    evicted: u32,
}

/// In a word.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Outcome {
    New,
    Duplicate,
}
