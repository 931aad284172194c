//! What a rocket says: the parts of a message, as they are stored.

use alloc::sync::Arc;
use core::fmt;

use serde::{Deserialize, Serialize};

/// The highest message number that is taken: numbers fit a signed 64-bit integer, because most
/// who read them elsewhere have no other.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// Whose messages: a UUID, shown in its hyphenated lower-case form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Channel(pub [u8; 16]);

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The time a message claims to be from. Shown, and never used for order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageTime {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

/// One message of a channel, without its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RocketMessage {
    /// When it claims to have been sent.
    pub time: MessageTime,
    /// What it says.
    pub content: Content,
}

/// What a message says. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The rocket took off.
    Launched {
        /// The type of rocket.
        kind: Arc<str>,
        /// Its speed from now on.
        speed: i64,
        /// What it is for.
        mission: Arc<str>,
    },
    /// Faster by so much.
    SpeedIncreased(i64),
    /// Slower by so much.
    SpeedDecreased(i64),
    /// It is for something else now.
    MissionChanged(Arc<str>),
    /// It is no more, for this reason.
    Exploded(Arc<str>),
    /// A type of message that is not known here. The digest of its text tells a conflict.
    UnknownType(u32),
    /// A known type with content that cannot be read. The digest of its text tells a conflict.
    Unreadable(u32),
}
