//! The bounds of the HTTP side, read from the settings.

use std::time::Duration;

use crate::layers::{Layers, Unusable};

/// The bounds of the HTTP side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Open connections.
    pub(crate) connections_max: usize,
    /// With more open connections than this, answers close their connection.
    pub(crate) connections_busy: usize,
    /// How long a connection may be idle, or take to send a head.
    pub(crate) idle_timeout: Duration,
    /// The same for connections made while more than `connections_busy` are open.
    pub(crate) idle_timeout_busy: Duration,
    /// How long a body may take to arrive.
    pub(crate) body_timeout: Duration,
    /// The largest single body.
    pub(crate) body_bytes_max: usize,
    /// The largest bulk body.
    pub(crate) bulk_bytes_max: usize,
    /// The memory that all bulk bodies together may take.
    pub(crate) bulk_total_bytes_max: usize,
}

impl Bounds {
    pub(crate) fn read(layers: &Layers) -> Result<Self, Unusable> {
        Ok(Self {
            connections_max: layers.count("http_connections_max", 1..=1_000_000)?,
            connections_busy: layers.count("http_connections_busy", 1..=1_000_000)?,
            idle_timeout: layers.time("http_idle_timeout")?,
            idle_timeout_busy: layers.time("http_idle_timeout_busy")?,
            body_timeout: layers.time("http_body_timeout")?,
            body_bytes_max: layers.bytes("http_body_bytes_max", 1..=1 << 30)?,
            bulk_bytes_max: layers.bytes("http_bulk_bytes_max", 1..=1 << 30)?,
            bulk_total_bytes_max: layers.bytes("http_bulk_total_bytes_max", 1..=u32::MAX.into())?,
        })
    }
}
