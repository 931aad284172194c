//! `tidings drill`: a messy world and its referee, against a server that is there or one brought
//! along.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use tidings_drill::{Progress, Target, Verdict, chat, maze, rockets, tracker, traffic};

use super::{runtime, say};
use crate::config::Settings;
use crate::server::Server;
use crate::service::Service;
use crate::telemetry;

/// The flag that names the servers to drill.
const TARGET: &str = "target";
/// The flags that name the ports of the maze of the servers to drill.
const SOURCE: &str = "maze-source";
const CLIENTS: &str = "maze-clients";
/// The flag that names where the drill of the traffic listens.
const LISTEN: &str = "listen";
/// The flag for a server of its own that keeps its data.
const DURABLE: &str = "durable";

pub(super) fn command() -> Command {
    let target = Arg::new(TARGET)
        .long(TARGET)
        .value_name("URL")
        .action(ArgAction::Append)
        .value_delimiter(',')
        .global(true)
        .help("The server to drill, such as http://127.0.0.1:8088; several, repeated or with commas, are nodes that share a log; without it, one is started inside on free ports");
    let durable = Arg::new(DURABLE)
        .long(DURABLE)
        .action(ArgAction::SetTrue)
        .global(true)
        .conflicts_with(TARGET)
        .help("Let the server inside keep its data in a temporary folder instead of in memory");
    let about =
        "Drill a server with a messy world and check every answer; exit code 1 if one is wrong";
    let command = Command::new("drill").about(about).arg(target).arg(durable);
    Service::ALL.into_iter().fold(command, |command, service| {
        command.subcommand(match service {
            Service::Rockets => rockets::Options::augment_args(Command::new(service.name()))
                .about("Numbered messages of rockets: shuffled, duplicated, retried"),
            Service::Chat => chat::Options::augment_args(Command::new(service.name())).about(
                "Messages that expire, read by many readers at once, each to be handed out once",
            ),
            Service::Maze => maze_command(service.name()),
            Service::Traffic => traffic_command(service.name()),
            Service::Tracker => tracker::Options::augment_args(Command::new(service.name()))
                .about("Messages relayed by many peers at once, and what is left of them"),
        })
    })
}

fn maze_command(name: &'static str) -> Command {
    let address = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("ADDR").default_value(default).help(help)
    };
    maze::Options::augment_args(Command::new(name))
        .about("Numbered events in disorder, and what every client must receive, to the byte")
        .arg(address(SOURCE, "127.0.0.1:9090", "With --target: where the source connects"))
        .arg(
            address(CLIENTS, "127.0.0.1:9099", "With --target: where the user clients connect, spread over several if repeated or with commas")
                .value_name("ADDR,...")
                .action(ArgAction::Append)
                .value_delimiter(','),
        )
}

