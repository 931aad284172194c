//! Deterministic state machines: what a service knows, and how a command changes it.
//!
//! # The law
//! The same entries in the same order give the same state, replies and events on every machine,
//! every time. So [`Machine::apply`] reads no clock (time is `at`), draws no random numbers (ids
//! come in with the command), and never lets a hash map's iteration order reach a reply, an event
//! or a snapshot. Settings that change what apply does are commands too: otherwise the same log
//! would mean something else after a restart with other settings. `conformance` holds a machine to
//! all this.

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

mod bytes;
pub mod chat;
pub mod maze;
pub mod rockets;
pub mod tracker;
pub mod traffic;

/// When an entry was made, in milliseconds since 1970-01-01T00:00:00Z. Stamped once, by the node
/// that made it; never less than that of the entry before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// A deterministic state machine. The law is at the top of this module.
pub trait Machine: Send + 'static {
    /// What is logged. Its encoding is a contract with the disk: a published variant never
    /// changes, a new one is added behind it.
    type Command: Serialize + DeserializeOwned + Send;
    /// What the one who asked gets back.
    type Reply: Send;
    /// What watchers get. Kept for a while so that a watcher can resume, hence stored in snapshots.
    type Event: Serialize + DeserializeOwned + Clone + Send;

    /// Applies one command. Replies are part of the law: equal state and command, equal reply.
    fn apply(
        &mut self,
        at: Timestamp,
        command: Self::Command,
        emit: &mut impl FnMut(Self::Event),
    ) -> Self::Reply;

    /// When the machine next wants to act without being asked: the node then logs a tick, and
    /// [`Machine::tick`] is called with a time not before this. `None` for never. O(1).
    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Acts on what is due at `at`.
    fn tick(&mut self, at: Timestamp, emit: &mut impl FnMut(Self::Event)) {
        let (_, _) = (at, emit);
    }

    /// About how many bytes of memory a kept event takes, for the bound on kept events.
    fn event_bytes(event: &Self::Event) -> usize {
        size_of_val(event)
    }

    /// Appends the whole state to `out`. Equal states give equal bytes.
    fn snapshot(&self, out: &mut Vec<u8>);

    /// The machine that [`Machine::snapshot`] was called on.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no snapshot of this machine, or one of a later version.
    fn restore(bytes: &[u8]) -> Result<Self, Malformed>
    where
        Self: Sized;
}

/// Stored bytes that this build cannot read: damaged, or written by a later version. They are
/// never skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be decoded: damaged, or written by a later version of this program")]
pub struct Malformed {
    /// What was being read.
    pub what: &'static str,
}

/// Appends the stored form of a value: [postcard](https://postcard.jamesmunns.com).
pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // A Vec always has room, and the types of this crate have no unserialisable parts.
    let taken = core::mem::take(out);
    if let Ok(bytes) = postcard::to_extend(value, taken) {
        *out = bytes;
    } else {
        debug_assert!(false, "postcard into a Vec does not fail");
    }
}

/// Reads one value from the front of `bytes` and moves `bytes` behind it.
///
/// # Errors
/// [`Malformed`], naming `what`; `bytes` stays where it was.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &mut &[u8]) -> Result<T, Malformed> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| Malformed { what })?;
    *bytes = rest;
    Ok(value)
}
