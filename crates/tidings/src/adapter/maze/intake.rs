//! Whether a gap has been waited for: only a source that was listened to can have failed to send a number.
//!
//! The machine's clock runs on while its node is busy, gets no processor, or throttles the source. So a gap that is due is
//! skipped only when everything the source had sent by then is applied. The source's task finds that out, and says so here:
//!
//! - When nothing read is left to apply, the task sleeps until the gap is due and then tries to read. An empty socket shows
//!   that the number did not come in time.
//! - A source that never pauses never leaves the socket empty. There it is enough that everything is applied that was there
//!   when the gap was found to be due.
//!
//! The thread that owns the log only reads the value, since it asks under the machine's lock.

use std::sync::atomic::{AtomicU64, Ordering};

use tidings_core::machine::Timestamp;

/// How long the source has been waited for. See the top of this module.
#[derive(Default)]
pub(super) struct Intake {
    /// Everything that the source had sent by this time is applied, in milliseconds of the node's clock.
    waited_until: AtomicU64,
}

impl Intake {
    /// A source is connected, or has gone: nothing has been waited for.
    pub(super) fn reset(&self) {
        self.waited_until.store(0, Ordering::SeqCst);
    }

    /// Everything that the source had sent by `at` is applied.
    pub(super) fn set_waited_until(&self, at: Timestamp) {
        self.waited_until.fetch_max(at.0, Ordering::SeqCst);
    }

    /// Returns whether a gap that is due at `due` may be skipped.
    pub(super) fn has_waited_until(&self, due: Timestamp) -> bool {
        due.0 <= self.waited_until.load(Ordering::SeqCst)
    }
}