fn traffic_command(name: &'static str) -> Command {
    let listen = Arg::new(LISTEN)
        .long(LISTEN)
        .value_name("ADDR")
        .default_value("127.0.0.1:5050")
        .help("With --target: where the servers dial to (their --traffic-url ws://ADDR/ws)");
    traffic::Options::augment_args(Command::new(name))
        .about("An upstream server of its own: topology, communications, and a count to hold reports to")
        .arg(listen)
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let drills = match matches.subcommand() {
        Some((name, matches)) => {
            Service::named(name).into_iter().map(|service| (service, Some(matches))).collect()
        }
        None => Service::ALL.map(|service| (service, None)).to_vec(),
    };
    let matches = drills.first().and_then(|(_, matches)| *matches).unwrap_or(matches);
    // The drill has this thread, a server inside another: they share nothing but sockets.
    let targets = values(matches, TARGET);
    let upstream = upstream(&drills, !targets.is_empty())?;
    let inside = if targets.is_empty() {
        let capacity = tracker_capacity(&drills)?;
        Some(Inside::start(matches.get_flag(DURABLE), &capacity, upstream.as_ref())?)
    } else {
        None
    };
    let addresses = inside.as_ref().map_or(targets, |inside| vec![inside.http.clone()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside_maze = inside.as_ref().and_then(|inside| inside.maze);
    let passed = runtime.block_on(drill_all(&addresses, inside_maze, upstream, &drills))?;
    if let Some(inside) = inside {
        inside.stop()?;
        say(format_args!(
            "(the server ran inside this process: its CPU and memory include the drill's)"
        ))?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn drill_all(
    addresses: &[String],
    inside_maze: Option<(SocketAddr, SocketAddr)>,
    mut upstream: Option<(traffic::Upstream, traffic::Options)>,
    drills: &[(Service, Option<&ArgMatches>)],
) -> anyhow::Result<bool> {
    let mut targets = Vec::new();
    for address in addresses {
        targets.push(Target::resolve(address).await?);
    }
    let mut passed = true;
    for (service, matches) in drills {
        let verdict: Verdict = match service {
            Service::Rockets => {
                let options = match matches {
                    Some(matches) => rockets::Options::from_arg_matches(matches)?,
                    None => rockets::Options::default(),
                };
                rockets::run(&targets, &options, Progress::shown()).await?
            }
            Service::Chat => {
                let options = match matches {
                    Some(matches) => chat::Options::from_arg_matches(matches)?,
                    None => chat::Options::default(),
                };
                chat::run(&targets, &options, Progress::shown()).await?
            }
            Service::Maze => {
                let options = match matches {
                    Some(matches) => maze::Options::from_arg_matches(matches)?,
                    None => maze::Options::default(),
                };
                let (source, clients) = match inside_maze {
                    Some((source, clients)) => (vec![source], vec![clients]),
                    None => (
                        maze_addresses(*matches, SOURCE, 9090).await?,
                        maze_addresses(*matches, CLIENTS, 9099).await?,
                    ),
                };
                let source = *source.first().context("--maze-source: no address")?;
                let targets = maze::Targets { source, clients, http: targets.clone() };
                maze::run(&targets, &options, Progress::shown()).await?
            }
            Service::Traffic => {
                let Some((upstream, options)) = upstream.take() else { continue };
                traffic::run(upstream, &targets, &options, Progress::shown()).await?
            }
            Service::Tracker => {
                let options = match matches {
                    Some(matches) => tracker::Options::from_arg_matches(matches)?,
                    None => tracker::Options::default(),
                };
                tracker::run(&targets, &options, Progress::shown()).await?
            }
        };
        say(format_args!("{verdict}"))?;
        passed &= verdict.passed();
    }
    Ok(passed)
}

/// What the server dials to, if the traffic is drilled: taken before a server is started.
fn upstream(
    drills: &[(Service, Option<&ArgMatches>)],
    has_target: bool,
) -> anyhow::Result<Option<(traffic::Upstream, traffic::Options)>> {
    let Some((_, matches)) = drills.iter().find(|(service, _)| *service == Service::Traffic) else {
        return Ok(None);
    };
    let options = match matches {
        Some(matches) => traffic::Options::from_arg_matches(matches)?,
        None => traffic::Options::default(),
    };
    let listen = matches.and_then(|matches| matches.get_one::<String>(LISTEN));
    let listen = listen.filter(|_| has_target).map_or("127.0.0.1:0", String::as_str);
    let listen = listen.parse().with_context(|| format!("--{LISTEN} {listen}"))?;
    Ok(Some((traffic::Upstream::bind(listen)?, options)))
}

/// How many messages the drill of the tracker expects to be tracked.
fn tracker_capacity(drills: &[(Service, Option<&ArgMatches>)]) -> anyhow::Result<String> {
    let found = drills.iter().find(|(service, _)| *service == Service::Tracker);
    let options = found.and_then(|(_, matches)| *matches).map(tracker::Options::from_arg_matches);
    Ok(options.transpose()?.unwrap_or_default().capacity.to_string())
}

/// What a flag says, all of it.
fn values(matches: &ArgMatches, flag: &str) -> Vec<String> {
    matches.get_many(flag).into_iter().flatten().cloned().collect()
}

/// Where ports of the maze are: as a flag says, or the usual number.
async fn maze_addresses(
    matches: Option<&ArgMatches>,
    flag: &str,
    port: u16,
) -> anyhow::Result<Vec<SocketAddr>> {
    let given = matches.map(|matches| values(matches, flag)).unwrap_or_default();
    let given = if given.is_empty() { vec![format!("127.0.0.1:{port}")] } else { given };
    let mut addresses = Vec::new();
    for address in given {
        let found = tokio::net::lookup_host(&address).await?.next();
        addresses
            .push(found.with_context(|| format!("--{flag} {address}: the name has no address"))?);
    }
    Ok(addresses)
}

/// A server in this process, on a thread and free ports of its own.
struct Inside {
    http: String,
    maze: Option<(SocketAddr, SocketAddr)>,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
    /// Removed when the drill is over.
    _folder: Option<tempfile::TempDir>,
}

impl Inside {
    fn start(
        durable: bool,
        tracker_capacity: &str,
        upstream: Option<&(traffic::Upstream, traffic::Options)>,
    ) -> anyhow::Result<Self> {
        let folder = durable.then(tempfile::tempdir).transpose()?;
        let data = folder.as_ref().map(|folder| folder.path().display().to_string());
        let mut given = vec![
            ("http", "127.0.0.1:0"),
            ("maze.source", "127.0.0.1:0"),
            ("maze.clients", "127.0.0.1:0"),
            ("log_level", "warn"),
            ("tracker.capacity", tracker_capacity),
        ];
        let traffic = upstream.map(|(upstream, options)| {
            Ok::<_, std::io::Error>((upstream.url()?, format!("{}ms", options.window_ms)))
        });
        let traffic = traffic.transpose()?;
        if let Some((url, window)) = &traffic {
            given.extend([("traffic.url", url.as_str()), ("traffic.window", window.as_str())]);
        }
        match &data {
            Some(data) => given.push(("data", data)),
            None => given.push(("memory", "true")),
        }
        let settings = Settings::with(&given)?;
        telemetry::start(settings.log_format, &settings.log_level);
        let (started, address) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime(&settings)?.block_on(async {
                let server = Server::start(settings).await?;
                let maze = server.port("maze.source").zip(server.port("maze.clients"));
                started.send((server.http(), maze))?;
                // Whether it is told to stop or forgotten, it stops.
                drop(stopped.await);
                server.stop().await
            })
        });
        match address.recv() {
            Ok((http, maze)) => {
                Ok(Self { http: http.to_string(), maze, stop, thread, _folder: folder })
            }
            Err(_) => {
                Err(joined(thread).err().unwrap_or_else(|| anyhow::anyhow!("it did not start")))
            }
        }
    }

    fn stop(self) -> anyhow::Result<()> {
        // If it is gone already, joining says why.
        let _gone_already = self.stop.send(());
        joined(self.thread)
    }
}

fn joined(thread: std::thread::JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the server inside has panicked")))
}
