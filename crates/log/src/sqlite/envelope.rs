//! The head stored with each batch and each snapshot chunk: its identity and one checksum over head
//! and body. SQLite does not checksum what it stores.
//!
//! ```text
//! batch   magic "TDB" | format u8 | position u64 | origin u64   | number u64 | crc32c u32
//! chunk   magic "TDS" | format u8 | snapshot u64 | position u64 | chunk u64  | crc32c u32
//! ```
//!
//! All little-endian, 32 bytes. The checksum covers the 28 bytes before it and then the body.

/// Bytes in a head.
pub(super) const HEAD_BYTES: usize = 32;
/// The row format that is written, and the only one that can be read.
pub(super) const FORMAT: u8 = 1;

const SEALED_BYTES: usize = HEAD_BYTES - 4;
const BATCH_MAGIC: &[u8; 3] = b"TDB";
const CHUNK_MAGIC: &[u8; 3] = b"TDS";

/// The kind of row that a head belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Batch,
    Chunk,
}

/// The three numbers of a head, in the order of the diagram above.
pub(super) type Fields = [u64; 3];

impl Kind {
    const fn magic(self) -> &'static [u8; 3] {
        match self {
            Self::Batch => BATCH_MAGIC,
            Self::Chunk => CHUNK_MAGIC,
        }
    }

    /// Returns the head for a body. Does not allocate.
    pub(super) fn seal(self, fields: Fields, body: &[u8]) -> [u8; HEAD_BYTES] {
        let [m0, m1, m2] = *self.magic();
        let mut head = [0; HEAD_BYTES];
        let (start, rest) = head.split_at_mut(4);
        start.copy_from_slice(&[m0, m1, m2, FORMAT]);
        for (word, field) in rest.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
            *word = field.to_le_bytes();
        }
        let crc = checksum(&head, body);
        if let Some(to) = head.last_chunk_mut::<4>() {
            *to = crc.to_le_bytes();
        }
        head
    }

    /// Verifies a head against `body` and returns its fields.
    ///
    /// # Errors
    /// What is wrong with the head, as the end of a sentence.
    pub(super) fn open(self, head: &[u8], body: &[u8]) -> Result<Fields, String> {
        let Ok(head) = <&[u8; HEAD_BYTES]>::try_from(head) else {
            return Err(format!("its head has {} bytes instead of {HEAD_BYTES}", head.len()));
        };
        let [m0, m1, m2, format, ..] = *head;
        if [m0, m1, m2] != *self.magic() {
            return Err("its head does not begin with the magic bytes".to_owned());
        }
        if format != FORMAT {
            return Err(format!("its format is {format}, only {FORMAT} is known"));
        }
        if crc_of(head) != checksum(head, body) {
            return Err("its checksum does not match its bytes".to_owned());
        }
        let mut fields = [0; 3];
        let (words, _) = head.get(4..).unwrap_or_default().as_chunks::<8>();
        for (field, word) in fields.iter_mut().zip(words) {
            *field = u64::from_le_bytes(*word);
        }
        Ok(fields)
    }
}

/// Returns the checksum in a head.
pub(super) fn crc_of(head: &[u8; HEAD_BYTES]) -> u32 {
    head.last_chunk::<4>().map_or(0, |crc| u32::from_le_bytes(*crc))
}

fn checksum(head: &[u8; HEAD_BYTES], body: &[u8]) -> u32 {
    let sealed = head.first_chunk::<SEALED_BYTES>().map_or(&[][..], |s| s);
    crc32c::crc32c_append(crc32c::crc32c(sealed), body)
}

#[cfg(test)]
mod tests {
    use super::{HEAD_BYTES, Kind};

    #[test]
    fn a_sealed_head_opens_to_the_same_fields() {
        let fields = [1, u64::MAX, 0x0102_0304_0506_0708];
        let head = Kind::Batch.seal(fields, b"body");
        assert_eq!(Kind::Batch.open(&head, b"body"), Ok(fields));
    }

    #[test]
    fn the_stored_bytes_of_format_1_never_change() {
        let head = Kind::Batch.seal([1, 2, 3], b"body");
        let mut golden = b"TDB\x01".to_vec();
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(head[..HEAD_BYTES - 4], golden);
        golden.extend_from_slice(b"body");
        assert_eq!(head[HEAD_BYTES - 4..], crc32c::crc32c(&golden).to_le_bytes());
    }

    #[test]
    fn any_flipped_bit_is_detected() {
        let head = Kind::Chunk.seal([7, 8, 9], b"body");
        for bit in 0..HEAD_BYTES * 8 {
            let mut head = head;
            head[bit / 8] ^= 1 << (bit % 8);
            assert!(Kind::Chunk.open(&head, b"body").is_err(), "bit {bit}");
        }
        assert!(Kind::Chunk.open(&head, b"bodz").is_err());
        assert!(Kind::Batch.open(&head, b"body").is_err(), "the other kind");
        assert!(Kind::Chunk.open(&head[1..], b"body").is_err(), "too short");
    }
}
