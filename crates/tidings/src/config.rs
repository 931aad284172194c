//! Every setting. `config/default.toml` is the list of them, their documentation and their defaults
//! at once: flags, environment variables and help are made from it, so they cannot drift apart.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tidings_core::machine::{chat, maze, rockets, tracker, traffic};

use crate::service::Service;

mod layers;
mod parse;

pub use layers::{Key, Layers, Source, keys};

/// A setting that cannot be used: which one, what was given and where, and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value:?} ({from}) is not usable: {allowed}")]
pub struct Unusable {
    /// The key, as in the file.
    pub key: String,
    /// What was given.
    pub value: String,
    /// Where it was given.
    pub from: String,
    /// What would be allowed.
    pub allowed: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// For programs: an object a line.
    Json,
}

/// The bounds of the HTTP side.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    /// Open connections.
    pub connections_max: usize,
    /// With more than this, answers close their connection.
    pub connections_busy: usize,
    /// How long a connection may be idle, or take to send a head.
    pub idle_timeout: Duration,
    /// The same for connections made while many are open.
    pub idle_timeout_busy: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// The largest single body.
    pub body_bytes_max: usize,
    /// The largest bulk body.
    pub bulk_bytes_max: usize,
    /// What all bulk bodies may take together.
    pub bulk_total_bytes_max: usize,
}

/// The log of a cluster.
#[derive(Clone, Debug)]
pub struct Nats {
    /// Where its servers are.
    pub servers: Vec<String>,
    /// The name of its stream.
    pub stream: String,
    /// On how many servers it is kept, when it is not for this program to say.
    pub replicas: Option<usize>,
    /// A file with the credentials of a user.
    pub credentials: Option<PathBuf>,
}

/// The bounds of the chat.
#[derive(Clone, Copy, Debug)]
pub struct Chat {
    /// The bounds of the machine.
    pub limits: chat::Limits,
    /// Text that one request is handed at most.
    pub take_bytes_max: usize,
}

/// What is said of a window upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficReport {
    /// An array of pairs and counts.
    Plain,
    /// With errors, rejections, and the start of the window.
    Full,
}

/// Where the traffic comes from, and its bounds.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Where to dial to, if anywhere.
    pub url: Option<String>,
    /// What is said of a window.
    pub report: TrafficReport,
    /// The bounds of the machine.
    pub limits: traffic::Limits,
    /// The largest frame.
    pub frame_bytes_max: usize,
    /// What frames have said is applied at once up to this much.
    pub feed_bytes_max: usize,
}

/// The addresses and the bounds of the maze.
#[derive(Clone, Debug)]
pub struct Maze {
    /// Where the source of events connects.
    pub source: String,
    /// Where user clients connect.
    pub clients: String,
    /// The bounds of the machine.
    pub limits: maze::Limits,
    /// Connections of user clients.
    pub clients_max: usize,
    /// How long a client may take to say who it is.
    pub handshake_wait: Duration,
    /// What may wait to be sent to one client.
    pub client_queue_bytes_max: usize,
    /// What may wait to be sent to all clients together.
    pub client_queues_bytes_max: usize,
    /// For how long, in all, one client may slow the source.
    pub slow_client_wait: Duration,
    /// What is read of the source at once.
    pub feed_bytes_max: usize,
}

/// The bounds of the tracker.
#[derive(Clone, Copy, Debug)]
pub struct Tracker {
    /// The bounds of the machine.
    pub limits: tracker::Limits,
    /// The most data of a message.
    pub data_bytes_max: usize,
}

/// Every setting, read and checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where HTTP is served.
    pub http: String,
    /// Where everything durable is kept; `None` for nowhere.
    pub data: Option<PathBuf>,
    /// The log of the cluster that this is a node of, if it is one.
    pub nats: Option<Nats>,
    /// The services to run.
    pub services: Vec<Service>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are.
    pub log_level: String,
    /// Threads that serve.
    pub workers: usize,
    /// How long stopping may take.
    pub shutdown_timeout: Duration,
    /// The bounds of the HTTP side.
    pub http_bounds: Http,
    /// The bounds of the node.
    pub node: tidings_node::Settings,
    /// The largest size of the log's file.
    pub log_bytes_max: Option<u64>,
    /// The bounds of rockets.
    pub rockets: rockets::Limits,
    /// The longest type, mission or reason of a rocket.
    pub rockets_text_bytes_max: usize,
    /// The bounds of the chat.
    pub chat: Chat,
    /// The addresses and the bounds of the maze.
    pub maze: Maze,
    /// Where the traffic comes from, and its bounds.
    pub traffic: Traffic,
    /// The bounds of the tracker.
    pub tracker: Tracker,
}

