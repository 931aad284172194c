//! How fast the drill is when the server costs nothing: a server that answers every request
//! with the same bytes. Its answers are wrong, so the verdict is FAIL; its rates are the ceiling.
//!
//! ```sh
//! cargo build --release -p tidings-drill --example ceiling
//! taskset -c 0 target/release/examples/ceiling serve 127.0.0.1:7777 &
//! taskset -c 1 target/release/examples/ceiling drill 127.0.0.1:7777 --senders 32 --watch 0
//! ```

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use tidings_drill::rockets::{self, Options};
use tidings_drill::{Progress, Target};
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
        options: Box<Options>,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let command = Command::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Serve { address } => runtime.block_on(serve(&address)),
        Command::Drill { address, options } => runtime.block_on(drill(&address, &options)),
    }
}

async fn drill(address: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    let target = Target::resolve(address).await?;
    let before = cpu()?;
    let verdict = rockets::run(&target, options, Progress::silent()).await?;
    let used = cpu()?.saturating_sub(before);
    let requests = verdict.value("requests").unwrap_or("1").replace(',', "").parse::<f64>()?;
    let messages = verdict.value("messages sent").unwrap_or("1").replace(',', "").parse::<f64>()?;
    for line in verdict.to_string().lines().filter(|line| !line.contains("differs")) {
        eprintln!("{line}");
    }
    let micros = used.as_secs_f64() * 1e6;
    eprintln!(
        "drill CPU: {:.2} s in all, {:.2} µs per request, {:.3} µs per message",
        used.as_secs_f64(),
        micros / requests,
        micros / messages
    );
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
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A connection that breaks is the end of that connection.
            drop(answer(stream).await);
        });
    }
}

/// Finds the ends of requests and little else.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
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
        while let Some(length) = request(buffer.get(at..end).unwrap_or_default(), &mut out) {
            at += length;
        }
        buffer.copy_within(at..end, 0);
        end -= at;
        stream.write_all(&out).await?;
        out.clear();
    }
}

/// The length of the request at the start, if it is whole; its answer is appended.
fn request(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = parsed.parse(bytes) else {
        return None;
    };
    if parsed.method != Some("POST") {
        out.extend_from_slice(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        return Some(head);
    }
    let length = parsed.headers.iter().find(|f| f.name.eq_ignore_ascii_case("content-length"));
    let length: usize = std::str::from_utf8(length?.value).ok()?.trim().parse().ok()?;
    let body = bytes.get(head..head + length)?;
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
