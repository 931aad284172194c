//! `tidings log`: look at the log of a stopped server, and repair it.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command};
use tidings_log::Position;
use tidings_log::sqlite::{self, Sqlite};

use super::{WELL, layers, say};
use crate::config::Settings;

pub(super) fn command() -> Command {
    let data = Arg::new("data").long("data").value_name("DATA");
    let data = data.help("Where the data is [default: ./tidings-data] [env: TIDINGS_DATA]");
    let from = Arg::new("from").long("from").value_name("POSITION").required(true);
    let from = from.value_parser(clap::value_parser!(u64).range(1..));
    let from = from.help("The first position that goes, as `tidings log check` tells it");
    let check = "Read the whole log and say whether it is as it was written; exit code 1 if not";
    let cut = "Remove a damaged batch and all behind it: what they held is lost, what is before them is kept";
    Command::new("log")
        .about("Look at the log of a server, and repair it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("check").about(check).arg(data.clone()))
        .subcommand(Command::new("cut").about(cut).arg(data).arg(from))
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(ExitCode::FAILURE);
    };
    let settings = Settings::read(&layers(matches)?)?;
    let data =
        settings.data.context("nothing is kept with `memory`: there is no log to look at")?;
    if name == "check" {
        return check(&data);
    }
    let from = matches.get_one::<u64>("from").copied().unwrap_or_default();
    let mut log = Sqlite::open(&data, sqlite::Options::default())?;
    let cut = log.cut(Position(from))?;
    say(format_args!("removed {cut} batches from position {from} on"))?;
    Ok(WELL)
}

fn check(data: &std::path::Path) -> anyhow::Result<ExitCode> {
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
