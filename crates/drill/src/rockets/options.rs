//! What a drill of rockets can be told, with its defaults: what the known test program does.

use std::time::Duration;

use super::Error;
use crate::Patience;
use crate::options::{Reproduce, check_ranges, check_shares, without_flags};

/// How to drill the rockets.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many rockets fly
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub rockets: u32,
    /// How many messages there are over all rockets
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub messages: u32,
    /// The same seed gives the same messages in the same order
    #[arg(long, default_value_t = 444, value_name = "N")]
    pub seed: u64,
    /// How many connections send at the same time
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub senders: u32,
    /// Open a new connection for every request
    #[arg(long)]
    pub connection_per_message: bool,
    /// The share of messages that are sent again, at a random later point
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub duplicates: f64,
    /// How far at most a message is from its place within the whole stream; 0 sends in order
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub shuffle: u32,
    /// The share of messages that must have no effect: unknown types, wrong contents, second launches
    #[arg(long, default_value_t = 0.001, value_name = "SHARE")]
    pub anomalies: f64,
    /// Messages per second in all; 0 is as fast as it goes
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub rate: u64,
    /// Messages per request, sent as NDJSON; 0 sends each on its own
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub bulk: u32,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub pipeline: u32,
    /// How many messages of a channel the server holds beyond a gap; no more are ever under way
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub held_max: u32,
    /// How many rockets per second are looked at and checked during the load; 0 looks at none
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub watch: u32,
    /// How long to wait before what was not acknowledged is sent again, in milliseconds
    #[arg(long, default_value_t = 500, value_name = "MS")]
    pub retry_ms: u64,
    /// How long the drill may take in all, in seconds; then it fails
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub timeout: u64,
    /// How long it waits for a server that is away
    #[command(flatten)]
    pub patience: Patience,
}

impl Default for Options {
    fn default() -> Self {
        without_flags()
    }
}

impl Options {
    /// Whether the drill can be done.
    pub(super) fn check(&self) -> Result<(), Error> {
        let ranges = [
            ("rockets", u64::from(self.rockets), 1, 10_000_000),
            ("messages", u64::from(self.messages), 1, 1_000_000_000),
            ("senders", u64::from(self.senders), 1, 10_000),
            ("pipeline", u64::from(self.pipeline), 1, 1_024),
            ("bulk", u64::from(self.bulk), 0, 1_000_000),
            ("watch", u64::from(self.watch), 0, 1_000),
            ("held-max", u64::from(self.held_max), 1, 1_000_000_000),
            ("retry-ms", self.retry_ms, 1, 3_600_000),
            ("timeout", self.timeout, 1, 31_536_000),
        ];
        check_ranges(ranges)?;
        check_shares([("duplicates", self.duplicates, 1.0), ("anomalies", self.anomalies, 1.0)])?;
        if self.connection_per_message && self.pipeline > 1 {
            return Err(Error::Pipeline);
        }
        Ok(())
    }

    pub(super) fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    /// What to type to have the same drill again: the seed, and everything that is not as usual.
    pub(super) fn reproduce(&self) -> String {
        let usual = Self::default();
        let mut words = Reproduce::new(self.seed);
        words.add("rockets", self.rockets, usual.rockets);
        words.add("messages", self.messages, usual.messages);
        words.add("senders", self.senders, usual.senders);
        words.add("duplicates", self.duplicates, usual.duplicates);
        words.add("shuffle", self.shuffle, usual.shuffle);
        words.add("anomalies", self.anomalies, usual.anomalies);
        words.add("rate", self.rate, usual.rate);
        words.add("bulk", self.bulk, usual.bulk);
        words.add("pipeline", self.pipeline, usual.pipeline);
        words.add("held-max", self.held_max, usual.held_max);
        words.add("watch", self.watch, usual.watch);
        words.flag("connection-per-message", self.connection_per_message);
        words.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn what_cannot_be_drilled_is_refused_with_the_name_of_the_flag() {
        assert!(Options::default().check().is_ok());
        let refused = |options: Options| options.check().unwrap_err().to_string();
        let message = refused(Options { rockets: 0, ..Options::default() });
        assert_eq!(message, "--rockets 0: from 1 to 10000000 is allowed");
        let message = refused(Options { duplicates: 1.5, ..Options::default() });
        assert_eq!(message, "--duplicates 1.5: a share from 0.0 to 1.0 is allowed");
    }

    #[test]
    fn the_same_drill_again_needs_only_what_is_not_usual() {
        let options = Options { seed: 7, bulk: 100, ..Options::default() };
        assert_eq!(options.reproduce(), "seed 7 --bulk 100");
    }
}
