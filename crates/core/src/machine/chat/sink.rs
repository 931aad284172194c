//! Where events go. A sink borrows the name of the user, so that an event costs nothing when nobody waits
//! for it.

use alloc::boxed::Box;

use serde::{Deserialize, Serialize};

/// Receives events in order. When a method is called, the machine has the state right after the event.
pub trait Sink {
    /// Messages have become available to this user: one was posted or put back, or a lease has ended.
    fn arrived(&mut self, user: &str);
}

/// An owned event, for callers without a [`Sink`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Messages have become available.
    Arrived {
        /// The user.
        user: Box<str>,
    },
}

/// Turns borrowed events into owned ones.
pub(super) struct Owning<'a, F>(pub(super) &'a mut F);

impl<F: FnMut(Event)> Sink for Owning<'_, F> {
    fn arrived(&mut self, user: &str) {
        (self.0)(Event::Arrived { user: user.into() });
    }
}

/// Discards all events, for a replay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn arrived(&mut self, _user: &str) {}
}
