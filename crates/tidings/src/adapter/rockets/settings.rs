//! The settings of the rockets.

use tidings_core::machine::rockets::Limits;

use crate::layers::{Layers, Unusable};

/// The settings of the rockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The bounds of the machine.
    pub(super) limits: Limits,
    /// The longest type, mission or reason, in bytes.
    pub(super) text_bytes_max: usize,
}

impl Settings {
    pub(super) fn read(layers: &Layers) -> Result<Self, Unusable> {
        Ok(Self {
            limits: Limits {
                held_max: layers.count("rockets.held_max", 0..=u64::from(u32::MAX >> 1))?,
                held_total_max: layers.count("rockets.held_total_max", 0..=u64::MAX >> 1)?,
                channels_max: layers.count("rockets.channels_max", 1..=u64::from(u32::MAX >> 1))?,
            },
            text_bytes_max: layers.bytes("rockets.text_bytes_max", 1..=1 << 20)?,
        })
    }
}
