//! Three NATS servers and three nodes, as processes. The tests drill them while they kill, pause and disconnect some.
//!
//! What holds in all of them: nothing acknowledged is lost, applied twice or handed out twice, and in the end all nodes
//! have the same state digest.
//!
//! The tests need a `nats-server` (`crates/log/nats-server` fetches it). Without one they print that they prove nothing;
//! in CI they fail instead.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and say what they have seen"
)]

mod faults;
mod healthy;
mod proxy;
mod rebuilt;
mod world;
