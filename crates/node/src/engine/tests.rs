//! A simulation of the engine: a log that fails, a process that dies, another node on the same log,
//! and a clock that a test moves; everything drawn from a seed. `TIDINGS_SEED=n` replays one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidings_core::machine::{Machine, decode, encode};
use tidings_log::faulty::{Call, Fault, Faulty};
use tidings_log::{Memory, Origin};
use tokio::sync::oneshot;

use super::*;
use crate::node::{Builder, Settings};
use crate::slot::Handle;

/// Remembers what was applied, in order, and wakes up when it is asked to.
#[derive(Default)]
struct Ledger {
    applied: Vec<u64>,
    alarms: BTreeSet<u64>,
    rung: Vec<u64>,
    at: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Told {
    Applied(u64),
    Rung(u64),
}

impl Machine for Ledger {
    /// A name that is never used twice, and after how long to ring.
    type Command = (u64, u64);
    type Reply = usize;
    type Event = Told;

    fn apply(
        &mut self,
        at: Timestamp,
        (name, ring): (u64, u64),
        emit: &mut impl FnMut(Told),
    ) -> usize {
        assert!(at.0 >= self.at, "time never runs backwards");
        self.at = at.0;
        self.applied.push(name);
        self.alarms.extend((ring > 0).then_some(at.0 + ring));
        emit(Told::Applied(name));
        self.applied.len()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.alarms.first().copied().map(Timestamp)
    }

    fn tick(&mut self, at: Timestamp, emit: &mut impl FnMut(Told)) {
        while let Some(due) = self.alarms.first().copied().filter(|due| *due <= at.0) {
            self.alarms.remove(&due);
            self.rung.push(due);
            emit(Told::Rung(due));
        }
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        encode(&(&self.applied, &self.alarms, &self.rung, self.at), out);
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let (applied, alarms, rung, at) = decode("a ledger", &mut bytes)?;
        Ok(Self { applied, alarms, rung, at })
    }
}

/// Small numbers that a seed decides (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A node whose process can die.
struct Life {
    engine: Engine,
    ledger: Handle<Ledger>,
}

impl Life {
    fn begin(log: &Memory, seed: u64) -> Self {
        let mut draw = Draw(seed);
        let plan = move |_: Call| match draw.below(20) {
            0 => Some(Fault::Full),
            1 => Some(Fault::UnknownWritten),
            2 => Some(Fault::UnknownLost),
            3 if draw.below(4) == 0 => Some(Fault::Broken),
            _ => None,
        };
        Self::over(Box::new(Faulty::new(log.reopen(), plan))).unwrap()
    }

    fn over(log: Box<dyn Log>) -> Result<Self, Fatal> {
        let mut builder = Builder::new(Settings { events_kept_max: 50, ..Settings::default() });
        let ledger = builder.add(1, "ledger", Ledger::default());
        Ok(Self { engine: Engine::recover(log, builder.slots, |_| {})?, ledger })
    }

    /// Everything that must be the same on every node and after every restart.
    fn state(&self) -> (Vec<u8>, Applied) {
        let mut bytes = Vec::new();
        for slot in &self.engine.slots {
            slot.snapshot(&mut bytes);
        }
        (bytes, self.engine.applied.clone())
    }

    fn applied(&self) -> Vec<u64> {
        self.ledger.read(|ledger| ledger.applied.clone())
    }
}

/// What is known from outside.
#[derive(Default)]
struct Known {
    answered: Vec<u64>,
    refused: Vec<u64>,
    applied: Vec<u64>,
}

impl Known {
    fn hear(&mut self, name: u64, mut reply: oneshot::Receiver<Result<usize, Refused>>) {
        match reply.try_recv() {
            Ok(Ok(_)) => self.answered.push(name),
            Ok(Err(Refused::NoRoom(_))) => self.refused.push(name),
            // Stored or not: that will be known after a restart.
            Ok(Err(Refused::Failed(_) | Refused::Stopping)) | Err(_) => {}
        }
    }

