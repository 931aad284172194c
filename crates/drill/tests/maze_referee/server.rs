//! A maze server as dumb as can be, with a fault built in if wanted: threads, one lock, everything
//! in text.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use tidings_drill::Target;
use tidings_drill::maze::Targets;

/// The one fault of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// One notification does not reach one client.
    LosesOne,
    /// A notification reaches a client after others that come after it.
    SwapsTwo,
    /// Who follows twice is notified twice.
    DoublesFollow,
    /// Private messages reach the sender.
    WrongClient,
    /// Unfollow does nothing.
    ForgetsUnfollow,
    /// Unfollow takes effect with the next one.
    LateUnfollow,
    /// A line end too many.
    SplitsLine,
    /// The end of a line is not as it was read.
    StripsCr,
    /// The last ten events never come.
    LosesLast,
    /// The rest of each ten notifications comes only when the source closes.
    LateAtClose,
    /// The last notification comes again when the source closes.
    RepeatsAtClose,
    /// A duplicate is routed again.
    RoutesDuplicates,
    /// Half a line at the end of a source is an event.
    TakesTorn,
    /// The graph of the source before is kept.
    KeepsGraph,
    /// What was held when a source dies is forgotten.
    ForgetsHeld,
    /// A malformed line uses up the number that it bears.
    MalformedCounts,
    /// A malformed line ends the connection.
    MalformedKills,
    /// Numbers after a gap are lost until the source closes.
    StopsAtGap,
    /// A gap is given up after ten events.
    ImpatientWithGaps,
    /// A client is closed in mid-stream.
    CutsOff,
    /// A client that returns gets its first notification again.
    RepeatsOnReturn,
    /// A client that returns misses the first ones.
    DeafOnReturn,
    /// The clients are not shown.
    ShowsNobody,
}

/// What waits to be written to a client.
#[derive(Default)]
struct Outbox {
    /// The bytes, and whether it is to be closed.
    waiting: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Outbox {
    fn put(&self, bytes: &[u8]) {
        self.waiting.lock().unwrap().0.extend_from_slice(bytes);
        self.changed.notify_one();
    }

    fn close(&self) {
        self.waiting.lock().unwrap().1 = true;
        self.changed.notify_one();
    }

    fn write_to(&self, mut stream: TcpStream) {
        loop {
            let (bytes, closed) = {
                let waiting = self.waiting.lock().unwrap();
                let idle = |waiting: &mut (Vec<u8>, bool)| waiting.0.is_empty() && !waiting.1;
                let mut waiting = self.changed.wait_while(waiting, idle).unwrap();
                (std::mem::take(&mut waiting.0), waiting.1)
            };
            if stream.write_all(&bytes).is_err() || closed {
                drop(stream.shutdown(Shutdown::Both));
                return;
            }
        }
    }
}

struct Client {
    id: u64,
    outbox: Arc<Outbox>,
    /// The number of notifications that it will not receive.
    deaf: u32,
}

#[derive(Default)]
struct State {
    clients: Vec<Client>,
    followers: BTreeMap<u64, Vec<u64>>,
    unfollowed: Option<(u64, u64)>,
    held: BTreeMap<u64, (Vec<String>, Vec<u8>)>,
    done: u64,
    notifications: u64,
    /// Bytes that are kept back, and the client they are for.
    kept: Vec<(usize, Vec<u8>)>,
    first: BTreeMap<u64, Vec<u8>>,
    last: BTreeMap<u64, Vec<u8>>,
}

pub(crate) struct Server {
    fault: Fault,
    state: Mutex<State>,
}

impl Server {
    /// Listens on free ports.
    pub(crate) fn listen(fault: Fault) -> Targets {
        Self::listen_at(fault, 1)
    }