impl Settings {
    /// Reads and checks every setting.
    ///
    /// # Errors
    /// [`Unusable`] for the first one that is wrong.
    pub fn read(layers: &Layers) -> Result<Self, Unusable> {
        let count = |key, range| layers.take(key, |text| parse::count(text, range));
        let bytes = |key, range| layers.take(key, |text| parse::bytes(text, range));
        let time = |key| layers.take(key, parse::time);
        let whole =
            |key, range| bytes(key, range).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let number =
            |key, range| count(key, range).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let memory = layers.take("memory", parse::truth)?;
        let workers = number("workers", 0..=1024)?;
        Ok(Self {
            http: layers.take("http", parse::address)?,
            data: if memory { None } else { Some(layers.take("data", parse::path)?) },
            nats: Nats::read(layers, memory)?,
            services: layers.take("only", parse::services)?,
            log_format: layers.take("log_format", parse::log_format)?,
            log_level: layers.take("log_level", parse::log_level)?,
            workers: if workers == 0 { default_workers() } else { workers },
            shutdown_timeout: time("shutdown_timeout")?,
            http_bounds: Http {
                connections_max: number("http_connections_max", 1..=1_000_000)?,
                connections_busy: number("http_connections_busy", 1..=1_000_000)?,
                idle_timeout: time("http_idle_timeout")?,
                idle_timeout_busy: time("http_idle_timeout_busy")?,
                body_timeout: time("http_body_timeout")?,
                body_bytes_max: whole("http_body_bytes_max", 1..=1 << 30)?,
                bulk_bytes_max: whole("http_bulk_bytes_max", 1..=1 << 30)?,
                bulk_total_bytes_max: whole("http_bulk_total_bytes_max", 1..=u64::from(u32::MAX))?,
            },
            node: tidings_node::Settings {
                snapshot_log_bytes: bytes("snapshot_log_bytes", 1..=1 << 40)?,
                snapshot_on_stop: true,
                events_kept_max: number("events_kept_max", 1..=10_000_000)?,
                events_kept_bytes_max: whole("events_kept_bytes_max", 1..=1 << 40)?,
            },
            log_bytes_max: Some(bytes("log_bytes_max", 0..=1 << 50)?).filter(|bytes| *bytes > 0),
            rockets: rockets::Limits {
                held_max: narrow(count("rockets.held_max", 0..=u64::from(u32::MAX >> 1))?),
                held_total_max: count("rockets.held_total_max", 0..=u64::MAX >> 1)?,
                channels_max: narrow(count("rockets.channels_max", 1..=u64::from(u32::MAX >> 1))?),
            },
            rockets_text_bytes_max: whole("rockets.text_bytes_max", 1..=1 << 20)?,
            chat: Chat::read(layers)?,
            maze: Maze::read(layers)?,
            traffic: Traffic::read(layers)?,
            tracker: Tracker::read(layers)?,
        })
    }

    /// The defaults, with some settings given as `key`, `value`.
    ///
    /// # Errors
    /// [`Unusable`] for a key that does not exist or a value that is wrong.
    pub fn with(given: &[(&str, &str)]) -> Result<Self, Unusable> {
        let mut layers = Layers::defaults();
        for (key, value) in given {
            layers.set(key, (*value).to_owned(), Source::Code)?;
        }
        Self::read(&layers)
    }
}

impl Nats {
    fn read(layers: &Layers, memory: bool) -> Result<Option<Self>, Unusable> {
        let servers = layers.take("nats", |text| match parse::nats(text)? {
            servers if memory && !servers.is_empty() => {
                Err("allowed is nothing together with memory = true".to_owned())
            }
            servers => Ok(servers),
        })?;
        let replicas = layers.take("nats_replicas", |text| parse::count(text, 0..=5))?;
        let credentials = layers.take("nats_credentials", |text| Ok(PathBuf::from(text)))?;
        let nats = Self {
            servers,
            stream: layers.take("nats_stream", parse::stream)?,
            replicas: usize::try_from(replicas).ok().filter(|replicas| *replicas > 0),
            credentials: Some(credentials).filter(|path| !path.as_os_str().is_empty()),
        };
        Ok(Some(nats).filter(|nats| !nats.servers.is_empty()))
    }
}

impl Chat {
    fn read(layers: &Layers) -> Result<Self, Unusable> {
        let count = |key, range| layers.take(key, |text| parse::count(text, range));
        let bytes = |key, range| layers.take(key, |text| parse::bytes(text, range));
        let ms = |key| layers.take(key, parse::time).map(milliseconds);
        let take_bytes_max = bytes("chat.take_bytes_max", 1..=1 << 30)?;
        Ok(Self {
            limits: chat::Limits {
                unread_per_user_max: narrow(count(
                    "chat.unread_per_user_max",
                    1..=u64::from(u32::MAX >> 1),
                )?),
                unread_max: narrow(count("chat.unread_max", 1..=u64::from(u32::MAX >> 1))?),
                unread_bytes_max: bytes("chat.unread_bytes_max", 1..=1 << 40)?,
                keys_max: narrow(count("chat.keys_max", 0..=u64::from(u32::MAX >> 1))?),
                lease_ms_max: ms("chat.lease_max")?,
                put_back_ms_max: ms("chat.put_back_max")?,
                put_backs_max: narrow(count("chat.put_backs_max", 0..=u64::from(u32::MAX >> 1))?),
            },
            take_bytes_max: usize::try_from(take_bytes_max).unwrap_or(usize::MAX),
        })
    }
}

