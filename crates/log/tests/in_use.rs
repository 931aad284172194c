//! Two processes open one directory, the directory cannot be created, or the file is not ours.
//!
//! Two processes that append to one file would each assign the same positions: one of them would
//! overwrite, or misread, what the other has acknowledged. A lock on a file of its own prevents that; it
//! is not SQLite's lock, so that `sqlite3` and Litestream can read the database meanwhile. A row that
//! another program inserts all the same breaks the log instead of being taken for one of ours.

use std::path::Path;

use rusqlite::Connection;
use tidings_log::{AppendError, Error, Log as _, Position, Sqlite, sqlite};

fn open(directory: &Path) -> Result<Sqlite, Error> {
    Sqlite::open(directory, sqlite::Options::default())
}

#[test]
fn a_second_opener_learns_which_process_has_the_directory() {
    // A lock belongs to an open file, not to a process: a second open of this process conflicts too.
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    let Err(Error::InUse(sentence)) = open(directory.path()) else {
        panic!("opened twice");
    };
    assert!(sentence.contains(&directory.path().display().to_string()), "{sentence}");
    assert!(sentence.contains(&std::process::id().to_string()), "{sentence}");
    drop(first);
    open(directory.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_created_is_named_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let sentence = open(&file.join("data")).unwrap_err().to_string();
    assert!(sentence.contains("file/data") && sentence.contains("directory"), "{sentence}");
}

#[test]
fn other_programs_can_read_the_file_while_it_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).unwrap();
    log.append(1, b"one").unwrap();
    let other = Connection::open(directory.path().join("tidings.db")).unwrap();
    let count = "SELECT count(*) FROM batch";
    assert_eq!(other.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    // A reader inside a transaction keeps its view and blocks no append.
    other.execute_batch("BEGIN; SELECT count(*) FROM batch").unwrap();
    for number in 2..1200 {
        log.append(number, &[0; 100]).unwrap();
    }
    assert_eq!(log.read(Position(1), usize::MAX).unwrap().len(), 1199);
}

#[test]
fn another_programs_database_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let other = Connection::open(directory.path().join("tidings.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(other);
    assert!(open(directory.path()).unwrap_err().to_string().contains("not a log"));
}

#[test]
fn a_file_of_a_newer_version_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let other = Connection::open(directory.path().join("tidings.db")).unwrap();
    other.execute_batch("UPDATE meta SET value = 2 WHERE key = 'format'").unwrap();
    drop(other);
    let sentence = open(directory.path()).unwrap_err().to_string();
    assert!(sentence.contains("format 2") && sentence.contains("newer"), "{sentence}");
    assert!(sqlite::verify(directory.path()).is_err());
}

#[test]
fn a_directory_removed_under_a_running_log_fails_its_check() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).unwrap();
    log.check().unwrap();
    std::fs::remove_file(directory.path().join("tidings.db")).unwrap();
    assert!(log.check().unwrap_err().to_string().contains("removed"));
}

#[test]
fn a_log_that_another_program_wrote_to_breaks_and_stays_broken() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).unwrap();
    log.append(1, b"one").unwrap();
    let other = Connection::open(directory.path().join("tidings.db")).unwrap();
    other.execute_batch("INSERT INTO batch VALUES (2, x'00', x'00')").unwrap();
    for _ in 0..2 {
        let appended = log.append(2, b"two");
        assert!(matches!(appended, Err(AppendError::Broken(_))), "{appended:?}");
        other.execute_batch("DELETE FROM batch WHERE position = 2").unwrap();
    }
    assert!(log.bounds().is_err() && log.read(Position(1), 1).is_err() && log.check().is_err());
    drop(log);
    let mut log = open(directory.path()).unwrap();
    assert_eq!(log.append(2, b"two").unwrap(), Position(2), "a restart reads the file again");
}