    /// Listens on this many ports for clients.
    pub(crate) fn listen_at(fault: Fault, ports: usize) -> Targets {
        let server = Arc::new(Self { fault, state: Mutex::default() });
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (source, http) = (bind(), bind());
        let clients: Vec<TcpListener> = (0..ports).map(|_| bind()).collect();
        let targets = Targets {
            source: source.local_addr().unwrap(),
            clients: clients.iter().map(|clients| clients.local_addr().unwrap()).collect(),
            http: vec![Target::from(http.local_addr().unwrap())],
        };
        let (for_clients, for_http) = (Arc::clone(&server), Arc::clone(&server));
        std::thread::spawn(move || source.incoming().for_each(|s| server.source(s.unwrap())));
        for clients in clients {
            let for_clients = Arc::clone(&for_clients);
            std::thread::spawn(move || {
                for stream in clients.incoming() {
                    let server = Arc::clone(&for_clients);
                    std::thread::spawn(move || server.client(stream.unwrap()));
                }
            });
        }
        std::thread::spawn(move || http.incoming().for_each(|s| for_http.answer(&s.unwrap())));
        targets
    }

    fn client(&self, stream: TcpStream) {
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let Ok(id) = line.trim_end().parse() else { return };
        let outbox = Arc::new(Outbox::default());
        {
            let mut state = self.state.lock().unwrap();
            let returns = state.clients.iter().any(|client| client.id == id);
            let repeats = returns && self.fault == Fault::RepeatsOnReturn;
            if let Some(first) = state.first.get(&id).filter(|_| repeats) {
                outbox.put(first);
            }
            let deaf = if returns && self.fault == Fault::DeafOnReturn { 3 } else { 0 };
            state.clients.push(Client { id, outbox: Arc::clone(&outbox), deaf });
        }
        outbox.write_to(stream);
    }

    fn answer(&self, mut stream: &TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            if !line.ends_with("\r\n\r\n") {
                continue;
            }
            let clients = self.state.lock().unwrap().clients.len();
            let shown = if self.fault == Fault::ShowsNobody { 0 } else { clients };
            let body = if line.starts_with("GET /maze ") {
                format!("{{\"clients\":{shown},\"next\":1}}")
            } else {
                "process_cpu_seconds_total 1\nprocess_resident_memory_bytes 1048576\n".to_owned()
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            drop(stream.write_all((head + &body).as_bytes()));
            line.clear();
        }
    }

    fn source(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let torn = !line.ends_with(b"\n");
            if torn && self.fault == Fault::TakesTorn {
                line.push(b'\n');
            }
            let mut state = self.state.lock().unwrap();
            match parsed(&line) {
                Some(event) => self.take(&mut state, event.0, event.1, &line),
                None if torn => {}
                None if self.fault == Fault::MalformedKills => {
                    // Unread bytes would make the kernel reset the connection.
                    drop(std::io::copy(&mut reader.by_ref().take(10_000), &mut std::io::sink()));
                    break;
                }
                None => {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    let number = text.split(['|', '\r', '\n']).next().unwrap().parse();
                    if let (Ok(number), Fault::MalformedCounts) = (number, self.fault) {
                        state.held.entry(number).or_insert((vec!["?".to_owned()], Vec::new()));
                    }
                }
            }
            line.clear();
        }
        self.end(&mut self.state.lock().unwrap());
    }

    fn take(&self, state: &mut State, number: u64, fields: Vec<String>, line: &[u8]) {
        if number <= state.done || state.held.contains_key(&number) {
            if self.fault == Fault::RoutesDuplicates && number <= state.done {
                self.route(state, &fields, line);
            }
            return;
        }
        state.held.insert(number, (fields, line.to_vec()));
        let held_max = match self.fault {
            Fault::StopsAtGap => usize::MAX,
            Fault::ImpatientWithGaps => 10,
            _ => 1_000,
        };
        loop {
            if let Some((fields, line)) = state.held.remove(&(state.done + 1)) {
                state.done += 1;
                self.route(state, &fields, &line);
            } else if state.held.len() > held_max {
                state.done = state.held.keys().next().unwrap() - 1;
            } else {
                return;
            }
        }
    }

