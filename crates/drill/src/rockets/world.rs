//! The messy world: which rockets there are, what each of their messages says, and in which order
//! the messages are sent.
//!
//! A message is a pure function of (seed, rocket, number), so none is kept: whoever needs one, to
//! send it or to fold it, makes it anew in about a tenth of a microsecond. What is kept is eight
//! bytes per delivery, and a drill of ten million messages fits into memory.

use serde_json::{Map, Value};

use super::Error;
use super::fold::{Known, State};
use super::message::{Content, Message, Text, UNREADABLE_COUNT};
use super::moment::Moment;
use super::options::Options;
use crate::random::Random;

/// The places of [`Random::at`] that belong to no message.
const PLACE_OF_ROCKETS: u64 = 1 << 63;
const PLACE_OF_ORDER: u64 = (1 << 63) | (1 << 62);
/// When the first rocket is launched: 2022-02-02T18:39:05Z.
const FIRST_SECOND: i64 = 1_643_827_145;
/// How many of a channel's allowance beyond a gap the drill leaves alone, as a share: a tenth.
const SPARE: u32 = 10;

/// The rockets and the deliveries of one drill; the same options give the same world.
#[derive(Debug)]
pub struct World {
    seed: u64,
    anomalies: f64,
    rockets: Vec<Rocket>,
    deliveries: Vec<Delivery>,
    window: usize,
}

#[derive(Debug)]
struct Rocket {
    /// A UUID.
    channel: String,
    /// Its messages have the numbers from 1 to this.
    count: u32,
    explodes_at: Option<u32>,
}

/// One sending of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Which rocket it is about, from 0.
    pub rocket: u32,
    /// Its message number, from 1.
    pub number: u32,
}

impl World {
    /// The world of these options.
    ///
    /// # Errors
    ///
    /// If a value is out of its range, or messages would be so far out of place that a server
    /// that holds `held_max` of them would have to give some up.
    pub fn new(options: &Options) -> Result<Self, Error> {
        options.check()?;
        let count = options.rockets.min(options.messages);
        let rockets = (0..count).map(|index| Rocket::new(options, index, count)).collect();
        let mut world = Self {
            seed: options.seed,
            anomalies: options.anomalies,
            rockets,
            deliveries: Vec::new(),
            window: 0,
        };
        world.deliveries = world.ordered(options);
        world.window = world.widest_window(options)?;
        Ok(world)
    }

    /// How many rockets there are.
    pub fn rockets(&self) -> usize {
        self.rockets.len()
    }

    /// The id of a rocket, from 0: a UUID in lower case.
    pub fn channel(&self, rocket: usize) -> &str {
        self.rockets.get(rocket).map_or("", |rocket| rocket.channel.as_str())
    }

    /// How many different messages there are about a rocket; they are numbered from 1 to this.
    pub fn count(&self, rocket: usize) -> u32 {
        self.rockets.get(rocket).map_or(0, |rocket| rocket.count)
    }

    /// How many different messages there are over all rockets.
    pub fn messages(&self) -> u64 {
        self.rockets.iter().map(|rocket| u64::from(rocket.count)).sum()
    }

    /// Every sending in order, those that repeat an earlier one included.
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// How far a delivery may be ahead of the oldest one that is not acknowledged, so that no
    /// server has to hold more than it promises, whatever is delayed.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Appends the JSON of a delivery's message, on one line without its end.
    pub fn write(&self, delivery: Delivery, out: &mut Vec<u8>) {
        let rocket = delivery.rocket as usize;
        self.message(rocket, delivery.number).write(self.channel(rocket), out);
    }

    /// What a server must show of a rocket in the end. `O(its messages)`.
    pub fn expected(&self, rocket: usize) -> Map<String, Value> {
        let known = Known { last: self.count(rocket), missing: Vec::new() };
        let mut state = State::default();
        for number in known.numbers_from(1) {
            state.take(&self.message(rocket, number));
        }
        let mut expected = state.shown(self.channel(rocket));
        expected.insert("sequence".into(), known.shown());
        expected
    }

    /// What one message says.
    pub(super) fn message(&self, rocket: usize, number: u32) -> Message {
        let mut random = Random::at(self.seed, ((rocket as u64) << 32) | u64::from(number));
        // About 1.5 s from one to the next, now and then backwards.
        let jitter = i64::try_from(random.below(5)).unwrap_or(0);
        let second = FIRST_SECOND + i64::from(number) * 3 / 2 + jitter;
        let time = Moment::within(second, &mut random);
        let explodes_at = self.rockets.get(rocket).and_then(|rocket| rocket.explodes_at);
        let content = if explodes_at == Some(number) {
            Content::Exploded(Text::new(random.index(1 << 16), number))
        } else if random.chance(self.anomalies) {
            anomaly(number, rocket, &mut random)
        } else if number == 1 {
            launch(number, &mut random)
        } else {
            change(number, &mut random)
        };
        Message { number, time, content }
    }

