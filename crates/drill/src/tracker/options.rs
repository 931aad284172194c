//! What a drill of the tracker can be told, with its defaults.

use std::time::Duration;

use super::Error;
use crate::Patience;
use crate::options::{Reproduce, check_ranges, without_flags};

/// How to drill the tracker.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many messages are added, beside those that try single rules
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    pub messages: u32,
    /// The same seed makes the same messages
    #[arg(long, default_value_t = 666, value_name = "N")]
    pub seed: u64,
    /// How many messages the server tracks: its tracker.capacity
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub capacity: u32,
    /// How many connections call at the same time; each is a peer
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub connections: u32,
    /// By how many peers each message is relayed while nothing is dropped
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub relays: u32,
    /// How many calls are made one after the other, against a list
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    pub steps: u32,
    /// How long data is at most, in bytes
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub data_bytes: u32,
    /// Only add new messages, for measuring
    #[arg(long)]
    pub plain: bool,
    /// The server is killed and started again meanwhile: calls without an answer are no failure
    #[arg(long)]
    pub crashes: bool,
    /// How long to wait before a connection that broke is made again, in milliseconds
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
        check_ranges([
            ("messages", self.messages.into(), 1, 1_000_000_000),
            ("capacity", self.capacity.into(), 10, 10_000_000),
            // A server tells so many peers apart.
            ("connections", self.connections.into(), 1, 10_000),
            ("relays", self.relays.into(), 1, 16),
            ("steps", self.steps.into(), 0, 10_000_000),
            ("data-bytes", self.data_bytes.into(), 0, 65_536),
            ("timeout", self.timeout, 1, 31_536_000),
        ])?;
        Ok(())
    }

    pub(super) fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    /// How many messages are relayed while nothing is dropped.
    pub(super) const fn kept(&self) -> u32 {
        self.capacity / 2
    }

    /// What to type to have the same drill again: the seed, and everything that is not as usual.
    pub(super) fn reproduce(&self) -> String {
        let usual = Self::default();
        let mut words = Reproduce::new(self.seed);
        words.add("messages", self.messages, usual.messages);
        words.add("capacity", self.capacity, usual.capacity);
        words.add("connections", self.connections, usual.connections);
        words.add("relays", self.relays, usual.relays);
        words.add("steps", self.steps, usual.steps);
        words.add("data-bytes", self.data_bytes, usual.data_bytes);
        words.flag("plain", self.plain);
        words.flag("crashes", self.crashes);
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
        let message = refused(Options { relays: 17, ..Options::default() });
        assert_eq!(message, "--relays 17: from 1 to 16 is allowed");
    }
}
