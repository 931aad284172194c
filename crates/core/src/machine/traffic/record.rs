//! The encoding of a feed: a sequence of records, in the order in which the frames contained them.
//!
//! ```text
//! 0 child parent | 1 source destination | 2 source destination | 3 source destination
//! ```
//! The first byte is the type of the record: a child belongs to a parent; a call was served; a call was
//! rejected (400 to 499); a call failed (500 and above). Every id has 16 bytes.

use alloc::vec::Vec;

use crate::structure::tally::{Id, Kind};

/// The length of a record.
pub const BYTES: usize = 33;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A child belongs to a parent.
    Belongs {
        /// The child.
        child: &'a Id,
        /// The parent.
        parent: &'a Id,
    },
    /// A child has called another one.
    Call {
        /// The caller.
        source: &'a Id,
        /// The callee.
        destination: &'a Id,
        /// How the call ended.
        kind: Kind,
    },
}

/// Returns the kind of a call that ended with this status.
pub const fn kind(http_status: u16) -> Kind {
    match http_status {
        400..=499 => Kind::Rejected,
        500.. => Kind::Failed,
        0..=399 => Kind::Served,
    }
}

/// Appends a record.
#[inline]
pub fn write(out: &mut Vec<u8>, record: Record<'_>) {
    let (tag, first, second) = match record {
        Record::Belongs { child, parent } => (0, child, parent),
        Record::Call { source, destination, kind } => {
            let tag = match kind {
                Kind::Served => 1,
                Kind::Rejected => 2,
                Kind::Failed => 3,
            };
            (tag, source, destination)
        }
    };
    out.push(tag);
    out.extend_from_slice(first);
    out.extend_from_slice(second);
}

/// Splits the first record off. `None` when the bytes do not begin with a complete one.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (second, rest) = rest.split_first_chunk()?;
    let kind = match tag {
        0 => return Some((Record::Belongs { child: first, parent: second }, rest)),
        1 => Kind::Served,
        2 => Kind::Rejected,
        3 => Kind::Failed,
        _ => return None,
    };
    Some((Record::Call { source: first, destination: second, kind }, rest))
}

/// Returns whether there is a call among the records.
pub(super) fn has_calls(bytes: &[u8]) -> bool {
    bytes.chunks(BYTES).any(|record| record.first().is_some_and(|tag| *tag != 0))
}
