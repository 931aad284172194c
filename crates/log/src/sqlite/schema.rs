//! The tables, the settings of the connection, and the `meta` table.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use super::envelope::FORMAT;
use super::fault::store_error;
use crate::{Error, Origin, Position};

/// Marks the file as ours in SQLite's header: "tdng".
const APPLICATION_ID: i64 = 0x7464_6e67;
/// The key under which the local state of a node stores which remote log it belongs to.
pub(super) const ELSEWHERE: &str = "elsewhere";
/// Bytes of a page. `mod.rs` has the measurements behind it.
pub(super) const PAGE_BYTES: u64 = 8192;
/// KiB of pages that the connection keeps in memory: enough for the tree's inner pages, as appends
/// touch only its right edge.
const CACHE_KIB: i64 = 2048;
/// A WAL that has grown beyond this is cut back to it once it has been checkpointed.
const WAL_BYTES_KEPT: i64 = 16 << 20;
/// How long a write waits for another program (`sqlite3`, say) that holds the write lock.
const BUSY_WAIT: Duration = Duration::from_secs(5);

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE batch (position INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL);
    CREATE TABLE snapshot (
        id INTEGER PRIMARY KEY, position INTEGER NOT NULL,
        chunks INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL
    );
    CREATE TABLE chunk (
        id INTEGER PRIMARY KEY, snapshot INTEGER NOT NULL, number INTEGER NOT NULL,
        head BLOB NOT NULL, body BLOB NOT NULL, UNIQUE (snapshot, number)
    );
    INSERT INTO meta VALUES
        ('first', 1), ('anchor_position', 1), ('anchor_number', 1), ('origin', random());
";

/// The contents of the meta table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) origin: Origin,
    /// Every batch before it has been truncated.
    pub(super) first: Position,
    pub(super) anchor: Anchor,
    /// The checksum of the newest batch. Written only when truncation removes that batch, because
    /// otherwise its row still holds it.
    pub(super) last_crc: Option<u32>,
}

/// From `position` on, positions and numbers grow together: the batch at `position` has the number
/// `number`. So an append need not store the last number. Cutting the log moves the anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) position: Position,
    pub(super) number: u64,
}

impl Anchor {
    /// Returns the number of the batch at a position, or `None` before the anchor.
    pub(super) fn number_at(self, position: Position) -> Option<u64> {
        let distance = position.0.checked_sub(self.position.0)?;
        Some(self.number + distance)
    }
}

/// Stores a `u64` as SQLite's signed integer. Positions and numbers stay far below 2^63; an origin may
/// be any 64 bits, and wraps.
pub(super) const fn int(value: u64) -> i64 {
    value.cast_signed()
}

/// Opens the database for reading and writing, and creates it if it is missing.
pub(super) fn open(path: &Path) -> Result<Connection, Error> {
    let cannot = |error: rusqlite::Error| {
        store_error(&format!("{} cannot be opened", path.display()), &error)
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(cannot)?;
    conn.busy_timeout(BUSY_WAIT).map_err(cannot)?;
    let fresh = application(&conn, path)? == 0;
    configure(&conn).map_err(cannot)?;
    if fresh {
        create(&mut conn).map_err(cannot)?;
    }
    Ok(conn)
}

/// Opens the database read-only. It must exist.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)
        .and_then(|conn| conn.busy_timeout(BUSY_WAIT).map(|()| conn))
        .map_err(|error| store_error(&format!("{} cannot be opened", path.display()), &error))?;
    if application(&conn, path)? == 0 {
        return Err(Error::Store(format!("{} is empty", path.display())));
    }
    Ok(conn)
}

/// Returns the application id, 0 for a new file. A file of another program is an error.
fn application(conn: &Connection, path: &Path) -> Result<i64, Error> {
    let sql = "SELECT a.application_id, (SELECT count(*) FROM sqlite_schema)
               FROM pragma_application_id AS a";
    let (id, tables): (i64, i64) = conn
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|error| store_error(&format!("{} cannot be read", path.display()), &error))?;
    match (id, tables) {
        (0, 0) | (APPLICATION_ID, 1..) => Ok(id),
        _ => Err(Error::Store(format!("{} is not a log of this program", path.display()))),
    }
}

fn configure(conn: &Connection) -> rusqlite::Result<()> {
    // Has an effect only on a new file, and only before WAL is set.
    conn.pragma_update(None, "page_size", int(PAGE_BYTES))?;
    // An append becomes one sequential write, and readers never block it.
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL would sync the WAL only at checkpoints: a power cut would lose acknowledged batches.
    conn.pragma_update(None, "synchronous", "FULL")?;
    // `Sqlite` runs checkpoints itself, to see their errors; automatic ones swallow a failed fsync.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // Reports a malformed page as corruption instead of reading beyond it.
    conn.pragma_update(None, "cell_size_check", true)
}

/// Creates the tables in one transaction: a process that dies here leaves an empty file, which the next
/// start initialises.
fn create(conn: &mut Connection) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(TABLES)?;
    set_meta(&tx, "format", i64::from(FORMAT))?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.commit()
}

/// Reads the meta table, and rejects a file of a newer version.
pub(super) fn meta(conn: &Connection, path: &Path) -> Result<Meta, Error> {
    let get = |key: &str| number(conn, key);
    let need = |key: &str| -> Result<u64, Error> {
        get(key)?
            .map(i64::cast_unsigned)
            .ok_or_else(|| Error::Store(format!("{}: meta has no row {key:?}", path.display())))
    };
    let format = need("format")?;
    if format != u64::from(FORMAT) {
        return Err(Error::Store(format!(
            "{} has format {format}, this version of the program knows only {FORMAT}: it was \
             written by a newer one, which is needed to open it",
            path.display()
        )));
    }
    Ok(Meta {
        origin: Origin(need("origin")?),
        first: Position(need("first")?),
        anchor: Anchor {
            position: Position(need("anchor_position")?),
            number: need("anchor_number")?,
        },
        last_crc: get("last_crc")?.and_then(|crc| u32::try_from(crc).ok()),
    })
}

/// Returns the number stored under a key of the meta table.
pub(super) fn number(conn: &Connection, key: &str) -> Result<Option<i64>, Error> {
    conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
        .optional()
        .map_err(|error| store_error("the table of numbers cannot be read", &error))
}

/// Writes one number, inside the current transaction.
pub(super) fn set_meta(conn: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    conn.prepare_cached(sql)?.execute(params![key, value])?;
    Ok(())
}

/// Returns the position behind the newest batch.
pub(super) fn next(conn: &Connection, meta: &Meta) -> rusqlite::Result<Position> {
    let last: Option<i64> =
        conn.query_row("SELECT max(position) FROM batch", [], |row| row.get(0))?;
    let behind_last = last.map_or(Position(1), |last| Position(last.cast_unsigned()).next());
    Ok(behind_last.max(meta.first).max(meta.anchor.position))
}
