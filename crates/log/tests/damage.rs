//! A stored batch is not the one that was written: a bit has flipped, a row is gone, somebody edited the
//! file.
//!
//! SQLite does not checksum its pages, so a flipped bit in a body is returned as data, and a node that
//! replays it computes another state than its peers, silently and forever. What holds now: every row
//! carries a checksum over its identity and body, and positions and numbers must be dense. Reading names
//! the first damaged position, returns everything before it and nothing behind it. An operator can cut
//! the log there and continue; what stood behind the cut is lost, and its numbers are never reused.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use std::path::Path;

use rusqlite::Connection;
use tidings_log::{Error, Log as _, Position, Sqlite, sqlite};

const BATCHES: u64 = 10;

fn open(directory: &Path) -> Sqlite {
    Sqlite::open(directory, sqlite::Options::default()).unwrap()
}

fn body(number: u64) -> Vec<u8> {
    vec![u8::try_from(number).unwrap(); 100]
}

fn open_filled(directory: &Path) -> Sqlite {
    let mut log = open(directory);
    for number in 1..=BATCHES {
        log.append(number, &body(number)).unwrap();
    }
    log
}

/// Modifies the file the way another program would.
fn edit(directory: &Path, sql: &str) {
    let conn = Connection::open(directory.join("tidings.db")).unwrap();
    conn.execute_batch(sql).unwrap();
}

/// Flips one bit of a column in the row at position 4.
fn flip(directory: &Path, column: &str, byte: usize) {
    let conn = Connection::open(directory.join("tidings.db")).unwrap();
    let select = format!("SELECT {column} FROM batch WHERE position = 4");
    let mut bytes: Vec<u8> = conn.query_row(&select, [], |row| row.get(0)).unwrap();
    bytes[byte] ^= 1;
    let update = format!("UPDATE batch SET {column} = ?1 WHERE position = 4");
    conn.execute(&update, [bytes]).unwrap();
}

/// Checks that position 4 is reported as damaged, that 1 to 3 are returned, and nothing behind it.
fn assert_damaged_at_4(log: &mut Sqlite, behind_expected: u64) -> String {
    let good = log.read(Position(1), usize::MAX).unwrap();
    let bodies: Vec<Vec<u8>> = good.into_iter().map(|batch| batch.body).collect();
    assert_eq!(bodies, [body(1), body(2), body(3)]);
    match log.read(Position(4), usize::MAX) {
        Err(Error::Damaged { position: Position(4), what, behind }) => {
            assert_eq!(behind, behind_expected);
            what
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_flipped_byte_of_a_row_is_reported_with_its_position() {
    let places =
        (0..32).map(|byte| ("head", byte)).chain([("body", 0), ("body", 50), ("body", 99)]);
    for (column, byte) in places {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open_filled(directory.path());
        flip(directory.path(), column, byte);
        assert_damaged_at_4(&mut log, 6);
    }
}

#[test]
fn a_changed_or_missing_row_is_reported_with_its_position() {
    let swap = "UPDATE batch SET position = 99 WHERE position = 4;
                UPDATE batch SET position = 4 WHERE position = 5;
                UPDATE batch SET position = 5 WHERE position = 99;";
    for (sql, what_expected) in [
        ("UPDATE batch SET body = substr(body, 1, 99) WHERE position = 4", "checksum"),
        ("UPDATE batch SET body = 'text' WHERE position = 4", "does not hold bytes"),
        ("DELETE FROM batch WHERE position = 4", "missing"),
        (swap, "position 5"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open_filled(directory.path());
        edit(directory.path(), sql);
        let what = assert_damaged_at_4(&mut log, 6);
        assert!(what.contains(what_expected), "{sql}: {what}");
    }
}

#[test]
fn a_missing_first_row_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_filled(directory.path());
    edit(directory.path(), "DELETE FROM batch WHERE position <= 2");
    let read = log.read(Position(1), usize::MAX);
    assert!(
        matches!(read, Err(Error::Damaged { position: Position(1), behind: 8, .. })),
        "{read:?}"
    );
}

#[test]
fn overwritten_pages_are_reported_and_nothing_behind_them_is_returned() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path());
    for number in 1..=BATCHES {
        log.append(number, &vec![u8::try_from(number).unwrap(); 20_000]).unwrap();
    }
    drop(log);
    let file = directory.path().join("tidings.db");
    let mut bytes = std::fs::read(&file).unwrap();
    // The middle of the body of batch 6, wherever that is: only that body repeats the byte 6.
    let run = bytes.windows(4000).position(|window| window.iter().all(|b| *b == 6)).unwrap();
    bytes[run..run + 4000].fill(0xEE);
    std::fs::write(&file, bytes).unwrap();
    let mut log = open(directory.path());
    assert_eq!(log.read(Position(1), usize::MAX).unwrap().len(), 5);
    let read = log.read(Position(6), usize::MAX);
    assert!(matches!(read, Err(Error::Damaged { position: Position(6), .. })), "{read:?}");
}

#[test]
fn verify_counts_intact_batches_and_names_where_the_damage_begins() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_filled(directory.path());
    log.write_snapshot(Position(2), 0, b"snapshot", true).unwrap();
    let report = sqlite::verify(directory.path()).unwrap();
    assert_eq!((report.batches, report.bytes), (10, 1000));
    assert_eq!((report.first, report.next), (Position(1), Position(11)));
    assert_eq!((report.snapshot, report.damaged), (Some(Position(2)), None));
    flip(directory.path(), "body", 7);
    edit(directory.path(), "UPDATE chunk SET body = x'00'");
    let report = sqlite::verify(directory.path()).unwrap();
    assert_eq!((report.batches, report.damaged), (3, Some(Position(4))));
    assert_eq!((report.snapshot, report.damages.len()), (None, 2));
}

