//! The chat's commands, replies and counters.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::structure::inbox::{Bounds, Id, InboxMessage};

/// The bounds of this machine. They affect the result of a command, so a command sets them. What already
/// exceeds a new bound stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most unread messages of one user, leased ones included. One more is rejected.
    pub unread_per_user_max: u32,
    /// The most unread messages of all users. One more is rejected.
    pub unread_max: u32,
    /// The most bytes of all unread messages: their texts, and for each the name of its user. A message
    /// that would exceed it is rejected.
    pub unread_bytes_max: u64,
    /// The most idempotency keys. A message with one more is rejected rather than evicting an older key,
    /// whose promise still holds.
    pub keys_max: u32,
    /// The longest lease. A longer one is shortened to this.
    pub lease_ms_max: u64,
    /// How long after a take its messages can be put back. Later they stay taken.
    pub put_back_ms_max: u64,
    /// The most takes that can be put back in that time. The messages of one more stay taken.
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

/// A command to the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sets the bounds.
    Configure(Limits),
    /// Posts a message to a user. A message with the id of an existing one changes nothing.
    Post {
        /// The id of the message: new for every message that is not a repetition.
        id: Id,
        /// The recipient.
        user: Box<str>,
        /// The text.
        text: Box<str>,
        /// The message expires when it is older than this many seconds.
        timeout_s: u32,
        /// An idempotency key: the same key with the same user, text and timeout is the same message.
        key: Option<Box<str>>,
    },
    /// Hands out a user's messages, oldest first: for good, or with a lease.
    Take {
        /// The user.
        user: Box<str>,
        /// The most messages to hand out.
        limit: u32,
        /// The most bytes of text to hand out; if there is any message, at least one is handed out.
        bytes_max: u64,
        /// Leased messages return after this many milliseconds (at least 1), unless acknowledged.
        lease_ms: Option<u64>,
    },
    /// Removes a leased message, because its reader has processed it.
    Acknowledge {
        /// The user.
        user: Box<str>,
        /// The message.
        id: Id,
    },
    /// Returns messages to their places, because those that a take handed out reached nobody.
    PutBack {
        /// The user.
        user: Box<str>,
        /// The receipt of the take. It is valid for one command.
        receipt: Receipt,
        /// All messages of the take, or some of them.
        messages: Vec<InboxMessage>,
    },
}

/// Identifies a take without a lease. Its holder may put the messages back, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The number of the take, among those that handed out messages, from 1.
    pub take: u64,
    /// The time of the take.
    pub at: u64,
}

/// The result of a take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The messages, oldest first.
    pub messages: Vec<InboxMessage>,
    /// Whether more messages can be taken immediately.
    pub more: bool,
    /// Allows putting the messages back; `None` with a lease, and when there are no messages.
    pub receipt: Option<Receipt>,
}

/// What the proposer of a command gets back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The bounds are set.
    Configured,
    /// The message is in the inbox.
    Posted,
    /// The message was posted before, under this id. Nothing has changed.
    PostedBefore {
        /// The id of the first message.
        id: Id,
    },
    /// The key was used with other content. Nothing has changed.
    KeyConflict,
    /// The user has [`Limits::unread_per_user_max`] messages. Nothing has changed.
    InboxFull,
    /// All users together have [`Limits::unread_max`] messages or [`Limits::unread_bytes_max`].
    /// Nothing has changed.
    Full,
    /// There are [`Limits::keys_max`] keys. Nothing has changed.
    KeysFull,
    /// The messages that were handed out.
    Taken(Taken),
    /// The message is gone.
    Acknowledged,
    /// No such message is leased. Nothing has changed.
    NotFound,
    /// How many messages are back. None when the receipt was used before or is too old; messages that
    /// have expired, or for which there is no room, are not counted.
    PutBack(u32),
}

/// Counters since the beginning. Part of the state, so that a restart does not reset them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages stored.
    pub posted: u64,
    /// Messages whose key had been used with the same content.
    pub posted_before: u64,
    /// Messages rejected because their key had been used with other content.
    pub key_conflicts: u64,
    /// Messages taken.
    pub taken: u64,
    /// Messages leased, counted once for each lease.
    pub leased: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages put back.
    pub put_back: u64,
    /// Receipts rejected because they had been used, or never existed.
    pub put_back_again: u64,
    /// Messages lost because there was no room to put them back, even a quarter beyond a bound.
    pub put_back_dropped: u64,
    /// Messages rejected because of [`Limits::unread_per_user_max`].
    pub unread_per_user_max: u64,
    /// Messages rejected because of [`Limits::unread_max`].
    pub unread_max: u64,
    /// Messages rejected because of [`Limits::unread_bytes_max`].
    pub unread_bytes_max: u64,
    /// Messages rejected because of [`Limits::keys_max`].
    pub keys_max: u64,
    /// Leases shortened because of [`Limits::lease_ms_max`].
    pub lease_ms_max: u64,
    /// Takes not put back because of [`Limits::put_back_ms_max`].
    pub put_back_ms_max: u64,
    /// Takes not put back because of [`Limits::put_backs_max`].
    pub put_backs_max: u64,
}
