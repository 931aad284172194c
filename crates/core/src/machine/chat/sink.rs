//! Where events go: calls that lend the name of a user, so that an event nobody waits for costs
//! nothing.

use alloc::boxed::Box;

use serde::{Deserialize, Serialize};

/// Takes events, in order, while the machine stands as it was when each happened.
pub trait Sink {
    /// Something has become available to take for this user: a message was posted or put back, or
    /// a lease has ended.
    fn arrived(&mut self, user: &str);
}

/// An event that owns what it says, for whoever does not bring a [`Sink`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Something has become available to take.
    Arrived {
        /// For whom.
        user: Box<str>,
    },
}

/// Makes owned events of what is lent.
pub(super) struct Owning<'a, F>(pub(super) &'a mut F);

impl<F: FnMut(Event)> Sink for Owning<'_, F> {
    fn arrived(&mut self, user: &str) {
        (self.0)(Event::Arrived { user: user.into() });
    }
}

/// For a replay, when nobody is to be told anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn arrived(&mut self, _user: &str) {}
}
