//! The maze over TCP: a source of events, and many user clients.
//!
//! ```text
//!   source ──▶ feed ──▶ machine ── tap ──▶ queue of each client ──▶ its writer ──▶ client
//!      ▲                                        │
//!      └────────── backpressure ◀───────────────┘
//! ```
//! `source` reads in large pieces and cuts them at line ends. The machine parses the lines and decides whom each is for. The
//! node's tap puts the notifications straight into the byte queue of each connected client (`registry`), and `client` swaps a
//! queue out whole and writes it. So an event costs a few copies, and everything else is done once for thousands of events.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tidings_core::machine::maze::{Command, Maze};
use tidings_node::{Builder, Handle, Leases, Refused};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use utoipa_axum::router::OpenApiRouter;

use crate::contract::{Context, Machine, Service};
use crate::layers::{Layers, Unusable};
use crate::telemetry::Complaint;
use crate::wire::metrics::Text;
use registry::{Bounds, Registry};
use settings::Settings;
use tap::Outlet;

mod client;
mod feed;
mod http;
mod intake;
mod nodes;
mod registry;
mod settings;
mod source;
mod tap;

/// What the routes and the tasks share.
pub(crate) struct Adapter {
    settings: Settings,
    machine: Handle<Maze>,
    registry: Arc<Registry>,
    outside: tap::Outside,
    leases: Leases,
    /// The name under which this run of the node pauses the source.
    name: u64,
    /// Becomes true when nothing new is to be taken.
    stop: watch::Receiver<bool>,
    /// Becomes true when everything is delivered: clients are written what is queued for them, and closed.
    ending: watch::Sender<bool>,
    source_connected: AtomicBool,
    sources_refused: AtomicU64,
    /// Clients that have not sent their id yet.
    handshakes: AtomicUsize,
    /// Clients that did not send a valid id in time.
    refused: AtomicU64,
    rates: http::Rates,
    room_complaint: Complaint,
}

impl Service for Adapter {
    const ABOUT: &str = "Numbered events over TCP, put in order and routed along a follower graph";
    type Settings = Settings;
    type Installed = (Handle<Maze>, tap::Outside);

    fn settings(layers: &Layers) -> Result<Settings, Unusable> {
        Settings::read(layers)
    }

    fn addresses(settings: &Settings) -> Vec<(&'static str, &str)> {
        vec![(settings::SOURCE, &settings.source), (settings::CLIENTS, &settings.clients)]
    }

    fn install(settings: &Settings, machine: Machine, builder: &mut Builder) -> Self::Installed {
        let bounds = Bounds {
            queue_bytes_max: settings.client_queue_bytes_max,
            queues_bytes_max: settings.client_queues_bytes_max,
            slow_wait: settings.slow_client_wait,
        };
        let outlet = Outlet::new(Arc::new(Registry::new(bounds)));
        let outside = outlet.outside();
        let maze = Maze::new(settings.limits);
        (builder.add_tapped(machine.id, machine.name, maze, outlet), outside)
    }

    /// Closes a source that was connected when the last process ended, too.
    async fn start(
        (machine, outside): Self::Installed,
        settings: Settings,
        Context { leases, stop, .. }: Context,
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
        machine.resume_ticks();
        Ok(Self {
            settings,
            machine,
            registry: Arc::clone(&outside.registry),
            outside,
            leases,
            name: RandomState::new().hash_one(0),
            stop,
            ending: watch::Sender::new(false),
            source_connected: AtomicBool::new(false),
            sources_refused: AtomicU64::new(0),
            handshakes: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            rates: http::Rates::default(),
            room_complaint: Complaint::new("the source waits: the log takes nothing"),
        })
    }

    fn routes(self: &Arc<Self>) -> OpenApiRouter {
        http::routes(Arc::clone(self))
    }

    /// The task ends when the last source is closed and flushed and every client has been written what was queued for it.
    fn spawn(self: &Arc<Self>, ports: Vec<TcpListener>) -> Vec<JoinHandle<()>> {
        let Ok([source, clients]) = <[TcpListener; 2]>::try_from(ports) else { return Vec::new() };
        vec![tokio::spawn(serve(Arc::clone(self), source, clients))]
    }

    fn lease(&self) -> Option<(&'static str, bool)> {
        Some((nodes::LEASE, self.source_connected.load(Ordering::Relaxed)))
    }

    fn metrics(&self, out: &mut Text) {
        http::metrics(self, out);
    }
}

async fn serve(adapter: Arc<Adapter>, source: TcpListener, clients: TcpListener) {
    let clients = tokio::spawn(client::serve(clients, Arc::clone(&adapter)));
    let upkeep = tokio::spawn(upkeep(Arc::clone(&adapter)));
    let rating = tokio::spawn(http::rate(Arc::clone(&adapter)));
    source::serve(source, Arc::clone(&adapter)).await;
    adapter.ending.send_replace(true);
    upkeep.abort();
    rating.abort();
    // It ends early only by a panic, which has been reported.
    drop(clients.await);
}

/// Runs what belongs neither to the source nor to a client.
async fn upkeep(adapter: Arc<Adapter>) {
    let failed = if adapter.leases.is_shared() {
        tokio::try_join!(
            pace(&adapter),
            nodes::close_orphans(&adapter),
            nodes::pause_remote_source(&adapter)
        )
        .map(drop)
    } else {
        pace(&adapter).await
    };
    if let Err(why) = failed {
        tracing::error!(%why, "events that are due cannot be released");
    }
}

/// Releases the events that a tick had to leave, as the clients have room.
async fn pace(adapter: &Adapter) -> Result<(), Refused> {
    loop {
        adapter.outside.more.notified().await;
        // While a source is connected, its node does this.
        let elsewhere = adapter.outside.elsewhere.load(Ordering::Relaxed);
        if !elsewhere || adapter.machine.read(|machine| machine.connected().is_none()) {
            feed::release(adapter).await?;
        }
    }
}
