//! Classifies an error of SQLite: was anything written, and can the file still be trusted?
//!
//! SQLite answers `SQLITE_FULL` when a write failed with ENOSPC (`unixWrite`) and when the bound
//! set by `max_page_count` is reached, and `SQLITE_IOERR_SHMSIZE` when its shared memory cannot
//! grow, which comes before any write of a transaction. In all three the transaction is rolled
//! grow, which comes before any write of a transaction. In all three the transaction is rolled
//! back and the file is unchanged. A quota (EDQUOT) or a file size limit (EFBIG) comes as
//! `SQLITE_IOERR_WRITE`, which cannot be told apart from a dying disk, so it counts as broken.
//! So does every failed fsync, even one with ENOSPC: after it the kernel may have dropped the dirty
//! pages and marked them clean.

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use crate::{AppendError, Error};

/// What an error means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing was written: there is no room.
    Full,
    /// Nothing was written: another connection holds the write lock, or memory ran out.
    Passing,
    /// The stored bytes are not those that were written.
    Damaged,
    /// Every other error: the state of the file is unknown.
    Broken,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an unknown error counts as broken, also one that a later version of SQLite adds"
)]
pub(super) fn fault(error: &rusqlite::Error) -> Fault {
    match error.sqlite_error() {
        Some(e) if e.code == ErrorCode::DiskFull => Fault::Full,
        Some(e) if e.extended_code == SQLITE_IOERR_SHMSIZE => Fault::Full,
        Some(e) => match e.code {
            // More than the 10^9 bytes that SQLite accepts in one value.
            ErrorCode::TooBig => Fault::Full,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory => {
                Fault::Passing
            }
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Fault::Damaged,
            _ => Fault::Broken,
        },
        None => Fault::Broken,
    }
}

pub(super) fn append_error(error: &rusqlite::Error) -> AppendError {
    match fault(error) {
        Fault::Full => AppendError::Full(error.to_string()),
        // Nothing was written, but the caller must do the same as if that were unknown: retry.
        Fault::Passing => AppendError::Unknown(error.to_string()),
        Fault::Damaged | Fault::Broken => AppendError::Broken(error.to_string()),
    }
}

/// `doing` is the beginning of the sentence: "the snapshot cannot be read".
pub(super) fn store_error(doing: &str, error: &rusqlite::Error) -> Error {
    match fault(error) {
        Fault::Full => Error::Full(format!("{doing}: {error}")),
        Fault::Passing | Fault::Damaged | Fault::Broken => {
            Error::Store(format!("{doing}: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::{Fault, fault};

    #[test]
    fn only_errors_that_precede_any_write_are_survived() {
        let of = |code| fault(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert_eq!(of(ffi::SQLITE_FULL), Fault::Full);
        assert_eq!(of(ffi::SQLITE_IOERR_SHMSIZE), Fault::Full);
        assert_eq!(of(ffi::SQLITE_BUSY), Fault::Passing);
        assert_eq!(of(ffi::SQLITE_CORRUPT), Fault::Damaged);
        for code in [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_TRUNCATE,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
        ] {
            assert_eq!(of(code), Fault::Broken, "{code}");
        }
    }
}
