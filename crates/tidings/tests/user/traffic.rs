//! The traffic: an upstream server that the test drives step by step, and the reports that it receives.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{Limits, Message, ServerBuilder, WebSocketStream};

use super::support::{Client, with};

const A: &str = "00000000-0000-4000-8000-00000000000a";
const B: &str = "00000000-0000-4000-8000-00000000000b";
const P: &str = "10000000-0000-4000-8000-000000000001";
const Q: &str = "20000000-0000-4000-8000-000000000002";

/// A server to dial to.
struct Upstream(TcpListener);

type Socket = WebSocketStream<TcpStream>;

/// Runs a test against a server that dials to an upstream, in windows of 200 ms.
fn dialled<F: Future<Output = ()>>(
    settings: &[(&str, &str)],
    test: impl FnOnce(Client, Upstream) -> F,
) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let mut given = vec![("traffic.url", url.as_str()), ("traffic.window", "200ms")];
    given.extend_from_slice(settings);
    with(&given, async |client| {
        test(client, Upstream(TcpListener::from_std(listener).unwrap())).await;
    });
}

impl Upstream {
    async fn accept(&self) -> Socket {
        let (stream, _) = self.0.accept().await.unwrap();
        let (_, socket) =
            ServerBuilder::new().limits(Limits::unlimited()).accept(stream).await.unwrap();
        socket
    }
}

async fn send(socket: &mut Socket, text: impl ToString) {
    socket.send(Message::text(text.to_string())).await.unwrap();
}

/// Writes bytes that are whatever they are.
async fn send_raw(socket: &mut Socket, bytes: &[u8]) {
    socket.get_mut().write_all(bytes).await.unwrap();
}

fn topology() -> Value {
    json!([{"parent": P, "child": A}, {"parent": Q, "child": B}])
}

fn call(from: &str, to: &str, status: u16) -> Value {
    json!({"source": from, "destination": to, "method": "GET", "path": "/", "httpStatus": status})
}

/// The next report.
async fn report(socket: &mut Socket) -> Value {
    loop {
        let message = socket.next().await.expect("a report").unwrap();
        if let Some(text) = message.as_text() {
            return serde_json::from_str(text).unwrap();
        }
    }
}

/// Reads reports until they have counted so many calls from A's parent to B's.
async fn until_counted(socket: &mut Socket, count: u64) {
    let mut counted = 0;
    while counted < count {
        for row in report(socket).await.as_array().unwrap() {
            assert_eq!((&row["from"], &row["to"]), (&json!(P), &json!(Q)));
            counted += row["count"].as_u64().unwrap();
        }
    }
    assert_eq!(counted, count);
}

async fn shows(client: &Client, name: &str) -> u64 {
    client.get("/traffic").await.json()[name].as_u64().unwrap()
}

async fn until_it_shows(client: &Client, name: &str, value: u64) {
    while shows(client, name).await != value {
        tokio::task::yield_now().await;
    }
}

#[test]
fn calls_between_children_are_reported_between_their_parents_on_the_same_connection() {
    dialled(&[], async |client, upstream| {
        let mut socket = upstream.accept().await;
        send(&mut socket, topology()).await;
        send(&mut socket, json!([call(A, B, 200), call(A, B, 500)])).await;
        send(&mut socket, call(A, B, 404)).await;
        until_counted(&mut socket, 3).await;
        let status = client.get("/traffic").await.json();
        assert_eq!((&status["communications"], &status["connected"]), (&json!(3), &json!(true)));
        assert_eq!(client.get("/traffic/topology").await.json(), topology());
    });
}

#[test]
fn a_full_report_has_errors_and_the_start_of_its_window() {
    dialled(&[("traffic.report", "full")], async |_client, upstream| {
        let mut socket = upstream.accept().await;
        send(&mut socket, topology()).await;
        send(&mut socket, json!([call(B, A, 503), call(B, A, 404), call(B, A, 200)])).await;
        let report = report(&mut socket).await;
        assert!(report["start"].as_str().unwrap().ends_with('Z'));
        let rows = json!([{"from": Q, "to": P, "count": 3, "errors": 1, "rejected": 1}]);
        assert_eq!(report["calls"], rows);
    });
}

