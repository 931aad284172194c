//! NATS servers as child processes, alone or as a cluster, for drills and tests. A server runs in a
//! folder of its own, can be killed, paused and started again, and ends when its handle is dropped. Not
//! part of the log; behind the feature `nats-server`.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod process;

pub use process::{Process, end_of};

/// The release that all tests run against.
pub const VERSION: &str = "2.15.1";
/// The oldest supported release: one run of the tests uses it.
pub const VERSION_FLOOR: &str = "2.10.25";
/// An environment variable that names the `nats-server` binary to run.
pub const BINARY_VARIABLE: &str = "TIDINGS_NATS_SERVER";

/// How long a server may take to answer after it was started.
const UP_WITHIN: Duration = Duration::from_secs(15);
/// How often a condition is polled.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How long one request to a server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long servers may take to form a cluster.
const FORMED_WITHIN: Duration = Duration::from_secs(20);
/// How often starting a cluster is attempted.
const STARTS_MAX: u32 = 3;
/// How long the replicas of a stream may take to catch up.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// Ports below those that Linux assigns to outgoing connections (32,768 to 60,999 by default), so that no
/// connection takes one between its choice and the server's start.
const PORTS: Range<u16> = 10_240..32_768;

/// Finds a `nats-server` of this version: the one that [`BINARY_VARIABLE`] names, the one that
/// `crates/log/nats-server` has fetched into `target`, or else one of any version on the `PATH`.
pub fn find(version: &str) -> Option<PathBuf> {
    if let Some(binary) = std::env::var_os(BINARY_VARIABLE) {
        return Some(binary.into());
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/nats-server");
    let fetched = fetched.join(version).join("nats-server");
    if fetched.is_file() {
        return Some(fetched);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|p| p.is_file())
}

/// One server, running or not.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    folder: PathBuf,
    /// Where clients connect.
    address: SocketAddr,
    /// The child process, running or ended.
    pub process: Process,
}

impl Server {
    /// Writes the configuration of a server and starts it.
    fn start(
        binary: &Path,
        folder: PathBuf,
        name: &str,
        address: SocketAddr,
        cluster: &str,
        sync: &str,
    ) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let config = format!(
            "server_name: {name}\nlisten: \"{address}\"\nlog_file: {:?}\n\
             jetstream {{ store_dir: {:?}, sync_interval: {sync} }}\n{cluster}",
            folder.join("server.log").display().to_string(),
            folder.join("store").display().to_string(),
        );
        fs::write(folder.join("server.conf"), config)?;
        let process = Process::default();
        let mut server = Self { binary: binary.to_owned(), folder, address, process };
        server.start_again()?;
        Ok(server)
    }

    /// Starts the server on its previous data, if it is not running. Returns when it answers.
    ///
    /// # Errors
    /// When the server cannot be started, or does not answer within 15 s: with the end of its log.
    pub fn start_again(&mut self) -> io::Result<()> {
        let started = self.process.start(
            Command::new(&self.binary)
                .arg("--config")
                .arg(self.folder.join("server.conf"))
                .stdout(Stdio::null())
                .stderr(File::create(self.folder.join("server.err"))?),
        );
        if !started? {
            return Ok(());
        }
        let until = Instant::now() + UP_WITHIN;
        while !self.answers() {
            if self.process.has_ended() || Instant::now() > until {
                self.process.kill();
                return Err(io::Error::other(format!(
                    "the NATS server at {} does not answer; the end of its log:\n{}",
                    self.address,
                    self.log_end()
                )));
            }
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// Checks whether the server sends its greeting.
    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect_timeout(&self.address, POLL_EVERY) else {
            return false;
        };
        let mut line = String::new();
        let read = stream.set_read_timeout(Some(UP_WITHIN)).and_then(|()| {
            // A server sends INFO by itself, before the client has sent anything.
            BufReader::new(&stream).read_line(&mut line)
        });
        read.is_ok() && line.starts_with("INFO")
    }

    fn log_end(&self) -> String {
        // The server reports errors of its configuration on stderr, before it opens its log.
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        end_of(&(read("server.log") + &read("server.err")))
    }

    /// Returns the URL for clients: `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Returns the address for clients.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request to JetStream's API and returns the answer, as JSON. Speaks the protocol by hand,
    /// because the callers are not asynchronous.
    fn request(&self, subject: &str, payload: &str) -> io::Result<String> {
        let connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut reader = BufReader::new(&connection);
        let request = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB $JS.API.{subject} answer {}\r\n{payload}\r\n",
            payload.len()
        );
        (&connection).write_all(request.as_bytes())?;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the server has closed the connection"));
            }
            if line.starts_with("PING") {
                (&connection).write_all(b"PONG\r\n")?;
            } else if line.starts_with("MSG") {
                line.clear();
                reader.read_line(&mut line)?;
                return Ok(line);
            }
        }
    }

    /// Returns the server's name: `s1`, `s2`, ...
    pub fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// One server, or several that form a cluster.
#[derive(Debug)]
pub struct Servers {
    /// The servers, in the order of their names.
    pub servers: Vec<Server>,
}

