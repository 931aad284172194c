//! Lines over TCP: joins pieces of any size to whole lines.
//!
//! Each byte is examined once, and the buffer is bounded: of a line that is too long only the beginning is kept.

use std::io;

use bytes::BufMut;
use socket2::{SockRef, TcpKeepalive};
use std::time::Duration;
use tokio::net::TcpStream;

/// The kernel starts to probe a peer this long after its last byte ...
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
/// ... and declares it dead after this number of probes without an answer, one per interval: after 14 s.
const KEEPALIVE_TRIES: u32 = 3;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);

/// Lets the kernel detect within 15 s that a peer has vanished without closing the connection.
pub(crate) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Joins pieces to whole lines.
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// The end of the last whole line in the buffer.
    whole: usize,
    /// The longest line that is kept whole.
    line_bytes_max: usize,
    /// Whether the last line is too long, so that the rest of it is discarded.
    skipping: bool,
}

impl Lines {
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), whole: 0, line_bytes_max, skipping: false }
    }

    /// Returns the number of bytes in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns whether there is a whole line.
    pub(crate) fn has_whole(&self) -> bool {
        self.whole > 0
    }

    /// Takes what is there to be read, until `bytes_max` are held. Returns whether the stream has
    /// ended.
    pub(crate) fn read(&mut self, stream: &TcpStream, bytes_max: usize) -> io::Result<bool> {
        self.buffer.reserve(bytes_max.saturating_sub(self.buffer.len()));
        while self.buffer.len() < bytes_max {
            let from = self.buffer.len();
            match stream.try_read_buf(&mut (&mut self.buffer).limit(bytes_max - from)) {
                Ok(0) => return Ok(true),
                Ok(_) => self.received(from),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(why),
            }
        }
        Ok(false)
    }

    /// The bytes from `from` on are new.
    fn received(&mut self, from: usize) {
        if self.skipping {
            let new = self.buffer.get(from..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', new) else {
                self.buffer.truncate(from);
                return;
            };
            self.buffer.drain(from..from + end);
            self.skipping = false;
        }
        let new = self.buffer.get(from..).unwrap_or_default();
        if let Some(end) = memchr::memrchr(b'\n', new) {
            self.whole = from + end + 1;
        }
        // One byte more than allowed shows whoever reads the line that it is too long.
        let kept = self.line_bytes_max + 1;
        if self.buffer.len() - self.whole > kept {
            self.buffer.truncate(self.whole + kept);
            self.skipping = true;
        }
    }

    /// The whole lines so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let begun = self.buffer.get(self.whole..).unwrap_or_default().to_vec();
        self.buffer.truncate(self.whole);
        self.whole = 0;
        std::mem::replace(&mut self.buffer, begun)
    }

    /// Everything, the beginning of a line that has no end included.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        self.whole = 0;
        std::mem::take(&mut self.buffer)
    }
}

#[cfg(test)]
mod tests;
