//! Reads single values. Each function says what is allowed when it cannot.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{LogFormat, TrafficReport};
use crate::service::Service;

pub(super) fn count(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!("allowed is a whole number from {} to {}", range.start(), range.end())
    })
}

pub(super) fn bytes(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];
    let number = with_unit(text, &units).filter(|number| range.contains(number));
    number.ok_or_else(|| {
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

pub(super) fn websocket(text: &str) -> Result<Option<String>, String> {
    let host = text.strip_prefix("ws://").or_else(|| text.strip_prefix("wss://"));
    let uri = text.parse::<axum::http::Uri>().ok().filter(|uri| uri.host().is_some());
    match (text, host, uri) {
        ("", ..) => Ok(None),
        (_, Some(_), Some(_)) => Ok(Some(text.to_owned())),
        _ => {
            Err("allowed is a URL that begins with ws:// or wss://, such as ws://127.0.0.1:5050/ws"
                .to_owned())
        }
    }
}

pub(super) fn nats(text: &str) -> Result<Vec<String>, String> {
    text.split(',')
        .filter(|url| !text.is_empty() || !url.is_empty())
        .map(|url| {
            let url = url.trim();
            let rest = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"));
            match rest {
                Some(host) if !host.is_empty() => Ok(url.to_owned()),
                Some(_) | None => {
                    Err("allowed are URLs that begin with nats:// or tls://, separated by \
                                   commas, such as nats://127.0.0.1:4222"
                        .to_owned())
                }
            }
        })
        .collect()
}

pub(super) fn stream(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("allowed are 1 to 64 letters, digits, - and _".to_owned())
    }
}

pub(super) fn traffic_report(text: &str) -> Result<TrafficReport, String> {
    match text {
        "plain" => Ok(TrafficReport::Plain),
        "full" => Ok(TrafficReport::Full),
        _ => Err("allowed are plain and full".to_owned()),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("allowed is the path of a folder".to_owned())
    } else {
        Ok(text.into())
    }
}

pub(super) fn services(text: &str) -> Result<Vec<Service>, String> {
    let names = || Service::ALL.map(Service::name).join(", ");
    let mut services = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        services.push(Service::named(name).ok_or_else(|| format!("allowed are {}", names()))?);
    }
    services.sort_unstable();
    services.dedup();
    Ok(if services.is_empty() { Service::ALL.to_vec() } else { services })
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("allowed are human and json".to_owned()),
    }
}

pub(super) fn log_level(text: &str) -> Result<String, String> {
    let filter = tracing_subscriber::EnvFilter::try_new(text);
    filter.map(|_| text.to_owned()).map_err(|_| {
        "allowed are error, warn, info, debug, trace, or a filter such as info,tidings_node=debug".to_owned()
    })
}
