//! `tidings serve`: every service, until a signal comes.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::{WELL, layers, runtime, say, with_settings};
use crate::config::Settings;
use crate::server::{Bound, Server};
use crate::shutdown::Signals;
use crate::telemetry;

pub(super) fn command() -> Command {
    let about = "Start every service; with no options at all, on 127.0.0.1 and in ./tidings-data";
    let more = "Every setting is a flag, an environment variable and a key in tidings.toml, in that order of strength.\n\
                SIGTERM or SIGINT stops it: what was accepted is answered, then it ends. A second signal ends it at once.";
    with_settings(Command::new("serve").about(about).after_help(more))
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&layers(matches)?)?;
    telemetry::start(settings.log_format, &settings.log_level);
    raise_descriptors();
    let runtime = runtime(&settings)?;
    let ended = runtime.block_on(serve(settings));
    // A recovery that was interrupted is not awaited: it has changed nothing.
    runtime.shutdown_background();
    ended
}

/// Raises the soft limit of open descriptors to the hard one. The usual soft limit, 1,024, is far below
/// `http_connections_max`, and a connection for which no descriptor is left gets no answer.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(why) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%why, "the limit of open descriptors cannot be raised");
    }
}

async fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut bound = Server::bind(settings.clone())?;
    // A server serves whether or not somebody reads this.
    drop(print_addresses(&settings, &bound));
    // A server that replaces this one takes the same ports, so that clients find it.
    let mut addresses = bound.ports().to_vec();
    addresses.push(("http", bound.http()));
    let settings = settings.with_addresses(&addresses)?;
    let mut rebuilt = 0;
    loop {
        match run_once(bound, &mut signals).await? {
            Ended::Stopped(code) => return Ok(code),
            Ended::Behind => rebuilt += 1,
        }
        bound = Server::bind(settings.clone())?.rebuilt(rebuilt);
    }
}

/// How a server ended.
enum Ended {
    /// By a signal.
    Stopped(ExitCode),
    /// The node fell behind the start of the log. The next server restores the snapshot that the nodes share.
    Behind,
}

/// Runs one server until it ends.
async fn run_once(bound: Bound, signals: &mut Signals) -> anyhow::Result<Ended> {
    let server = tokio::select! {
        server = bound.recover() => server?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped while recovering");
            return Ok(Ended::Stopped(WELL));
        }
    };
    let behind = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping; a second signal ends at once");
            false
        }
        why = server.failed() => {
            anyhow::ensure!(why.is_behind(), "the log has failed: {why}");
            tracing::warn!(%why, "this node fell behind the start of the log: it is rebuilt");
            true
        }
    };
    tokio::select! {
        stopped = server.stop() => {
            match stopped {
                _ if behind => return Ok(Ended::Behind),
                Err(why) => tracing::warn!("{why:#}"),
                Ok(()) => {}
            }
            tracing::info!("stopped");
            Ok(Ended::Stopped(WELL))
        }
        signal = signals.next() => {
            tracing::warn!(signal, "ended at once");
            // Nothing is run on the way out: what was answered is in the log.
            std::process::exit(130)
        }
    }
}

/// Prints what was bound, one line each.
fn print_addresses(settings: &Settings, bound: &Bound) -> std::io::Result<()> {
    let data = settings.data.as_deref().map_or_else(
        || "in memory only: forgotten when the process ends".to_owned(),
        |data| data.display().to_string(),
    );
    let mut lines = vec![format!("http     http://{}", bound.http())];
    for service in &settings.only {
        // `maze.source` is shown as the source of the maze.
        let prefix = format!("{service}.");
        let ports = bound.ports().iter().filter_map(|(key, address)| {
            key.strip_prefix(prefix.as_str()).map(|port| format!("{port} {address}"))
        });
        let ports: Vec<_> = ports.collect();
        if !ports.is_empty() {
            lines.push(format!("{service:<8} {}", ports.join(", ")));
        }
    }
    lines.push(format!("data     {data}"));
    if let Some(nats) = &settings.nats {
        let servers = tidings_log::jetstream::shown(&nats.servers);
        lines.push(format!("nats     {servers}, stream {}", nats.stream));
    }
    say(format_args!("{}", lines.join("\n")))
}
