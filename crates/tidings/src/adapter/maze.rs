//! The maze over TCP: a source of events, and many user clients.
//!
//! ```text
//!   source ──▶ feed ──▶ machine ── tap ──▶ queue of each client ──▶ its writer ──▶ client
//!      ▲                                        │
//!      └───────── waits while one is full ◀─────┘
//! ```
//! `source` reads in large pieces and cuts them at line ends. The machine reads the lines and says
//! whom each is for; its notifications go, by the node's tap, straight into the byte queue of each
//! client that is connected (`registry`), and `client` swaps such a queue out whole and writes it.
//! So the work for an event is a few copies, and everything else is done once for thousands.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anyhow::Context;
use tidings_core::machine::maze::{Command, Maze};
use tidings_node::{Handle, Leases, Refused};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config;
use crate::telemetry::Complaint;
use crate::wire::http::accept;
use registry::{Bounds, Registry};

mod client;
mod http;
mod intake;
mod nodes;
mod registry;
mod source;
mod tap;

pub(crate) use nodes::LEASE;
pub(crate) use tap::Outlet;

/// The ports, taken before the log is read: clients wait in the listen queue meanwhile.
pub(crate) struct Listeners {
    source: TcpListener,
    clients: TcpListener,
}

impl Listeners {
    /// Takes the ports.
    pub(crate) fn bind(settings: &config::Maze) -> anyhow::Result<Self> {
        let bind = |address: &str, key: &str| {
            accept::bind(address)
                .with_context(|| format!("cannot listen on {address} (setting {key})"))
        };
        Ok(Self {
            source: bind(&settings.source, "maze.source")?,
            clients: bind(&settings.clients, "maze.clients")?,
        })
    }

    /// Where the source and the clients connect.
    pub(crate) fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.source.local_addr()?, self.clients.local_addr()?))
    }
}

/// What the tasks of the adapter share.
struct Shared {
    settings: config::Maze,
    machine: Handle<Maze>,
    registry: Arc<Registry>,
    outside: tap::Outside,
    leases: Leases,
    /// Names this life of the node, where it holds the source.
    name: u64,
    /// Whether there is a log, that can be full.
    durable: bool,
    /// Take nothing new.
    stop: watch::Receiver<bool>,
    /// All is delivered: clients are to be written what waits for them, and closed.
    ending: watch::Sender<bool>,
    source_connected: AtomicBool,
    sources_refused: AtomicU64,
    /// Clients that have not yet said who they are.
    handshakes: AtomicUsize,
    /// Clients that did not say who they are.
    refused: AtomicU64,
    rates: http::Rates,
    accept_complaint: Complaint,
    room_complaint: Complaint,
}

/// The adapter, for its routes and metrics.
pub(crate) struct Adapter(Arc<Shared>);

/// Makes the outlet that the machine is to be tapped with.
pub(crate) fn outlet(settings: &config::Maze) -> Outlet {
    let bounds = Bounds {
        queue_bytes_max: settings.client_queue_bytes_max,
        queues_bytes_max: settings.client_queues_bytes_max,
        slow_wait: settings.slow_client_wait,
    };
    Outlet::new(Arc::new(Registry::new(bounds)))
}

impl Adapter {
    /// Whether the source is connected to this node.
    pub(crate) fn is_holder(&self) -> bool {
        self.0.source_connected.load(Ordering::Relaxed)
    }

    /// Brings the machine's bounds in line with the settings, and gives up a source that was
    /// connected when the last process ended.
    pub(crate) async fn start(
        machine: Handle<Maze>,
        outside: &tap::Outside,
        leases: Leases,
        settings: config::Maze,
        durable: bool,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, Refused> {
        if machine.read(|machine| machine.limits() != settings.limits) {
            super::settle(&machine, Command::Configure(settings.limits)).await?;
        }
        if leases.is_shared() {
            // A source may be connected to another node: see `nodes`.
            outside.elsewhere.store(true, Ordering::Relaxed);
        } else if let Some(source) = machine.read(Maze::source) {
            machine.propose(Command::Abandon { source }).await?;
        }
        machine.begin_ticking();
        Ok(Self(Arc::new(Shared {
            settings,
            machine,
            registry: Arc::clone(&outside.registry),
            outside: outside.clone(),
            leases,
            name: RandomState::new().hash_one(0),
            durable,
            stop,
            ending: watch::Sender::new(false),
            source_connected: AtomicBool::new(false),
            sources_refused: AtomicU64::new(0),
            handshakes: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            rates: http::Rates::default(),
            accept_complaint: Complaint::new("connections cannot be accepted"),
            room_complaint: Complaint::new("the source waits: the log takes nothing"),
        })))
    }

    /// Serves until told to stop. The task ends when the last source is closed and flushed and
    /// every client has been written what was for it.
    pub(crate) fn serve(&self, listeners: Listeners) -> JoinHandle<()> {
        raise_descriptors();
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let clients = tokio::spawn(client::serve(listeners.clients, Arc::clone(&shared)));
            let beside = tokio::spawn(beside(Arc::clone(&shared)));
            let rating = tokio::spawn(http::rate(Arc::clone(&shared)));
            source::serve(listeners.source, Arc::clone(&shared)).await;
            shared.ending.send_replace(true);
            beside.abort();
            rating.abort();
            // It panics with the task, which is told elsewhere.
            drop(clients.await);
        })
    }
}

/// What there is to do beside the source and the clients.
async fn beside(shared: Arc<Shared>) {
    let failed = if shared.leases.is_shared() {
        tokio::try_join!(pace(&shared), nodes::care(&shared), nodes::hold_back(&shared)).map(drop)
    } else {
        pace(&shared).await
    };
    if let Err(why) = failed {
        tracing::error!(%why, "what is due cannot be released");
    }
}

/// Releases, as the clients have room, what a tick had to leave.
async fn pace(shared: &Shared) -> Result<(), Refused> {
    loop {
        shared.outside.more.notified().await;
        // While a source is connected its node does this.
        let elsewhere = shared.outside.elsewhere.load(Ordering::Relaxed);
        if !elsewhere || shared.machine.read(|machine| machine.connected().is_none()) {
            source::release(shared).await?;
        }
    }
}

/// Lets this process have as many connections as it may.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // If it may not after all, accepting will say so.
        let _refused = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}
