//! Where notifications go. Millions of them leave a second, so they are not values that someone
//! owns but calls: a line, lent, and whom it is for.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::structure::graph::UserIndex;

/// Takes notifications, in order, while the machine stands as it was when each was due.
pub trait Sink {
    /// A line is due to these users. The line is as it was read, its end included.
    fn deliver(&mut self, line: &[u8], to: To<'_>);

    /// A user takes part in a follow for the first time and stands at this place from now on:
    /// [`To::Followers`] speaks of places.
    fn placed(&mut self, place: UserIndex, user: u64) {
        let (_, _) = (place, user);
    }

    /// All places are void; they are given anew.
    fn cleared(&mut self) {}
}

/// Whom a notification is for. Copied freely.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    /// Everybody who is connected.
    Everybody,
    /// One user.
    User(u64),
    /// The followers that someone has at this moment.
    Followers {
        /// Where each of them stands. In no order that means anything.
        places: &'a [UserIndex],
        /// The ids of all users, by place.
        ids: &'a [u64],
    },
}

/// A notification that owns what it says: the event of the machine for whoever does not bring a
/// [`Sink`]. It allocates, and is as large as its followers are many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// As it was read, its end included.
    pub line: Vec<u8>,
    /// Whom it is for.
    pub to: Audience,
}

/// Whom a [`Notification`] is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// Everybody who is connected.
    Everybody,
    /// These users.
    Users(Vec<u64>),
}

/// Makes owned events of what is lent.
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

/// For a replay, when nobody is to be told anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn deliver(&mut self, _line: &[u8], _to: To<'_>) {}
}
