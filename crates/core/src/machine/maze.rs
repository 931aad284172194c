//! The maze: numbered events of one source, put in order and routed by who follows whom at that moment.
//!
//! The log stores raw bytes ([`Command::Feed`]) and the machine parses the lines itself. So logging a
//! million events is one copy, and a replay interprets every line exactly as the first time.
//!
//! Notifications are calls on a [`Sink`] rather than values. A status update of a user with a thousand
//! followers, ten of them connected, is a walk over a slice, and nothing is built for the others. Who is
//! connected is not in the log, so only the sink can know it. [`Machine::apply`] builds owned
//! [`Notification`]s instead, for callers without a sink.
//!
//! One command releases about as many bytes as it brings, although it may make many more ready: a million
//! events can wait behind one number. [`Command::Release`] releases the rest when the receivers have room.
//! So the effect of one command is bounded.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Machine, Malformed, Timestamp, decode, encode};
use crate::structure::graph::{self, Followed, Graph};
use crate::structure::sequencer::{Offered, Parts, Sequencer};

mod command;
mod held;
pub mod parse;
mod sink;

pub use command::{Command, Counters, Limits, PAUSE_MS, PAUSES_MAX, Reply, SourceId};
use held::Held;
use parse::{Event, Read};
pub use sink::{Audience, Discard, Notification, Sink, To};

/// Slots that the sequencer always has: events displaced by less than this are held without an allocation.
/// The known test program displaces events by up to 100.
const WINDOW: usize = 256;

/// How many bytes of lines a command may release beyond those that it brings.
const RELEASE_BYTES: usize = 16 << 10;

/// The maze machine. See the documentation of this module.
#[derive(Debug)]
pub struct Maze {
    limits: Limits,
    source: Option<Source>,
    sequencer: Sequencer<Held>,
    /// Since when the oldest gap has been the oldest; `None` when nothing is held, or everything held is
    /// ready.
    gap_since: Option<Timestamp>,
    graph: Graph,
    /// The nodes that pause the source, each with the time until which it does. At most
    /// [`PAUSES_MAX`], so a list is searched faster than a map.
    pauses: Vec<(u64, u64)>,
    counters: Counters,
}

/// The connection whose events are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    id: SourceId,
    /// The number of its next feed: recognises a repeated one.
    part: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Connected,
    /// Its node has ended. It is flushed at this time.
    Abandoned(u64),
    /// Closed. Everything held is released, and the gaps in it are skipped.
    Flushing,
}

impl Default for Maze {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Maze {
    /// Returns a machine without a source, in which nobody follows anybody.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            source: None,
            sequencer: Sequencer::with_window(limits.held_max, WINDOW),
            gap_since: None,
            graph: Graph::new(limits.users_max, limits.follows_max),
            pauses: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Returns the current bounds.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns what has happened since the beginning.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the number of the next event in order.
    pub const fn next(&self) -> u64 {
        self.sequencer.next()
    }

    /// Returns how many events are held.
    pub const fn held(&self) -> u32 {
        self.sequencer.held()
    }

    /// Returns the source, unless it is closed and flushed.
    pub fn source(&self) -> Option<SourceId> {
        self.source.map(|source| source.id)
    }

    /// Returns the source whose events are accepted now: neither closed nor abandoned.
    pub fn connected(&self) -> Option<SourceId> {
        self.source.filter(|source| source.stage == Stage::Connected).map(|source| source.id)
    }

    /// Returns until when some node pauses the source, if any does. O(nodes).
    pub fn paused_until(&self) -> Option<Timestamp> {
        self.pauses.iter().map(|(_, until)| Timestamp(*until)).max()
    }

    /// Returns who follows whom.
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns whether [`Command::Release`] would release anything.
    pub fn has_more(&self) -> bool {
        self.sequencer.held() > 0
            && (self.is_flushing() || self.sequencer.get(self.sequencer.next()).is_some())
    }

    fn is_flushing(&self) -> bool {
        self.source.is_some_and(|source| source.stage == Stage::Flushing)
    }

