//! The encoding of a snapshot: an envelope around the states of all machines.
//!
//! ```text
//! "TDGS" | format u8 | crc32c u32 (little-endian, of all that follows) | zstd( head | states )
//! ```

use std::collections::BTreeMap;
use std::hash::Hash as _;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tidings_core::machine::{Malformed, Timestamp, decode, encode};

const MAGIC: &[u8; 4] = b"TDGS";
const FORMAT: u8 = 1;
const ENVELOPE_BYTES: usize = 9;
/// At this level compressing costs less than writing the bytes that it saves.
const ZSTD_LEVEL: i32 = 1;

/// How far the machines have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The position of the last batch applied.
    pub(crate) position: u64,
    /// Entries applied since the beginning of the log.
    pub(crate) entries: u64,
    /// The time of the last entry.
    pub(crate) at: Timestamp,
    /// The number of the last batch of each origin. A batch that is read again is recognised by it, and not applied again.
    pub(crate) origins: BTreeMap<u64, u64>,
}

/// The fields of [`Applied`], then the number and the length of the state of each machine.
#[derive(Serialize, Deserialize)]
struct Head {
    position: u64,
    entries: u64,
    at: u64,
    origins: BTreeMap<u64, u64>,
    machines: Vec<(u8, u64)>,
}

/// A snapshot that was taken and not sealed yet.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) applied: Applied,
    pub(crate) machines: Vec<(u8, u64)>,
    /// The states, concatenated.
    pub(crate) states: Vec<u8>,
    /// How many bytes of each state are kept events. They are no part of the digest, since each node has its own bound.
    pub(crate) kept: Vec<usize>,
}

impl Taken {
    /// Returns the digest of the states, equal on all nodes that have applied the same entries. It is SipHash-1-3 with 128 bits
    /// and a fixed key: it finds mistakes and decay, and does not resist an attacker. Some 2 GB/s.
    pub(crate) fn digest(&self) -> u128 {
        let mut hasher = SipHasher13::new();
        let Applied { position, entries, at, origins } = &self.applied;
        (position, entries, at.0, origins).hash(&mut hasher);
        let mut states = self.states.as_slice();
        for ((id, length), kept) in self.machines.iter().zip(&self.kept) {
            let length = usize::try_from(*length).unwrap_or(usize::MAX).min(states.len());
            let (state, rest) = states.split_at(length);
            (id, state.get(*kept..).unwrap_or_default()).hash(&mut hasher);
            states = rest;
        }
        hasher.finish128().as_u128()
    }

    /// Compresses and seals the snapshot. Slow (some 200 MB/s), so commits must not wait for it.
    pub(crate) fn seal(self) -> std::io::Result<Vec<u8>> {
        let Applied { position, entries, at, origins } = self.applied;
        let head = Head { position, entries, at: at.0, origins, machines: self.machines };
        let mut inner = Vec::new();
        encode(&head, &mut inner);
        let mut out = MAGIC.to_vec();
        out.push(FORMAT);
        out.extend([0; 4]);
        let mut encoder = zstd::stream::Encoder::new(out, ZSTD_LEVEL)?;
        std::io::Write::write_all(&mut encoder, &inner)?;
        std::io::Write::write_all(&mut encoder, &self.states)?;
        let mut out = encoder.finish()?;
        let crc = crc32c::crc32c(out.get(ENVELOPE_BYTES..).unwrap_or_default());
        if let Some(place) = out.get_mut(5..ENVELOPE_BYTES) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        Ok(out)
    }

    /// Opens a sealed snapshot.
    pub(crate) fn open(sealed: &[u8]) -> Result<Self, Malformed> {
        const WHAT: Malformed = Malformed { what: "the snapshot" };
        let (envelope, packed) = sealed.split_at_checked(ENVELOPE_BYTES).ok_or(WHAT)?;
        let (head, crc) = envelope.split_at_checked(5).ok_or(WHAT)?;
        let sealed_right =
            head == [&MAGIC[..], &[FORMAT]].concat() && crc == crc32c::crc32c(packed).to_le_bytes();
        if !sealed_right {
            return Err(WHAT);
        }
        let inner = zstd::stream::decode_all(packed).map_err(|_| WHAT)?;
        let mut rest = inner.as_slice();
        let Head { position, entries, at, origins, machines } = decode(WHAT.what, &mut rest)?;
        let applied = Applied { position, entries, at: Timestamp(at), origins };
        Ok(Self { applied, machines, states: rest.to_vec(), kept: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> Taken {
        let applied = Applied {
            position: 7,
            entries: 9,
            at: Timestamp(11),
            origins: BTreeMap::from([(1, 2)]),
        };
        Taken { applied, machines: vec![(3, 4)], states: vec![1, 2, 3, 4], kept: vec![1] }
    }

    #[test]
    fn a_digest_is_of_everything_but_the_events_that_a_node_keeps() {
        let digest = taken().digest();
        let other = |change: fn(&mut Taken)| {
            let mut taken = taken();
            change(&mut taken);
            taken.digest()
        };
        assert_eq!(digest, other(|taken| taken.states[0] = 9), "the first byte is a kept event");
        assert_ne!(digest, other(|taken| taken.states[3] = 9));
        assert_ne!(digest, other(|taken| taken.machines[0].0 = 9));
        assert_ne!(digest, other(|taken| taken.applied.entries = 8));
        assert_ne!(digest, other(|taken| taken.applied.origins = BTreeMap::from([(1, 3)])));
    }

    #[test]
    fn a_sealed_snapshot_opens_as_it_was() {
        let opened = Taken::open(&taken().seal().unwrap()).unwrap();
        assert_eq!(opened.applied, taken().applied);
        assert_eq!((opened.machines, opened.states), (taken().machines, taken().states));
    }

    #[test]
    fn a_snapshot_with_any_byte_changed_does_not_open() {
        let sealed = taken().seal().unwrap();
        for place in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[place] ^= 0x10;
            assert!(Taken::open(&damaged).is_err(), "byte {place}");
        }
        assert!(Taken::open(&sealed[..sealed.len() - 1]).is_err());
    }
}
