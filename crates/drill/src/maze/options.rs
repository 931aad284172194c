//! What a drill of the maze can be told, with its defaults: what the known test program does.

use std::time::Duration;

use super::Error;
use crate::options::{Reproduce, check_ranges, check_shares, without_flags};

/// Which events there are, and how dense the follow graph is.
///
/// Both hold 15 % follows, 15 % unfollows and 15 % private messages; the rest are status updates and
/// broadcasts. Unfollows mostly undo a follow that stands, and follows and unfollows are steered
/// towards a number of followers a user, so that the notifications an event do not depend on the
/// length of the stream; until the graph has that size, status updates are follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
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

    fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Heavy => "heavy",
        }
    }
}

/// How to drill the maze.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many events there are over all sources
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    pub events: u64,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 666, value_name = "N")]
    pub seed: u64,
    /// How many users the events speak of
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub users: u32,
    /// How many clients connect, as users chosen by the seed; beyond the number of users, several
    /// claim the same id
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub clients: u32,
    /// Events are shuffled within batches of so many; 1 sends in order
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub batch: u32,
    /// Which events there are
    #[arg(long, value_enum, default_value_t = Mix::Light)]
    pub mix: Mix,
    /// The share of events that are sent again, a little later
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub duplicates: f64,
    /// For each event, the chance of a malformed line before it; as many events end in \r\n
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub malformed: f64,
    /// The share of numbers that never come
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
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
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub dying_sources: u32,
    /// Bytes per write; 0 is as many as fit
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub chunk: u32,
    /// End every line in \r\n
    #[arg(long)]
    pub crlf: bool,
    /// How long a client gets to be registered where GET /maze cannot be asked, in milliseconds
    #[arg(long, default_value_t = 500, value_name = "MS")]
    pub settle_ms: u64,
    /// How long nothing more may come in the end, in milliseconds
    #[arg(long, default_value_t = 200, value_name = "MS")]
    pub quiet_ms: u64,
    /// How long nothing may move while something is to come, in milliseconds; then the drill fails
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    pub stall_ms: u64,
    /// How long the drill may take in all, in seconds; then it fails
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub timeout: u64,
}

impl Default for Options {
    fn default() -> Self {
        without_flags()
    }
}

impl Options {
    /// Whether the drill can be done.
    pub(super) fn check(&self) -> Result<(), Error> {
        let clients = u64::from(self.clients);
        let ranges = [
            ("events", self.events, 1, 1_000_000_000),
            ("users", u64::from(self.users), 2, 100_000),
            ("clients", clients, 1, 20_000),
            ("batch", u64::from(self.batch), 1, 100_000),
            ("slow", u64::from(self.slow), 0, clients),
            (
                "returning",
                u64::from(self.returning),
                0,
                clients - u64::from(self.slow).min(clients),
            ),
            (
                "dying-sources",
                u64::from(self.dying_sources),
                0,
                self.events.saturating_sub(1).min(1_000),
            ),
            ("settle-ms", self.settle_ms, 0, 60_000),
            ("quiet-ms", self.quiet_ms, 0, 60_000),
            ("stall-ms", self.stall_ms, 1, 3_600_000),
            ("timeout", self.timeout, 1, 31_536_000),
        ];
        check_ranges(ranges)?;
        let shares = [
            ("duplicates", self.duplicates, 1.0),
            ("malformed", self.malformed, 1.0),
            ("gaps", self.gaps, 0.5),
        ];
        check_shares(shares)?;
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

    /// What to type to have the same drill again: the seed, and everything that is not as usual.
    pub(super) fn reproduce(&self) -> String {
        let usual = Self::default();
        let mut words = Reproduce::new(self.seed);
        words.add("events", self.events, usual.events);
        words.add("users", self.users, usual.users);
        words.add("clients", self.clients, usual.clients);
        words.add("batch", self.batch, usual.batch);
        words.add("mix", self.mix.name(), usual.mix.name());
        words.add("duplicates", self.duplicates, usual.duplicates);
        words.add("malformed", self.malformed, usual.malformed);
        words.add("gaps", self.gaps, usual.gaps);
        words.add("slow", self.slow, usual.slow);
        words.add("returning", self.returning, usual.returning);
        words.add("dying-sources", self.dying_sources, usual.dying_sources);
        words.add("chunk", self.chunk, usual.chunk);
        words.add("settle-ms", self.settle_ms, usual.settle_ms);
        words.add("quiet-ms", self.quiet_ms, usual.quiet_ms);
        words.add("stall-ms", self.stall_ms, usual.stall_ms);
        words.flag("cuts-allowed", self.cuts_allowed);
        words.flag("crlf", self.crlf);
        words.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Mix, Options};

    #[test]
    fn what_cannot_be_drilled_is_refused_with_the_name_of_the_flag() {
        assert!(Options::default().check().is_ok());
        let refused = |options: Options| options.check().unwrap_err().to_string();
        let message = refused(Options { users: 1, ..Options::default() });
        assert_eq!(message, "--users 1: from 2 to 100000 is allowed");
        let message = refused(Options { slow: 60, returning: 50, ..Options::default() });
        assert_eq!(message, "--returning 50: from 0 to 40 is allowed");
        let message = refused(Options { gaps: 0.75, ..Options::default() });
        assert_eq!(message, "--gaps 0.75: a share from 0.0 to 0.5 is allowed");
        let none = Options { events: 0, ..Options::default() };
        assert_eq!(refused(none), "--events 0: from 1 to 1000000000 is allowed");
    }

    #[test]
    fn the_same_drill_again_needs_only_what_is_not_usual() {
        let options = Options { seed: 7, mix: Mix::Heavy, crlf: true, ..Options::default() };
        assert_eq!(options.reproduce(), "seed 7 --mix heavy --crlf");
    }
}
