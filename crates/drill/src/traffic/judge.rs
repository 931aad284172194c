//! Holds reports to what must be in them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use serde::Deserialize;

use super::world::{Counts, Name, Window};
use crate::verdict::Differences;

/// Windows that were sent and must be reported.
pub(super) struct Judge {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
    /// Oldest first.
    expected: VecDeque<Expected>,
    /// The last report that was right, and whether the connection has broken since: then it may come
    /// again.
    last: Option<(Vec<u8>, bool)>,
    /// What was sent before its server was gone: it may be counted in any window from then on, or never.
    doubts: Window,
    /// How many calls that were.
    pub(super) doubtful: u64,
    pub(super) reports: u64,
    pub(super) again: u64,
    pub(super) differences: Differences,
}

/// What must be reported, in one report, or in several when the end of a window was not clear.
struct Expected {
    counts: Window,
    /// In how many reports at most.
    reports: u32,
    /// What was reported so far.
    reported: Window,
}

#[derive(Deserialize)]
struct Row {
    from: String,
    to: String,
    count: u64,
    errors: Option<u64>,
    rejected: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Report {
    Plain(Vec<Row>),
    Full { calls: Vec<Row> },
}

impl Judge {
    pub(super) fn new(parents: &[Name]) -> Self {
        let names: Vec<_> =
            parents.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let numbers = (0..).zip(&names).map(|(number, name)| (name.clone(), number)).collect();
        Self {
            numbers,
            names,
            expected: VecDeque::new(),
            last: None,
            doubts: Window::new(),
            doubtful: 0,
            reports: 0,
            again: 0,
            differences: Differences::default(),
        }
    }

    /// A window, or some that cannot be told apart, has ended and must be reported.
    pub(super) fn expect(&mut self, counts: Window, reports: u32) {
        self.expected.push_back(Expected { counts, reports, reported: Window::new() });
    }

    /// The connection has broken: what was sent last may come again.
    pub(super) fn broke(&mut self) {
        if let Some((_, may_come_again)) = &mut self.last {
            *may_come_again = true;
        }
    }

    /// The server is gone that this was sent to; so much of it had been taken for sure.
    pub(super) fn doubt(&mut self, sent: &Window, taken: &Window) {
        for (pair, counts) in sent {
            let taken = taken.get(pair).copied().unwrap_or_default();
            let doubt = self.doubts.entry(*pair).or_default();
            for ((doubt, sent), taken) in doubt.iter_mut().zip(counts).zip(taken) {
                *doubt += sent.saturating_sub(taken);
            }
            self.doubtful += counts[0].saturating_sub(taken[0]);
        }
    }

    /// Takes what is reported beyond `counts` from what is in doubt. Whether all of it could be.
    fn draw(&mut self, reported: &Window, counts: &Window) -> bool {
        let of = |window: &Window, pair| window.get(pair).copied().unwrap_or_default();
        let excess = |pair| {
            let (reported, counts) = (of(reported, pair), of(counts, pair));
            [0, 1, 2].map(|at: usize| {
                let part = |counts: Counts| counts.get(at).copied().unwrap_or(0);
                part(reported).checked_sub(part(counts))
            })
        };
        let pairs: BTreeSet<_> = reported.keys().chain(counts.keys()).collect();
        let fits = pairs.iter().all(|pair| {
            let doubts = of(&self.doubts, *pair);
            let mut parts = excess(pair).into_iter().zip(doubts);
            parts.all(|(excess, doubt)| excess.is_some_and(|excess| excess <= doubt))
        });
        for pair in pairs.into_iter().filter(|_| fits) {
            let excess = excess(pair);
            if let Some(doubts) = self.doubts.get_mut(pair) {
                let parts = doubts.iter_mut().zip(excess);
                parts.for_each(|(doubt, excess)| *doubt -= excess.unwrap_or(0));
            }
        }
        fits
    }

    /// How many windows must still be reported.
    pub(super) fn owed(&self) -> usize {
        self.expected.len()
    }

    /// A report has come.
    pub(super) fn report(&mut self, text: &[u8]) {
        self.reports += 1;
        if self.last.as_ref().is_some_and(|(last, may)| *may && last == text) {
            self.again += 1;
            return;
        }
        match self.read(text) {
            Ok(window) => self.compare(&window),
            Err(why) => self.differences.add(|| format!("a report {why}")),
        }
        self.last = Some((text.to_vec(), false));
    }