impl Servers {
    /// Starts `count` servers on free ports, with their data in the folders `s1`, `s2` ... of `folder`.
    /// `sync` is their `sync_interval`: `always`, or a duration such as `2m`. Returns when they form a
    /// cluster. If they do not (another program may have taken one of the ports, say), they are started
    /// again on other ports.
    ///
    /// # Errors
    /// When a server cannot be started, or they form no cluster in three attempts.
    pub fn start(binary: &Path, folder: &Path, count: usize, sync: &str) -> io::Result<Self> {
        let mut failed = io::Error::other("no attempt was made");
        for _ in 0..STARTS_MAX {
            match Self::start_once(binary, folder, count, sync) {
                Ok(servers) => match servers.wait_until_formed() {
                    Ok(()) => return Ok(servers),
                    Err(why) => failed = why,
                },
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// Waits until a stream can be placed on all servers: only a formed cluster accepts that.
    fn wait_until_formed(&self) -> io::Result<()> {
        let [first, _, ..] = self.servers.as_slice() else { return Ok(()) };
        let until = Instant::now() + FORMED_WITHIN;
        let probe = format!(
            "{{\"name\":\"probe\",\"subjects\":[\"probe\"],\"storage\":\"memory\",\"num_replicas\":{}}}",
            self.servers.len()
        );
        loop {
            // The answer takes a while as long as the cluster has no leader.
            let made = first.request("STREAM.CREATE.probe", &probe);
            match made {
                Ok(made) if !made.contains("\"error\"") => {
                    return first.request("STREAM.DELETE.probe", "").map(drop);
                }
                made if Instant::now() > until => {
                    let answer = made.unwrap_or_else(|why| why.to_string());
                    return Err(io::Error::other(format!("the servers form no cluster: {answer}")));
                }
                Ok(_) | Err(_) => std::thread::sleep(10 * POLL_EVERY),
            }
        }
    }

    fn start_once(binary: &Path, folder: &Path, count: usize, sync: &str) -> io::Result<Self> {
        // The server would resolve a relative path from its own working directory.
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let addresses = free_addresses(2 * count)?;
        let (clients, routes) = addresses.split_at(count);
        let all: Vec<String> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
        let all = all.join(", ");
        let mut servers = Vec::with_capacity(count);
        for ((address, route), number) in clients.iter().zip(routes).zip(1_usize..) {
            let cluster = if count == 1 {
                String::new()
            } else {
                format!(
                    "cluster {{ name: tidings, no_advertise: true, listen: \"{route}\", routes: [ {all}] }}\n"
                )
            };
            let name = format!("s{number}");
            let at = folder.join(&name);
            servers.push(Server::start(binary, at, &name, *address, &cluster, sync)?);
        }
        Ok(Self { servers })
    }

    /// Requests the state of a stream from the first running server that answers.
    fn stream_info(&self, stream: &str) -> io::Result<String> {
        let running = self.servers.iter().filter(|server| server.process.id().is_some());
        let mut failed = io::Error::other("no server is running");
        for server in running {
            match server.request(&format!("STREAM.INFO.{stream}"), "") {
                Ok(info) => return Ok(info),
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// Returns the index of the server that leads a stream.
    ///
    /// # Errors
    /// When no server answers, or none leads the stream.
    pub fn leader(&self, stream: &str) -> io::Result<usize> {
        let info = self.stream_info(stream)?;
        let leader = info.split("\"leader\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let leads = |server: &Server| Some(server.name().as_str()) == leader;
        self.servers
            .iter()
            .position(leads)
            .ok_or_else(|| io::Error::other(format!("the stream {stream} has no leader: {info}")))
    }

    /// Returns the oldest position of a stream.
    ///
    /// # Errors
    /// When no server answers with that position.
    pub fn first(&self, stream: &str) -> io::Result<u64> {
        let info = self.stream_info(stream)?;
        let first = info.split("\"first_seq\":").nth(1).and_then(|rest| rest.split(',').next());
        let first = first.and_then(|first| first.parse().ok());
        first.ok_or_else(|| {
            io::Error::other(format!("the stream {stream} has no beginning: {info}"))
        })
    }

    /// Waits until a stream has a leader and all its replicas have caught up with it.
    ///
    /// # Errors
    /// When that takes more than a minute.
    pub fn wait_until_in_sync(&self, stream: &str) -> io::Result<()> {
        let until = Instant::now() + WHOLE_WITHIN;
        loop {
            let info = self.stream_info(stream).unwrap_or_default();
            let current = info.matches("\"current\":true").count();
            if info.contains("\"leader\":\"s") && current + 1 == self.servers.len() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("the stream {stream} does not heal: {info}")));
            }
            std::thread::sleep(10 * POLL_EVERY);
        }
    }

    /// Returns the client URLs, one for each server.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }
}

/// Returns addresses on loopback that are free at the moment. The kernel assigns none of them to an
/// outgoing connection, so they stay free until a program binds to that very port.
///
/// # Errors
/// When fewer than `count` ports are free.
pub fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    // A random start, so that programs that do this concurrently try different ports first.
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0) >> 1));
    let all = PORTS.end - PORTS.start;
    let candidates = (0..all).filter_map(|_| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % u64::from(all);
        let port = PORTS.start + u16::try_from(next).unwrap_or(0);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    });
    let addresses: Vec<_> =
        candidates.take(count).map(|free| free.local_addr()).collect::<io::Result<_>>()?;
    if addresses.len() < count {
        return Err(io::Error::other(format!(
            "fewer than {count} of the ports {PORTS:?} are free"
        )));
    }
    Ok(addresses)
}
