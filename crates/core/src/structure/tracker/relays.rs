//! How often each peer relayed each tracked message. Separate from the tracker, so that it costs nothing
//! where relays are not counted.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::Place;

/// The result of counting a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// This peer has relayed this message this often, including now.
    Counted(u32),
    /// The bound on peers is reached: counted among the others.
    Other,
    /// Not counted: another message is in that slot now, or the tracker has more slots than this was made
    /// for.
    Gone,
}

/// Counts by message and peer: separately for the first `peers_max` peers of each message, together for all
/// others. The counts of a message are forgotten with it.
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
    /// For each slot of the tracker, whose counts it has.
    owners: Box<[Owner]>,
    /// `peers_max` entries in a row for each slot, filled from the left.
    counts: Box<[Option<(P, u32)>]>,
    peers_max: NonZeroU32,
}

/// The message whose counts are in a slot.
#[derive(Clone, Copy, Debug)]
struct Owner {
    tenancy: u32,
    /// Relays by peers beyond the first `peers_max`.
    others: u32,
}

impl Owner {
    /// Returns whether the counts belong to an earlier message of this slot. Tenancies wrap: of two, the
    /// earlier is the one from which the other is less than half a round away.
    const fn is_before(self, place: Place) -> bool {
        place.tenancy.wrapping_sub(self.tenancy) < 1 << 31
    }
}

impl<P: Eq> Relays<P> {
    /// Returns counts for a tracker of this capacity. Allocates all the memory it will ever have: 8 bytes and
    /// `peers_max` peers with a count for each message. O(capacity × `peers_max`).
    ///
    /// # Panics
    /// When that exceeds the maximum size of an allocation.
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

    /// Returns how many peers are counted separately for each message.
    pub const fn peers_max(&self) -> NonZeroU32 {
        self.peers_max
    }

    /// Counts one relay by a peer of the message at a place. Counts saturate at `u32::MAX`. O(`peers_max`),
    /// allocates nothing.
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

    /// Sets the counts of a message, which has moved here from another slot. Peers beyond `peers_max` are
    /// counted among the others. O(`peers`), allocates nothing.
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

    /// Returns which peers relayed a message and how often, in the order of their first relay.
    pub fn peers(&self, place: Place) -> impl Iterator<Item = (&P, u32)> {
        let range = if self.owner(place).is_some() { self.range(place) } else { 0..0 };
        let counts = self.counts.get(range).unwrap_or_default();
        counts.iter().map_while(|stands| stands.as_ref().map(|(peer, count)| (peer, *count)))
    }

    /// Returns how often other peers relayed a message, beyond those counted separately.
    pub fn others(&self, place: Place) -> u32 {
        self.owner(place).map_or(0, |owner| owner.others)
    }

    /// Drops the peers of a message that is gone. Otherwise they are dropped when another relayed message
    /// occupies the slot. O(`peers_max`).
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
