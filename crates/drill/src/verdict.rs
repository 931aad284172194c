//! The verdict: a table that a person reads and a yes or no that a script reads. Every drill ends
//! with one.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

/// How many differences are shown in full; all of them are counted.
const DIFFERENCES_SHOWN_MAX: usize = 20;

/// What a drill found.
///
/// Its [`Display`](fmt::Display) is the table with PASS or FAIL in its last line. It has passed
/// if there is no difference and no other failure.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What was drilled, the first line of the table.
    title: String,
    /// What to type to have the same drill again.
    reproduce: String,
    /// The rows of the table, in the order in which they are shown.
    rows: Vec<(String, Value)>,
    /// Where the server's answers differ from what is right.
    differences: Differences,
    /// Why the drill failed beside the differences.
    failures: Vec<String>,
}

impl Verdict {
    /// A verdict with an empty table, which passes.
    pub fn new(title: impl Into<String>, reproduce: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            reproduce: reproduce.into(),
            rows: Vec::new(),
            differences: Differences::default(),
            failures: Vec::new(),
        }
    }

    /// Adds a row to the table.
    pub fn row(&mut self, what: impl Into<String>, value: impl Into<Value>) {
        self.rows.push((what.into(), value.into()));
    }

    /// Adds a row for each of these counts that is not 0.
    pub fn counts_above_zero(&mut self, rows: &[(&str, u64)]) {
        for (what, count) in rows.iter().filter(|(_, count)| *count > 0) {
            self.row(*what, *count);
        }
    }

    /// Adds the rows p50, p99, p99.9 and max of the latencies.
    pub fn latency(&mut self, latency: &Latency) {
        self.latency_rows("latency", latency);
    }

    /// As [`Verdict::latency`], of one kind of call, which the lines name.
    pub fn latency_of(&mut self, call: &str, latency: &Latency) {
        self.latency_rows(&format!("{call} latency"), latency);
    }

    fn latency_rows(&mut self, what: &str, latency: &Latency) {
        if latency.count() == 0 {
            return;
        }
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            self.row(format!("{what} {name}"), latency.quantile(quantile));
        }
    }

    /// Makes the drill fail, for this reason.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.failures.push(reason.into());
    }

    /// Makes the drill fail because of calls that got this status. Where servers are killed, one that stops or starts, or whose
    /// log has stalled, may answer 5xx.
    pub fn refused(&mut self, method: Option<&str>, status: u16, count: u64, crashes: bool) {
        if !(crashes && status >= 500) {
            let of = method.map_or_else(String::new, |method| format!(" of {method}"));
            self.fail(format!("{} calls{of} got status {status}", grouped(count)));
        }
    }

    /// Makes the drill fail because of calls without an answer, unless servers are killed.
    pub fn unanswered(&mut self, count: u64, crashes: bool) {
        if count > 0 && !crashes {
            let count = grouped(count);
            self.fail(format!("{count} calls got no answer, and --crashes was not given"));
        }
    }

    /// Hands over the differences that were found; the drill fails if there is one.
    pub fn set_differences(&mut self, differences: Differences) {
        self.differences = differences;
    }

    /// Where the server's answers differ from what is right.
    pub fn differences(&self) -> &Differences {
        &self.differences
    }

    /// Why the drill failed beside the differences.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Returns the value in the row of this name, as it is shown.
    pub fn value(&self, what: &str) -> Option<String> {
        self.rows.iter().find(|(name, _)| name == what).map(|(_, value)| value.to_string())
    }

    /// Returns the verdict as a JSON object: `drill`, `passed`, `reproduce`, `rows` (each with `name`, `value`, `unit`),
    /// `differences` (`total` and the first ones in `shown`), `failures`. A value is a number in a base unit (`count`, `per_second`,
    /// `seconds`, `bytes`), or a string with the unit `text`.
    pub fn to_json(&self) -> serde_json::Value {
        let row = |(name, value): &(String, Value)| {
            let (value, unit) = value.to_json();
            json!({ "name": name, "value": value, "unit": unit })
        };
        json!({
            "drill": self.title,
            "passed": self.passed(),
            "reproduce": self.reproduce,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "differences": { "total": self.differences.total, "shown": self.differences.shown },
            "failures": self.failures,
        })
    }

    /// Whether everything was right.
    pub fn passed(&self) -> bool {
        self.differences.total() == 0 && self.failures.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> =
            self.rows.iter().map(|(name, value)| (name, value.to_string())).collect();
        let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let values = rows.iter().map(|(_, value)| value.chars().count()).max().unwrap_or(0);
        writeln!(f, "{}", self.title)?;
        for (name, value) in rows {
            writeln!(f, "  {name:<names$}  {value:>values$}")?;
        }
        for difference in &self.differences.shown {
            writeln!(f, "  differs: {difference}")?;
        }
        let hidden = self.differences.total() - self.differences.shown.len() as u64;
        if hidden > 0 {
            writeln!(f, "  differs: and {} more", grouped(hidden))?;
        }
        for failure in &self.failures {
            writeln!(f, "  failed: {failure}")?;
        }
        let word = if self.passed() { "PASS" } else { "FAIL" };
        write!(f, "{word} ({})", self.reproduce)
    }
}

/// The value of a row: a number with its unit, or text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// How many.
    Count(u64),
    /// How many a second.
    PerSecond(f64),
    /// A length of time.
    Time(Duration),
    /// A mean processor time, in microseconds: it can be below a nanosecond.
    Micros(f64),
    /// A size.
    Bytes(u64),
    /// Anything else.
    Text(String),
}

impl Value {
    /// Returns a count in a time, by the second.
    pub fn per_second(count: u64, elapsed: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate for a person to read")]
        let count = count as f64;
        Self::PerSecond(count / elapsed.as_secs_f64().max(1e-9))
    }

