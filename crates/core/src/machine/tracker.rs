//! The tracker: the last messages that peers have relayed, distinct by id, in order of arrival, with how
//! often each peer relayed each message.
//!
//! # Guarantees
//! - The first message with an id stays, at its position, whoever relays it again and with whatever data. A
//!   message that was removed or dropped and comes again is a new one, and the newest.
//! - The oldest message is dropped when [`Limits::capacity`] or [`Limits::bytes_max`] is exceeded; nothing
//!   else ever drops a message.
//! - For each message the first [`Limits::peers_max`] peers that relay it are counted separately, all others
//!   together. The counts leave with the message.
//! - Each message has an arrival number, which is never reused. A list that is read page by page continues
//!   behind that number, whatever has been removed meanwhile.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{Machine, Malformed, Timestamp, decode, encode};
use crate::structure::tracker::{self, Inserted, Place, Relayed, Relays, Tracked};

mod command;

pub use command::{Command, Counters, Event, Limits, Reply};

/// A message as it first arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedMessage {
    /// Identifies the message.
    pub id: Box<str>,
    /// The first peer that relayed it.
    pub peer_id: Box<str>,
    /// The content.
    #[serde(with = "crate::machine::bytes")]
    pub data: Vec<u8>,
    /// Its arrival number, higher than that of every earlier message.
    pub arrival: u64,
}

impl TrackedMessage {
    fn bytes(&self) -> u64 {
        (self.id.len() + self.peer_id.len() + self.data.len()) as u64
    }
}

impl Tracked for TrackedMessage {
    type Id = str;

    fn id(&self) -> &str {
        &self.id
    }
}

/// The tracker machine. See the documentation of this module.
#[derive(Debug)]
pub struct Tracker {
    limits: Limits,
    messages: tracker::Tracker<TrackedMessage>,
    /// Created with the first message, because it takes 24 bytes for each possible peer of each possible
    /// message.
    relays: Option<Relays<Box<str>>>,
    /// The number of the last arrival.
    arrivals: u64,
    /// The bytes of all messages.
    bytes: u64,
    counters: Counters,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// Returns an empty structure. Its seed is drawn like that of a hash table, so that strangers cannot choose
/// ids that collide; it never shows in a reply or a snapshot.
fn empty(limits: Limits) -> tracker::Tracker<TrackedMessage> {
    let seed = hashbrown::DefaultHashBuilder::default().hash_one(limits.capacity);
    tracker::Tracker::new(NonZeroU32::new(limits.capacity).unwrap_or(NonZeroU32::MIN), seed)
}

impl Tracker {
    /// Returns an empty machine. Allocates what [`Limits::capacity`] messages need besides their contents.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            messages: empty(limits),
            relays: None,
            arrivals: 0,
            bytes: 0,
            counters: Counters::default(),
        }
    }

    /// Returns the current bounds.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns what has happened since the beginning.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the bytes of all messages: ids, first peers and data.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how full the structure is, and how well its hash distributes the ids.
    pub fn stats(&self) -> tracker::Stats {
        self.messages.stats()
    }

    /// Returns the message with this id, if it is tracked. O(1).
    pub fn get(&self, id: &str) -> Option<&TrackedMessage> {
        self.messages.get(id).ok()
    }

    /// Returns which peers relayed a message and how often, in the order of their first relay, and how
    /// often all others did together. `None` when it is not tracked. O([`Limits::peers_max`]).
    pub fn peers(&self, id: &str) -> Option<(impl Iterator<Item = (&str, u32)>, u32)> {
        let place = self.messages.place(id).ok()?;
        let relays = self.relays.as_ref();
        let peers = relays.into_iter().flat_map(move |relays| relays.peers(place));
        let others = relays.map_or(0, |relays| relays.others(place));
        Some((peers.map(|(peer, count)| (&**peer, count)), others))
    }

    /// Returns the messages in order of arrival: all, or those after an arrival number and the id it
    /// belonged to. O(1) to start if that message is still tracked, otherwise O(messages before it).
    pub fn messages<'a>(
        &'a self,
        after: Option<(u64, &str)>,
    ) -> impl Iterator<Item = &'a TrackedMessage> {
        let arrival = after.map_or(0, |(arrival, _)| arrival);
        let stands = after.filter(|(_, id)| self.get(id).is_some_and(|m| m.arrival == arrival));
        let behind = stands.and_then(|(_, id)| self.messages.iter_after(id).ok());
        let all = behind.is_none().then(|| self.messages.iter()).into_iter().flatten();
        let all = all.skip_while(move |message| message.arrival <= arrival);
        behind.into_iter().flatten().chain(all)
    }

    fn configure(&mut self, limits: Limits) {
        let before = core::mem::replace(&mut self.limits, limits);
        if (limits.capacity, limits.peers_max) != (before.capacity, before.peers_max) {
            let mut messages = core::mem::replace(&mut self.messages, empty(limits));
            let relays = self.relays.take();
            // Messages beyond the new capacity need not be moved first.
            for _ in self.messages.capacity()..messages.len() {
                if let Some(oldest) = messages.pop_oldest() {
                    self.bytes -= oldest.bytes();
                    self.counters.capacity += 1;
                }
            }
            let counts = |place| {
                let relays = relays.as_ref();
                let peers = relays.into_iter().flat_map(move |relays| relays.peers(place));
                let peers = peers.map(|(peer, count)| (peer.clone(), count)).collect();
                (peers, relays.map_or(0, |relays| relays.others(place)))
            };
            let kept = messages.iter().map(|message| {
                let place = messages.place(&message.id);
                (message.clone(), place.map_or((Vec::new(), 0), counts))
            });
            for (message, (peers, others)) in kept {
                self.put_back(message, peers, others);
            }
        }
        self.keep_to_bytes();
    }

    /// Appends a message with its counts. There is room for it.
    fn put_back(&mut self, message: TrackedMessage, peers: Vec<(Box<str>, u32)>, others: u32) {
        let (inserted, place) = self.messages.insert_placed(message);
        debug_assert!(matches!(inserted, Inserted::New), "there was room, and its id is its own");
        if let Some(relays) = relays_for(&mut self.relays, self.limits) {
            relays.put(place, peers, others);
        }
    }

    fn add(&mut self, id: Box<str>, peer_id: Box<str>, data: Vec<u8>) -> Reply {
        let relaying = (self.limits.peers_max > 0).then(|| peer_id.clone());
        let arrival = self.arrivals + 1;
        let message = TrackedMessage { id, peer_id, data, arrival };
        let bytes = message.bytes();
        let (inserted, place) = self.messages.insert_placed(message);
        if let Some(peer) = relaying {
            self.count(place, peer);
        }
        let mut evicted = 0;
        match inserted {
            Inserted::Duplicate(_) => {
                self.counters.duplicates += 1;
                return Reply::Duplicate;
            }
            Inserted::Evicted(oldest) => {
                self.bytes -= oldest.bytes();
                self.counters.capacity += 1;
                evicted = 1;
            }
            Inserted::New => {}
        }
        self.arrivals = arrival;
        self.bytes += bytes;
        self.counters.new += 1;
        Reply::New { evicted: evicted + self.keep_to_bytes() }
    }

    fn count(&mut self, place: Place, peer: Box<str>) {
        let Some(relays) = relays_for(&mut self.relays, self.limits) else { return };
        if relays.count(place, peer) == Relayed::Other {
            self.counters.peers_max += 1;
        }
    }

    /// Drops the oldest messages while they exceed the bound on bytes. Returns how many.
    fn keep_to_bytes(&mut self) -> u32 {
        let mut dropped = 0;
        while self.bytes > self.limits.bytes_max && self.messages.len() > 1 {
            let Some(oldest) = self.messages.pop_oldest() else { break };
            self.bytes -= oldest.bytes();
            dropped += 1;
        }
        self.counters.bytes_max += u64::from(dropped);
        dropped
    }

    fn remove(&mut self, id: &str) -> Reply {
        match self.messages.remove(id) {
            Ok(message) => {
                self.bytes -= message.bytes();
                self.counters.removed += 1;
                Reply::Done
            }
            Err(tracker::NotFound) => Reply::NotFound,
        }
    }
}

