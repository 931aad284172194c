//! The danger: the data of a single machine is moved to a cluster, and something is lost or applied twice on the way.
//!
//! Each test copies what one server has stored, starts nodes on the copy, and compares states, positions and idempotency
//! keys with the server of before. The tests need a `nats-server`, like the tests of the log in JetStream.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings::cluster::{Node, Plan};
use tidings_log::nats_server::Process;
use tidings_log::nats_server::{Servers, VERSION, find};

const TIDINGS: &str = env!("CARGO_BIN_EXE_tidings");

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    /// Declared before the folder, so that the servers end before their files are removed.
    servers: Servers,
    plan: Plan,
    folder: TempDir,
}

impl World {
    /// `None` where there is no `nats-server`.
    fn start() -> Option<Self> {
        let Some(nats_server) = find(VERSION) else {
            assert!(std::env::var_os("CI").is_none(), "no nats-server: run crates/log/nats-server");
            eprintln!("SKIPPED: there is no nats-server; crates/log/nats-server fetches it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--log-level", "error", "--snapshot-log-bytes", "20KiB"];
        let plan = Plan {
            folder: folder.path().to_owned(),
            nats_server: nats_server.clone(),
            tidings: TIDINGS.into(),
            servers: 1,
            nodes: 0,
            sync: "2m".to_owned(),
            flags: flags.map(str::to_owned).to_vec(),
        };
        let servers = Servers::start(&nats_server, folder.path(), 1, "2m").unwrap();
        Some(Self { servers, plan, folder })
    }

    /// A node of the cluster, or one that is alone.
    fn node(&self, number: usize, alone: bool) -> Node {
        let urls = if alone { Vec::new() } else { self.servers.urls() };
        let mut node = Node::place(&self.plan, number, &urls).unwrap();
        node.start().unwrap();
        node.until_ready().unwrap();
        node
    }

    fn copy(&self, data: &Path) -> Output {
        let mut copy = Command::new(TIDINGS);
        copy.args(["log", "copy", "--data"])
            .arg(data)
            .arg("--nats")
            .arg(self.servers.urls().join(","));
        copy.output().unwrap()
    }
}

/// The status and the body of an answer.
fn post(node: &Node, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let key = if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {key}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(node.http).unwrap();
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

/// Launches a rocket and speeds it up. Leaves out some numbers, so that messages are held behind gaps.
fn fly(node: &Node, rocket: u32, numbers: std::ops::RangeInclusive<u32>) {
    let channel = format!("193270a9-c9cf-404a-8f83-{rocket:012}");
    for number in numbers.filter(|number| number % 10 != 7) {
        let (kind, message) = if number == 1 {
            (
                "RocketLaunched",
                json!({"type": "Falcon-9", "launchSpeed": 500, "mission": "ARTEMIS"}),
            )
        } else {
            ("RocketSpeedIncreased", json!({"by": number}))
        };
        let metadata = json!({
            "channel": channel,
            "messageNumber": number,
            "messageTime": "2022-02-02T19:39:05.86337+01:00",
            "messageType": kind,
        });
        let message = json!({"metadata": metadata, "message": message});
        let (status, answer) = post(node, "/messages", "", &message);
        assert!((200..300).contains(&status), "{status}: {answer}");
    }
}

fn say(node: &Node, key: &str) -> (u16, Value) {
    let message = json!({"username": "ada", "text": format!("text of {key}"), "timeout": 3600});
    post(node, "/chat", key, &message)
}

fn json_of(node: &Node, path: &str) -> Value {
    serde_json::from_str(&node.get(path).unwrap().1).unwrap()
}

/// Waits until both nodes have the same digest, and returns it.
fn agreed(a: &Node, b: &Node) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let one = json_of(a, "/debug/digest");
        let other = json_of(b, "/debug/digest");
        if one == other {
            return one;
        }
        assert!(Instant::now() < until, "{one} and {other}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a condition holds for the maze of a node.
fn until_maze(node: &Node, says: impl Fn(&Value) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let maze = json_of(node, "/maze");
        if says(&maze) {
            return;
        }
        assert!(Instant::now() < until, "{maze}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lets a machine live and end, copies what it leaves, and goes on from it with nodes.
fn becomes_a_cluster(ends: fn(&mut Process)) {
    let Some(world) = World::start() else { return };
    let mut alone = world.node(9, true);
    fly(&alone, 1, 1..=60);
    let said: Vec<_> = (0..20).map(|n| say(&alone, &format!("key-{n}"))).collect();
    assert!(said.iter().all(|(status, _)| *status == 201), "{said:?}");
    fly(&alone, 2, 1..=20);
    let state = json_of(&alone, "/debug/digest");
    let rockets = json_of(&alone, "/rockets");
    ends(&mut alone.process);

    let data = world.folder.path().join("n9/data");
    let copied = world.copy(&data);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let text = String::from_utf8(copied.stdout).unwrap();
    assert!(text.contains(&format!(" to {}\n", state["position"])), "{text}");

    let one = world.node(1, false);
    assert_eq!(json_of(&one, "/debug/digest"), state, "before anything is asked of it");
    assert_eq!(json_of(&one, "/rockets"), rockets);
    for (n, first) in said.iter().enumerate() {
        let again = say(&one, &format!("key-{n}"));
        assert_eq!(again.1, first.1, "a key that the machine knew is known");
    }
    let unread = json_of(&one, "/chat/ada?peek=true");
    assert_eq!(unread.as_array().map(Vec::len), Some(20), "{unread}");

    // What they append makes it time for checkpoints, at which a wrong state would end them.
    let two = world.node(2, false);
    let snapshots = |node: &Node| {
        let (_, metrics) = node.get("/metrics").unwrap();
        let counted = metrics.lines().find_map(|l| l.strip_prefix("tidings_log_snapshots_total "));
        counted.expect("a metric").parse::<u64>().unwrap()
    };
    let mut rocket = 10;
    while snapshots(&one) < 2 || snapshots(&two) < 2 {
        assert!(rocket < 200, "no checkpoint comes");
        fly(&one, rocket, 1..=20);
        fly(&two, rocket + 1, 1..=20);
        rocket += 2;
    }
    let state = agreed(&one, &two);
    let new = world.node(3, false);
    assert_eq!(agreed(&two, &new)["entries"], state["entries"]);

    let refused = world.copy(&data);
    assert!(!refused.status.success(), "the cluster has gone on");
}

#[test]
fn the_data_of_a_stopped_machine_becomes_a_cluster() {
    becomes_a_cluster(Process::stop);
}

#[test]
fn the_data_of_a_killed_machine_becomes_a_cluster() {
    becomes_a_cluster(Process::kill);
}

#[test]
fn a_source_of_the_dead_machine_counts_as_closed_and_a_new_one_is_served() {
    let Some(world) = World::start() else { return };
    let mut alone = world.node(9, true);
    let mut source = TcpStream::connect(alone.maze_source).unwrap();
    source.write_all(b"1|F|7|8\n2|B\n").unwrap();
    until_maze(&alone, |maze| maze["next"] == 3);
    alone.process.kill();
    assert!(world.copy(&world.folder.path().join("n9/data")).status.success());

    let node = world.node(1, false);
    until_maze(&node, |maze| maze["source"] == false);
    let mut client = TcpStream::connect(node.maze_clients).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"8\n").unwrap();
    until_maze(&node, |maze| maze["clients"] == 1);
    let mut source = TcpStream::connect(node.maze_source).unwrap();
    source.write_all(b"1|P|7|8\n").unwrap();
    let mut line = [0; 8];
    client.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"1|P|7|8\n");
}

#[test]
fn a_copy_without_servers_explains_how_to_name_them() {
    let copy = Command::new(TIDINGS).args(["log", "copy", "--data", "missing"]).output().unwrap();
    assert!(!copy.status.success());
    let why = String::from_utf8_lossy(&copy.stderr);
    assert!(why.contains("--nats nats://"), "{why}");
}

#[test]
fn a_missing_directory_is_neither_copied_nor_created() {
    let Some(world) = World::start() else { return };
    let missing = world.folder.path().join("missing");
    let refused = world.copy(&missing);
    assert!(!refused.status.success());
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("missing"), "{why}");
    assert!(!missing.exists());
}
