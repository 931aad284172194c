//! Measures the server, pinned to processor 0, with the load of a drill on processor 1. Machines differ by a factor of two from
//! day to day, so only figures of one run are compared; every figure is the median of several runs.

#![expect(clippy::print_stdout, reason = "it prints tables")]

mod loads;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use loads::{COMPARED, LOADS, Load};
use process::{Server, cpu_seconds, row, verdict};

/// Measures the server: pinned to processor 0, the load to processor 1
#[derive(Parser)]
struct Options {
    /// Nothing for all loads; the name of a service for its loads; `cluster` for one node on `SQLite` beside one, three and
    /// five nodes on three NATS servers (nothing is pinned, takes minutes); `compare OLD NEW` for two binaries in turn
    what: Vec<String>,
    /// How often each load is run; the median counts [env: RUNS; default: 3, or 5 for compare]
    #[arg(long)]
    runs: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let given = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = options.runs.or(given);
    let what: Vec<_> = options.what.iter().map(String::as_str).collect();
    match what.as_slice() {
        ["compare", old, new] => compare(Path::new(old), Path::new(new), runs.unwrap_or(5)),
        ["cluster"] => cluster(&build()?, runs.unwrap_or(3)),
        [] => {
            all(&build()?, None, runs.unwrap_or(3))?;
            extras(&build()?)
        }
        [service] => all(&build()?, Some(service), runs.unwrap_or(3)),
        _ => anyhow::bail!("give nothing, a service, cluster, or compare OLD NEW"),
    }
}

/// Builds the server and returns its binary.
fn build() -> anyhow::Result<PathBuf> {
    let arguments = ["build", "--quiet", "--release", "--locked", "-p", "tidings"];
    anyhow::ensure!(Command::new("cargo").args(arguments).status()?.success(), "cannot build");
    Ok("target/release/tidings".into())
}

/// The figures of one run of a load.
struct Figures {
    rate: f64,
    /// Microseconds of the server's CPU time for each unit.
    micros: f64,
    mebibytes: f64,
}

/// Runs a load once. `server` serves and `client` drills.
fn run(load: &Load, server: &Path, client: &Path) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir_in("target")?;
    let data = folder.path().to_string_lossy();
    let mut flags = if load.durable { vec!["--data", &*data] } else { vec!["--memory"] };
    flags.extend(load.serve.split_whitespace());
    let server = Server::start(server, &flags)?;
    let drill: Vec<_> = load.drill.split_whitespace().collect();
    let verdict = server.drill(client, load.service, &drill)?;
    Ok(Figures {
        rate: row(&verdict, load.rate),
        micros: row(&verdict, &format!("server CPU per {}", load.per)) * 1e6,
        mebibytes: row(&verdict, "server memory") / f64::from(1 << 20),
    })
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn all(binary: &Path, service: Option<&str>, runs: usize) -> anyhow::Result<()> {
    for load in LOADS.iter().filter(|load| service.is_none_or(|service| load.service == service)) {
        let figures =
            (0..runs).map(|_| run(load, binary, binary)).collect::<Result<Vec<_>, _>>()?;
        println!(
            "{:<34} {:>12.0} {:<16} {:>9.3} µs/{:<14} {:>7.1} MiB",
            load.name,
            median(figures.iter().map(|f| f.rate)),
            load.rate,
            median(figures.iter().map(|f| f.micros)),
            load.per,
            median(figures.iter().map(|f| f.mebibytes)),
        );
    }
    Ok(())
}

/// Runs loads on two binaries in turn. The drill is always that of the new one.
fn compare(old: &Path, new: &Path, runs: usize) -> anyhow::Result<()> {
    println!(
        "{:<34} {:>10} {:>10} {:>9} {:>11}",
        "", "old µs", "new µs", "CPU ratio", "rate ratio"
    );
    for load in LOADS.iter().filter(|load| COMPARED.contains(&load.name)) {
        let mut pairs = Vec::new();
        for _ in 0..runs {
            pairs.push((run(load, old, new)?, run(load, new, new)?));
        }
        println!(
            "{:<34} {:>10.3} {:>10.3} {:>9.3} {:>11.3}",
            load.name,
            median(pairs.iter().map(|(old, _)| old.micros)),
            median(pairs.iter().map(|(_, new)| new.micros)),
            median(pairs.iter().map(|(old, new)| new.micros / old.micros)),
            median(pairs.iter().map(|(old, new)| new.rate / old.rate)),
        );
    }
    Ok(())
}

