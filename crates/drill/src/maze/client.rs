//! A client and its referee: holds what arrives to what must arrive, byte by byte.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use super::queue::Queue;
use crate::verdict::grouped;

/// How much of what a slow client must receive is kept to compare with.
const SLOW_BYTES_MAX: usize = 1 << 20;
/// The receive buffer of a slow client: small, so that the server feels it.
const SLOW_RECEIVE_BYTES: usize = 4 << 10;
/// The receive buffer of one that reads on when all is over.
const LATE_RECEIVE_BYTES: usize = 4 << 20;
/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How much of a line is shown in a difference.
const SHOWN_BYTES_MAX: usize = 100;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads what comes, and must receive everything.
    Exact,
    /// Leaves and returns, and must receive everything from its return on, and nothing twice.
    Returning,
    /// Reads a little now and then; what it receives must be the beginning of everything.
    Sluggish,
    /// Reads only when all is over.
    Silent,
}

/// Whether its server may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cuts {
    Forbidden,
    Allowed,
    /// It has, before everything was received.
    Happened,
}

/// How what arrives is held to what must arrive.
#[derive(Debug)]
enum Check {
    /// It continues where it was.
    Following,
    /// It has just returned: its first line says where it goes on. The position in everything it
    /// must receive from which nothing may be missing, once that is known.
    Joining { line: Vec<u8>, due: Option<u64> },
    /// It differed, was cut off for being slow, or has read beyond what was kept.
    Over,
}

/// One connected user.
#[derive(Debug)]
pub(super) struct Client {
    /// What a difference calls it.
    label: String,
    /// The id and its line end.
    greeting: Vec<u8>,
    role: Role,
    cuts: Cuts,
    /// None while it is away or after the server has closed it.
    stream: Option<TcpStream>,
    check: Check,
    /// How many bytes of what it must receive are behind it.
    position: u64,
    /// The last byte was not the end of a line.
    within_line: bool,
    /// Where what was kept of a slow client ends.
    sealed: Option<u64>,
    /// More may be there to be read.
    pub(super) readable: bool,
    /// The server will send no more.
    pub(super) ending: bool,
}

/// What a read gave.
#[derive(Debug)]
pub(super) enum Arrival {
    /// The number of bytes; if the buffer is full, there may be more.
    Bytes(usize),
    /// The system had something else to do first.
    Interrupted,
    /// There is no more for now.
    Nothing,
    /// The server has closed it, or it broke.
    Closed,
}

