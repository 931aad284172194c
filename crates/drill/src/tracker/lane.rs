//! A lane: one connection, one peer, a call at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use super::judge::{Call, Listed, Said};
use super::world::World;
use crate::http::{Caller, Cluster};
use crate::verdict::{Differences, Latency};

/// What all lanes share.
pub(super) struct Shared {
    pub(super) world: World,
    pub(super) cluster: Arc<Cluster>,
    pub(super) started: Instant,
}

/// What a lane has seen.
#[derive(Default)]
pub(super) struct Report {
    pub(super) calls: u64,
    pub(super) posts: u64,
    pub(super) unanswered: u64,
    /// Calls that were refused and should not have been, by status.
    pub(super) refused: BTreeMap<u16, u64>,
    pub(super) post_latency: Latency,
    pub(super) differences: Differences,
}

impl Report {
    pub(super) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.posts += other.posts;
        self.unanswered += other.unanswered;
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        self.post_latency.add(&other.post_latency);
        self.differences.merge(other.differences);
    }
}

pub(super) struct Lane {
    shared: Arc<Shared>,
    caller: Caller,
    peer: u32,
    request: Vec<u8>,
    pub(super) report: Report,
}

/// What the answer to a message that was added says.
#[derive(Deserialize)]
struct Added {
    id: String,
    outcome: String,
    evicted: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: String,
    peer_id: String,
    data: String,
}

impl Lane {
    pub(super) fn new(peer: u32, shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            caller: Caller::new(peer as usize, &shared.cluster),
            peer,
            request: Vec::new(),
            report: Report::default(),
        }
    }

    pub(super) const fn peer(&self) -> u32 {
        self.peer
    }

    fn now(&self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Makes one call. `None` is no answer, or one that says to come again.
    async fn call(&mut self, method: &str, path: &str, body: &str) -> (u64, u64, Option<u16>) {
        self.caller.connect().await;
        let authority = self.caller.authority();
        let length = body.len();
        self.request.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {length}\r\n\
             Tidings-Consistency: strong\r\n\r\n"
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body.as_bytes());
        let begun = self.now();
        let answered = self.caller.exchange(&self.request).await;
        let ended = self.now();
        self.report.calls += 1;
        let status = match answered {
            Ok(status) if status < 500 => Some(status),
            Ok(status) => {
                *self.report.refused.entry(status).or_default() += 1;
                None
            }
            Err(_) => {
                self.report.unanswered += 1;
                None
            }
        };
        self.caller.pause().await;
        (begun, ended, status)
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.report.differences.add(what);
    }

    /// Adds a message, again until there is an answer. All calls that were made are pushed, the last
    /// of them answered. Returns how many messages had to go for it.
    pub(super) async fn add(&mut self, message: u32, calls: &mut Vec<Call>) -> usize {
        loop {
            let body = self.shared.world.body(message, self.peer);
            let (begun, ended, status) = self.call("POST", "/tracker/messages", &body).await;
            let said = match status {
                Some(201) => Said::Done,
                Some(200) => Said::DoneBefore,
                Some(status) => {
                    *self.report.refused.entry(status).or_default() += 1;
                    return 0;
                }
                None => Said::Nothing,
            };
            calls.push(Call { message, peer: self.peer, begun, ended, said });
            if said == Said::Nothing {
                continue;
            }
            self.report.posts += 1;
            self.report.post_latency.record(std::time::Duration::from_nanos(ended - begun));
            let outcome = if said == Said::Done { "new" } else { "duplicate" };
            let added = serde_json::from_slice::<Added>(self.caller.body());
            let id = self.shared.world.id(message);
            return match added {
                Ok(added) if added.id == id && added.outcome == outcome => added.evicted,
                _ => {
                    let body = String::from_utf8_lossy(self.caller.body()).into_owned();
                    self.wrong(|| format!("message {message} was {outcome}, and {body} is told"));
                    0
                }
            };
        }
    }

    /// Removes a message, again until there is an answer.
    pub(super) async fn remove(&mut self, message: u32, calls: &mut Vec<Call>) {
        loop {
            let path = self.shared.world.path(message);
            let (begun, ended, status) = self.call("DELETE", &path, "").await;
            let said = match status {
                Some(204) => Said::Done,
                Some(404) => Said::DoneBefore,
                Some(status) => {
                    *self.report.refused.entry(status).or_default() += 1;
                    return;
                }
                None => Said::Nothing,
            };
            calls.push(Call { message, peer: self.peer, begun, ended, said });
            if said != Said::Nothing {
                return;
            }
        }
    }

    /// Asks until there is an answer: whether it is there, and then the body.
    async fn get(&mut self, path: &str) -> bool {
        loop {
            match self.call("GET", path, "").await.2 {
                Some(200) => return true,
                Some(404) => return false,
                Some(status) => {
                    *self.report.refused.entry(status).or_default() += 1;
                    return false;
                }
                None => {}
            }
        }
    }

    /// A message, if it is there.
    pub(super) async fn show(&mut self, message: u32) -> Option<Listed> {
        let path = self.shared.world.path(message);
        let found = self.get(&path).await;
        let item = found.then(|| serde_json::from_slice(self.caller.body()).ok()).flatten()?;
        let listed = self.listed(&item);
        if listed.message != message {
            let id = item.id;
            self.wrong(|| format!("message {message} was asked for, and {id:?} was shown"));
        }
        Some(listed)
    }

    /// The relays of a message as the server shows them; `None` if it does not have the message.
    pub(super) async fn relays(&mut self, message: u32) -> Option<BTreeMap<u32, u64>> {
        let path = format!("{}/peers", self.shared.world.path(message));
        let found = self.get(&path).await;
        let told =
            found.then(|| serde_json::from_slice::<BTreeMap<String, u64>>(self.caller.body()).ok());
        let told = told.flatten()?;
        Some(told.into_iter().map(|(peer, count)| (peer_number(&peer), count)).collect())
    }

    /// All messages, page by page.
    pub(super) async fn list(&mut self, limit: u32) -> Vec<Listed> {
        let mut listed = Vec::new();
        let mut path = Some(format!("/tracker/messages?limit={limit}"));
        while let Some(next) = path.take() {
            if !self.get(&next).await {
                self.wrong(|| format!("there is nothing at {next}"));
                return listed;
            }
            let Ok(items) = serde_json::from_slice::<Vec<Item>>(self.caller.body()) else {
                self.wrong(|| format!("what is at {next} is no list of messages"));
                return listed;
            };
            if items.len() > limit as usize || items.is_empty() && !listed.is_empty() {
                let length = items.len();
                self.wrong(|| format!("a page of {limit} has {length} messages"));
            }
            listed.extend(items.iter().map(|item| self.listed(item)));
            path = self.caller.next_page().map(str::to_owned);
        }
        listed
    }

    fn listed(&self, item: &Item) -> Listed {
        let world = &self.shared.world;
        let message = world.message(&item.id).unwrap_or(u32::MAX);
        let peer = peer_number(&item.peer_id);
        let peer = Some(peer).filter(|peer| world.peer(*peer) == item.peer_id);
        let is_theirs = peer.is_some_and(|peer| world.data(message, peer) == item.data);
        Listed { message, peer, is_theirs }
    }
}

/// The number of a peer, or one that nobody has.
fn peer_number(name: &str) -> u32 {
    name.strip_prefix("peer ").and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
}
