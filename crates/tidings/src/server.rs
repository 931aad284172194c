//! Puts the parts together: listeners, log, node, services. `tidings serve`, drills that bring their own server, and
//! tests start it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidings_log::Log;
use tidings_node::{Builder, Fatal, Node};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Settings;
use crate::contract::{Context, Port, Running};
use crate::service::Service;
use crate::wire::http::{Problem, accept};
use crate::wire::tcp;

mod digest;
mod health;
mod routes;
mod storage;

pub(crate) use storage::options as stream_options;

/// How long stopping the node may take beyond what the connections were given.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1500);

/// A running server.
pub struct Server {
    http: SocketAddr,
    /// Every other port, under the setting with its address.
    ports: Vec<(&'static str, SocketAddr)>,
    parts: Arc<Parts>,
    /// Tells listeners, connections and streams to end.
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    /// The tasks of the services.
    tasks: Vec<JoinHandle<()>>,
    shutdown_timeout: Duration,
}

/// What the routes need of the server.
#[derive(Default)]
struct Parts {
    /// Set when the node has recovered.
    node: OnceLock<Node>,
    /// Set when all services have started.
    services: OnceLock<Vec<(Service, Box<dyn Running>)>>,
    connections: Arc<accept::Counters>,
    /// How many servers this one has replaced in its process.
    rebuilt: AtomicU64,
}

/// A server that has taken its ports and has not recovered.
pub struct Bound {
    server: Server,
    settings: Settings,
    gate: Arc<accept::Gate>,
    /// The ports of each service that is served.
    ports: Vec<(Service, Vec<Port>)>,
}

impl Server {
    /// Takes the ports and answers on them. Until [`Bound::recover`] is done, the answer is 503.
    ///
    /// # Errors
    /// When a port cannot be taken. The message names it.
    pub fn bind(settings: Settings) -> anyhow::Result<Bound> {
        let listener = tcp::bind(&settings.http)
            .with_context(|| format!("cannot listen on {} (setting http)", settings.http))?;
        let http = listener.local_addr()?;
        let mut ports = Vec::new();
        let mut addresses = Vec::new();
        for (service, configured) in &settings.services {
            if settings.only.contains(service) {
                let taken = configured.bind()?;
                for port in &taken {
                    addresses.push((port.key, port.listener.local_addr()?));
                }
                ports.push((*service, taken));
            }
        }
        let parts = Arc::<Parts>::default();
        let gate = Arc::new(accept::Gate::closed(routes::starting()));
        let (stop, stopped) = watch::channel(false);
        let connections = Arc::clone(&parts.connections);
        let bounds = settings.http_bounds;
        let serve = accept::serve(listener, Arc::clone(&gate), bounds, connections, stopped);
        let server = Self {
            http,
            ports: addresses,
            parts,
            stop,
            accepting: tokio::spawn(serve),
            tasks: Vec::new(),
            shutdown_timeout: settings.shutdown_timeout,
        };
        Ok(Bound { server, settings, gate, ports })
    }

    /// Takes the ports, recovers, and serves.
    ///
    /// # Errors
    /// Those of [`Server::bind`] and [`Bound::recover`].
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        Self::bind(settings)?.recover().await
    }

    /// Takes the ports, recovers from `log` instead of the one in the settings, and serves.
    ///
    /// # Errors
    /// Those of [`Server::bind`] and [`Bound::recover`].
    pub async fn start_over(settings: Settings, log: Box<dyn Log>) -> anyhow::Result<Self> {
        Self::bind(settings)?.recover_from(log).await
    }

    /// Returns the address of HTTP.
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Returns the address of the port that a setting is for, such as `maze.source`. `None` if it is not served.
    pub fn port(&self, key: &str) -> Option<SocketAddr> {
        self.ports.iter().find(|(name, _)| *name == key).map(|(_, address)| *address)
    }

    /// Waits until the log has failed and says why. Stop the server then. A new one may take its place if the node merely
    /// fell behind ([`Fatal::is_behind`]).
    pub async fn failed(&self) -> Arc<Fatal> {
        match self.parts.node.get() {
            Some(node) => node.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Stops taking new work, finishes and answers what was accepted, and flushes.
    ///
    /// # Errors
    /// When that took longer than allowed, or the log had failed. What was answered is safe either way.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let ended = async {
            for task in self.tasks {
                task.await?;
            }
            self.accepting.await
        };
        let finished = tokio::time::timeout(self.shutdown_timeout, ended).await;
        if let Some(node) = self.parts.node.get() {
            let flushed = tokio::time::timeout(FLUSH_TIMEOUT, node.stop()).await;
            let stopped = flushed.context("the last snapshot took too long and was left out")?;
            stopped.map_err(anyhow::Error::msg)?;
        }
        finished.context("some connections did not finish in time")??;
        Ok(())
    }
}

impl Bound {
    /// Returns the address of HTTP.
    pub const fn http(&self) -> SocketAddr {
        self.server.http
    }

    /// Returns the addresses of all other ports, each under the setting that it is for.
    pub(crate) fn ports(&self) -> &[(&'static str, SocketAddr)] {
        &self.server.ports
    }

    /// Reports in `/metrics` that this server follows `times` servers of the process that fell behind.
    #[must_use]
    pub fn rebuilt(self, times: u64) -> Self {
        self.server.parts.rebuilt.store(times, Ordering::Relaxed);
        self
    }

    /// Restores what the log holds and opens the gate.
    ///
    /// # Errors
    /// When the log cannot be opened or read. The message says where it is damaged.
    pub async fn recover(self) -> anyhow::Result<Server> {
        self.recover_over(None).await
    }

    /// Restores what `log` holds, instead of the one in the settings, and opens the gate.
    ///
    /// # Errors
    /// Those of [`Bound::recover`].
    pub async fn recover_from(self, log: Box<dyn Log>) -> anyhow::Result<Server> {
        self.recover_over(Some(log)).await
    }

    async fn recover_over(self, log: Option<Box<dyn Log>>) -> anyhow::Result<Server> {
        let begun = Instant::now();
        let Self { mut server, settings, gate, mut ports } = self;
        let mut builder = Builder::new(settings.node);
        let mut installed = Vec::new();
        for (service, configured) in &settings.services {
            installed.push((*service, configured.install(service.slot(), &mut builder)));
        }
        let node = storage::start(builder, log, &settings).await?;
        let stats = node.stats();
        let context = Context {
            http: settings.http_bounds,
            leases: node.leases().clone(),
            stop: server.stop.subscribe(),
        };
        server.parts.node.get_or_init(|| node);
        let mut services = Vec::new();
        for (service, start) in installed {
            let started = start(context.clone()).await;
            services.push((service, started.context("the settings cannot be stored")?));
        }
        let mut api = routes::common(&server.parts);
        let mut hot = Vec::new();
        for (service, running) in &services {
            let taken = ports.iter_mut().find(|(served, _)| served == service);
            if let Some((_, ports)) = taken {
                api = api.merge(running.routes());
                hot.extend(running.hot_routes());
                server.tasks.extend(running.spawn(std::mem::take(ports)));
            }
        }
        server.parts.services.get_or_init(|| services);
        let barrier = barrier(&server.parts);
        gate.open(accept::Routes { hot, router: routes::finish(api), barrier });
        tracing::info!(
            "ready after {:.1?}: {} messages replayed, log at {}",
            begun.elapsed(),
            stats.replayed,
            stats.position,
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
