//! Counts beats: the smallest machine there is.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Machine, Malformed, Timestamp, decode, encode};

/// The bounds, set by a command so that every replay has the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The highest count.
    pub beats_max: u64,
}

/// What is stored in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sets the bounds.
    Configure(Limits),
    /// Counts one beat.
    Beat,
}

/// Counts beats.
#[derive(Debug, Default)]
pub struct Pulse {
    limits: Limits,
    beats: u64,
}

impl Pulse {
    /// Returns the bounds in force.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns how many beats were counted.
    pub const fn beats(&self) -> u64 {
        self.beats
    }
}

impl Machine for Pulse {
    type Command = Command;
    type Reply = u64;
    type Event = ();

    fn apply(&mut self, _at: Timestamp, command: Command, _emit: &mut impl FnMut(())) -> u64 {
        match command {
            Command::Configure(limits) => self.limits = limits,
            Command::Beat => self.beats = (self.beats + 1).min(self.limits.beats_max),
        }
        self.beats
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        encode(&(self.limits, self.beats), out);
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let (limits, beats) = decode("a pulse", &mut bytes)?;
        Ok(Self { limits, beats })
    }
}
