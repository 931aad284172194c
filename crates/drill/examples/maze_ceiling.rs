//! How fast the drill of the maze is when the server costs little: one that throws events away, and
//! one that routes them and does nothing else that a server must do.
//!
//! ```sh
//! cargo build --release -p tidings-drill --example maze_ceiling
//! taskset -c 0 target/release/examples/maze_ceiling route 127.0.0.1:7771 127.0.0.1:7772 &
//! taskset -c 1 target/release/examples/maze_ceiling drill 127.0.0.1:7771 127.0.0.1:7772
//! ```
//!
//! `discard` shows what it costs to make, write and expect events; its verdict is FAIL, and it
//! prints itself how long it took. `route` trusts its input: one source, no
//! gap, no duplicate, nothing malformed.
#![expect(clippy::indexing_slicing, reason = "it may fail loudly on what it does not expect")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use clap::Parser;
use tidings_drill::Progress;
use tidings_drill::maze::{self, Options, Targets};

/// What one read takes at most.
const READ_BYTES: usize = 256 << 10;
/// The longest line of the drill.
const LINE_BYTES_MAX: usize = 32;
/// How far ahead of the next an event may come.
const AHEAD_MAX: usize = 1 << 14;

#[derive(Parser)]
enum Command {
    /// Read everything and answer nothing.
    Discard { source_address: SocketAddr, client_address: SocketAddr },
    /// Route.
    Route { source_address: SocketAddr, client_address: SocketAddr },
    /// Drill.
    Drill {
        source_address: SocketAddr,
        client_address: SocketAddr,
        #[command(flatten)]
        options: Box<Options>,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    match Command::parse() {
        Command::Discard { source_address, client_address } => {
            discard(source_address, client_address)
        }
        Command::Route { source_address, client_address } => route(source_address, client_address),
        Command::Drill { source_address, client_address, options } => {
            let targets =
                Targets { source: source_address, clients: vec![client_address], http: Vec::new() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let verdict = runtime.block_on(maze::run(&targets, &options, Progress::silent()))?;
            for line in verdict.to_string().lines().filter(|line| !line.contains("differs: ")) {
                eprintln!("{line}");
            }
            Ok(())
        }
    }
}

/// Accepts clients until the source is there.
fn accept(
    source: SocketAddr,
    clients: SocketAddr,
) -> Result<(TcpStream, Vec<TcpStream>), Box<dyn Error>> {
    let (source, clients) = (TcpListener::bind(source)?, TcpListener::bind(clients)?);
    let accepting = std::thread::spawn({
        let clients = clients.try_clone()?;
        move || {
            let mut streams = Vec::new();
            while let Ok((stream, _)) = clients.accept() {
                streams.push(stream);
            }
            streams
        }
    });
    let (source, _) = source.accept()?;
    // The listener is shared: no more waiting in it wakes the thread with one last connection.
    clients.set_nonblocking(true)?;
    drop(TcpStream::connect(clients.local_addr()?)?);
    let mut streams = accepting.join().map_err(|_| "accepting failed")?;
    streams.truncate(streams.len() - 1);
    Ok((source, streams))
}

fn discard(source: SocketAddr, clients: SocketAddr) -> Result<(), Box<dyn Error>> {
    let (mut source, _clients) = accept(source, clients)?;
    let (mut buffer, mut total, started) = (vec![0; READ_BYTES], 0, Instant::now());
    let mut elapsed = started.elapsed();
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            eprintln!("{total} bytes read in {:.2} s", elapsed.as_secs_f64());
            return Ok(());
        }
        total += count;
        elapsed = started.elapsed();
    }
}

/// A line that waits for its turn.
#[derive(Clone, Copy, Default)]
struct Slot {
    line: [u8; LINE_BYTES_MAX],
    len: usize,
}

/// What waits for a client, and where it ends.
struct Out {
    bytes: Vec<u8>,
    end: usize,
}

impl Out {
    fn push(&mut self, slot: &Slot) {
        if self.end + LINE_BYTES_MAX > self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        self.bytes[self.end..self.end + LINE_BYTES_MAX].copy_from_slice(&slot.line);
        self.end += slot.len;
    }
}

