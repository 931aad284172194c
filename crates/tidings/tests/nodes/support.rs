//! Nodes that share one log in memory, each of which can be cut off from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tidings::config::Settings;
use tidings::server::Server;
use tidings_log::{AppendError, Batch, Bounds, Error, Log, Memory, Origin, Position, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A log that can be cut off from the other nodes: its appends then have an unknown outcome.
struct Cable {
    log: Memory,
    cut: Arc<AtomicBool>,
}

impl Log for Cable {
    fn origin(&self) -> Origin {
        self.log.origin()
    }
    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.log.bounds()
    }
    fn last_number(&self) -> u64 {
        self.log.last_number()
    }
    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        if self.cut.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(20));
            return Err(AppendError::Unknown("the cable is cut".to_owned()));
        }
        self.log.append(number, body)
    }
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        self.log.read(from, bytes_max)
    }
    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.log.write_snapshot(position, chunk, body, last)
    }
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        self.log.read_snapshot()
    }
    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.log.truncate(before)
    }
    fn check(&mut self) -> Result<(), Error> {
        self.log.check()
    }
    fn is_shared(&self) -> bool {
        self.log.is_shared()
    }
    fn on_news(&mut self, tell: Box<dyn Fn() + Send + Sync>) {
        self.log.on_news(tell);
    }
}

/// A server on the shared log.
pub(crate) struct Node {
    server: Server,
    cut: Arc<AtomicBool>,
}

/// The log of a node that is not started yet.
pub(crate) struct Seat(Memory);

/// Returns the seats of two nodes on one log.
pub(crate) fn two() -> (Seat, Seat) {
    let log = Memory::new(Origin(1));
    let other = log.join(Origin(2));
    (Seat(log), Seat(other))
}

/// Runs a test, which must end within `PATIENCE`.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
}

impl Seat {
    pub(crate) async fn start(&self, settings: &[(&str, &str)]) -> Node {
        let mut given = vec![
            ("http", "127.0.0.1:0"),
            ("maze.source", "127.0.0.1:0"),
            ("maze.clients", "127.0.0.1:0"),
            ("log_level", "error"),
        ];
        given.extend_from_slice(settings);
        let cut = Arc::<AtomicBool>::default();
        let log = Cable { log: self.0.reopen(), cut: Arc::clone(&cut) };
        let settings = Settings::with(&given).unwrap();
        Node { server: Server::start_over(settings, Box::new(log)).await.unwrap(), cut }
    }
}

impl Node {
    /// Cuts the node off from the log, or reconnects it.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await.unwrap();
    }

    pub(crate) fn maze(&self) -> (SocketAddr, SocketAddr) {
        let port = |key| self.server.port(key).unwrap();
        (port("maze.source"), port("maze.clients"))
    }

    async fn get(&self, path: &str) -> String {
        self.ask(path, "").await
    }

    /// Waits until everything that any node has appended is applied here.
    pub(crate) async fn catches_up(&self) {
        self.ask("/maze", "Tidings-Consistency: strong\r\n").await;
    }

    async fn ask(&self, path: &str, fields: &str) -> String {
        let mut stream = TcpStream::connect(self.server.http()).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").expect("an answer").1.to_owned()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await).unwrap()
    }

    /// Returns whether the node reports that it holds a lease.
    pub(crate) async fn holds(&self, lease: &str) -> bool {
        let name = format!("tidings_lease_held{{lease=\"{lease}\"}} ");
        let metrics = self.get("/metrics").await;
        let held = metrics.lines().find_map(|line| line.strip_prefix(&name));
        held.expect("a metric") == "1"
    }
}
