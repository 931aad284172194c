//! What a drill of the traffic can be told, with its defaults: what the original upstream does.

use std::time::Duration;

use super::Error;
use crate::Patience;
use crate::options::{Reproduce, check_ranges, check_shares, without_flags};

/// How to drill the traffic.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many communications are sent
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub communications: u64,
    /// How many a second; 0 for as fast as they are taken
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub rate: u64,
    /// How many in a frame: one alone, or an array of so many
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub array: u32,
    /// The same seed sends the same communications
    #[arg(long, default_value_t = 555, value_name = "N")]
    pub seed: u64,
    /// How many parents there are
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub parents: u32,
    /// How many children they have in the beginning
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub children: u32,
    /// How often a child comes (before or after its communications) or moves, meanwhile
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub updates: u32,
    /// The share of frames before which one that cannot be read is sent
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub malformed: f64,
    /// The share of frames that are sent in fragments, with a ping between them
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub fragmented: f64,
    /// How often the connection breaks
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub drops: u32,
    /// How often the connection is closed with a handshake, just before the end of a window
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub closes: u32,
    /// How often nothing is sent for 300 ms
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub stalls: u32,
    /// How long the server's windows are, in milliseconds
    #[arg(long, default_value_t = 2_000, value_name = "MS")]
    pub window_ms: u64,
    /// Servers are killed or paused meanwhile, and another connects: what was under way then may be
    /// counted or not
    #[arg(long)]
    pub crashes: bool,
    /// How long the server may take to connect, and again, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub connect_wait: u64,
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
            ("communications", self.communications, 1, 10_000_000_000),
            ("rate", self.rate, 0, 100_000_000),
            ("array", self.array.into(), 1, 10_000),
            ("parents", self.parents.into(), 1, 100_000),
            ("children", self.children.into(), 1, 1_000_000),
            ("updates", self.updates.into(), 0, 100_000),
            ("drops", self.drops.into(), 0, 1_000),
            ("closes", self.closes.into(), 0, 1_000),
            ("stalls", self.stalls.into(), 0, 1_000),
            ("window-ms", self.window_ms, 200, 86_400_000),
            ("connect-wait", self.connect_wait, 1, 86_400),
            ("timeout", self.timeout, 1, 31_536_000),
        ])?;
        check_shares([("malformed", self.malformed, 1.0), ("fragmented", self.fragmented, 1.0)])?;
        Ok(())
    }

    pub(super) fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    /// How long the server may say nothing. One that is paused goes on with what it has, unless another
    /// connects meanwhile.
    pub(super) fn silence_max(&self) -> Duration {
        let Patience { answer_within, .. } = self.patience;
        let wait = Duration::from_secs(self.connect_wait).max(answer_within);
        if self.crashes { wait } else { answer_within }
    }

    /// What to type to have the same drill again: the seed, and everything that is not as usual.
    pub(super) fn reproduce(&self) -> String {
        let usual = Self::default();
        let mut words = Reproduce::new(self.seed);
        words.add("communications", self.communications, usual.communications);
        words.add("rate", self.rate, usual.rate);
        words.add("array", self.array, usual.array);
        words.add("parents", self.parents, usual.parents);
        words.add("children", self.children, usual.children);
        words.add("updates", self.updates, usual.updates);
        words.add("malformed", self.malformed, usual.malformed);
        words.add("fragmented", self.fragmented, usual.fragmented);
        words.add("drops", self.drops, usual.drops);
        words.add("closes", self.closes, usual.closes);
        words.add("stalls", self.stalls, usual.stalls);
        words.flag("crashes", self.crashes);
        words.add("window-ms", self.window_ms, usual.window_ms);
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
        let message = refused(Options { window_ms: 1, ..Options::default() });
        assert_eq!(message, "--window-ms 1: from 200 to 86400000 is allowed");
    }
}
