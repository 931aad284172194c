//! The text of an event. A drill writes more than ten million lines a second on one core, so a line
//! is put together from pieces of a fixed size (a number that counts up in decimal, names made
//! beforehand) and copied as a block, whatever its length.

/// The longest line of a world: a number of ten digits, two users of eight, both line end bytes.
pub(super) const LINE_BYTES_MAX: usize = 32;
/// A line's bytes with room for the last piece to reach beyond its end.
const SPACE_BYTES: usize = 48;
const DIGITS_MAX: usize = 10;

/// What an event says; users are positions in the [`Names`] of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// `from` follows `to` from now on.
    Follow { from: u32, to: u32 },
    /// `from` no longer follows `to`.
    Unfollow { from: u32, to: u32 },
    /// All connected users receive it.
    Broadcast,
    /// `to` receives it.
    Private { from: u32, to: u32 },
    /// All followers of `from` receive it.
    Status { from: u32 },
}

/// A line as it is sent, and as it must arrive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// The bytes beyond `len` are unused.
    bytes: [u8; SPACE_BYTES],
    len: usize,
}

impl Line {
    /// The line of this event under this number.
    pub(super) fn new(number: &Counter, event: Event, names: &Names, crlf: bool) -> Self {
        let mut line = Self { bytes: [0; SPACE_BYTES], len: 0 };
        line.put(&number.digits, number.len);
        match event {
            Event::Follow { from, to } => line.put_pair(*b"|F|", from, to, names),
            Event::Unfollow { from, to } => line.put_pair(*b"|U|", from, to, names),
            Event::Broadcast => line.put(b"|B", 2),
            Event::Private { from, to } => line.put_pair(*b"|P|", from, to, names),
            Event::Status { from } => {
                line.put(b"|S|", 3);
                line.put_name(from, names);
            }
        }
        if crlf {
            line.put(b"\r\n", 2);
        } else {
            line.put(b"\n", 1);
        }
        line
    }

    /// The whole block, for a copy of fixed size.
    pub(super) fn block(&self) -> &[u8; LINE_BYTES_MAX] {
        self.bytes.first_chunk().unwrap_or(&[0; LINE_BYTES_MAX])
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The line with its end.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn put_pair(&mut self, kind: [u8; 3], from: u32, to: u32, names: &Names) {
        self.put(&kind, 3);
        self.put_name(from, names);
        self.put(b"|", 1);
        self.put_name(to, names);
    }

    fn put_name(&mut self, user: u32, names: &Names) {
        let name = names.name(user);
        self.put(&name.digits, usize::from(name.len));
    }

    /// Copies all of it and keeps `len` bytes.
    fn put<const N: usize>(&mut self, piece: &[u8; N], len: usize) {
        if let Some(place) = self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
            *place = *piece;
        }
        self.len += len;
    }
}

/// A sequence number that counts up in decimal, which is cheaper than to divide for every line.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    /// The most significant digit first; `len` of them mean something.
    digits: [u8; DIGITS_MAX],
    len: usize,
}

impl Counter {
    /// Before the first number.
    pub(super) fn zero() -> Self {
        Self { digits: [b'0'; DIGITS_MAX], len: 1 }
    }

    /// The number in decimal.
    pub(super) fn text(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }

    /// The next number. The world never counts beyond what ten digits hold.
    pub(super) fn advance(&mut self) {
        for digit in self.digits.iter_mut().take(self.len).rev() {
            if *digit != b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
        if let Some(first) = self.digits.first_mut() {
            *first = b'1';
        }
        debug_assert!(self.len < DIGITS_MAX, "--events keeps numbers below ten digits of nine");
        self.len = (self.len + 1).min(DIGITS_MAX);
    }
}

/// The ids of all users, in decimal: user 0 is called 1.
#[derive(Debug)]
pub(super) struct Names(Vec<Name>);

#[derive(Debug, Clone, Copy)]
struct Name {
    digits: [u8; 8],
    len: u8,
}

impl Names {
    /// Returns the names of `users` users.
    pub(super) fn new(users: u32) -> Self {
        let mut counter = Counter::zero();
        let name = |_| {
            counter.advance();
            let digits = *counter.digits.first_chunk().unwrap_or(&[b'0'; 8]);
            Name { digits, len: u8::try_from(counter.len).unwrap_or(8) }
        };
        Self((0..users).map(name).collect())
    }

    /// A user's id as a line has it.
    pub(super) fn text(&self, user: u32) -> &[u8] {
        let name = self.0.get(user as usize);
        name.and_then(|name| name.digits.get(..usize::from(name.len))).unwrap_or_default()
    }

    fn name(&self, user: u32) -> Name {
        self.0.get(user as usize).copied().unwrap_or(Name { digits: [b'0'; 8], len: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Event, LINE_BYTES_MAX, Line, Names};

    #[test]
    fn a_line_reads_as_the_protocol_has_it() {
        let names = Names::new(1_000);
        let mut number = Counter::zero();
        let mut written = |event, crlf| {
            number.advance();
            String::from_utf8(Line::new(&number, event, &names, crlf).bytes().to_vec()).unwrap()
        };
        assert_eq!(written(Event::Follow { from: 59, to: 49 }, false), "1|F|60|50\n");
        assert_eq!(written(Event::Unfollow { from: 11, to: 8 }, false), "2|U|12|9\n");
        assert_eq!(written(Event::Broadcast, true), "3|B\r\n");
        assert_eq!(written(Event::Private { from: 31, to: 999 }, false), "4|P|32|1000\n");
        assert_eq!(written(Event::Status { from: 0 }, true), "5|S|1\r\n");
    }

    #[test]
    fn a_counter_counts_as_integers_do() {
        let mut counter = Counter::zero();
        for number in 1..=110_000u32 {
            counter.advance();
            assert_eq!(counter.text(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_longest_line_fits() {
        let names = Names::new(1);
        let mut line = Line::new(&Counter::zero(), Event::Broadcast, &names, true);
        line.len = 0;
        line.put(b"9999999999", 10);
        line.put(b"|P|", 3);
        line.put(b"10000000", 8);
        line.put(b"|", 1);
        line.put(b"10000000", 8);
        line.put(b"\r\n", 2);
        assert_eq!(line.len(), LINE_BYTES_MAX);
        assert!(line.block().ends_with(b"|10000000\r\n"));
    }
}
