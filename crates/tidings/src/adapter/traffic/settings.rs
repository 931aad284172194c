//! The settings of the traffic.

use tidings_core::machine::traffic::Limits;

use crate::layers::{Layers, Unusable};

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// An array of pairs and counts.
    Plain,
    /// With errors, rejections, and the start of the window.
    Full,
}

/// The settings of the traffic.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The WebSocket to dial, if any.
    pub(super) url: Option<String>,
    /// The format of reports.
    pub(super) format: Format,
    /// The bounds of the machine.
    pub(super) limits: Limits,
    /// The largest frame.
    pub(super) frame_bytes_max: usize,
    /// How many bytes of records are applied at once.
    pub(super) feed_bytes_max: usize,
}

impl Settings {
    pub(super) fn read(layers: &Layers) -> Result<Self, Unusable> {
        let count = |key| layers.count(key, 1..=u64::from(u32::MAX >> 1));
        Ok(Self {
            url: layers.read("traffic.url", websocket)?,
            format: layers.read("traffic.report", format)?,
            limits: Limits {
                window_ms: layers.time_ms("traffic.window")?,
                empty: layers.truth("traffic.empty")?,
                children_max: count("traffic.children_max")?,
                parents_max: count("traffic.parents_max")?,
                pairs_max: count("traffic.pairs_max")?,
                held_max: count("traffic.held_max")?,
                reports_max: count("traffic.reports_max")?,
                report_rows_max: count("traffic.report_rows_max")?,
            },
            frame_bytes_max: layers.bytes("traffic.frame_bytes_max", 1 << 10..=1 << 30)?,
            feed_bytes_max: layers.bytes("traffic.feed_bytes_max", 4 << 10..=64 << 20)?,
        })
    }
}

fn websocket(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let scheme = text.starts_with("ws://") || text.starts_with("wss://");
    let has_host = text.parse::<axum::http::Uri>().is_ok_and(|uri| uri.host().is_some());
    if scheme && has_host {
        return Ok(Some(text.to_owned()));
    }
    let allowed =
        "allowed is a URL that begins with ws:// or wss://, such as ws://127.0.0.1:5050/ws";
    Err(allowed.to_owned())
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "plain" => Ok(Format::Plain),
        "full" => Ok(Format::Full),
        _ => Err("allowed are plain and full".to_owned()),
    }
}
