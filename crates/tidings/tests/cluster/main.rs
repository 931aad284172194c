//! Three NATS servers and three nodes, as processes: drilled, and killed, paused and cut off
//! meanwhile. Never is anything acknowledged lost, applied or handed out twice, and in the end all
//! nodes hold the same.
//!
//! Needs a `nats-server` (`crates/log/nats-server` fetches it). Without one these tests say so and
//! prove nothing, except in CI, where they fail.
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