    fn read(&self, text: &[u8]) -> Result<Window, String> {
        let report: Report =
            serde_json::from_slice(text).map_err(|why| format!("is not to be read: {why}"))?;
        let (rows, full) = match report {
            Report::Plain(rows) => (rows, false),
            Report::Full { calls } => (calls, true),
        };
        let ordered = rows.is_sorted_by(|one, next| (&one.from, &one.to) < (&next.from, &next.to));
        if !ordered {
            return Err("is not in order, or has a pair twice".to_owned());
        }
        let mut window = Window::new();
        for row in rows {
            let number = |name: &String| {
                let number = self.numbers.get(name).copied();
                number.ok_or_else(|| format!("names {name:?}, which is no parent"))
            };
            let pair = (number(&row.from)?, number(&row.to)?);
            if row.count == 0 {
                return Err("has a pair without calls".to_owned());
            }
            if full && (row.errors.is_none() || row.rejected.is_none()) {
                return Err("has a pair without errors or rejected".to_owned());
            }
            let absent = self.counts_of(pair);
            let errors = row.errors.unwrap_or(absent[1]);
            window.insert(pair, [row.count, errors, row.rejected.unwrap_or(absent[2])]);
        }
        Ok(window)
    }

    /// What is expected of a pair, beyond what was reported: what a plain report does not say is taken
    /// to be right.
    fn counts_of(&self, pair: (u32, u32)) -> Counts {
        let Some(expected) = self.expected.front() else { return Counts::default() };
        let of = |window: &Window| window.get(&pair).copied().unwrap_or_default();
        let (counts, reported) = (of(&expected.counts), of(&expected.reported));
        [0, 1, 2].map(|at: usize| {
            let part = |counts: Counts| counts.get(at).copied().unwrap_or(0);
            part(counts).saturating_sub(part(reported))
        })
    }

    fn compare(&mut self, window: &Window) {
        let Some(mut expected) = self.expected.pop_front() else {
            if !self.draw(window, &Window::new()) {
                let pairs = window.len();
                self.differences.add(|| format!("a report of {pairs} pairs, and none was due"));
            }
            return;
        };
        let before = expected.reported.clone();
        for (pair, counts) in window {
            let reported = expected.reported.entry(*pair).or_default();
            reported.iter_mut().zip(counts).for_each(|(reported, count)| *reported += count);
        }
        expected.reports -= 1;
        if self.draw(&expected.reported, &expected.counts) {
            return;
        }
        if self.draw(window, &Window::new()) {
            // Of a window in which nothing was sent for sure.
            expected.reported = before;
            expected.reports += 1;
        } else if expected.reports == 0 {
            self.differ(&expected);
            return;
        }
        self.expected.push_front(expected);
    }

    /// Says in which pair it differs, the first by name.
    fn differ(&mut self, expected: &Expected) {
        let name = |number: u32| self.names.get(number as usize).cloned().unwrap_or_default();
        let pairs = expected.counts.keys().chain(expected.reported.keys());
        let of = |window: &Window, pair| window.get(pair).copied().unwrap_or_default();
        let wrong = pairs
            .filter(|pair| of(&expected.counts, pair) != of(&expected.reported, pair))
            .min_by_key(|(from, to)| (name(*from), name(*to)));
        let Some(pair) = wrong else { return };
        let (must, is) = (of(&expected.counts, pair), of(&expected.reported, pair));
        let text = format!(
            "from {} to {}: reported {is:?} (calls, errors, rejected), expected {must:?}",
            name(pair.0),
            name(pair.1)
        );
        self.differences.add(|| text);
    }

