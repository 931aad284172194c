//! Tests of what must not happen, one file for each danger, against the real binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends where it does not go on"
)]

mod descriptors;
mod disk_full;
mod kill_nine;
mod process;
mod stopping;
mod torn_tail;
