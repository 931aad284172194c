//! Rockets: the state each rocket would have, had its messages come in perfect order.
//!
//! A channel is one rocket. Its messages are numbered from 1 and go through a
//! [`Sequencer`]; what comes out in order is folded into its state. What is held is folded on top
//! of that for showing, so that a reader always sees the fold of everything known.

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

/// The bounds of this machine. They decide what apply does, so they are set by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many messages a channel holds behind its gaps. Beyond that its oldest gap is given up.
    pub held_max: u32,
    /// How many messages all channels hold together. Beyond that the channel that would hold one
    /// more gives up its oldest gap.
    pub held_total_max: u64,
    /// How many channels there can be. A message for one more is refused.
    pub channels_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { held_max: 1000, held_total_max: 1_000_000, channels_max: 1_000_000 }
    }
}

/// What is asked of the machine. Stored in the log: variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A message has come.
    Deliver(Delivery),
    /// From here on these bounds hold. A channel that is over its new bound stays so until its
    /// next message.
    Configure(Limits),
}

/// A message and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Whose message it is.
    pub channel: Channel,
    /// Its place within the channel, 1 to [`NUMBER_MAX`].
    pub number: u64,
    /// What it says.
    pub message: RocketMessage,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was next in order and has changed the rocket.
    Applied,
    /// It is beyond a gap: shown already, and kept until the gap is filled or given up.
    Held,
    /// Its number was there before. Nothing changed.
    Duplicate,
    /// Its number had been given up. Nothing changed.
    Late,
    /// It was next in order and is consumed, but has no effect: an anomaly.
    Ignored,
}

/// What the one who asked gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The message is taken: durable, and consumed exactly once whatever comes.
    Taken(Outcome),
    /// Refused, nothing changed: there are [`Limits::channels_max`] channels already.
    ChannelsFull,
    /// The new bounds hold.
    Configured,
}

/// What has happened since the beginning. Part of the state, so a restart does not reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages that changed their rocket, in order.
    pub applied: u64,
    /// Messages whose number was there before.
    pub duplicates: u64,
    /// Those of them that said something else than the one held under their number.
    pub conflicts: u64,
    /// Messages that came after their number was given up.
    pub late: u64,
    /// Numbers given up.
    pub lost: u64,
    /// Gaps given up because a channel held [`Limits::held_max`].
    pub held_max: u64,
    /// Gaps given up because all channels together held [`Limits::held_total_max`].
    pub held_total_max: u64,
    /// Messages refused because there were [`Limits::channels_max`] channels.
    pub channels_max: u64,
    /// Messages without effect: their type is unknown.
    pub unknown_types: u64,
    /// Messages without effect: their content could not be read.
    pub unreadable: u64,
    /// Messages without effect: `by` was negative.
    pub negative: u64,
    /// Messages without effect: launched again.
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

/// Told to watchers: a rocket has changed, and this is what it looked like right after.
pub type Event = View;

/// One channel.
#[derive(Debug)]
pub struct Rocket {
    channel: Channel,
    /// The value of [`Rockets::version`] when this one last changed.
    version: u64,
    sequencer: Sequencer<RocketMessage>,
    /// The fold of what has passed the sequencer.
    folded: State,
    /// The fold of that and of what is held, while something is held.
    shown: Option<Box<State>>,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Rockets {
    limits: Limits,
    /// In the order in which the channels were first heard of: a scan is one pass over memory, and
    /// no hash decides an order.
    all: Vec<Rocket>,
    /// Finds a place in `all` by channel. Seeded per instance: channels come from strangers.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// How many messages all channels hold.
    held_total: u64,
    /// Goes up with every change of any rocket.
    version: u64,
    counters: Counters,
}

impl Rockets {
    /// The bounds that hold now.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// What has happened since the beginning.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How many messages all channels hold.
    pub const fn held_total(&self) -> u64 {
        self.held_total
    }

    /// Goes up with every change of any rocket: equal versions, equal rockets.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// All rockets, in the order in which they were first heard of.
    pub fn rockets(&self) -> &[Rocket] {
        &self.all
    }

    /// The rocket of a channel, if it was ever heard of. O(1).
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
        let (hasher, rockets) = (&self.hasher, &self.all);
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

    /// Whose it is.
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// Goes up with every change of this rocket, and is never the same for two states of it.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The fold of everything known, in order. O(1).
    pub fn state(&self) -> &State {
        self.shown.as_deref().unwrap_or(&self.folded)
    }

    /// All there is to show. O(held), allocates while something is missing.
    pub fn view(&self) -> View {
        View { channel: self.channel, state: self.state().clone(), sequence: self.sequence() }
    }

    /// How complete the knowledge of it is. O(held), allocates while something is missing.
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

    /// Gives up the oldest gap while there are too many held; says what that did to `number`.
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

    /// Brings `shown` up to date after `number` was taken. O(1) when it is the highest known so
    /// far and still held, else O(held).
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

/// What a snapshot begins with; as many rockets as it says follow. A published variant never
/// changes.
#[derive(Serialize, Deserialize)]
enum RocketsSnapshot {
    V1(Limits, u64, Counters, u64),
}

#[cfg(test)]
mod tests;
