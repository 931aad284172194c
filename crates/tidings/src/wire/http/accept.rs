//! Our own accept loop: hyper with the settings that count here, and rules for many connections.
//!
//! A sender of the known kind opens a connection for each message. With more than a few hundred
//! open, answers carry `Connection: close` and new connections get a short idle timeout, so that
//! neither side runs out of descriptors. Over the bound, connections wait in the kernel's queue.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_service::Service as _;

use super::consistency;
use super::problem::Problem;
use super::stream::Stream;
use super::sweep::{Ended, Link, Sweeper};
use crate::config::Http;
use crate::telemetry::Complaint;

/// The kernel's queue of connections that are not yet accepted.
const BACKLOG: i32 = 4096;

/// What the connections have been up to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) open: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) closed_busy: AtomicU64,
}

/// What answers: at first only that the server is starting, later everything.
pub(crate) struct Gate {
    starting: Router,
    open: OnceLock<Routes>,
}

/// Everything that can be asked for.
pub(crate) struct Routes {
    /// Asked first, one after the other.
    pub(crate) hot: Vec<HotRoutes>,
    pub(crate) router: Router,
    /// Waited for before any of them, by a request that asks for a strong answer.
    pub(crate) barrier: Barrier,
}

/// Waits until everything is applied that any node had acknowledged before.
pub(crate) type Barrier = Box<dyn Fn() -> Waiting + Send + Sync>;
type Waiting = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;

/// Routes that are taken so often that they go around the router, whose boxes cost a tenth of a
/// request. They stand there as well, for their description and for other methods.
pub(crate) type HotRoutes = Box<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// An answer, or what it will come from.
pub(crate) enum Answering {
    Now(Response),
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
    /// It is for somebody else.
    NotMine(Request<Incoming>),
}

impl Gate {
    pub(crate) fn closed(starting: Router) -> Self {
        Self { starting, open: OnceLock::new() }
    }

    /// From here on these answer. The first call counts.
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

/// Listens on an address.
pub(crate) fn bind(address: &str) -> io::Result<TcpListener> {
    use std::net::ToSocketAddrs;
    let mut why = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match bind_one(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections and serves them until `stop` says so; then lets each finish what it is at.
/// Returns when all are closed.
pub(crate) async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    bounds: Http,
    counters: Arc<Counters>,
    mut stop: watch::Receiver<bool>,
) {
    let timeout_min = bounds.idle_timeout.min(bounds.idle_timeout_busy);
    let sweeper = Arc::new(Sweeper::new(timeout_min));
    let sweeping = tokio::spawn(Arc::clone(&sweeper).run(stop.clone()));
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let complaint = Complaint::new("connections cannot be accepted");
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let connection = Connection {
                    gate: Arc::clone(&gate),
                    bounds,
                    counters: Arc::clone(&counters),
                    sweeper: Arc::clone(&sweeper),
                };
                tokio::spawn(connection.serve(stream, place));
            }
            // The client has gone before it was accepted.
            Err(why) if why.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(why) => {
                complaint.warn(&why);
                // Most likely there are no descriptors left: others must close first.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(bounds.connections_max).unwrap_or(u32::MAX);
    drop(places.acquire_many(all).await);
    sweeping.abort();
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, Place)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Without it the last segment of an answer waits for the client's delayed acknowledgement. It
    // fails when the client has gone already, which is found soon enough.
    let _gone_already = stream.set_nodelay(true);
    Ok((stream, place))
}

struct Connection {
    gate: Arc<Gate>,
    bounds: Http,
    counters: Arc<Counters>,
    sweeper: Arc<Sweeper>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, place: Place) {
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
        drop(place);
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
