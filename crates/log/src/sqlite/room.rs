//! Room: how much there is, how it is bounded, and how truncation frees it.

use rusqlite::{Connection, TransactionBehavior, params};

use super::Sqlite;
use super::fault::store_error;
use super::schema::{PAGE_BYTES, int, set_meta};
use crate::{Error, Position};

/// The most batches that one call of [`Log::truncate`] removes, so that an append does not wait long.
const TRUNCATE_ROWS_MAX: i64 = 1024;
/// Bytes of bodies after which one call of [`Log::truncate`] removes no further batch.
const TRUNCATE_BYTES_MAX: u64 = 4 << 20;
/// With fewer free bytes than this [`Log::check`] reports that there is no room.
const ROOM_BYTES_MIN: u64 = 1 << 20;
/// One part in this many of [`Options::bytes_max`] is reserved for snapshots.
pub(super) const SNAPSHOT_SHARE: u64 = 8;

impl Sqlite {
    /// Bounds the file to `parts` of the [`SNAPSHOT_SHARE`] parts of its configured bound.
    pub(super) fn bound(&self, parts: u64) -> rusqlite::Result<()> {
        let Some(bytes_max) = self.bytes_max else {
            return Ok(());
        };
        let pages = (bytes_max / SNAPSHOT_SHARE * parts / PAGE_BYTES).max(1);
        // SQLite raises a bound below the current size to that size; its own maximum is 2^32 - 2.
        self.conn.pragma_update(None, "max_page_count", int(pages.min(u64::from(u32::MAX) - 1)))
    }

    pub(super) fn remove_slice(&mut self, before: Position) -> Result<u64, Error> {
        self.ensure_usable()?;
        let covered = self.snapshot.map_or(Position(0), |s| s.position);
        let before = before.min(covered.next()).min(self.next);
        if before <= self.first {
            return Ok(0);
        }
        let to = slice_end(&self.conn, self.first, before)
            .map_err(|error| store_error("the log cannot be truncated", &error))?;
        let last_crc = self.last_crc.filter(|_| to == self.next);
        self.write("the log cannot be truncated", |tx| {
            tx.prepare_cached("DELETE FROM batch WHERE position < ?1")?.execute([int(to.0)])?;
            if let Some(crc) = last_crc {
                set_meta(tx, "last_crc", i64::from(crc))?;
            }
            set_meta(tx, "first", int(to.0))
        })?;
        let removed = to.0 - self.first.0;
        self.first = to;
        self.count_wal_pages(0);
        Ok(removed)
    }

    pub(super) fn check_room(&mut self) -> Result<(), Error> {
        self.ensure_usable()?;
        let file = self.directory.database();
        if !file.exists() {
            return Err(Error::Store(format!("{} has been removed", file.display())));
        }
        self.conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(rusqlite::Transaction::rollback)
            .map_err(|error| store_error("the log cannot be written", &error))?;
        let needed = ROOM_BYTES_MIN.max(self.refused_bytes.saturating_mul(2));
        let room = self.room()?;
        if room < needed {
            return Err(Error::Full(format!(
                "{} has room for {room} bytes, {needed} are needed",
                self.directory.path.display()
            )));
        }
        Ok(())
    }

    /// Returns how many bytes can still be written, according to the file system and the file's bound.
    fn room(&self) -> Result<u64, Error> {
        let disk = rustix::fs::statvfs(&self.directory.path).map_err(|error| {
            Error::Store(format!(
                "the free space of {} cannot be read: {error}",
                self.directory.path.display()
            ))
        })?;
        let disk_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if self.bytes_max.is_none() {
            return Ok(disk_bytes);
        }
        let sql = "SELECT max_page_count - page_count + freelist_count
                   FROM pragma_max_page_count, pragma_page_count, pragma_freelist_count";
        let pages: i64 = self
            .conn
            .query_row(sql, [], |row| row.get(0))
            .map_err(|error| store_error("the size of the log cannot be read", &error))?;
        Ok(disk_bytes.min(pages.max(0).cast_unsigned() * PAGE_BYTES))
    }
}

/// Returns the end of the slice of `first..before` to remove in one call: at least one batch, at most
/// [`TRUNCATE_ROWS_MAX`], and none behind the batch with which [`TRUNCATE_BYTES_MAX`] is reached.
fn slice_end(conn: &Connection, first: Position, before: Position) -> rusqlite::Result<Position> {
    let sql = "SELECT position, length(body) FROM batch
               WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![int(first.0), int(before.0), TRUNCATE_ROWS_MAX])?;
    let mut end = before;
    let mut count = 0;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        bytes += row.get::<_, i64>(1)?.cast_unsigned();
        if count == TRUNCATE_ROWS_MAX || bytes >= TRUNCATE_BYTES_MAX {
            end = Position(row.get::<_, i64>(0)?.cast_unsigned()).next();
            break;
        }
    }
    Ok(end)
}
