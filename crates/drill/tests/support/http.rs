//! What the dumb servers of the referees' tests have in common: a thread per connection, requests read a
//! line at a time, and being killed.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A request, read whole.
pub(crate) struct Request {
    /// Method, target and version.
    pub(crate) line: String,
    /// The lines of the fields.
    pub(crate) fields: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The next one on a connection.
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let (mut lines, mut line) = (Vec::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            lines.push(line.trim_end().to_owned());
        }
        let first = lines.remove(0);
        let mut request = Self { line: first, fields: lines, body: Vec::new() };
        let length = request.field("content-length").map_or(0, |length| length.parse().unwrap());
        request.body = vec![0; length];
        reader.read_exact(&mut request.body).ok()?;
        Some(request)
    }

    /// The value of a field, its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter().filter_map(|line| line.split_once(':'));
        fields.find(|(known, _)| known.to_ascii_lowercase() == name).map(|(_, value)| value.trim())
    }

    /// What it is about.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

/// What a server does with a request.
pub(crate) enum Reaction {
    Answer(String),
    /// The connection is closed after the answer.
    Last(String),
    /// Nothing is answered, and the connection lives on.
    Silence,
    /// The connection is closed.
    Break,
}

/// A server that can be killed: listeners and connections of an earlier life are dead.
#[derive(Default)]
pub(crate) struct Lives(AtomicU64);

impl Lives {
    /// Listens on a free port, or on this address again, until it is killed.
    pub(crate) fn listen(
        self: &Arc<Self>,
        address: Option<SocketAddr>,
        react: impl Fn(&Request, &dyn Fn() -> bool) -> Reaction + Send + Sync + 'static,
    ) -> SocketAddr {
        let address = address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = TcpListener::bind(address).unwrap();
        let bound = listener.local_addr().unwrap();
        let (lives, life) = (Arc::clone(self), self.0.load(Ordering::SeqCst));
        let react = Arc::new(react);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if lives.0.load(Ordering::SeqCst) != life {
                    return;
                }
                let (lives, react) = (Arc::clone(&lives), Arc::clone(&react));
                let lives_on = move || lives.0.load(Ordering::SeqCst) == life;
                std::thread::spawn(move || serve(stream.unwrap(), &lives_on, &*react));
            }
        });
        bound
    }

    /// Is gone without a word.
    pub(crate) fn kill(&self, address: SocketAddr) {
        self.0.fetch_add(1, Ordering::SeqCst);
        // Wakes the listener, so that it sees that it is gone.
        drop(TcpStream::connect(address));
        while TcpStream::connect(address).is_ok() {
            std::thread::yield_now();
        }
    }
}

fn serve(
    stream: TcpStream,
    lives_on: &dyn Fn() -> bool,
    react: &dyn Fn(&Request, &dyn Fn() -> bool) -> Reaction,
) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(request) = Request::read(&mut reader) {
        if !lives_on() {
            return;
        }
        let (answer, last) = match react(&request, lives_on) {
            Reaction::Answer(answer) => (answer, false),
            Reaction::Last(answer) => {
                (answer.replacen("\r\n", "\r\nConnection: close\r\n", 1), true)
            }
            Reaction::Silence => continue,
            Reaction::Break => return,
        };
        if writer.write_all(answer.as_bytes()).is_err() || last {
            return;
        }
    }
}

/// An answer with a body.
pub(crate) fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
