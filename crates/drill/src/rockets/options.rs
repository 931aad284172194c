//! The options of a rockets drill. The defaults are those of the known test program.

use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::options::{Common, defaults, share};

/// How to drill the rockets.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// How many rockets fly
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rockets: u32,
    /// How many messages there are over all rockets
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub messages: u32,
    /// The same seed gives the same messages in the same order
    #[arg(long, default_value_t = 444, value_name = "N")]
    pub seed: u64,
    /// How many connections send at the same time
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub senders: u32,
    /// Open a new connection for every request
    #[arg(long)]
    pub connection_per_message: bool,
    /// The share of messages that are sent again, at a random later point
    #[arg(long, default_value_t = 0.1, value_name = "SHARE", value_parser = share)]
    pub duplicates: f64,
    /// How far at most a message is from its place within the whole stream; 0 sends in order
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub shuffle: u32,
    /// The share of messages that must have no effect: unknown types, wrong contents, second launches
    #[arg(long, default_value_t = 0.001, value_name = "SHARE", value_parser = share)]
    pub anomalies: f64,
    /// Messages per second in all; 0 is as fast as it goes
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub rate: u64,
    /// Messages per request, sent as NDJSON; 0 sends each on its own
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub bulk: u32,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub pipeline: u32,
    /// How many messages of a channel the server holds beyond a gap; no more are ever under way
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub held_max: u32,
    /// How many rockets per second are looked at and checked during the load; 0 looks at none
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub watch: u32,
    /// How long to wait before what was not acknowledged is sent again, in milliseconds
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
    /// Checks what the ranges of the flags do not say.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.connection_per_message && self.pipeline > 1 {
            let why = "more than 1 is not allowed with --connection-per-message".to_owned();
            return Err(Error::Options { option: "pipeline", why });
        }
        Ok(())
    }

    pub(super) fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::options::{check, reproduce};

    #[test]
    fn what_cannot_be_drilled_is_refused_with_the_name_of_the_flag() {
        assert!(check(&Options::default()).is_ok());
        let refused = |options: Options| check(&options).unwrap_err().to_string();
        let message = refused(Options { rockets: 0, ..Options::default() });
        assert_eq!(message, "invalid value '0' for '--rockets <N>': 0 is not in 1..=10000000");
        let message = refused(Options { duplicates: 1.5, ..Options::default() });
        let expected =
            "invalid value '1.5' for '--duplicates <SHARE>': a share from 0.0 to 1.0 is allowed";
        assert_eq!(message, expected);
    }

    #[test]
    fn the_same_drill_again_needs_only_what_is_not_usual() {
        let options = Options { seed: 7, bulk: 100, ..Options::default() };
        assert_eq!(reproduce(&options, options.seed), "seed 7 --bulk 100");
    }
}
