//! What the options of all drills share: limits, checks, and the words that repeat a drill.
//!
//! Defaults and ranges stand at the flags and nowhere else. Options that a program sets are checked by parsing them as flags.

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::patience::Patience;

/// Flags that decide how long a drill waits, and not what it does: they are no part of what repeats a drill.
const NOT_OF_THE_WORLD: [&str; 3] = ["seed", "retry-ms", "timeout"];

/// The options of every drill.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Common {
    /// How long the drill may take in all, in seconds; then it fails
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub timeout: u64,
    /// How long it waits for a server that is away
    #[command(flatten)]
    #[serde(skip)]
    pub patience: Patience,
}

impl Default for Common {
    fn default() -> Self {
        defaults()
    }
}

/// Reads a share.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    share_up_to(text, 1.0)
}

/// Reads a share that is at most a half.
pub(crate) fn half(text: &str) -> Result<f64, String> {
    share_up_to(text, 0.5)
}

fn share_up_to(text: &str, max: f64) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=max).contains(share));
    share.ok_or_else(|| format!("a share from 0.0 to {max:?} is allowed"))
}

/// Checks options against the ranges of their flags.
///
/// # Errors
/// [`Error::Option`] for the first one that is out of its range.
pub(crate) fn check<O: clap::Args + Serialize>(options: &O) -> Result<(), Error> {
    let flags = flags(options).into_iter().filter_map(|(name, value)| flag(&name, &value, "="));
    let command = O::augment_args(clap::Command::new("drill").no_binary_name(true));
    match command.try_get_matches_from(flags) {
        Ok(_) => Ok(()),
        Err(why) => {
            let why = why.to_string();
            let line = why.lines().next().unwrap_or_default();
            Err(Error::Option(line.trim_start_matches("error: ").to_owned()))
        }
    }
}

/// Returns what to type for the same drill: the seed, and every option that is not at its default.
pub(crate) fn reproduce<O: clap::Args + Serialize>(options: &O, seed: u64) -> String {
    let defaults = flags(&defaults::<O>());
    let changed = flags(options).into_iter().filter(|(name, value)| {
        let is_world = !NOT_OF_THE_WORLD.contains(&name.as_str());
        is_world && defaults.get(name) != Some(value)
    });
    let flags = changed.filter_map(|(name, value)| flag(&name, &value, " "));
    std::iter::once(format!("seed {seed}")).chain(flags).collect::<Vec<_>>().join(" ")
}

/// Returns what a command line without flags gives.
///
/// # Panics
/// When a default is not a value of its flag, which every drill would show.
#[expect(clippy::expect_used, reason = "the flags are written here, and not by the caller")]
pub(crate) fn defaults<O: clap::Args>() -> O {
    let command = O::augment_args(clap::Command::new("drill"));
    let matches = command.try_get_matches_from(["drill"]);
    matches.and_then(|matches| O::from_arg_matches(&matches)).expect("every flag has a default")
}

/// The options by the names of their flags.
fn flags(options: &impl Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(flags)) => flags,
        _ => serde_json::Map::new(),
    }
}

/// An option as it is typed. `None` for a flag that is not set.
fn flag(name: &str, value: &Value, between: &str) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) | Value::Array(_) | Value::Object(_) => None,
        Value::Bool(true) => Some(format!("--{name}")),
        Value::String(text) => Some(format!("--{name}{between}{text}")),
        Value::Number(number) => Some(format!("--{name}{between}{number}")),
    }
}
