//! The danger: two nodes are connected upstream at once, and both report the same window.
//!
//! Upstream adds up what it receives, so a window that is reported twice is counted twice. What holds: the connection is
//! under a lease, a report is claimed in the log before it is sent, and a deposed node closes its connection before
//! another node dials.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{Limits, Message, ServerBuilder, WebSocketStream};

use crate::support::{Node, Seat, run, two};

const A: &str = "00000000-0000-4000-8000-00000000000a";
const P: &str = "10000000-0000-4000-8000-000000000001";

type Socket = WebSocketStream<TcpStream>;

/// The upstream server that nodes dial.
struct Upstream(TcpListener, String);

impl Upstream {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        Self(listener, url)
    }

    async fn start(&self, seat: &Seat) -> Node {
        let settings = [
            ("traffic.url", self.1.as_str()),
            ("traffic.window", "200ms"),
            ("traffic.report", "full"),
        ];
        seat.start(&settings).await
    }

    /// Accepts the next connection and sends it the topology.
    async fn accept(&self) -> Socket {
        let (stream, _) = self.0.accept().await.unwrap();
        let (_, mut socket) =
            ServerBuilder::new().limits(Limits::unlimited()).accept(stream).await.unwrap();
        send(&mut socket, &json!([{"parent": P, "child": A}])).await.unwrap();
        socket
    }
}

async fn send(socket: &mut Socket, value: &Value) -> Result<(), tokio_websockets::Error> {
    socket.send(Message::text(value.to_string())).await
}

/// Sends calls and reads reports until `enough` holds or the connection ends. Returns when the last report
/// arrived.
async fn talk(
    socket: &mut Socket,
    seen: &mut BTreeSet<String>,
    mut enough: impl FnMut(usize) -> bool,
) -> Instant {
    let call =
        json!({"source": A, "destination": A, "method": "GET", "path": "/", "httpStatus": 200});
    let mut calls = tokio::time::interval(Duration::from_millis(20));
    let mut count = 0;
    let mut last = Instant::now();
    while !enough(count) {
        tokio::select! {
            _ = calls.tick() => if send(socket, &call).await.is_err() { break },
            message = socket.next() => {
                let Some(Ok(message)) = message else { break };
                let Some(text) = message.as_text() else { continue };
                let report: Value = serde_json::from_str(text).unwrap();
                let start = report["start"].as_str().unwrap().to_owned();
                assert!(seen.insert(start), "a window is reported twice: {report}");
                count += 1;
                last = Instant::now();
            }
        }
    }
    last
}

#[test]
fn one_node_dials_and_the_other_takes_over_when_the_log_of_the_first_stalls() {
    run(async {
        let (one, other) = two();
        let upstream = Upstream::new().await;
        let one = upstream.start(&one).await;
        let mut first = upstream.accept().await;
        let other = upstream.start(&other).await;
        let mut seen = BTreeSet::new();
        talk(&mut first, &mut seen, |count| count == 3).await;
        assert!(one.holds("traffic").await && !other.holds("traffic").await);
        assert_eq!(one.json("/traffic").await["upstream"], "here");
        let shown = other.json("/traffic").await;
        assert_eq!((&shown["upstream"], &shown["connected"]), (&json!("elsewhere"), &json!(false)));

        one.cut(true);
        let cut = Instant::now();
        let deposed = async {
            let last = talk(&mut first, &mut seen, |_| false).await;
            (last, Instant::now())
        };
        // The other node dials only after this connection has ended.
        let (mut second, (last, ended)) = tokio::join!(
            async {
                let second = upstream.accept().await;
                (second, Instant::now())
            },
            deposed
        );
        assert!(cut.elapsed() < Duration::from_secs(10), "{:?}", cut.elapsed());
        assert!(last <= ended && ended < second.1, "one at a time");
        talk(&mut second.0, &mut seen, |count| count == 3).await;
        assert!(other.holds("traffic").await && !one.holds("traffic").await);

        // The proposals of the deposed node reach the log now, but they must not cause a report.
        one.cut(false);
        talk(&mut second.0, &mut seen, |count| count == 5).await;
        assert_eq!(one.json("/traffic").await["upstream"], "elsewhere");
        let dialled = tokio::time::timeout(Duration::from_millis(100), upstream.accept()).await;
        assert!(dialled.is_err(), "the deposed node does not dial again");
        let stopping = async { tokio::join!(one.stop(), other.stop()) };
        tokio::join!(stopping, talk(&mut second.0, &mut seen, |_| false));
    });
}

#[test]
fn a_node_that_stops_hands_over_at_once_and_the_other_reports_the_open_window() {
    run(async {
        let (one, other) = two();
        let upstream = Upstream::new().await;
        let one = upstream.start(&one).await;
        let mut first = upstream.accept().await;
        let other = upstream.start(&other).await;
        let mut seen = BTreeSet::new();
        talk(&mut first, &mut seen, |count| count == 2).await;
        let begun = Instant::now();
        let (mut second, ..) =
            tokio::join!(upstream.accept(), one.stop(), talk(&mut first, &mut seen, |_| false));
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "the lease is released at once: {:?}",
            begun.elapsed()
        );
        let before = seen.len();
        talk(&mut second, &mut seen, |count| count == 3).await;
        assert_eq!(seen.len(), before + 3);
        tokio::join!(other.stop(), talk(&mut second, &mut seen, |_| false));
    });
}
