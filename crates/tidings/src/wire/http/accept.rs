//! Serves HTTP connections: hyper with the settings that matter here, and rules for many connections.
//!
//! The known sender of this protocol opens a connection for each message. With more than a few hundred connections open,
//! answers carry `Connection: close` and new connections get a short idle timeout, so that neither side runs out of
//! descriptors. Above the bound, connections wait in the kernel's queue.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower_service::Service as _;

use super::Bounds;
use super::consistency;
use super::problem::Problem;
use super::stream::Stream;
use super::sweep::{Ended, Link, Sweeper};
use crate::wire::tcp::{Acceptor, Permit};

/// Counts over all connections.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) open: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) closed_busy: AtomicU64,
}

/// Answers requests: only with "starting" until the node has recovered, then with everything.
pub(crate) struct Gate {
    starting: Router,
    open: OnceLock<Routes>,
}

/// All routes.
pub(crate) struct Routes {
    /// Tried first, one after the other.
    pub(crate) hot: Vec<HotRoutes>,
    pub(crate) router: Router,
    /// A request for a strong answer waits for it before it is routed.
    pub(crate) barrier: Barrier,
}

/// Waits until everything is applied that any node acknowledged before the call.
pub(crate) type Barrier = Box<dyn Fn() -> Waiting + Send + Sync>;
type Waiting = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;

/// Routes that are so frequent that they go around the router, whose boxes cost a tenth of a request. They are in the
/// router too, for their description and for other methods.
pub(crate) type HotRoutes = Box<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// What a hot route does with a request.
pub(crate) enum Answering {
    Now(Response),
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
    /// Another route answers it.
    NotMine(Request<Incoming>),
}

impl Gate {
    pub(crate) fn closed(starting: Router) -> Self {
        Self { starting, open: OnceLock::new() }
    }

    /// From here on `routes` answer. Later calls change nothing.
    pub(crate) fn open(&self, routes: Routes) {
        self.open.get_or_init(|| routes);
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let Some(routes) = self.open.get() else {
            return self.starting.clone().call(request.map(Body::new)).await;
        };
        match consistency::is_strong(request.headers()) {
            Ok(false) => {}
            Ok(true) => {
                if let Err(problem) = (routes.barrier)().await {
                    return Ok(problem.into_response());
                }
            }
            Err(problem) => return Ok(problem.into_response()),
        }
        let mut request = request;
        for hot in &routes.hot {
            match hot(request) {
                Answering::Now(response) => return Ok(response),
                Answering::Later(response) => return Ok(response.await),
                Answering::NotMine(other) => request = other,
            }
        }
        routes.router.clone().call(request.map(Body::new)).await
    }
}

/// Accepts connections and serves them until `stop` is true. Returns when every connection has finished its request
/// and is closed.
pub(crate) async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    bounds: Bounds,
    counters: Arc<Counters>,
    stop: watch::Receiver<bool>,
) {
    let timeout_min = bounds.idle_timeout.min(bounds.idle_timeout_busy);
    let sweeper = Arc::new(Sweeper::new(timeout_min));
    let sweeping = tokio::spawn(Arc::clone(&sweeper).run(stop.clone()));
    let mut acceptor = Acceptor::new(listener, bounds.connections_max, stop);
    while let Some((stream, _, permit)) = acceptor.next().await {
        let connection = Connection {
            gate: Arc::clone(&gate),
            bounds,
            counters: Arc::clone(&counters),
            sweeper: Arc::clone(&sweeper),
        };
        tokio::spawn(connection.serve(stream, permit));
    }
    acceptor.drained().await;
    sweeping.abort();
}

struct Connection {
    gate: Arc<Gate>,
    bounds: Bounds,
    counters: Arc<Counters>,
    sweeper: Arc<Sweeper>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, permit: Permit) {
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let open = self.counters.open.fetch_add(1, Ordering::Relaxed) + 1;
        let busy = open > self.bounds.connections_busy;
        let timeout = if busy { self.bounds.idle_timeout_busy } else { self.bounds.idle_timeout };
        let stream = Stream::new(stream);
        let ended = self.talk(stream.clone(), self.sweeper.link(timeout)).await;
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        if ended == Ended::Done {
            stream.linger().await;
        }
        drop(permit);
    }

    /// Serves requests until the connection ends.
    async fn talk(&self, stream: Stream, link: Arc<Link>) -> Ended {
        let service = service_fn(|request: Request<Incoming>| {
            link.begin();
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            let link = &link;
            async move {
                let mut response = self.gate.answer(request).await?;
                link.end(response.extensions().get::<Streams>().is_some());
                if self.counters.open.load(Ordering::Relaxed) > self.bounds.connections_busy {
                    self.counters.closed_busy.fetch_add(1, Ordering::Relaxed);
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream.clone()), service);
        link.drive(connection, http1::Connection::graceful_shutdown, &stream).await
    }
}

/// In the extensions of a response whose body goes on until the client leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams;
