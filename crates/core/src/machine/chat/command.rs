//! What is asked of the chat, what it answers, and what it counts.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::structure::inbox::{Bounds, Id, InboxMessage};

/// The bounds of this machine. They decide what apply does, so they are set by a command. What is
/// over a new bound already stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many unread messages a user has, leased ones included. One more is refused.
    pub unread_per_user_max: u32,
    /// How many unread messages all users have. One more is refused.
    pub unread_max: u32,
    /// How many bytes they have: their texts, and for each the name of its user. A message that
    /// would make it more is refused.
    pub unread_bytes_max: u64,
    /// How many idempotency keys are remembered. A message with one more is refused: what was
    /// promised to the others holds.
    pub keys_max: u32,
    /// How long a lease lasts at most. A longer one is made this long.
    pub lease_ms_max: u64,
    /// How long after a take its messages can be put back. Later they stay taken.
    pub put_back_ms_max: u64,
    /// How many takes can be put back in that time. The messages of one more stay taken.
    pub put_backs_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unread_per_user_max: 10_000,
            unread_max: 2_000_000,
            unread_bytes_max: 512 << 20,
            keys_max: 1_000_000,
            lease_ms_max: 3_600_000,
            put_back_ms_max: 60_000,
            put_backs_max: 100_000,
        }
    }
}

impl Limits {
    pub(super) const fn bounds(&self) -> Bounds {
        Bounds {
            per_user_max: self.unread_per_user_max,
            messages_max: self.unread_max,
            bytes_max: self.unread_bytes_max,
        }
    }
}

/// What is asked of the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// From here on these bounds hold.
    Configure(Limits),
    /// A message for a user. One with the id of a message that is there changes nothing.
    Post {
        /// Its name, new for every message that is not a repetition.
        id: Id,
        /// Whom it is for.
        user: Box<str>,
        /// What it says.
        text: Box<str>,
        /// It has expired when it is older than so many seconds.
        timeout_s: u32,
        /// The same key again, with the same user, text and timeout, is the same message.
        key: Option<Box<str>>,
    },
    /// Hands out what a user has, oldest first: for good, or with a lease.
    Take {
        /// Whose.
        user: Box<str>,
        /// At most so many messages.
        limit: u32,
        /// At most so many bytes of text; but if there is any message, one.
        bytes_max: u64,
        /// The messages come back after so many milliseconds (at least 1), unless acknowledged.
        lease_ms: Option<u64>,
    },
    /// A leased message has been dealt with: it is gone.
    Acknowledge {
        /// Whose.
        user: Box<str>,
        /// Which.
        id: Id,
    },
    /// What a take without lease handed out has reached nobody: it goes back in its place.
    PutBack {
        /// Whose.
        user: Box<str>,
        /// The receipt of the take. It is good for one command.
        receipt: Receipt,
        /// All of its messages, or some.
        messages: Vec<InboxMessage>,
    },
}

/// Names a take without lease: whoever has it may put its messages back, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Counts the takes that handed something out, from 1.
    pub take: u64,
    /// When it was.
    pub at: u64,
}

/// What a take handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Oldest first.
    pub messages: Vec<InboxMessage>,
    /// Whether there is more to take at once.
    pub more: bool,
    /// What it takes to put the messages back; `None` with a lease, and when there are none.
    pub receipt: Option<Receipt>,
}

/// What the one who asked gets back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The new bounds hold.
    Configured,
    /// The message is in the inbox.
    Posted,
    /// It was posted before, under this id. Nothing has changed.
    PostedBefore {
        /// The id of the first.
        id: Id,
    },
    /// Its key was used for something else. Nothing has changed.
    KeyConflict,
    /// Its user has [`Limits::unread_per_user_max`] messages. Nothing has changed.
    InboxFull,
    /// All users together have [`Limits::unread_max`] messages or [`Limits::unread_bytes_max`].
    /// Nothing has changed.
    Full,
    /// There are [`Limits::keys_max`] keys. Nothing has changed.
    KeysFull,
    /// What was handed out.
    Taken(Taken),
    /// The message is gone.
    Acknowledged,
    /// No such message is leased. Nothing has changed.
    NotFound,
    /// So many messages are back: none when the receipt was used before or is too old; those that
    /// have expired and those there is no room for are not.
    PutBack(u32),
}

/// What has happened since the beginning. Part of the state, so a restart does not reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages stored.
    pub posted: u64,
    /// Messages whose key had been used for the same.
    pub posted_before: u64,
    /// Messages refused because their key had been used for something else.
    pub key_conflicts: u64,
    /// Messages taken.
    pub taken: u64,
    /// Messages leased, each as often as it was.
    pub leased: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages put back.
    pub put_back: u64,
    /// Receipts refused because they had been used, or never given.
    pub put_back_again: u64,
    /// Messages lost because a quarter beyond a bound there was no room to put them back.
    pub put_back_dropped: u64,
    /// Messages refused because of [`Limits::unread_per_user_max`].
    pub unread_per_user_max: u64,
    /// Messages refused because of [`Limits::unread_max`].
    pub unread_max: u64,
    /// Messages refused because of [`Limits::unread_bytes_max`].
    pub unread_bytes_max: u64,
    /// Messages refused because of [`Limits::keys_max`].
    pub keys_max: u64,
    /// Leases made shorter because of [`Limits::lease_ms_max`].
    pub lease_ms_max: u64,
    /// Takes not put back because of [`Limits::put_back_ms_max`].
    pub put_back_ms_max: u64,
    /// Takes not put back because of [`Limits::put_backs_max`].
    pub put_backs_max: u64,
}
