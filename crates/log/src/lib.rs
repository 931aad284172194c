//! An append-only log of opaque batches. The log never interprets what a batch contains.
//!
//! [`Log`] is the contract: its documentation states the rules that every implementation keeps. Three
//! implementations exist:
//!
//! - [`Sqlite`] keeps the log on one machine's disk.
//! - [`Memory`] keeps it for as long as the process lives, for tests and simulations.
//! - `JetStream` (feature `jetstream`) keeps it in a NATS stream that several nodes share.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "sqlite")] {
//! use tidings_log::{Log, Position, Sqlite, sqlite::Options};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! let mut log = Sqlite::open(directory, Options::default()).unwrap();
//! let number = log.last_number() + 1;
//! let position = log.append(number, b"payload").unwrap();
//! // The batch is on the disk now. Read it back, at most a mebibyte at a time:
//! let batches = log.read(Position(1), 1 << 20).unwrap();
//! assert_eq!(batches[0].position, position);
//! # }
//! ```
//!
//! # Where to look
//!
//! `contract.rs` holds the trait and its types. With the feature `conformance`, `conformance` tests an
//! implementation against the contract and `faulty` injects failures by a plan. With `nats-server`,
//! `nats_server` runs NATS servers as child processes, for tests and drills.
//!
//! # Limits
//!
//! In SQLite a batch is one value: 10^9 bytes at most, and an append holds two to three copies of it in
//! memory. A part of a batch cannot be read, and there is no search.

#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
#[cfg(feature = "conformance")]
pub mod faulty;
#[cfg(feature = "jetstream")]
pub mod jetstream;
mod memory;
#[cfg(feature = "nats-server")]
pub mod nats_server;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod turn;

pub use contract::{AppendError, Batch, Bounds, Error, Log, Origin, Position, Snapshot};
#[cfg(feature = "jetstream")]
pub use jetstream::JetStream;
pub use memory::Memory;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
