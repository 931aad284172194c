//! The encoding of a batch: a header, then entries. The log adds the checksum.
//!
//! ```text
//! format u8 | at u64 | entries u64 (both little-endian) | ( machine u8 | command )*
//! ```
//! A machine's number with [`TICK`] set is a tick and has no command. Commands are self-delimiting. After the number
//! [`NODES`] follows a [`Notice`] instead of a command.

use serde::{Deserialize, Serialize};
use tidings_core::machine::{Malformed, Timestamp};

/// The only format so far.
const FORMAT: u8 = 1;

/// Set in the machine's number when the entry is a tick.
pub(crate) const TICK: u8 = 0x80;

/// The number that stands for no machine: a notice to the nodes themselves follows.
pub(crate) const NODES: u8 = 0;

/// The number of the machine of the leases, the highest that fits. Every node has it.
pub(crate) const LEASES: u8 = 0x7f;

/// A message between the nodes that share a log. It is stored in the log: variants are only added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// Asks every node for a snapshot of its state after this entry.
    Checkpoint,
    /// Publishes the digest of the machines' states of one node at a checkpoint.
    Digest {
        /// The position of the checkpoint's batch.
        position: u64,
        /// See [`crate::snapshot::Taken::digest`].
        digest: u128,
    },
}

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// When the batch was built.
    pub(crate) at: Timestamp,
    /// How many entries follow.
    pub(crate) entries: u64,
}

impl Header {
    /// The length of the encoding. The header is written last, when the entries are known.
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

/// Decodes the machine's number from the front of an entry.
pub(crate) fn machine(bytes: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = bytes.split_first().ok_or(Malformed { what: "an entry" })?;
    *bytes = rest;
    Ok(*first)
}
