//! The latency from the writing of an event to the arrival of its notification, one sample at a time, so that
//! it costs next to nothing. Under full load it is the queue inside the server that dominates it.

use std::time::Instant;

use crate::verdict::Latency;

/// The sample in progress.
#[derive(Debug)]
struct Sample {
    /// The client that must receive it, and the position in all its expected bytes at which it ends.
    client: usize,
    position: u64,
    /// The position in all written bytes at which it ends.
    written_bytes: u64,
    /// When it was written completely.
    written: Option<Instant>,
}

/// Takes samples one after the other.
#[derive(Debug, Default)]
pub(super) struct Probe {
    sample: Option<Sample>,
    pub(super) latency: Latency,
}

impl Probe {
    /// Starts a sample with a notification for this client, unless one is in progress.
    pub(super) fn set(&mut self, client: usize, position: u64, written_bytes: u64) {
        if self.sample.is_none() {
            self.sample = Some(Sample { client, position, written_bytes, written: None });
        }
    }

    /// Reports the number of bytes written so far.
    pub(super) fn written(&mut self, bytes: u64) {
        if let Some(sample) = &mut self.sample
            && sample.written.is_none()
            && bytes >= sample.written_bytes
        {
            sample.written = Some(Instant::now());
        }
    }

    /// Reports that a client has received everything up to a position.
    pub(super) fn received(&mut self, client: usize, position: u64, now: Instant) {
        let reached = |sample: &mut Sample| sample.client == client && position >= sample.position;
        let written = self.sample.take_if(reached).and_then(|sample| sample.written);
        if let Some(written) = written {
            self.latency.record(now.duration_since(written));
        }
    }
}
