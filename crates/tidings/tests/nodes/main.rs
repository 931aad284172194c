//! Two servers in this process, nodes on one log: what only one of them may do, and what happens when
//! the log of one no longer answers.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where it does not go on"
)]

mod maze;
mod support;
mod traffic;
