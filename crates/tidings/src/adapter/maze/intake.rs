//! Whether a gap has been waited for: only a source that was listened to can have failed to send a
//! number.
//!
//! The machine's clock runs on while its node is busy, has no processor, or holds the source up. So
//! a gap that is due is skipped only when the node has nothing of the source left to apply: nothing
//! read, nothing under way, nothing in the socket. Of a source that never pauses that would never be
//! so. There it is enough that everything is applied that was there when the gap was found to be due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::net::TcpStream;

/// What this node has of its source and has not applied. See the top of this module.
#[derive(Default)]
pub(super) struct Intake {
    /// Of the source that is connected. Owned by its task.
    stream: Mutex<Weak<TcpStream>>,
    /// Something is being read, or was read and is not applied.
    busy: AtomicBool,
    /// What there was when the gap was found to be due is applied.
    waited_out: AtomicBool,
}

impl Intake {
    /// A source is connected, or (an empty one) no longer is.
    pub(super) fn set_stream(&self, stream: Weak<TcpStream>) {
        *self.lock() = stream;
        self.set_busy(false);
        self.set_waited_out(false);
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::SeqCst);
    }

    /// Holds for one gap: a tick takes it back.
    pub(super) fn set_waited_out(&self, waited_out: bool) {
        self.waited_out.store(waited_out, Ordering::SeqCst);
    }

    /// What has come and is not read, in bytes. A system call.
    pub(super) fn unread(&self) -> usize {
        let stream: Option<Arc<TcpStream>> = self.lock().upgrade();
        // A connection that is broken brings nothing more.
        let unread = stream.and_then(|stream| rustix::io::ioctl_fionread(&*stream).ok());
        usize::try_from(unread.unwrap_or(0)).unwrap_or(usize::MAX)
    }

    /// Whether a gap that is due may be skipped. Who is told no looks again when something was
    /// applied.
    pub(super) fn has_waited(&self) -> bool {
        let idle = || !self.busy.load(Ordering::SeqCst);
        // Looked at again at the end: what was unread before may be in hand by then.
        self.waited_out.load(Ordering::SeqCst) || (idle() && self.unread() == 0 && idle())
    }

    fn lock(&self) -> MutexGuard<'_, Weak<TcpStream>> {
        // It is set whole.
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
