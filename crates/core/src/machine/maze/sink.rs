//! Where notifications go. Millions of them are sent each second, so they are calls that lend a line and
//! its audience, rather than owned values.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::structure::graph::UserIndex;

/// Receives notifications in order. When a method is called, the machine has the state right after the
/// event.
pub trait Sink {
    /// A line is due to these users. It is passed as it was read, including its end.
    fn deliver(&mut self, line: &[u8], to: To<'_>);

    /// A user takes part in a follow for the first time and has this index from now on:
    /// [`To::Followers`] refers to users by index.
    fn placed(&mut self, place: UserIndex, user: u64) {
        let _ = place;
        let _ = user;
    }

    /// All indices are void and will be assigned again.
    fn cleared(&mut self) {}
}

/// The audience of a notification.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    /// Everybody who is connected.
    Everybody,
    /// One user.
    User(u64),
    /// The followers that some user has at this moment.
    Followers {
        /// The index of each follower, in no meaningful order.
        places: &'a [UserIndex],
        /// The ids of all users, by index.
        ids: &'a [u64],
    },
}

/// An owned notification, for callers without a [`Sink`]. It allocates, and its size grows with the number
/// of followers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The line as it was read, including its end.
    pub line: Vec<u8>,
    /// The audience.
    pub to: Audience,
}

/// The audience of a [`Notification`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// Everybody who is connected.
    Everybody,
    /// These users.
    Users(Vec<u64>),
}

/// Turns borrowed notifications into owned ones.
pub(super) struct Owning<'a, F>(pub(super) &'a mut F);

impl<F: FnMut(Notification)> Sink for Owning<'_, F> {
    fn deliver(&mut self, line: &[u8], to: To<'_>) {
        let to = match to {
            To::Everybody => Audience::Everybody,
            To::User(id) => Audience::Users([id].into()),
            To::Followers { places, ids } => {
                let id = |place: &UserIndex| ids.get(*place as usize).copied();
                Audience::Users(places.iter().filter_map(id).collect())
            }
        };
        (self.0)(Notification { line: line.to_vec(), to });
    }
}

/// Discards all notifications, for a replay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn deliver(&mut self, _line: &[u8], _to: To<'_>) {}
}
