//! Server-sent events: changes as they happen.

use serde_json::Value;
use tidings::config::Settings;
use tidings::server::Server;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::support::{Client, FALCON, faster, launch, with, with_defaults};

/// A watcher, behind the head of the answer.
struct Watcher(BufReader<TcpStream>);

/// An event: its name, its id, its data.
type Event = (String, String, Value);

impl Watcher {
    async fn new(client: &Client, headers: &str) -> Self {
        let mut stream = client.connect().await;
        let request = format!("GET /rockets/events HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut watcher = Self(BufReader::new(stream));
        assert!(watcher.line().await.contains("200 OK"));
        while !watcher.line().await.is_empty() {}
        watcher
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn event(&mut self) -> Event {
        let (mut name, mut id, mut data) = (String::new(), String::new(), Value::Null);
        loop {
            let line = self.line().await;
            match line.split_once(": ").or_else(|| line.split_once(':')) {
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("id", value)) => value.clone_into(&mut id),
                Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
                // Sizes of chunks stand on lines of their own; an event ends with an empty line.
                None if line.is_empty() && !name.is_empty() => return (name, id, data),
                Some(_) | None => {}
            }
        }
    }
}

#[test]
fn every_change_is_one_event_with_the_rocket_as_it_was_right_after() {
    with_defaults(async |client| {
        let mut watcher = Watcher::new(&client, "").await;
        client.post(&launch(FALCON, 1, 100)).await;
        for number in [3, 3, 2] {
            client.post(&faster(FALCON, number, 10)).await;
        }
        let mut speeds = Vec::new();
        for _ in 0..3 {
            let (name, id, data) = watcher.event().await;
            assert_eq!((name.as_str(), &data["id"]), ("rocket", &FALCON.into()));
            assert!(id.parse::<u64>().is_ok(), "{id}");
            speeds.push(data["speed"].as_i64().unwrap());
        }
        assert_eq!(speeds, [100, 110, 120]);
    });
}

#[test]
fn a_watcher_resumes_after_the_last_event_it_saw() {
    with_defaults(async |client| {
        let mut watcher = Watcher::new(&client, "").await;
        client.post(&launch(FALCON, 1, 100)).await;
        let (_, id, _) = watcher.event().await;
        drop(watcher);
        client.post(&faster(FALCON, 2, 1)).await;
        client.post(&faster(FALCON, 3, 1)).await;
        let mut watcher = Watcher::new(&client, &format!("Last-Event-ID: {id}\r\n")).await;
        assert_eq!(watcher.event().await.2["speed"], 101);
        assert_eq!(watcher.event().await.2["speed"], 102);
    });
}

#[test]
fn a_watcher_that_missed_more_than_is_kept_is_notified_and_continues_from_now() {
    with(&[("events_kept_max", "2")], async |client| {
        let mut watcher = Watcher::new(&client, "").await;
        client.post(&launch(FALCON, 1, 100)).await;
        let (_, id, _) = watcher.event().await;
        for number in 2..10 {
            client.post(&faster(FALCON, number, 1)).await;
        }
        let mut watcher = Watcher::new(&client, &format!("Last-Event-ID: {id}\r\n")).await;
        assert_eq!(watcher.event().await.0, "lagged");
        client.post(&faster(FALCON, 10, 1)).await;
        assert_eq!(watcher.event().await.2["speed"], 109);
        let bad = client.ask("GET", "/rockets/events", "Last-Event-ID: x\r\n", "").await;
        assert!(bad.problem(400).contains("Last-Event-ID"));
    });
}

#[test]
fn a_watcher_resumes_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let given = [("http", "127.0.0.1:0"), ("data", data.as_str()), ("log_level", "error")];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::start(Settings::with(&given).unwrap()).await.unwrap();
        let client = Client { address: server.http().to_string() };
        let mut watcher = Watcher::new(&client, "").await;
        client.post(&launch(FALCON, 1, 100)).await;
        let (_, id, _) = watcher.event().await;
        client.post(&faster(FALCON, 2, 1)).await;
        drop(watcher);
        let tag = client.get("/rockets").await.header("ETag").unwrap().to_owned();
        server.stop().await.unwrap();
        let server = Server::start(Settings::with(&given).unwrap()).await.unwrap();
        let client = Client { address: server.http().to_string() };
        let mut watcher = Watcher::new(&client, &format!("Last-Event-ID: {id}\r\n")).await;
        assert_eq!(watcher.event().await.2["speed"], 101);
        assert_eq!(client.get("/rockets").await.header("ETag"), Some(tag.as_str()));
        drop(watcher);
        server.stop().await.unwrap();
    });
}
