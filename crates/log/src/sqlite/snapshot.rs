//! Snapshots. Each chunk is a transaction of its own, so that appends run between them. A snapshot is
//! complete if and only if it has a row in the table `snapshot`.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::envelope::Kind;
use super::fault::{Fault, fault, store_error};
use super::schema::int;
use crate::{Error, Position, Snapshot};

/// The most chunks of replaced and abandoned snapshots that one write removes: more than the one it adds,
/// so that old chunks run out, and few, so that the write stays short.
const CLEARED_MAX: i64 = 2;

/// The row of a complete snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Complete {
    pub(super) id: u64,
    pub(super) position: Position,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
}

/// A snapshot that still lacks its last chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writing {
    pub(super) id: u64,
    pub(super) position: Position,
    pub(super) chunk_next: u32,
    pub(super) bytes: u64,
}

impl Complete {
    fn crc(&self) -> u32 {
        [self.id, self.position.0, self.chunks, self.bytes]
            .iter()
            .fold(0, |crc, field| crc32c::crc32c_append(crc, &field.to_le_bytes()))
    }
}

/// Returns the row of the newest complete snapshot.
pub(super) fn newest(conn: &Connection) -> Result<Option<Complete>, Error> {
    let sql = "SELECT id, position, chunks, bytes, crc FROM snapshot ORDER BY id DESC LIMIT 1";
    let found = conn
        .query_row(sql, [], |row| {
            let [id, position, chunks, bytes, crc]: [i64; 5] =
                [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
            let complete = Complete {
                id: id.cast_unsigned(),
                position: Position(position.cast_unsigned()),
                chunks: chunks.cast_unsigned(),
                bytes: bytes.cast_unsigned(),
            };
            Ok((complete, crc))
        })
        .optional()
        .map_err(|error| store_error("the snapshot cannot be read", &error))?;
    match found {
        Some((complete, crc)) if crc != i64::from(complete.crc()) => {
            Err(damaged(&complete, "the checksum of its row does not match"))
        }
        found => Ok(found.map(|(complete, _)| complete)),
    }
}

/// Returns an id above every id in the file, those of abandoned chunks included.
pub(super) fn id_next(conn: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT max(coalesce((SELECT max(id) FROM snapshot), 0),
                          coalesce((SELECT max(snapshot) FROM chunk), 0))";
    conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|id| id.cast_unsigned() + 1)
}

/// Adds a chunk; with `last`, also the row that completes the snapshot.
pub(super) fn add(
    tx: &Transaction<'_>,
    writing: Writing,
    body: &[u8],
    last: bool,
) -> rusqlite::Result<Option<Complete>> {
    let Writing { id, position, chunk_next: number, bytes } = writing;
    let head = Kind::Chunk.seal([id, position.0, u64::from(number)], body);
    tx.prepare_cached("INSERT INTO chunk (snapshot, number, head, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![int(id), number, &head[..], body])?;
    if !last {
        return Ok(None);
    }
    let complete =
        Complete { id, position, chunks: u64::from(number) + 1, bytes: bytes + body.len() as u64 };
    tx.execute(
        "INSERT INTO snapshot VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            int(id),
            int(position.0),
            int(complete.chunks),
            int(complete.bytes),
            complete.crc()
        ],
    )?;
    tx.execute("DELETE FROM snapshot WHERE id <> ?1", [int(id)])?;
    Ok(Some(complete))
}

/// Removes a few chunks that belong to neither of the two snapshots. Reads each of their pages and writes
/// a few.
pub(super) fn clear(
    tx: &Transaction<'_>,
    complete: Option<Complete>,
    writing: Option<Writing>,
) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM chunk WHERE id IN
               (SELECT id FROM chunk WHERE snapshot <> ?1 AND snapshot <> ?2 LIMIT ?3)";
    let complete = complete.map_or(0, |c| int(c.id));
    let writing = writing.map_or(0, |w| int(w.id));
    tx.prepare_cached(sql)?.execute([complete, writing, CLEARED_MAX])
}

/// Reads all chunks and joins them.
pub(super) fn read(conn: &Connection, complete: &Complete) -> Result<Snapshot, Error> {
    let mut body = Vec::with_capacity(usize::try_from(complete.bytes).unwrap_or_default());
    each_chunk(conn, complete, |chunk| body.extend_from_slice(chunk))?;
    Ok(Snapshot { position: complete.position, body })
}

/// Passes all chunks to `visit`, in order, each as it was written.
pub(super) fn each_chunk(
    conn: &Connection,
    complete: &Complete,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let wrong = |error: &rusqlite::Error| match fault(error) {
        Fault::Damaged => damaged(complete, &error.to_string()),
        Fault::Full | Fault::Passing | Fault::Broken => {
            store_error("the snapshot cannot be read", error)
        }
    };
    let sql = "SELECT head, body FROM chunk WHERE snapshot = ?1 ORDER BY number";
    let mut statement = conn.prepare_cached(sql).map_err(|e| wrong(&e))?;
    let mut rows = statement.query([int(complete.id)]).map_err(|e| wrong(&e))?;
    let mut number = 0;
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(|e| wrong(&e))? {
        let stored =
            row.get_ref(0).and_then(|head| Ok((head, row.get_ref(1)?))).map_err(|e| wrong(&e))?;
        let (Ok(head), Ok(chunk)) = (stored.0.as_blob(), stored.1.as_blob()) else {
            return Err(damaged(complete, "a chunk does not hold bytes"));
        };
        let fields = Kind::Chunk
            .open(head, chunk)
            .map_err(|what| damaged(complete, &format!("chunk {number}: {what}")))?;
        if fields != [complete.id, complete.position.0, number] {
            return Err(damaged(complete, &format!("chunk {number} is missing")));
        }
        visit(chunk);
        number += 1;
        bytes += chunk.len() as u64;
    }
    if (number, bytes) != (complete.chunks, complete.bytes) {
        return Err(damaged(
            complete,
            &format!(
                "{number} of {} chunks are there, {bytes} of {} bytes",
                complete.chunks, complete.bytes
            ),
        ));
    }
    Ok(())
}

fn damaged(complete: &Complete, what: &str) -> Error {
    Error::DamagedSnapshot { position: complete.position, what: what.to_owned() }
}
