//! Nodes on one log: what only one of them may do, what happens when
//! the log of one no longer answers, and how a machine that was alone becomes a cluster.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where it does not go on"
)]

mod copy;
mod maze;
mod support;
mod traffic;