impl Client {
    pub(super) fn new(index: usize, name: &[u8], role: Role, cuts: Cuts) -> Self {
        let text = String::from_utf8_lossy(name);
        Self {
            label: format!("client {index} (user {text})"),
            greeting: format!("{text}\n").into_bytes(),
            role,
            cuts,
            stream: None,
            check: Check::Following,
            position: 0,
            within_line: false,
            sealed: None,
            readable: false,
            ending: false,
        }
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Whether something may come yet: it is connected and has not got everything.
    pub(super) fn has_rest(&self, queue: &Queue) -> bool {
        self.stream.is_some() && (self.sealed.is_some() || !queue.is_empty())
    }

    /// Whether its server died before it had received everything.
    pub(super) fn is_cut(&self) -> bool {
        self.cuts == Cuts::Happened
    }

    /// Everything that must arrive has arrived, as far as it was looked at.
    pub(super) fn is_complete(&self) -> bool {
        self.is_awaited()
    }

    /// What must arrive is waited for: it has not differed, is there, and is not slow.
    fn is_awaited(&self) -> bool {
        matches!(self.role, Role::Exact | Role::Returning) && !matches!(self.check, Check::Over)
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// From here on it receives as much as there is.
    pub(super) fn take_large(&self) {
        if let Some(stream) = &self.stream {
            // Without it, it only takes longer.
            drop(SockRef::from(stream).set_recv_buffer_size(LATE_RECEIVE_BYTES));
        }
    }

    /// Connects and sends the id of the user.
    pub(super) fn connect(&mut self, address: SocketAddr) -> io::Result<&mut TcpStream> {
        let mut stream = std::net::TcpStream::connect_timeout(&address, CONNECT_WAIT)?;
        if matches!(self.role, Role::Sluggish | Role::Silent) {
            SockRef::from(&stream).set_recv_buffer_size(SLOW_RECEIVE_BYTES)?;
        }
        stream.write_all(&self.greeting)?;
        stream.set_nonblocking(true)?;
        (self.readable, self.ending) = (false, false);
        Ok(self.stream.insert(TcpStream::from_std(stream)))
    }

    /// Leaves in mid-stream, whatever it has not read yet; what it had begun to read counts as
    /// received.
    pub(super) fn leave(&mut self, queue: &mut Queue) -> Option<TcpStream> {
        if self.within_line {
            let end = queue.front().iter().position(|&byte| byte == b'\n');
            self.skip(queue, end.map_or(queue.len(), |at| at + 1));
        }
        if !matches!(self.check, Check::Over) {
            self.check = Check::Joining { line: Vec::new(), due: None };
        }
        self.stream.take()
    }

    /// It has been back for long enough that nothing from now on may be missing.
    pub(super) fn is_due(&mut self, queue: &Queue) {
        if let Check::Joining { due, .. } = &mut self.check {
            *due = Some(self.position + queue.len() as u64);
        }
    }

    /// A source has ended and everything has had its time: what was not for it is forgotten.
    /// Something to say if the server owes it something.
    pub(super) fn end_source(&mut self, queue: &mut Queue) -> Option<String> {
        let owed = self.owes(queue);
        let difference = owed.then(|| {
            let first = queue.front().split_inclusive(|&byte| byte == b'\n').next();
            format!(
                "{}, byte {}: {} bytes never came, the first line is {}",
                self.label,
                grouped(self.position),
                grouped(queue.len() as u64),
                shown(first.unwrap_or_default())
            )
        });
        if self.role == Role::Returning {
            self.skip(queue, queue.len());
        }
        if owed {
            self.check = Check::Over;
        }
        difference
    }

    /// Whether something is still to come that must.
    pub(super) fn owes(&self, queue: &Queue) -> bool {
        if !self.is_awaited() {
            return false;
        }
        match &self.check {
            Check::Following => !queue.is_empty(),
            Check::Joining { due, .. } => {
                let end = self.position + queue.len() as u64;
                self.stream.is_some() && due.is_some_and(|due| end > due)
            }
            Check::Over => false,
        }
    }

    /// How many bytes the server is behind with it.
    pub(super) fn behind(&self, queue: &Queue) -> usize {
        if self.is_awaited() && matches!(self.check, Check::Following) { queue.len() } else { 0 }
    }

    /// Keeps no more than a beginning for a client that is slow, and nothing for one that differed.
    pub(super) fn seal(&mut self, queue: &mut Queue) {
        if matches!(self.check, Check::Over) {
            queue.truncate(0);
        } else if matches!(self.role, Role::Sluggish | Role::Silent) {
            if queue.len() > SLOW_BYTES_MAX && self.sealed.is_none() {
                self.sealed = Some(self.position + queue.len() as u64);
            } else if let Some(sealed) = self.sealed {
                queue.truncate(usize::try_from(sealed - self.position).unwrap_or(0));
            }
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Arrival {
        let Some(stream) = &mut self.stream else {
            return Arrival::Nothing;
        };
        match stream.read(buffer) {
            Ok(0) => Arrival::Closed,
            Ok(count) => Arrival::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Arrival::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Arrival::Interrupted,
            Err(_) => Arrival::Closed,
        }
    }

    /// The server has closed it. Something to say if it had no right to: one that dies may, where that
    /// is expected, and what the client got until then must have been right, to the byte; `over` says that everything
    /// was received and the source is gone.
    pub(super) fn close(&mut self, over: bool) -> Option<String> {
        self.stream = None;
        if self.cuts == Cuts::Allowed && !over && self.is_awaited() {
            // What it got was held to what it must get, as far as it came.
            self.check = Check::Over;
            self.cuts = Cuts::Happened;
            return None;
        }
        let wrong = self.is_awaited() && !over;
        let position = grouped(self.position);
        wrong.then(|| {
            self.check = Check::Over;
            format!("{}, byte {position}: the server closed the connection", self.label)
        })
    }

    /// Holds what arrived to what must. Something to say if it differs; after that nothing is
    /// compared any more.
    pub(super) fn take(&mut self, queue: &mut Queue, got: &[u8]) -> Option<String> {
        match &mut self.check {
            Check::Following => {
                if queue.front().get(..got.len()) == Some(got) {
                    self.skip(queue, got.len());
                    return None;
                }
                if self.sealed.is_some() && got.starts_with(queue.front()) {
                    self.check = Check::Over;
                    return None;
                }
                let difference = self.differ(queue, got);
                self.check = Check::Over;
                Some(difference)
            }
            Check::Joining { line, due } => {
                line.extend_from_slice(got);
                let end = line.iter().position(|&byte| byte == b'\n')?;
                let (got, due) = (std::mem::take(line), *due);
                self.join(queue, &got, end + 1, due)
            }
            Check::Over => None,
        }
    }

    /// Finds where it goes on: at the line that it got first.
    fn join(
        &mut self,
        queue: &mut Queue,
        got: &[u8],
        end: usize,
        due: Option<u64>,
    ) -> Option<String> {
        let first = got.get(..end).unwrap_or_default();
        let mut skipped = 0;
        for line in queue.front().split_inclusive(|&byte| byte == b'\n') {
            if line == first {
                if due.is_some_and(|due| self.position + skipped as u64 > due) {
                    break;
                }
                self.check = Check::Following;
                self.skip(queue, skipped);
                return self.take(queue, got);
            }
            skipped += line.len();
        }
        let (label, position) = (&self.label, grouped(self.position));
        let difference = if skipped < queue.len() {
            let missed = queue.front().split_inclusive(|&byte| byte == b'\n').next();
            let missed = shown(missed.unwrap_or_default());
            format!(
                "{label}, byte {position}: went on with {} after its return and has missed lines \
                 that came when it was back, after {missed}",
                shown(first)
            )
        } else {
            format!(
                "{label}, byte {position}: got {} first after its return, which it must not",
                shown(first)
            )
        };
        self.check = Check::Over;
        Some(difference)
    }

    /// Where and how it differs.
    fn differ(&self, queue: &Queue, got: &[u8]) -> String {
        let expected = queue.front();
        let same = expected.iter().zip(got).take_while(|(expected, got)| expected == got).count();
        let before = got.get(..same).unwrap_or_default();
        let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let line = |bytes: &[u8]| {
            let rest = bytes.get(start..).unwrap_or_default();
            let line = rest.split_inclusive(|&byte| byte == b'\n').next();
            line.map_or_else(|| "nothing".to_owned(), shown)
        };
        let (expected, got) = (line(expected), line(got));
        let position = grouped(self.position + start as u64);
        format!("{}, byte {position}: expected {expected}, got {got}", self.label)
    }

    fn skip(&mut self, queue: &mut Queue, count: usize) {
        if let Some(last) = count.checked_sub(1).and_then(|last| queue.front().get(last)) {
            self.within_line = *last != b'\n';
        }
        queue.consume(count);
        self.position += count as u64;
    }
}

/// A line as a difference shows it.
fn shown(line: &[u8]) -> String {
    match line.get(..SHOWN_BYTES_MAX) {
        Some(start) => format!("\"{}\"...", start.escape_ascii()),
        None => format!("\"{}\"", line.escape_ascii()),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
