//! Several nodes on one log: the work that only one of them may do, a node whose log stalls, and the move from a single
//! machine to a cluster.

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
