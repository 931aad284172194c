//! A lean HTTP/1.1 client over tokio's TCP. The drill shares a small machine with the server that
//! it loads, so a request must cost it little: requests are bytes made beforehand, any number of
//! them in flight on a connection, answers are read where they lie in one reused buffer, and a head
//! that was seen before is not parsed again.
//!
//! [`Connection`] is the fast way, one request after the other into the buffer; [`Client`] the
//! comfortable one, which asks for one thing and tries until it is answered. No TLS, no
//! redirects, no compression.

mod caller;
mod client;
mod cluster;
mod head;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};

pub(crate) use caller::Caller;
pub(crate) use client::STRONG;
pub use client::{Answer, Client};
pub(crate) use cluster::Cluster;
pub use head::Head;
use head::{Framing, Seen};

/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The longest body of an answer: the list of several hundred thousand rockets.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a connection's buffer starts with.
const BUFFER_BYTES: usize = 32 * 1024;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name of the server means nothing.
    #[error("{0:?} is no server: give host:port or http://host:port")]
    Target(String),
    /// The connection could not be made, or broke.
    #[error("the connection to the server: {0}")]
    Connection(#[from] std::io::Error),
    /// The server closed the connection in the middle of an answer or before it.
    #[error("the server closed the connection before it had answered")]
    Closed,
    /// The server is silent.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The answer is no HTTP.
    #[error("the answer is not HTTP/1.1: {0}")]
    Malformed(String),
    /// The answer's head or body is longer than the client takes.
    #[error("the {what} of the answer is longer than {bytes_max} bytes")]
    TooLong {
        /// Head or body.
        what: &'static str,
        /// How long it may be.
        bytes_max: usize,
    },
}

/// The server to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What goes into the `Host` field.
    authority: String,
    /// Where to connect to, looked up once.
    address: SocketAddr,
}

impl Target {
    /// Looks up `host:port` or `http://host:port` (a path after it is ignored).
    ///
    /// # Errors
    ///
    /// [`Error::Target`] if it is neither, or the name is not known.
    pub async fn resolve(name: &str) -> Result<Self, Error> {
        let unknown = || Error::Target(name.to_owned());
        let rest = name.strip_prefix("http://").unwrap_or(name);
        let authority = rest.split('/').next().unwrap_or(rest);
        let mut found = lookup_host(authority).await.map_err(|_| unknown())?;
        let address = found.next().ok_or_else(unknown)?;
        Ok(Self { authority: authority.to_owned(), address })
    }

    /// What goes into the `Host` field.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { authority: address.to_string(), address }
    }
}

/// An answer, its body still in the connection's buffer.
#[derive(Debug)]
pub struct Response<'a> {
    /// Status and fields.
    pub head: Arc<Head>,
    /// The body, put together if it came in chunks.
    pub body: &'a [u8],
}

/// A connection. Write requests into it, as many as the server may have in flight, and read
/// as many answers, which come in the order of the requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What was read: `start..end` of it is still to be parsed. It grows to the longest answer.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The body of the last chunked answer, put together.
    chunks: Vec<u8>,
    /// How far the chunked answer at `start` has been put together, from `start`.
    chunks_parsed: Option<usize>,
    /// How many bytes from `start` the answer there needs, as far as is known.
    wanted: usize,
    /// The server has sent everything it will send.
    ended: bool,
    /// Heads that were parsed before.
    seen: Seen,
}

/// Where a whole answer lies.
struct Frame {
    head: Arc<Head>,
    body: Body,
    /// Where the next answer starts in the buffer.
    next: usize,
}

