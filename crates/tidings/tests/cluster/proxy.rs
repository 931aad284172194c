//! A proxy between a node and a server that can be cut: then no byte passes, and neither side sees its connection close.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

#[derive(Default)]
struct Line {
    cut: Mutex<bool>,
    mended: Condvar,
    over: AtomicBool,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(Line::default());
        let theirs = Arc::clone(&line);
        thread::spawn(move || {
            for client in listener.incoming() {
                if theirs.over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else {
                    continue;
                };
                let from = client.try_clone().unwrap();
                let to = server.try_clone().unwrap();
                let line = Arc::clone(&theirs);
                thread::spawn(move || pass(from, to, &line));
                let line = Arc::clone(&theirs);
                thread::spawn(move || pass(server, client, &line));
            }
        });
        Self { address, line }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub(crate) fn cut(&self) {
        *self.line.cut.lock().unwrap() = true;
    }

    pub(crate) fn mend(&self) {
        *self.line.cut.lock().unwrap() = false;
        self.line.mended.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.over.store(true, Ordering::Relaxed);
        self.mend();
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, line: &Line) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer)
        && read > 0
    {
        let cut = line.cut.lock().unwrap();
        drop(line.mended.wait_while(cut, |cut| *cut).unwrap());
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other direction ends with this one.
    drop(to.shutdown(std::net::Shutdown::Both));
}
