//! The client against a server that sends exactly the bytes of a test.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::{BODY_BYTES_MAX, Connection, Error, Target};

/// A server that takes one connection, waits for its first bytes, sends these pieces, and closes.
async fn connected(pieces: Vec<Vec<u8>>) -> Connection {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::from(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut first = [0; 1024];
        let _ = stream.read(&mut first).unwrap();
        for piece in pieces {
            stream.write_all(&piece).unwrap();
        }
    });
    let mut connection = Connection::open(&target).await.unwrap();
    connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    connection
}

async fn answered(pieces: &[&str]) -> Connection {
    connected(pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect()).await
}

#[tokio::test]
async fn answers_in_one_piece_are_told_apart() {
    let one = "HTTP/1.1 202 Accepted\r\nTidings-Outcome: applied\r\nContent-Length: 0\r\n\r\n";
    let two = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
    let mut connection = answered(&[&format!("{one}{one}{two}")]).await;
    for _ in 0..2 {
        let response = connection.receive().await.unwrap();
        assert_eq!((response.head.status(), response.body), (202, &b""[..]));
        assert_eq!(response.head.field("tidings-outcome"), Some("applied"));
        assert!(response.head.keeps_open());
    }
    let response = connection.receive().await.unwrap();
    assert_eq!((response.head.status(), response.body), (200, &b"abc"[..]));
    assert!(connection.receive_buffered().unwrap().is_none());
}

#[tokio::test]
async fn an_answer_a_byte_at_a_time_is_put_together() {
    let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n\
                HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno";
    let mut connection = connected(text.bytes().map(|byte| vec![byte]).collect()).await;
    let response = connection.receive().await.unwrap();
    assert_eq!(response.body, b"abc0123456789");
    let response = connection.receive().await.unwrap();
    assert_eq!((response.head.status(), response.body), (404, &b"no"[..]));
}

#[tokio::test]
async fn a_body_larger_than_the_buffer_makes_it_grow() {
    let body = "x".repeat(1_000_000);
    let length = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{body}");
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nF4240\r\n{body}\r\n0\r\n\r\n"
    );
    let mut connection = answered(&[&length, &chunked]).await;
    for _ in 0..2 {
        assert_eq!(connection.receive().await.unwrap().body, body.as_bytes());
    }
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_the_connection() {
    let mut connection = answered(&["HTTP/1.1 200 OK\r\n\r\n", "abc", "def"]).await;
    let response = connection.receive().await.unwrap();
    assert_eq!(response.body, b"abcdef");
    assert!(!response.head.keeps_open());
}

#[tokio::test]
async fn a_server_that_goes_away_in_mid_answer_is_an_error() {
    for text in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc"] {
        let mut connection = answered(&[text]).await;
        assert!(matches!(connection.receive().await, Err(Error::Closed)), "{text:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_or_too_long_is_refused() {
    let mut connection = answered(&["SSH-2.0-OpenSSH\r\n\r\n"]).await;
    assert!(matches!(connection.receive().await, Err(Error::Malformed(_))));

    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000));
    let mut connection = answered(&[&long]).await;
    assert!(matches!(connection.receive().await, Err(Error::TooLong { what: "head", .. })));

    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
    let mut connection = answered(&[&huge]).await;
    assert!(matches!(connection.receive().await, Err(Error::TooLong { what: "body", .. })));
}

#[tokio::test]
async fn a_server_is_named_by_address_or_url() {
    let by_address = Target::resolve("127.0.0.1:8088").await.unwrap();
    assert_eq!(Target::resolve("http://127.0.0.1:8088/rockets").await.unwrap(), by_address);
    assert_eq!(by_address.authority(), "127.0.0.1:8088");
    assert!(matches!(Target::resolve("nowhere").await, Err(Error::Target(_))));
}
