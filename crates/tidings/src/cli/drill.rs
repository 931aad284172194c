//! `tidings drill`: a messy world and its referee, against a running server or one that the drill starts.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;

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
/// The flag that names the address where the drill of the traffic listens.
const LISTEN: &str = "listen";
/// The flag for a server inside that keeps its data.
const DURABLE: &str = "durable";
/// The flag for verdicts that a program reads.
const JSON: &str = "json";

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
    let json = Arg::new(JSON)
        .long(JSON)
        .action(ArgAction::SetTrue)
        .global(true)
        .help("Print each verdict as one line of JSON, with numbers in base units");
    let about =
        "Drill a server with a messy world and check every answer; exit code 1 if one is wrong";
    let command = Command::new("drill").about(about).arg(target).arg(durable).arg(json);
    Service::ALL
        .into_iter()
        .fold(command, |command, service| command.subcommand(subcommand(service)))
}

/// The options of one drill.
fn subcommand(service: Service) -> Command {
    let command = Command::new(service.name());
    match service {
        Service::Rockets => rockets::Options::augment_args(command)
            .about("Numbered messages of rockets: shuffled, duplicated, retried"),
        Service::Chat => chat::Options::augment_args(command).about(
            "Messages that expire, read by many readers at once, each to be handed out once",
        ),
        Service::Maze => maze::Options::augment_args(command)
            .about("Numbered events in disorder, and what every client must receive, to the byte")
            .arg(address(SOURCE, "127.0.0.1:9090", "With --target: where the source connects"))
            .arg(
                address(CLIENTS, "127.0.0.1:9099", "With --target: where the user clients connect, spread over several if repeated or with commas")
                    .value_name("ADDR,...")
                    .action(ArgAction::Append)
                    .value_delimiter(','),
            ),
        Service::Traffic => traffic::Options::augment_args(command)
            .about("An upstream server of its own: topology, communications, and a count to hold reports to")
            .arg(address(LISTEN, "127.0.0.1:5050", "With --target: where the servers dial to (their --traffic-url ws://ADDR/ws)")),
        Service::Tracker => tracker::Options::augment_args(command)
            .about("Messages relayed by many peers at once, and what is left of them"),
    }
}

fn address(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("ADDR").default_value(default).help(help)
}