#[test]
fn a_damaged_snapshot_is_reported_and_never_returned() {
    let edits = [
        "UPDATE chunk SET body = x'00' WHERE number = 1",
        "DELETE FROM chunk WHERE number = 1",
        "DELETE FROM chunk WHERE number = 0",
        "UPDATE snapshot SET position = 1",
        "UPDATE snapshot SET chunks = 1",
    ];
    for sql in edits {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open_filled(directory.path());
        log.write_snapshot(Position(2), 0, b"one", false).unwrap();
        log.write_snapshot(Position(2), 1, b"two", true).unwrap();
        edit(directory.path(), sql);
        let read = log.read_snapshot();
        assert!(matches!(read, Err(Error::DamagedSnapshot { .. })), "{sql}: {read:?}");
        drop(log);
        assert!(open(directory.path()).read_snapshot().is_err(), "{sql}");
    }
}

#[test]
fn a_log_that_was_cut_continues_with_new_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_filled(directory.path());
    flip(directory.path(), "body", 7);
    assert_eq!(log.cut(Position(4)).unwrap(), 7);
    assert_eq!(log.last_number(), 10, "numbers are never reused");
    let retried = log.append(10, &body(10));
    assert!(retried.is_err(), "a batch that was cut off cannot be retried: {retried:?}");
    assert_eq!(log.append(11, &body(11)).unwrap(), Position(4));
    drop(log);
    let mut log = open(directory.path());
    assert_eq!(log.last_number(), 11);
    assert_eq!(log.append(11, &body(11)).unwrap(), Position(4), "a retry");
    assert_eq!(log.append(12, &body(12)).unwrap(), Position(5));
    let numbers: Vec<u64> =
        log.read(Position(1), usize::MAX).unwrap().iter().map(|batch| batch.number).collect();
    assert_eq!(numbers, [1, 2, 3, 11, 12]);
    assert_eq!(sqlite::verify(directory.path()).unwrap().damaged, None);
}

#[test]
fn a_cut_below_an_intact_snapshot_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_filled(directory.path());
    log.write_snapshot(Position(5), 0, b"five", true).unwrap();
    flip(directory.path(), "body", 7);
    assert!(log.cut(Position(4)).is_err());
    assert!(log.cut(Position(12)).is_err(), "behind the end");
    while log.truncate(Position(6)).unwrap() > 0 {}
    assert_eq!(log.read(Position(6), usize::MAX).unwrap().len(), 5, "the damage is truncated");
    edit(directory.path(), "UPDATE chunk SET body = x'00'");
    assert_eq!(log.cut(Position(6)).unwrap(), 5, "no intact snapshot covers them");
}

#[test]
fn verify_reads_a_log_that_no_process_has_open() {
    let directory = tempfile::tempdir().unwrap();
    drop(open_filled(directory.path()));
    let report = sqlite::verify(directory.path()).unwrap();
    assert_eq!((report.batches, report.damages), (10, Vec::new()));
    assert!(sqlite::verify(&directory.path().join("missing")).is_err());
}
