//! The board: what is still to be sent, what is under way, what was acknowledged. All senders
//! take their work from it and report to it, under one lock that is held for tens of nanoseconds.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::options::Options;
use super::world::{Delivery, World};
use crate::progress::Progress;
use crate::verdict::{Differences, Latency};

/// The outcomes of the specification, and what a server says that names none of them.
const OUTCOMES: [&str; 6] = ["applied", "held", "duplicate", "late", "ignored", "without outcome"];

/// Work in all and work done.
pub(super) struct Board {
    world: Arc<World>,
    /// Messages per request.
    bulk: usize,
    /// Messages per second; 0 is no limit.
    rate: u64,
    progress: Progress,
    state: Mutex<State>,
    /// Notified when the oldest request in progress is acknowledged and a sender waits for that.
    room: Notify,
}

struct State {
    started: Instant,
    /// The first delivery that was never given out.
    next: usize,
    /// Requests given out, in order, from the oldest that is not acknowledged on: where each
    /// starts in the deliveries, and whether it is acknowledged.
    open: VecDeque<(usize, bool)>,
    /// The ticket of the first of them.
    oldest: u64,
    /// Deliveries acknowledged.
    done: u64,
    /// A bit per message of each rocket: acknowledged.
    acknowledged: Vec<Bits>,
    /// A sender waits for room.
    awaited: bool,
    report: Report,
}

/// A request to send: some deliveries in a row.
#[derive(Debug, Clone)]
pub(super) struct Request {
    ticket: u64,
    pub(super) deliveries: Range<usize>,
}

/// What a sender is to do next.
pub(super) enum Work {
    Send(Request),
    /// Nothing before this time.
    NotBefore(Instant),
    /// No work until a request in progress is acknowledged: see [`Board::has_room`].
    Full,
    /// Nothing ever.
    Finished,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    /// Requests answered or broken.
    pub(super) requests: u64,
    /// Messages in them.
    pub(super) messages: u64,
    /// Messages by outcome, in the order of `OUTCOMES`.
    outcomes: [u64; OUTCOMES.len()],
    /// Requests that were sent again, by what had happened to them.
    pub(super) retried: BTreeMap<String, u64>,
    /// Messages that a bulk answer named as bad.
    pub(super) rejected: u64,
    /// Answers that contradict themselves or the specification.
    pub(super) differences: Differences,
    pub(super) latency: Latency,
}

impl Report {
    /// Messages acknowledged by outcome, those that never occurred left out.
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(self.outcomes).filter(|&(_, count)| count > 0)
    }

    /// How many messages had this outcome.
    pub(super) fn count_of(&self, outcome: &str) -> u64 {
        self.acknowledged().find(|&(name, _)| name == outcome).map_or(0, |(_, count)| count)
    }

    /// Counts messages by the name that the server gave.
    pub(super) fn count(&mut self, outcome: &str, messages: u64) {
        let known = OUTCOMES.iter().zip(&mut self.outcomes);
        for (name, count) in known {
            if *name == outcome || *name == "without outcome" {
                *count += messages;
                return;
            }
        }
    }
}

