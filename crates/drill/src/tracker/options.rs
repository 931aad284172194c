//! The options of a tracker drill, with their defaults and ranges.

use std::time::Duration;

use serde::Serialize;

use crate::options::{Common, defaults};

/// How to drill the tracker.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// How many messages are added, beside those that try single rules
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub messages: u32,
    /// The same seed makes the same messages
    #[arg(long, default_value_t = 666, value_name = "N")]
    pub seed: u64,
    /// How many messages the server tracks: its tracker.capacity
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    pub capacity: u32,
    /// How many connections call at the same time; each is a peer
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// By how many peers each message is relayed while nothing is dropped
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub relays: u32,
    /// How many calls are made one after the other, against a list
    #[arg(long, default_value_t = 5_000, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub steps: u32,
    /// How long data is at most, in bytes
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub data_bytes: u32,
    /// Only add new messages, for measuring
    #[arg(long)]
    pub plain: bool,
    /// The server is killed and started again meanwhile: calls without an answer are no failure
    #[arg(long)]
    pub crashes: bool,
    /// How long to wait before a connection that broke is made again, in milliseconds
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub retry_ms: u64,
    /// The options of every drill
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

impl Default for Options {
    fn default() -> Self {
        defaults()
    }
}

impl Options {
    pub(super) fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    /// How many messages are relayed while nothing is dropped.
    pub(super) const fn kept(&self) -> u32 {
        self.capacity / 2
    }
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::options::check;

    #[test]
    fn what_cannot_be_drilled_is_refused_with_the_name_of_the_flag() {
        assert!(check(&Options::default()).is_ok());
        let refused = check(&Options { relays: 17, ..Options::default() }).unwrap_err().to_string();
        assert_eq!(refused, "invalid value '17' for '--relays <N>': 17 is not in 1..=16");
    }
}
