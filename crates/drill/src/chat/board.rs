//! The board: which message is posted next, and what came of every call. All lanes report to it, under
//! one lock that is held for about a microsecond.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answer::{self, Read, Reply};
use super::judge::{Acknowledge, Answer, Begun, Findings, Handed, Judge, Post, Take, Tolerance};
use super::options::Options;
use super::world::{Key, Plan, World};
use crate::progress::Progress;
use crate::random::Random;
use crate::verdict::Latency;

/// Work in all and work done.
pub(super) struct Board {
    world: World,
    options: Options,
    progress: Progress,
    state: Mutex<State>,
}

struct State {
    started: Instant,
    tolerance: Tolerance,
    judge: Judge,
    /// The first message that was never given out.
    next: u32,
    /// Messages to be posted again or contested; they go first, so there are fewer than writers.
    again: VecDeque<u32>,
    /// The user whom a reader went to last.
    visited: u32,
    /// All is posted: readers stop.
    written: bool,
    /// The user whose inbox is drained next.
    drained: u32,
    /// Until when calls of unknown outcome may still have an effect, at most.
    late_until: Duration,
    report: Report,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    /// Calls that have ended.
    pub(super) calls: u64,
    /// Of these posts, and takes.
    pub(super) posts: u64,
    pub(super) takes: u64,
    /// Messages that were handed out, lent or shown.
    pub(super) shown: u64,
    /// Messages whose first post has ended.
    pub(super) done: u32,
    /// Calls without an answer, by their method.
    pub(super) unanswered: BTreeMap<&'static str, u64>,
    /// Posts that were made again because their outcome was not known, or the server was away.
    pub(super) retried: u64,
    /// Takes of unknown outcome: what they would have returned may be gone.
    pub(super) unknown_takes: u64,
    /// Calls that were refused and should not have been, by method and status.
    pub(super) refused: BTreeMap<(&'static str, u16), u64>,
    pub(super) post_latency: Latency,
    /// Of takes that do not wait.
    pub(super) take_latency: Latency,
}

impl Board {
    pub(super) fn new(options: &Options, servers: usize, progress: Progress) -> Self {
        let options = options.effective();
        let world = World::new(&options);
        let tolerance = options.tolerance(servers);
        let state = State {
            started: Instant::now(),
            tolerance,
            judge: Judge::new(world.names().to_vec(), tolerance),
            next: 0,
            again: VecDeque::new(),
            visited: 0,
            written: false,
            drained: 0,
            late_until: Duration::ZERO,
            report: Report::default(),
        };
        Self { world, options, progress, state: Mutex::new(state) }
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// The load begins now.
    pub(super) fn start(&self) {
        self.lock().started = Instant::now();
    }

    /// The next message to post, until there is none.
    pub(super) fn next_post(&self) -> Option<Plan> {
        let mut state = self.lock();
        if let Some(again) = state.again.pop_front() {
            return Some(Plan { again: true, ..self.world.plan(again) });
        }
        let number = state.next;
        if number >= self.options.messages {
            return None;
        }
        state.next += 1;
        let plan = self.world.plan(number);
        if plan.key.is_some() {
            state.again.push_back(number);
        }
        Some(plan)
    }

    /// A post is about to be sent.
    pub(super) fn begin_post(&self, lane: u32, plan: &Plan) -> Begun<Post> {
        let state = &mut *self.lock();
        let now = state.started.elapsed();
        state.judge.begin_post(lane, plan.post.clone(), now)
    }

    /// What came of it: whether it is to be posted again, which only a key makes safe.
    pub(super) fn end_post(&self, begun: Begun<Post>, plan: &Plan, reply: Reply<'_>) -> bool {
        let state = &mut *self.lock();
        let now = state.started.elapsed();
        let Post { message, conflicts_with, .. } = plan.post;
        let read = answer::posted(reply, plan.key.is_some());
        let away = matches!(read, Ok(Answer::Missing | Answer::Late | Answer::Refused(500..)));
        let again = plan.key.is_some() && away;
        let answer = state.read(&begun, "POST", read, now);
        match answer {
            // As it must be.
            Answer::Refused(422) if conflicts_with.is_some() => {}
            Answer::Refused(status) => state.refused("POST", status),
            Answer::Done(_) | Answer::Missing | Answer::Late => {}
        }
        state.report.retried += u64::from(again);
        let first = !plan.again && !again;
        if matches!(answer, Answer::Done(_)) && first && plan.key == Some(Key::Contested) {
            state.again.push_back(self.world.contender(message));
        }
        state.report.posts += 1;
        state.report.post_latency.record(now.saturating_sub(begun.begin()));
        if first {
            state.report.done += 1;
            self.progress.set_done(state.report.done.into());
        }
        state.judge.end_post(begun, &answer, now);
        again
    }

    /// What a reader asks for next; nothing when all is posted.
    pub(super) fn next_take(&self, random: &mut Random) -> Option<Take> {
        let mut state = self.lock();
        if state.written {
            return None;
        }
        let options = &self.options;
        let drawn = u32::try_from(random.below(options.users.into())).unwrap_or_default();
        let user = if random.chance(options.races) { state.visited } else { drawn };
        state.visited = user;
        let peek = random.chance(options.peeking);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let limit = random.below(options.limit_max.into()) + 1;
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Some(Take {
            user,
            limit: random.chance(options.limited).then_some(limit),
            wait: random.chance(options.waiting).then_some(seconds(options.wait_seconds)),
            lease: (random.chance(options.leased) && !peek)
                .then_some(seconds(options.lease_seconds)),
            peek,
        })
    }

    /// The next user to be drained.
    pub(super) fn next_drain(&self) -> Option<u32> {
        let mut state = self.lock();
        let user = state.drained;
        state.drained += 1;
        (user < self.options.users).then_some(user)
    }

    /// All is posted.
    pub(super) fn set_written(&self) {
        self.lock().written = true;
    }

    /// A take is about to be sent.
    pub(super) fn begin_take(&self, lane: u32, take: Take) -> Begun<Take> {
        let state = &mut *self.lock();
        let now = state.started.elapsed();
        state.judge.begin_take(lane, take, now)
    }

    /// What came of it: the messages, if there was an answer.
    pub(super) fn end_take(&self, begun: Begun<Take>, reply: Reply<'_>) -> Answer<Vec<Handed>> {
        let read = answer::taken(reply, &self.world);
        let state = &mut *self.lock();
        let now = state.started.elapsed();
        let answer = state.read(&begun, "GET", read, now);
        match &answer {
            Answer::Done(handed) => state.report.shown += handed.len() as u64,
            Answer::Refused(status) => state.refused("GET", *status),
            Answer::Missing | Answer::Late if begun.call.peek => {}
            Answer::Missing | Answer::Late => state.report.unknown_takes += 1,
        }
        state.report.takes += 1;
        if begun.call.wait.is_none() {
            state.report.take_latency.record(now.saturating_sub(begun.begin()));
        }
        state.judge.end_take(begun, &answer, now);
        answer
    }

    /// An acknowledgement is about to be sent.
    pub(super) fn begin_acknowledge(&self, lane: u32, message: u32) -> Begun<Acknowledge> {
        let state = &mut *self.lock();
        let now = state.started.elapsed();
        state.judge.begin_acknowledge(lane, Acknowledge { message }, now)
    }

    /// What came of it.
    pub(super) fn end_acknowledge(&self, begun: Begun<Acknowledge>, reply: Reply<'_>) {
        let state = &mut *self.lock();
        let now = state.started.elapsed();
        let answer = state.read(&begun, "DELETE", answer::acknowledged(reply), now);
        match answer {
            // Whether the lease can have run out is for the judge to say.
            Answer::Refused(404) | Answer::Done(()) | Answer::Missing | Answer::Late => {}
            Answer::Refused(status) => state.refused("DELETE", status),
        }
        state.judge.end_acknowledge(begun, &answer, now);
    }

    /// Returns the time after which no call is in progress, no lease is running, and no message is about to expire.
    pub(super) fn settle(&self) -> Duration {
        let state = self.lock();
        state.late_until.saturating_sub(state.started.elapsed()) + self.options.settle()
    }

    /// What was counted so far.
    pub(super) fn report(&self) -> Report {
        self.lock().report.clone()
    }

    /// All calls have ended.
    pub(super) fn close(&self) -> Findings {
        let state = &mut *self.lock();
        let empty = Judge::new(Vec::new(), state.tolerance);
        std::mem::replace(&mut state.judge, empty).close(state.started.elapsed())
    }

    /// A panic while it was held would be a bug of the judge: the rest is still worth reporting.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a call that has ended. After an answer without form nobody knows what was done.
    fn read<C: std::fmt::Debug, T>(
        &mut self,
        begun: &Begun<C>,
        method: &'static str,
        read: Read<T>,
        now: Duration,
    ) -> Answer<T> {
        self.report.calls += 1;
        let answer = read.unwrap_or_else(|why| {
            self.judge.malformed(begun, now, &why);
            Answer::Missing
        });
        if let Some(after) = self.tolerance.after(&answer) {
            *self.report.unanswered.entry(method).or_default() += 1;
            self.late_until = self.late_until.max(now + after);
        }
        answer
    }

    fn refused(&mut self, method: &'static str, status: u16) {
        *self.report.refused.entry((method, status)).or_default() += 1;
    }
}
