//! The connection to the servers, and the thread that drives it. The client library is asynchronous,
//! while the calls of a log block.

use std::fmt::Display;
use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::{Info, Stream};
use async_nats::{Client, ConnectOptions, ServerAddr};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::options::{Options, UNFINISHED};
use crate::Error;

/// How long one request may take before its outcome counts as unknown.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The wait before a request that failed is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// The longest wait between two attempts to reconnect.
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(1);
/// The oldest supported server: earlier ones lost data of streams when restarted.
const FLOOR: (i64, i64, i64) = (2, 10, 23);
/// The smallest acceptable `max_payload` of a server.
const PAYLOAD_BYTES_MIN: usize = 64 << 10;

/// A handle on the servers and the stream. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) stream: Stream<()>,
    pub(super) name: String,
    pub(super) replicas: usize,
}

/// The thread that drives the connection. Dropping this ends the thread.
#[derive(Debug)]
pub(super) struct Driver {
    runtime: Handle,
    /// Dropping the sender ends the thread.
    stop: Option<oneshot::Sender<()>>,
    /// An `Option`, so that `Drop` can take and join it.
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    pub(super) fn start() -> Result<Self, Error> {
        let cannot = |why: &dyn Display| {
            Error::Store(format!("the thread that talks to NATS cannot be started: {why}"))
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (sender, receiver) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("tidings-nats".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let handle = runtime.as_ref().map(|runtime| runtime.handle().clone());
            // `start` is waiting for it, so this cannot fail.
            drop(sender.send(handle.map_err(ToString::to_string)));
            if let Ok(runtime) = runtime {
                drop(runtime.block_on(stopped));
                runtime.shutdown_background();
            }
        });
        let thread = thread.map_err(|why| cannot(&why))?;
        let runtime = receiver.recv().map_err(|why| cannot(&why))?.map_err(|why| cannot(&why))?;
        Ok(Self { runtime, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs `work` on the thread and waits for it. May be called on a thread of another runtime.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.begin(async move { drop(sender.send(work.await)) });
        receiver.recv().map_err(|_| Error::Store("the thread that talks to NATS has ended".into()))
    }

    /// Starts `work` on the thread, concurrently with everything else there.
    pub(super) fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(work));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The panic of that thread has been reported already.
            drop(thread.join());
        }
    }
}

/// What the stream is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A node appends to it and reads it: it must be complete.
    Node,
    /// A log is copied into it: it may carry the mark of an unfinished copy.
    Copy,
}

/// Connects, and creates or checks the stream. A stream that is created begins at `first`.
pub(super) async fn open(
    options: Options,
    first: u64,
    purpose: Purpose,
) -> Result<(Link, Info), Error> {
    options.checked_name()?;
    let deadline = tokio::time::Instant::now() + options.connect_within;
    let client = connect(&options, deadline).await?;
    let server = client.server_info();
    let (major, minor, patch) = FLOOR;
    if !client.is_server_compatible(major, minor, patch) {
        return Err(Error::Store(format!(
            "the NATS server {} is version {}, needed is {major}.{minor}.{patch} or later: earlier ones \
             lose acknowledged messages when they are restarted",
            server.server_name, server.version
        )));
    }
    if server.max_payload < PAYLOAD_BYTES_MIN {
        return Err(Error::Store(format!(
            "the NATS server {} takes messages of at most {} bytes (max_payload), needed are \
             {PAYLOAD_BYTES_MIN}; its default is 1 MiB",
            server.server_name, server.max_payload
        )));
    }
    let clustered = server.cluster.is_some_and(|name| !name.is_empty());
    let mut context = async_nats::jetstream::new(client.clone());
    context.set_timeout(ANSWER_WITHIN);
    let mut wanted = options.wanted(clustered, first);
    if purpose == Purpose::Copy {
        wanted.metadata.insert(UNFINISHED.to_owned(), "1".to_owned());
    }
    loop {
        let made = context.get_or_create_stream(wanted.clone()).await;
        match made {
            Ok(stream) => {
                let info = stream.cached_info().clone();
                options.fits(&info.config, clustered)?;
                if purpose == Purpose::Node && info.config.metadata.contains_key(UNFINISHED) {
                    return Err(Error::Store(format!(
                        "the copy of a log into the stream {} is not complete: \
                         let it finish, or start it again (tidings log copy)",
                        options.stream
                    )));
                }
                let stream = context.get_stream_no_info(&options.stream).await;
                let stream = stream.map_err(|why| Error::Store(why.to_string()))?;
                let replicas = info.config.num_replicas;
                let name = options.stream;
                return Ok((Link { client, context, stream, name, replicas }, info));
            }
            // Servers that have just started have no leader yet.
            Err(_) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Err(why) => {
                return Err(Error::Store(format!(
                    "the stream {} can be neither found nor made on {}: {}",
                    options.stream,
                    shown(&options.servers),
                    chain(&why)
                )));
            }
        }
    }
}

/// Returns addresses of servers as they are shown to people: without the passwords in them.
pub fn shown(servers: &[String]) -> String {
    let without = |url: &String| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.clone(),
    };
    servers.iter().map(without).collect::<Vec<_>>().join(",")
}

async fn connect(options: &Options, deadline: tokio::time::Instant) -> Result<Client, Error> {
    let servers: Vec<ServerAddr> = options
        .servers
        .iter()
        .map(|url| {
            url.parse().map_err(|why| {
                let url = shown(std::slice::from_ref(url));
                Error::Store(format!("{url:?} is not the address of a NATS server: {why}"))
            })
        })
        .collect::<Result<_, _>>()?;
    loop {
        let connected =
            connect_options(options.credentials.clone()).await?.connect(servers.as_slice()).await;
        match connected {
            Ok(client) => return Ok(client),
            Err(_) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Err(why) => {
                return Err(Error::Store(format!(
                    "no NATS server can be reached at {}: {}",
                    shown(&options.servers),
                    chain(&why)
                )));
            }
        }
    }
}

async fn connect_options(credentials: Option<PathBuf>) -> Result<ConnectOptions, Error> {
    let options = match credentials {
        None => ConnectOptions::new(),
        Some(file) => ConnectOptions::with_credentials_file(&file).await.map_err(|why| {
            Error::Store(format!("the credentials {} cannot be used: {why}", file.display()))
        })?,
    };
    Ok(options
        .name("tidings")
        .connection_timeout(ANSWER_WITHIN)
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(|tries| {
            let tries = u32::try_from(tries).unwrap_or(u32::MAX);
            AGAIN_AFTER.saturating_mul(tries.saturating_sub(1)).min(RECONNECT_AFTER_MAX)
        }))
}

/// Formats an error with its sources.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
