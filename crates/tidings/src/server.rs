//! Puts the parts together: listeners, log, node, adapters. Started by `tidings serve`, by drills
//! that bring their own server, and by tests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use tidings_core::machine::chat::Chat;
use tidings_core::machine::maze::Maze;
use tidings_core::machine::rockets::Rockets;
use tidings_core::machine::tracker::Tracker;
use tidings_core::machine::traffic::Traffic;
use tidings_log::Log;
use tidings_node::{Builder, Fatal, Node};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::adapter::{chat, maze, rockets, tracker, traffic};
use crate::config::Settings;
use crate::service::Service;
use crate::wire::http::{Problem, accept};

mod digest;
mod health;
mod routes;
mod storage;

pub(crate) use storage::options as stream_options;

/// Stopping the node may take this long beyond what the connections were given.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1500);

/// A running server.
pub struct Server {
    http: SocketAddr,
    maze: Option<(SocketAddr, SocketAddr)>,
    parts: Arc<Parts>,
    /// Tells listeners, connections and streams to end.
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    /// Serve the maze and the traffic, if they are served.
    serving: Vec<JoinHandle<()>>,
    shutdown_timeout: Duration,
}

/// What the routes need of the server.
pub(crate) struct Parts {
    node: OnceLock<Node>,
    rockets: OnceLock<Arc<rockets::Adapter>>,
    chat: OnceLock<Arc<chat::Adapter>>,
    maze: OnceLock<maze::Adapter>,
    traffic: OnceLock<traffic::Adapter>,
    tracker: OnceLock<Arc<tracker::Adapter>>,
    connections: Arc<accept::Counters>,
    /// How many servers this one has followed in its process.
    rebuilt: AtomicU64,
}

impl Parts {
    fn new(connections: Arc<accept::Counters>) -> Self {
        let (node, rockets, chat) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (maze, traffic, tracker) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let rebuilt = AtomicU64::new(0);
        Self { node, rockets, chat, maze, traffic, tracker, connections, rebuilt }
    }
}

/// A server that has its ports, but has not recovered.
pub struct Bound {
    server: Server,
    settings: Settings,
    gate: Arc<accept::Gate>,
    /// The ports of the maze, if it is served.
    maze: Option<maze::Listeners>,
}

impl Server {
    /// Takes the ports and answers on them: until [`Bound::recover`] is done, with 503.
    ///
    /// # Errors
    /// When a port cannot be taken; the message names it.
    pub fn bind(settings: Settings) -> anyhow::Result<Bound> {
        let listener = accept::bind(&settings.http)
            .with_context(|| format!("cannot listen on {} (setting http)", settings.http))?;
        let http = listener.local_addr()?;
        let listeners = settings.services.contains(&Service::Maze);
        let listeners = listeners.then(|| maze::Listeners::bind(&settings.maze)).transpose()?;
        let maze = listeners.as_ref().map(maze::Listeners::addresses).transpose()?;
        let connections = Arc::<accept::Counters>::default();
        let parts = Arc::new(Parts::new(Arc::clone(&connections)));
        let gate = Arc::new(accept::Gate::closed(routes::starting()));
        let (stop, stopped) = watch::channel(false);
        let bounds = settings.http_bounds;
        let serve = accept::serve(listener, Arc::clone(&gate), bounds, connections, stopped);
        let accepting = tokio::spawn(serve);
        let shutdown_timeout = settings.shutdown_timeout;
        let server =
            Self { http, maze, parts, stop, accepting, serving: Vec::new(), shutdown_timeout };
        Ok(Bound { server, settings, gate, maze: listeners })
    }

    /// Takes the ports, recovers, and serves.
    ///
    /// # Errors
    /// As [`Server::bind`] and [`Bound::recover`].
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        Self::bind(settings)?.recover().await
    }

    /// The same over a log that is there already, in the place of the one in the settings.
    ///
    /// # Errors
    /// As [`Server::bind`] and [`Bound::recover`].
    pub async fn start_over(settings: Settings, log: Box<dyn Log>) -> anyhow::Result<Self> {
        Self::bind(settings)?.recover_from(log).await
    }

    /// Where HTTP is served.
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where the source and the user clients of the maze connect, if it is served.
    pub const fn maze(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.maze
    }

    /// Waits until the log has failed and says why. Stop the server then; another one may take its place
    /// if it only was behind ([`Fatal::is_behind`]).
    pub async fn failed(&self) -> Arc<Fatal> {
        match self.parts.node.get() {
            Some(node) => node.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Stops taking new work, finishes and answers what was accepted, flushes.
    ///
    /// # Errors
    /// When that took longer than allowed, or the log had failed. What was answered is safe either
    /// way.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let all = async {
            let serving = async {
                for serving in self.serving {
                    serving.await?;
                }
                Ok(())
            };
            let (accepting, serving) = tokio::join!(self.accepting, serving);
            accepting.and(serving)
        };
        let finished = tokio::time::timeout(self.shutdown_timeout, all).await;
        let node = self.parts.node.get();
        if let Some(node) = node {
            let flushed = tokio::time::timeout(FLUSH_TIMEOUT, node.stop()).await;
            let stopped = flushed.context("the last snapshot took too long and was left out")?;
            stopped.map_err(anyhow::Error::msg)?;
        }
        finished.context("some connections did not finish in time")??;
        Ok(())
    }
}

impl Bound {
    /// Where HTTP is served.
    pub const fn http(&self) -> SocketAddr {
        self.server.http
    }

    /// Where the source and the user clients of the maze connect, if it is served.
    pub const fn maze(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.server.maze
    }

