//! The real binary with the maze, and test clients of its protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    http: SocketAddr,
    pub(crate) source: SocketAddr,
    clients: SocketAddr,
}

impl Server {
    /// Starts a server in memory.
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_tidings")).args(["serve", "--memory"]), more)
    }

    /// Starts a server on a log.
    pub(crate) fn start_on(data: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        Self::spawn(command.args(["serve", "--data"]).arg(data), more)
    }

    fn spawn(command: &mut Command, more: &[&str]) -> Self {
        let usual = [("--http", "127.0.0.1:0"), ("--maze-source", "127.0.0.1:0")];
        for (flag, value) in usual.into_iter().filter(|(flag, _)| !more.contains(flag)) {
            command.args([flag, value]);
        }
        command.args(["--maze-clients", "127.0.0.1:0", "--log-level", "warn"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().expect("a line for each port").unwrap();
        let http = line().rsplit_once("http://").unwrap().1.parse().unwrap();
        let maze = line();
        let (source, clients) = maze.split_once(", clients ").expect("the ports of the maze");
        let source = source.rsplit_once(' ').unwrap().1.parse().unwrap();
        let server = Self { child, http, source, clients: clients.parse().unwrap() };
        until("it is ready", || server.get("/readyz").starts_with("HTTP/1.1 200"));
        server
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().unwrap()
    }

    /// Takes the processor away from it, or gives it back.
    pub(crate) fn stand_still(&self, still: bool) {
        self.signal(if still { "-STOP" } else { "-CONT" });
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn source(&self) -> TcpStream {
        let stream = TcpStream::connect(self.source).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection that has not said who it is.
    pub(crate) fn connect_client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.clients).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client that is registered.
    pub(crate) fn client(&self, user: u64) -> Client {
        let before = self.shows("clients");
        let mut stream = self.connect_client();
        stream.write_all(format!("{user}\r\n").as_bytes()).unwrap();
        until("the client is registered", || self.shows("clients") > before);
        Client { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// A number of `GET /maze`; truths are 0 and 1.
    pub(crate) fn shows(&self, name: &str) -> u64 {
        let answer = self.get("/maze");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let shown: serde_json::Value = serde_json::from_str(body).unwrap();
        let value = &shown[name];
        value.as_u64().or(value.as_bool().map(u64::from)).expect(name)
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        let answer = self.get("/metrics");
        let line =
            answer.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        line.unwrap().parse().unwrap()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A user client.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Waits for so many lines.
    pub(crate) fn lines(&mut self, count: usize) -> Vec<String> {
        let mut line = || {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).expect("a line in time") > 0, "it was closed");
            line
        };
        (0..count).map(|_| line()).collect()
    }

    /// Reads up to this line. Returns how many there were.
    pub(crate) fn lines_to(&mut self, last: &str) -> usize {
        let mut count = 1;
        while self.lines(1) != [last] {
            count += 1;
        }
        count
    }

    /// What comes until the server closes.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// Looks again and again until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Another host, in a network namespace of its own, whose cable can be cut. Gone when dropped.
pub(crate) struct Network;

const HOST: &str = "tidings-maze";

impl Network {
    /// `None` where that is not allowed.
    pub(crate) fn make() -> Option<Self> {
        let network = Self;
        let _gone_already = ip("netns del tidings-maze");
        let _gone_already = ip("link del tidings-here");
        let made = [
            "netns add tidings-maze",
            "link add tidings-here type veth peer name tidings-there netns tidings-maze",
            "addr add 10.77.0.1/24 dev tidings-here",
            "link set tidings-here up",
            "-n tidings-maze addr add 10.77.0.2/24 dev tidings-there",
            "-n tidings-maze link set tidings-there up",
        ];
        made.iter().all(|step| ip(step)).then_some(network)
    }

    /// A source on the other host.
    #[expect(clippy::unused_self, reason = "there is a network only while this lives")]
    pub(crate) fn source(&self, address: SocketAddr) -> Remote {
        let ip = address.ip();
        let port = address.port();
        let script = format!(
            "exec 3<>/dev/tcp/{ip}/{port}; while read -r line; do echo \"$line\" >&3; done"
        );
        let mut command = Command::new("ip");
        command.args(["netns", "exec", HOST, "bash", "-c", &script]).stdin(Stdio::piped());
        Remote { child: command.spawn().unwrap() }
    }

    /// Nothing gets through any more.
    #[expect(clippy::unused_self, reason = "there is a network only while this lives")]
    pub(crate) fn cut(&self) {
        assert!(ip("-n tidings-maze link set tidings-there down"));
    }
}

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Drop for Network {
    fn drop(&mut self) {
        ip("netns del tidings-maze");
    }
}

/// A process on the other host that sends what it is given.
pub(crate) struct Remote {
    child: Child,
}

impl Remote {
    pub(crate) fn send(&mut self, lines: &str) {
        self.child.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
