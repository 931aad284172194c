//! The danger: the maze's source and its clients are connected to different nodes, and a node is cut off.
//!
//! Two nodes that both believe to serve the source would mix two sequences; a node that is cut off could skip gaps that
//! another node has already closed. Events would be lost, or delivered twice. What holds: the source is under a lease in
//! the log, and every node delivers what the log says, so all clients get the same events once and in order.

use std::fmt::Write;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Node, run, two};

/// A user client that is registered.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn new(node: &Node, user: u64) -> Self {
        let before = shows(node, "clients").await;
        let mut stream = TcpStream::connect(node.maze().1).await.unwrap();
        stream.write_all(format!("{user}\n").as_bytes()).await.unwrap();
        until(node, "clients", before + 1).await;
        Self(BufReader::new(stream))
    }

    /// Returns the next line, or `None` if the server has closed the connection.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).await.unwrap() > 0).then_some(line)
    }

    async fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line().await.as_deref(), Some(*line));
        }
    }

    /// Reads broadcasts from `first` on, each once and in order, up to `last`.
    async fn broadcasts(&mut self, first: u64, last: u64) {
        let mut line = String::new();
        for number in first..=last {
            line.clear();
            self.0.read_line(&mut line).await.unwrap();
            assert_eq!(line, format!("{number}|B\n"));
        }
    }
}

async fn shows(node: &Node, name: &str) -> u64 {
    node.json("/maze").await[name].as_u64().unwrap()
}