    fn to_json(&self) -> (serde_json::Value, &'static str) {
        match self {
            Self::Count(count) => (json!(count), "count"),
            Self::PerSecond(rate) => (json!(rate), "per_second"),
            Self::Time(time) => (json!(time.as_secs_f64()), "seconds"),
            Self::Micros(micros) => (json!(micros * 1e-6), "seconds"),
            Self::Bytes(bytes) => (json!(bytes), "bytes"),
            Self::Text(text) => (json!(text), "text"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => f.write_str(&grouped(*count)),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is positive, and rounded for a person to read"
            )]
            Self::PerSecond(rate) => f.write_str(&grouped(rate.round() as u64)),
            Self::Time(time) => f.write_str(&shown_duration(*time)),
            Self::Micros(micros) if *micros < 1.0 => write!(f, "{micros:.3} µs"),
            Self::Micros(micros) => write!(f, "{micros:.2} µs"),
            Self::Bytes(bytes) => {
                #[expect(clippy::cast_precision_loss, reason = "a size for a person to read")]
                let mebibytes = *bytes as f64 / f64::from(1 << 20);
                write!(f, "{mebibytes:.1} MiB")
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The differences found so far: the first ones in full, all of them counted.
#[derive(Debug, Clone, Default)]
pub struct Differences {
    /// The first ones, at most `DIFFERENCES_SHOWN_MAX`.
    shown: Vec<String>,
    /// All of them.
    total: u64,
}

impl Differences {
    /// Counts one; it is described only while there is room to show it.
    pub fn add(&mut self, describe: impl FnOnce() -> String) {
        self.total += 1;
        if self.shown.len() < DIFFERENCES_SHOWN_MAX {
            self.shown.push(describe());
        }
    }

    /// Counts differences that are not described.
    pub fn add_undescribed(&mut self, count: u64) {
        self.total += count;
    }

    /// Takes over what another found.
    pub fn merge(&mut self, other: Self) {
        let room = DIFFERENCES_SHOWN_MAX.saturating_sub(self.shown.len());
        self.shown.extend(other.shown.into_iter().take(room));
        self.total += other.total;
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The first ones, in words.
    pub fn shown(&self) -> &[String] {
        &self.shown
    }
}

/// How long requests took: a histogram of nanoseconds with three significant digits, up to an
/// hour, of about 300 KiB whatever the number of requests.
#[derive(Debug, Clone)]
pub struct Latency {
    /// A latency below a microsecond counts as one.
    histogram: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// Nothing recorded yet.
    #[expect(clippy::missing_panics_doc, reason = "the bounds are constants, and valid")]
    pub fn new() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants, and a test makes one")]
        let histogram = Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3)
            .expect("the bounds of a histogram of latencies are valid");
        Self { histogram }
    }

    /// Counts one request. `O(1)`, allocates nothing.
    pub fn record(&mut self, took: Duration) {
        self.histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes over what another has recorded.
    pub fn add(&mut self, other: &Self) {
        // Both have the same range.
        self.histogram.add(&other.histogram).unwrap_or_default();
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// What this share of the requests stayed within; 1.0 is the slowest of all.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(share))
    }
}

/// A number with its thousands apart: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in the unit that a person would take: 85 µs, 1.24 ms, 3.10 s.
pub fn shown_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DIFFERENCES_SHOWN_MAX, Latency, Value, Verdict, grouped};

    #[test]
    fn a_table_is_aligned_and_ends_with_the_word_and_the_way_to_see_it_again() {
        let mut verdict = Verdict::new("rockets", "seed 444");
        verdict.row("sent", 110_000_u64);
        verdict.row("mismatches", 0_u64);
        let expected = "rockets\n  sent        110,000\n  mismatches        0\nPASS (seed 444)";
        assert_eq!(verdict.to_string(), expected);
        assert!(verdict.passed());
    }

    #[test]
    fn a_verdict_as_json_has_numbers_in_base_units() {
        let mut verdict = Verdict::new("rockets", "seed 444");
        verdict.row("server CPU per message", Value::Micros(2.5));
        verdict.row("rate", Value::per_second(10, Duration::from_secs(4)));
        let json = verdict.to_json();
        assert_eq!(json["passed"], true);
        assert_eq!(json["rows"][0]["unit"], "seconds");
        assert!((json["rows"][0]["value"].as_f64().unwrap() - 2.5e-6).abs() < 1e-12);
        assert_eq!(json["rows"][1]["value"], 2.5);
    }

    #[test]
    fn many_differences_are_all_counted_and_the_first_are_shown() {
        let mut verdict = Verdict::new("rockets", "seed 444");
        let mut differences = super::Differences::default();
        for number in 0..25 {
            differences.add(|| format!("rocket {number}"));
        }
        verdict.set_differences(differences);
        assert!(!verdict.passed());
        assert_eq!(verdict.differences().shown().len(), DIFFERENCES_SHOWN_MAX);
        assert!(verdict.to_string().ends_with("differs: and 5 more\nFAIL (seed 444)"));
    }

    #[test]
    fn a_failure_alone_makes_it_fail() {
        let mut verdict = Verdict::new("rockets", "seed 444");
        verdict.fail("out of time");
        assert!(!verdict.passed());
        assert!(verdict.to_string().contains("failed: out of time"));
    }

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let mut latency = Latency::new();
        for millis in 1..=1_000 {
            latency.record(Duration::from_millis(millis));
        }
        let median = latency.quantile(0.5).as_secs_f64();
        assert!((0.499..0.502).contains(&median), "{median}");
        assert!(latency.quantile(1.0) >= Duration::from_secs(1));
    }

    #[test]
    fn thousands_are_set_apart() {
        let shown = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
