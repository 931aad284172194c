//! Every setting. `config/default.toml` is the list of them, their documentation and their defaults at once: flags,
//! environment variables and help are made from it, so they cannot drift apart.
//!
//! Here are the settings of HTTP, node and log. A service's settings are with its adapter.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::contract::Configured;
use crate::service::Service;
use crate::telemetry::{self, LogFormat};
use crate::wire::http;

pub use crate::layers::{Key, Layers, Source, Unusable, flag, keys, variable};

/// The log of a cluster.
#[derive(Clone, Debug)]
pub struct Nats {
    /// The URLs of its servers.
    pub servers: Vec<String>,
    /// The name of its stream.
    pub stream: String,
    /// On how many servers the stream is kept. `None` keeps what the stream has.
    pub replicas: Option<usize>,
    /// A file with the credentials of a user.
    pub credentials: Option<PathBuf>,
}

/// Every setting, read and checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What these settings were read from.
    layers: Layers,
    /// Where HTTP is served.
    pub http: String,
    /// Where everything durable is kept. `None` keeps everything in memory.
    pub data: Option<PathBuf>,
    /// The log of the cluster that this server is a node of, if it is one.
    pub nats: Option<Nats>,
    /// The services to serve.
    pub only: Vec<Service>,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// Which log lines are written.
    pub log_level: String,
    /// Threads that serve.
    pub workers: usize,
    /// How long stopping may take.
    pub shutdown_timeout: Duration,
    /// The bounds of the HTTP side.
    pub(crate) http_bounds: http::Bounds,
    /// The bounds of the node.
    pub node: tidings_node::Settings,
    /// The largest size of the log's file.
    pub log_bytes_max: Option<u64>,
    /// The settings of every service.
    pub(crate) services: Vec<(Service, Arc<dyn Configured>)>,
}

impl Settings {
    /// Reads and checks every setting.
    ///
    /// # Errors
    /// [`Unusable`] for the first setting that is wrong.
    pub fn read(layers: &Layers) -> Result<Self, Unusable> {
        let memory = layers.truth("memory")?;
        let workers = layers.count("workers", 0..=1024)?;
        let services = |service: Service| Ok((service, service.configure(layers)?));
        Ok(Self {
            layers: layers.clone(),
            http: layers.address("http")?,
            data: if memory { None } else { Some(layers.read("data", path)?) },
            nats: Nats::read(layers, memory)?,
            only: layers.read("only", only)?,
            log_format: layers.read("log_format", LogFormat::parse)?,
            log_level: layers.read("log_level", telemetry::check_level)?,
            workers: if workers == 0 { default_workers() } else { workers },
            shutdown_timeout: layers.time("shutdown_timeout")?,
            http_bounds: http::Bounds::read(layers)?,
            node: tidings_node::Settings {
                snapshot_log_bytes: layers.bytes("snapshot_log_bytes", 1..=1 << 40)?,
                snapshot_on_stop: true,
                events_kept_max: layers.count("events_kept_max", 1..=10_000_000)?,
                events_kept_bytes_max: layers.bytes("events_kept_bytes_max", 1..=1 << 40)?,
            },
            log_bytes_max: Some(layers.bytes("log_bytes_max", 0..=1 << 50)?)
                .filter(|bytes| *bytes > 0),
            services: Service::ALL.into_iter().map(services).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the defaults, with some settings given as key and value.
    ///
    /// # Errors
    /// [`Unusable`] for a key that does not exist or a value that is wrong.
    pub fn with(given: &[(&str, &str)]) -> Result<Self, Unusable> {
        Self::overridden(
            Layers::defaults(),
            given.iter().map(|(key, value)| (*key, (*value).to_owned())),
        )
    }

    /// Returns the same settings with other addresses: a port 0 becomes the port that was taken.
    ///
    /// # Errors
    /// [`Unusable`] for a key that does not exist or a value that is wrong.
    pub(crate) fn with_addresses(
        &self,
        bound: &[(&'static str, std::net::SocketAddr)],
    ) -> Result<Self, Unusable> {
        let values = bound.iter().map(|(key, address)| (*key, address.to_string()));
        Self::overridden(self.layers.clone(), values)
    }

    fn overridden<'a>(
        mut layers: Layers,
        values: impl Iterator<Item = (&'a str, String)>,
    ) -> Result<Self, Unusable> {
        for (key, value) in values {
            layers.set(key, value, Source::Code)?;
        }
        Self::read(&layers)
    }
}

impl Nats {
    fn read(layers: &Layers, memory: bool) -> Result<Option<Self>, Unusable> {
        let servers = layers.read("nats", |text| match urls(text)? {
            servers if memory && !servers.is_empty() => {
                Err("allowed is nothing together with memory = true".to_owned())
            }
            servers => Ok(servers),
        })?;
        let replicas = layers.count("nats_replicas", 0..=5)?;
        let credentials = layers.read("nats_credentials", |text| Ok(PathBuf::from(text)))?;
        let nats = Self {
            servers,
            stream: layers.read("nats_stream", stream)?,
            replicas: Some(replicas).filter(|replicas| *replicas > 0),
            credentials: Some(credentials).filter(|path| !path.as_os_str().is_empty()),
        };
        Ok(Some(nats).filter(|nats| !nats.servers.is_empty()))
    }
}

fn urls(text: &str) -> Result<Vec<String>, String> {
    let url = |url: &str| {
        let host = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"));
        let url = host.filter(|host| !host.is_empty()).map(|_| url.to_owned());
        url.ok_or_else(|| {
            "allowed are URLs that begin with nats:// or tls://, separated by commas, such as \
             nats://127.0.0.1:4222"
                .to_owned()
        })
    };
    if text.is_empty() { Ok(Vec::new()) } else { text.split(',').map(str::trim).map(url).collect() }
}

fn stream(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("allowed are 1 to 64 letters, digits, - and _".to_owned())
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("allowed is the path of a folder".to_owned())
    } else {
        Ok(text.into())
    }
}

/// Reads the services to serve. None means all.
fn only(text: &str) -> Result<Vec<Service>, String> {
    let mut services = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let named = Service::named(name);
        let allowed = || format!("allowed are {}", Service::ALL.map(Service::name).join(", "));
        services.push(named.ok_or_else(allowed)?);
    }
    services.sort_unstable();
    services.dedup();
    Ok(if services.is_empty() { Service::ALL.to_vec() } else { services })
}

/// One core is left to the thread that owns the log.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

#[cfg(test)]
mod tests;
