//! A TCP stream whose writes are put together until the task that serves it has nothing more to do.
//!
//! Answers to pipelined requests leave in one system call. hyper can do that itself
//! (`pipeline_flush`), but loses what it has not yet written when it closes a connection on which
//! there is something left to read: a refusal of a body that is too large, say, or a last answer
//! before a shutdown.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes that wait to be written. A write at this bound waits for the socket.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// How long a client may go on sending after the server has closed its side, before the connection is reset.
/// Until then it can read the last answer.
const LINGER: Duration = Duration::from_secs(1);
/// The most bytes that are read and discarded meanwhile.
const LINGER_BYTES_MAX: usize = 16 << 20;

/// One handle of a stream: hyper has one, the task of the connection has another, and they are never used concurrently.
#[derive(Clone)]
pub(super) struct Stream(Arc<Mutex<Inner>>);

struct Inner {
    tcp: TcpStream,
    /// The bytes that hyper has written and that are not in the socket yet.
    waiting: Vec<u8>,
    /// The number of bytes of `waiting` that are in the socket.
    written: usize,
}

impl Inner {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.written += ready!(Pin::new(&mut self.tcp).poll_write(context, rest))?;
        }
        self.waiting.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room when there is none.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.len() < WAITING_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(context)
    }
}

impl Stream {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self(Arc::new(Mutex::new(Inner { tcp, waiting: Vec::new(), written: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what has been put together, as far as the socket takes it; the task is woken when it
    /// takes more. A broken stream is found by whoever reads it.
    pub(super) fn drain(&self, context: &mut Context<'_>) {
        let _pending_or_broken = self.lock().poll_drain(context);
    }

    /// Ends it so that the client can read our last answer before its unread sendings reset the
    /// connection.
    pub(super) async fn linger(self) {
        let Some(inner) = Arc::into_inner(self.0) else { return };
        let Inner { mut tcp, waiting, written } =
            inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let end = async {
            tcp.write_all(waiting.get(written..).unwrap_or_default()).await?;
            tcp.shutdown().await?;
            let mut waste = vec![0; 16 << 10];
            let mut left = LINGER_BYTES_MAX;
            while left > 0 {
                match tcp.read(&mut waste).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        // Late or broken, it is closed now.
        drop(tokio::time::timeout(LINGER, end).await);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        ready!(inner.poll_room(context))?;
        let before = inner.waiting.len();
        for piece in pieces {
            let room = WAITING_BYTES_MAX.saturating_sub(inner.waiting.len());
            inner.waiting.extend_from_slice(piece.get(..room).unwrap_or(piece));
        }
        Poll::Ready(Ok(inner.waiting.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to [`Stream::drain`].
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_drain(context))?;
        Pin::new(&mut inner.tcp).poll_shutdown(context)
    }
}
