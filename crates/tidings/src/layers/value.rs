//! Parsers for single values. An error says what is allowed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A number that does not fit `N` is reported like one that is out of range.
pub(super) fn count<N: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<N, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
        format!("allowed is a whole number from {} to {}", range.start(), range.end())
    })
}

pub(super) fn bytes<N: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<N, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];
    let number = with_unit(text, &units).filter(|number| range.contains(number));
    number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
        let (from, to) = (range.start(), range.end());
        format!("allowed is a size from {from} to {to} bytes, such as 65536, 64KiB or 1MiB")
    })
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let milliseconds = with_unit(text, &units).filter(|ms| (1..=86_400_000).contains(ms));
    let milliseconds =
        milliseconds.ok_or("allowed is a time from 1ms to 24h, such as 500ms, 30s or 2m")?;
    Ok(Duration::from_millis(milliseconds))
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| unit.trim().eq_ignore_ascii_case(name))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "allowed are true and false".to_owned())
}

pub(super) fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(_) => Ok(text.to_owned()),
        None => {
            Err("allowed is HOST:PORT, such as 127.0.0.1:8088; port 0 takes a free one".to_owned())
        }
    }
}