/// A drill whose options are read, and that has taken the ports it needs.
struct Prepared {
    /// What the server inside must be set to.
    settings: Vec<(&'static str, String)>,
    run: Box<dyn FnOnce(Rc<Servers>) -> Running>,
}

type Running = Pin<Box<dyn Future<Output = anyhow::Result<Verdict>>>>;

/// Where the servers are.
struct Servers {
    http: Vec<Target>,
    /// The source's and the clients' port of the server inside.
    maze: Option<(SocketAddr, SocketAddr)>,
}

impl Prepared {
    fn new<R: Future<Output = anyhow::Result<Verdict>> + 'static>(
        settings: Vec<(&'static str, String)>,
        run: impl FnOnce(Rc<Servers>) -> R + 'static,
    ) -> Self {
        Self { settings, run: Box::new(move |servers| Box::pin(run(servers))) }
    }
}

/// Reads the options of a drill. `outside` says that it drills servers that are running.
fn prepare(service: Service, matches: &ArgMatches, outside: bool) -> anyhow::Result<Prepared> {
    Ok(match service {
        Service::Rockets => {
            let options = rockets::Options::from_arg_matches(matches)?;
            Prepared::new(Vec::new(), async move |servers: Rc<Servers>| {
                Ok(rockets::run(&servers.http, &options, Progress::shown()).await?)
            })
        }
        Service::Chat => {
            let options = chat::Options::from_arg_matches(matches)?;
            Prepared::new(Vec::new(), async move |servers: Rc<Servers>| {
                Ok(chat::run(&servers.http, &options, Progress::shown()).await?)
            })
        }
        Service::Maze => {
            let options = maze::Options::from_arg_matches(matches)?;
            let source = values(matches, SOURCE);
            let clients = values(matches, CLIENTS);
            Prepared::new(Vec::new(), async move |servers: Rc<Servers>| {
                let (source, clients) = match servers.maze {
                    Some((source, clients)) => (vec![source], vec![clients]),
                    None => (resolve(SOURCE, &source).await?, resolve(CLIENTS, &clients).await?),
                };
                let source = *source.first().context("--maze-source: no address")?;
                let targets = maze::Targets { source, clients, http: servers.http.clone() };
                Ok(maze::run(&targets, &options, Progress::shown()).await?)
            })
        }
        Service::Traffic => {
            let options = traffic::Options::from_arg_matches(matches)?;
            let listen = matches.get_one::<String>(LISTEN).filter(|_| outside);
            let listen = listen.map_or("127.0.0.1:0", String::as_str);
            let listen = listen.parse().with_context(|| format!("--{LISTEN} {listen}"))?;
            let upstream = traffic::Upstream::bind(listen)?;
            let window = format!("{}ms", options.window_ms);
            let settings = vec![("traffic.url", upstream.url()?), ("traffic.window", window)];
            Prepared::new(settings, async move |servers: Rc<Servers>| {
                Ok(traffic::run(upstream, &servers.http, &options, Progress::shown()).await?)
            })
        }
        Service::Tracker => {
            let options = tracker::Options::from_arg_matches(matches)?;
            let settings = vec![("tracker.capacity", options.capacity.to_string())];
            Prepared::new(settings, async move |servers: Rc<Servers>| {
                Ok(tracker::run(&servers.http, &options, Progress::shown()).await?)
            })
        }
    })
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let chosen = matches.subcommand();
    let global = chosen.map_or(matches, |(_, matches)| matches);
    let targets = values(global, TARGET);
    let mut drills = Vec::new();
    for service in Service::ALL {
        let matches = match chosen {
            Some((name, matches)) if name == service.name() => matches.clone(),
            Some(_) => continue,
            None => subcommand(service).get_matches_from([service.name()]),
        };
        drills.push(prepare(service, &matches, !targets.is_empty())?);
    }
    // The drill has this thread, a server inside another: they share nothing but sockets.
    let inside = if targets.is_empty() {
        let settings = drills.iter().flat_map(|drill| &drill.settings);
        Some(Inside::start(global.get_flag(DURABLE), settings)?)
    } else {
        None
    };
    let addresses = inside.as_ref().map_or(targets, |inside| vec![inside.http.clone()]);
    let maze = inside.as_ref().and_then(|inside| inside.maze);
    let json = global.get_flag(JSON);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let passed = runtime.block_on(drill_all(&addresses, maze, drills, json))?;
    if let Some(inside) = inside {
        inside.stop()?;
        if !json {
            say(format_args!(
                "(the server ran inside this process: its CPU and memory include the drill's)"
            ))?;
        }
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn drill_all(
    addresses: &[String],
    maze: Option<(SocketAddr, SocketAddr)>,
    drills: Vec<Prepared>,
    json: bool,
) -> anyhow::Result<bool> {
    let mut http = Vec::new();
    for address in addresses {
        http.push(Target::resolve(address).await?);
    }
    let servers = Rc::new(Servers { http, maze });
    let mut passed = true;
    for drill in drills {
        let verdict = (drill.run)(Rc::clone(&servers)).await?;
        if json {
            say(format_args!("{}", verdict.to_json()))?;
        } else {
            say(format_args!("{verdict}"))?;
        }
        passed &= verdict.passed();
    }
    Ok(passed)
}

/// Returns all values of a flag.
fn values(matches: &ArgMatches, flag: &str) -> Vec<String> {
    matches.get_many(flag).into_iter().flatten().cloned().collect()
}

/// Looks up the addresses that a flag gives.
async fn resolve(flag: &str, given: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in given {
        let found = tokio::net::lookup_host(address).await?.next();
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
    fn start<'a>(
        durable: bool,
        settings: impl Iterator<Item = &'a (&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let folder = durable.then(tempfile::tempdir).transpose()?;
        let data = folder.as_ref().map(|folder| folder.path().display().to_string());
        let mut given = vec![
            ("http", "127.0.0.1:0"),
            ("maze.source", "127.0.0.1:0"),
            ("maze.clients", "127.0.0.1:0"),
            ("log_level", "warn"),
        ];
        given.extend(settings.map(|(key, value)| (*key, value.as_str())));
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
                // The sender is used or dropped: the server stops in both cases.
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
