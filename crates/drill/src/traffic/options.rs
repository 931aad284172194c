//! The options of a traffic drill. The defaults are those of the original upstream.

use std::time::Duration;

use serde::Serialize;

use crate::Patience;
use crate::options::{Common, defaults, share};

/// How to drill the traffic.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// How many communications are sent
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub communications: u64,
    /// How many a second; 0 for as fast as they are taken
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    pub rate: u64,
    /// How many in a frame: one alone, or an array of so many
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub array: u32,
    /// The same seed sends the same communications
    #[arg(long, default_value_t = 555, value_name = "N")]
    pub seed: u64,
    /// How many parents there are
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub parents: u32,
    /// How many children they have in the beginning
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub children: u32,
    /// How often a child comes (before or after its communications) or moves, meanwhile
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub updates: u32,
    /// The share of frames before which one that cannot be read is sent
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub malformed: f64,
    /// The share of frames that are sent in fragments, with a ping between them
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub fragmented: f64,
    /// How often the connection breaks
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub drops: u32,
    /// How often the connection is closed with a handshake, just before the end of a window
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub closes: u32,
    /// How often nothing is sent for 300 ms
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub stalls: u32,
    /// How long the server's windows are, in milliseconds
    #[arg(long, default_value_t = 2_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(200..=86_400_000))]
    pub window_ms: u64,
    /// Servers are killed or paused meanwhile, and another connects: what was under way then may be
    /// counted or not
    #[arg(long)]
    pub crashes: bool,
    /// How long the server may take to connect, and again, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub connect_wait: u64,
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
    pub(super) fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    /// How long the server may say nothing. One that is paused goes on with what it has, unless another
    /// connects meanwhile.
    pub(super) fn silence_max(&self) -> Duration {
        let Patience { answer_within, .. } = self.common.patience;
        let wait = Duration::from_secs(self.connect_wait).max(answer_within);
        if self.crashes { wait } else { answer_within }
    }
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::options::check;

    #[test]
    fn what_cannot_be_drilled_is_refused_with_the_name_of_the_flag() {
        assert!(check(&Options::default()).is_ok());
        let refused =
            check(&Options { window_ms: 1, ..Options::default() }).unwrap_err().to_string();
        assert_eq!(refused, "invalid value '1' for '--window-ms <MS>': 1 is not in 200..=86400000");
    }
}
