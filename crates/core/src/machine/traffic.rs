//! Traffic: how often the services behind some parents have called each other, window by window.
//!
//! # Guarantees
//! - Windows are aligned to multiples of their length and half-open, [start, end). A call belongs to the
//!   window that contains the time of its entry. A window is closed by a tick at its end or by the first
//!   entry behind it, whichever comes first. So a window that was open when the process ended continues
//!   after a restart, or is closed then.
//! - A window without calls makes no report, unless [`Limits::empty`] is set. A window with nothing but
//!   calls of unknown children makes a report without rows, which need not be sent.
//! - A report is unsent until [`Command::Delivered`] marks it. The last [`Limits::reports_max`] reports are
//!   kept, sent or not.
//! - When several nodes could send a report, one claims it first ([`Command::Claim`]). So each report is
//!   sent at most once when the sender changes, whatever happened to the previous one.
//!
//! The log stores [`record`]s rather than JSON: the content of a frame, 33 bytes for each element.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Machine, Malformed, Timestamp, decode, encode};
use crate::structure::tally::{self, Closed, Counted, Learnt, Row, Tally};

mod command;
pub mod record;

pub use command::{Command, Counters, Event, Limits, Reply};
use record::Record;

/// A closed window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowReport {
    /// Its first millisecond.
    pub start: u64,
    /// The first millisecond behind it.
    pub end: u64,
    /// The counts, in the order in which the pairs first appeared; parents by index.
    pub rows: Vec<Row>,
    /// Calls of children that did not become known in time.
    pub unresolved: u64,
    /// Whether it was written to its connection.
    pub sent: bool,
}

/// The traffic machine. See the documentation of this module.
#[derive(Debug)]
pub struct Traffic {
    limits: Limits,
    tally: Tally,
    /// The open window: its first millisecond, and the first behind it.
    window: Option<(u64, u64)>,
    /// The end of the last window: no window begins before it.
    last_end: u64,
    /// Closed windows, oldest first.
    reports: VecDeque<WindowReport>,
    /// The window whose report was claimed last, and the fencing token of the claim.
    claimed: Option<(u64, u64)>,
    counters: Counters,
}

impl Default for Traffic {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Traffic {
    /// Returns a machine that knows nothing and has no open window.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            tally: Tally::new(limits.bounds()),
            window: None,
            last_end: 0,
            reports: VecDeque::new(),
            claimed: None,
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

    /// Returns the topology and the counts of the open window.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Returns the open window: its first millisecond, and the first behind it.
    pub const fn window(&self) -> Option<(u64, u64)> {
        self.window
    }

    /// Returns the closed windows that are kept, oldest first.
    pub fn reports(&self) -> impl DoubleEndedIterator<Item = &WindowReport> + ExactSizeIterator {
        self.reports.iter()
    }

    /// Returns the oldest unsent report. O(reports).
    pub fn unsent(&self) -> Option<&WindowReport> {
        self.reports.iter().find(|report| !report.sent)
    }

    /// Closes the window if it has ended, and with `open` opens the one that contains `at`.
    fn turn(&mut self, at: Timestamp, open: bool, emit: &mut impl FnMut(Event)) {
        if self.window.is_some_and(|(_, end)| at.0 >= end) {
            self.close(emit);
        }
        if self.window.is_none() && (open || self.limits.empty) {
            let length = self.limits.window_ms.max(1);
            let aligned = at.0 - at.0 % length;
            // After a change of the length the first window is shorter, so that windows never overlap.
            let start = aligned.max(self.last_end);
            self.window = Some((start, aligned.saturating_add(length)));
        }
    }

    fn close(&mut self, emit: &mut impl FnMut(Event)) {
        let Some((start, end)) = self.window.take() else { return };
        self.last_end = end;
        let Closed { rows, unresolved } = self.tally.close();
        self.counters.unresolved += unresolved;
        if rows.is_empty() && unresolved == 0 && !self.limits.empty {
            return;
        }
        // Without rows there is nothing to send.
        let sent = rows.is_empty() && !self.limits.empty;
        self.counters.windows += 1;
        self.reports.push_back(WindowReport { start, end, rows, unresolved, sent });
        self.forget_reports();
        emit(Event::Closed { start });
    }

    /// Drops the oldest reports that exceed the bounds.
    fn forget_reports(&mut self) {
        let mut rows: usize = self.reports.iter().map(|report| report.rows.len()).sum();
        while self.reports.len() > self.limits.reports_max.max(1) as usize
            || (rows > self.limits.report_rows_max as usize && self.reports.len() > 1)
        {
            let Some(report) = self.reports.pop_front() else { return };
            rows -= report.rows.len();
            self.counters.reports_dropped += u64::from(!report.sent);
        }
    }

    fn unsent_of(&mut self, start: u64) -> Option<&mut WindowReport> {
        self.reports.iter_mut().find(|report| report.start == start && !report.sent)
    }

