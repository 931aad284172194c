//! The contract between a service and the server: [`Service`]. Adapters implement it, the list of services
//! (`service.rs`) names them, and the server drives all of them in one loop.
//!
//! ```text
//!   settings ──▶ bind ──▶ install ──▶ (the node recovers) ──▶ start ──▶ routes, tasks ──▶ metrics, lease
//! ```
//! Every service is installed and started, because what stands in the log is applied whatever `--only` says. Only the
//! services that are served bind ports, add routes and spawn tasks.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use tidings_node::{Builder, Leases, Refused};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use utoipa_axum::router::OpenApiRouter;

use crate::layers::{Layers, Unusable};
use crate::wire::http::Bounds;
use crate::wire::http::accept::HotRoutes;
use crate::wire::metrics::Text;
use crate::wire::tcp;

/// What a service is, from its settings to its metrics. A value of the type is a started service.
pub(crate) trait Service: Sized + Send + Sync + 'static {
    /// One line about the service, for the description of its routes.
    const ABOUT: &str;
    /// What the user can set.
    type Settings: Clone + Debug + Send + Sync;
    /// The machine on the node, and what the service shares with its tap.
    type Installed: Send;

    /// Reads and checks the settings.
    ///
    /// # Errors
    /// [`Unusable`] for the first setting that is wrong.
    fn settings(layers: &Layers) -> Result<Self::Settings, Unusable>;

    /// The settings with the addresses of the ports that the service takes besides HTTP, as key and value.
    fn addresses(settings: &Self::Settings) -> Vec<(&'static str, &str)> {
        let _ = settings;
        Vec::new()
    }

    /// Adds the machine to a node that has not started.
    fn install(
        settings: &Self::Settings,
        machine: Machine,
        builder: &mut Builder,
    ) -> Self::Installed;

    /// Starts over a node that has recovered. The bounds of the machine are brought in line with the settings here: they
    /// decide what apply does, so a change of them is logged.
    ///
    /// # Errors
    /// [`Refused`] when the bounds cannot be logged.
    fn start(
        installed: Self::Installed,
        settings: Self::Settings,
        context: Context,
    ) -> impl Future<Output = Result<Self, Refused>> + Send;

    /// The routes, with their description.
    fn routes(self: &Arc<Self>) -> OpenApiRouter;

    /// The routes that are so frequent that they go around the router.
    fn hot_routes(self: &Arc<Self>) -> Option<HotRoutes> {
        None
    }

    /// Spawns what runs besides requests, with the ports of [`Service::addresses`] in their order. Each task ends after
    /// [`Context::stop`], when what it had accepted is stored and delivered.
    fn spawn(self: &Arc<Self>, ports: Vec<TcpListener>) -> Vec<JoinHandle<()>> {
        drop(ports);
        Vec::new()
    }

    /// The lease that only one node of a cluster holds at a time: its name, and whether this node holds it.
    fn lease(&self) -> Option<(&'static str, bool)> {
        None
    }

    /// Appends the counters and gauges.
    fn metrics(&self, out: &mut Text);
}

/// The name and the number under which a service's machine is added to a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) id: u8,
    pub(crate) name: &'static str,
}

/// What a service gets of the server when it starts.
#[derive(Clone)]
pub(crate) struct Context {
    /// The bounds of the HTTP side.
    pub(crate) http: Bounds,
    /// The leases of the node.
    pub(crate) leases: Leases,
    /// Becomes true when the server stops.
    pub(crate) stop: watch::Receiver<bool>,
}

/// A port that a service has taken.
pub(crate) struct Port {
    /// The setting with its address.
    pub(crate) key: &'static str,
    pub(crate) listener: TcpListener,
}

/// A service with its settings, whichever service it is.
pub(crate) trait Configured: Debug + Send + Sync {
    /// Takes the ports. Connections wait in the kernel's queue until the service has started.
    ///
    /// # Errors
    /// When a port cannot be taken. The message names it.
    fn bind(&self) -> anyhow::Result<Vec<Port>>;
    /// See [`Service::install`]. The result starts the service.
    fn install(&self, machine: Machine, builder: &mut Builder) -> Start;
}

/// Starts an installed service.
pub(crate) type Start = Box<dyn FnOnce(Context) -> Starting + Send>;
type Starting = Pin<Box<dyn Future<Output = Result<Box<dyn Running>, Refused>> + Send>>;

/// A started service, whichever service it is. See [`Service`] for the methods.
pub(crate) trait Running: Send + Sync {
    fn routes(&self) -> OpenApiRouter;
    fn hot_routes(&self) -> Option<HotRoutes>;
    fn spawn(&self, ports: Vec<Port>) -> Vec<JoinHandle<()>>;
    fn lease(&self) -> Option<(&'static str, bool)>;
    fn metrics(&self, out: &mut Text);
}

/// Reads the settings of a service.
///
/// # Errors
/// See [`Service::settings`].
pub(crate) fn configure<S: Service>(layers: &Layers) -> Result<Arc<dyn Configured>, Unusable> {
    Ok(Arc::new(Settled::<S>(S::settings(layers)?)))
}

/// The settings of a service, behind which its type is no longer visible.
struct Settled<S: Service>(S::Settings);

impl<S: Service> Debug for Settled<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Service> Configured for Settled<S> {
    fn bind(&self) -> anyhow::Result<Vec<Port>> {
        let bind = |(key, address)| {
            let listener = tcp::bind(address)
                .with_context(|| format!("cannot listen on {address} (setting {key})"))?;
            Ok(Port { key, listener })
        };
        S::addresses(&self.0).into_iter().map(bind).collect()
    }

    fn install(&self, machine: Machine, builder: &mut Builder) -> Start {
        let installed = S::install(&self.0, machine, builder);
        let settings = self.0.clone();
        Box::new(move |context| {
            Box::pin(async move {
                let service = S::start(installed, settings, context).await?;
                Ok(Box::new(Arc::new(service)) as Box<dyn Running>)
            })
        })
    }
}

impl<S: Service> Running for Arc<S> {
    fn routes(&self) -> OpenApiRouter {
        S::routes(self)
    }

    fn hot_routes(&self) -> Option<HotRoutes> {
        S::hot_routes(self)
    }

    fn spawn(&self, ports: Vec<Port>) -> Vec<JoinHandle<()>> {
        S::spawn(self, ports.into_iter().map(|port| port.listener).collect())
    }

    fn lease(&self) -> Option<(&'static str, bool)> {
        S::lease(self)
    }

    fn metrics(&self, out: &mut Text) {
        S::metrics(self, out);
    }
}
