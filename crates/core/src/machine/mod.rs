//! Deterministic state machines. [`Machine`] is the contract, with its rules; each module below holds the
//! machine of one service.

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

mod bytes;
pub mod chat;
pub mod maze;
pub mod rockets;
pub mod tracker;
pub mod traffic;

/// The time of an entry, in milliseconds since 1970-01-01T00:00:00Z. The node that appends the entry
/// stamps it once; it is never lower than the time of the entry before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// A deterministic state machine: the state of a service, and how a command changes it.
///
/// ```text
///            apply(at, command) -> reply
///    log  ────────────────────────────►  machine  ──── emit(event) ───►  watchers
///            tick(at)                       │  ▲
///                                snapshot() ▼  │ restore()
///                                          bytes
/// ```
///
/// # Rules
///
/// The same entries in the same order give the same state, replies and events on every node, every time.
/// Replicas agree, and a replay rebuilds the state, only because of that. It follows that:
///
/// - [`Machine::apply`] and [`Machine::tick`] read no clock (time is `at`) and draw no random numbers (ids
///   come with the command).
/// - A reply, an event or a snapshot never exposes hash-map iteration order.
/// - Settings that change the result of `apply` are commands. Otherwise a restart with other settings
///   would replay the same log into another state.
/// - [`Machine::restore`] gives a machine that behaves exactly like the one that was stored.
///
/// The `conformance` module (a feature of this crate) tests a machine against these rules.
pub trait Machine: Send + 'static {
    /// What the log stores. Its encoding is a contract with the disk: a published variant never changes,
    /// new variants are added at the end.
    type Command: Serialize + DeserializeOwned + Send;
    /// What the proposer of a command gets back.
    type Reply: Send;
    /// What watchers get. Recent events are kept, so that a watcher can resume, and hence are part of
    /// snapshots of the node.
    type Event: Serialize + DeserializeOwned + Clone + Send;

    /// Applies one command, passes the resulting events to `emit` in order, and returns the reply.
    fn apply(
        &mut self,
        at: Timestamp,
        command: Self::Command,
        emit: &mut impl FnMut(Self::Event),
    ) -> Self::Reply;

    /// Returns when the machine next has to act by itself. The node then logs a tick, and calls
    /// [`Machine::tick`] with a time not before that. `None` means never. O(1).
    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Acts on everything that is due at `at`, or on a bounded part of it: then the next deadline is soon.
    fn tick(&mut self, at: Timestamp, emit: &mut impl FnMut(Self::Event)) {
        let _ = at;
        let _ = emit;
    }

    /// Returns roughly how many bytes of memory a kept event takes, for the bound on kept events.
    fn event_bytes(event: &Self::Event) -> usize {
        size_of_val(event)
    }

    /// Appends the whole state to `out`. Equal states give equal bytes.
    fn snapshot(&self, out: &mut Vec<u8>);

    /// Restores the machine that [`Machine::snapshot`] stored.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not a snapshot of this machine, or were written by a later version.
    fn restore(bytes: &[u8]) -> Result<Self, Malformed>
    where
        Self: Sized;
}

/// Stored bytes that this build cannot read: damaged, or written by a later version. They are never
/// skipped, because a machine that skips an entry diverges from its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be decoded: damaged, or written by a later version of this program")]
pub struct Malformed {
    /// What was being decoded.
    pub what: &'static str,
}

/// Appends the stored form of a value, in [postcard](https://postcard.jamesmunns.com) encoding.
pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // A Vec always has room, and every type of this crate can be serialised.
    let taken = core::mem::take(out);
    if let Ok(bytes) = postcard::to_extend(value, taken) {
        *out = bytes;
    } else {
        debug_assert!(false, "postcard into a Vec does not fail");
    }
}

/// Decodes one value from the front of `bytes` and advances `bytes` past it.
///
/// # Errors
/// [`Malformed`], naming `what`; `bytes` is not advanced.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &mut &[u8]) -> Result<T, Malformed> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| Malformed { what })?;
    *bytes = rest;
    Ok(value)
}

#[cfg(test)]
mod tests;