enum Body {
    Buffered(Range<usize>),
    Chunks,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`], for example if nobody listens.
    pub async fn open(target: &Target) -> Result<Self, Error> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            chunks: Vec::new(),
            chunks_parsed: None,
            wanted: 0,
            ended: false,
            seen: Seen::default(),
        })
    }

    /// Sends the bytes of one or several requests.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`]; which of the requests arrived is not known then.
    pub async fn send(&mut self, requests: &[u8]) -> Result<(), Error> {
        Ok(self.stream.write_all(requests).await?)
    }

    /// The next answer, once it is there.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but [`Error::Target`]; the connection is of no more use.
    pub async fn receive(&mut self) -> Result<Response<'_>, Error> {
        let frame = loop {
            if let Some(frame) = self.parse()? {
                break frame;
            }
            self.read().await?;
        };
        Ok(self.take(frame))
    }

    /// Waits until the next answer is there, for [`Connection::receive`] to give at once.
    ///
    /// # Errors
    ///
    /// As [`Connection::receive`].
    pub(crate) async fn wait(&mut self) -> Result<(), Error> {
        while self.parse()?.is_none() {
            self.read().await?;
        }
        Ok(())
    }

    /// The next answer if it has been read already, without asking the system.
    ///
    /// # Errors
    ///
    /// As [`Connection::receive`].
    pub fn receive_buffered(&mut self) -> Result<Option<Response<'_>>, Error> {
        if self.start == self.end {
            return Ok(None);
        }
        Ok(self.parse()?.map(|frame| self.take(frame)))
    }

    /// Reads more into the buffer, making room for what is known to come.
    async fn read(&mut self) -> Result<(), Error> {
        if self.ended {
            return Err(Error::Closed);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.start + self.wanted > self.buffer.len() || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.wanted > self.buffer.len() {
            self.buffer.resize(self.wanted, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.resize(self.end * 2, 0);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = self.stream.read(room).await?;
        self.end += read;
        self.ended = read == 0;
        Ok(())
    }

    /// Moves on behind the answer and hands it out.
    fn take(&mut self, frame: Frame) -> Response<'_> {
        self.start = frame.next;
        self.wanted = 0;
        self.chunks_parsed = None;
        let body = match frame.body {
            Body::Buffered(range) => self.buffer.get(range).unwrap_or_default(),
            Body::Chunks => self.chunks.as_slice(),
        };
        Response { head: frame.head, body }
    }

    /// The answer at `start`, if all of it is there.
    fn parse(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let Some(head) = self.seen.parse(unread)? else {
                if self.ended && !unread.is_empty() {
                    return Err(Error::Closed);
                }
                if unread.len() > HEAD_BYTES_MAX {
                    return Err(Error::TooLong { what: "head", bytes_max: HEAD_BYTES_MAX });
                }
                return Ok(None);
            };
            if head.is_interim() {
                self.start += head.bytes();
                continue;
            }
            return match head.framing() {
                Framing::Length(length) => self.parse_length(head, length),
                Framing::Chunked => self.parse_chunks(head),
                Framing::UntilClose => self.parse_until_close(head),
            };
        }
    }

    /// An answer whose length is given.
    fn parse_length(&mut self, head: Arc<Head>, length: u64) -> Result<Option<Frame>, Error> {
        let too_long = Error::TooLong { what: "body", bytes_max: BODY_BYTES_MAX };
        let Some(length) = usize::try_from(length).ok().filter(|&l| l <= BODY_BYTES_MAX) else {
            return Err(too_long);
        };
        self.wanted = head.bytes() + length;
        if self.end - self.start < self.wanted {
            return if self.ended { Err(Error::Closed) } else { Ok(None) };
        }
        let body = self.start + head.bytes()..self.start + self.wanted;
        Ok(Some(Frame { head, next: body.end, body: Body::Buffered(body) }))
    }

    /// An answer that ends with the connection.
    fn parse_until_close(&mut self, head: Arc<Head>) -> Result<Option<Frame>, Error> {
        let body = self.start + head.bytes()..self.end;
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::TooLong { what: "body", bytes_max: BODY_BYTES_MAX });
        }
        let frame = Frame { head, next: self.end, body: Body::Buffered(body) };
        Ok(self.ended.then_some(frame))
    }

    /// An answer in chunks (RFC 9112, section 7.1); what has come is put together at once, and a
    /// trailer is skipped.
    fn parse_chunks(&mut self, head: Arc<Head>) -> Result<Option<Frame>, Error> {
        let mut at = self.chunks_parsed.unwrap_or_else(|| {
            self.chunks.clear();
            head.bytes()
        });
        loop {
            self.chunks_parsed = Some(at);
            let unread = self.buffer.get(self.start + at..self.end).unwrap_or_default();
            let size = httparse::parse_chunk_size(unread);
            let (line, size) = match size {
                Ok(httparse::Status::Complete(found)) => found,
                Ok(httparse::Status::Partial) => {
                    return if self.ended { Err(Error::Closed) } else { Ok(None) };
                }
                Err(_) => return Err(Error::Malformed("a chunk without its size".to_owned())),
            };
            if size == 0 {
                let Some(end) = trailer_end(unread.get(line..).unwrap_or_default()) else {
                    return if self.ended { Err(Error::Closed) } else { Ok(None) };
                };
                let next = self.start + at + line + end;
                return Ok(Some(Frame { head, next, body: Body::Chunks }));
            }
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > BODY_BYTES_MAX.saturating_sub(self.chunks.len()) {
                return Err(Error::TooLong { what: "body", bytes_max: BODY_BYTES_MAX });
            }
            self.wanted = at + line + size + 2;
            if unread.len() < line + size + 2 {
                return if self.ended { Err(Error::Closed) } else { Ok(None) };
            }
            self.chunks.extend_from_slice(unread.get(line..line + size).unwrap_or_default());
            at += line + size + 2;
        }
    }
}

/// How long the trailer is, with the empty line that ends it.
fn trailer_end(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests;
