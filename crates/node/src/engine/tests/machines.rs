//! The machines of the simulation. Each counts its calls and emits at least one event a call, so
//! that the numbers of all entries can be read off their events.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidings_core::machine::{Machine, Malformed, Timestamp, decode, encode};

/// Counts its calls, and minds that time never runs backwards.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Calls {
    pub(super) count: u64,
    at: u64,
}

impl Calls {
    fn one(&mut self, at: Timestamp) {
        assert!(at.0 >= self.at, "time runs backwards: {} after {}", at.0, self.at);
        self.at = at.0;
        self.count += 1;
    }
}

/// Remembers what was applied, in order, and wakes up when it is asked to.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) applied: Vec<u64>,
    alarms: BTreeSet<u64>,
    pub(super) calls: Calls,
}

/// What the ledger tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Told {
    Applied(u64),
    /// A tick, and then each alarm that it was for.
    Ticked,
    Rung(u64),
}

impl Machine for Ledger {
    /// A name that is never used twice, and after how long to ring.
    type Command = (u64, u64);
    /// How many names there are with this one.
    type Reply = usize;
    type Event = Told;

    fn apply(
        &mut self,
        at: Timestamp,
        (name, ring): (u64, u64),
        emit: &mut impl FnMut(Told),
    ) -> usize {
        self.calls.one(at);
        self.applied.push(name);
        self.alarms.extend((ring > 0).then_some(at.0 + ring));
        emit(Told::Applied(name));
        self.applied.len()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.alarms.first().copied().map(Timestamp)
    }

    fn tick(&mut self, at: Timestamp, emit: &mut impl FnMut(Told)) {
        self.calls.one(at);
        emit(Told::Ticked);
        while let Some(due) = self.alarms.first().copied().filter(|due| *due <= at.0) {
            self.alarms.remove(&due);
            emit(Told::Rung(due));
        }
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        encode(&(&self.applied, &self.alarms, self.calls), out);
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let (applied, alarms, calls) = decode("a ledger", &mut bytes)?;
        Ok(Self { applied, alarms, calls })
    }
}

/// Sums what comes under a number it has not seen.
#[derive(Default)]
pub(super) struct Total {
    pub(super) sum: u64,
    pub(super) seen: BTreeSet<u64>,
    pub(super) calls: Calls,
}

impl Machine for Total {
    /// A number that may come again, and what to add.
    type Command = (u64, u64);
    /// Whether the number was new, and the sum.
    type Reply = (bool, u64);
    type Event = (u64, bool);

    fn apply(
        &mut self,
        at: Timestamp,
        (number, add): (u64, u64),
        emit: &mut impl FnMut((u64, bool)),
    ) -> (bool, u64) {
        self.calls.one(at);
        let new = self.seen.insert(number);
        if new {
            self.sum += add;
        }
        emit((number, new));
        (new, self.sum)
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        encode(&(self.sum, &self.seen, self.calls), out);
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let (sum, seen, calls) = decode("a total", &mut bytes)?;
        Ok(Self { sum, seen, calls })
    }
}