impl Board {
    pub(super) fn new(world: Arc<World>, options: &Options, progress: Progress) -> Self {
        let acknowledged = (0..world.rockets()).map(|r| Bits::new(world.count(r))).collect();
        let state = State {
            started: Instant::now(),
            next: 0,
            open: VecDeque::new(),
            oldest: 0,
            done: 0,
            acknowledged,
            awaited: false,
            report: Report::default(),
        };
        Self {
            world,
            bulk: options.bulk.max(1) as usize,
            rate: options.rate,
            progress,
            state: Mutex::new(state),
            room: Notify::new(),
        }
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// The load begins now.
    pub(super) fn start(&self) {
        self.lock().started = Instant::now();
    }

    /// Work for a sender.
    pub(super) fn take(&self, now: Instant) -> Work {
        let state = &mut *self.lock();
        let left = self.world.deliveries().len() - state.next;
        if left == 0 {
            return Work::Finished;
        }
        let oldest = state.open.front().map_or(state.next, |&(start, _)| start);
        let room = (oldest + self.world.window()).saturating_sub(state.next);
        if room == 0 {
            state.awaited = true;
            return Work::Full;
        }
        let end = state.next + self.bulk.min(room).min(left);
        if self.rate > 0 {
            #[expect(clippy::cast_precision_loss, reason = "an instant within microseconds")]
            let due = Duration::from_secs_f64((end - 1) as f64 / self.rate as f64);
            if state.started + due > now {
                return Work::NotBefore(state.started + due);
            }
        }
        let deliveries = state.next..end;
        let ticket = state.oldest + state.open.len() as u64;
        state.open.push_back((state.next, false));
        state.next = end;
        Work::Send(Request { ticket, deliveries })
    }

    /// Resolves when there may be room again, at once if there is.
    pub(super) async fn has_room(&self) {
        let told = self.room.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        let full = {
            let mut state = self.lock();
            let oldest = state.open.front().map_or(state.next, |&(start, _)| start);
            state.awaited = true;
            state.next >= oldest + self.world.window()
        };
        if full {
            told.await;
        }
    }

    /// A request was acknowledged after so long; those of its messages that were not, by
    /// their place in it in rising order, are in `bad`.
    pub(super) fn acknowledge(
        &self,
        request: &Request,
        took: Duration,
        bad: &[usize],
        count: impl FnOnce(&mut Report),
    ) {
        let state = &mut *self.lock();
        let deliveries = self.world.deliveries().get(request.deliveries.clone());
        let deliveries = deliveries.unwrap_or_default();
        let mut bad = bad.iter().copied().peekable();
        for (place, &Delivery { rocket, number }) in deliveries.iter().enumerate() {
            if bad.next_if_eq(&place).is_some() {
                continue;
            }
            if let Some(bits) = state.acknowledged.get_mut(rocket as usize) {
                bits.set(number);
            }
        }
        state.report.requests += 1;
        state.report.messages += deliveries.len() as u64;
        state.report.latency.record(took);
        count(&mut state.report);
        state.done += deliveries.len() as u64;
        self.progress.set_done(state.done);
        self.close(state, request.ticket);
    }

    /// Requests were not acknowledged, for this reason, and will be sent again.
    pub(super) fn failed(&self, reason: &str, requests: &[Request]) {
        let mut state = self.lock();
        *state.report.retried.entry(reason.to_owned()).or_default() += requests.len() as u64;
        for request in requests {
            state.report.requests += 1;
            state.report.messages += request.deliveries.len() as u64;
        }
    }

    /// The messages of a rocket that are acknowledged by now.
    pub(super) fn acknowledged(&self, rocket: usize) -> Bits {
        self.lock().acknowledged.get(rocket).cloned().unwrap_or_default()
    }

    /// What was counted so far.
    pub(super) fn report(&self) -> Report {
        self.lock().report.clone()
    }

    /// Closes a request, and moves the oldest on if that was it.
    fn close(&self, state: &mut State, ticket: u64) {
        let place = usize::try_from(ticket - state.oldest).unwrap_or(usize::MAX);
        if let Some((_, acknowledged)) = state.open.get_mut(place) {
            *acknowledged = true;
        }
        let mut moved = false;
        while state.open.front().is_some_and(|&(_, acknowledged)| acknowledged) {
            state.open.pop_front();
            state.oldest += 1;
            moved = true;
        }
        if moved && std::mem::take(&mut state.awaited) {
            self.room.notify_waiters();
        }
    }

    /// A panic while it was held would be a bug of a counter: the rest is still worth reporting.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A set of message numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// None of the numbers from 1 to this.
    fn new(count: u32) -> Self {
        Self(vec![0; count as usize / 64 + 1])
    }

    fn set(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }

    /// The numbers in it, in rising order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.0).flat_map(|(place, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| place * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{Board, Options, Progress, Request, Work, World};

    fn board(options: &Options) -> Board {
        let world = Arc::new(World::new(options).unwrap());
        Board::new(world, options, Progress::silent())
    }

    fn one_rocket() -> Options {
        Options { rockets: 1, messages: 5_000, duplicates: 0.0, ..Options::default() }
    }

    fn take(board: &Board) -> Request {
        match board.take(Instant::now()) {
            Work::Send(request) => request,
            Work::NotBefore(_) | Work::Full | Work::Finished => panic!("there is work"),
        }
    }

    fn acknowledge(board: &Board, request: &Request) {
        board.acknowledge(request, Duration::ZERO, &[], |report| {
            report.count("applied", 1);
        });
    }

    #[test]
    fn nothing_is_sent_too_far_ahead_of_the_oldest_that_is_not_acknowledged() {
        let board = board(&one_rocket());
        let oldest = take(&board);
        for _ in 1..board.world().window() {
            acknowledge(&board, &take(&board));
        }
        assert!(matches!(board.take(Instant::now()), Work::Full));
        acknowledge(&board, &oldest);
        assert_eq!(take(&board).deliveries.start, board.world().window());
    }

    #[test]
    fn a_bulk_is_cut_to_what_the_window_allows() {
        let board = board(&Options { bulk: 500, ..one_rocket() });
        assert_eq!(take(&board).deliveries, 0..500);
        assert_eq!(take(&board).deliveries, 500..board.world().window());
    }

    #[test]
    fn messages_wait_for_their_time_when_there_is_a_rate() {
        let board = board(&Options { rate: 1, ..one_rocket() });
        take(&board);
        assert!(matches!(board.take(Instant::now()), Work::NotBefore(_)));
        assert!(matches!(board.take(Instant::now() + Duration::from_secs(2)), Work::Send(_)));
    }

    #[test]
    fn what_is_acknowledged_is_remembered_but_for_the_bad_ones() {
        let options = Options { bulk: 100, shuffle: 0, ..one_rocket() };
        let board = board(&options);
        let request = take(&board);
        board.acknowledge(&request, Duration::ZERO, &[1, 99], |report| {
            report.rejected += 2;
        });
        let numbers: Vec<u32> = board.acknowledged(0).iter().collect();
        let expected: Vec<u32> = (1..=100).filter(|n| ![2, 100].contains(n)).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn an_outcome_without_a_name_is_counted_as_such() {
        let board = board(&one_rocket());
        let request = take(&board);
        board.acknowledge(&request, Duration::ZERO, &[], |report| {
            report.count("??", 1);
        });
        assert_eq!(board.report().count_of("without outcome"), 1);
    }
}
