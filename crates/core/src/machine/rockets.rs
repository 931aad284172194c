//! Rockets: the state that each rocket would have if its messages had arrived in perfect order.
//!
//! A channel is one rocket. Its messages are numbered from 1 and pass through a [`Sequencer`], whose
//! in-order output is folded into the rocket's state. For display, held messages are folded on top of that
//! state, so that a reader always sees the fold of everything known.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize};

use super::{Machine, Malformed, Timestamp, decode, encode};
use crate::structure::sequencer::{Offered, Parts, Sequencer};

mod fold;
mod message;

pub use fold::{Anomaly, Sequence, State, View};
pub use message::{Channel, Content, MessageTime, NUMBER_MAX, RocketMessage};

/// The bounds of this machine. They affect the result of a command, so a command sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most messages that a channel holds behind its gaps. Beyond that its oldest gap is dropped.
    pub held_max: u32,
    /// The most messages that all channels hold together. Beyond that, the channel that would hold one
    /// more drops its oldest gap.
    pub held_total_max: u64,
    /// The most channels. A message for one more is rejected.
    pub channels_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { held_max: 1000, held_total_max: 1_000_000, channels_max: 1_000_000 }
    }
}

/// A command to the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A message has arrived.
    Deliver(Delivery),
    /// Sets the bounds. A channel that exceeds its new bound keeps what it holds until its next message.
    Configure(Limits),
}

/// A message with its channel and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The channel of the message.
    pub channel: Channel,
    /// Its number within the channel, 1 to [`NUMBER_MAX`].
    pub number: u64,
    /// The message.
    pub message: RocketMessage,
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was next in order and has changed the rocket.
    Applied,
    /// It lies beyond a gap: displayed already, and held until the gap is filled or dropped.
    Held,
    /// Its number had come before. Nothing has changed.
    Duplicate,
    /// Its number had been dropped with a gap. Nothing has changed.
    Late,
    /// It was next in order and is consumed, but has no effect: an anomaly.
    Ignored,
}

/// What the proposer of a command gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The message is accepted: stored, and consumed exactly once whatever happens.
    Taken(Outcome),
    /// Rejected, nothing has changed: there are [`Limits::channels_max`] channels already.
    ChannelsFull,
    /// The bounds are set.
    Configured,
}

/// Counters since the beginning. Part of the state, so that a restart does not reset them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages that changed their rocket, in order.
    pub applied: u64,
    /// Messages whose number had come before.
    pub duplicates: u64,
    /// Duplicates whose content differs from the message held under their number.
    pub conflicts: u64,
    /// Messages that came after their number was dropped.
    pub late: u64,
    /// Numbers dropped with their gaps.
    pub lost: u64,
    /// Gaps dropped because a channel held [`Limits::held_max`].
    pub held_max: u64,
    /// Gaps dropped because all channels together held [`Limits::held_total_max`].
    pub held_total_max: u64,
    /// Messages rejected because there were [`Limits::channels_max`] channels.
    pub channels_max: u64,
    /// Messages without effect: their type is unknown.
    pub unknown_types: u64,
    /// Messages without effect: their content could not be read.
    pub unreadable: u64,
    /// Messages without effect: their `by` was negative.
    pub negative: u64,
    /// Messages without effect: the rocket had been launched already.
    pub relaunched: u64,
    /// Messages without effect: the rocket had exploded.
    pub after_explosion: u64,
}

impl Counters {
    fn count(&mut self, anomaly: Anomaly) {
        *match anomaly {
            Anomaly::UnknownType => &mut self.unknown_types,
            Anomaly::Unreadable => &mut self.unreadable,
            Anomaly::Negative => &mut self.negative,
            Anomaly::Relaunched => &mut self.relaunched,
            Anomaly::AfterExplosion => &mut self.after_explosion,
        } += 1;
    }
}

/// Sent to watchers after each change: the rocket as it is right after it.
pub type Event = View;

/// One channel.
#[derive(Debug)]
pub struct Rocket {
    channel: Channel,
    /// The value of [`Rockets::version`] at the last change of this rocket.
    version: u64,
    sequencer: Sequencer<RocketMessage>,
    /// The fold of everything that has passed the sequencer.
    folded: State,
    /// The fold of that plus everything held; `None` while nothing is held. Boxed, because most rockets
    /// hold nothing.
    shown: Option<Box<State>>,
}

