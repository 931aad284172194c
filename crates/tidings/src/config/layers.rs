//! Where the value of a setting comes from: a flag, the environment, a file, or the default.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tidings_log::nats_server::BINARY_VARIABLE;

use super::{Unusable, Values, flag, variable};

/// The list of all settings, their documentation and their defaults.
const DEFAULT: &str = include_str!("../../config/default.toml");

/// A setting as it stands in the list.
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

/// Every key with its value, the strongest one given.
#[derive(Clone, Debug)]
pub struct Layers {
    values: Values,
}

/// Every setting, in the order of the list.
pub fn keys() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    KEYS.get_or_init(|| read_list(DEFAULT))
}

/// Reads the list: a setting is a line `key = value`, its help the comment right above it.
fn read_list(text: &str) -> Vec<Key> {
    let (mut table, mut help, mut keys) = (String::new(), Vec::new(), Vec::new());
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
    /// Only defaults.
    pub fn defaults() -> Self {
        let value = |key: &Key| (key.name.clone(), (key.default.clone(), Source::Default));
        Self { values: keys().iter().map(value).collect() }
    }

    /// Puts a value over what was there.
    ///
    /// # Errors
    /// [`Unusable`] when there is no such key; it says which is nearest.
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

    /// Puts the settings of a file over what was there.
    ///
    /// # Errors
    /// [`Unusable`] when it is no TOML, or has a key that does not exist.
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

    /// Puts the environment over what was there.
    ///
    /// # Errors
    /// [`Unusable`] when a variable begins with `TIDINGS_` and names no setting.
    pub fn set_from_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), Unusable> {
        for (name, value) in variables.filter(|(name, _)| name.starts_with("TIDINGS_")) {
            // These are no settings of the server: where the file is, the seed of tests, and the
            // `nats-server` of a cluster for trying.
            if matches!(name.as_str(), "TIDINGS_CONFIG" | "TIDINGS_SEED" | BINARY_VARIABLE) {
                continue;
            }
            let known = keys().iter().find(|key| variable(&key.name) == name);
            let key = known.map_or_else(|| name.clone(), |key| key.name.clone());
            self.set(&key, value, Source::Variable(name))?;
        }
        Ok(())
    }

    /// Puts a flag over what was there.
    ///
    /// # Errors
    /// [`Unusable`] when there is no such key.
    pub fn set_from_flag(&mut self, key: &str, value: String) -> Result<(), Unusable> {
        self.set(key, value, Source::Flag(flag(key)))
    }

    /// The value of a key, read by `parse`, which says what is allowed when it cannot.
    pub(super) fn take<T>(
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

/// How many letters have to change to make one of the other (Levenshtein).
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