    fn check(&mut self, life: &Life) {
        let applied = life.applied();
        assert!(applied.starts_with(&self.applied), "what was applied stays, in its order");
        let once: BTreeSet<u64> = applied.iter().copied().collect();
        assert_eq!(once.len(), applied.len(), "nothing is applied twice");
        assert!(self.answered.iter().all(|name| once.contains(name)), "what was answered is there");
        assert!(!self.refused.iter().any(|name| once.contains(name)), "what was refused is not");
        self.applied = applied;
    }
}

fn simulate(seed: u64) {
    let mut draw = Draw(seed);
    let log = Memory::default();
    let mut other = log.join(Origin(77));
    let mut life = Life::begin(&log, draw.below(u64::MAX));
    let (mut known, mut name, mut now) = (Known::default(), 0, 1000);
    for _ in 0..150 {
        now += draw.below(50);
        let alive = match draw.below(20) {
            0 => Err(()),
            1..=3 => life.engine.tick(Timestamp(now)).map(|_| ()).map_err(|_| ()),
            4 => {
                let taken = life.engine.take_snapshot();
                let position = Position(taken.applied.position);
                if position.0 > 0 {
                    life.engine.write_snapshot(position, taken.seal().unwrap());
                }
                Ok(())
            }
            5..=7 => {
                life.engine.work();
                Ok(())
            }
            8 => {
                append_elsewhere(&mut other, now, &mut name);
                Ok(())
            }
            _ => {
                let count = 1 + draw.below(4);
                commit(&mut life, &mut known, &mut name, count, now, &mut draw)
            }
        };
        if alive.is_err() {
            life = Life::begin(&log, draw.below(u64::MAX));
        }
        known.check(&life);
    }
    // In the end a clean restart and a node that reads everything agree.
    let one = Life::over(Box::new(log.reopen())).unwrap();
    let again = Life::over(Box::new(log.reopen())).unwrap();
    assert_eq!(one.state(), again.state());
    known.check(&one);
}

fn commit(
    life: &mut Life,
    known: &mut Known,
    name: &mut u64,
    count: u64,
    now: u64,
    draw: &mut Draw,
) -> Result<(), ()> {
    let (mut proposals, mut replies) = (VecDeque::new(), Vec::new());
    for _ in 0..count {
        *name += 1;
        let (proposal, reply) = life.ledger.proposal((*name, draw.below(100)));
        proposals.push_back(proposal);
        replies.push((*name, reply));
    }
    let mut applied = Vec::new();
    let committed = life.engine.commit(&mut proposals, &mut applied, Timestamp(now));
    applied.into_iter().for_each(Proposal::answer);
    assert!(proposals.is_empty());
    replies.into_iter().for_each(|(name, reply)| known.hear(name, reply));
    committed.map_err(|_| ())
}

/// Another node appends a batch, with a clock that is behind.
fn append_elsewhere(other: &mut Memory, now: u64, name: &mut u64) {
    *name += 1;
    let header = Header { at: Timestamp(now - 500), entries: 1 };
    let mut body = header.to_bytes().to_vec();
    body.push(1);
    encode(&(*name, 0u64), &mut body);
    other.append(other.last_number() + 1, &body).unwrap();
}

#[test]
fn whatever_fails_what_was_answered_is_applied_once_and_what_was_refused_never() {
    let given = std::env::var("TIDINGS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = given.map_or(0..400, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let simulated = std::panic::catch_unwind(|| simulate(seed));
        assert!(simulated.is_ok(), "replay with TIDINGS_SEED={seed}");
    }
}

#[test]
fn a_batch_that_stands_in_the_log_twice_is_applied_once() {
    let mut log = Memory::default();
    let mut body = Header { at: Timestamp(1), entries: 1 }.to_bytes().to_vec();
    body.push(1);
    encode(&(5u64, 0u64), &mut body);
    log.append(1, &body).unwrap();
    let mut life = Life::over(Box::new(log.reopen())).unwrap();
    let twice = Batch { position: Position(2), origin: log.origin(), number: 1, body };
    life.engine.apply_stored(&twice).unwrap();
    assert_eq!(life.applied(), [5]);
}

fn start_over(body: &[u8]) -> String {
    let mut log = Memory::default();
    log.append(1, body).unwrap();
    Life::over(Box::new(log)).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn an_entry_that_cannot_be_understood_stops_the_start_with_its_position() {
    let header = Header { at: Timestamp(1), entries: 1 }.to_bytes();
    let stranger = start_over(&[&header[..], &[9, 1, 1]].concat());
    assert!(stranger.contains("the entry at position 1 is for machine 9"), "{stranger}");
    let short = start_over(&[&header[..], &[1, 0xff]].concat());
    assert!(short.contains("at position 1: a command cannot be decoded"), "{short}");
    let long = start_over(&[&header[..], &[1, 1, 0, 7]].concat());
    assert!(long.contains("at position 1: the end of a batch cannot be decoded"), "{long}");
    let later = start_over(&[&[200][..], &header[1..], &[1, 1, 0]].concat());
    assert!(later.contains("written by a later version"), "{later}");
}
