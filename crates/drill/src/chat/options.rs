//! The options of a chat drill, with their defaults and ranges.

use std::time::Duration;

use serde::Serialize;

use super::judge::Tolerance;
use crate::error::Error;
use crate::options::{Common, defaults, share};

/// How many unread messages a user may have, less some: users are drawn, not counted off.
const UNREAD_MAX: u64 = 9_000;

/// How to drill the chat.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// How many messages are posted
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub messages: u32,
    /// The same seed posts the same messages
    #[arg(long, default_value_t = 444, value_name = "N")]
    pub seed: u64,
    /// How many users they are for
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,
    /// How many connections post at the same time
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub writers: u32,
    /// How many connections read at the same time; with 0, everything is read in the end
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub readers: u32,
    /// How long a text is, in bytes
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub text_bytes: u32,
    /// The share of messages that expire soon
    #[arg(long, default_value_t = 0.1, value_name = "SHARE", value_parser = share)]
    pub expiring: f64,
    /// The longest timeout of those; the shortest is 0
    #[arg(long, default_value_t = 1, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub expiring_seconds: u32,
    /// The share of messages with an idempotency key; each is posted twice, some a third time with other
    /// content
    #[arg(long, default_value_t = 0.1, value_name = "SHARE", value_parser = share)]
    pub keyed: f64,
    /// The share of takes that go to the user whom another reader has just gone to
    #[arg(long, default_value_t = 0.3, value_name = "SHARE", value_parser = share)]
    pub races: f64,
    /// The share of takes with a limit
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", value_parser = share)]
    pub limited: f64,
    /// The highest limit
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit_max: u32,
    /// The share of takes that wait for a message
    #[arg(long, default_value_t = 0.1, value_name = "SHARE", value_parser = share)]
    pub waiting: f64,
    /// How long they wait
    #[arg(long, default_value_t = 1, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=60))]
    pub wait_seconds: u32,
    /// The share of takes with a lease
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", value_parser = share)]
    pub leased: f64,
    /// How long the lease is
    #[arg(long, default_value_t = 1, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub lease_seconds: u32,
    /// The share of messages taken with a lease that are acknowledged; the leases of the others run out
    #[arg(long, default_value_t = 0.7, value_name = "SHARE", value_parser = share)]
    pub acknowledged: f64,
    /// The share of takes that only look
    #[arg(long, default_value_t = 0.05, value_name = "SHARE", value_parser = share)]
    pub peeking: f64,
    /// Only post and take, for measuring: all shares are 0
    #[arg(long)]
    pub plain: bool,
    /// The server is killed and started again meanwhile: calls without an answer are no failure
    #[arg(long)]
    pub crashes: bool,
    /// By how much the server's clock may be off, in milliseconds
    #[arg(long, default_value_t = 50, value_name = "MS", value_parser = clap::value_parser!(u64).range(2..=60_000))]
    pub clock_ms: u64,
    /// For how long after an answer was late, or unknown to the server, the call may still have an
    /// effect, in seconds: as long as a server may be paused, or its log silent
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub late_seconds: u64,
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
    /// Checks what the ranges of the flags do not say.
    pub(super) fn check(&self) -> Result<(), Error> {
        let unread_max = u64::from(self.users).saturating_mul(UNREAD_MAX);
        if self.readers == 0 && u64::from(self.messages) > unread_max {
            let why =
                format!("without readers at most {unread_max} is allowed, or inboxes overflow");
            return Err(Error::Options { option: "messages", why });
        }
        Ok(())
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
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::options::{check, reproduce};

    #[test]
    fn what_cannot_be_drilled_is_refused_with_the_name_of_the_flag() {
        assert!(check(&Options::default()).is_ok());
        let refused = |options: Options| check(&options).unwrap_err().to_string();
        let message = refused(Options { users: 0, ..Options::default() });
        assert_eq!(message, "invalid value '0' for '--users <N>': 0 is not in 1..=1000000");
        let message = refused(Options { leased: -0.5, ..Options::default() });
        let expected =
            "invalid value '-0.5' for '--leased <SHARE>': a share from 0.0 to 1.0 is allowed";
        assert_eq!(message, expected);
    }

    #[test]
    fn without_readers_no_inbox_may_overflow() {
        let options = Options { readers: 0, users: 10, messages: 90_001, ..Options::default() };
        let message = options.check().unwrap_err().to_string();
        assert_eq!(
            message,
            "--messages: without readers at most 90000 is allowed, or inboxes overflow"
        );
    }

    #[test]
    fn the_same_drill_again_needs_only_what_is_not_usual() {
        let options = Options { seed: 7, leased: 0.5, plain: true, ..Options::default() };
        assert_eq!(reproduce(&options, options.seed), "seed 7 --leased 0.5 --plain");
    }
}
