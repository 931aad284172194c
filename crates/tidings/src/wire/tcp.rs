//! Listening on TCP: the one way in which ports are taken and connections accepted, for HTTP and for lines.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::telemetry::Complaint;

/// The kernel's queue of connections that are not accepted yet.
const BACKLOG: i32 = 4096;
/// How long accepting pauses after an error. Most likely no descriptors are left, and others must close first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Listens on an address.
///
/// # Errors
/// When the name cannot be resolved, or none of its addresses can be bound.
pub(crate) fn bind(address: &str) -> io::Result<TcpListener> {
    let mut why = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match bind_one(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The right to have a connection open. It is given back when it is dropped.
pub(crate) type Permit = OwnedSemaphorePermit;

/// Accepts connections, up to a number of open ones, until the server stops.
pub(crate) struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    connections_max: u32,
    stop: watch::Receiver<bool>,
    complaint: Complaint,
}

impl Acceptor {
    /// Accepts on `listener` until `stop` is true. At `connections_max` open connections, further ones wait in the
    /// kernel's queue.
    pub(crate) fn new(
        listener: TcpListener,
        connections_max: usize,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(connections_max)),
            connections_max: u32::try_from(connections_max).unwrap_or(u32::MAX),
            stop,
            complaint: Complaint::new("connections cannot be accepted"),
        }
    }

    /// Returns the next connection, or `None` when it is time to stop.
    pub(crate) async fn next(&mut self) -> Option<(TcpStream, SocketAddr, Permit)> {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return None,
                accepted = accept(&self.listener, &self.permits) => accepted,
            };
            match accepted {
                Ok(accepted) => return Some(accepted),
                // The client left before it was accepted.
                Err(why) if why.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(why) => {
                    self.complaint.warn(&why);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Closes the listener and waits until every permit is given back.
    pub(crate) async fn drained(self) {
        drop(self.listener);
        drop(self.permits.acquire_many(self.connections_max).await);
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, Permit)> {
    // Taken first: a connection that may not be open yet stays in the kernel's queue.
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    // Without it the last segment of an answer waits for the client's delayed acknowledgement. An error means that
    // the client is gone, which the first read finds too.
    let _gone = stream.set_nodelay(true);
    Ok((stream, address, permit))
}
