//! A chat server as dumb as can be, with a fault built in if wanted: a thread per connection, one lock,
//! every inbox a list.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Lives, Reaction, Request, answer};

/// How often a long poll looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The one fault of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A taken message stays in the inbox for a moment, in which another reader may take it.
    TakesInTwoSteps,
    /// One message in a hundred stays when it is taken.
    KeepsSome,
    /// One message in a thousand is acknowledged and forgotten.
    LosesSome,
    /// Two takes of the same user at once: the second empties the inbox and shows nothing.
    LosesOnRace,
    /// Nothing expires.
    ForgetsExpiry,
    /// A lease makes a message live on when it has expired.
    LeaseProlongs,
    /// A message that expires soon has expired at once.
    ExpiresAtOnce,
    /// Names are looked up without their case.
    IgnoresCase,
    /// A path is decoded twice.
    DecodesTwice,
    /// A plus in a path is a space.
    PlusIsSpace,
    /// The newest message comes first.
    NewestFirst,
    /// A message that comes back is behind those that came meanwhile.
    ReturnsLast,
    /// A limit takes the newest.
    LimitTakesNewest,
    LimitIgnored,
    /// A lease is over at once.
    LeaseIgnored,
    /// A lease is never over.
    LeaseForEver,
    /// A lease hands out for good, and an acknowledgement finds nothing.
    LeaseTakes,
    /// An acknowledgement changes nothing.
    DeleteIgnored,
    /// An acknowledgement finds nothing, and deletes it.
    DeleteRefused,
    WaitIgnored,
    /// A long poll looks only once.
    WaitDeaf,
    PeekTakes,
    /// A look shows what is lent.
    PeekShowsLent,
    PeekBlind,
    /// A key means nothing.
    KeyIgnored,
    /// A key gives the id that it gave, whatever the content.
    KeyTakesAnything,
    /// Other content with the same key is stored, though the answer rejects it.
    KeyStoresRefused,
    /// A take shows new ids.
    OtherIds,
    /// A text has lost what is not in the first plane of Unicode.
    AltersText,
    /// Ids are random.
    WrongIds,
    /// An answer to a take has one more message.
    Invents,
    /// Answers 503 to some posts.
    Busy,
    /// Answers 503 to some calls, and is right otherwise.
    BusyNowAndThen,
    /// The same, and forgets the message that it acknowledges next.
    LosesAfterBusy,
    /// What was taken at one address a moment ago can be taken at another.
    TwiceAcrossAddresses,
    /// Breaks connections after a request, done or not, and is right otherwise.
    Breaks,
    /// Says `Connection: close` now and then, and is right otherwise.
    Closes,
    /// Never answers a post.
    Silent,
    /// Answers takes with an object.
    Malformed,
    /// Has forgotten everything when it is started again.
    ForgetsAtRestart,
    /// Hands out what was taken in the last second before it was killed again.
    RepeatsAtRestart,
}

#[derive(Debug, Clone)]
struct Stored {
    id: String,
    text: String,
    posted: Instant,
    timeout: Duration,
    lent_until: Option<Instant>,
}

#[derive(Default)]
struct State {
    inboxes: BTreeMap<String, Vec<Stored>>,
    keys: BTreeMap<String, (String, Vec<u8>)>,
    /// What was taken, of whom, and when.
    taken: Vec<(Instant, String, Stored)>,
    /// What was taken lately, at which address, of whom, and when.
    behind: Vec<(Instant, usize, String, Stored)>,
    /// The takes in progress.
    taking: BTreeMap<String, u32>,
    posts: u64,
    takes: u64,
    /// The last answer was 503.
    was_busy: bool,
}

pub(crate) struct Server {
    fault: Fault,
    state: Mutex<State>,
    requests: AtomicU64,
    /// How many addresses it was given.
    places: AtomicUsize,
    lives: Arc<Lives>,
}

