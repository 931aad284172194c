//! How long a drill waits for a server that is away: for one answer, and for any sign of life.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The longest time that can be given.
const TIME_MAX: Duration = Duration::from_secs(86_400);

/// How long a drill waits, with the flags that say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Patience {
    /// How long an answer may take; then the call is made again at the next target, or its outcome
    /// is unknown
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    pub answer_within: Duration,
    /// How long no call at all may succeed while some are made; then the drill fails
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = time)]
    pub give_up_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer_within: Duration::from_secs(10), give_up_after: Duration::from_secs(60) }
    }
}

/// Reads `500ms`, `10s`, `2m` or a number of seconds.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match text.get(digits.len()..) {
        Some("ms") => Some(1),
        Some("s" | "") => Some(1_000),
        Some("m") => Some(60_000),
        Some(_) | None => None,
    };
    let number: Option<u64> = digits.parse().ok();
    let time = number.zip(unit_ms).and_then(|(number, unit_ms)| number.checked_mul(unit_ms));
    let allowed = |time: &Duration| !time.is_zero() && *time <= TIME_MAX;
    let time = time.map(Duration::from_millis).filter(allowed);
    time.ok_or_else(|| "expected a time from 1ms to 1440m, such as 500ms, 10s or 2m".to_owned())
}

/// Ends what takes too long, for a caller of thousands of calls a second: its timer is set anew only
/// when it has rung, so a call costs no timer of its own.
#[derive(Debug)]
pub(crate) struct Alarm(Pin<Box<Sleep>>);

impl Default for Alarm {
    fn default() -> Self {
        Self(Box::pin(tokio::time::sleep(Duration::ZERO)))
    }
}

impl Alarm {
    /// What comes of this, or `None` if that is not known at this time.
    pub(crate) async fn until<T>(
        &mut self,
        due: Instant,
        awaited: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(awaited);
        if self.0.deadline() > due {
            self.0.as_mut().reset(due);
        }
        loop {
            tokio::select! {
                biased;
                come = &mut awaited => return Some(come),
                () = &mut self.0 => {
                    if Instant::now() >= due {
                        return None;
                    }
                    self.0.as_mut().reset(due);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::defaults;

    #[test]
    fn no_flags_give_the_defaults() {
        assert_eq!(defaults::<Patience>(), Patience::default());
    }

    #[test]
    fn times_are_read_with_their_units_and_nothing_else_is_one() {
        for (text, ms) in
            [("1ms", 1), ("500ms", 500), ("10s", 10_000), ("7", 7_000), ("2m", 120_000)]
        {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)));
        }
        for wrong in ["", "s", "0s", "-1s", "1.5s", "1h", "1441m", "99999999999999999999s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_at_its_time_and_not_for_what_came_before() {
        let (mut alarm, begun) = (Alarm::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(alarm.until(begun + 3 * second, async { 7 }).await, Some(7));
        let slow = async |time| tokio::time::sleep(time).await;
        assert_eq!(alarm.until(begun + 3 * second, slow(2 * second)).await, Some(()));
        assert_eq!(alarm.until(Instant::now() + second, slow(2 * second)).await, None);
        assert_eq!(begun.elapsed(), 3 * second);
        // The timer was set for later than this.
        assert_eq!(alarm.until(Instant::now() + 9 * second, slow(second)).await, Some(()));
        assert_eq!(alarm.until(Instant::now() + second, slow(5 * second)).await, None);
        assert_eq!(begun.elapsed().as_secs(), 5);
    }
}
