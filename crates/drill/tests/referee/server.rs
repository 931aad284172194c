//! A rocket server as dumb as can be, with a fault built in if wanted: a thread per connection, one
//! lock, everything kept and folded anew for every question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::http::{Lives, Reaction, Request, answer};

/// The one fault of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A duplicate of a message that changes the speed changes it again.
    AppliesDuplicates,
    /// Messages take effect as they arrive.
    ArrivalOrder,
    /// Every thousandth message is acknowledged and forgotten.
    LosesAcknowledged,
    /// `updatedAt` is the time of the last message, whether or not it had an effect.
    WrongUpdatedAt,
    /// Messages beyond a gap are counted as applied, and the gap is not shown.
    HidesGaps,
    /// Speed below zero is zero.
    NoNegativeSpeed,
    /// Messages after an explosion still count.
    LivesAfterExplosion,
    /// Times are shown as they were sent.
    TimesAsSent,
    /// One rocket is not in the list.
    ShortList,
    /// A duplicate is answered as applied.
    DuplicateAnsweredAsApplied,
    /// One message in a bulk is called bad.
    RejectsInBulk,
    /// Answers 503 to every tenth request, and is right otherwise.
    Busy,
    /// Answers 503 to every tenth request, and forgets the message that it acknowledges next.
    LosesAfterBusy,
    /// Breaks every hundredth connection after a request, answered or not, and is right otherwise.
    Breaks,
    /// Says `Connection: close` now and then, and is right otherwise.
    Closes,
    /// Never answers a POST.
    Silent,
}

/// The state of a channel.
#[derive(Debug, Default, Clone)]
struct Channel {
    /// In the order of arrival.
    messages: Vec<Value>,
    numbers: BTreeSet<u64>,
    /// Up to here no number is missing.
    contiguous: u64,
}

pub(crate) struct Server {
    fault: Fault,
    channels: Mutex<BTreeMap<String, Channel>>,
    requests: AtomicU64,
    /// The last answer was 503.
    was_busy: AtomicBool,
    lives: Arc<Lives>,
}