    /// [`Machine::apply`] with a sink for the notifications. O(bytes + notifications); allocates only to
    /// hold more than before.
    pub fn apply_to(&mut self, at: Timestamp, command: Command, sink: &mut impl Sink) -> Reply {
        let next = self.sequencer.next();
        let reply = match command {
            Command::Configure(limits) => {
                self.limits = limits;
                self.sequencer.set_held_max(limits.held_max);
                self.graph.set_bounds(limits.users_max, limits.follows_max);
                Reply::Done
            }
            Command::Open { source } => self.open(source, sink),
            Command::Feed { source, part, bytes } => match self.part_of(source, part) {
                Some(true) => self.feed(&bytes, sink),
                // A repeated feed.
                Some(false) => self.reply(),
                None => Reply::NotTheSource,
            },
            Command::Close { source } => self.close(source, sink),
            Command::Release { bytes_max } => self.release(bytes_max as usize, sink),
            Command::Abandon { source } => self.abandon(at, source),
            Command::Paused { source, ms } => self.paused(at, source, ms),
            Command::Pause { by } => self.pause(at, by),
            Command::Resume { by } => {
                self.pauses.retain(|(node, _)| *node != by);
                Reply::Done
            }
        };
        self.restart_gap_wait(at, next);
        reply
    }

    /// [`Machine::tick`] with a sink for the notifications.
    pub fn tick_to(&mut self, at: Timestamp, sink: &mut impl Sink) {
        if self.next_deadline().is_none_or(|due| at < due) {
            return;
        }
        let next = self.sequencer.next();
        match &mut self.source {
            Some(source) if matches!(source.stage, Stage::Abandoned(_)) => {
                source.stage = Stage::Flushing;
            }
            Some(_) | None => {
                self.counters.gap_wait += 1;
                self.skip_gap();
            }
        }
        self.release(RELEASE_BYTES, sink);
        self.restart_gap_wait(at, next);
    }

    fn reply(&self) -> Reply {
        if self.has_more() { Reply::More } else { Reply::Done }
    }

    fn open(&mut self, id: SourceId, sink: &mut impl Sink) -> Reply {
        if let Some(source) = &mut self.source {
            if source.id == id || source.stage == Stage::Connected {
                return if source.id == id { Reply::Done } else { Reply::NotTheSource };
            }
            source.stage = Stage::Flushing;
            if self.release(RELEASE_BYTES, sink) == Reply::More {
                return Reply::More;
            }
        }
        if !self.limits.keep {
            self.sequencer = Sequencer::with_window(self.limits.held_max, WINDOW);
            self.graph.clear();
            sink.cleared();
        }
        self.counters.sources += 1;
        self.source = Some(Source { id, part: 0, stage: Stage::Connected });
        Reply::Done
    }

    /// Returns whether a feed is the next one of the source, which it then counts, or a repeated one;
    /// `None` when it does not belong to the source.
    fn part_of(&mut self, id: SourceId, part: u64) -> Option<bool> {
        let source = self.source.as_mut()?;
        if source.id != id || source.stage != Stage::Connected || part > source.part {
            return None;
        }
        let is_next = part == source.part;
        source.part += u64::from(is_next);
        Some(is_next)
    }

    fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Reply {
        let mut budget = bytes.len() + RELEASE_BYTES;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (read, taken) = parse::line(rest);
            let (line, behind) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            rest = behind;
            match read {
                Read::Event { number, event } => {
                    self.accept(number, event, line, &mut budget, sink);
                }
                Read::Malformed => self.counters.malformed += 1,
                Read::Overlong => {
                    self.counters.malformed += 1;
                    self.counters.overlong += 1;
                }
            }
        }
        // Release what an earlier command had to leave.
        self.drain(&mut budget, sink);
        self.reply()
    }

    #[inline]
    fn accept(
        &mut self,
        number: u64,
        event: Event,
        line: &[u8],
        budget: &mut usize,
        sink: &mut impl Sink,
    ) {
        // The fast path: in order and nothing held, so the line is not even copied.
        if number == self.sequencer.next() && self.sequencer.held() == 0 {
            if let Offered::Ready(held) = self.sequencer.offer(number, Held::new(event, line)) {
                self.route(held.event, line, sink);
                *budget = budget.saturating_sub(line.len());
            }
            return;
        }
        match self.sequencer.offer(number, Held::new(event, line)) {
            Offered::Ready(held) => {
                self.route(held.event, line, sink);
                *budget = budget.saturating_sub(line.len());
                self.drain(budget, sink);
            }
            Offered::Held => {
                while self.sequencer.is_overfull() && self.skip_gap() {
                    self.counters.held_max += 1;
                    self.drain(budget, sink);
                }
            }
            Offered::Duplicate(_) | Offered::DuplicateOfHeld(_) => self.counters.duplicates += 1,
            Offered::Late(_) => self.counters.late += 1,
        }
    }

