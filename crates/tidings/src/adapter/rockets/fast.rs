//! Reads messages of the usual shape several times as fast as serde: the fields in their usual order, no escapes, no other
//! fields. Any other shape is left to serde; a property test checks that both read the same.

use std::sync::Arc;

use tidings_core::machine::rockets::{Channel, Content, Delivery, NUMBER_MAX, RocketMessage};

use super::values;

/// Returns the message, if it has the usual shape and nothing is wrong with it.
pub(super) fn delivery(json: &[u8], text_bytes_max: usize) -> Option<Delivery> {
    let mut at = Cursor { left: json, text_bytes_max };
    at.token(b"{")?;
    at.key(b"metadata")?;
    at.token(b"{")?;
    at.key(b"channel")?;
    let channel = Channel(uuid::Uuid::try_parse_ascii(at.string()?).ok()?.into_bytes());
    at.token(b",")?;
    at.key(b"messageNumber")?;
    let number = u64::try_from(at.integer()?).ok()?;
    at.token(b",")?;
    at.key(b"messageTime")?;
    let time = values::time(at.text()?)?;
    at.token(b",")?;
    at.key(b"messageType")?;
    let kind = at.string()?;
    at.token(b"}")?;
    at.token(b",")?;
    at.key(b"message")?;
    at.token(b"{")?;
    let content = match kind {
        b"RocketSpeedIncreased" => Content::SpeedIncreased(at.by()?),
        b"RocketSpeedDecreased" => Content::SpeedDecreased(at.by()?),
        b"RocketLaunched" => at.launched()?,
        b"RocketMissionChanged" => {
            at.key(b"newMission")?;
            Content::MissionChanged(at.bounded_text()?)
        }
        b"RocketExploded" => {
            at.key(b"reason")?;
            Content::Exploded(at.bounded_text()?)
        }
        _ => return None,
    };
    at.token(b"}")?;
    at.token(b"}")?;
    at.blanks();
    let whole = at.left.is_empty() && (1..=NUMBER_MAX).contains(&number);
    whole.then_some(Delivery { channel, number, message: RocketMessage { time, content } })
}

/// The bytes that are left to read.
struct Cursor<'a> {
    left: &'a [u8],
    text_bytes_max: usize,
}

impl<'a> Cursor<'a> {
    fn blanks(&mut self) {
        while let Some((b' ' | b'\n' | b'\r' | b'\t', rest)) = self.left.split_first() {
            self.left = rest;
        }
    }

    fn token(&mut self, token: &[u8]) -> Option<()> {
        self.blanks();
        self.left = self.left.strip_prefix(token)?;
        Some(())
    }

    fn key(&mut self, name: &[u8]) -> Option<()> {
        self.token(b"\"")?;
        self.left = self.left.strip_prefix(name)?.strip_prefix(b"\"")?;
        self.token(b":")
    }

    /// Reads a string without escapes and control characters.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.token(b"\"")?;
        let end = memchr::memchr2(b'"', b'\\', self.left)?;
        let (string, rest) = self.left.split_at_checked(end)?;
        self.left = rest.strip_prefix(b"\"")?;
        string.iter().all(|byte| *byte >= 0x20).then_some(string)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    fn bounded_text(&mut self) -> Option<Arc<str>> {
        let text = self.text()?;
        (text.len() <= self.text_bytes_max).then(|| Arc::from(text))
    }

    /// Reads an integer of up to 18 digits, which cannot overflow.
    fn integer(&mut self) -> Option<i64> {
        self.blanks();
        let negative = self.left.first() == Some(&b'-');
        let digits = self.left.get(usize::from(negative)..)?;
        let mut value = 0i64;
        let mut count = 0;
        for byte in digits.iter().take_while(|byte| byte.is_ascii_digit()).take(19) {
            count += 1;
            value = value.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
        }
        let leading_zero = digits.first() == Some(&b'0') && (count > 1 || negative);
        if count == 0 || count > 18 || leading_zero {
            return None;
        }
        self.left = digits.get(count..)?;
        let goes_on = matches!(self.left.first(), Some(b'.' | b'e' | b'E'));
        (!goes_on).then_some(if negative { -value } else { value })
    }

    fn by(&mut self) -> Option<i64> {
        self.key(b"by")?;
        self.integer()
    }

    fn launched(&mut self) -> Option<Content> {
        self.key(b"type")?;
        let kind = self.bounded_text()?;
        self.token(b",")?;
        self.key(b"launchSpeed")?;
        let speed = self.integer()?;
        self.token(b",")?;
        self.key(b"mission")?;
        let mission = self.bounded_text()?;
        Some(Content::Launched { kind, speed, mission })
    }
}