/// Reads, memory and recovery of rockets.
fn extras(binary: &Path) -> anyhow::Result<()> {
    if Command::new("wrk").arg("--version").output().is_ok() {
        let server = Server::start(binary, &["--memory"])?;
        server.drill(binary, "rockets", &["--shuffle", "0", "--messages", "2000"])?;
        let list = server.get("/rockets")?;
        let id = list.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
        for path in [format!("/rockets/{}", id.unwrap_or_default()), "/rockets".to_owned()] {
            let used = || Ok::<_, anyhow::Error>((server.metric(CPU)?, server.metric(REQUESTS)?));
            let before = used()?;
            let url = format!("http://{}{path}", server.http()?);
            Command::new("taskset")
                .args(["-c", "1", "wrk", "-t1", "-c32", "-d3s", &url])
                .output()?;
            let after = used()?;
            let requests = after.1 - before.1;
            let micros = (after.0 - before.0) * 1e6 / requests;
            let name = if path == "/rockets" { "GET /rockets" } else { "GET /rockets/{id}" };
            println!(
                "{name:<34} {:>12.0} requests/s       {micros:>9.2} µs/request",
                requests / 3.0
            );
        }
    }
    let folder = tempfile::tempdir_in("target")?;
    let data = folder.path().to_string_lossy();
    let server = Server::start(binary, &["--data", &data, "--snapshot-log-bytes", "10GiB"])?;
    println!("{:<34} {:>12.1} MiB", "memory, idle, no rockets", server.metric(MEMORY)? / 1048576.0);
    let load = "--shuffle 0 --rockets 100000 --messages 400000 --bulk 1000 --seed 5";
    let verdict = server.drill(binary, "rockets", &load.split(' ').collect::<Vec<_>>())?;
    let memory = row(&verdict, "server memory") / 1048576.0;
    println!("{:<34} {memory:>12.1} MiB", "memory, 100,000 rockets");
    let load = "--shuffle 0 --bulk 1000 --senders 4 --messages 4000000";
    server.drill(binary, "rockets", &load.split(' ').collect::<Vec<_>>())?;
    server.kill()?;
    let begun = std::time::Instant::now();
    let server = Server::start(binary, &["--data", &data])?;
    let entries = server.metric("tidings_log_entries_total")?;
    println!("{:<34} {:>12.2?} for {entries} entries", "recovery after kill -9", begun.elapsed());
    Ok(())
}

const CPU: &str = "process_cpu_seconds_total";
const MEMORY: &str = "process_resident_memory_bytes";
const REQUESTS: &str = "tidings_http_requests_total";

/// The loads of [`cluster`]: single posts one at a time, 64 at once, and in bulk.
const CLUSTER_LOADS: [(&str, &str); 3] = [
    ("one", "--senders 1 --messages 2000"),
    ("many", "--senders 64 --messages 20000"),
    ("bulk", "--senders 4 --bulk 1000 --messages 400000"),
];

/// Posts to one node on `SQLite`, and to clusters of one, three and five nodes, in turn.
fn cluster(binary: &Path, runs: usize) -> anyhow::Result<()> {
    let mut figures: BTreeMap<(&str, &str), Vec<[f64; 4]>> = BTreeMap::new();
    let mut seed = 0;
    for _ in 0..runs {
        for (name, nodes) in [("SQLite", "0"), ("1 node", "1"), ("3 nodes", "3"), ("5 nodes", "5")]
        {
            let folder = tempfile::tempdir_in("target")?;
            let mut command = Command::new(binary);
            let server = if nodes == "0" {
                command.args(["serve", "--http", "127.0.0.1:0", "--log-level", "warn", "--data"]);
                command.arg(folder.path()).args(["--maze-source", "127.0.0.1:0"]);
                Server::spawn(command.args(["--maze-clients", "127.0.0.1:0"]), "data")?
            } else {
                command.args(["cluster", "--nodes", nodes, "--data"]).arg(folder.path().join("c"));
                Server::spawn(command.args(["--", "--log-level", "warn"]), "try:")?
            };
            std::thread::sleep(Duration::from_millis(200));
            let (ids, target) = server.everything()?;
            for (load, flags) in CLUSTER_LOADS {
                seed += 1;
                let before = cpu_seconds(&ids);
                let mut drill = Command::new(binary);
                drill.args(["drill", "--json", "rockets", "--shuffle", "0", "--watch", "0"]);
                drill.args(["--seed", &seed.to_string(), "--target", &target]);
                let verdict = verdict(drill.args(flags.split(' ')))?;
                let used = (cpu_seconds(&ids) - before) * 1e6 / row(&verdict, "messages sent");
                figures.entry((name, load)).or_default().push([
                    row(&verdict, "latency p50") * 1e3,
                    row(&verdict, "latency p99") * 1e3,
                    row(&verdict, "messages/s"),
                    used,
                ]);
            }
        }
    }
    println!(
        "{:<12} {:>8} {:>8} {:>12} {:>14} {:>14} {:>16}",
        "", "p50 ms", "p99 ms", "posts/s", "CPU µs/post", "bulk msg/s", "CPU µs/msg"
    );
    for name in ["SQLite", "1 node", "3 nodes", "5 nodes"] {
        let of = |load, column: usize| {
            let runs = figures.get(&(name, load)).into_iter().flatten();
            median(runs.filter_map(|run| run.get(column).copied()))
        };
        println!(
            "{name:<12} {:>8.2} {:>8.2} {:>12.0} {:>14.1} {:>14.0} {:>16.2}",
            of("one", 0),
            of("one", 1),
            of("many", 2),
            of("many", 3),
            of("bulk", 2),
            of("bulk", 3),
        );
    }
    Ok(())
}
