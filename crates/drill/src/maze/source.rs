//! The connection that the events go out through.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::queue::Queue;

/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// For how long it is looked whether a new connection is refused.
const REFUSAL_WAIT: Duration = Duration::from_millis(30);
/// How long the server gets to see that the source before is gone.
const SUCCESSION_WAIT: Duration = Duration::from_secs(5);

/// The event source.
pub(super) struct Source {
    stream: TcpStream,
    /// Has only the source in it, so that waiting for it is not ended by clients: the server would
    /// pay for waking the drill with every notification.
    poll: Poll,
    events: Events,
    /// The last write took all it was given.
    pub(super) writable: bool,
    /// Bytes per write at most.
    chunk: usize,
}

impl Source {
    /// Connects. A server that still has the source before, maybe that of another drill, refuses
    /// this one, and is asked again.
    pub(super) fn connect(address: SocketAddr, chunk: usize) -> io::Result<Self> {
        let deadline = Instant::now() + SUCCESSION_WAIT;
        loop {
            let mut stream = std::net::TcpStream::connect_timeout(&address, CONNECT_WAIT)?;
            stream.set_nodelay(true)?;
            if is_refused(&mut stream)? && Instant::now() < deadline {
                continue;
            }
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let poll = Poll::new()?;
            poll.registry().register(&mut stream, Token(0), Interest::WRITABLE)?;
            return Ok(Self {
                stream,
                poll,
                events: Events::with_capacity(8),
                writable: true,
                chunk,
            });
        }
    }

    /// Writes once, if it can.
    pub(super) fn write(&mut self, queue: &mut Queue) -> io::Result<usize> {
        let bytes = queue.front();
        let bytes = bytes.get(..self.chunk).unwrap_or(bytes);
        match self.stream.write(bytes) {
            Ok(count) => {
                queue.consume(count);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Waits until it can be written again, or for so long.
    pub(super) fn wait(&mut self, wait: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => self.writable |= !self.events.is_empty(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) fn close(&self) {
        // The server may have closed it already: it is gone either way.
        let _gone_already = self.stream.shutdown(Shutdown::Write);
    }
}

/// Whether the server closes a new connection at once.
fn is_refused(stream: &mut std::net::TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(REFUSAL_WAIT))?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) => Ok(!matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
        )),
    }
}