/// The rockets machine. See the documentation of this module.
#[derive(Debug, Default)]
pub struct Rockets {
    limits: Limits,
    /// In order of first appearance: a scan is one pass over memory, and no hash decides an order.
    all: Vec<Rocket>,
    /// Maps a channel to its index in `all`. Seeded per instance, because strangers choose the channels.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// How many messages all channels hold.
    held_total: u64,
    /// Incremented by every change of any rocket.
    version: u64,
    counters: Counters,
}

impl Rockets {
    /// Returns the current bounds.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns what has happened since the beginning.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns how many messages all channels hold.
    pub const fn held_total(&self) -> u64 {
        self.held_total
    }

    /// Returns a number that every change of any rocket increments: equal versions mean equal rockets.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns all rockets, in order of first appearance.
    pub fn rockets(&self) -> &[Rocket] {
        &self.all
    }

    /// Returns the rocket of a channel, if it has ever had a message. O(1).
    pub fn get(&self, channel: Channel) -> Option<&Rocket> {
        self.all.get(self.find(channel)?)
    }

    fn find(&self, channel: Channel) -> Option<usize> {
        let is_it = |place: &u32| {
            self.all.get(*place as usize).is_some_and(|rocket| rocket.channel == channel)
        };
        self.index.find(self.hasher.hash_one(channel), is_it).map(|place| *place as usize)
    }

    fn add(&mut self, rocket: Rocket) -> Option<usize> {
        let place = u32::try_from(self.all.len()).ok()?;
        let hasher = &self.hasher;
        let rockets = &self.all;
        let rehash = |place: &u32| {
            rockets.get(*place as usize).map_or(0, |rocket| hasher.hash_one(rocket.channel))
        };
        self.index.insert_unique(hasher.hash_one(rocket.channel), place, rehash);
        self.all.push(rocket);
        Some(place as usize)
    }

    fn deliver(&mut self, delivery: Delivery, emit: &mut impl FnMut(Event)) -> Reply {
        let Delivery { channel, number, message } = delivery;
        let place = match self.find(channel) {
            Some(place) => Some(place),
            None if self.all.len() >= self.limits.channels_max as usize => None,
            None => self.add(Rocket::new(channel, self.limits.held_max, message.time)),
        };
        let Some(rocket) = place.and_then(|place| self.all.get_mut(place)) else {
            self.counters.channels_max += 1;
            return Reply::ChannelsFull;
        };
        let held_before = u64::from(rocket.sequencer.held());
        let elsewhere = self.held_total - held_before;
        let total_left = self.limits.held_total_max.saturating_sub(elsewhere);
        let outcome =
            rocket.deliver(number, message, self.limits.held_max, total_left, &mut self.counters);
        self.held_total = elsewhere + u64::from(rocket.sequencer.held());
        if matches!(outcome, Outcome::Applied | Outcome::Held | Outcome::Ignored) {
            self.version += 1;
            rocket.version = self.version;
            emit(rocket.view());
        }
        Reply::Taken(outcome)
    }
}

impl Rocket {
    fn new(channel: Channel, held_max: u32, first_seen: MessageTime) -> Self {
        Self {
            channel,
            version: 0,
            sequencer: Sequencer::new(held_max),
            folded: State::new(first_seen),
            shown: None,
        }
    }

    /// Returns the channel.
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// Returns a number that every change of this rocket increases.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns the fold of everything known, in order. O(1).
    pub fn state(&self) -> &State {
        self.shown.as_deref().unwrap_or(&self.folded)
    }

    /// Returns everything that is displayed of the rocket. O(held), allocates while a message is missing.
    pub fn view(&self) -> View {
        View { channel: self.channel, state: self.state().clone(), sequence: self.sequence() }
    }

    /// Returns how complete the rocket is. O(held), allocates while a message is missing.
    pub fn sequence(&self) -> Sequence {
        Sequence::of(&self.sequencer)
    }

    fn deliver(
        &mut self,
        number: u64,
        message: RocketMessage,
        held_max: u32,
        total_left: u64,
        counters: &mut Counters,
    ) -> Outcome {
        let known_before = self.sequencer.last();
        let outcome = match self.sequencer.offer(number, message) {
            Offered::Ready(message) => {
                let effect = self.fold(&message, counters);
                self.drain(counters);
                effect
            }
            Offered::Held => {
                let over_total = u64::from(self.sequencer.held()) > total_left;
                self.sequencer.set_held_max(held_max);
                self.drop_gaps(number, over_total, counters)
            }
            Offered::DuplicateOfHeld(message) => {
                let first = self.sequencer.get(number);
                counters.conflicts +=
                    u64::from(first.is_some_and(|first| first.content != message.content));
                counters.duplicates += 1;
                return Outcome::Duplicate;
            }
            Offered::Duplicate(_) => {
                counters.duplicates += 1;
                return Outcome::Duplicate;
            }
            Offered::Late(_) => {
                counters.late += 1;
                return Outcome::Late;
            }
        };
        self.show(number, known_before);
        outcome
    }