async fn until(node: &Node, name: &str, value: u64) {
    while shows(node, name).await != value {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn source(node: &Node) -> TcpStream {
    TcpStream::connect(node.maze().0).await.unwrap()
}

/// Waits until the server has closed a connection without sending anything.
async fn closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    // Closed, or reset because something was left to read.
    drop(stream.read_to_end(&mut said).await);
    assert!(said.is_empty());
}

/// Sends broadcasts, shuffled within pieces of a hundred.
async fn send(source: &mut TcpStream, first: u64, last: u64) {
    let mut text = String::new();
    let numbers: Vec<u64> = (first..=last).collect();
    for piece in numbers.chunks(100) {
        piece.iter().rev().for_each(|number| writeln!(text, "{number}|B").unwrap());
        if text.len() > 50_000 {
            source.write_all(text.as_bytes()).await.unwrap();
            text.clear();
        }
    }
    source.write_all(text.as_bytes()).await.unwrap();
}

#[test]
fn clients_of_every_node_get_every_event_once_and_in_order() {
    run(async {
        let (one, other) = two();
        let one = one.start(&[]).await;
        let other = other.start(&[]).await;
        let mut here = [Client::new(&one, 1).await, Client::new(&one, 2).await];
        let mut there = [Client::new(&other, 1).await, Client::new(&other, 2).await];
        let mut stream = source(&one).await;
        stream.write_all(b"2|S|2\n1|F|1|2\n3|P|9|1\n4|U|1|2\n5|S|2\n").await.unwrap();
        for [follower, followed] in [&mut here, &mut there] {
            follower.expect(&["2|S|2\n", "3|P|9|1\n"]).await;
            followed.expect(&["1|F|1|2\n"]).await;
        }
        assert!(one.holds("maze source").await && !other.holds("maze source").await);
        let last = 200_000;
        let [a, b] = &mut here;
        let [c, d] = &mut there;
        tokio::join!(
            send(&mut stream, 6, last),
            a.broadcasts(6, last),
            b.broadcasts(6, last),
            c.broadcasts(6, last),
            d.broadcasts(6, last),
        );
        // A client that connects now gets only later events.
        let mut late = Client::new(&other, 3).await;
        send(&mut stream, last + 1, last + 10).await;
        late.broadcasts(last + 1, last + 10).await;
        for node in [&one, &other] {
            assert_eq!(shows(node, "lost").await + shows(node, "slow_clients_cut").await, 0);
        }
        drop(stream);
        tokio::join!(one.stop(), other.stop());
    });
}

#[test]
fn only_one_source_is_served_on_any_node_and_the_next_begins_after_the_events_of_the_last() {
    run(async {
        let (one, other) = two();
        let one = one.start(&[]).await;
        let other = other.start(&[]).await;
        let mut here = Client::new(&one, 1).await;
        let mut there = Client::new(&other, 1).await;
        let mut first = source(&one).await;
        first.write_all(b"1|B\n").await.unwrap();
        here.expect(&["1|B\n"]).await;
        there.expect(&["1|B\n"]).await;
        closed(source(&other).await).await;
        assert_eq!(shows(&other, "sources_refused").await, 1);
        first.write_all(b"3|B\n").await.unwrap();
        drop(first);
        for node in [&other, &one, &other] {
            let begun = Instant::now();
            let mut next = source(node).await;
            next.write_all(b"1|P|9|1\n2|B\n").await.unwrap();
            drop(next);
            for client in [&mut here, &mut there] {
                let line = client.line().await.unwrap();
                if line == "3|B\n" {
                    client.expect(&["1|P|9|1\n", "2|B\n"]).await;
                } else {
                    assert_eq!(line, "1|P|9|1\n");
                    client.expect(&["2|B\n"]).await;
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        }
        assert_eq!(shows(&one, "sources_refused").await, 0);
        tokio::join!(one.stop(), other.stop());
    });
}

#[test]
fn held_events_of_a_lost_node_are_delivered_once_and_another_source_can_connect() {
    run(async {
        let (one, other) = two();
        let settings = [("maze.gap_wait", "500ms")];
        let one = one.start(&settings).await;
        let other = other.start(&settings).await;
        let mut here = Client::new(&one, 1).await;
        let mut there = Client::new(&other, 1).await;
        let mut first = source(&one).await;
        // The source is still connected to its own node, which is then cut off from the log.
        first.write_all(b"1|B\n").await.unwrap();
        there.expect(&["1|B\n"]).await;
        here.expect(&["1|B\n"]).await;
        one.cut(true);
        let cut = Instant::now();
        // The lease may have been renewed just before the cut, so this can take the whole lease.
        other.catches_up().await;
        until(&other, "next", 2).await;
        let mut second = source(&other).await;
        second.write_all(b"1|B\n2|B\n").await.unwrap();
        there.expect(&["1|B\n", "2|B\n"]).await;
        assert!(cut.elapsed() < Duration::from_secs(9), "{:?}", cut.elapsed());
        // The deposed node, which only stalled, learns of it and changes nothing.
        first.write_all(b"2|B\n3|B\n").await.unwrap();
        one.cut(false);
        closed(first).await;
        second.write_all(b"3|P|9|1\n").await.unwrap();
        there.expect(&["3|P|9|1\n"]).await;
        // Its own clients get the same events as the others, and none of those that it fed too late.
        here.expect(&["1|B\n", "2|B\n", "3|P|9|1\n"]).await;
        assert_eq!(shows(&one, "sources").await, 2);
        tokio::join!(one.stop(), other.stop());
    });
}

#[test]
fn held_events_of_a_lost_node_are_delivered_without_another_source() {
    run(async {
        let (one, other) = two();
        let settings = [("maze.gap_wait", "3s")];
        let one = one.start(&settings).await;
        let other = other.start(&settings).await;
        let mut there = Client::new(&other, 1).await;
        let mut first = source(&one).await;
        first.write_all(b"1|B\n3|B\n5|B\n").await.unwrap();
        there.expect(&["1|B\n"]).await;
        until(&other, "held", 2).await;
        one.cut(true);
        let begun = Instant::now();
        there.expect(&["3|B\n", "5|B\n"]).await;
        assert!(
            begun.elapsed() > Duration::from_secs(3),
            "no gap is skipped while the node may still hold its lease"
        );
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
        until(&other, "lost", 2).await;
        assert_eq!(shows(&other, "gaps").await, 2);
        one.cut(false);
        closed(first).await;
        until(&one, "lost", 2).await;
        tokio::join!(one.stop(), other.stop());
    });
}

#[test]
fn a_slow_client_of_another_node_throttles_the_source_for_a_bounded_time_and_nothing_is_lost() {
    run(async {
        let (one, other) = two();
        let settings = [("maze.slow_client_wait", "5s"), ("maze.client_queue_bytes_max", "512KiB")];
        let one = one.start(&settings).await;
        let other = other.start(&settings).await;
        let mut here = Client::new(&one, 1).await;
        let mut there = Client::new(&other, 2).await;
        let mut pausing = Client::new(&other, 3).await;
        let stopped = Client::new(&other, 4).await;
        let mut stream = source(&one).await;
        let last = 2_000_000;
        let begun = Instant::now();
        tokio::join!(
            send(&mut stream, 1, last),
            here.broadcasts(1, last),
            there.broadcasts(1, last),
            async {
                pausing.broadcasts(1, 1000).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                pausing.broadcasts(1001, last).await;
            },
        );
        assert!(begun.elapsed() > Duration::from_millis(1500), "the source was throttled");
        until(&other, "slow_clients_cut", 1).await;
        until(&other, "clients", 2).await;
        assert_eq!(shows(&one, "slow_clients_cut").await + shows(&other, "lost").await, 0);
        drop(stopped);
        drop(stream);
        tokio::join!(one.stop(), other.stop());
    });
}
