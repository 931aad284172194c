//! Parses lines of the maze in place: nothing is copied or allocated.
//!
//! A line is `number|kind`, followed by one or two users as its kind demands, and ends with `\n` or
//! `\r\n`. Parsing is strict: anything else is malformed, and a malformed line never uses up a number.
//!
//! Numbers are 1 to 20 decimal digits and fit a `u64`. Leading zeros are accepted (`007` is user 7; the
//! bytes go out as they came), a sign or a blank is not. As a number has at most 20 digits, a valid line
//! has at most [`GOOD_BYTES_MAX`] bytes, which bounds the memory of a held one. Events are numbered from
//! 1: number 0 is malformed, and so is the one above [`NUMBER_MAX`].

use crate::structure::sequencer::NUMBER_MAX;

/// The longest line, including its end. A longer one is skipped as a whole and counted once.
pub const LINE_BYTES_MAX: usize = 1024;

/// The longest line that can be an event: three numbers of 20 digits, a letter, three bars, CRLF.
pub const GOOD_BYTES_MAX: usize = 66;

/// The most digits of a number.
const DIGITS_MAX: usize = 20;

/// The meaning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `from` now follows `to`, who is notified.
    Follow {
        /// The follower.
        from: u64,
        /// The followed user.
        to: u64,
    },
    /// `from` no longer follows `to`. Nobody is notified.
    Unfollow {
        /// The follower.
        from: u64,
        /// The followed user.
        to: u64,
    },
    /// Everybody is notified.
    Broadcast,
    /// `to` is notified. The sender is checked for syntax only, since nothing depends on it.
    Private {
        /// The receiver.
        to: u64,
    },
    /// The followers of `from` are notified.
    Status {
        /// The user whose status it is.
        from: u64,
    },
}

/// What stands at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// An event.
    Event {
        /// Its position in the stream, 1 to [`NUMBER_MAX`].
        number: u64,
        /// Its meaning.
        event: Event,
    },
    /// A line that is not an event, or the beginning of a line without its end.
    Malformed,
    /// A line of more than [`LINE_BYTES_MAX`] bytes.
    Overlong,
}

/// Parses the line at the front of `bytes`, and returns how many bytes it occupies, including its end: at
/// least 1 unless `bytes` is empty. O(length of the line).
pub fn line(bytes: &[u8]) -> (Read, usize) {
    let mut cursor = Cursor { bytes, at: 0 };
    match cursor.event() {
        Some((number, event)) if cursor.at <= GOOD_BYTES_MAX => {
            (Read::Event { number, event }, cursor.at)
        }
        Some(_) | None => skip(bytes),
    }
}

#[cold]
fn skip(bytes: &[u8]) -> (Read, usize) {
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
    (if end > LINE_BYTES_MAX { Read::Overlong } else { Read::Malformed }, end)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn event(&mut self) -> Option<(u64, Event)> {
        let number = self.number()?;
        if number == 0 || number > NUMBER_MAX {
            return None;
        }
        self.expect(b'|')?;
        let event = match self.next_byte()? {
            b'S' => Event::Status { from: self.field()? },
            b'F' => Event::Follow { from: self.field()?, to: self.field()? },
            b'U' => Event::Unfollow { from: self.field()?, to: self.field()? },
            b'P' => {
                self.field()?;
                Event::Private { to: self.field()? }
            }
            b'B' => Event::Broadcast,
            _ => return None,
        };
        match self.next_byte()? {
            b'\n' => {}
            b'\r' => self.expect(b'\n')?,
            _ => return None,
        }
        Some((number, event))
    }

    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next_byte()? == byte).then_some(())
    }

    #[inline]
    fn field(&mut self) -> Option<u64> {
        self.expect(b'|')?;
        self.number()
    }

    /// Parses digits. The byte behind them is inspected but not consumed.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        let first = self.at;
        let mut value = 0u64;
        loop {
            let digit = self.bytes.get(self.at)?.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            // Up to 19 digits never overflow.
            if self.at - first >= DIGITS_MAX - 1 {
                value = self.last_digit(first, value, digit)?;
            } else {
                value = value * 10 + u64::from(digit);
            }
            self.at += 1;
        }
        (self.at > first).then_some(value)
    }

    #[cold]
    fn last_digit(&self, first: usize, value: u64, digit: u8) -> Option<u64> {
        if self.at - first >= DIGITS_MAX {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    }
}

#[cfg(test)]
mod tests;
