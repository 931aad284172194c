//! The log of a server: in a file, in the stream of a cluster, or none.

use std::path::Path;

use anyhow::Context as _;
use tidings_log::{JetStream, Log, Sqlite, jetstream, sqlite};
use tidings_node::{Builder, Node, Progress};

use crate::config::{Nats, Settings};

/// Starts a node over `log`, or over the one that the settings name.
///
/// # Errors
/// When the log cannot be opened or recovered from.
pub(super) async fn start(
    builder: Builder,
    log: Option<Box<dyn Log>>,
    settings: &Settings,
) -> anyhow::Result<Node> {
    if log.is_none() && settings.data.is_none() {
        return Ok(builder.start_in_memory());
    }
    let settings = settings.clone();
    // Recovery blocks on the disk or on the network.
    let open = move || match log {
        Some(log) => Ok(builder.start(log, log_progress)?),
        None => open(builder, &settings),
    };
    tokio::task::spawn_blocking(open).await?
}

/// Opens the log that the settings name, and starts a node over it.
fn open(builder: Builder, settings: &Settings) -> anyhow::Result<Node> {
    let data = settings.data.clone().unwrap_or_default();
    if let Some(nats) = &settings.nats {
        let log = open_stream(nats, &data, settings.log_bytes_max)?;
        return builder.start(Box::new(log), log_progress).with_context(|| {
            let stream = &nats.stream;
            format!("cannot go on from the stream {stream} and the snapshots in {}", data.display())
        });
    }
    let mut options = sqlite::Options::default();
    if let Some(bytes_max) = settings.log_bytes_max {
        options = options.bytes_max(bytes_max);
    }
    let log = Sqlite::open(&data, options);
    let log = log.with_context(|| format!("cannot open the log in {}", data.display()))?;
    builder.start(Box::new(log), log_progress).with_context(|| {
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
        let stream = &nats.stream;
        let servers = jetstream::shown(&nats.servers);
        format!("cannot open the log of the cluster, the stream {stream} on {servers}")
    })
}

/// Returns the options of the log of a cluster, from the settings.
pub(crate) fn options(nats: &Nats, data: &Path, bytes_max: Option<u64>) -> jetstream::Options {
    let mut options = jetstream::Options::new(&nats.servers, data);
    options.stream.clone_from(&nats.stream);
    options.replicas = nats.replicas;
    options.bytes_max = bytes_max;
    options.credentials.clone_from(&nats.credentials);
    options
}

/// Logs how far a recovery is.
fn log_progress(progress: Progress) {
    let Progress { done, total, entries, elapsed } = progress;
    tracing::info!("recovering: {done} of {total} batches, {entries} messages, {elapsed:.1?}");
}
