//! What the tests of all machines share: golden files, and commands at rising times.

use alloc::vec::Vec;
use core::fmt::Debug;
use std::format;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Machine, Timestamp, decode, encode};

/// Returns the contents of a golden file. A missing file is written with the current encoding, and fails the
/// test: review and commit it if it belongs to a new version.
#[expect(clippy::disallowed_methods, reason = "golden files are read by tests, not by a machine")]
fn golden(name: &str, current: &[u8]) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|_| {
        std::fs::write(&path, current).unwrap();
        panic!("{path} was missing and has been written: commit it if it is a new version");
    })
}

/// Checks that commands still encode to a golden file, and that it decodes to them.
pub(super) fn assert_golden_commands<C>(name: &str, commands: &[C])
where
    C: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut current = Vec::new();
    commands.iter().for_each(|command| encode(command, &mut current));
    let stored = golden(name, &current);
    assert_eq!(current, stored);
    let mut rest = stored.as_slice();
    for expected in commands {
        assert_eq!(&decode::<C>("a command", &mut rest).unwrap(), expected);
    }
    assert!(rest.is_empty());
}

/// Checks that a machine still has a golden snapshot, and that one restored from it has it too. Returns the
/// restored one.
pub(super) fn assert_golden_snapshot<M: Machine>(name: &str, machine: &M) -> M {
    let current = snapshot(machine);
    let stored = golden(name, &current);
    assert_eq!(current, stored);
    let restored = M::restore(&stored).unwrap();
    assert_eq!(snapshot(&restored), stored);
    restored
}

pub(super) fn snapshot<M: Machine>(machine: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.snapshot(&mut bytes);
    bytes
}

/// Stores a machine and restores it, as a restart does.
pub(super) fn restart<M: Machine>(machine: &M) -> M {
    M::restore(&snapshot(machine)).unwrap()
}

/// Gives each command a time: the milliseconds before it are added to the time of the one before.
pub(super) fn at_rising_times<C>(steps: Vec<(u64, C)>) -> Vec<(Timestamp, C)> {
    let mut at = 0;
    let timed = steps.into_iter().map(|(later, command)| {
        at += later;
        (Timestamp(at), command)
    });
    timed.collect()
}
