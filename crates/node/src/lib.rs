//! Runs deterministic machines over a log, and is the only place where the two meet.
//!
//! ```text
//!   propose ──▶ queue ──▶ one batch ──▶ log.append      (durable here)
//!      ▲                                    │
//!      └── reply ◀── machine.apply(at, c) ◀─┘──▶ events to watchers
//! ```
//!
//! # What it guarantees
//! - A proposal is answered when it is durable in the log *and* applied. What was answered survives any crash. A refused
//!   proposal has changed nothing, unless the refusal says that the outcome is unknown.
//! - Every machine applies the entries of the one log in one order, each once. A batch that stands in the log twice (an append
//!   that was retried) is applied once.
//! - After a restart the machines are as they were: restored from the last snapshot, and brought up to date from the log. An
//!   entry that cannot be read stops the start; nothing is skipped.
//! - Commands that arrive while a commit is under way are committed together (group commit).
//!
//! # An example
//! ```
//! use tidings_core::machine::{Machine, Malformed, Timestamp, decode, encode};
//! use tidings_node::{Builder, Settings};
//!
//! #[derive(Default)]
//! struct Total(u64);
//!
//! impl Machine for Total {
//!     type Command = u64;
//!     type Reply = u64;
//!     type Event = ();
//!     fn apply(&mut self, _at: Timestamp, add: u64, _emit: &mut impl FnMut(())) -> u64 {
//!         self.0 = self.0.saturating_add(add);
//!         self.0
//!     }
//!     fn snapshot(&self, out: &mut Vec<u8>) {
//!         encode(&self.0, out);
//!     }
//!     fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
//!         Ok(Self(decode("a total", &mut bytes)?))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut builder = Builder::new(Settings::default());
//! let total = builder.add(1, "total", Total::default());
//! let node = builder.start_in_memory();
//! assert_eq!(total.propose(40).await?, 40);
//! assert_eq!(total.propose(2).await?, 42);
//! assert_eq!(total.read(|machine| machine.0), 42);
//! # node.stop().await?;
//! # Ok(())
//! # }
//! ```
//! With [`Builder::start`] and a [`Log`](tidings_log::Log) the same is durable.
//!
//! # In reading order
//! From the lowest floor up; a file imports only from the files before it.
//!
//! - [`clock`], `entry` (the encoding of a batch), `snapshot`, `agreement` (whether nodes have the same state)
//! - `proposal` (commands on their way, and why they are refused), `stats`
//! - `slot` (a machine behind its lock, its watchers, its tap)
//! - `memory` (a node without a log), `queue` (group commit)
//! - `engine` (commit, apply, snapshot, recover, checkpoints)
//! - `shared`, `writer` (the thread that drives the engine), `handle`
//! - [`lease`] (what only one of several nodes may do at a time), `node`

#![forbid(unsafe_code)]

mod agreement;
pub mod clock;
mod engine;
mod entry;
mod handle;
pub mod lease;
mod memory;
mod node;
mod proposal;
mod queue;
mod shared;
mod slot;
mod snapshot;
mod stats;
mod writer;

pub use agreement::Disagreement;
pub use engine::{Fatal, Progress};
pub use handle::{Handle, Retry};
pub use lease::{Keeper, Lease, Leases, Taken};
pub use node::{Builder, Digest, Node};
pub use proposal::Refused;
pub use shared::Settings;
pub use slot::{Tap, Watched, Watcher, When};
pub use stats::Stats;
