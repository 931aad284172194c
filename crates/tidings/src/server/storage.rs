//! Where a server's log is: in a file, or in the stream of a cluster.

use std::path::Path;

use anyhow::Context as _;
use tidings_log::{JetStream, Sqlite, jetstream, sqlite};
use tidings_node::{Builder, Node, Progress};

use crate::config::{Nats, Settings};

/// Opens the log that the settings name, and starts a node over it.
pub(super) fn open(builder: Builder, settings: &Settings) -> anyhow::Result<Node> {
    let data = settings.data.clone().unwrap_or_default();
    if let Some(nats) = &settings.nats {
        let log = open_stream(nats, &data, settings.log_bytes_max)?;
        return builder.start(Box::new(log), progress).with_context(|| {
            let Nats { stream, .. } = nats;
            format!("cannot go on from the stream {stream} and the snapshots in {}", data.display())
        });
    }
    let options = settings.log_bytes_max;
    let options = options
        .map_or_else(sqlite::Options::default, |max| sqlite::Options::default().bytes_max(max));
    let log = Sqlite::open(&data, options);
    let log = log.with_context(|| format!("cannot open the log in {}", data.display()))?;
    builder.start(Box::new(log), progress).with_context(|| {
        let data = data.display();
        format!(
            "cannot recover from the log in {data}; `tidings log check --data {data}` says more"
        )
    })
}

/// Opens the log of a cluster.
fn open_stream(nats: &Nats, data: &Path, bytes_max: Option<u64>) -> anyhow::Result<JetStream> {
    let options = options(nats, data, bytes_max);
    JetStream::open(options).with_context(|| {
        let (stream, servers) = (&nats.stream, jetstream::shown(&nats.servers));
        format!("cannot open the log of the cluster, the stream {stream} on {servers}")
    })
}

/// What the settings say of the log of a cluster.
pub(crate) fn options(nats: &Nats, data: &Path, bytes_max: Option<u64>) -> jetstream::Options {
    let mut options = jetstream::Options::new(&nats.servers, data);
    options.stream.clone_from(&nats.stream);
    options.replicas = nats.replicas;
    options.bytes_max = bytes_max;
    options.credentials.clone_from(&nats.credentials);
    options
}

/// Tells how far a recovery is.
pub(super) fn progress(progress: Progress) {
    let Progress { done, total, entries, elapsed } = progress;
    tracing::info!("recovering: {done} of {total} batches, {entries} messages, {elapsed:.1?}");
}
