//! The drill of the tracker: peers that relay messages all at once, and what answers and lists must
//! not show.
//!
//! - `options`: the options of the drill, and their ranges.
//! - `world`: which messages there are.
//! - `lane`: a connection that makes the calls.
//! - [`judge`]: which rules the answers break. It can be used without the rest.
//!
//! There are four parts: messages relayed by several peers at once, fewer than there is room for;
//! removals that race; calls one after the other, each held against a list; many more messages at
//! once than there is room for. The tracker is to be empty, or to hold nothing that matters: the first
//! part begins with filling it.
//!
//! The servers may be killed and started again meanwhile ([`Options::crashes`]). A call without an
//! answer is made again; either may be the one that counted.

pub mod judge;
mod lane;
mod options;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use options::Options;

use crate::Target;
use crate::error::Error;
use crate::harness::{self, Course, Drill, drive};
use crate::http::Cluster;
use crate::options::reproduce;
use crate::progress::Progress;
use crate::random::Random;
use crate::verdict::{Differences, Value, Verdict};
use judge::{Call, Model, Said};
use lane::{Lane, Report, Shared};
use world::World;

/// How many messages are removed by several peers at once.
const REMOVED: u32 = 500;
/// By how many.
const REMOVERS: u32 = 4;

/// Drills a server, or several that show the same tracker: the connections are spread over them, and one that fails goes on
/// with the next.
///
/// # Errors
///
/// [`Error`] if the options cannot be drilled; nothing was sent then. Everything that goes wrong afterwards, running out of
/// time included, is in the verdict.
pub async fn run(
    targets: &[Target],
    options: &Options,
    progress: Progress,
) -> Result<Verdict, Error> {
    harness::check(options, targets.len())?;
    let cluster = Cluster::new(targets, options.retry(), options.common.patience);
    let shared = Arc::new(Shared {
        world: World::new(options.seed, options.data_bytes),
        cluster: Arc::clone(&cluster),
        started: Instant::now(),
    });
    progress.begin(options.messages.into());
    let drill = Tracker {
        shared,
        options,
        progress: progress.clone(),
        next: 0,
        report: Report::default(),
        posts: 0,
        posting: Duration::ZERO,
        created: 0,
    };
    let reproduce = reproduce(options, options.seed);
    Ok(drive(drill, &cluster, &options.common, reproduce, &progress).await)
}

struct Tracker<'a> {
    shared: Arc<Shared>,
    options: &'a Options,
    progress: Progress,
    /// The first message that was never used.
    next: u32,
    report: Report,
    /// Posts of the parts in which all connections post.
    posts: u64,
    /// How long these parts took.
    posting: Duration,
    created: u64,
}

impl Drill for Tracker<'_> {
    const NAME: &'static str = "tracker";

    async fn load(&mut self) {
        if !self.options.plain {
            let calls = self.relayed().await;
            self.removed(calls).await;
            self.in_turn().await;
        }
        self.overflowing().await;
    }

    fn report(self, course: &Course, verdict: &mut Verdict) {
        let Self { report, posts, posting, created, options, .. } = self;
        verdict.row("calls", report.calls);
        verdict.row("posts", report.posts);
        verdict.row("messages new", created);
        verdict.counts_above_zero(&[("calls without an answer", report.unanswered)]);
        verdict.row("elapsed", posting);
        verdict.row("requests/s", Value::per_second(posts, posting));
        verdict.latency_of("post", &report.post_latency);
        course.usage_rows(&[("request", report.calls)], verdict);
        let refused = report.refused.range(500..).map(|(_, count)| count).sum::<u64>();
        verdict.counts_above_zero(&[("retried", report.unanswered + refused)]);
        for (&status, &count) in &report.refused {
            verdict.refused(None, status, count, options.crashes);
        }
        verdict.unanswered(report.unanswered, options.crashes);
        verdict.set_differences(report.differences);
    }
}

