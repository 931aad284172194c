//! The settings of the chat.

use tidings_core::machine::chat::Limits;

use crate::layers::{Layers, Unusable};

/// The settings of the chat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The bounds of the machine.
    pub(super) limits: Limits,
    /// The most text that one request is handed, in bytes.
    pub(super) take_bytes_max: usize,
}

impl Settings {
    pub(super) fn read(layers: &Layers) -> Result<Self, Unusable> {
        const COUNT_MAX: u64 = (u32::MAX >> 1) as u64;
        Ok(Self {
            limits: Limits {
                unread_per_user_max: layers.count("chat.unread_per_user_max", 1..=COUNT_MAX)?,
                unread_max: layers.count("chat.unread_max", 1..=COUNT_MAX)?,
                unread_bytes_max: layers.bytes("chat.unread_bytes_max", 1..=1 << 40)?,
                keys_max: layers.count("chat.keys_max", 0..=COUNT_MAX)?,
                lease_ms_max: layers.time_ms("chat.lease_max")?,
                put_back_ms_max: layers.time_ms("chat.put_back_max")?,
                put_backs_max: layers.count("chat.put_backs_max", 0..=COUNT_MAX)?,
            },
            take_bytes_max: layers.bytes("chat.take_bytes_max", 1..=1 << 30)?,
        })
    }
}