    fn fold(&mut self, message: &RocketMessage, counters: &mut Counters) -> Outcome {
        match self.folded.apply(message) {
            Ok(()) => {
                counters.applied += 1;
                Outcome::Applied
            }
            Err(anomaly) => {
                counters.count(anomaly);
                Outcome::Ignored
            }
        }
    }

    fn drain(&mut self, counters: &mut Counters) {
        while let Some((_, message)) = self.sequencer.pop_ready() {
            self.fold(&message, counters);
        }
    }

    /// Drops the oldest gap while too many messages are held. Returns what that did to `number`.
    fn drop_gaps(&mut self, number: u64, over_total: bool, counters: &mut Counters) -> Outcome {
        let mut outcome = Outcome::Held;
        let mut over_total = over_total;
        while self.sequencer.is_overfull() || over_total {
            *if over_total { &mut counters.held_total_max } else { &mut counters.held_max } += 1;
            over_total = false;
            let lost_before = self.sequencer.lost();
            if self.sequencer.drop_gap().is_none() {
                break;
            }
            counters.lost += self.sequencer.lost() - lost_before;
            while let Some((ready, message)) = self.sequencer.pop_ready() {
                let effect = self.fold(&message, counters);
                if ready == number {
                    outcome = effect;
                }
            }
        }
        outcome
    }

    /// Updates `shown` after `number` was accepted. O(1) if it is the highest known number and still held,
    /// otherwise O(held).
    fn show(&mut self, number: u64, known_before: u64) {
        if self.sequencer.held() == 0 {
            self.shown = None;
            return;
        }
        if number > known_before
            && let Some(message) = self.sequencer.get(number)
            && let Some(shown) = &mut self.shown
        {
            shown.show(message);
            return;
        }
        let mut state = self.folded.clone();
        for (_, message) in self.sequencer.held_items() {
            state.show(message);
        }
        match &mut self.shown {
            Some(shown) => **shown = state,
            None => self.shown = Some(Box::new(state)),
        }
    }
}

impl Machine for Rockets {
    type Command = Command;
    type Reply = Reply;
    type Event = Event;

    fn apply(&mut self, _at: Timestamp, command: Command, emit: &mut impl FnMut(Event)) -> Reply {
        match command {
            Command::Deliver(delivery) => self.deliver(delivery, emit),
            Command::Configure(limits) => {
                self.limits = limits;
                Reply::Configured
            }
        }
    }

    fn event_bytes(event: &Event) -> usize {
        event.bytes()
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let count = self.all.len() as u64;
        encode(&RocketsSnapshot::V1(self.limits, self.version, self.counters, count), out);
        for rocket in &self.all {
            encode(
                &(rocket.channel, rocket.version, &rocket.folded, rocket.sequencer.to_parts()),
                out,
            );
        }
    }

    fn restore(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a snapshot of rockets";
        let mut bytes = bytes;
        let RocketsSnapshot::V1(limits, version, counters, count) = decode(WHAT, &mut bytes)?;
        let mut machine = Self { limits, version, counters, ..Self::default() };
        for _ in 0..count {
            let (channel, version, folded, parts): (_, _, _, Parts<RocketMessage>) =
                decode(WHAT, &mut bytes)?;
            let sequencer =
                Sequencer::from_parts(parts, limits.held_max).ok_or(Malformed { what: WHAT })?;
            machine.held_total += u64::from(sequencer.held());
            let mut rocket = Rocket { channel, version, sequencer, folded, shown: None };
            rocket.show(0, 0);
            machine.add(rocket);
        }
        if bytes.is_empty() { Ok(machine) } else { Err(Malformed { what: WHAT }) }
    }
}

/// The beginning of a snapshot. It is followed by as many rockets as it says. A published variant never
/// changes.
#[derive(Serialize, Deserialize)]
enum RocketsSnapshot {
    V1(Limits, u64, Counters, u64),
}

#[cfg(test)]
mod tests;
