//! What a batch looks like inside: a header, then entries. The log keeps its checksum.
//!
//! ```text
//! format u8 | at u64 | entries u64 (both little-endian) | ( machine u8 | command )*
//! ```
//! A machine's number with [`TICK`] set is a tick and has no command. Commands delimit themselves.
//! Number [`NODES`] is no machine: a [`Notice`] follows.

use serde::{Deserialize, Serialize};
use tidings_core::machine::{Malformed, Timestamp};

/// The only format so far.
const FORMAT: u8 = 1;

/// Set in the machine's number when the entry is a tick.
pub(crate) const TICK: u8 = 0x80;

/// Stands for no machine: what follows is for the nodes themselves.
pub(crate) const NODES: u8 = 0;

/// What nodes that share a log tell each other. Stored in the log: variants are only ever added at
/// the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// Every node takes a snapshot of what it is behind this entry.
    Checkpoint,
    /// What the states of a node's machines came to behind a checkpoint.
    Digest {
        /// The batch of the checkpoint.
        position: u64,
        /// See [`crate::snapshot::Taken::digest`].
        digest: u128,
    },
}

/// What stands before the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// When the batch was made.
    pub(crate) at: Timestamp,
    /// How many entries follow.
    pub(crate) entries: u64,
}

impl Header {
    /// How long it is, so that it can be written when what follows is known.
    pub(crate) const BYTES: usize = 17;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [FORMAT; Self::BYTES];
        let (_, rest) = bytes.split_at_mut(1);
        let (at, entries) = rest.split_at_mut(8);
        at.copy_from_slice(&self.at.0.to_le_bytes());
        entries.copy_from_slice(&self.entries.to_le_bytes());
        bytes
    }

    pub(crate) fn read(bytes: &mut &[u8]) -> Result<Self, Malformed> {
        const WHAT: Malformed = Malformed { what: "the header of a batch" };
        let (header, rest) = bytes.split_first_chunk::<{ Self::BYTES }>().ok_or(WHAT)?;
        let (format, header) = header.split_first().ok_or(WHAT)?;
        let (at, entries) = header.split_first_chunk().ok_or(WHAT)?;
        let entries = entries.first_chunk().ok_or(WHAT)?;
        if *format != FORMAT {
            return Err(WHAT);
        }
        *bytes = rest;
        Ok(Self { at: Timestamp(u64::from_le_bytes(*at)), entries: u64::from_le_bytes(*entries) })
    }
}

/// Takes the machine's number of the next entry.
pub(crate) fn machine(bytes: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = bytes.split_first().ok_or(Malformed { what: "an entry" })?;
    *bytes = rest;
    Ok(*first)
}