    /// What was never reported.
    pub(super) fn close(&mut self) {
        let owed = std::mem::take(&mut self.expected);
        for expected in owed {
            let calls: u64 = expected.counts.values().map(|counts| counts[0]).sum();
            self.differences.add(|| format!("a window of {calls} calls was never reported whole"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00000000-0000-4000-8000-00000000000a";
    const B: &str = "00000000-0000-4000-8000-00000000000b";

    fn judge() -> Judge {
        let name = |text: &str| text.as_bytes().try_into().unwrap();
        Judge::new(&[name(A), name(B)])
    }

    fn window() -> Window {
        [((0, 1), [3, 1, 1]), ((1, 0), [1, 0, 0])].into()
    }

    fn plain(ab: u64, ba: u64) -> String {
        format!(
            r#"[{{"from":"{A}","to":"{B}","count":{ab}}},{{"from":"{B}","to":"{A}","count":{ba}}}]"#
        )
    }

    /// How many differences a report makes, where this window is due.
    fn differences(text: &str) -> u64 {
        let mut judge = judge();
        judge.expect(window(), 1);
        judge.report(text.as_bytes());
        judge.close();
        judge.differences.total()
    }

    #[test]
    fn a_right_report_is_no_difference() {
        assert_eq!(differences(&plain(3, 1)), 0);
        let full = format!(
            r#"{{"start":"x","calls":[{{"from":"{A}","to":"{B}","count":3,"errors":1,"rejected":1}},{{"from":"{B}","to":"{A}","count":1,"errors":0,"rejected":0}}]}}"#
        );
        assert_eq!(differences(&full), 0);
        assert_eq!(differences(&full.replace("\"errors\":1", "\"errors\":2")), 1);
        assert_eq!(differences(&full.replace(",\"rejected\":1", "")), 2, "and it is still due");
    }

    #[test]
    fn a_wrong_one_is() {
        for wrong in [
            plain(4, 1),
            plain(3, 2),
            "[]".to_owned(),
            "x".to_owned(),
            plain(3, 1).replace(B, "c"),
            format!(
                r#"[{{"from":"{B}","to":"{A}","count":1}},{{"from":"{A}","to":"{B}","count":3}}]"#
            ),
            plain(3, 0),
        ] {
            assert!(differences(&wrong) > 0, "{wrong}");
        }
    }

    #[test]
    fn a_report_comes_once_unless_the_connection_broke() {
        let mut judge = judge();
        judge.expect(window(), 1);
        judge.report(plain(3, 1).as_bytes());
        judge.broke();
        judge.report(plain(3, 1).as_bytes());
        assert_eq!((judge.differences.total(), judge.again), (0, 1));
        let mut judge = self::judge();
        judge.expect(window(), 1);
        judge.report(plain(3, 1).as_bytes());
        judge.report(plain(3, 1).as_bytes());
        assert_eq!(judge.differences.total(), 1);
    }

    #[test]
    fn windows_that_cannot_be_told_apart_are_summed() {
        let mut judge = judge();
        judge.expect(window(), 2);
        judge.report(format!(r#"[{{"from":"{A}","to":"{B}","count":1}}]"#).as_bytes());
        assert_eq!(judge.owed(), 1);
        judge.report(plain(2, 1).as_bytes());
        assert_eq!((judge.owed(), judge.differences.total()), (0, 0));
    }

    #[test]
    fn what_was_under_way_when_a_server_died_may_be_counted_once_or_not() {
        let doubt: Window = [((0, 1), [5, 1, 1])].into();
        let taken: Window = [((0, 1), [3, 1, 1])].into();
        let after = |reports: &[String]| {
            let mut judge = judge();
            judge.doubt(&doubt, &taken);
            judge.expect(window(), 1);
            reports.iter().for_each(|report| judge.report(report.as_bytes()));
            judge.close();
            (judge.differences.total(), judge.doubtful)
        };
        for ab in 3..=5 {
            assert_eq!(after(&[plain(ab, 1)]), (0, 2), "{ab}");
        }
        assert_eq!(after(&[plain(2, 1)]), (1, 2));
        assert_eq!(after(&[plain(6, 1)]), (1, 2));
        assert_eq!(after(&[plain(3, 2)]), (1, 2));
        // In a window of its own, but not twice.
        let alone = |count: u64| format!(r#"[{{"from":"{A}","to":"{B}","count":{count}}}]"#);
        assert_eq!(after(&[plain(3, 1), alone(2)]), (0, 2));
        assert_eq!(after(&[plain(4, 1), alone(2)]).0, 1);
        assert_eq!(after(&[plain(3, 1), alone(3)]).0, 1);
    }

    #[test]
    fn a_window_that_is_never_reported_is_a_difference() {
        let mut judge = judge();
        judge.expect(window(), 1);
        judge.close();
        assert_eq!(judge.differences.total(), 1);
    }
}