    /// Releases ready events while the budget lasts.
    #[inline]
    fn drain(&mut self, budget: &mut usize, sink: &mut impl Sink) {
        while *budget > 0
            && let Some((_, held)) = self.sequencer.pop_ready()
        {
            *budget = budget.saturating_sub(held.line().len());
            self.route(held.event, held.line(), sink);
        }
    }

    #[inline]
    fn route(&mut self, event: Event, line: &[u8], sink: &mut impl Sink) {
        self.counters.events += 1;
        match event {
            Event::Follow { from, to } => {
                self.follow(from, to, sink);
                sink.deliver(line, To::User(to));
            }
            Event::Unfollow { from, to } => {
                self.graph.unfollow(from, to);
            }
            Event::Broadcast => sink.deliver(line, To::Everybody),
            Event::Private { to } => sink.deliver(line, To::User(to)),
            Event::Status { from } => {
                let places = self.graph.followers(from);
                if !places.is_empty() {
                    sink.deliver(line, To::Followers { places, ids: self.graph.ids() });
                }
            }
        }
    }

    #[inline]
    fn follow(&mut self, from: u64, to: u64, sink: &mut impl Sink) {
        let users = self.graph.ids().len();
        match self.graph.follow(from, to) {
            Followed::New | Followed::Again => {}
            Followed::UsersFull => self.counters.users_max += 1,
            Followed::FollowsFull => self.counters.follows_max += 1,
        }
        let new = self.graph.ids().get(users..).unwrap_or_default();
        for (place, id) in (users..).zip(new) {
            sink.placed(graph::UserIndex::try_from(place).unwrap_or(graph::UserIndex::MAX), *id);
        }
    }

    /// Drops the oldest gap. Returns whether there was one; there is none when the next held event is
    /// ready.
    fn skip_gap(&mut self) -> bool {
        let Some(gap) = self.sequencer.drop_gap() else {
            return false;
        };
        self.counters.gaps += 1;
        self.counters.lost = self.counters.lost.saturating_add(gap.len());
        true
    }

    /// Releases ready events, and of a closed source all events, while the budget lasts.
    fn release(&mut self, budget: usize, sink: &mut impl Sink) -> Reply {
        let mut budget = budget.max(1);
        self.drain(&mut budget, sink);
        if self.is_flushing() {
            while budget > 0 && self.sequencer.held() > 0 {
                self.skip_gap();
                self.drain(&mut budget, sink);
            }
            if self.sequencer.held() == 0 {
                self.source = None;
            }
        }
        self.reply()
    }

    fn close(&mut self, id: SourceId, sink: &mut impl Sink) -> Reply {
        match &mut self.source {
            Some(source) if source.id == id => source.stage = Stage::Flushing,
            Some(_) | None => return Reply::NotTheSource,
        }
        self.release(RELEASE_BYTES, sink)
    }

    fn abandon(&mut self, at: Timestamp, id: SourceId) -> Reply {
        match &mut self.source {
            Some(source) if source.id == id => {
                if source.stage == Stage::Connected {
                    let until = at.0.saturating_add(self.limits.gap_wait_ms.max(1));
                    source.stage = Stage::Abandoned(until);
                }
                self.reply()
            }
            Some(_) | None => Reply::NotTheSource,
        }
    }

    fn paused(&mut self, at: Timestamp, id: SourceId, ms: u64) -> Reply {
        if self.source.is_none_or(|source| source.id != id) {
            return Reply::NotTheSource;
        }
        if let Some(since) = &mut self.gap_since {
            since.0 = since.0.saturating_add(ms).min(at.0);
        }
        self.reply()
    }