impl Server {
    pub(crate) fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            fault,
            channels: Mutex::default(),
            requests: AtomicU64::new(0),
            was_busy: AtomicBool::new(false),
            lives: Arc::default(),
        })
    }

    /// Listens on a free port and reads requests without ever answering, like a process that is
    /// paused.
    pub(crate) fn pause() -> SocketAddr {
        Arc::<Lives>::default().listen(None, |_, _| Reaction::Silence)
    }

    /// Listens on a free port, or on this address again.
    pub(crate) fn listen(self: &Arc<Self>, address: Option<SocketAddr>) -> SocketAddr {
        let server = Arc::clone(self);
        self.lives.listen(address, move |request, _| server.react(request))
    }

    /// Is gone without a word, as if killed; what was taken is kept.
    pub(crate) fn kill(&self, address: SocketAddr) {
        self.lives.kill(address);
    }

    fn react(&self, request: &Request) -> Reaction {
        let count = self.requests.fetch_add(1, Ordering::SeqCst);
        if self.fault == Fault::Silent && request.line.starts_with("POST") {
            return Reaction::Silence;
        }
        let break_at = if self.fault == Fault::Breaks { count % 100 } else { 0 };
        if break_at == 50 {
            return Reaction::Break;
        }
        let answer = self.answer(request, count);
        if break_at == 99 {
            Reaction::Break
        } else if self.fault == Fault::Closes && count % 10 == 9 {
            Reaction::Last(answer)
        } else {
            Reaction::Answer(answer)
        }
    }

    fn answer(&self, request: &Request, count: u64) -> String {
        let busy = matches!(self.fault, Fault::Busy | Fault::LosesAfterBusy);
        if busy && count % 10 == 5 {
            self.was_busy.store(true, Ordering::SeqCst);
            return answer("503 Service Unavailable", "");
        }
        let target = request.target();
        if request.line.starts_with("POST") {
            return self.post(&request.body);
        }
        if target == "/metrics" {
            return ok(&format!("process_cpu_seconds_total {}\n", count as f64 * 1e-5));
        }
        if let Some(query) = target.strip_prefix("/rockets?") {
            return self.list(query);
        }
        match self.shown(target.strip_prefix("/rockets/").unwrap()) {
            Some(rocket) => ok(&rocket.to_string()),
            None => answer("404 Not Found", ""),
        }
    }

    /// Pages of three, so that paging is tested too.
    fn list(&self, query: &str) -> String {
        let ids: Vec<String> = self.channels.lock().unwrap().keys().cloned().collect();
        let from = query.split_once("cursor=").map_or(0, |(_, at)| at.parse().unwrap());
        let skipped = usize::from(self.fault == Fault::ShortList);
        let ids = &ids[skipped.min(ids.len())..];
        let page: Vec<Value> =
            ids.iter().skip(from).take(3).map(|id| self.shown(id).unwrap()).collect();
        let body = Value::Array(page).to_string();
        if from + 3 >= ids.len() {
            return ok(&body);
        }
        let link = format!("\r\nLink: </rockets?limit=3&cursor={}>; rel=\"next\"\r\n", from + 3);
        ok(&body).replacen("\r\n", &link, 1)
    }

    fn post(&self, body: &[u8]) -> String {
        if body.last() != Some(&b'\n') {
            let outcome = self.take(body);
            return format!(
                "HTTP/1.1 202 Accepted\r\nTidings-Outcome: {outcome}\r\nContent-Length: 0\r\n\r\n"
            );
        }
        let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut accepted, mut rejected) = (0, Vec::new());
        for (index, line) in body.split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            if self.fault == Fault::RejectsInBulk && index == 7 {
                rejected.push(json!({"index": index, "reason": "it is the seventh"}));
                continue;
            }
            *outcomes.entry(self.take(line)).or_default() += 1;
            accepted += 1;
        }
        ok(&json!({"accepted": accepted, "outcomes": outcomes, "rejected": rejected}).to_string())
    }

    fn take(&self, text: &[u8]) -> &'static str {
        let message: Value = serde_json::from_slice(text).unwrap();
        let channel = message["metadata"]["channel"].as_str().unwrap().to_owned();
        let mut channels = self.channels.lock().unwrap();
        let known = channels.entry(channel).or_default();
        let taken = number(&message);
        if !known.numbers.insert(taken) {
            if self.fault == Fault::AppliesDuplicates {
                known.messages.push(message);
            }
            let wrong = self.fault == Fault::DuplicateAnsweredAsApplied;
            return if wrong { "applied" } else { "duplicate" };
        }
        let was_busy = self.was_busy.swap(false, Ordering::SeqCst);
        let loses = match self.fault {
            Fault::LosesAcknowledged => taken % 100 == 50,
            Fault::LosesAfterBusy => was_busy,
            _ => false,
        };
        if loses {
            known.numbers.remove(&taken);
        } else {
            known.messages.push(message);
        }
        while known.numbers.contains(&(known.contiguous + 1)) {
            known.contiguous += 1;
        }
        if taken <= known.contiguous { "applied" } else { "held" }
    }

    /// A rocket as this server shows it.
    fn shown(&self, id: &str) -> Option<Value> {
        let Channel { mut messages, numbers, .. } = self.channels.lock().unwrap().get(id)?.clone();
        if self.fault != Fault::ArrivalOrder {
            messages.sort_by_key(number);
        }
        let last = *numbers.last()?;
        let mut rocket = json!({"id": id, "type": null, "speed": 0, "mission": null,
            "status": "active", "exploded": false});
        let first = messages.iter().min_by_key(|message| number(message))?;
        rocket["createdAt"] = self.time(first);
        rocket["updatedAt"] = rocket["createdAt"].clone();
        for message in &messages {
            if self.apply(&mut rocket, message) || self.fault == Fault::WrongUpdatedAt {
                rocket["updatedAt"] = self.time(message);
            }
        }
        rocket["sequence"] = sequence(&numbers, last, self.fault == Fault::HidesGaps);
        Some(rocket)
    }

    fn apply(&self, rocket: &mut Value, message: &Value) -> bool {
        if rocket["exploded"] == true && self.fault != Fault::LivesAfterExplosion {
            return false;
        }
        let content = &message["message"];
        let speed = rocket["speed"].as_i64().unwrap();
        let by = content["by"].as_i64().filter(|&by| by >= 0);
        match message["metadata"]["messageType"].as_str().unwrap() {
            "RocketLaunched" => {
                if content["launchSpeed"].as_i64().is_none() || !rocket["type"].is_null() {
                    return false;
                }
                rocket["type"] = content["type"].clone();
                rocket["speed"] = content["launchSpeed"].clone();
                rocket["mission"] = content["mission"].clone();
            }
            "RocketSpeedIncreased" => {
                let Some(by) = by else { return false };
                rocket["speed"] = json!(speed.saturating_add(by));
            }
            "RocketSpeedDecreased" => {
                let Some(by) = by else { return false };
                let least = if self.fault == Fault::NoNegativeSpeed { 0 } else { i64::MIN };
                rocket["speed"] = json!(speed.saturating_sub(by).max(least));
            }
            "RocketMissionChanged" => {
                if !content["newMission"].is_string() {
                    return false;
                }
                rocket["mission"] = content["newMission"].clone();
            }
            "RocketExploded" => {
                rocket["status"] = json!("exploded");
                rocket["exploded"] = json!(true);
                rocket["reason"] = content["reason"].clone();
            }
            _ => return false,
        }
        true
    }

    fn time(&self, message: &Value) -> Value {
        let sent = message["metadata"]["messageTime"].as_str().unwrap();
        if self.fault == Fault::TimesAsSent {
            return json!(sent);
        }
        let time = OffsetDateTime::parse(sent, &Rfc3339).unwrap();
        json!(time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap())
    }
}

fn sequence(numbers: &BTreeSet<u64>, last: u64, hides_gaps: bool) -> Value {
    let mut missing: Vec<[u64; 2]> = Vec::new();
    for number in 1..=last {
        if hides_gaps || numbers.contains(&number) {
            continue;
        }
        match missing.last_mut() {
            Some(range) if range[1] + 1 == number => range[1] = number,
            _ => missing.push([number, number]),
        }
    }
    let applied = missing.first().map_or(last, |range| range[0] - 1);
    let pending = numbers.iter().filter(|&&number| number > applied).count();
    json!({"last": last, "applied": applied, "pending": pending, "missing": missing,
           "lost": 0, "complete": missing.is_empty()})
}

fn number(message: &Value) -> u64 {
    message["metadata"]["messageNumber"].as_u64().unwrap()
}

fn ok(body: &str) -> String {
    answer("200 OK", body)
}
