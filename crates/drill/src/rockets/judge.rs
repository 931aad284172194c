//! The judge: compares what the server shows with what is right, now and then while the load runs,
//! and every field of every rocket in the end.
//!
//! A sample can be judged in full at any moment, because an answer says itself which numbers it
//! is made of (`sequence`): its state must be the fold of exactly those, and every message that
//! was acknowledged before the question must be among them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::board::{Bits, Board};
use super::fold::{Known, State};
use super::shown;
use super::world::World;
use crate::http::{Answer, Client};
use crate::random::Random;
use crate::verdict::Differences;

/// The page size in which the list is asked for.
const PAGE: usize = 1_000;

pub(super) struct Judge {
    world: Arc<World>,
    random: Random,
    differences: Differences,
    samples: u64,
    compared: u64,
    /// There were no rockets before the load, so there may be no others afterwards.
    alone: bool,
    /// For each rocket that was looked at, the fold up to a number up to which nothing was
    /// missing then: the next sample goes on from there.
    folded: HashMap<usize, (u32, State)>,
    /// The rockets as the first server listed them in the end.
    first_listed: Option<HashMap<String, Map<String, Value>>>,
}

impl Judge {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            random: Random::new(0),
            differences: Differences::default(),
            samples: 0,
            compared: 0,
            alone: false,
            folded: HashMap::new(),
            first_listed: None,
        }
    }

    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    pub(super) fn mismatches(&self) -> u64 {
        self.differences.total()
    }

    pub(super) fn into_differences(self) -> Differences {
        self.differences
    }

    /// Looks whether rockets of this world are there before the load.
    pub(super) async fn look_before(&mut self, client: &mut Client) -> bool {
        let list = client.get("/rockets?limit=1").await;
        let list: Value = serde_json::from_slice(&list.body).unwrap_or_default();
        self.alone = list.as_array().is_some_and(Vec::is_empty);
        let first = self.world.channel(0);
        !self.alone && client.get(&format!("/rockets/{first}")).await.status == 200
    }

    /// Looks at one rocket while the load runs, unless the server is away.
    pub(super) async fn sample(&mut self, client: &mut Client, board: &Board) {
        let rocket = self.random.index(self.world.rockets());
        let acknowledged = board.acknowledged(rocket);
        let id = self.world.channel(rocket).to_owned();
        let answer = client.try_get(&format!("/rockets/{id}")).await;
        let Some(answer) = answer.ok().filter(|answer| answer.status < 500) else { return };
        self.samples += 1;
        if answer.status == 404 {
            if let Some(number) = acknowledged.iter().next() {
                self.differences.add(|| {
                    format!("rocket {id}: message {number} was acknowledged, but GET is a 404")
                });
            }
            return;
        }
        self.check_sample(rocket, &acknowledged, &answer);
    }

    fn check_sample(&mut self, rocket: usize, acknowledged: &Bits, answer: &Answer) {
        let world = Arc::clone(&self.world);
        let id = world.channel(rocket);
        let Some(got) = self.object(id, answer) else {
            return;
        };
        let known =
            match Known::read(got.get("sequence").unwrap_or(&Value::Null), world.count(rocket)) {
                Ok(known) => known,
                Err(wrong) => {
                    let sequence = shown(got.get("sequence"));
                    self.differences.add(|| format!("rocket {id}: sequence {sequence}: {wrong}"));
                    return;
                }
            };
        let lost = acknowledged.iter().filter(|&number| !known.has(number));
        let (mut lost, mut count) = (lost.peekable(), 0);
        let first = lost.peek().copied();
        count += lost.count();
        if let Some(number) = first {
            self.differences.add(|| {
                format!(
                    "rocket {id}: {count} messages were acknowledged and are not known, \
                     the first is {number}"
                )
            });
        }
        let mut expected = self.fold(rocket, &known).shown(id);
        expected.insert("sequence".into(), known.shown());
        self.compare(id, "during the load, ", &expected, &got);
    }

    /// The state that is made of these numbers.
    fn fold(&mut self, rocket: usize, known: &Known) -> State {
        let applied = known.applied();
        let (mut to, mut state) = self.folded.remove(&rocket).unwrap_or_default();
        if to > applied {
            (to, state) = (0, State::default());
        }
        for number in to + 1..=applied {
            state.take(&self.world.message(rocket, number));
        }
        self.folded.insert(rocket, (applied, state.clone()));
        for number in known.numbers_from(applied + 1) {
            state.take(&self.world.message(rocket, number));
        }
        state
    }

    /// Compares every rocket as a server shows it, in the list and on its own; and with what the first
    /// server has listed, where it shows more than what is compared.
    pub(super) async fn check_all(&mut self, client: &mut Client) {
        let world = Arc::clone(&self.world);
        let mut listed = self.list(client).await;
        match &self.first_listed {
            None => self.first_listed = Some(listed.clone()),
            Some(first) => {
                let differing = first.iter().filter(|(id, rocket)| listed.get(*id) != Some(rocket));
                let mut differing: Vec<&String> = differing.map(|(id, _)| id).collect();
                differing.sort();
                for id in differing {
                    let authority = client.authority();
                    let describe =
                        || format!("rocket {id}: {authority} and the first target differ");
                    self.differences.add(describe);
                }
            }
        }
        for rocket in 0..world.rockets() {
            let id = world.channel(rocket);
            let expected = world.expected(rocket);
            match listed.remove(id) {
                Some(got) => self.compare(id, "in the list, ", &expected, &got),
                None => self.differences.add(|| format!("rocket {id}: not in GET /rockets")),
            }
            let answer = client.get(&format!("/rockets/{id}")).await;
            if let Some(got) = self.object(id, &answer) {
                self.compare(id, "", &expected, &got);
            }
            self.compared += 1;
        }
        if self.alone {
            let mut strangers: Vec<&String> = listed.keys().collect();
            strangers.sort();
            for id in strangers {
                self.differences
                    .add(|| format!("rocket {id}: in GET /rockets, but no message of it was sent"));
            }
        }
    }

    /// The whole list by id, page by page.
    async fn list(&mut self, client: &mut Client) -> HashMap<String, Map<String, Value>> {
        let mut listed = HashMap::new();
        let mut page = Some(format!("/rockets?limit={PAGE}"));
        let mut pages_left = 2 + 1_000_000;
        while let Some(path) = page.take() {
            let answer = client.get(&path).await;
            let rockets = serde_json::from_slice(&answer.body);
            let Ok(Value::Array(rockets)) = rockets else {
                let status = answer.status;
                self.differences.add(|| format!("GET {path}: status {status}, not a list"));
                break;
            };
            for rocket in rockets {
                let Value::Object(rocket) = rocket else {
                    continue;
                };
                let id = rocket.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                if listed.insert(id.clone(), rocket).is_some() {
                    self.differences.add(|| format!("rocket {id}: twice in GET /rockets"));
                }
            }
            pages_left -= 1;
            // A link may be relative or have the server in front of it.
            page = answer.next_page().filter(|_| pages_left > 0).map(|next| {
                let at = next.find("/rockets").unwrap_or(0);
                next.get(at..).unwrap_or(next).to_owned()
            });
        }
        listed
    }

    /// The rocket in an answer.
    fn object(&mut self, id: &str, answer: &Answer) -> Option<Map<String, Value>> {
        match serde_json::from_slice(&answer.body) {
            Ok(Value::Object(rocket)) if answer.status == 200 => Some(rocket),
            Ok(_) | Err(_) => {
                let status = answer.status;
                self.differences.add(|| format!("rocket {id}: GET has status {status}"));
                None
            }
        }
    }

    /// Compares every field; what a server shows beyond them is its own affair, but for a
    /// `reason` without an explosion.
    fn compare(
        &mut self,
        id: &str,
        place: &str,
        expected: &Map<String, Value>,
        got: &Map<String, Value>,
    ) {
        for (field, right) in expected {
            if got.get(field) != Some(right) {
                let (right, got) = (shown(Some(right)), shown(got.get(field)));
                self.differences
                    .add(|| format!("rocket {id}: {place}{field}: expected {right}, got {got}"));
            }
        }
        if let (None, Some(reason)) = (expected.get("reason"), got.get("reason")) {
            let reason = shown(Some(reason));
            self.differences
                .add(|| format!("rocket {id}: {place}reason: expected nothing, got {reason}"));
        }
    }
}
