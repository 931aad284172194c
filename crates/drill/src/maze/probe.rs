//! How long it takes from the writing of an event to the arrival of its notification: one sample at
//! a time, so that it costs nothing. Under full load this is how much the server has before it.

use std::time::Instant;

use crate::verdict::Latency;

/// The sample under way.
#[derive(Debug)]
struct Sample {
    /// Who must receive it, and where in everything it must receive it ends.
    client: usize,
    position: u64,
    /// Where in everything that is written it ends.
    written_bytes: u64,
    /// When it had been written.
    written: Option<Instant>,
}

/// Takes samples one after the other.
#[derive(Debug, Default)]
pub(super) struct Probe {
    sample: Option<Sample>,
    pub(super) latency: Latency,
}

impl Probe {
    /// A notification for this client was made, if no sample is under way.
    pub(super) fn set(&mut self, client: usize, position: u64, written_bytes: u64) {
        if self.sample.is_none() {
            self.sample = Some(Sample { client, position, written_bytes, written: None });
        }
    }

    /// So much has been written in all.
    pub(super) fn written(&mut self, bytes: u64) {
        if let Some(sample) = &mut self.sample
            && sample.written.is_none()
            && bytes >= sample.written_bytes
        {
            sample.written = Some(Instant::now());
        }
    }

    /// So far a client has received everything.
    pub(super) fn received(&mut self, client: usize, position: u64, now: Instant) {
        let reached = |sample: &mut Sample| sample.client == client && position >= sample.position;
        let written = self.sample.take_if(reached).and_then(|sample| sample.written);
        if let Some(written) = written {
            self.latency.record(now.duration_since(written));
        }
    }
}