impl Server {
    pub(crate) fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            fault,
            state: Mutex::default(),
            requests: AtomicU64::new(0),
            places: AtomicUsize::new(0),
            lives: Arc::default(),
        })
    }

    /// Listens on a free port, or on this address again.
    pub(crate) fn listen(self: &Arc<Self>, address: Option<SocketAddr>) -> SocketAddr {
        let (server, place) = (Arc::clone(self), self.places.fetch_add(1, Ordering::SeqCst));
        self.lives.listen(address, move |request, lives_on| server.react(place, request, lives_on))
    }

    /// Listens on a free port and reads requests without ever answering, like a process that is
    /// paused.
    pub(crate) fn pause() -> SocketAddr {
        Arc::<Lives>::default().listen(None, |_, _| Reaction::Silence)
    }

    /// Is gone without a word, as if killed.
    pub(crate) fn kill(&self, address: SocketAddr) {
        self.lives.kill(address);
        let mut state = self.lock();
        if self.fault == Fault::ForgetsAtRestart {
            *state = State::default();
        }
        if self.fault == Fault::RepeatsAtRestart {
            for (at, user, stored) in std::mem::take(&mut state.taken) {
                if at.elapsed() < Duration::from_secs(1) {
                    state.inboxes.entry(user).or_default().insert(0, stored);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn react(&self, place: usize, request: &Request, lives_on: &dyn Fn() -> bool) -> Reaction {
        let count = self.requests.fetch_add(1, Ordering::SeqCst);
        let break_at = if self.fault == Fault::Breaks { count % 500 } else { 0 };
        if break_at == 250 {
            return Reaction::Break;
        }
        if request.line.starts_with("POST") && self.fault == Fault::Silent {
            return Reaction::Silence;
        }
        let Some(answer) = self.answer(place, request, lives_on) else { return Reaction::Break };
        if break_at == 499 {
            Reaction::Break
        } else if self.fault == Fault::Closes && count % 10 == 9 {
            Reaction::Last(answer)
        } else {
            Reaction::Answer(answer)
        }
    }

    /// Nothing if it was killed meanwhile.
    fn answer(
        &self,
        place: usize,
        request: &Request,
        lives_on: &dyn Fn() -> bool,
    ) -> Option<String> {
        if request.target() == "/metrics" {
            let used = "process_cpu_seconds_total 1\nprocess_resident_memory_bytes 1048576\n";
            return Some(answer("200 OK", used));
        }
        let is_busy = matches!(self.fault, Fault::BusyNowAndThen | Fault::LosesAfterBusy);
        if is_busy && self.requests.load(Ordering::SeqCst).is_multiple_of(20) {
            self.lock().was_busy = true;
            return Some(answer("503 Service Unavailable", ""));
        }
        if request.line.starts_with("POST") {
            return Some(self.post(request));
        }
        let path = request.target().strip_prefix("/chat/").unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if request.line.starts_with("DELETE") {
            let (user, id) = path.split_once('/').unwrap();
            return Some(self.acknowledge(&self.user(user), id));
        }
        let parameter = |name: &str| -> Option<u64> {
            let parts = query.split('&').filter_map(|part| part.split_once('='));
            parts.into_iter().find(|(known, _)| *known == name)?.1.parse().ok()
        };
        let waits = parameter("wait").filter(|_| self.fault != Fault::WaitIgnored);
        let until = Instant::now() + Duration::from_secs(waits.unwrap_or(0));
        let user = self.user(path);
        loop {
            let deaf = self.fault == Fault::WaitDeaf && waits.is_some();
            let shown = self.take(
                &user,
                parameter("limit").map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()),
                parameter("lease").map(Duration::from_secs),
                query.contains("peek=true"),
            );
            let mut shown = shown;
            if self.fault == Fault::TwiceAcrossAddresses && query.is_empty() {
                self.take_behind(place, &user, &mut shown);
            }
            if !lives_on() {
                return None;
            }
            if !shown.is_empty() || Instant::now() >= until {
                return Some(self.shown(shown));
            }
            let rest = until - Instant::now();
            std::thread::sleep(if deaf { rest } else { rest.min(LOOK_EVERY) });
            if deaf {
                return Some(answer("200 OK", "[]"));
            }
        }
    }

    /// Adds what was taken at other addresses a moment ago.
    fn take_behind(&self, place: usize, user: &str, shown: &mut Vec<Stored>) {
        let mut state = self.lock();
        let now = Instant::now();
        state.behind.retain(|(at, ..)| now - *at < Duration::from_millis(3));
        let theirs =
            |taken: &&(Instant, usize, String, Stored)| taken.1 != place && taken.2 == user;
        let again: Vec<Stored> =
            state.behind.iter().filter(theirs).map(|taken| taken.3.clone()).collect();
        let taken = shown.iter().map(|stored| (now, place, user.to_owned(), stored.clone()));
        state.behind.extend(taken);
        shown.splice(..0, again);
    }

    fn shown(&self, messages: Vec<Stored>) -> String {
        let mut shown: Vec<Value> = Vec::new();
        for Stored { id, text, .. } in messages {
            let id = if self.fault == Fault::OtherIds { self.id(999_999) } else { id };
            let altered = self.fault == Fault::AltersText;
            let text = if altered { text.replace('😀', "?") } else { text };
            shown.push(json!({"text": text, "id": id}));
        }
        if self.fault == Fault::Invents && shown.len() == 2 {
            shown.push(json!({"text": "Buy now!", "id": self.id(999_999)}));
        }
        let shown = if self.fault == Fault::Malformed { json!({}) } else { Value::from(shown) };
        answer("200 OK", &shown.to_string())
    }

    fn user(&self, path: &str) -> String {
        let mut user = decoded(path, self.fault == Fault::PlusIsSpace);
        if self.fault == Fault::DecodesTwice {
            user = decoded(&user, false);
        }
        self.named(user)
    }

    fn named(&self, user: String) -> String {
        if self.fault == Fault::IgnoresCase { user.to_lowercase() } else { user }
    }

    fn id(&self, number: u64) -> String {
        let version = if self.fault == Fault::WrongIds { 4 } else { 7 };
        format!("01912d68-783e-{version}a03-8467-{number:012x}")
    }

    fn post(&self, request: &Request) -> String {
        let message: Value = serde_json::from_slice(&request.body).unwrap();
        let mut state = self.lock();
        state.posts += 1;
        let number = state.posts;
        if self.fault == Fault::Busy && number.is_multiple_of(100) {
            return answer("503 Service Unavailable", "");
        }
        let id = self.id(number);
        let timeout = Duration::from_secs(message["timeout"].as_u64().unwrap_or(60));
        let user = self.named(message["username"].as_str().unwrap().to_owned());
        let stored = Stored {
            id: id.clone(),
            text: message["text"].as_str().unwrap().to_owned(),
            posted: Instant::now(),
            timeout,
            lent_until: None,
        };
        let key = request.field("idempotency-key").filter(|_| self.fault != Fault::KeyIgnored);
        if let Some(key) = key {
            if let Some((id, content)) = state.keys.get(key).cloned() {
                if content == request.body || self.fault == Fault::KeyTakesAnything {
                    return answer("201 Created", &json!({"id": id}).to_string());
                }
                if self.fault == Fault::KeyStoresRefused {
                    state.inboxes.entry(user).or_default().push(stored);
                }
                return answer("422 Unprocessable Content", "");
            }
            state.keys.insert(key.to_owned(), (id.clone(), request.body.clone()));
        }
        let was_busy = std::mem::take(&mut state.was_busy);
        let loses = match self.fault {
            Fault::LosesSome => number.is_multiple_of(1_000),
            Fault::LosesAfterBusy => was_busy,
            _ => false,
        };
        if !loses {
            state.inboxes.entry(user).or_default().push(stored);
        }
        answer("201 Created", &json!({"id": id}).to_string())
    }

    fn take(&self, user: &str, limit: usize, lease: Option<Duration>, peek: bool) -> Vec<Stored> {
        let fault = self.fault;
        let in_two_steps = matches!(fault, Fault::TakesInTwoSteps | Fault::LosesOnRace);
        let mut taking = 1;
        if in_two_steps {
            let found = {
                let mut state = self.lock();
                let count = state.taking.entry(user.to_owned()).or_default();
                *count += 1;
                taking = *count;
                state.inboxes.get(user).cloned().unwrap_or_default()
            };
            std::thread::sleep(Duration::from_millis(1));
            let mut state = self.lock();
            *state.taking.get_mut(user).unwrap() -= 1;
            if fault == Fault::TakesInTwoSteps && lease.is_none() && !peek {
                let now = Instant::now();
                let alive = |stored: &Stored| now - stored.posted <= stored.timeout;
                let free = |stored: &Stored| stored.lent_until.is_none_or(|until| until <= now);
                let free = found.into_iter().filter(|stored| alive(stored) && free(stored));
                let found: Vec<Stored> = free.take(limit).collect();
                let inbox = state.inboxes.entry(user.to_owned()).or_default();
                inbox.retain(|stored| found.iter().all(|found| found.id != stored.id));
                return found;
            }
        }
        let mut state = self.lock();
        state.takes += 1;
        let (now, takes) = (Instant::now(), state.takes);
        let inbox = state.inboxes.entry(user.to_owned()).or_default();
        inbox.retain(|stored| self.lives(stored, now));
        if fault == Fault::ReturnsLast {
            let returned = |stored: &Stored| stored.lent_until.is_some_and(|until| until <= now);
            inbox.sort_by_key(returned);
        }
        let limit = if fault == Fault::LimitIgnored { usize::MAX } else { limit };
        let lent = |stored: &Stored| stored.lent_until.is_some_and(|until| until > now);
        let hidden = |stored: &Stored| lent(stored) && !(peek && fault == Fault::PeekShowsLent);
        let places = (0..inbox.len()).filter(|&place| !hidden(&inbox[place]));
        let mut places: Vec<usize> = if fault == Fault::LimitTakesNewest {
            let mut places: Vec<usize> = places.rev().take(limit).collect();
            places.reverse();
            places
        } else {
            places.take(limit).collect()
        };
        if fault == Fault::NewestFirst {
            places.reverse();
        }
        let mut shown: Vec<Stored> = places.iter().map(|&place| inbox[place].clone()).collect();
        if peek && fault != Fault::PeekTakes {
            return if fault == Fault::PeekBlind { Vec::new() } else { shown };
        }
        if let Some(lease) = lease.filter(|_| fault != Fault::LeaseTakes) {
            let lease = match fault {
                Fault::LeaseIgnored => Duration::ZERO,
                Fault::LeaseForEver => lease * 1_000,
                _ => lease,
            };
            for place in places {
                inbox[place].lent_until = Some(now + lease);
            }
            return shown;
        }
        let kept = fault == Fault::KeepsSome && takes.is_multiple_of(100);
        if !kept {
            inbox.retain(|stored| shown.iter().all(|taken| taken.id != stored.id));
        }
        for stored in &shown {
            state.taken.push((now, user.to_owned(), stored.clone()));
        }
        if fault == Fault::LosesOnRace && taking > 1 {
            shown.clear();
        }
        shown
    }

    fn lives(&self, stored: &Stored, now: Instant) -> bool {
        let age = now - stored.posted;
        match self.fault {
            Fault::ForgetsExpiry => true,
            Fault::LeaseProlongs => age <= stored.timeout || stored.lent_until.is_some(),
            Fault::ExpiresAtOnce => stored.timeout.as_secs() > 10,
            _ => age <= stored.timeout,
        }
    }

    fn acknowledge(&self, user: &str, id: &str) -> String {
        let mut state = self.lock();
        let now = Instant::now();
        let inbox = state.inboxes.entry(user.to_owned()).or_default();
        let lent = |stored: &Stored| stored.lent_until.is_some_and(|until| until > now);
        let place = inbox.iter().position(|stored| stored.id == id && lent(stored));
        if let Some(place) = place.filter(|_| self.fault != Fault::DeleteIgnored) {
            inbox.remove(place);
        }
        if place.is_some() && self.fault != Fault::DeleteRefused {
            answer("204 No Content", "").replace("Content-Length: 0\r\n", "")
        } else {
            answer("404 Not Found", "")
        }
    }
}

fn decoded(path: &str, plus_is_space: bool) -> String {
    let (mut out, mut rest) = (Vec::new(), path.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) if plus_is_space => out.push(b' '),
            (&byte, _) => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap()
}