struct Router {
    /// For each user, its client.
    client_of: Vec<Option<usize>>,
    /// For each user, a bit for each client that follows it.
    followers: Vec<Vec<u64>>,
    slots: Vec<Slot>,
    next: usize,
    out: Vec<Out>,
}

fn route(source: SocketAddr, clients: SocketAddr) -> Result<(), Box<dyn Error>> {
    let (mut source, mut streams) = accept(source, clients)?;
    let mut router = Router {
        client_of: Vec::new(),
        followers: Vec::new(),
        slots: vec![Slot::default(); AHEAD_MAX],
        next: 1,
        out: streams.iter().map(|_| Out { bytes: vec![0; 1 << 12], end: 0 }).collect(),
    };
    for (client, stream) in streams.iter_mut().enumerate() {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let (user, _) = number(&line);
        router.known(user);
        router.client_of[user] = Some(client);
    }
    let (mut buffer, mut kept) = (vec![0; READ_BYTES], 0);
    loop {
        let count = source.read(&mut buffer[kept..])?;
        if count == 0 {
            return Ok(());
        }
        let taken = router.take(&buffer[..kept + count]);
        buffer.copy_within(taken..kept + count, 0);
        kept = kept + count - taken;
        for (stream, out) in streams.iter_mut().zip(&mut router.out) {
            stream.write_all(&out.bytes[..out.end])?;
            out.end = 0;
        }
    }
}

/// The number at the start, and how many digits it has.
fn number(text: &[u8]) -> (usize, usize) {
    let (mut value, mut digits) = (0, 0);
    while let Some(digit) = text.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|&d| d < 10)
    {
        value = value * 10 + usize::from(digit);
        digits += 1;
    }
    (value, digits)
}

impl Router {
    /// Takes the lines that are whole. How many bytes they are.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(len) = bytes[at..].iter().position(|&byte| byte == b'\n') {
            let line = &bytes[at..=at + len];
            let (sequence, _) = number(line);
            let slot = &mut self.slots[sequence % AHEAD_MAX];
            slot.len = line.len();
            match bytes[at..].first_chunk() {
                Some(block) => slot.line = *block,
                None => slot.line[..line.len()].copy_from_slice(line),
            }
            at += len + 1;
            if sequence == self.next {
                self.release();
            }
        }
        at
    }

    /// Routes what is next, as long as it is there.
    fn release(&mut self) {
        loop {
            let slot = &mut self.slots[self.next % AHEAD_MAX];
            if slot.len == 0 {
                return;
            }
            let line = *slot;
            slot.len = 0;
            self.next += 1;
            self.deliver(&line);
        }
    }

    fn deliver(&mut self, slot: &Slot) {
        let (_, digits) = number(&slot.line);
        let kind = slot.line[digits + 1];
        if kind == b'B' {
            self.out.iter_mut().for_each(|out| out.push(slot));
            return;
        }
        let (from, more) = number(&slot.line[digits + 3..]);
        self.known(from);
        if kind == b'S' {
            for (at, &word) in self.followers[from].iter().enumerate() {
                let mut left = word;
                while left != 0 {
                    self.out[at * 64 + left.trailing_zeros() as usize].push(slot);
                    left &= left - 1;
                }
            }
            return;
        }
        let (to, _) = number(&slot.line[digits + more + 4..]);
        self.known(to);
        if kind != b'U'
            && let Some(client) = self.client_of[to]
        {
            self.out[client].push(slot);
        }
        if kind != b'P'
            && let Some(client) = self.client_of[from]
        {
            let bit = 1 << (client % 64);
            let word = &mut self.followers[to][client / 64];
            *word = if kind == b'F' { *word | bit } else { *word & !bit };
        }
    }

    /// Makes room for this user.
    fn known(&mut self, user: usize) {
        if user >= self.client_of.len() {
            self.client_of.resize(user + 1, None);
            self.followers.resize(user + 1, vec![0; self.out.len().div_ceil(64)]);
        }
    }
}
