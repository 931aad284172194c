//! Whether the referee of the traffic sees that servers take turns as they must: one is connected at a
//! time, and one that was replaced says nothing more. The servers here are as dumb as can be: they
//! answer pings, and send what a test has them send.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

#[path = "../support/verdict.rs"]
#[expect(dead_code, reason = "these servers report nothing, so no drill of them passes")]
mod verdict;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tidings_drill::traffic::{self, Options, Upstream};
use tidings_drill::{Common, Patience, Progress, Verdict};

/// What a server does with a frame that it has read, by its kind; whether it goes on.
type React = Box<dyn FnMut(u8, &[u8], &mut TcpStream) -> bool + Send>;

/// Connects and reacts to what comes until it is told to stop, or the drill closes.
fn serve(address: SocketAddr, mut react: React) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    while let Ok((kind, payload)) = frame(&mut reader) {
        if !react(kind, &payload, &mut stream) {
            return;
        }
    }
}

/// Reads a frame, which a server never masks.
fn frame(reader: &mut impl Read) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    let mut length = [0; 8];
    let width = match head[1] {
        126 => 2,
        127 => 8,
        short => {
            length[7] = short;
            0
        }
    };
    reader.read_exact(&mut length[8 - width..][..width])?;
    let mut payload = vec![0; usize::try_from(u64::from_be_bytes(length)).unwrap()];
    reader.read_exact(&mut payload)?;
    Ok((head[0] & 0x0f, payload))
}

/// Sends a frame masked with zeros.
fn send(stream: &mut TcpStream, kind: u8, payload: &[u8]) {
    let mut bytes = vec![0x80 | kind, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    // The drill may have gone.
    let _gone = stream.write_all(&bytes);
}

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Answers pings.
fn answer(kind: u8, payload: &[u8], stream: &mut TcpStream) {
    if kind == PING {
        send(stream, PONG, payload);
    }
}

/// What the server does that is replaced, when it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaced {
    /// Closes its connection.
    Leaves,
    /// Sends a report, and closes it.
    Reports,
    /// Keeps it.
    Stays,
}

/// Has a second server connect while the first is there.
async fn drilled(replaced: Replaced, options: Options) -> Verdict {
    let upstream = Upstream::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = upstream.url().unwrap();
    let address: SocketAddr =
        url.trim_start_matches("ws://").trim_end_matches("/ws").parse().unwrap();
    let (tell, told) = mpsc::sync_channel(1);
    let second_is_there = Arc::new(AtomicBool::new(false));
    let there = Arc::clone(&second_is_there);
    std::thread::spawn(move || {
        let mut pings = 0;
        serve(
            address,
            Box::new(move |kind, payload, stream| {
                answer(kind, payload, stream);
                pings += u32::from(kind == PING);
                if pings == 1 && kind == PING {
                    tell.send(()).unwrap();
                    while !there.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    match replaced {
                        Replaced::Leaves => return false,
                        Replaced::Reports => {
                            send(stream, TEXT, b"[]");
                            return false;
                        }
                        Replaced::Stays => {}
                    }
                }
                true
            }),
        );
    });
    std::thread::spawn(move || {
        told.recv().unwrap();
        let there = second_is_there;
        serve(
            address,
            Box::new(move |kind, payload, stream| {
                answer(kind, payload, stream);
                there.store(true, Ordering::SeqCst);
                true
            }),
        );
    });
    traffic::run(upstream, &[], &options, Progress::silent()).await.unwrap()
}

/// A load that lasts a few windows.
fn small() -> Options {
    Options {
        communications: 300,
        rate: 200,
        updates: 0,
        window_ms: 400,
        connect_wait: 5,
        crashes: true,
        common: Common {
            timeout: 40,
            patience: Patience { answer_within: Duration::from_secs(2), ..Patience::default() },
        },
        ..Options::default()
    }
}

#[tokio::test]
async fn a_second_connection_is_a_failure_where_servers_do_not_take_turns() {
    let options = Options { crashes: false, ..small() };
    let verdict = drilled(Replaced::Leaves, options).await;
    verdict::failed(&verdict, "another has connected while it was there");
}

#[tokio::test]
async fn a_server_that_leaves_when_it_is_replaced_has_done_no_wrong() {
    let verdict = drilled(Replaced::Leaves, small()).await;
    assert_eq!(verdict.value("takeovers").as_deref(), Some("1"), "{verdict}");
    // These servers report nothing; nothing else is wrong.
    verdict::failed(&verdict, "in all, expected");
    let shown = verdict.to_string();
    assert!(!shown.contains("replaced") && !shown.contains("same time"), "{verdict}");
}

#[tokio::test]
async fn a_report_of_a_server_that_was_replaced_is_caught() {
    let verdict = drilled(Replaced::Reports, small()).await;
    verdict::failed(&verdict, "a report from a server that another had replaced");
}

#[tokio::test]
async fn a_server_that_stays_beside_the_next_is_caught() {
    // Longer than it may stay.
    let options = Options { communications: 3_200, ..small() };
    let verdict = drilled(Replaced::Stays, options).await;
    verdict::failed(&verdict, "connected at the same time for more than 15 s");
}
