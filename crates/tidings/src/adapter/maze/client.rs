//! User clients: each sends its id, and then receives. Each has a task of its own, so that a client that sends nothing, sends
//! garbage or reads slowly delays no other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::Adapter;
use super::registry::Link;
use crate::wire::lines;
use crate::wire::tcp::Acceptor;

/// The longest id, its line end not included.
const ID_BYTES_MAX: usize = 32;

/// Accepts clients until the adapter ends. Returns when each has been written what was queued for it, and is closed.
pub(super) async fn serve(listener: TcpListener, adapter: Arc<Adapter>) {
    let ending = adapter.ending.subscribe();
    let mut acceptor = Acceptor::new(listener, adapter.settings.clients_max, ending);
    while let Some((stream, _, permit)) = acceptor.next().await {
        let adapter = Arc::clone(&adapter);
        tokio::spawn(async move {
            adapter.handshakes.fetch_add(1, Ordering::Relaxed);
            let user = read_user(&stream, &adapter).await;
            adapter.handshakes.fetch_sub(1, Ordering::Relaxed);
            match user {
                Some(user) => Client::talk(stream, user, &adapter).await,
                None => drop(adapter.refused.fetch_add(1, Ordering::Relaxed)),
            }
            drop(permit);
        });
    }
    acceptor.drained().await;
}

/// Reads the id of a client. `None` when no valid id comes in time.
async fn read_user(stream: &TcpStream, adapter: &Adapter) -> Option<u64> {
    // Without keepalive a client whose host is gone would hold its place forever.
    lines::keep_alive(stream).ok()?;
    let mut ending = adapter.ending.subscribe();
    tokio::select! {
        user = tokio::time::timeout(adapter.settings.handshake_wait, read_id(stream)) => user.ok()?,
        _ = ending.wait_for(|ending| *ending) => None,
    }
}

async fn read_id(stream: &TcpStream) -> Option<u64> {
    // Room for the id, CRLF, and a byte more to see that it is too long.
    let (mut bytes, mut length) = ([0; ID_BYTES_MAX + 3], 0);
    loop {
        stream.readable().await.ok()?;
        match stream.try_read(bytes.get_mut(length..)?) {
            Ok(0) => return None,
            Ok(read) => length += read,
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        let read = bytes.get(..length)?;
        match memchr::memchr(b'\n', read) {
            Some(end) => return id(read.get(..end)?),
            None if length > ID_BYTES_MAX + 1 => return None,
            None => {}
        }
    }
}

/// Parses a user's id, without its `\n`: digits that fit a `u64`.
fn id(line: &[u8]) -> Option<u64> {
    let digits = line.strip_suffix(b"\r").unwrap_or(line);
    let is_id = digits.len() <= ID_BYTES_MAX && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_id)?.parse().ok()
}

/// A client whose id is known.
struct Client<'a> {
    stream: TcpStream,
    which: u32,
    adapter: &'a Adapter,
}

impl Client<'_> {
    async fn talk(stream: TcpStream, user: u64, adapter: &Adapter) {
        let link = Arc::<Link>::default();
        let place = |machine: &tidings_core::machine::maze::Maze| machine.graph().place(user);
        let which = adapter
            .machine
            .read(|machine| adapter.registry.add(user, place(machine), Arc::clone(&link)));
        let mut client = Client { stream, which, adapter };
        tokio::select! {
            biased;
            () = link.cut.notified() => {}
            // The client is gone. What it did not read is lost with it.
            _gone = client.write(&link) => {}
        }
        adapter.machine.read(|machine| adapter.registry.remove(which, |_| place(machine)));
    }

    /// Writes the queue, until the client is gone or the adapter ends.
    async fn write(&mut self, link: &Link) -> io::Result<()> {
        let mut ending = self.adapter.ending.subscribe();
        let mut buffer = Vec::new();
        loop {
            while self.adapter.registry.swap(self.which, &mut buffer) {
                self.write_all(&buffer).await?;
                buffer.clear();
            }
            if *ending.borrow() {
                return self.stream.shutdown().await;
            }
            tokio::select! {
                biased;
                () = link.wake.notified() => {}
                _ = ending.wait_for(|ending| *ending) => {}
                gone = self.gone() => return gone,
            }
        }
    }

    async fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            let written = self.stream.write(rest).await?;
            self.adapter.registry.written(self.which, written);
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Returns when the client has closed. Whatever it sends before is discarded.
    async fn gone(&self) -> io::Result<()> {
        let mut waste = [0; 256];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut waste) {
                Ok(0) => return Ok(()),
                Ok(_) => tokio::task::yield_now().await,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn an_id_is_digits_that_fit() {
        assert_eq!(id(b"42"), Some(42));
        assert_eq!(id(b"42\r"), Some(42));
        assert_eq!(id(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"\r",
            b"-1",
            b"+1",
            b" 1",
            b"1 ",
            b"x",
            b"18446744073709551616",
            &[b'0'; 33],
        ] {
            assert_eq!(id(bad), None, "{bad:?}");
        }
    }
}
