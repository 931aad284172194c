//! Holds reports to what must be in them.

use std::collections::{HashMap, VecDeque};

use serde::Deserialize;

use super::world::{Counts, Name, Window};
use crate::verdict::Differences;
use totals::{Totals, add, of};

mod totals;

/// Windows that were sent and must be reported.
pub(super) struct Judge {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
    /// Oldest first.
    expected: VecDeque<Expected>,
    /// The last report that was right, and whether the connection has broken since: then it may come
    /// again.
    last: Option<(Vec<u8>, bool)>,
    /// Whether a server has died: from then on windows cannot be distinguished.
    totals: Option<Totals>,
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
            totals: None,
            reports: 0,
            again: 0,
            differences: Differences::default(),
        }
    }

    /// Ends a window, or several that cannot be distinguished: it must be reported.
    pub(super) fn expect(&mut self, counts: Window, reports: u32) {
        match &mut self.totals {
            Some(totals) => totals.sent(&counts),
            None => self.expected.push_back(Expected { counts, reports, reported: Window::new() }),
        }
    }

    /// The connection has broken: what was sent last may come again.
    pub(super) fn broke(&mut self) {
        if let Some((_, may_come_again)) = &mut self.last {
            *may_come_again = true;
        }
    }

    /// From now on only sums are compared: a server has died.
    pub(super) fn sum_up(&mut self) {
        let totals = self.totals.get_or_insert_default();
        for Expected { counts, reported, .. } in self.expected.drain(..) {
            totals.sent(&counts);
            totals.reported(&reported, true);
        }
    }

    /// Whether only sums are compared.
    pub(super) fn sums_up(&self) -> bool {
        self.totals.is_some()
    }

    /// The server is gone that `sent` went to, behind all that was expected; so much of it had been
    /// counted, in a window that is still open. The rest, and whatever else is not reported by now, may
    /// be reported or not.
    pub(super) fn doubt(&mut self, sent: &Window, counted: &Window) {
        self.sum_up();
        if let Some(totals) = &mut self.totals {
            totals.sent(sent);
            totals.doubt(counted);
        }
    }

    /// Whether something must still be reported.
    pub(super) fn is_owed(&self) -> bool {
        let wrong = self.totals.as_ref().is_some_and(|totals| totals.wrongs().next().is_some());
        wrong || !self.expected.is_empty()
    }

    /// A report has come.
    pub(super) fn report(&mut self, text: &[u8]) {
        self.reports += 1;
        if self.last.as_ref().is_some_and(|(last, may)| *may && last == text) {
            self.again += 1;
            return;
        }
        match self.read(text) {
            Ok((window, full)) => match &mut self.totals {
                Some(totals) => totals.reported(&window, full),
                None => self.compare(&window),
            },
            Err(why) => self.differences.add(|| format!("a report {why}")),
        }
        self.last = Some((text.to_vec(), false));
    }

    /// The counts of a report, and whether it says how many calls have failed.
    fn read(&self, text: &[u8]) -> Result<(Window, bool), String> {
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
        Ok((window, full))
    }

    /// What is expected of a pair, beyond what was reported: what a plain report does not say is taken
    /// to be right.
    fn counts_of(&self, pair: (u32, u32)) -> Counts {
        let Some(expected) = self.expected.front() else { return Counts::default() };
        let (counts, reported) = (of(&expected.counts, pair), of(&expected.reported, pair));
        [0, 1, 2].map(|at: usize| {
            let part = |counts: Counts| counts.get(at).copied().unwrap_or(0);
            part(counts).saturating_sub(part(reported))
        })
    }

    fn compare(&mut self, window: &Window) {
        let Some(mut expected) = self.expected.pop_front() else {
            let pairs = window.len();
            self.differences.add(|| format!("a report of {pairs} pairs, and none was due"));
            return;
        };
        add(&mut expected.reported, window);
        expected.reports -= 1;
        if expected.reported == expected.counts {
            return;
        }
        if expected.reports == 0 {
            self.differ(&expected);
            return;
        }
        self.expected.push_front(expected);
    }

    fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", String::as_str)
    }

    /// Says in which pair it differs, the first by name.
    fn differ(&mut self, expected: &Expected) {
        let pairs = expected.counts.keys().chain(expected.reported.keys()).copied();
        let wrong = pairs
            .map(|pair| (pair, [of(&expected.reported, pair), of(&expected.counts, pair)]))
            .filter(|(_, [is, must])| is != must)
            .min_by_key(|((from, to), _)| (self.name(*from), self.name(*to)));
        let Some(((from, to), [is, must])) = wrong else { return };
        let (from, to) = (self.name(from), self.name(to));
        let text = format!(
            "from {from} to {to}: reported {is:?} (calls, errors, rejected), expected {must:?}"
        );
        self.differences.add(|| text);
    }

    /// What was never reported, or, where sums are compared, too little or too much.
    pub(super) fn close(&mut self) {
        let owed = std::mem::take(&mut self.expected);
        for expected in owed {
            let calls: u64 = expected.counts.values().map(|counts| counts[0]).sum();
            self.differences.add(|| format!("a window of {calls} calls was never reported whole"));
        }
        let totals = self.totals.take().unwrap_or_default();
        for ((from, to), [is, least, most]) in totals.wrongs() {
            let (from, to) = (self.name(from).to_owned(), self.name(to).to_owned());
            self.differences.add(|| {
                format!(
                    "from {from} to {to}: reported {is:?} (calls, errors, rejected) in all, expected \
                     {least:?} to {most:?}"
                )
            });
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

    fn alone(ab: u64) -> String {
        format!(r#"[{{"from":"{A}","to":"{B}","count":{ab}}}]"#)
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
        judge.report(alone(1).as_bytes());
        assert!(judge.is_owed());
        judge.report(plain(2, 1).as_bytes());
        assert_eq!((judge.is_owed(), judge.differences.total()), (false, 0));
    }

    /// The differences after a server has died in an open window: of five calls three had been counted,
    /// then came what is in `window`, and these reports.
    fn after_a_death(reports: &[String]) -> u64 {
        let (sent, counted) = ([((0, 1), [5, 1, 1])].into(), [((0, 1), [3, 1, 1])].into());
        let mut judge = judge();
        judge.doubt(&sent, &counted);
        judge.expect(window(), 1);
        reports.iter().for_each(|report| judge.report(report.as_bytes()));
        judge.close();
        judge.differences.total()
    }

    #[test]
    fn what_was_under_way_when_a_server_died_may_be_counted_or_not_and_in_any_window() {
        for ab in 6..=8 {
            assert_eq!(after_a_death(&[plain(ab, 1)]), 0, "{ab}");
            assert_eq!(after_a_death(&[plain(ab - 4, 1), alone(4)]), 0, "{ab}");
        }
    }

    #[test]
    fn what_was_counted_when_a_server_died_must_be_reported_and_nothing_twice() {
        for (ab, ba) in [(5, 1), (9, 1), (6, 2)] {
            assert_eq!(after_a_death(&[plain(ab, ba)]), 1, "{ab} {ba}");
        }
        assert_eq!(after_a_death(&[plain(6, 1), alone(3)]), 1);
        assert_eq!(after_a_death(&[]), 2, "in both pairs");
    }

    #[test]
    fn a_window_that_was_closed_when_a_server_died_may_be_reported_or_not() {
        for reports in [&[][..], &[plain(3, 1)], &[alone(2)]] {
            let mut judge = judge();
            judge.expect(window(), 1);
            judge.doubt(&Window::new(), &Window::new());
            reports.iter().for_each(|report| judge.report(report.as_bytes()));
            assert!(!judge.is_owed());
            judge.close();
            assert_eq!(judge.differences.total(), 0, "{reports:?}");
        }
    }

    #[test]
    fn a_window_that_was_reported_before_a_server_died_is_not_reported_again() {
        let mut judge = judge();
        judge.expect(window(), 2);
        judge.report(alone(3).as_bytes());
        judge.doubt(&Window::new(), &Window::new());
        judge.report(plain(3, 1).as_bytes());
        judge.close();
        assert_eq!(judge.differences.total(), 1);
    }

    #[test]
    fn a_window_that_is_never_reported_is_a_difference() {
        let mut judge = judge();
        judge.expect(window(), 1);
        judge.close();
        assert_eq!(judge.differences.total(), 1);
    }
}
