//! How fast the drills over HTTP are when the server costs next to nothing: it answers every rocket
//! message with the same bytes (so the verdict is FAIL; its rates are the ceiling), and keeps chat
//! messages in lists, without expiry, leases or anything else (so the verdict of `--plain` is PASS).
//!
//! ```sh
//! cargo build --release -p tidings-drill --example ceiling
//! taskset -c 0 target/release/examples/ceiling serve 127.0.0.1:7777 &
//! taskset -c 1 target/release/examples/ceiling drill 127.0.0.1:7777 --senders 32 --watch 0
//! taskset -c 1 target/release/examples/ceiling drill-chat 127.0.0.1:7777 --plain --messages 1000000
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use tidings_drill::{Progress, Target, Verdict, chat, rockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Parser)]
enum Command {
    /// Answer everything.
    Serve {
        /// Where.
        address: String,
    },
    /// Drill what answers everything.
    Drill {
        /// Where.
        address: String,
        #[command(flatten)]
        options: Box<rockets::Options>,
    },
    /// Drill its chat.
    DrillChat {
        /// Where.
        address: String,
        #[command(flatten)]
        options: Box<chat::Options>,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let command = Command::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Serve { address } => runtime.block_on(serve(&address)),
        Command::Drill { address, options } => runtime.block_on(async {
            let target = Target::resolve(&address).await?;
            let before = cpu()?;
            let verdict = rockets::run(&[target], &options, Progress::silent()).await?;
            show(&verdict, before, &[("request", "requests"), ("message", "messages sent")])
        }),
        Command::DrillChat { address, options } => runtime.block_on(async {
            let target = Target::resolve(&address).await?;
            let before = cpu()?;
            let verdict = chat::run(&[target], &options, Progress::silent()).await?;
            show(&verdict, before, &[("request", "calls")])
        }),
    }
}

/// Shows the table, and what the drill has used per each of these.
fn show(verdict: &Verdict, before: Duration, per: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    let used = cpu()?.saturating_sub(before);
    let is_row = |line: &&str| !line.contains("differs") && !line.starts_with("    ");
    verdict.to_string().lines().filter(is_row).for_each(|line| eprintln!("{line}"));
    eprintln!("drill CPU: {:.2} s in all", used.as_secs_f64());
    for (what, row) in per {
        let count = verdict.value(row).as_deref().unwrap_or("1").replace(',', "").parse::<f64>()?;
        eprintln!("drill CPU per {what}: {:.3} µs", used.as_secs_f64() * 1e6 / count);
    }
    Ok(())
}

/// The processor time that this process has used, in hundredths of a second (Linux).
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

async fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    let inboxes = Arc::new(Inboxes::default());
    loop {
        let (stream, _) = listener.accept().await?;
        let inboxes = Arc::clone(&inboxes);
        tokio::spawn(async move {
            // A connection that breaks is the end of that connection.
            drop(answer(stream, &inboxes).await);
        });
    }
}

/// Finds the ends of requests and little else.
async fn answer(mut stream: TcpStream, inboxes: &Inboxes) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut end, mut out) = (0, Vec::new());
    loop {
        if end == buffer.len() {
            buffer.resize(end * 2, 0);
        }
        let read = stream.read(buffer.get_mut(end..).unwrap_or_default()).await?;
        if read == 0 {
            return Ok(());
        }
        end += read;
        let mut at = 0;
        let mut next = |at| request(buffer.get(at..end).unwrap_or_default(), inboxes, &mut out);
        while let Some(length) = next(at) {
            at += length;
        }
        buffer.copy_within(at..end, 0);
        end -= at;
        stream.write_all(&out).await?;
        out.clear();
    }
}

/// The length of the request at the start, if it is whole; its answer is appended.
fn request(bytes: &[u8], inboxes: &Inboxes, out: &mut Vec<u8>) -> Option<usize> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = parsed.parse(bytes) else {
        return None;
    };
    if let (Some("GET"), Some(user)) = (parsed.method, parsed.path?.strip_prefix("/chat/")) {
        inboxes.take(user, out);
        return Some(head);
    }
    if parsed.method != Some("POST") {
        out.extend_from_slice(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        return Some(head);
    }
    let length = parsed.headers.iter().find(|f| f.name.eq_ignore_ascii_case("content-length"));
    let length: usize = std::str::from_utf8(length?.value).ok()?.trim().parse().ok()?;
    let body = bytes.get(head..head + length)?;
    if parsed.path == Some("/chat") {
        inboxes.post(body, out)?;
        return Some(head + length);
    }
    if body.last() == Some(&b'\n') {
        let lines = body.split(|&byte| byte == b'\n').count() - 1;
        let json =
            format!(r#"{{"accepted":{lines},"outcomes":{{"applied":{lines}}},"rejected":[]}}"#);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", json.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(json.as_bytes());
    } else {
        out.extend_from_slice(
            b"HTTP/1.1 202 Accepted\r\ntidings-outcome: applied\r\ncontent-length: 0\r\n\
              date: Fri, 20 Nov 2026 22:33:08 GMT\r\n\r\n",
        );
    }
    Some(head + length)
}

/// Chat messages by the user's name as it stands in a path, each as it is shown.
#[derive(Default)]
struct Inboxes(Mutex<(HashMap<String, Vec<u8>>, u64)>);

impl Inboxes {
    /// Stores a message that is written as the drill writes it.
    fn post(&self, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let body = std::str::from_utf8(body).ok()?;
        let (text, rest) = body.strip_prefix(r#"{"text":"#)?.split_once(r#","username":"#)?;
        let name = rest.rsplit_once(r#","timeout":"#).map_or(rest, |(name, _)| name);
        let name: String = serde_json::from_str(name.trim_end_matches('}')).ok()?;
        let mut path = String::new();
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~+".contains(&byte) {
                path.push(byte.into());
            } else {
                path += &["%", &format!("{byte:02X}")].concat();
            }
        }
        let (inboxes, posted) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *posted += 1;
        let id = format!("01912d68-783e-7a03-8467-{posted:012x}");
        let inbox = inboxes.entry(path).or_default();
        inbox.push(if inbox.is_empty() { b'[' } else { b',' });
        for part in [r#"{"text":"#, text, r#","id":""#, &id, "\"}"] {
            inbox.extend_from_slice(part.as_bytes());
        }
        let head = "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 45\r\n\
                    date: Fri, 20 Nov 2026 22:33:08 GMT\r\n\r\n{\"id\":\"";
        for part in [head, &id, "\"}"] {
            out.extend_from_slice(part.as_bytes());
        }
        Some(())
    }

    /// Hands out everything.
    fn take(&self, user: &str, out: &mut Vec<u8>) {
        let (inboxes, _) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inbox = inboxes.remove(user).unwrap_or_else(|| vec![b'[']);
        inbox.push(b']');
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(inbox.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\ndate: Fri, 20 Nov 2026 22:33:08 GMT\r\n\r\n");
        out.extend_from_slice(&inbox);
    }
}