impl Tracker<'_> {
    fn differences(&mut self) -> &mut Differences {
        &mut self.report.differences
    }

    fn lane(&self, peer: u32) -> Lane {
        Lane::new(peer, &self.shared)
    }

    /// Takes this many messages that were never used.
    fn fresh(&mut self, count: u32) -> u32 {
        let first = self.next;
        self.next += count;
        first
    }

    /// Has all connections add messages, in the order of a list, each entry by its peer.
    async fn add_all(&mut self, work: Vec<u32>) -> Vec<Call> {
        let (work, next) = (Arc::<[u32]>::from(work), Arc::new(AtomicU32::new(0)));
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for peer in 0..self.options.connections {
            let (work, next) = (Arc::clone(&work), Arc::clone(&next));
            let (mut lane, progress) = (self.lane(peer), self.progress.clone());
            running.spawn(async move {
                let mut calls = Vec::new();
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(message) = work.get(place as usize) else { break };
                    lane.add(*message, &mut calls).await;
                    if place.is_multiple_of(64) {
                        progress.set_done(place.into());
                    }
                }
                (lane.report, calls)
            });
        }
        let (mut calls, before) = (Vec::new(), self.report.posts);
        while let Some(done) = running.join_next().await {
            let Ok((report, mut theirs)) = done else { continue };
            self.report.add(report);
            calls.append(&mut theirs);
        }
        self.posting += begun.elapsed();
        self.posts += self.report.posts - before;
        let created = calls.iter().filter(|call| call.said == Said::Done).count();
        self.created += created as u64;
        calls
    }

    /// Messages relayed by several peers at once, while there is room. Filled with others first, so
    /// that what was there before is gone.
    async fn relayed(&mut self) -> Vec<Call> {
        let filling = self.fresh(self.options.capacity);
        self.add_all((filling..self.next).collect()).await;
        let (first, count) = (self.fresh(self.options.kept()), self.options.kept());
        let mut work: Vec<u32> =
            (0..count * self.options.relays).map(|place| first + place % count).collect();
        let mut random = Random::at(self.options.seed, 1 << 50);
        for place in (1..work.len()).rev() {
            work.swap(place, random.index(place + 1));
        }
        let calls = self.add_all(work).await;
        judge::once("added", &calls, self.differences());
        let mut lane = self.lane(0);
        for limit in [10_000, (self.options.capacity / 3 + 1).min(10_000), 97] {
            let listed = lane.list(limit).await;
            let ours = listed.iter().filter(|listed| listed.message >= first);
            let ours: Vec<_> = ours.copied().collect();
            judge::list(&calls, &ours, count as usize, self.differences());
            if listed.len() != self.options.capacity as usize {
                let (length, capacity) = (listed.len(), self.options.capacity);
                self.differences().add(|| format!("{length} are listed, {capacity} were added"));
            }
        }
        let messages = (first..first + count).step_by((count / 300).max(1) as usize);
        for message in messages {
            match lane.relays(message).await {
                Some(told) => judge::relays(message, &calls, &told, self.differences()),
                None => {
                    self.differences().add(|| format!("message {message} has no relays"));
                }
            }
        }
        self.report.add(lane.report);
        calls
    }

    /// Several peers remove the same messages; then they are added again.
    async fn removed(&mut self, mut added: Vec<Call>) {
        let first = self.options.capacity;
        let removed = first..first + REMOVED.min(self.options.kept());
        let mut running = JoinSet::new();
        for peer in 0..REMOVERS {
            let (mut lane, removed) = (self.lane(peer), removed.clone());
            running.spawn(async move {
                let mut calls = Vec::new();
                for message in removed {
                    lane.remove(message, &mut calls).await;
                }
                (lane.report, calls)
            });
        }
        let mut calls = Vec::new();
        while let Some(done) = running.join_next().await {
            let Ok((report, mut theirs)) = done else { continue };
            self.report.add(report);
            calls.append(&mut theirs);
        }
        judge::once("removed", &calls, self.differences());
        let mut lane = self.lane(1);
        for message in removed.clone().step_by(7) {
            if lane.show(message).await.is_some() {
                self.differences().add(|| format!("message {message} was removed and is there"));
            }
        }
        added.retain(|call| !removed.contains(&call.message));
        let mut again = Vec::new();
        for message in removed {
            lane.add(message, &mut again).await;
        }
        judge::once("added after its removal", &again, self.differences());
        added.append(&mut again);
        let listed = lane.list(10_000).await;
        let ours: Vec<_> = listed.into_iter().filter(|listed| listed.message >= first).collect();
        judge::list(&added, &ours, self.options.kept() as usize, self.differences());
        self.report.add(lane.report);
    }

    /// Calls one after the other, each held against a list.
    async fn in_turn(&mut self) {
        let mut lane = self.lane(2);
        let peer = lane.peer();
        let listed = lane.list(10_000).await;
        let messages = listed.iter().filter_map(|listed| Some((listed.message, listed.peer?)));
        let capacity = self.options.capacity as usize;
        let mut model = Model { messages: messages.collect(), capacity };
        let mut random = Random::at(self.options.seed, 1 << 51);
        for _ in 0..self.options.steps {
            let known = model.messages.get(random.index(model.messages.len()));
            let known = known.map_or(0, |(message, _)| *message);
            match random.below(10) {
                0..4 => {
                    let message = self.fresh(1);
                    self.add_in_turn(&mut lane, &mut model, message).await;
                }
                4 | 5 => self.add_in_turn(&mut lane, &mut model, known).await,
                // One that may have been dropped or removed.
                6 => {
                    let message = u32::try_from(random.below(self.next.into())).unwrap_or(0);
                    self.add_in_turn(&mut lane, &mut model, message).await;
                }
                7 => {
                    let mut calls = Vec::new();
                    lane.remove(known, &mut calls).await;
                    let unsure = calls.iter().any(|call| call.said == Said::Nothing);
                    let done = calls.last().is_some_and(|call| call.said == Said::Done);
                    if model.remove(known) != done && !unsure {
                        self.differences().add(|| format!("message {known} was not removed"));
                    }
                }
                _ => {
                    let message = u32::try_from(random.below(self.next.into())).unwrap_or(0);
                    let shown = lane.show(message).await.map(|listed| listed.peer);
                    let expected = model.messages.iter().find(|(other, _)| *other == message);
                    let expected = expected.map(|(_, peer)| Some(*peer));
                    if shown != expected {
                        self.differences().add(|| {
                            format!(
                                "message {message} is of {shown:?}, and should be of {expected:?}"
                            )
                        });
                    }
                }
            }
        }
        let listed = lane.list(10_000).await;
        let listed = listed.iter().map(|listed| (listed.message, listed.peer.unwrap_or(u32::MAX)));
        let differing =
            model.messages.iter().copied().zip(listed.clone()).find(|(one, other)| one != other);
        if differing.is_some() || listed.len() != model.messages.len() {
            let (length, expected) = (listed.len(), model.messages.len());
            self.differences().add(|| {
                format!("the list of {length} is not that of {expected} that it should be; first: {differing:?} (peer {peer})")
            });
        }
        self.report.add(lane.report);
    }

    async fn add_in_turn(&mut self, lane: &mut Lane, model: &mut Model, message: u32) {
        let mut calls = Vec::new();
        let evicted = lane.add(message, &mut calls).await;
        let expected = model.add(message, lane.peer());
        // The first of several tries may have been the one that counted.
        let sure = calls.len() == 1;
        let new = calls.last().is_some_and(|call| call.said == Said::Done);
        if sure && (new, evicted) != (expected.is_some(), expected.unwrap_or_default()) {
            self.differences().add(|| {
                format!("message {message}: new {new}, {evicted} had to go; expected {expected:?}")
            });
        }
    }

    /// Many more messages at once than there is room for.
    async fn overflowing(&mut self) {
        let first = self.fresh(self.options.messages);
        let calls = self.add_all((first..self.next).collect()).await;
        judge::once("added", &calls, self.differences());
        let mut lane = self.lane(3);
        let mut listed = lane.list(10_000).await;
        // Where fewer came than there is room for, some of those before are still there.
        let before = listed.iter().take_while(|listed| listed.message < first).count();
        let capacity = self.options.capacity as usize;
        if before > 0 && self.options.messages as usize > capacity {
            self.differences().add(|| format!("{before} messages should be gone long since"));
        }
        listed.drain(..before);
        judge::list(&calls, &listed, capacity, self.differences());
        self.report.add(lane.report);
    }
}
