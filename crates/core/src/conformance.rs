//! The rules of [`Machine`] as functions to call from a test.
//!
//! Give [`check`] a constructor and commands with their times. It applies the commands to two machines,
//! restores one of them from a snapshot every few commands, and compares everything the two return.

use alloc::vec::Vec;
use core::fmt::Debug;

use crate::machine::{Machine, Timestamp, decode, encode};

/// Checks a machine against the rules of [`Machine`].
///
/// - The same commands give the same replies, events, deadlines and snapshot on two machines whose hash
///   tables are seeded differently.
/// - A machine restored from a snapshot, before every `restart_every`-th command, behaves like the one
///   that keeps running.
/// - Every command decodes to itself from its stored form.
///
/// Ticks that are due run before each command. A time lower than the previous one is raised to it.
///
/// # Panics
/// When the machine breaks a rule; the message says which and where.
pub fn check<M>(
    make: impl Fn() -> M,
    commands: impl IntoIterator<Item = (Timestamp, M::Command)>,
    restart_every: usize,
) where
    M: Machine,
    M::Command: Clone + PartialEq + Debug,
    M::Reply: PartialEq + Debug,
    M::Event: PartialEq + Debug,
{
    let mut steady = make();
    let mut restarted = make();
    let mut now = Timestamp(0);
    for (i, (at, command)) in commands.into_iter().enumerate() {
        now = now.max(at);
        if i % restart_every.max(1) == 0 {
            restarted = restart(&restarted);
        }
        assert_eq!(
            steady.next_deadline(),
            restarted.next_deadline(),
            "deadline before command {i}"
        );
        while let Some(due) = steady.next_deadline().filter(|due| *due <= now) {
            let mut one = Vec::new();
            let mut other = Vec::new();
            steady.tick(due, &mut |event| one.push(event));
            restarted.tick(due, &mut |event| other.push(event));
            assert_eq!(one, other, "events of the tick before command {i}");
            assert!(steady.next_deadline() != Some(due), "a tick handles what is due");
        }
        let stored = through_storage(&command);
        assert_eq!(stored, command, "command {i} after a trip through storage");
        let mut one = Vec::new();
        let mut other = Vec::new();
        let reply = steady.apply(now, command, &mut |event| one.push(event));
        let again = restarted.apply(now, stored, &mut |event| other.push(event));
        assert_eq!(reply, again, "replies to command {i}");
        assert_eq!(one, other, "events of command {i}");
    }
    assert_eq!(bytes(&steady), bytes(&restarted), "snapshots at the end");
}

fn bytes<M: Machine>(machine: &M) -> Vec<u8> {
    let mut out = Vec::new();
    machine.snapshot(&mut out);
    out
}

#[expect(clippy::expect_used, reason = "a broken rule fails the test")]
fn restart<M: Machine>(machine: &M) -> M {
    M::restore(&bytes(machine)).expect("a snapshot can be restored")
}

#[expect(clippy::expect_used, reason = "a broken rule fails the test")]
fn through_storage<C: serde::Serialize + serde::de::DeserializeOwned>(command: &C) -> C {
    let mut out = Vec::new();
    encode(command, &mut out);
    decode("a command", &mut out.as_slice()).expect("a stored command can be read")
}