/// Returns the relay counts, and creates them if relays are counted at all.
fn relays_for(
    relays: &mut Option<Relays<Box<str>>>,
    limits: Limits,
) -> Option<&mut Relays<Box<str>>> {
    let peers_max = NonZeroU32::new(limits.peers_max)?;
    let capacity = NonZeroU32::new(limits.capacity).unwrap_or(NonZeroU32::MIN);
    Some(relays.get_or_insert_with(|| Relays::new(capacity, peers_max)))
}

impl Machine for Tracker {
    type Command = Command;
    type Reply = Reply;
    type Event = Event;

    fn apply(&mut self, _at: Timestamp, command: Command, _emit: &mut impl FnMut(Event)) -> Reply {
        match command {
            Command::Configure(limits) => {
                self.configure(limits);
                Reply::Done
            }
            Command::Add { id, peer_id, data } => self.add(id, peer_id, data),
            Command::Remove { id } => self.remove(&id),
        }
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let Self { limits, arrivals, counters, .. } = self;
        encode(&TrackerSnapshot::V1(*limits, *arrivals, *counters, self.messages.len()), out);
        for message in &self.messages {
            encode(message, out);
            let peers = self.peers(&message.id);
            let (peers, others) = peers.map_or_else(Default::default, |(peers, others)| {
                (peers.collect::<Vec<_>>(), others)
            });
            encode(&(peers, others), out);
        }
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a snapshot of the tracker";
        let wrong = || Malformed { what: WHAT };
        let TrackerSnapshot::V1(limits, arrivals, counters, count) = decode(WHAT, &mut bytes)?;
        let mut machine = Self::new(limits);
        if count > machine.messages.capacity() {
            return Err(wrong());
        }
        let mut last = 0;
        for _ in 0..count {
            let message: TrackedMessage = decode(WHAT, &mut bytes)?;
            let (peers, others): (Vec<(Box<str>, u32)>, u32) = decode(WHAT, &mut bytes)?;
            let in_order = (last + 1..=arrivals).contains(&message.arrival);
            if !in_order || machine.get(&message.id).is_some() {
                return Err(wrong());
            }
            last = message.arrival;
            machine.bytes += message.bytes();
            machine.put_back(message, peers, others);
        }
        machine.arrivals = arrivals;
        machine.counters = counters;
        if bytes.is_empty() { Ok(machine) } else { Err(wrong()) }
    }
}

/// The beginning of a snapshot. It is followed by as many messages as it says, each with its counts. A
/// published variant never changes.
#[derive(Serialize, Deserialize)]
enum TrackerSnapshot {
    V1(Limits, u64, Counters, u32),
}

#[cfg(test)]
mod tests;
