//! A server in this process, and a test client that can also send malformed requests.

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use tidings::config::Settings;
use tidings::server::Server;
use tidings_log::{AppendError, Batch, Bounds, Error, Log, Memory, Origin, Position, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const FALCON: &str = "193270a9-c9cf-404a-8f83-838e71d9ae67";

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test against a server in memory with these settings.
pub(crate) fn with<F: Future<Output = ()>>(
    settings: &[(&str, &str)],
    test: impl FnOnce(Client) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut given = vec![
            ("http", "127.0.0.1:0"),
            ("maze.source", "127.0.0.1:0"),
            ("maze.clients", "127.0.0.1:0"),
            ("memory", "true"),
            ("log_level", "error"),
        ];
        given.extend_from_slice(settings);
        let server = Server::start(Settings::with(&given).unwrap()).await.unwrap();
        let client = Client { address: server.http().to_string() };
        tokio::time::timeout(PATIENCE, test(client)).await.expect("in time");
        server.stop().await.unwrap();
    });
}

/// Runs a test against two servers that share a log.
pub(crate) fn with_two<F: Future<Output = ()>>(test: impl FnOnce(Client, Client) -> F) {
    let log = Memory::new(Origin(1));
    // Joined before a server starts, because a server asks only once whether the log is shared.
    let other = log.join(Origin(2));
    over(vec![Box::new(log), Box::new(other)], async |clients| {
        let [one, two] = <[Client; 2]>::try_from(clients).unwrap();
        test(one, two).await;
    });
}

/// The same as [`with_two`], but neither server is notified of the other's appends: it sees them only when it appends
/// itself or asks for a barrier.
pub(crate) fn with_two_deaf<F: Future<Output = ()>>(test: impl FnOnce(Client, Client) -> F) {
    let log = Memory::new(Origin(1));
    let other = log.join(Origin(2));
    over(vec![Box::new(Deaf(log)), Box::new(Deaf(other))], async |clients| {
        let [one, two] = <[Client; 2]>::try_from(clients).unwrap();
        test(one, two).await;
    });
}

/// A log that tells nobody of news.
struct Deaf(Memory);

impl Log for Deaf {
    fn origin(&self) -> Origin {
        self.0.origin()
    }
    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.0.bounds()
    }
    fn last_number(&self) -> u64 {
        self.0.last_number()
    }
    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        self.0.append(number, body)
    }
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        self.0.read(from, bytes_max)
    }
    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.0.write_snapshot(position, chunk, body, last)
    }
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        self.0.read_snapshot()
    }
    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.0.truncate(before)
    }
    fn check(&mut self) -> Result<(), Error> {
        self.0.check()
    }
    fn is_shared(&self) -> bool {
        self.0.is_shared()
    }
}

/// Runs a test against a server over each of these logs.
pub(crate) fn over(logs: Vec<Box<dyn Log>>, test: impl AsyncFnOnce(Vec<Client>)) {
    over_with(&[], logs, test);
}

/// The same, with settings.
pub(crate) fn over_with(
    settings: &[(&str, &str)],
    logs: Vec<Box<dyn Log>>,
    test: impl AsyncFnOnce(Vec<Client>),
) {
    // The node of one server commits while another server's request waits.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let given = [
        ("http", "127.0.0.1:0"),
        ("maze.source", "127.0.0.1:0"),
        ("maze.clients", "127.0.0.1:0"),
        ("log_level", "error"),
    ];
    let given = [&given, settings].concat();
    runtime.block_on(async {
        let mut servers = Vec::new();
        for log in logs {
            let bound = Server::bind(Settings::with(&given).unwrap()).unwrap();
            servers.push(bound.recover_from(log).await.unwrap());
        }
        let clients = servers.iter().map(|server| Client { address: server.http().to_string() });
        tokio::time::timeout(PATIENCE, test(clients.collect())).await.expect("in time");
        for server in servers {
            server.stop().await.unwrap();
        }
    });
}

pub(crate) fn with_defaults<F: Future<Output = ()>>(test: impl FnOnce(Client) -> F) {
    with(&[], test);
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// The outcome of a message that was taken.
    pub(crate) fn outcome(&self) -> &str {
        assert_eq!((self.status, self.body.as_str()), (202, ""), "{self:?}");
        self.header("Tidings-Outcome").unwrap()
    }

    /// Checks that this is a problem document with this status, and gives its words.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"));
        assert_eq!(self.json()["status"], status);
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads all that comes until it is closed.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        // The server may answer and close before it has read all.
        let _closed_early = stream.write_all(bytes).await;
        answer(&mut stream).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        self.raw(request.as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    pub(crate) async fn post(&self, message: &Value) -> Answer {
        self.ask("POST", "/messages", "Content-Type: application/json\r\n", &message.to_string())
            .await
    }

    pub(crate) async fn post_text(&self, body: &str) -> Answer {
        self.ask("POST", "/messages", "", body).await
    }

    pub(crate) async fn rocket(&self, id: &str) -> Value {
        self.get(&format!("/rockets/{id}")).await.json()
    }
}

/// Reads all that comes until the server closes.
pub(crate) async fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A message of a rocket.
pub(crate) fn message(channel: &str, number: u64, kind: &str, content: &Value) -> Value {
    json!({
        "metadata": {
            "channel": channel,
            "messageNumber": number,
            "messageTime": format!("2022-02-02T19:39:{:02}+01:00", number % 60),
            "messageType": kind,
        },
        "message": content,
    })
}

pub(crate) fn launch(channel: &str, number: u64, speed: i64) -> Value {
    let content = json!({"type": "Falcon-9", "launchSpeed": speed, "mission": "ARTEMIS"});
    message(channel, number, "RocketLaunched", &content)
}

pub(crate) fn faster(channel: &str, number: u64, by: i64) -> Value {
    message(channel, number, "RocketSpeedIncreased", &json!({ "by": by }))
}