    /// The source has closed.
    fn end(&self, state: &mut State) {
        if !matches!(self.fault, Fault::ForgetsHeld | Fault::StopsAtGap) {
            for (fields, line) in std::mem::take(&mut state.held).into_values() {
                self.route(state, &fields, &line);
            }
        }
        for (client, line) in std::mem::take(&mut state.kept) {
            state.clients[client].outbox.put(&line);
        }
        if self.fault == Fault::RepeatsAtClose {
            let client = &state.clients[0];
            client.outbox.put(&state.last[&client.id]);
        }
        if self.fault != Fault::KeepsGraph {
            state.followers.clear();
        }
        state.held.clear();
        state.done = 0;
    }

    fn route(&self, state: &mut State, fields: &[String], line: &[u8]) {
        let user = |at: usize| fields[at].parse::<u64>().unwrap();
        let heard: Vec<u64> = match fields[0].as_str() {
            "F" => {
                let followers = state.followers.entry(user(2)).or_default();
                if self.fault == Fault::DoublesFollow || !followers.contains(&user(1)) {
                    followers.push(user(1));
                }
                vec![user(2)]
            }
            "U" => {
                let next = Some((user(1), user(2)));
                let undone = match self.fault {
                    Fault::ForgetsUnfollow => None,
                    Fault::LateUnfollow => std::mem::replace(&mut state.unfollowed, next),
                    _ => next,
                };
                if let Some((from, to)) = undone {
                    state.followers.entry(to).or_default().retain(|&follower| follower != from);
                }
                vec![]
            }
            "P" if self.fault == Fault::WrongClient => vec![user(1)],
            "P" => vec![user(2)],
            "S" => state.followers.get(&user(1)).cloned().unwrap_or_default(),
            "B" => state
                .clients
                .iter()
                .map(|client| client.id)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            _ => vec![],
        };
        for id in heard {
            for client in 0..state.clients.len() {
                if state.clients[client].id == id {
                    self.notify(state, client, line);
                }
            }
        }
    }

    fn notify(&self, state: &mut State, client: usize, line: &[u8]) {
        state.notifications += 1;
        let count = state.notifications;
        let mut line = line.to_vec();
        match self.fault {
            Fault::LosesOne if count == 300 => return,
            Fault::SwapsTwo if count == 300 => {
                state.kept.push((client, line));
                return;
            }
            Fault::LosesLast if count > 1_000 => return,
            Fault::LateAtClose if count > 1_000 => {
                state.kept.push((client, line));
                return;
            }
            Fault::SplitsLine if count == 300 => line.insert(2, b'\n'),
            Fault::StripsCr if line.ends_with(b"\r\n") => {
                line.truncate(line.len() - 2);
                line.push(b'\n');
            }
            Fault::CutsOff if count == 300 => state.clients[client].outbox.close(),
            _ => {}
        }
        let client = &mut state.clients[client];
        if client.deaf > 0 {
            client.deaf -= 1;
            return;
        }
        client.outbox.put(&line);
        state.first.entry(client.id).or_insert_with(|| line.clone());
        state.last.insert(client.id, line);
        // What was kept back of a client comes after the next.
        if self.fault == Fault::SwapsTwo && count > 400 {
            for (client, line) in std::mem::take(&mut state.kept) {
                state.clients[client].outbox.put(&line);
            }
        }
    }
}

fn parsed(line: &[u8]) -> Option<(u64, Vec<String>)> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let text = text.strip_suffix('\r').unwrap_or(text);
    let fields: Vec<String> = text.split('|').map(str::to_owned).collect();
    let users = match fields.get(1)?.as_str() {
        "F" | "U" | "P" => 2,
        "S" => 1,
        "B" => 0,
        _ => return None,
    };
    let is_number = |field: &String| {
        field.bytes().all(|byte| byte.is_ascii_digit()) && field.parse::<u64>().is_ok()
    };
    let right = line.len() <= 1_024
        && fields.len() == users + 2
        && is_number(&fields[0])
        && fields[2..].iter().all(is_number);
    right.then(|| (fields[0].parse().unwrap(), fields[1..].to_vec()))
}
