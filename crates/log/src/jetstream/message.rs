//! A batch as a message of the stream: its origin is in the subject, its number and a checksum are in
//! headers. The checksum is ours, so that damage on a server is detected end to end.

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID,
};

use crate::Origin;

const NUMBER: &str = "Tidings-Number";
const CRC: &str = "Tidings-Crc";
/// Marks a body that is an object in the bucket for bodies, because it exceeds the size of a message.
const OBJECT: &str = "Tidings-Object";

/// The most bytes that headers and checksum add to a body.
pub(super) const HEAD_BYTES_MAX: usize = 1024;

/// The identity of a batch, as subject and headers carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) origin: Origin,
    pub(super) number: u64,
    pub(super) crc: u32,
    pub(super) is_object: bool,
}

impl Head {
    pub(super) fn of(origin: Origin, number: u64, body: &[u8]) -> Self {
        Self { origin, number, crc: checksum(origin, number, body), is_object: false }
    }

    /// Returns whether the body is the one that was appended.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        self.crc == checksum(self.origin, self.number, body)
    }

    /// Returns headers that make the append idempotent: the server stores the message only if the last
    /// message of this origin stands at `after`, and recognises its id.
    pub(super) fn headers(&self, stream: &str, after: u64) -> HeaderMap {
        let mut headers = self.plain_headers(stream);
        headers.insert(NATS_MESSAGE_ID, self.object_name());
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, after.to_string());
        headers
    }

    /// Returns the headers that identify the batch, without a condition on its position.
    pub(super) fn plain_headers(&self, stream: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_STREAM, stream);
        headers.insert(NUMBER, self.number.to_string());
        headers.insert(CRC, format!("{:08x}", self.crc));
        if self.is_object {
            headers.insert(OBJECT, "1");
        }
        headers
    }

    /// Parses the head of a message.
    ///
    /// # Errors
    /// What is wrong with the message, as the end of a sentence.
    pub(super) fn read(subject: &str, headers: Option<&HeaderMap>) -> Result<Self, String> {
        let origin = subject.rsplit('.').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let origin = origin.ok_or_else(|| format!("its subject {subject:?} names no origin"))?;
        let headers = headers.ok_or("it has no headers")?;
        let text = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
        let number = text(NUMBER).and_then(|number| number.parse().ok());
        let crc = text(CRC).and_then(|crc| u32::from_str_radix(crc, 16).ok());
        Ok(Self {
            origin: Origin(origin),
            number: number.ok_or_else(|| format!("it has no header {NUMBER} with a number"))?,
            crc: crc.ok_or_else(|| format!("it has no header {CRC} with a checksum"))?,
            is_object: text(OBJECT).is_some(),
        })
    }

    /// Returns the name of the batch: its message id, and its name as an object.
    pub(super) fn object_name(&self) -> String {
        object_name(self.origin, self.number)
    }
}

pub(super) fn subject(stream: &str, origin: Origin) -> String {
    format!("{stream}.log.{:016x}", origin.0)
}

fn object_name(origin: Origin, number: u64) -> String {
    format!("{:016x}-{number}", origin.0)
}

/// Parses a name made by [`Head::object_name`].
pub(super) fn read_object_name(name: &str) -> Option<(Origin, u64)> {
    let (origin, number) = name.split_once('-')?;
    Some((Origin(u64::from_str_radix(origin, 16).ok()?), number.parse().ok()?))
}

fn checksum(origin: Origin, number: u64, body: &[u8]) -> u32 {
    let head =
        crc32c::crc32c_append(crc32c::crc32c(&origin.0.to_le_bytes()), &number.to_le_bytes());
    crc32c::crc32c_append(head, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back_from_its_subject_and_headers() {
        for is_object in [false, true] {
            let head = Head { is_object, ..Head::of(Origin(u64::MAX - 1), 7, b"body") };
            let headers = head.headers("tidings", 3);
            let read = Head::read(&subject("tidings", head.origin), Some(&headers)).unwrap();
            assert_eq!(read, head);
            assert!(read.fits(b"body") && !read.fits(b"bodz"));
            assert_eq!(read_object_name(&head.object_name()), Some((head.origin, 7)));
        }
    }

    #[test]
    fn a_message_that_is_not_a_batch_is_rejected_with_the_reason() {
        let headers = Head::of(Origin(1), 7, b"").headers("s", 0);
        let wrong =
            |subject, headers: Option<&HeaderMap>| Head::read(subject, headers).unwrap_err();
        assert!(wrong("s.log.zz", Some(&headers)).contains("names no origin"));
        assert!(wrong("s.log.1", None).contains("no headers"));
        assert!(wrong("s.log.1", Some(&HeaderMap::new())).contains("Tidings-Number"));
    }

    #[test]
    fn a_batch_of_another_origin_or_number_has_another_checksum() {
        let crc = |origin, number| Head::of(Origin(origin), number, b"same").crc;
        assert!(crc(1, 2) != crc(2, 2) && crc(1, 2) != crc(1, 3));
    }
}
