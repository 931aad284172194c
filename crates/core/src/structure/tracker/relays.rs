//! How often each peer relayed each tracked message. Stands beside a tracker and costs nothing
//! where it is not made.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::Place;

/// What became of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// This peer has relayed this message so often, this time included.
    Counted(u32),
    /// As many other peers as can be told apart have relayed it: counted among the others.
    Other,
    /// Another message stands in its place by now, or the tracker has more places than this one
    /// was made for: not counted.
    Gone,
}

/// Counts by message and peer: at most `peers_max` peers for each message, the first ones; what
/// comes from more of them is one count for all. The counts of a message are forgotten with it.
///
/// ```
/// use core::num::NonZeroU32;
/// use tidings_core::structure::tracker::{Inserted, Message, Relayed, Relays, Tracker};
///
/// let capacity = NonZeroU32::new(100).unwrap();
/// let mut tracker = Tracker::new(capacity, 0x5eed);
/// let mut relays = Relays::new(capacity, NonZeroU32::new(8).unwrap());
/// for (peer, counted) in [("x", 1), ("y", 1), ("x", 2)] {
///     let (_, place) = tracker.insert_placed(Message::new("id", peer, "data"));
///     assert_eq!(relays.count(place, peer), Relayed::Counted(counted));
/// }
/// let place = tracker.place(b"id").unwrap();
/// assert!(relays.peers(place).eq([(&"x", 2), (&"y", 1)]));
/// ```
#[derive(Clone, Debug)]
pub struct Relays<P> {
    /// For each slot of the tracker, whose counts stand there.
    owners: Box<[Owner]>,
    /// For each slot `peers_max` in a row, used from the left.
    counts: Box<[Option<(P, u32)>]>,
    peers_max: NonZeroU32,
}

/// Whose counts stand in a slot.
#[derive(Clone, Copy, Debug)]
struct Owner {
    tenancy: u32,
    /// What was relayed by peers beyond the first `peers_max`.
    others: u32,
}

impl Owner {
    /// Whether the counts are of a message that stood here before this one. Tenancies wrap: of two,
    /// the earlier is the one from which it is less than half way round to the other.
    const fn is_before(self, place: Place) -> bool {
        place.tenancy.wrapping_sub(self.tenancy) < 1 << 31
    }
}

impl<P: Eq> Relays<P> {
    /// For a tracker of this capacity. Allocates all it will ever have: for each message 8 bytes
    /// and `peers_max` peers with a count. O(capacity × `peers_max`).
    ///
    /// # Panics
    /// When that is more than an allocation can have.
    pub fn new(capacity: NonZeroU32, peers_max: NonZeroU32) -> Self {
        let slots = capacity.get() as usize;
        let mut counts = Vec::new();
        counts.resize_with(slots.saturating_mul(peers_max.get() as usize), || None);
        Self {
            owners: alloc::vec![Owner { tenancy: 0, others: 0 }; slots].into_boxed_slice(),
            counts: counts.into_boxed_slice(),
            peers_max,
        }
    }

    /// How many peers are told apart for each message.
    pub const fn peers_max(&self) -> NonZeroU32 {
        self.peers_max
    }

    /// Counts one relay, of what stands at a place, by a peer. Counts stop at `u32::MAX`.
    /// O(`peers_max`), allocates nothing.
    pub fn count(&mut self, place: Place, peer: P) -> Relayed {
        match self.owners.get(place.slot as usize) {
            Some(owner) if owner.tenancy == place.tenancy => {}
            Some(owner) if owner.is_before(place) => self.empty(place),
            Some(_) | None => return Relayed::Gone,
        }
        let range = self.range(place);
        for stands in self.counts.get_mut(range).unwrap_or_default() {
            match stands {
                Some((other, count)) if *other == peer => {
                    *count = count.saturating_add(1);
                    return Relayed::Counted(*count);
                }
                Some(_) => {}
                None => {
                    *stands = Some((peer, 1));
                    return Relayed::Counted(1);
                }
            }
        }
        if let Some(owner) = self.owners.get_mut(place.slot as usize) {
            owner.others = owner.others.saturating_add(1);
        }
        Relayed::Other
    }

    /// Puts counts where none stand yet: those of a message that stood elsewhere before. Of more than
    /// `peers_max` peers the last ones are counted among the others. O(`peers`), allocates nothing.
    pub fn put(&mut self, place: Place, peers: impl IntoIterator<Item = (P, u32)>, others: u32) {
        if place.slot as usize >= self.owners.len() {
            return;
        }
        self.empty(place);
        let range = self.range(place);
        let mut stands = self.counts.get_mut(range).unwrap_or_default().iter_mut();
        let mut rest = others;
        for (peer, count) in peers {
            match stands.next() {
                Some(stands) => *stands = Some((peer, count)),
                None => rest = rest.saturating_add(count),
            }
        }
        if let Some(owner) = self.owners.get_mut(place.slot as usize) {
            owner.others = rest;
        }
    }

    /// Who relayed what stands at a place and how often, in the order of their first relay.
    pub fn peers(&self, place: Place) -> impl Iterator<Item = (&P, u32)> {
        let range = if self.owner(place).is_some() { self.range(place) } else { 0..0 };
        let counts = self.counts.get(range).unwrap_or_default();
        counts.iter().map_while(|stands| stands.as_ref().map(|(peer, count)| (peer, *count)))
    }

    /// How often other peers relayed it, beyond those that are told apart.
    pub fn others(&self, place: Place) -> u32 {
        self.owner(place).map_or(0, |owner| owner.others)
    }

    /// Lets go of the peers of a message that is gone; without this they go when another message
    /// that is relayed stands where it stood. O(`peers_max`).
    pub fn forget(&mut self, place: Place) {
        if self.owner(place).is_some() {
            self.empty(place);
        }
    }

    fn owner(&self, place: Place) -> Option<&Owner> {
        self.owners.get(place.slot as usize).filter(|owner| owner.tenancy == place.tenancy)
    }

    fn empty(&mut self, place: Place) {
        let range = self.range(place);
        self.counts.get_mut(range).unwrap_or_default().fill_with(|| None);
        if let Some(owner) = self.owners.get_mut(place.slot as usize) {
            *owner = Owner { tenancy: place.tenancy, others: 0 };
        }
    }

    fn range(&self, place: Place) -> core::ops::Range<usize> {
        let peers_max = self.peers_max.get() as usize;
        let from = (place.slot as usize).saturating_mul(peers_max);
        from..from.saturating_add(peers_max)
    }
}

#[cfg(test)]
mod tests;
