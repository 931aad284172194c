//! More clients connect than the soft limit of open descriptors allows.
//!
//! The usual soft limit is 1,024, a tenth of `http_connections_max`. Only the maze raised it to the hard limit, so a
//! server that did not serve the maze (`--only rockets`) stopped accepting at about 1,000 connections. Further clients
//! connected, since the kernel completes the handshake by itself, and then waited without an answer. Now `tidings serve`
//! raises the limit whatever services it runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use super::process::{Server, serve};

/// The soft limit that the server starts with, and more connections than that.
const SOFT_LIMIT: usize = 128;
const CONNECTIONS: usize = 200;

/// Asks on a connection that stays open.
fn answered(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).is_ok() && &head == b"HTTP/1.1 200 OK"
}

#[test]
fn a_server_of_one_service_answers_more_clients_than_the_soft_limit_of_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let command = serve(folder.path(), "127.0.0.1:0", &["--only", "rockets"]);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -Sn {SOFT_LIMIT}; exec \"$0\" \"$@\""));
    limited.arg(command.get_program()).args(command.get_args());
    let server = Server::spawn(limited);
    let mut open: Vec<_> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(server.http).unwrap()).collect();
    let unanswered = open.iter_mut().filter_map(|stream| (!answered(stream)).then_some(())).count();
    assert_eq!(unanswered, 0, "of {CONNECTIONS} clients");
}
