//! A cluster on this machine, as processes: NATS servers, and nodes of `tidings serve` on them. For
//! trying, and for tests that kill, pause and cut off its parts. On machines of their own the parts are
//! started as docs/cluster.md says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidings_log::nats_server::{Process, Servers, end_of, free_addresses};

/// How long a node may take to be ready after its start.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The interval at which a starting node is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a node may take to answer one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The parts of a cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The directory of all data: `s1`, `s2`, ... of the servers and `n1`, `n2`, ... of the nodes.
    pub folder: PathBuf,
    /// The `nats-server` to start.
    pub nats_server: PathBuf,
    /// The `tidings` to start.
    pub tidings: PathBuf,
    /// The number of NATS servers.
    pub servers: usize,
    /// The number of nodes.
    pub nodes: usize,
    /// The servers' `sync_interval`.
    pub sync: String,
    /// Additional flags for every node.
    pub flags: Vec<String>,
}

/// A node: a process, or the place of one that has ended.
#[derive(Debug)]
pub struct Node {
    command: Vec<String>,
    tidings: PathBuf,
    folder: PathBuf,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where the maze's source connects.
    pub maze_source: SocketAddr,
    /// Where the maze's clients connect.
    pub maze_clients: SocketAddr,
    /// What runs, or does not.
    pub process: Process,
}

/// NATS servers, and nodes on them. All end when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order of their names; before the servers, so that they end first.
    pub nodes: Vec<Node>,
    /// The servers.
    pub servers: Servers,
}

impl Cluster {
    /// Starts everything on free ports of loopback, and waits until every node is ready.
    ///
    /// # Errors
    /// When a part does not start: with the end of its log.
    pub fn start(plan: &Plan) -> anyhow::Result<Self> {
        let servers = Servers::start(&plan.nats_server, &plan.folder, plan.servers, &plan.sync)
            .context("the NATS servers do not start")?;
        let urls = servers.urls();
        let mut cluster = Self { nodes: Vec::new(), servers };
        for number in 1..=plan.nodes {
            let node = Node::place(plan, number, &urls)?;
            cluster.nodes.push(node);
        }
        for node in &mut cluster.nodes {
            node.start()?;
        }
        for node in &mut cluster.nodes {
            node.until_ready()?;
        }
        Ok(cluster)
    }

    /// What a drill takes as its targets.
    pub fn targets(&self) -> String {
        let urls: Vec<_> = self.nodes.iter().map(|node| format!("http://{}", node.http)).collect();
        urls.join(",")
    }
}

impl Node {
    /// A node that is not running yet. `urls` are where it finds the servers.
    ///
    /// # Errors
    /// When no ports are free.
    pub fn place(plan: &Plan, number: usize, urls: &[String]) -> io::Result<Self> {
        let folder = plan.folder.join(format!("n{number}"));
        fs::create_dir_all(&folder)?;
        let ports = free_addresses(3)?;
        let [http, maze_source, maze_clients] = <[SocketAddr; 3]>::try_from(ports)
            .map_err(|_| io::Error::other("three free ports were asked for"))?;
        let mut command = vec!["serve".to_owned()];
        let data = folder.join("data").display().to_string();
        for (flag, value) in [
            ("--http", http.to_string()),
            ("--maze-source", maze_source.to_string()),
            ("--maze-clients", maze_clients.to_string()),
            ("--data", data),
            ("--nats", urls.join(",")),
        ] {
            command.extend([flag.to_owned(), value]);
        }
        command.extend(plan.flags.iter().cloned());
        let tidings = plan.tidings.clone();
        let process = Process::default();
        Ok(Self { command, tidings, folder, http, maze_source, maze_clients, process })
    }

    /// Its name: `n1`, `n2`, ...
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Where it writes its log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    /// Starts it, on what it had kept. Returns before it is ready.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let out = File::try_clone(&log)?;
        self.process
            .start(Command::new(&self.tidings).args(&self.command).stdout(out).stderr(log))?;
        Ok(())
    }

    /// Waits until it takes messages.
    ///
    /// # Errors
    /// When it does not, within a minute, or has ended: with the end of its log.
    pub fn until_ready(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + READY_WITHIN;
        while self.get("/readyz").is_none_or(|(status, _)| status != 200) {
            if self.process.has_ended() || Instant::now() > until {
                anyhow::bail!(
                    "node {} is not ready; the end of its log:\n{}",
                    self.name(),
                    end_of(&fs::read_to_string(self.log()).unwrap_or_default())
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// The status and the body of an answer; `None` when there was none.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.http, ANSWER_WITHIN).ok()?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
        let host = self.http;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }
}
