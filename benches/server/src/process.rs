//! A server as a process, the drill that loads it, and what the two report.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The processor of the server, and the one of the load.
const SERVER_CPU: &str = "0";
const LOAD_CPU: &str = "1";

/// A program on one processor.
fn pinned(cpu: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpu]).arg(program);
    command
}

/// A running server, or a cluster.
pub(crate) struct Server {
    child: Child,
    /// What it printed when it started.
    pub(crate) lines: Vec<String>,
}

impl Server {
    /// Starts a server on free ports and waits until it is ready.
    pub(crate) fn start(binary: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = pinned(SERVER_CPU, binary);
        command.args(["serve", "--http", "127.0.0.1:0", "--log-level", "warn"]);
        command.args(["--maze-source", "127.0.0.1:0", "--maze-clients", "127.0.0.1:0"]);
        let server = Self::spawn(command.args(flags), "data")?;
        while !server.get("/readyz")?.starts_with("HTTP/1.1 200") {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Starts a command and reads what it prints up to a line that begins like this.
    pub(crate) fn spawn(command: &mut Command, last: &str) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start a server")?;
        let out = child.stdout.take().context("no output")?;
        let mut lines = Vec::new();
        for line in BufReader::new(out).lines() {
            lines.push(line?);
            if lines.last().is_some_and(|line| line.trim_start().starts_with(last)) {
                return Ok(Self { child, lines });
            }
        }
        anyhow::bail!("the server has ended before it was ready")
    }

    /// The address of HTTP.
    pub(crate) fn http(&self) -> anyhow::Result<&str> {
        let found = self.lines.iter().find_map(|line| line.split_once("http://"));
        Ok(found.context("no address of HTTP")?.1.trim())
    }

    /// The flags that name the ports of the maze.
    fn maze_flags(&self) -> anyhow::Result<[String; 2]> {
        let line = self.lines.iter().find(|line| line.starts_with("maze"));
        let words: Vec<_> = line.context("no maze")?.split([' ', ',']).collect();
        let after = |name| {
            let place = words.iter().position(|word| *word == name);
            place.and_then(|place| words.get(place + 1)).context("no port of the maze")
        };
        Ok([
            format!("--maze-source={}", after("source")?),
            format!("--maze-clients={}", after("clients")?),
        ])
    }

    /// The whole answer to a GET.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.http()?)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// A number of `GET /metrics`.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.context("no such metric")?.parse().context("not a number")
    }

    /// Drills the server from the other processor.
    pub(crate) fn drill(
        &self,
        binary: &Path,
        service: &str,
        flags: &[&str],
    ) -> anyhow::Result<Value> {
        let mut command = pinned(LOAD_CPU, binary);
        command.args(["drill", "--json", service, "--target", self.http()?]).args(flags);
        if service == "maze" {
            command.args(self.maze_flags()?);
        }
        verdict(&mut command)
    }

    /// The ids of all processes that serve, and the addresses to drill.
    pub(crate) fn everything(&self) -> anyhow::Result<(Vec<String>, String)> {
        let after = |line: &String, mark| Some(line.split_once(mark)?.1.trim().to_owned());
        match self.lines.iter().find_map(|line| after(line, "--target ")) {
            Some(target) => {
                let ids = self.lines.iter().filter_map(|line| after(line, " process ")).collect();
                Ok((ids, target))
            }
            None => Ok((vec![self.child.id().to_string()], self.http()?.to_owned())),
        }
    }

    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that a cluster ends its processes too. It may have ended already.
        let id = self.child.id().to_string();
        drop(Command::new("kill").arg(id).stderr(Stdio::null()).status());
        drop(self.child.wait());
    }
}

/// Runs a drill and returns its verdict.
///
/// # Errors
/// When the drill has failed; the verdict is in the message.
pub(crate) fn verdict(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the drill has failed: {text}");
    serde_json::from_str(text.trim()).context("the verdict is not JSON")
}

/// The number in the row of this name.
pub(crate) fn row(verdict: &Value, name: &str) -> f64 {
    let rows = verdict.get("rows").and_then(Value::as_array);
    let row = rows.into_iter().flatten().find(|row| row.get("name").is_some_and(|n| n == name));
    row.and_then(|row| row.get("value")?.as_f64()).unwrap_or(f64::NAN)
}

/// The processor time of processes so far, in seconds.
pub(crate) fn cpu_seconds(ids: &[String]) -> f64 {
    /// What Linux counts processor time in.
    const TICKS_PER_SECOND: f64 = 100.0;
    let ticks = |id: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
    };
    ids.iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
}
