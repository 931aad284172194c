//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use crate::config::{self, Layers, Settings};

mod cluster;
#[cfg(feature = "drill")]
mod drill;
mod log;
mod serve;

/// Ends like this: everything went well.
const WELL: ExitCode = ExitCode::SUCCESS;

/// The whole command line, without running anything.
fn command() -> Command {
    let command = Command::new("tidings")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Takes in messages that arrive late, twice and out of order, and hands them on once, in order.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
        .subcommand(serve::command());
    #[cfg(feature = "drill")]
    let command = command.subcommand(drill::command());
    command.subcommand(log::command()).subcommand(cluster::command())
}

/// Adds a flag for every setting.
fn with_settings(command: Command) -> Command {
    let help = "The file with settings, instead of tidings.toml [env: TIDINGS_CONFIG]";
    let file = Arg::new("config").long("config").value_name("FILE").help(help);
    config::keys().iter().fold(command.arg(file), |command, key| {
        let default = match key.default.as_str() {
            "" if key.name == "only" => "all",
            "" => "none",
            default => default,
        };
        let variable = config::variable(&key.name);
        let help = format!("{} [default: {default}] [env: {variable}]", key.help);
        let mut arg = Arg::new(key.name.as_str()).long(config::flag(&key.name)).help(help);
        arg = arg.value_name(value_name(key));
        if key.default == "false" {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
        }
        command.arg(arg)
    })
}

/// Returns the placeholder of the value of a flag in the help.
fn value_name(key: &config::Key) -> &'static str {
    let unit = key.default.trim_start_matches(|c: char| c.is_ascii_digit());
    match (key.name.as_str(), unit) {
        ("data", _) => "DIR",
        ("only", _) => "SERVICE,...",
        ("log_format", _) => "FORMAT",
        ("log_level", _) => "LEVEL",
        ("nats", _) => "URL,...",
        ("nats_stream", _) => "NAME",
        ("nats_credentials", _) => "FILE",
        (_, "") => "N",
        (_, "ms" | "s" | "m" | "h") => "TIME",
        (_, "B" | "KiB" | "MiB" | "GiB") => "SIZE",
        (_, "true" | "false") => "BOOL",
        _ => "ADDR",
    }
}

/// Flags over environment over file over defaults.
fn layers(matches: &ArgMatches) -> anyhow::Result<Layers> {
    let mut layers = Layers::defaults();
    let named = matches.try_get_one::<String>("config").ok().flatten().map(PathBuf::from);
    let named = named.or_else(|| std::env::var_os("TIDINGS_CONFIG").map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| PathBuf::from("tidings.toml"));
    if named.is_some() || path.exists() {
        let text = std::fs::read_to_string(&path).map_err(|why| config::Unusable {
            key: "config".to_owned(),
            value: path.display().to_string(),
            from: "the file with settings".to_owned(),
            allowed: format!("it cannot be read: {why}"),
        })?;
        layers.set_from_file(&path, &text)?;
    }
    layers.set_from_environment(std::env::vars())?;
    for key in config::keys() {
        // Not every command has every flag.
        if let Ok(Some(value)) = matches.try_get_one::<String>(&key.name) {
            layers.set_from_flag(&key.name, value.clone())?;
        }
    }
    Ok(layers)
}

/// Runs what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    let ended = match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        #[cfg(feature = "drill")]
        Some(("drill", matches)) => drill::run(matches),
        Some(("log", matches)) => log::run(matches),
        Some(("cluster", matches)) => cluster::run(matches),
        Some(_) | None => Ok(ExitCode::FAILURE),
    };
    ended.unwrap_or_else(|why| {
        let mut stderr = std::io::stderr();
        // If standard error is closed, the exit code still shows the failure.
        drop(writeln!(stderr, "tidings: {why:#}"));
        // An invalid setting is a usage error, as an invalid flag is.
        if why.is::<config::Unusable>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

/// A runtime with as many workers as the settings say. One is a runtime on this very thread, which
/// on two shared cores takes a fifth less CPU than two workers.
fn runtime(settings: &Settings) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match settings.workers {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(settings.workers.max(1)).enable_all().build()
}

/// A line to standard output, at once.
fn say(line: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests;
