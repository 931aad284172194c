//! What a drill of the chat can be told, with its defaults.

use std::time::Duration;

use super::Error;
use super::judge::Tolerance;
use crate::Patience;
use crate::options::{Reproduce, check_ranges, check_shares, without_flags};

/// How many unread messages a user may have, less some: users are drawn, not counted off.
const UNREAD_MAX: u64 = 9_000;

/// How to drill the chat.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many messages are posted
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub messages: u32,
    /// The same seed posts the same messages
    #[arg(long, default_value_t = 444, value_name = "N")]
    pub seed: u64,
    /// How many users they are for
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub users: u32,
    /// How many connections post at the same time
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub writers: u32,
    /// How many connections read at the same time; with 0, everything is read in the end
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub readers: u32,
    /// How long a text is, in bytes
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub text_bytes: u32,
    /// The share of messages that expire soon
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub expiring: f64,
    /// The longest timeout of those; the shortest is 0
    #[arg(long, default_value_t = 1, value_name = "SECONDS")]
    pub expiring_seconds: u32,
    /// The share of messages with an idempotency key; each is posted twice, some a third time with other
    /// content
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub keyed: f64,
    /// The share of takes that go to the user whom another reader has just gone to
    #[arg(long, default_value_t = 0.3, value_name = "SHARE")]
    pub races: f64,
    /// The share of takes with a limit
    #[arg(long, default_value_t = 0.2, value_name = "SHARE")]
    pub limited: f64,
    /// The highest limit
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub limit_max: u32,
    /// The share of takes that wait for a message
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub waiting: f64,
    /// How long they wait
    #[arg(long, default_value_t = 1, value_name = "SECONDS")]
    pub wait_seconds: u32,
    /// The share of takes with a lease
    #[arg(long, default_value_t = 0.2, value_name = "SHARE")]
    pub leased: f64,
    /// How long the lease is
    #[arg(long, default_value_t = 1, value_name = "SECONDS")]
    pub lease_seconds: u32,
    /// The share of messages taken with a lease that are acknowledged; the leases of the others run out
    #[arg(long, default_value_t = 0.7, value_name = "SHARE")]
    pub acknowledged: f64,
    /// The share of takes that only look
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    pub peeking: f64,
    /// Only post and take, for measuring: all shares are 0
    #[arg(long)]
    pub plain: bool,
    /// The server is killed and started again meanwhile: calls without an answer are no failure
    #[arg(long)]
    pub crashes: bool,
    /// By how much the server's clock may be off, in milliseconds
    #[arg(long, default_value_t = 50, value_name = "MS")]
    pub clock_ms: u64,
    /// For how long after an answer was late, or unknown to the server, the call may still have an
    /// effect, in seconds: as long as a server may be paused, or its log silent
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub late_seconds: u64,
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
        let unread_max = match self.readers {
            0 => u64::from(self.users).saturating_mul(UNREAD_MAX),
            _ => u64::MAX,
        };
        check_ranges([
            ("users", u64::from(self.users), 1, 1_000_000),
            ("messages", u64::from(self.messages), 1, unread_max.min(10_000_000)),
            ("writers", u64::from(self.writers), 1, 10_000),
            ("readers", u64::from(self.readers), 0, 10_000),
            ("text-bytes", u64::from(self.text_bytes), 0, 65_536),
            ("expiring-seconds", u64::from(self.expiring_seconds), 0, 3_600),
            ("limit-max", u64::from(self.limit_max), 1, 10_000),
            ("wait-seconds", u64::from(self.wait_seconds), 1, 60),
            ("lease-seconds", u64::from(self.lease_seconds), 1, 3_600),
            ("clock-ms", self.clock_ms, 2, 60_000),
            ("late-seconds", self.late_seconds, 0, 3_600),
            ("retry-ms", self.retry_ms, 1, 3_600_000),
            ("timeout", self.timeout, 1, 31_536_000),
        ])?;
        let shares = [
            ("expiring", self.expiring),
            ("keyed", self.keyed),
            ("races", self.races),
            ("limited", self.limited),
            ("waiting", self.waiting),
            ("leased", self.leased),
            ("acknowledged", self.acknowledged),
            ("peeking", self.peeking),
        ];
        Ok(check_shares(shares.map(|(name, share)| (name, share, 1.0)))?)
    }

    /// With every share as it is meant.
    pub(super) fn effective(&self) -> Self {
        let shares_kept = if self.plain { 0.0 } else { 1.0 };
        Self {
            expiring: self.expiring * shares_kept,
            keyed: self.keyed * shares_kept,
            races: self.races * shares_kept,
            limited: self.limited * shares_kept,
            waiting: self.waiting * shares_kept,
            leased: self.leased * shares_kept,
            peeking: self.peeking * shares_kept,
            ..self.clone()
        }
    }

    pub(super) fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    /// How exactly the answers of so many servers are judged.
    pub(super) fn tolerance(&self, servers: usize) -> Tolerance {
        Tolerance {
            clock: Duration::from_millis(self.clock_ms),
            late: Duration::from_secs(self.late_seconds),
            replicas: servers > 1,
            ..Tolerance::default()
        }
    }

    /// How long after the load, and after calls of unknown outcome can have had their effect, all leases
    /// have run out, and all that expire soon have expired.
    pub(super) fn settle(&self) -> Duration {
        let lease = if self.leased > 0.0 { self.lease_seconds } else { 0 };
        let expiring = if self.expiring > 0.0 { self.expiring_seconds } else { 0 };
        let seconds = lease.max(expiring);
        let seconds = Duration::from_secs(seconds.into());
        if seconds.is_zero() { seconds } else { seconds + 2 * Duration::from_millis(self.clock_ms) }
    }

    /// What to type to have the same drill again: the seed, and everything that is not as usual.
    pub(super) fn reproduce(&self) -> String {
        let usual = Self::default();
        let mut words = Reproduce::new(self.seed);
        words.add("messages", self.messages, usual.messages);
        words.add("users", self.users, usual.users);
        words.add("writers", self.writers, usual.writers);
        words.add("readers", self.readers, usual.readers);
        words.add("text-bytes", self.text_bytes, usual.text_bytes);
        words.add("expiring", self.expiring, usual.expiring);
        words.add("expiring-seconds", self.expiring_seconds, usual.expiring_seconds);
        words.add("keyed", self.keyed, usual.keyed);
        words.add("races", self.races, usual.races);
        words.add("limited", self.limited, usual.limited);
        words.add("limit-max", self.limit_max, usual.limit_max);
        words.add("waiting", self.waiting, usual.waiting);
        words.add("wait-seconds", self.wait_seconds, usual.wait_seconds);
        words.add("leased", self.leased, usual.leased);
        words.add("lease-seconds", self.lease_seconds, usual.lease_seconds);
        words.add("acknowledged", self.acknowledged, usual.acknowledged);
        words.add("peeking", self.peeking, usual.peeking);
        words.flag("plain", self.plain);
        words.flag("crashes", self.crashes);
        words.add("clock-ms", self.clock_ms, usual.clock_ms);
        words.add("late-seconds", self.late_seconds, usual.late_seconds);
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
        let message = refused(Options { users: 0, ..Options::default() });
        assert_eq!(message, "--users 0: from 1 to 1000000 is allowed");
        let message = refused(Options { leased: -0.5, ..Options::default() });
        assert_eq!(message, "--leased -0.5: a share from 0.0 to 1.0 is allowed");
    }

    #[test]
    fn without_readers_no_inbox_may_overflow() {
        let options = Options { readers: 0, users: 10, messages: 90_001, ..Options::default() };
        let message = options.check().unwrap_err().to_string();
        assert_eq!(message, "--messages 90001: from 1 to 90000 is allowed");
    }

    #[test]
    fn the_same_drill_again_needs_only_what_is_not_usual() {
        let options = Options { seed: 7, leased: 0.5, plain: true, ..Options::default() };
        assert_eq!(options.reproduce(), "seed 7 --leased 0.5 --plain");
    }
}
