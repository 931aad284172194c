//! The value of every setting, from four layers: flags override the environment, the environment overrides the file,
//! and the file overrides the defaults. Whoever owns a setting reads it from here, with its type and its bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tidings_log::nats_server::BINARY_VARIABLE;

mod value;

/// The list of all settings, their documentation and their defaults.
const DEFAULT: &str = include_str!("../config/default.toml");

/// A setting that cannot be used: which one, what was given and where, and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value:?} ({from}) is not usable: {allowed}")]
pub struct Unusable {
    /// The key, as in the file.
    pub key: String,
    /// What was given.
    pub value: String,
    /// Where it was given.
    pub from: String,
    /// The allowed values.
    pub allowed: String,
}

/// One setting of the list.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name: `http`, `rockets.held_max`.
    pub name: String,
    /// What it is for.
    pub help: String,
    /// Its default.
    pub default: String,
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere.
    Default,
    /// In this file.
    File(PathBuf),
    /// In this environment variable.
    Variable(String),
    /// With this flag.
    Flag(String),
    /// By the program that starts the server.
    Code,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Variable(name) => write!(f, "from the environment variable {name}"),
            Self::Flag(name) => write!(f, "from --{name}"),
            Self::Code => f.write_str("from the program"),
        }
    }
}

/// Every key with its value from the strongest layer that gives one.
#[derive(Clone, Debug)]
pub struct Layers {
    values: BTreeMap<String, (String, Source)>,
}

/// Returns the name of a setting on the command line.
pub fn flag(key: &str) -> String {
    key.replace(['.', '_'], "-")
}

/// Returns the name of a setting in the environment.
pub fn variable(key: &str) -> String {
    format!("TIDINGS_{}", key.replace('.', "_").to_uppercase())
}

/// Returns every setting, in the order of the list.
pub fn keys() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    KEYS.get_or_init(|| read_list(DEFAULT))
}

/// Reads the list: a setting is a line `key = value`, and its help is the comment right above it.
fn read_list(text: &str) -> Vec<Key> {
    let mut table = String::new();
    let mut help = Vec::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            help.push(comment.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = format!("{name}.");
            help.clear();
        } else if let Some((name, value)) = line.split_once(" = ") {
            keys.push(Key {
                name: format!("{table}{name}"),
                help: help.join(" "),
                default: value.trim_matches('"').to_owned(),
            });
            help.clear();
        } else {
            help.clear();
        }
    }
    keys
}

impl Layers {
    /// Every setting at its default.
    pub fn defaults() -> Self {
        let value = |key: &Key| (key.name.clone(), (key.default.clone(), Source::Default));
        Self { values: keys().iter().map(value).collect() }
    }

    /// Overrides one value.
    ///
    /// # Errors
    /// [`Unusable`] when there is no such key. It names the nearest one.
    pub fn set(&mut self, key: &str, value: String, source: Source) -> Result<(), Unusable> {
        if let Some(place) = self.values.get_mut(key) {
            *place = (value, source);
            Ok(())
        } else {
            let near = keys().iter().min_by_key(|known| distance(&known.name, key));
            let near = near.map_or("", |known| &known.name);
            let allowed = format!("there is no such setting; did you mean {near}?");
            Err(Unusable { key: key.to_owned(), value, from: source.to_string(), allowed })
        }
    }

    /// Overrides with the settings of a file.
    ///
    /// # Errors
    /// [`Unusable`] when the text is not TOML, or has a key that does not exist.
    pub fn set_from_file(&mut self, path: &Path, text: &str) -> Result<(), Unusable> {
        let source = || Source::File(path.to_owned());
        let table: toml::Table = text.parse().map_err(|why: toml::de::Error| Unusable {
            key: "the file".to_owned(),
            value: path.display().to_string(),
            from: source().to_string(),
            allowed: format!("it is not TOML: {}", why.to_string().trim()),
        })?;
        for (name, value) in table {
            if let toml::Value::Table(inner) = value {
                for (key, value) in inner {
                    self.set(&format!("{name}.{key}"), plain(value), source())?;
                }
            } else {
                self.set(&name, plain(value), source())?;
            }
        }
        Ok(())
    }

    /// Overrides with the environment.
    ///
    /// # Errors
    /// [`Unusable`] when a variable begins with `TIDINGS_` and names no setting.
    pub fn set_from_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), Unusable> {
        for (name, value) in variables.filter(|(name, _)| name.starts_with("TIDINGS_")) {
            // Not settings of the server: the path of the file, the seed of tests, and the `nats-server` of a trial
            // cluster.
            if matches!(name.as_str(), "TIDINGS_CONFIG" | "TIDINGS_SEED" | BINARY_VARIABLE) {
                continue;
            }
            let known = keys().iter().find(|key| variable(&key.name) == name);
            let key = known.map_or_else(|| name.clone(), |key| key.name.clone());
            self.set(&key, value, Source::Variable(name))?;
        }
        Ok(())
    }

    /// Overrides with a flag.
    ///
    /// # Errors
    /// [`Unusable`] when there is no such key.
    pub fn set_from_flag(&mut self, key: &str, value: String) -> Result<(), Unusable> {
        self.set(key, value, Source::Flag(flag(key)))
    }

    /// Reads a setting with `parse`, whose error says what is allowed.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Unusable> {
        let (value, source) =
            self.values.get(key).cloned().unwrap_or((String::new(), Source::Default));
        parse(value.trim()).map_err(|allowed| Unusable {
            key: key.to_owned(),
            value,
            from: source.to_string(),
            allowed,
        })
    }

    /// Reads a whole number within a range.
    pub(crate) fn count<N: TryFrom<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<N, Unusable> {
        self.read(key, |text| value::count(text, range))
    }

    /// Reads a size in bytes within a range.
    pub(crate) fn bytes<N: TryFrom<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<N, Unusable> {
        self.read(key, |text| value::bytes(text, range))
    }

    /// Reads a length of time, from 1 ms to 24 h.
    pub(crate) fn time(&self, key: &str) -> Result<Duration, Unusable> {
        self.read(key, value::time)
    }

    /// Reads a length of time in milliseconds.
    pub(crate) fn time_ms(&self, key: &str) -> Result<u64, Unusable> {
        self.time(key).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// Reads `true` or `false`.
    pub(crate) fn truth(&self, key: &str) -> Result<bool, Unusable> {
        self.read(key, value::truth)
    }

    /// Reads an address, `HOST:PORT`.
    pub(crate) fn address(&self, key: &str) -> Result<String, Unusable> {
        self.read(key, value::address)
    }
}

fn plain(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        toml::Value::Array(items) => items.into_iter().map(plain).collect::<Vec<_>>().join(","),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Table(_) => value.to_string(),
    }
}

/// Returns how many letters have to change to turn one word into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (place, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *place;
            *place = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            left = *place;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
