//! A node from outside: group commit, ending, deadlines, watchers, taps, snapshots.

#![expect(clippy::unwrap_used, reason = "a test ends where it does not go on")]

mod agreement;
mod commits;
mod deadlines;
mod ends;
mod snapshots;
mod support;
mod taps;
mod watchers;
