//! The conformance suite, run against each log of this crate, also with injected failures.

use tidings_log::faulty::{Fault, Faulty};
use tidings_log::{Log as _, Memory, Sqlite, conformance, sqlite};

/// An endless plan of failures: about every third call fails with a fault that allows a retry.
fn faults(seed: u64) -> impl Iterator<Item = Option<Fault>> + Send {
    (seed..).map(|n| match n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 {
        0 | 1 => Some(Fault::Full),
        2 | 3 => Some(Fault::UnknownWritten),
        4 => Some(Fault::UnknownLost),
        _ => None,
    })
}

#[test]
fn memory_keeps_the_contract() {
    conformance::all(|| {
        let store = Memory::default();
        move || store.reopen()
    });
}

#[test]
fn sqlite_keeps_the_contract() {
    conformance::all(|| {
        let directory = tempfile::tempdir().unwrap();
        move || Sqlite::open(directory.path(), sqlite::Options::default()).unwrap()
    });
}

#[test]
fn retried_failures_neither_lose_nor_duplicate_a_batch() {
    for seed in 1..=8 {
        let store = Memory::default();
        conformance::a_random_life(|| Faulty::scripted(store.reopen(), faults(seed)), seed, 400);
        let directory = tempfile::tempdir().unwrap();
        conformance::a_random_life(
            || {
                let log = Sqlite::open(directory.path(), sqlite::Options::default()).unwrap();
                Faulty::scripted(log, faults(seed))
            },
            seed,
            60,
        );
    }
}

#[test]
fn two_origins_on_one_memory_read_the_same_batches_in_the_same_order() {
    let mut ours = Memory::default();
    let mut theirs = ours.join(tidings_log::Origin(2));
    for number in 1..=3 {
        ours.append(number, b"ours").unwrap();
        theirs.append(number, b"theirs").unwrap();
    }
    let read = ours.read(tidings_log::Position(1), usize::MAX).unwrap();
    assert_eq!(read.len(), 6);
    assert_eq!(read, theirs.read(tidings_log::Position(1), usize::MAX).unwrap());
    assert_eq!((ours.last_number(), theirs.last_number()), (3, 3));
}
