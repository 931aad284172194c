//! The settings of the tracker.

use tidings_core::machine::tracker::Limits;

use crate::layers::{Layers, Unusable};

/// The counters of all relays are allocated in one piece: at most this many, 24 GiB.
const RELAYS_MAX: u64 = 1 << 30;

/// The settings of the tracker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The bounds of the machine.
    pub(super) limits: Limits,
    /// The most data of a message, in bytes.
    pub(super) data_bytes_max: usize,
}

impl Settings {
    pub(super) fn read(layers: &Layers) -> Result<Self, Unusable> {
        let capacity: u32 = layers.count("tracker.capacity", 1..=1 << 28)?;
        let peers_max = 1024.min(RELAYS_MAX / u64::from(capacity));
        Ok(Self {
            limits: Limits {
                capacity,
                bytes_max: layers.bytes("tracker.bytes_max", 1..=1 << 40)?,
                peers_max: layers.count("tracker.peers_max", 0..=peers_max)?,
            },
            data_bytes_max: layers.bytes("tracker.data_bytes_max", 1..=1 << 30)?,
        })
    }
}
