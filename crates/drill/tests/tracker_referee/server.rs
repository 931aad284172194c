//! The dumbest server of the tracker there can be: a list behind a lock. Every fault is one way of being
//! wrong, most of them ways that others have been wrong.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::http::{Lives, Reaction, Request, answer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A duplicate becomes the newest, as in a cache.
    Refresh,
    /// A duplicate replaces what came first.
    Overwrite,
    /// The least id goes, not the oldest.
    EvictSmallest,
    /// A removed message leaves its place in the queue: added again, it goes too early.
    Ghost,
    /// One too many is kept.
    OneTooMany,
    /// One too few is kept.
    OneTooFew,
    /// A removal is answered, but not done.
    KeepsRemoved,
    /// Each peer is told that it was the first to relay the message.
    AlwaysNew,
    /// Now and then a message is acknowledged and forgotten.
    Loses,
    /// The relays of duplicates are not counted.
    CountsFirstOnly,
    /// A page repeats the last message of the one before.
    PagesOverlap,
    /// The first call of a few is done, and its connection breaks.
    Breaks,
}

struct Message {
    id: String,
    peer: String,
    data: String,
    relays: Vec<(String, u32)>,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    /// The ids of removed messages that are still in the queue.
    ghosts: Vec<String>,
    calls: u64,
}

pub(crate) struct Server {
    fault: Fault,
    capacity: usize,
    state: Mutex<State>,
}

impl Server {
    pub(crate) fn start(fault: Fault, capacity: u32) -> SocketAddr {
        let server = Self { fault, capacity: capacity as usize, state: Mutex::default() };
        Arc::<Lives>::default().listen(None, move |request, _| server.react(request))
    }

    fn react(&self, request: &Request) -> Reaction {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let said = self.said(&mut state, request);
        if self.fault == Fault::Breaks && state.calls.is_multiple_of(50) {
            return Reaction::Break;
        }
        Reaction::Answer(said)
    }

    fn said(&self, state: &mut State, request: &Request) -> String {
        let method = request.line.split(' ').next().unwrap();
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        let Some(path) = path.strip_prefix("/tracker/messages") else {
            return answer("404 Not Found", "");
        };
        let (id, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let id = decoded(id.trim_start_matches('/'));
        match (method, path) {
            ("POST", _) => self.add(state, &serde_json::from_slice(&request.body).unwrap()),
            ("GET", "") => self.list(state, query),
            ("DELETE", _) => {
                let before = state.messages.len();
                if self.fault != Fault::KeepsRemoved {
                    state.messages.retain(|message| message.id != id);
                }
                let found = before > state.messages.len()
                    || state.messages.iter().any(|message| message.id == id);
                state.ghosts.extend(found.then_some(id));
                if found { answer("204 No Content", "") } else { answer("404 Not Found", "") }
            }
            _ => match state.messages.iter().find(|message| message.id == id) {
                None => answer("404 Not Found", ""),
                Some(message) if rest == "peers" => {
                    let relays = message.relays.iter();
                    let told: serde_json::Map<_, _> =
                        relays.map(|(peer, count)| (peer.clone(), json!(count))).collect();
                    answer("200 OK", &Value::Object(told).to_string())
                }
                Some(message) => answer("200 OK", &shown(message).to_string()),
            },
        }
    }

    fn add(&self, state: &mut State, body: &Value) -> String {
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let (id, peer, data) = (text("id"), text("peerId"), text("data"));
        let told = |status: &str, outcome: &str, evicted: usize| {
            let body = json!({"id": body["id"], "outcome": outcome, "evicted": evicted});
            answer(status, &body.to_string())
        };
        if let Some(place) = state.messages.iter().position(|message| message.id == id) {
            let message = &mut state.messages[place];
            match message.relays.iter_mut().find(|(other, _)| *other == peer) {
                _ if self.fault == Fault::CountsFirstOnly => {}
                Some((_, count)) => *count += 1,
                None => message.relays.push((peer.clone(), 1)),
            }
            match self.fault {
                Fault::Refresh => {
                    let message = state.messages.remove(place);
                    state.messages.push(message);
                }
                Fault::Overwrite => (message.peer, message.data) = (peer, data),
                Fault::AlwaysNew => return told("201 Created", "new", 0),
                _ => {}
            }
            return told("200 OK", "duplicate", 0);
        }
        if self.fault == Fault::Loses && state.calls.is_multiple_of(101) {
            return told("201 Created", "new", 0);
        }
        let relays = vec![(peer.clone(), 1)];
        state.messages.push(Message { id, peer, data, relays });
        let capacity = match self.fault {
            Fault::OneTooMany => self.capacity + 1,
            Fault::OneTooFew => self.capacity - 1,
            _ => self.capacity,
        };
        let mut evicted = 0;
        while state.messages.len() > capacity {
            let ghost = (self.fault == Fault::Ghost).then(|| state.ghosts.pop()).flatten();
            let ghost = ghost.and_then(|id| state.messages.iter().position(|m| m.id == id));
            let ids =
                state.messages.iter().enumerate().map(|(place, message)| (&message.id, place));
            let place = match self.fault {
                Fault::EvictSmallest => ids.min().unwrap().1,
                _ => ghost.unwrap_or(0),
            };
            state.messages.remove(place);
            evicted += 1;
        }
        told("201 Created", "new", evicted)
    }

    fn list(&self, state: &State, query: &str) -> String {
        let number = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<usize>().ok())
        };
        let limit = number("limit").unwrap_or(1_000);
        let from = number("cursor").unwrap_or(0);
        let page: Vec<_> = state.messages.iter().skip(from).take(limit).map(shown).collect();
        let overlap = usize::from(self.fault == Fault::PagesOverlap);
        let next = from + page.len() - overlap.min(page.len());
        let body = Value::Array(page).to_string();
        let length = body.len();
        let link = if from + limit < state.messages.len() {
            format!("Link: </tracker/messages?limit={limit}&cursor={next}>; rel=\"next\"\r\n")
        } else {
            String::new()
        };
        format!("HTTP/1.1 200 OK\r\n{link}Content-Length: {length}\r\n\r\n{body}")
    }
}

fn shown(message: &Message) -> Value {
    json!({"id": message.id, "peerId": message.peer, "data": message.data})
}

fn decoded(segment: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), segment.bytes());
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next().unwrap()).to_digit(16).unwrap();
        bytes.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).unwrap() } else { byte });
    }
    String::from_utf8(bytes).unwrap()
}
