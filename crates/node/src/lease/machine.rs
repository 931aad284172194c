//! The table of leases: a machine on every node, under a reserved number ([`LEASES`](crate::entry::LEASES)).
//!
//! Time is the time of the entry. A lease that has ended stays with its last holder until another takes it. The token rises
//! then, which tells the two holders apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidings_core::machine::{Machine, Malformed, Timestamp, decode, encode};

pub(crate) const NAME: &str = "leases";

/// The longest name of a lease, and of a holder.
pub(super) const NAME_BYTES_MAX: usize = 64;
/// How many leases there are at most. A further one is refused while none of them has ended.
pub(super) const LEASES_MAX: usize = 64;
/// The longest time for which one command takes a lease. A longer time is cut to this.
pub(super) const TTL_MS_MAX: u64 = 60_000;

/// A command. It is stored in the log: variants are only added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Takes a lease that is free or has ended, or renews it.
    Take {
        /// The lease.
        name: String,
        /// The name of the holder. It is never used again by another one.
        holder: String,
        /// How long it is taken for, from the time of the entry.
        ttl_ms: u64,
    },
    /// Gives a lease back before it ends.
    Give {
        /// The lease.
        name: String,
        /// The holder.
        holder: String,
        /// The token under which it was taken; 0 for any.
        token: u64,
    },
}

/// The reply to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The lease is held by the holder in the command.
    Held {
        /// Rises with each change of holder, over all leases.
        token: u64,
    },
    /// Another holder has it. Nothing has changed.
    Other {
        /// That holder.
        holder: String,
        /// The end of the lease, unless it is renewed.
        until: Timestamp,
    },
    /// It was given back.
    Given,
    /// The holder in the command does not hold it. Nothing has changed.
    NotHeld,
    /// There are too many leases, or a name is too long. Nothing has changed.
    Unusable,
}

/// A lease that was taken and not given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) holder: String,
    pub(crate) token: u64,
    /// The first millisecond in which another may take it.
    pub(crate) until: u64,
}

/// The machine. See the top of this module.
#[derive(Debug, Default)]
pub(crate) struct Table {
    leases: BTreeMap<String, Held>,
    /// The last token that was given out.
    token: u64,
}

impl Table {
    /// Returns the holder of a lease, or the last one. O(log leases).
    pub(crate) fn get(&self, name: &str) -> Option<&Held> {
        self.leases.get(name)
    }

    fn take(&mut self, at: Timestamp, name: String, holder: String, ttl_ms: u64) -> (Reply, bool) {
        if name.len() > NAME_BYTES_MAX || holder.len() > NAME_BYTES_MAX {
            return (Reply::Unusable, false);
        }
        let until = at.0.saturating_add(ttl_ms.min(TTL_MS_MAX));
        if let Some(held) = self.leases.get_mut(&name) {
            if held.holder == holder {
                held.until = held.until.max(until);
                return (Reply::Held { token: held.token }, false);
            }
            if at.0 < held.until {
                let until = Timestamp(held.until);
                return (Reply::Other { holder: held.holder.clone(), until }, false);
            }
        } else if self.leases.len() >= LEASES_MAX {
            self.leases.retain(|_, held| at.0 < held.until);
            if self.leases.len() >= LEASES_MAX {
                return (Reply::Unusable, false);
            }
        }
        self.token += 1;
        self.leases.insert(name, Held { holder, token: self.token, until });
        (Reply::Held { token: self.token }, true)
    }

    fn give(&mut self, name: &str, holder: &str, token: u64) -> Reply {
        let is_his = |held: &Held| held.holder == holder && (token == 0 || held.token == token);
        if !self.leases.get(name).is_some_and(is_his) {
            return Reply::NotHeld;
        }
        self.leases.remove(name);
        Reply::Given
    }
}

impl Machine for Table {
    type Command = Command;
    type Reply = Reply;
    /// Some lease has changed hands or is free: the token given last.
    type Event = u64;

    fn apply(&mut self, at: Timestamp, command: Command, emit: &mut impl FnMut(u64)) -> Reply {
        let (reply, changed) = match command {
            Command::Take { name, holder, ttl_ms } => self.take(at, name, holder, ttl_ms),
            Command::Give { name, holder, token } => {
                let reply = self.give(&name, &holder, token);
                let given = reply == Reply::Given;
                (reply, given)
            }
        };
        if changed {
            emit(self.token);
        }
        reply
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        encode(&Stored::V1(self.token), out);
        encode(&self.leases, out);
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a snapshot of the leases";
        let Stored::V1(token) = decode(WHAT, &mut bytes)?;
        let leases: BTreeMap<String, Held> = decode(WHAT, &mut bytes)?;
        let whole = leases.iter().all(|(name, held)| {
            name.len() <= NAME_BYTES_MAX
                && held.holder.len() <= NAME_BYTES_MAX
                && held.token <= token
        });
        if !bytes.is_empty() || !whole || leases.len() > LEASES_MAX {
            return Err(Malformed { what: WHAT });
        }
        Ok(Self { leases, token })
    }
}

/// What a snapshot begins with; the leases follow. A published variant never changes.
#[derive(Serialize, Deserialize)]
enum Stored {
    V1(u64),
}

#[cfg(test)]
mod tests;