#[test]
fn an_empty_window_is_reported_only_if_configured() {
    dialled(&[("traffic.empty", "true")], async |_client, upstream| {
        let mut socket = upstream.accept().await;
        assert_eq!(report(&mut socket).await, json!([]));
        assert_eq!(report(&mut socket).await, json!([]));
    });
}

#[test]
fn a_call_waits_for_its_children_within_its_window() {
    dialled(&[("traffic.window", "2s")], async |client, upstream| {
        let mut socket = upstream.accept().await;
        // Not across the end of a window.
        let clock = || {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap();
            u64::try_from(since.as_millis()).unwrap() % 2000
        };
        while clock() > 1000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        send(&mut socket, call(A, B, 200)).await;
        until_it_shows(&client, "communications", 1).await;
        send(&mut socket, topology()).await;
        send(&mut socket, json!({"parent": P, "child": A})).await;
        until_counted(&mut socket, 1).await;
        assert_eq!(shows(&client, "unresolved").await, 0);
    });
}

#[test]
fn calls_of_children_that_stay_unknown_are_shown_and_not_reported() {
    dialled(&[], async |client, upstream| {
        let mut socket = upstream.accept().await;
        send(&mut socket, call(A, B, 200)).await;
        until_it_shows(&client, "unresolved", 1).await;
        send(&mut socket, topology()).await;
        send(&mut socket, call(A, B, 200)).await;
        until_counted(&mut socket, 1).await;
    });
}

#[test]
fn a_malformed_frame_is_counted_and_the_connection_continues() {
    dialled(&[], async |client, upstream| {
        let mut socket = upstream.accept().await;
        send(&mut socket, topology()).await;
        for wrong in ["hello", "{}", "[1, 2]", "[", "{\"source\":1}"] {
            send(&mut socket, wrong).await;
        }
        socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
        send(&mut socket, json!([call(A, B, 200), {"source": 5}, call(A, B, 200)])).await;
        until_counted(&mut socket, 2).await;
        assert_eq!(shows(&client, "malformed").await, 8);
        assert_eq!(shows(&client, "reconnects").await, 0);
    });
}

#[test]
fn a_message_in_fragments_with_pings_between_is_one_message_and_the_pings_are_answered() {
    dialled(&[], async |_client, upstream| {
        let mut socket = upstream.accept().await;
        send(&mut socket, topology()).await;
        let text = call(A, B, 200).to_string();
        let (head, tail) = text.split_at(50);
        let part = |kind: u8, payload: &str| {
            let mut frame = vec![kind, u8::try_from(payload.len()).unwrap()];
            frame.extend_from_slice(payload.as_bytes());
            frame
        };
        let (one, two) = tail.split_at(60);
        let frames =
            [part(0x01, head), part(0x89, "are you there"), part(0x00, one), part(0x00, "")];
        send_raw(&mut socket, &frames.concat()).await;
        // A byte at a time.
        for byte in part(0x80, two) {
            send_raw(&mut socket, &[byte]).await;
        }
        let pong = socket.next().await.unwrap().unwrap();
        assert!(pong.is_pong() && &**pong.as_payload() == b"are you there");
        until_counted(&mut socket, 1).await;
    });
}

