//! The parts of a message, as they are stored.

use alloc::sync::Arc;
use core::fmt;

use serde::{Deserialize, Serialize};

/// The highest accepted message number. Numbers fit a signed 64-bit integer, because many clients have no
/// unsigned one.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// A channel: a UUID, displayed in hyphenated lower-case form.
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

/// The time that a message claims to be from. Displayed, but never used for ordering.
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
    /// Its content.
    pub content: Content,
}

/// The content of a message. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The rocket took off.
    Launched {
        /// The type of rocket.
        kind: Arc<str>,
        /// Its speed after the launch.
        speed: i64,
        /// Its mission.
        mission: Arc<str>,
    },
    /// The speed increases by this amount.
    SpeedIncreased(i64),
    /// The speed decreases by this amount.
    SpeedDecreased(i64),
    /// The rocket has a new mission.
    MissionChanged(Arc<str>),
    /// The rocket exploded, for this reason.
    Exploded(Arc<str>),
    /// An unknown type of message. The digest of its text reveals a conflict.
    UnknownType(u32),
    /// A known type with unreadable content. The digest of its text reveals a conflict.
    Unreadable(u32),
}
