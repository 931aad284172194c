//! Lines of the maze, read where they stand: nothing is copied or allocated.
//!
//! A line is `number|kind`, with one or two users behind it as its kind demands, and ends with
//! `\n` or `\r\n`. It is read strictly: what is not exactly that is malformed, and a malformed
//! line never uses up a number.
//!
//! Numbers are decimal digits, 1 to 20 of them, and fit a `u64`. Leading zeros are taken (`007` is
//! user 7; the bytes go out as they came), a sign or a blank is not. As a number has at most 20
//! digits, a good line has at most [`GOOD_BYTES_MAX`] bytes, which bounds what a held one takes.
//! Events are numbered from 1: number 0 is malformed, and so is the one above
//! [`NUMBER_MAX`].

use crate::structure::sequencer::NUMBER_MAX;

/// The longest line, its end included. A longer one is skipped whole and counted once.
pub const LINE_BYTES_MAX: usize = 1024;

/// The longest line that can be an event: three numbers of 20 digits, a letter, three bars, CRLF.
pub const GOOD_BYTES_MAX: usize = 66;

/// The most digits of a number.
const DIGITS_MAX: usize = 20;

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `from` now follows `to`; `to` is told.
    Follow {
        /// Who follows.
        from: u64,
        /// Who is followed.
        to: u64,
    },
    /// `from` no longer follows `to`; nobody is told.
    Unfollow {
        /// Who followed.
        from: u64,
        /// Who was followed.
        to: u64,
    },
    /// Everybody is told.
    Broadcast,
    /// `to` is told. Whom it is from is checked and then of no use.
    Private {
        /// Who is told.
        to: u64,
    },
    /// The followers of `from` are told.
    Status {
        /// Whose status it is.
        from: u64,
    },
}

/// What stood at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// An event.
    Event {
        /// Its place in the stream, 1 to [`NUMBER_MAX`].
        number: u64,
        /// What it says.
        event: Event,
    },
    /// A line that is none, or the beginning of a line whose end is not there.
    Malformed,
    /// A line of more than [`LINE_BYTES_MAX`] bytes.
    Overlong,
}

/// Reads the line at the front of `bytes`, and says how many bytes it takes, its end included: at
/// least 1 unless there are none. O(length of the line).
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

    /// Digits, and the byte behind them is looked at only.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        let first = self.at;
        let mut value = 0u64;
        loop {
            let digit = self.bytes.get(self.at)?.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            // Up to 19 digits always fit.
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