#[test]
fn a_protocol_error_ends_the_connection_and_the_next_one_continues() {
    dialled(&[("traffic.frame_bytes_max", "1KiB")], async |client, upstream| {
        let breaks: [(&str, Vec<u8>); 5] = [
            ("invalid UTF-8", vec![0x81, 4, 0xff, 0xfe, 0xfd, 0xfc]),
            (
                "a frame over the limit",
                [&[0x81, 127, 0, 0, 0, 0, 0, 0x10, 0, 0][..], &[b'x'; 99]].concat(),
            ),
            ("a continuation of nothing", vec![0x80, 0]),
            ("a reserved bit", vec![0xc1, 0]),
            ("a fragmented ping", vec![0x09, 0]),
        ];
        let count = breaks.len() as u64;
        let mut expected = 0;
        for (what, bytes) in breaks {
            let mut socket = upstream.accept().await;
            send(&mut socket, topology()).await;
            send(&mut socket, call(A, B, 200)).await;
            expected += 1;
            send_raw(&mut socket, &bytes).await;
            // What came before it counts; reports may still come.
            while let Some(Ok(message)) = socket.next().await {
                if let Some(text) = message.as_text() {
                    let rows: Value = serde_json::from_str(text).unwrap();
                    expected -= rows[0]["count"].as_u64().unwrap();
                }
            }
            drop((what, socket));
        }
        let mut socket = upstream.accept().await;
        send(&mut socket, call(A, B, 200)).await;
        until_counted(&mut socket, expected + 1).await;
        assert_eq!(shows(&client, "communications").await, count + 1);
        assert_eq!(shows(&client, "reconnects").await, count);
    });
}

#[test]
fn a_connection_that_breaks_loses_neither_counts_nor_reports() {
    dialled(&[], async |client, upstream| {
        let mut socket = upstream.accept().await;
        send(&mut socket, topology()).await;
        send(&mut socket, call(A, B, 200)).await;
        until_it_shows(&client, "communications", 1).await;
        // Without a word.
        socket.get_mut().set_zero_linger().unwrap();
        drop(socket);
        let mut socket = upstream.accept().await;
        send(&mut socket, json!([call(A, B, 200), call(A, B, 200)])).await;
        until_it_shows(&client, "communications", 3).await;
        socket.send(Message::close(None, "")).await.unwrap();
        drop(socket);
        // Whatever was not sent meanwhile is sent now.
        let _socket = upstream.accept().await;
        loop {
            let status = client.get("/traffic").await.json();
            let reports = status["reports"].as_array().unwrap();
            let count = |report: &Value| report["calls"][0]["count"].as_u64().unwrap();
            if reports.iter().map(count).sum::<u64>() == 3
                && reports.iter().all(|report| report["sent"] == json!(true))
            {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn the_open_window_continues_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let settings = [("memory", "false"), ("data", data), ("traffic.window", "3s")];
    dialled(&settings, async |client, upstream| {
        let mut socket = upstream.accept().await;
        send(&mut socket, topology()).await;
        send(&mut socket, call(A, B, 200)).await;
        until_it_shows(&client, "communications", 1).await;
    });
    dialled(&settings, async |client, upstream| {
        assert_eq!(shows(&client, "communications").await, 1);
        let mut socket = upstream.accept().await;
        send(&mut socket, call(A, B, 200)).await;
        until_counted(&mut socket, 2).await;
    });
}

#[test]
fn a_closed_window_is_shown_published_and_drawn() {
    dialled(&[], async |client, upstream| {
        let mut events = client.connect().await;
        events.write_all(b"GET /traffic/events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut socket = upstream.accept().await;
        send(&mut socket, topology()).await;
        send(&mut socket, json!([call(A, B, 200), call(B, A, 500)])).await;
        report(&mut socket).await;
        let mut told = String::new();
        while !told.contains("event: report") || !told.contains("\"errors\":1") {
            let mut piece = [0; 4096];
            let count = tokio::io::AsyncReadExt::read(&mut events, &mut piece).await.unwrap();
            told.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
        let picture = client.get("/traffic/graph.svg").await;
        assert_eq!(picture.header("Content-Type"), Some("image/svg+xml"));
        assert!(picture.body.contains("<svg") && picture.body.contains(&P[..8]));
        let wrong = client.get("/traffic?rows=0").await;
        assert!(wrong.problem(400).contains("rows"));
        client.get("/traffic/topology?page=1").await.problem(400);
    });
}
