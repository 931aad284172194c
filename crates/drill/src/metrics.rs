//! The CPU time and the memory of a server, read from its `GET /metrics` in the Prometheus text format, if it
//! has that.

use std::sync::Arc;
use std::time::Duration;

use crate::http::{Answer, Client, Cluster};
use crate::verdict::{Value, Verdict};

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The CPU time and the memory of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// `process_cpu_seconds_total`: processor time since it started.
    pub cpu: Option<Duration>,
    /// `process_resident_memory_bytes`.
    pub memory_bytes: Option<u64>,
}

impl Usage {
    /// Asks a server. A value that it does not report is `None`.
    pub(crate) async fn ask(client: &mut Client) -> Self {
        Self::read(&client.get("/metrics").await)
    }

    /// Asks all servers, one after the other, and returns the sum.
    pub(crate) async fn ask_all(cluster: &Arc<Cluster>) -> Self {
        let mut used = Vec::new();
        for at in 0..cluster.len() {
            // A server that was killed may never answer.
            let wait = ANSWER_WAIT.min(cluster.answer_within());
            let asked = tokio::time::timeout(wait, Self::ask(&mut Client::at(at, cluster))).await;
            used.push(asked.unwrap_or_default());
        }
        Self::sum(used)
    }

    fn read(answer: &Answer) -> Self {
        if answer.status == 200 {
            Self::parse(&String::from_utf8_lossy(&answer.body))
        } else {
            Self::default()
        }
    }

    /// Returns the sum of several servers. A value that one of them does not report is `None`.
    pub(crate) fn sum(servers: impl IntoIterator<Item = Self>) -> Self {
        let both = |one: Self, other: Self| Self {
            cpu: one.cpu.zip(other.cpu).map(|(one, other)| one + other),
            memory_bytes: one.memory_bytes.zip(other.memory_bytes).map(|(one, other)| one + other),
        };
        servers.into_iter().reduce(both).unwrap_or_default()
    }

    /// Adds a row for the CPU time since `before` for each of these counts, and a row for the memory.
    pub(crate) fn rows_since(self, before: Self, per: &[(&str, u64)], verdict: &mut Verdict) {
        let used = self.cpu.zip(before.cpu);
        // A server that was restarted has used less than before: the difference means nothing.
        if let Some(used) = used.and_then(|(after, before)| after.checked_sub(before)) {
            for &(what, count) in per.iter().filter(|(_, count)| *count > 0) {
                #[expect(clippy::cast_precision_loss, reason = "a mean for a person to read")]
                let micros = used.as_secs_f64() * 1e6 / count as f64;
                verdict.row(format!("server CPU per {what}"), Value::Micros(micros));
            }
        }
        if let Some(bytes) = self.memory_bytes {
            verdict.row("server memory", Value::Bytes(bytes));
        }
    }

    /// Parses the text of `GET /metrics`. A value that is missing or not a number is `None`.
    pub fn parse(text: &str) -> Self {
        let cpu = value(text, "process_cpu_seconds_total");
        let memory = value(text, "process_resident_memory_bytes");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size in bytes; the cast saturates"
        )]
        let memory_bytes = memory.map(|bytes| bytes as u64);
        Self { cpu: cpu.and_then(|s| Duration::try_from_secs_f64(s).ok()), memory_bytes }
    }
}

/// Returns the value of the first sample of this name, with or without labels.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = match rest.strip_prefix('{') {
            Some(labelled) => labelled.split_once('}')?.1,
            None => rest,
        };
        if !rest.starts_with([' ', '\t']) {
            return None;
        }
        rest.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Usage;

    #[test]
    fn both_numbers_are_found_among_others() {
        let text = "# TYPE process_cpu_seconds_total counter\n\
                    process_cpu_seconds_total_of_another 7\n\
                    process_cpu_seconds_total 1.25\n\
                    process_resident_memory_bytes{node=\"a\"} 2.1e7\n";
        let expected =
            Usage { cpu: Some(Duration::from_millis(1_250)), memory_bytes: Some(21_000_000) };
        assert_eq!(Usage::parse(text), expected);
    }

    #[test]
    fn several_servers_are_added_up_if_all_of_them_say_something() {
        let one = Usage { cpu: Some(Duration::from_secs(1)), memory_bytes: Some(10) };
        let silent = Usage { memory_bytes: None, ..one };
        let both = Usage { cpu: Some(Duration::from_secs(2)), memory_bytes: None };
        assert_eq!(Usage::sum([one, silent]), both);
        assert_eq!(Usage::sum([]), Usage::default());
    }

    #[test]
    fn a_page_without_them_gives_none() {
        assert_eq!(Usage::parse("up 1\n"), Usage::default());
    }
}