    /// Says in `/metrics` that this server follows so many that were behind ([`Fatal::is_behind`]).
    #[must_use]
    pub fn rebuilt(self, times: u64) -> Self {
        self.server.parts.rebuilt.store(times, Ordering::Relaxed);
        self
    }

    /// Restores what the log holds and opens the gate.
    ///
    /// # Errors
    /// When the log cannot be opened or read; the message says where it is damaged.
    pub async fn recover(self) -> anyhow::Result<Server> {
        self.recover_over(None).await
    }

    /// The same from a log that is open already, whatever the settings say of where it is.
    ///
    /// # Errors
    /// As [`Bound::recover`].
    pub async fn recover_from(self, log: Box<dyn Log>) -> anyhow::Result<Server> {
        self.recover_over(Some(log)).await
    }

    async fn recover_over(self, log: Option<Box<dyn Log>>) -> anyhow::Result<Server> {
        let durable = log.is_some() || self.settings.data.is_some();
        let Self { mut server, settings, gate, maze } = self;
        let begun = Instant::now();
        let mut builder = Builder::new(settings.node);
        let name = Service::Rockets.name();
        let machine = builder.add(Service::Rockets.machine(), name, Rockets::default());
        let waiters = Arc::default();
        let (id, name) = (Service::Chat.machine(), Service::Chat.name());
        let outlet = chat::Outlet(Arc::clone(&waiters));
        let chats = builder.add_tapped(id, name, Chat::new(settings.chat.limits), outlet);
        let outlet = maze::outlet(&settings.maze);
        let outside = outlet.outside();
        let (id, name) = (Service::Maze.machine(), Service::Maze.name());
        let mazes = builder.add_tapped(id, name, Maze::new(settings.maze.limits), outlet);
        let (id, name) = (Service::Traffic.machine(), Service::Traffic.name());
        let traffics = builder.add(id, name, Traffic::new(settings.traffic.limits));
        let (id, name) = (Service::Tracker.machine(), Service::Tracker.name());
        let trackers = builder.add(id, name, Tracker::new(settings.tracker.limits));
        let node = match (log, &settings.data) {
            (None, None) => builder.start_in_memory(),
            (log, _) => {
                let settings = settings.clone();
                let open = move || match log {
                    Some(log) => Ok(builder.start(log, storage::progress)?),
                    None => storage::open(builder, &settings),
                };
                tokio::task::spawn_blocking(open).await??
            }
        };
        let leases = node.leases().clone();
        let stats = node.stats();
        let replayed = stats.replayed;
        server.parts.node.get_or_init(|| node);
        // Machines run whatever is served: what stands in the log is never skipped.
        let adapter = rockets::Adapter::start(
            machine,
            settings.rockets,
            settings.rockets_text_bytes_max,
            settings.http_bounds,
            server.stop.subscribe(),
        );
        let adapter = adapter.await.context("the settings cannot be stored")?;
        let rockets = server.parts.rockets.get_or_init(|| adapter);
        let (bounds, stop) = (settings.http_bounds, server.stop.subscribe());
        let adapter = chat::Adapter::start(chats, waiters, settings.chat, bounds, stop).await;
        let adapter = adapter.context("the settings cannot be stored")?;
        let chats = server.parts.chat.get_or_init(|| adapter);
        let stop = server.stop.subscribe();
        let adapter =
            maze::Adapter::start(mazes, &outside, leases.clone(), settings.maze, durable, stop);
        let adapter = adapter.await;
        let adapter = adapter.context("the settings cannot be stored")?;
        let mazes = server.parts.maze.get_or_init(|| adapter);
        server.serving.extend(maze.map(|listeners| mazes.serve(listeners)));
        let (lease, stop) = (leases.lease(traffic::LEASE), server.stop.subscribe());
        let adapter = traffic::Adapter::start(traffics, lease, settings.traffic, durable, stop);
        let adapter = adapter.await;
        let adapter = adapter.context("the settings cannot be stored")?;
        let traffics = server.parts.traffic.get_or_init(|| adapter);
        let adapter = tracker::Adapter::start(trackers, settings.tracker, bounds).await;
        let adapter = adapter.context("the settings cannot be stored")?;
        let trackers = server.parts.tracker.get_or_init(|| adapter);
        let (mut api, mut hot) = (routes::common(&server.parts), Vec::new());
        for service in &settings.services {
            match service {
                Service::Rockets => {
                    api = api.merge(Arc::clone(rockets).routes());
                    hot.push(rockets.hot_routes());
                }
                Service::Chat => {
                    api = api.merge(Arc::clone(chats).routes());
                    hot.push(chats.hot_routes());
                }
                Service::Maze => api = api.merge(mazes.routes()),
                Service::Traffic => {
                    api = api.merge(traffics.routes());
                    server.serving.extend(traffics.serve());
                }
                Service::Tracker => {
                    api = api.merge(Arc::clone(trackers).routes());
                    hot.push(trackers.hot_routes());
                }
            }
        }
        let barrier = barrier(&server.parts);
        gate.open(accept::Routes { hot, router: routes::finish(api), barrier });
        let (elapsed, position) = (begun.elapsed(), stats.position);
        tracing::info!(
            "ready after {elapsed:.1?}: {replayed} messages replayed, log at {position}"
        );
        Ok(server)
    }
}

/// What a request that asks for a strong answer waits for.
fn barrier(parts: &Arc<Parts>) -> accept::Barrier {
    let parts = Arc::clone(parts);
    Box::new(move || {
        let parts = Arc::clone(&parts);
        Box::pin(async move {
            match parts.node.get() {
                Some(node) => Ok(node.barrier().await?),
                None => Err(Problem::unavailable("recovering")),
            }
        })
    })
}