impl Maze {
    fn read(layers: &Layers) -> Result<Self, Unusable> {
        let count = |key, range| layers.take(key, |text| parse::count(text, range));
        let time = |key| layers.take(key, parse::time);
        let bytes = |key, range| {
            let bytes = layers.take(key, |text| parse::bytes(text, range));
            bytes.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        let gap_wait = time("maze.gap_wait")?;
        let clients_max = count("maze.clients_max", 1..=1_000_000)?;
        Ok(Self {
            source: layers.take("maze.source", parse::address)?,
            clients: layers.take("maze.clients", parse::address)?,
            limits: maze::Limits {
                held_max: narrow(count("maze.held_max", 1..=u64::from(u32::MAX >> 1))?),
                gap_wait_ms: milliseconds(gap_wait),
                users_max: narrow(count("maze.users_max", 1..=u64::from(u32::MAX >> 1))?),
                follows_max: count("maze.follows_max", 1..=u64::MAX >> 1)?,
                keep: layers.take("maze.keep", parse::truth)?,
            },
            clients_max: usize::try_from(clients_max).unwrap_or(usize::MAX),
            handshake_wait: time("maze.handshake_wait")?,
            client_queue_bytes_max: bytes("maze.client_queue_bytes_max", 1 << 10..=1 << 30)?,
            client_queues_bytes_max: bytes("maze.client_queues_bytes_max", 1 << 10..=1 << 40)?,
            slow_client_wait: time("maze.slow_client_wait")?,
            feed_bytes_max: bytes("maze.feed_bytes_max", 4 << 10..=64 << 20)?,
        })
    }
}

impl Traffic {
    fn read(layers: &Layers) -> Result<Self, Unusable> {
        let count = |key| {
            let range = 1..=u64::from(u32::MAX >> 1);
            layers.take(key, |text| parse::count(text, range)).map(narrow)
        };
        let bytes = |key, range| {
            let bytes = layers.take(key, |text| parse::bytes(text, range));
            bytes.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        Ok(Self {
            url: layers.take("traffic.url", parse::websocket)?,
            report: layers.take("traffic.report", parse::traffic_report)?,
            limits: traffic::Limits {
                window_ms: milliseconds(layers.take("traffic.window", parse::time)?),
                empty: layers.take("traffic.empty", parse::truth)?,
                children_max: count("traffic.children_max")?,
                parents_max: count("traffic.parents_max")?,
                pairs_max: count("traffic.pairs_max")?,
                held_max: count("traffic.held_max")?,
                reports_max: count("traffic.reports_max")?,
                report_rows_max: count("traffic.report_rows_max")?,
            },
            frame_bytes_max: bytes("traffic.frame_bytes_max", 1 << 10..=1 << 30)?,
            feed_bytes_max: bytes("traffic.feed_bytes_max", 4 << 10..=64 << 20)?,
        })
    }
}

impl Tracker {
    fn read(layers: &Layers) -> Result<Self, Unusable> {
        let count = |key, range| layers.take(key, |text| parse::count(text, range)).map(narrow);
        let bytes = |key, range| layers.take(key, |text| parse::bytes(text, range));
        let data_bytes_max = bytes("tracker.data_bytes_max", 1..=1 << 30)?;
        let capacity = count("tracker.capacity", 1..=1 << 28)?;
        // What all their counts take together is allocated in one piece: 24 GiB at most.
        let peers_max = 1024.min((1 << 30) / u64::from(capacity));
        Ok(Self {
            limits: tracker::Limits {
                capacity,
                bytes_max: bytes("tracker.bytes_max", 1..=1 << 40)?,
                peers_max: count("tracker.peers_max", 0..=peers_max)?,
            },
            data_bytes_max: usize::try_from(data_bytes_max).unwrap_or(usize::MAX),
        })
    }
}

/// The range was checked; a `u32` is what it fits.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

/// What a setting is called on the command line.
pub fn flag(key: &str) -> String {
    key.replace(['.', '_'], "-")
}

/// What a setting is called in the environment.
pub fn variable(key: &str) -> String {
    format!("TIDINGS_{}", key.replace('.', "_").to_uppercase())
}

/// The values of all keys.
type Values = BTreeMap<String, (String, Source)>;

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Variable(name) => write!(f, "from the environment variable {name}"),
            Self::Flag(name) => write!(f, "from --{name}"),
            Self::Code => f.write_str("from the program"),
        }
    }
}

#[cfg(test)]
mod tests;
