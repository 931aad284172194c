//! The server's side of a WebSocket, by hand: so that frames can be wrong, cut in pieces, and many of
//! them one write.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1_smol::Sha1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// What RFC 6455 has the server add to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The largest message taken from the client.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Messages that wait to be looked at.
const MESSAGES_MAX: usize = 1024;

pub(super) const TEXT: u8 = 1;
pub(super) const CONTINUED: u8 = 0;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// What the client says.
#[derive(Debug)]
pub(super) enum Heard {
    Text(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// It closes, or the connection is gone; why.
    Gone(String),
}

/// A connection of a client.
pub(super) struct Connection {
    pub(super) write: OwnedWriteHalf,
    pub(super) heard: mpsc::Receiver<Heard>,
}

/// Answers the client's request to speak WebSocket, and reads what it says on a task of its own.
pub(super) async fn accept(mut stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("the head of the request is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let key = key.ok_or_else(|| io::Error::other("the request has no Sec-WebSocket-Key"))?;
    let accepted = STANDARD.encode(Sha1::from(format!("{key}{GUID}")).digest().bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accepted}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    let (read, write) = stream.into_split();
    let (tell, heard) = mpsc::channel(MESSAGES_MAX);
    tokio::spawn(async move {
        let why =
            listen(read, &tell).await.err().map_or("closed".to_owned(), |why| why.to_string());
        // The receiver may be gone.
        drop(tell.send(Heard::Gone(why)).await);
    });
    Ok(Connection { write, heard })
}

/// Reads frames until the client closes.
async fn listen(read: OwnedReadHalf, tell: &mpsc::Sender<Heard>) -> io::Result<()> {
    let mut read = tokio::io::BufReader::with_capacity(64 << 10, read);
    let mut message = Vec::new();
    loop {
        let (first, second) = (read.read_u8().await?, read.read_u8().await?);
        let length = match second & 0x7f {
            126 => u64::from(read.read_u16().await?),
            127 => read.read_u64().await?,
            length => u64::from(length),
        };
        if second & 0x80 == 0 {
            return Err(io::Error::other("a frame of the client is not masked"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length.saturating_add(message.len()) > MESSAGE_BYTES_MAX {
            return Err(io::Error::other("a message of the client is too large"));
        }
        let mut mask = [0; 4];
        read.read_exact(&mut mask).await?;
        let mut payload = vec![0; length];
        read.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let heard = match first & 0x0f {
            TEXT | CONTINUED => {
                message.extend_from_slice(&payload);
                if first & 0x80 == 0 {
                    continue;
                }
                Heard::Text(std::mem::take(&mut message))
            }
            PING => Heard::Ping(payload),
            PONG => Heard::Pong(payload),
            CLOSE => return Ok(()),
            other => return Err(io::Error::other(format!("a frame of kind {other}"))),
        };
        if tell.send(heard).await.is_err() {
            return Ok(());
        }
    }
}

/// Appends a whole message.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    put_part(out, kind, true, payload);
}

/// Appends a frame: a whole message, or a part of one.
pub(super) fn put_part(out: &mut Vec<u8>, kind: u8, last: bool, payload: &[u8]) {
    out.push(if last { 0x80 | kind } else { kind });
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
