//! NATS servers as processes on this machine, alone or as a cluster, for trying and for tests: started
//! in a folder of their own, killed, paused, started again, and gone when this is dropped. Not part of
//! the log; behind the feature `nats-server`.

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

/// The release that everything is tested with.
pub const VERSION: &str = "2.15.1";
/// The oldest release that one run of the tests goes against.
pub const VERSION_FLOOR: &str = "2.10.25";
/// Names a `nats-server` to take instead of looking for one.
pub const BINARY_VARIABLE: &str = "TIDINGS_NATS_SERVER";

/// How long a server may take to answer after its start.
const UP_WITHIN: Duration = Duration::from_secs(15);
/// How often it is looked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a question to a server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long servers may take to become a cluster.
const FORMED_WITHIN: Duration = Duration::from_secs(20);
/// How often it is tried.
const STARTS_MAX: u32 = 3;
/// How long a stream may take to heal.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// Ports below those that Linux gives to connections (32,768 to 60,999, unless told otherwise).
const PORTS: Range<u16> = 10_240..32_768;

/// Where a `nats-server` of this version is: what [`BINARY_VARIABLE`] names, what
/// `crates/log/nats-server` has put under `target`, or else (for any version) one on the `PATH`.
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
    /// What runs, or does not.
    pub process: Process,
}

impl Server {
    /// Writes its configuration and starts it.
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

    /// Starts it again on what it had stored, if it is not running. Returns when it answers.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer within 15 s: with the end of its log.
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
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Whether it says who it is.
    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect_timeout(&self.address, LOOK_EVERY) else {
            return false;
        };
        let mut line = String::new();
        let read = stream.set_read_timeout(Some(UP_WITHIN)).and_then(|()| {
            // A server that is asked for its name waits for no more.
            BufReader::new(&stream).read_line(&mut line)
        });
        read.is_ok() && line.starts_with("INFO")
    }

    fn log_end(&self) -> String {
        // What is wrong with its configuration it tells before it has a log.
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        end_of(&(read("server.log") + &read("server.err")))
    }

    /// Where clients connect: `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// The same as an address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks JetStream something, and gives the answer, as JSON.
    fn ask(&self, subject: &str, payload: &str) -> io::Result<String> {
        let connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut reader = BufReader::new(&connection);
        let ask = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB $JS.API.{subject} answer {}\r\n{payload}\r\n",
            payload.len()
        );
        (&connection).write_all(ask.as_bytes())?;
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

    /// What it is called among its kind: `s1`, `s2`, ...
    pub fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// One server, or several that are a cluster.
#[derive(Debug)]
pub struct Servers {
    /// The servers, in the order of their names.
    pub servers: Vec<Server>,
}

impl Servers {
    /// Starts so many on free ports, with what they store in folders `s1`, `s2` ... of `folder`.
    /// `sync` is their `sync_interval`: `always`, or a time such as `2m`. Returns when they are one
    /// cluster; if they do not become one (another program was quicker at one of the ports, say), they
    /// are started again, elsewhere.
    ///
    /// # Errors
    /// When one cannot be started, or they do not become a cluster.
    pub fn start(binary: &Path, folder: &Path, count: usize, sync: &str) -> io::Result<Self> {
        let mut failed = io::Error::other("it was not tried");
        for _ in 0..STARTS_MAX {
            match Self::start_once(binary, folder, count, sync) {
                Ok(servers) => match servers.until_formed() {
                    Ok(()) => return Ok(servers),
                    Err(why) => failed = why,
                },
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// Waits until a stream can be placed on all servers, which takes all of them.
    fn until_formed(&self) -> io::Result<()> {
        let [first, _, ..] = self.servers.as_slice() else { return Ok(()) };
        let until = Instant::now() + FORMED_WITHIN;
        let probe = format!(
            "{{\"name\":\"probe\",\"subjects\":[\"probe\"],\"storage\":\"memory\",\"num_replicas\":{}}}",
            self.servers.len()
        );
        loop {
            // It takes its time to answer as long as nobody leads.
            let made = first.ask("STREAM.CREATE.probe", &probe);
            match made {
                Ok(made) if !made.contains("\"error\"") => {
                    return first.ask("STREAM.DELETE.probe", "").map(drop);
                }
                made if Instant::now() > until => {
                    let said = made.unwrap_or_else(|why| why.to_string());
                    return Err(io::Error::other(format!("the servers form no cluster: {said}")));
                }
                Ok(_) | Err(_) => std::thread::sleep(10 * LOOK_EVERY),
            }
        }
    }

    fn start_once(binary: &Path, folder: &Path, count: usize, sync: &str) -> io::Result<Self> {
        // A relative folder would be looked for from another one by the server.
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

    /// Asks those that are running for what is known of a stream.
    fn stream_info(&self, stream: &str) -> io::Result<String> {
        let running = self.servers.iter().filter(|server| server.process.id().is_some());
        let mut failed = io::Error::other("no server is running");
        for server in running {
            match server.ask(&format!("STREAM.INFO.{stream}"), "") {
                Ok(info) => return Ok(info),
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// Which server leads a stream.
    ///
    /// # Errors
    /// When none answers, or none leads it.
    pub fn leader(&self, stream: &str) -> io::Result<usize> {
        let info = self.stream_info(stream)?;
        let leader = info.split("\"leader\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let leads = |server: &Server| Some(server.name().as_str()) == leader;
        self.servers
            .iter()
            .position(leads)
            .ok_or_else(|| io::Error::other(format!("the stream {stream} has no leader: {info}")))
    }

    /// The oldest position of a stream.
    ///
    /// # Errors
    /// When no server answers with it.
    pub fn first(&self, stream: &str) -> io::Result<u64> {
        let info = self.stream_info(stream)?;
        let first = info.split("\"first_seq\":").nth(1).and_then(|rest| rest.split(',').next());
        let first = first.and_then(|first| first.parse().ok());
        first.ok_or_else(|| {
            io::Error::other(format!("the stream {stream} has no beginning: {info}"))
        })
    }

    /// Waits until a stream has a leader and its replicas are as far as that.
    ///
    /// # Errors
    /// When that takes more than a minute.
    pub fn until_whole(&self, stream: &str) -> io::Result<()> {
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
            std::thread::sleep(10 * LOOK_EVERY);
        }
    }

    /// Where clients connect, one for each server.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }
}

/// Addresses on loopback that are free at this moment, and that no connection is given by itself: so they
/// stay free until somebody else asks for just them.
///
/// # Errors
/// When there are too few.
pub fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    // Another program that does the same begins elsewhere.
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
