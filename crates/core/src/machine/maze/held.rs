//! A held event: its meaning, and the line to pass on when its turn comes.

use alloc::boxed::Box;

use super::parse::{self, Event, Read};

/// Lines up to this length are held inline, without an allocation. That covers streams with numbers below
/// 10^10 and users below 10^7.
const SHORT_BYTES_MAX: usize = 30;

/// An event that waits for its predecessors.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) event: Event,
    line: Line,
}

#[derive(Clone, Debug)]
enum Line {
    Short(u8, [u8; SHORT_BYTES_MAX]),
    Long(Box<[u8]>),
}

impl Held {
    /// Copies the line: at most [`parse::GOOD_BYTES_MAX`] bytes.
    #[inline]
    pub(super) fn new(event: Event, line: &[u8]) -> Self {
        debug_assert!(line.len() <= parse::GOOD_BYTES_MAX);
        let mut short = [0; SHORT_BYTES_MAX];
        let line = match (short.get_mut(..line.len()), u8::try_from(line.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(line);
                Line::Short(length, short)
            }
            _ => Line::Long(line.into()),
        };
        Self { event, line }
    }

    /// Returns the line as it was read, including its end.
    #[inline]
    pub(super) fn line(&self) -> &[u8] {
        match &self.line {
            Line::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Line::Long(line) => line,
        }
    }

    /// Parses a stored line. `None` when it is not exactly one valid line with this number.
    pub(super) fn of_line(number: u64, line: &[u8]) -> Option<Self> {
        match parse::line(line) {
            (Read::Event { number: read, event }, bytes)
                if read == number && bytes == line.len() =>
            {
                Some(Self::new(event, line))
            }
            (Read::Event { .. } | Read::Malformed | Read::Overlong, _) => None,
        }
    }
}
