//! What the options of all drills share: ranges that are checked with the name of the flag, and the
//! words that give the same drill again.

use std::fmt::Display;

/// Why options were refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Error {
    /// An option is out of its range.
    #[error("--{name} {value}: from {min} to {max} is allowed")]
    Range {
        /// The option.
        name: &'static str,
        /// What it was set to.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// An option that is a share is out of its range.
    #[error("--{name} {share}: a share from 0.0 to {max:?} is allowed")]
    Share {
        /// The option.
        name: &'static str,
        /// What it was set to.
        share: f64,
        /// The most that is allowed.
        max: f64,
    },
}

/// Refuses the first value that is out of its range: name, value, least, most.
pub(crate) fn check_ranges(
    ranges: impl IntoIterator<Item = (&'static str, u64, u64, u64)>,
) -> Result<(), Error> {
    for (name, value, min, max) in ranges {
        if !(min..=max).contains(&value) {
            return Err(Error::Range { name, value, min, max });
        }
    }
    Ok(())
}

/// Refuses the first share that is out of its range: name, share, most.
pub(crate) fn check_shares(
    shares: impl IntoIterator<Item = (&'static str, f64, f64)>,
) -> Result<(), Error> {
    for (name, share, max) in shares {
        if !(0.0..=max).contains(&share) {
            return Err(Error::Share { name, share, max });
        }
    }
    Ok(())
}

/// What to type to have the same drill again: the seed, and everything that is not as usual.
pub(crate) struct Reproduce(Vec<String>);

impl Reproduce {
    pub(crate) fn new(seed: u64) -> Self {
        Self(vec![format!("seed {seed}")])
    }

    /// An option with a value.
    pub(crate) fn add<T: Copy + Display + PartialEq>(&mut self, name: &str, value: T, usual: T) {
        if value != usual {
            self.0.push(format!("--{name} {value}"));
        }
    }

    /// An option that is set or not.
    pub(crate) fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.0.push(format!("--{name}"));
        }
    }

    pub(crate) fn finish(self) -> String {
        self.0.join(" ")
    }
}

/// What a command line without flags gives: the defaults stand at the flags, and nowhere else.
///
/// # Panics
/// When a default is none of its flag's values, which every drill would show.
#[expect(clippy::expect_used, reason = "the flags are written here, and not by whoever calls")]
pub(crate) fn without_flags<O: clap::Args>() -> O {
    let command = O::augment_args(clap::Command::new("drill"));
    let matches = command.try_get_matches_from(["drill"]);
    matches.and_then(|matches| O::from_arg_matches(&matches)).expect("every flag has a default")
}
