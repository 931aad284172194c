//! The laws that every [`Machine`] obeys, as functions to call from a test.
//!
//! Give [`check`] a way to make a machine and some commands with their times. It applies them to
//! two machines at once, takes one of them apart and puts it together again in the middle, and
//! compares everything they say.

use alloc::vec::Vec;
use core::fmt::Debug;

use crate::machine::{Machine, Timestamp, decode, encode};

/// Holds a machine to the law at the top of [`crate::machine`].
///
/// - The same commands give the same replies, events, deadlines and snapshot, on two machines that
///   are seeded apart.
/// - A machine restored from a snapshot, taken before every `restart_every`-th command, goes on as
///   the one that was never taken apart.
/// - Every command reads back from its stored form.
///
/// Due deadlines are ticked before each command. Times that run backwards are raised to the one
/// before.
///
/// # Panics
/// When the machine breaks the law; the message says where.
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
    let (mut steady, mut restarted) = (make(), make());
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
            let (mut one, mut other) = (Vec::new(), Vec::new());
            steady.tick(due, &mut |event| one.push(event));
            restarted.tick(due, &mut |event| other.push(event));
            assert_eq!(one, other, "events of the tick before command {i}");
            assert!(steady.next_deadline() != Some(due), "a tick deals with what is due");
        }
        let stored = through_storage(&command);
        assert_eq!(stored, command, "command {i} after a trip through storage");
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let reply = steady.apply(now, command, &mut |event| one.push(event));
        let again = restarted.apply(now, stored, &mut |event| other.push(event));
        assert_eq!(reply, again, "replies to command {i}");
        assert_eq!(one, other, "events of command {i}");
    }
    assert_eq!(bytes(&steady), bytes(&restarted), "snapshots in the end");
}

fn bytes<M: Machine>(machine: &M) -> Vec<u8> {
    let mut out = Vec::new();
    machine.snapshot(&mut out);
    out
}

#[expect(clippy::expect_used, reason = "a law that is broken ends the test")]
fn restart<M: Machine>(machine: &M) -> M {
    M::restore(&bytes(machine)).expect("a snapshot can be restored")
}

#[expect(clippy::expect_used, reason = "a law that is broken ends the test")]
fn through_storage<C: serde::Serialize + serde::de::DeserializeOwned>(command: &C) -> C {
    let mut out = Vec::new();
    encode(command, &mut out);
    decode("a command", &mut out.as_slice()).expect("a stored command can be read")
}
