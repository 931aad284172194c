//! The options of a maze drill. The defaults are those of the known test program.

use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::options::{Common, defaults, half, share};

/// Which events there are, and how dense the follow graph is.
///
/// Both hold 15 % follows, 15 % unfollows and 15 % private messages; the rest are status updates and
/// broadcasts. Unfollows mostly undo a follow that stands, and follows and unfollows are steered
/// towards a number of followers a user, so that the notifications an event do not depend on the
/// length of the stream; until the graph has that size, status updates are follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// 0.01 % broadcasts, 1.27 followers a user: 0.11 notifications an event with 100 clients of
    /// 1,000 users, as the known test program has them
    Light,
    /// 1 % broadcasts, 76 followers a user: 4.7 notifications an event with 100 clients of 1,000
    /// users
    Heavy,
}

impl Mix {
    /// Broadcasts in ten thousand events.
    pub(super) fn broadcasts(self) -> u64 {
        match self {
            Self::Light => 1,
            Self::Heavy => 100,
        }
    }

    /// How many followers a user has, in hundredths.
    pub(super) fn followers_hundredths(self) -> u64 {
        match self {
            Self::Light => 127,
            Self::Heavy => 7_600,
        }
    }
}

/// How to drill the maze.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// How many events there are over all sources
    #[arg(long, default_value_t = 10_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub events: u64,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 666, value_name = "N")]
    pub seed: u64,
    /// How many users the events speak of
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub users: u32,
    /// How many clients connect, as users chosen by the seed; beyond the number of users, several
    /// claim the same id
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub clients: u32,
    /// Events are shuffled within batches of so many; 1 sends in order
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: u32,
    /// Which events there are
    #[arg(long, value_enum, default_value_t = Mix::Light)]
    pub mix: Mix,
    /// The share of events that are sent again, a little later
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub duplicates: f64,
    /// For each event, the chance of a malformed line before it; as many events end in \r\n
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub malformed: f64,
    /// The share of numbers that never come
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = half)]
    pub gaps: f64,
    /// How many clients read nothing (every second one of these: slowly)
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub slow: u32,
    /// A server may die and cut its clients off: what such a client got until then must be the exact
    /// beginning of what it must receive, and all others must receive everything
    #[arg(long)]
    pub cuts_allowed: bool,
    /// How many clients leave and return in mid-stream, three times
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub returning: u32,
    /// How often the source dies in mid-stream; the next one starts at 1
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub dying_sources: u32,
    /// Bytes per write; 0 is as many as fit
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub chunk: u32,
    /// End every line in \r\n
    #[arg(long)]
    pub crlf: bool,
    /// How long a client gets to be registered where GET /maze cannot be asked, in milliseconds
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub settle_ms: u64,
    /// How long nothing more may come in the end, in milliseconds
    #[arg(long, default_value_t = 200, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub quiet_ms: u64,
    /// How long nothing may move while something is to come, in milliseconds; then the drill fails
    #[arg(long, default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub stall_ms: u64,
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
        let clients = self.clients;
        let events = self.events;
        for (option, value, max) in [
            ("slow", u64::from(self.slow), u64::from(clients)),
            ("returning", u64::from(self.returning), u64::from(clients.saturating_sub(self.slow))),
            ("dying-sources", u64::from(self.dying_sources), events.saturating_sub(1)),
        ] {
            if value > max {
                return Err(Error::Options {
                    option,
                    why: format!("at most {max} is allowed here"),
                });
            }
        }
        Ok(())
    }

    pub(super) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }

    pub(super) fn quiet(&self) -> Duration {
        Duration::from_millis(self.quiet_ms)
    }

    pub(super) fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::{Mix, Options};
    use crate::options::{check, reproduce};

    #[test]
    fn what_cannot_be_drilled_is_refused_with_the_name_of_the_flag() {
        assert!(check(&Options::default()).is_ok());
        let refused = |options: Options| check(&options).unwrap_err().to_string();
        let message = refused(Options { users: 1, ..Options::default() });
        assert_eq!(message, "invalid value '1' for '--users <N>': 1 is not in 2..=100000");
        let message = refused(Options { gaps: 0.75, ..Options::default() });
        let expected =
            "invalid value '0.75' for '--gaps <SHARE>': a share from 0.0 to 0.5 is allowed";
        assert_eq!(message, expected);
        let contradicting = Options { slow: 60, returning: 50, ..Options::default() };
        let message = contradicting.check().unwrap_err().to_string();
        assert_eq!(message, "--returning: at most 40 is allowed here");
    }

    #[test]
    fn the_same_drill_again_needs_only_what_is_not_usual() {
        let options = Options { seed: 7, mix: Mix::Heavy, crlf: true, ..Options::default() };
        assert_eq!(reproduce(&options, options.seed), "seed 7 --crlf --mix heavy");
    }
}