    /// The order in which everything is sent.
    fn ordered(&self, options: &Options) -> Vec<Delivery> {
        let mut random = Random::at(self.seed, PLACE_OF_ORDER);
        let mut flying: Vec<Delivery> =
            (0u32..).zip(&self.rockets).map(|(rocket, _)| Delivery { rocket, number: 0 }).collect();
        let total = self.messages();
        let mut keyed = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
        let mut place = 0u64;
        while !flying.is_empty() {
            let at = random.index(flying.len());
            let Some(next) = flying.get_mut(at) else {
                break;
            };
            next.number += 1;
            let delivery = *next;
            if delivery.number == self.count(delivery.rocket as usize) {
                flying.swap_remove(at);
            }
            // A message that is ordered by its place and up to S more is at most S out of place.
            let key = place + random.below(u64::from(options.shuffle) + 1);
            keyed.push((key, delivery));
            if random.chance(options.duplicates) {
                let later = total.saturating_sub(key);
                keyed.push((key + 1 + random.below(later), delivery));
            }
            place += 1;
        }
        keyed.sort_by_key(|&(key, _)| key);
        keyed.into_iter().map(|(_, delivery)| delivery).collect()
    }

    /// The largest window in which no channel has more deliveries than a server holds, less a
    /// spare tenth, and less the shuffle on both sides: what is behind the oldest delivery
    /// that is not acknowledged can still be beyond it in number.
    fn widest_window(&self, options: &Options) -> Result<usize, Error> {
        let limit = (options.held_max - options.held_max / SPARE).max(1);
        let mut inside = vec![0u32; self.rockets.len()];
        let mut first = self.deliveries.iter();
        let (mut length, mut widest) = (0usize, usize::MAX);
        for delivery in &self.deliveries {
            let Some(count) = inside.get_mut(delivery.rocket as usize) else {
                continue;
            };
            *count += 1;
            length += 1;
            if *count > limit {
                widest = widest.min(length - 1);
            }
            while inside.get(delivery.rocket as usize).is_some_and(|&count| count > limit) {
                let Some(left) = first.next() else { break };
                length -= 1;
                if let Some(count) = inside.get_mut(left.rocket as usize) {
                    *count -= 1;
                }
            }
        }
        if widest == usize::MAX {
            return Ok(self.deliveries.len());
        }
        let shuffle = options.shuffle as usize;
        match widest.checked_sub(2 * shuffle) {
            Some(window) if window > 0 => Ok(window),
            Some(_) | None => {
                let shuffle_max = (widest - 1) / 2;
                let why = format!(
                    "at most {shuffle_max} is allowed with so few rockets, or the server would have to hold more \
                     messages beyond a gap than --held-max"
                );
                Err(Error::Options { option: "shuffle", why })
            }
        }
    }
}

impl Rocket {
    fn new(options: &Options, index: u32, rockets: u32) -> Self {
        let mut random = Random::at(options.seed, PLACE_OF_ROCKETS | u64::from(index));
        let channel = uuid(&mut random);
        let count = options.messages / rockets + u32::from(index < options.messages % rockets);
        let explodes = count > 1 && random.chance(0.3);
        // Mostly the last message; sometimes others follow, which must do nothing.
        let after = if random.chance(0.3) { random.below(u64::from(count.min(20))) } else { 0 };
        let after = u32::try_from(after).unwrap_or(0).min(count.saturating_sub(2));
        Self { channel, count, explodes_at: explodes.then_some(count - after) }
    }
}

/// A random UUID (version 4) in lower case.
fn uuid(random: &mut Random) -> String {
    let bits = (u128::from(random.bits()) << 64) | u128::from(random.bits());
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let mut out = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(digit);
    }
    out
}

fn launch(number: u32, random: &mut Random) -> Content {
    Content::Launched {
        kind: Text::new(random.index(1 << 16), 9),
        speed: small(random),
        mission: Text::new(random.index(1 << 16), number),
    }
}

/// What happens to a rocket most of the time.
fn change(number: u32, random: &mut Random) -> Content {
    match random.below(100) {
        0..45 => Content::Increased(small(random)),
        45..80 => Content::Decreased(small(random)),
        _ => Content::MissionChanged(Text::new(random.index(1 << 16), number)),
    }
}

/// What must have no effect, or (for some rockets) takes the speed to the end of its range.
fn anomaly(number: u32, rocket: usize, random: &mut Random) -> Content {
    match random.below(10) {
        0 => Content::Increased(-small(random)),
        1 => Content::Decreased(-small(random)),
        2 | 3 => launch(number, random),
        4 if rocket % 7 == 3 => Content::Increased(i64::MAX),
        5 if rocket % 7 == 3 => Content::Decreased(i64::MAX),
        _ => Content::Unreadable(random.index(UNREADABLE_COUNT)),
    }
}

fn small(random: &mut Random) -> i64 {
    1 + i64::try_from(random.below(3_000)).unwrap_or(0)
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
