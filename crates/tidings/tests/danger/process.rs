//! The real binary as a separate process, and a minimal HTTP client to talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) http: SocketAddr,
}

pub(crate) fn serve(data: &Path, http: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(["serve", "--http", http, "--log-level", "warn", "--data"]).arg(data);
    command.args(["--maze-source", "127.0.0.1:0", "--maze-clients", "127.0.0.1:0"]).args(more);
    command
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(data: &Path, http: &str, more: &[&str]) -> Self {
        Self::spawn(serve(data, http, more))
    }

    /// Runs a command that starts a server, and waits until the server is ready.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").expect("the line with the address").1;
        let server = Self { child, http: address.parse().unwrap() };
        until("the server is ready", || {
            server.get("/readyz").is_some_and(|answer| answer.status == 200)
        });
        server
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Option<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    pub(crate) fn post(&self, body: &str) -> Option<Answer> {
        let length = body.len();
        self.ask(&format!(
            "POST /messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// Sends one request on a new connection. Returns `None` if the connection breaks.
    fn ask(&self, request: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, body: body.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Returns a message of the numbered channel that increases the rocket's speed by 1.
pub(crate) fn faster(channel: u32, number: u32) -> String {
    format!(
        r#"{{"metadata":{{"channel":"00000000-0000-4000-8000-{channel:012}","messageNumber":{number},"messageTime":"2022-02-02T19:39:05Z","messageType":"RocketSpeedIncreased"}},"message":{{"by":1}}}}"#
    )
}

/// Returns the highest number up to which all messages of a rocket are applied.
pub(crate) fn applied(server: &Server, channel: u32) -> u64 {
    let answer = server.get(&format!("/rockets/00000000-0000-4000-8000-{channel:012}")).unwrap();
    if answer.status == 404 {
        return 0;
    }
    let rocket: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(rocket["speed"], rocket["sequence"]["applied"], "each message adds 1, once");
    rocket["sequence"]["applied"].as_u64().unwrap()
}

/// Polls a condition until it holds.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Returns `TIDINGS_SEED`, or a new seed, for a test that uses randomness. Prints it, so that the test can be replayed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("TIDINGS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0) >> 32
    });
    println!("replay with TIDINGS_SEED={seed}");
    seed
}
