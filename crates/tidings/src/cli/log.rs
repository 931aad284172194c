//! `tidings log`: checks and repairs the log of a stopped server, and copies it to a cluster.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Arg, ArgMatches, Command};
use tidings_log::sqlite::{self, Sqlite};
use tidings_log::{Position, jetstream};

use super::{WELL, layers, say, value_name};
use crate::config::{self, Settings};
use crate::server::stream_options;

/// How often a copy prints its progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The settings that say where the stream is.
const STREAM: [&str; 5] =
    ["nats", "nats_stream", "nats_replicas", "nats_credentials", "log_bytes_max"];

pub(super) fn command() -> Command {
    let data = Arg::new("data").long("data").value_name("DATA");
    let data = data.help("The directory of the data [default: ./tidings-data] [env: TIDINGS_DATA]");
    let from = Arg::new("from").long("from").value_name("POSITION").required(true);
    let from = from.value_parser(clap::value_parser!(u64).range(1..));
    let from = from.help("The first position to remove, as `tidings log check` prints it");
    let check = "Read the whole log and verify its checksums; exit code 1 if it is damaged";
    let cut =
        "Remove a damaged batch and all later ones: their messages are lost, earlier ones are kept";
    let copy = "Copy the log of one machine into the empty stream of a cluster; positions and numbers stay the same";
    let copy = Command::new("copy").about(copy).arg(data.clone()).args(stream_arguments()).after_help(
        "The server must be stopped. Its data is not changed. A copy that was interrupted resumes when it is run again.",
    );
    Command::new("log")
        .about("Look at the log of a server, repair it, and copy it to a cluster")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("check").about(check).arg(data.clone()))
        .subcommand(Command::new("cut").about(cut).arg(data).arg(from))
        .subcommand(copy)
}

/// The arguments of `tidings serve` that say where the stream is.
fn stream_arguments() -> impl Iterator<Item = Arg> {
    let keys = config::keys().iter().filter(|key| STREAM.contains(&key.name.as_str()));
    keys.map(|key| {
        let arg = Arg::new(key.name.as_str()).long(config::flag(&key.name));
        let help = match key.name.as_str() {
            "nats" => "The NATS servers of the cluster, separated by commas",
            "nats_stream" => "The stream to copy to: an empty one, or a new one",
            "log_bytes_max" => "The largest size of the stream, if it is created",
            _ => &key.help,
        };
        let default = if key.default.is_empty() { "none" } else { &key.default };
        let variable = config::variable(&key.name);
        arg.value_name(value_name(key))
            .help(format!("{help} [default: {default}] [env: {variable}]"))
    })
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(ExitCode::FAILURE);
    };
    let settings = Settings::read(&layers(matches)?)?;
    let data = settings.data.clone();
    let data = data.context("nothing is kept with `memory`: there is no log to look at")?;
    if name == "check" {
        return check(&data);
    }
    if name == "copy" {
        return copy(&data, &settings);
    }
    let from = matches.get_one::<u64>("from").copied().unwrap_or_default();
    let mut log = Sqlite::open(&data, sqlite::Options::default())?;
    let cut = log.cut(Position(from))?;
    say(format_args!("removed {cut} batches from position {from} on"))?;
    Ok(WELL)
}

fn check(data: &Path) -> anyhow::Result<ExitCode> {
    let report = sqlite::verify(data)?;
    say(format_args!(
        "batches    {} at positions {} to {}",
        report.batches,
        report.first,
        report.next.0 - 1
    ))?;
    say(format_args!("bytes      {}", report.bytes))?;
    match report.snapshot {
        Some(position) => {
            say(format_args!("snapshot   covers everything up to position {position}"))?;
        }
        None => say(format_args!("snapshot   none"))?,
    }
    for damage in &report.damages {
        say(format_args!("damaged    {damage}"))?;
    }
    if let Some(position) = report.damaged {
        say(format_args!(
            "repair     tidings log cut --data {} --from {position}",
            data.display()
        ))?;
    }
    if report.damages.is_empty() {
        say(format_args!("whole"))?;
    }
    Ok(if report.damages.is_empty() { WELL } else { ExitCode::FAILURE })
}

/// Copies the log, which must be whole.
fn copy(data: &Path, settings: &Settings) -> anyhow::Result<ExitCode> {
    let nats = settings.nats.as_ref();
    let nats =
        nats.context("where to? Name the servers with --nats nats://a:4222,nats://b:4222")?;
    // Opening it would make one that is not there; and what is damaged is not worth a half copy.
    let report = sqlite::verify(data)?;
    let shown = data.display();
    anyhow::ensure!(
        report.damages.is_empty(),
        "{}; `tidings log check --data {shown}` says what can be done",
        report.damages.join("; ")
    );
    let mut source = Sqlite::open(data, sqlite::Options::default())?;
    let stream = &nats.stream;
    let servers = jetstream::shown(&nats.servers);
    say(format_args!("copying    {shown} to the stream {stream} on {servers}"))?;
    let options = stream_options(nats, data, settings.log_bytes_max);
    let begun = Instant::now();
    let mut printed = begun;
    let done = jetstream::copy(&mut source, &options, |copied| {
        if printed.elapsed() >= PROGRESS_EVERY {
            printed = Instant::now();
            let all = copied.bounds.next.0 - copied.bounds.first.0;
            let done = copied.found + copied.batches;
            // The copy goes on even if nobody reads the progress.
            drop(say(format_args!("           {done} of {all} batches, {} bytes", copied.bytes)));
        }
    })?;
    let jetstream::Copied { bounds, snapshot, found, batches, bytes, .. } = done;
    if found > 0 {
        say(format_args!("found      {found} batches of an earlier copy"))?;
    }
    match snapshot {
        Some(position) => {
            say(format_args!("snapshot   covers everything up to position {position}"))?;
        }
        None => say(format_args!("snapshot   none"))?,
    }
    let first = bounds.first;
    let last = bounds.next.0 - 1;
    let elapsed = begun.elapsed();
    say(format_args!("positions  {first} to {last}"))?;
    say(format_args!("copied     {batches} batches, {bytes} bytes, in {elapsed:.1?}"))?;
    let stream =
        if stream == "tidings" { String::new() } else { format!(" --nats-stream {stream}") };
    say(format_args!(
        "next       start each node with a data directory of its own, which is new: \
         tidings serve --data DIR --nats {servers}{stream}"
    ))?;
    say(format_args!(
        "           {shown} is as it was: for the way back, until the cluster has taken something"
    ))?;
    Ok(WELL)
}