    fn claim(&mut self, start: u64, token: u64) -> Reply {
        let before = self.claimed;
        if before.is_some_and(|(_, by)| token < by) {
            return Reply::NotUnsent;
        }
        self.claimed = Some((start, token));
        if let Some((claimed, by)) = before
            && by < token
            && let Some(report) = self.unsent_of(claimed)
        {
            report.sent = true;
            if claimed == start {
                return Reply::ClaimedBefore;
            }
        }
        if self.unsent_of(start).is_some() { Reply::Done } else { Reply::NotUnsent }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some((record, rest)) = record::read(bytes) else {
                debug_assert!(false, "the adapter writes whole records");
                self.counters.malformed += 1;
                return;
            };
            bytes = rest;
            match record {
                Record::Belongs { child, parent } => self.learn(child, parent),
                Record::Call { source, destination, kind } => {
                    self.counters.calls += 1;
                    match self.tally.count(source, destination, kind) {
                        Counted::Now => {}
                        Counted::Held => self.counters.held += 1,
                        Counted::PairsFull => self.counters.pairs_max += 1,
                        Counted::HeldFull => self.counters.held_max += 1,
                    }
                }
            }
        }
    }

    fn learn(&mut self, child: &tally::Id, parent: &tally::Id) {
        let counters = &mut self.counters;
        let learnt = self.tally.learn(*child, *parent, &mut |calls| counters.pairs_max += calls);
        match learnt {
            Learnt::New | Learnt::Known => {}
            Learnt::Moved => counters.moved += 1,
            Learnt::ChildrenFull => counters.children_max += 1,
            Learnt::ParentsFull => counters.parents_max += 1,
        }
    }
}

impl Machine for Traffic {
    type Command = Command;
    type Reply = Reply;
    type Event = Event;

    fn apply(&mut self, at: Timestamp, command: Command, emit: &mut impl FnMut(Event)) -> Reply {
        match command {
            Command::Configure(limits) => {
                self.turn(at, false, emit);
                self.limits = limits;
                self.tally.set_bounds(limits.bounds());
                self.forget_reports();
                self.turn(at, false, emit);
                Reply::Done
            }
            Command::Feed { bytes } => {
                let has_calls = record::has_calls(&bytes);
                self.turn(at, has_calls, emit);
                self.feed(&bytes);
                Reply::Done
            }
            Command::Delivered { start } => {
                self.turn(at, false, emit);
                let Some(report) = self.unsent_of(start) else {
                    return Reply::NotUnsent;
                };
                report.sent = true;
                self.counters.delivered += 1;
                Reply::Done
            }
            Command::Claim { start, token } => {
                self.turn(at, false, emit);
                self.claim(start, token)
            }
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        match self.window {
            Some((_, end)) => Some(Timestamp(end)),
            // The first of the windows that are reported even if empty.
            None => self.limits.empty.then_some(Timestamp(self.last_end)),
        }
    }

    fn tick(&mut self, at: Timestamp, emit: &mut impl FnMut(Event)) {
        self.turn(at, false, emit);
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let &Self { limits, window, last_end, counters, .. } = self;
        let stored = match self.claimed {
            None => TrafficSnapshot::V1(limits, window, last_end, counters),
            Some(claimed) => TrafficSnapshot::V2(limits, window, last_end, counters, claimed),
        };
        encode(&stored, out);
        encode(&self.tally.to_parts(), out);
        encode(&(self.reports.len() as u64), out);
        self.reports.iter().for_each(|report| encode(report, out));
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a snapshot of the traffic";
        let wrong = || Malformed { what: WHAT };
        let (limits, window, last_end, counters, claimed) = match decode(WHAT, &mut bytes)? {
            TrafficSnapshot::V1(limits, window, last_end, counters) => {
                (limits, window, last_end, counters, None)
            }
            TrafficSnapshot::V2(limits, window, last_end, counters, claimed) => {
                (limits, window, last_end, counters, Some(claimed))
            }
        };
        let parts: tally::Parts = decode(WHAT, &mut bytes)?;
        let tally = Tally::from_parts(parts, limits.bounds()).ok_or_else(wrong)?;
        let parents = tally.parents().len();
        let count: u64 = decode(WHAT, &mut bytes)?;
        let mut reports = VecDeque::new();
        for _ in 0..count {
            let report: WindowReport = decode(WHAT, &mut bytes)?;
            let known = |row: &Row| (row.from.max(row.to) as usize) < parents;
            if !report.rows.iter().all(known) {
                return Err(wrong());
            }
            reports.push_back(report);
        }
        let has_window = window.is_some() || tally.is_empty();
        if !bytes.is_empty() || !has_window || window.is_some_and(|(start, end)| start >= end) {
            return Err(wrong());
        }
        Ok(Self { limits, tally, window, last_end, reports, claimed, counters })
    }
}

/// The beginning of a snapshot. The tally and the reports follow. A published variant never changes.
#[derive(Serialize, Deserialize)]
enum TrafficSnapshot {
    /// A machine in which no report was ever claimed.
    V1(Limits, Option<(u64, u64)>, u64, Counters),
    /// With the last claim.
    V2(Limits, Option<(u64, u64)>, u64, Counters, (u64, u64)),
}

#[cfg(test)]
mod tests;