    fn pause(&mut self, at: Timestamp, by: u64) -> Reply {
        self.pauses.retain(|(node, until)| *node != by && at.0 < *until);
        if self.pauses.len() < PAUSES_MAX {
            self.pauses.push((by, at.0.saturating_add(PAUSE_MS)));
        }
        Reply::Done
    }

    /// Restarts the wait if another gap has become the oldest. Called after every change.
    fn restart_gap_wait(&mut self, at: Timestamp, next_before: u64) {
        if self.sequencer.held() == 0 || self.has_more() {
            self.gap_since = None;
        } else if self.gap_since.is_none() || self.sequencer.next() != next_before {
            self.gap_since = Some(at);
        }
    }
}

impl Machine for Maze {
    type Command = Command;
    type Reply = Reply;
    type Event = Notification;

    fn apply(
        &mut self,
        at: Timestamp,
        command: Command,
        emit: &mut impl FnMut(Notification),
    ) -> Reply {
        self.apply_to(at, command, &mut sink::Owning(emit))
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        if let Some(Source { stage: Stage::Abandoned(until), .. }) = self.source {
            return Some(Timestamp(until));
        }
        let since = self.gap_since?.0;
        Some(Timestamp(since.saturating_add(self.limits.gap_wait_ms.max(1))))
    }

    fn tick(&mut self, at: Timestamp, emit: &mut impl FnMut(Notification)) {
        self.tick_to(at, &mut sink::Owning(emit));
    }

    fn event_bytes(event: &Notification) -> usize {
        let users = match &event.to {
            Audience::Everybody => 0,
            Audience::Users(users) => 8 * users.len(),
        };
        size_of::<Notification>() + event.line.len() + users
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let gap_since = self.gap_since.map(|since| since.0);
        let &Self { limits, source, counters, .. } = self;
        let stored = if self.pauses.is_empty() {
            MazeSnapshot::V1(limits, source, gap_since, counters)
        } else {
            MazeSnapshot::V2(limits, source, gap_since, counters, self.pauses.clone())
        };
        encode(&stored, out);
        encode(&self.graph.to_parts(), out);
        let Parts { next, lost, dropped, last, held } = self.sequencer.to_parts();
        encode(&(next, lost, dropped, last, held.len() as u64), out);
        for (number, held) in held {
            encode(&(number, held.line()), out);
        }
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a snapshot of the maze";
        let wrong = || Malformed { what: WHAT };
        let (limits, source, gap_since, counters, pauses) = match decode(WHAT, &mut bytes)? {
            MazeSnapshot::V1(limits, source, gap_since, counters) => {
                (limits, source, gap_since, counters, Vec::new())
            }
            MazeSnapshot::V2(limits, source, gap_since, counters, pauses) => {
                (limits, source, gap_since, counters, pauses)
            }
        };
        let parts: graph::Parts = decode(WHAT, &mut bytes)?;
        let graph = Graph::from_parts(parts, limits.users_max, limits.follows_max);
        let (next, lost, dropped, last, count): (_, _, _, _, u64) = decode(WHAT, &mut bytes)?;
        let mut held = Vec::new();
        for _ in 0..count {
            let (number, line): (u64, Vec<u8>) = decode(WHAT, &mut bytes)?;
            held.push((number, Held::of_line(number, &line).ok_or_else(wrong)?));
        }
        if !bytes.is_empty() || pauses.len() > PAUSES_MAX {
            return Err(wrong());
        }
        let parts = Parts { next, lost, dropped, last, held };
        let sequencer = Sequencer::from_parts(parts, limits.held_max);
        let mut sequencer = sequencer.ok_or_else(wrong)?;
        sequencer.keep_window(WINDOW);
        let gap_since = gap_since.map(Timestamp);
        let graph = graph.ok_or_else(wrong)?;
        Ok(Self { limits, source, sequencer, gap_since, graph, pauses, counters })
    }
}

/// The beginning of a snapshot. The graph, the sequence and the held lines follow. A published variant
/// never changes.
#[derive(Serialize, Deserialize)]
enum MazeSnapshot {
    /// A machine whose source no node pauses.
    V1(Limits, Option<Source>, Option<u64>, Counters),
    /// With the nodes that pause the source.
    V2(Limits, Option<Source>, Option<u64>, Counters, Vec<(u64, u64)>),
}

#[cfg(test)]
mod tests;
