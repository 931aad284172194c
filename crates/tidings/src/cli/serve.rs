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
    telemetry::start(&settings);
    let runtime = runtime(&settings)?;
    let ended = runtime.block_on(serve(settings));
    // A recovery that was told to stop is not waited for: it has changed nothing.
    runtime.shutdown_background();
    ended
}

async fn serve(mut settings: Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut bound = Server::bind(settings.clone())?;
    // A server serves whether or not somebody reads this.
    drop(say_where(&settings, &bound));
    // Whoever knows the ports finds it there again.
    settings.http = bound.http().to_string();
    if let Some((source, clients)) = bound.maze() {
        (settings.maze.source, settings.maze.clients) = (source.to_string(), clients.to_string());
    }
    let mut rebuilt = 0;
    loop {
        match life(bound, &mut signals).await? {
            Ended::Told(code) => return Ok(code),
            Ended::Behind => rebuilt += 1,
        }
        bound = Server::bind(settings.clone())?.rebuilt(rebuilt);
    }
}

/// How a server's life has ended.
enum Ended {
    /// By a signal.
    Told(ExitCode),
    /// The log no longer reaches back to where the node was. A new one is built from the snapshot that
    /// the nodes share.
    Behind,
}

async fn life(bound: Bound, signals: &mut Signals) -> anyhow::Result<Ended> {
    let server = tokio::select! {
        server = bound.recover() => server?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped while recovering");
            return Ok(Ended::Told(WELL));
        }
    };
    let behind = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping; a second signal ends at once");
            false
        }
        why = server.failed() => {
            anyhow::ensure!(why.is_behind(), "the log has failed: {why}");
            tracing::warn!(%why, "this node was away for too long: it is built anew");
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
            Ok(Ended::Told(WELL))
        }
        signal = signals.next() => {
            tracing::warn!(signal, "ended at once");
            // Nothing is run on the way out: what was answered is in the log.
            std::process::exit(130)
        }
    }
}

fn say_where(settings: &Settings, bound: &Bound) -> std::io::Result<()> {
    let data = settings.data.as_deref().map_or_else(
        || "in memory only: forgotten when the process ends".to_owned(),
        |data| data.display().to_string(),
    );
    let maze = bound.maze().map_or_else(String::new, |(source, clients)| {
        format!("maze     source {source}, clients {clients}\n")
    });
    let nats = settings.nats.as_ref().map_or_else(String::new, |nats| {
        let servers = tidings_log::jetstream::shown(&nats.servers);
        format!("\nnats     {servers}, stream {}", nats.stream)
    });
    say(format_args!("http     http://{}\n{maze}data     {data}{nats}", bound.http()))
}
