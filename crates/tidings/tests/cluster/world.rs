//! A cluster for one test, drills against it, and the conditions that must hold in the end.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidings::cluster::{Cluster, Plan};
use tidings_log::nats_server::{VERSION, end_of, find};

/// How long the nodes may take to reach the same state once the load has ended.
const AGREE_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take under load until the log is truncated.
const TRUNCATED_WITHIN: Duration = Duration::from_secs(120);
/// How often the nodes are polled.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// The number of further clusters that may run concurrently. A cluster mostly waits for a process to come back, but
/// more than two overload a small machine.
static FREE: (Mutex<u32>, Condvar) = (Mutex::new(2), Condvar::new());

/// A permit to run a cluster, returned when dropped.
struct Turn;

impl Turn {
    fn wait() -> Self {
        let free = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = FREE.1.wait_while(free, |free| *free == 0).unwrap();
        *free -= 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREE.1.notify_one();
    }
}

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) plan: Plan,
    /// The address on which a drill of the traffic listens.
    upstream: String,
    /// The seed of the next drill.
    seed: AtomicU64,
    /// Declared after the cluster, so that it is removed only after the processes that write to it have ended.
    _folder: TempDir,
    _turn: Turn,
}

impl World {
    /// Three servers and three nodes; `None` where there is no `nats-server`.
    pub(crate) fn start(flags: &[&str]) -> Option<Self> {
        let Some(binary) = find(VERSION) else {
            assert!(std::env::var_os("CI").is_none(), "no nats-server: run crates/log/nats-server");
            eprintln!("SKIPPED: there is no nats-server; crates/log/nats-server fetches it");
            return None;
        };
        let turn = Turn::wait();
        let folder = tempfile::tempdir().unwrap();
        let upstream = tidings_log::nats_server::free_addresses(1).unwrap().swap_remove(0);
        let upstream = upstream.to_string();
        let url = format!("ws://{upstream}/ws");
        let mut all = vec!["--log-level", "info", "--traffic-url", &url, "--traffic-window", "1s"];
        all.extend(flags);
        let plan = Plan {
            folder: folder.path().to_owned(),
            nats_server: binary,
            tidings: env!("CARGO_BIN_EXE_tidings").into(),
            servers: 3,
            nodes: 3,
            sync: "always".to_owned(),
            flags: all.into_iter().map(str::to_owned).collect(),
        };
        let cluster = Cluster::start(&plan).unwrap();
        let seed = AtomicU64::new(444);
        Some(Self { cluster, plan, upstream, seed, _folder: folder, _turn: turn })
    }

    fn addresses(&self) -> Addresses {
        let nodes = &self.cluster.nodes;
        let clients: Vec<_> = nodes.iter().map(|node| node.maze_clients.to_string()).collect();
        Addresses {
            targets: self.cluster.targets(),
            upstream: self.upstream.clone(),
            maze_source: nodes.last().unwrap().maze_source.to_string(),
            maze_clients: clients.join(","),
        }
    }

    /// Runs each drill once, one after the other. All must pass.
    pub(crate) fn passes(&self, drills: &[&str]) {
        for words in drills {
            // A new seed gives new names, so the results of earlier drills do not interfere.
            let seed = self.seed.fetch_add(1, Ordering::Relaxed);
            let (passed, output) = self.addresses().drill(words, seed);
            println!("{output}");
            assert!(passed, "drill {words}: see above");
        }
    }

    /// Runs `work` with a world that lacks one node.
    pub(crate) fn without(&mut self, node: usize, work: impl FnOnce(&Self)) {
        let away = self.cluster.nodes.remove(node);
        work(self);
        self.cluster.nodes.insert(node, away);
    }

    /// Loads the remaining nodes until the log begins after `position`.
    pub(crate) fn truncated_behind(&self, position: u64) {
        let until = Instant::now() + TRUNCATED_WITHIN;
        while !self.cluster.servers.first("tidings").is_ok_and(|first| first > position) {
            self.passes(&["rockets --messages 3000 --senders 8"]);
            assert!(Instant::now() < until, "the log is not truncated");
        }
    }

    /// Repeats the drills concurrently until `faults` returns. The rounds in progress at that time are the last, so
    /// every drill also covers the time after the last fault.
    pub(crate) fn drilled(&mut self, drills: &[&str], faults: impl FnOnce(&mut Cluster)) {
        // The faults need exclusive access to the cluster; the drills only need its addresses.
        let addresses = self.addresses();
        let cluster = &mut self.cluster;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let rounds: Vec<_> = drills
                .iter()
                .map(|words| {
                    let over = &over;
                    let addresses = &addresses;
                    scope.spawn(move || {
                        let mut seed = 1000;
                        loop {
                            seed += 1;
                            let (passed, output) = addresses.drill(words, seed);
                            println!("{output}");
                            assert!(passed, "drill {words} --seed {seed}: see above");
                            if over.load(Ordering::Relaxed) {
                                return;
                            }
                        }
                    })
                })
                .collect();
            faults(cluster);
            over.store(true, Ordering::Relaxed);
            for round in rounds {
                assert!(round.join().is_ok(), "a drill has failed");
            }
        });
    }

    /// Waits until all nodes have the same position and digest, and returns the position. Fails if two nodes differ at the
    /// same position.
    pub(crate) fn agrees(&self) -> u64 {
        let until = Instant::now() + AGREE_WITHIN;
        loop {
            let digests: Vec<serde_json::Value> = self
                .cluster
                .nodes
                .iter()
                .filter_map(|node| node.get("/debug/digest"))
                .filter(|(status, _)| *status == 200)
                .map(|(_, body)| serde_json::from_str(&body).unwrap())
                .collect();
            for (one, other) in digests.iter().zip(digests.iter().skip(1)) {
                let same = one["position"] == other["position"];
                assert!(!same || one == other, "two nodes differ: {one} and {other}");
            }
            if digests.len() == self.cluster.nodes.len() && digests.windows(2).all(|w| w[0] == w[1])
            {
                println!("all nodes hold {}", digests[0]);
                return digests[0]["position"].as_u64().unwrap();
            }
            assert!(Instant::now() < until, "the nodes do not agree: {digests:?}");
            thread::sleep(POLL_EVERY);
        }
    }

    /// Returns the log lines of a node.
    pub(crate) fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.cluster.nodes[node].log()).unwrap()
    }
}

/// Prints the end of each node's log if the test fails.
impl Drop for World {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for node in &self.cluster.nodes {
            let log = std::fs::read_to_string(node.log()).unwrap_or_default();
            println!("the end of the log of node {}:\n{}", node.name(), end_of(&log));
        }
    }
}

/// The addresses that a drill needs.
struct Addresses {
    targets: String,
    upstream: String,
    maze_source: String,
    maze_clients: String,
}

impl Addresses {
    /// Runs a drill against all nodes. Returns whether it passed, and its output.
    fn drill(&self, words: &str, seed: u64) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        command.arg("drill").args(words.split_whitespace());
        command.args(["--seed", &seed.to_string(), "--target", &self.targets]);
        if words.starts_with("traffic") {
            command.args(["--listen", &self.upstream, "--window-ms", "1000"]);
        }
        if words.starts_with("maze") {
            command.args(["--maze-source", &self.maze_source]);
            command.args(["--maze-clients", &self.maze_clients]);
        }
        let done = command.stdin(Stdio::null()).output().unwrap();
        let output = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&output).into_owned())
    }
}
