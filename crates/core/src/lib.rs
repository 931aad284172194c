//! Data structures and deterministic state machines for messages that arrive late, duplicated and out of
//! order.
//!
//! Nothing here reads a clock, draws a random number, or does I/O: time is an argument, ids come with the
//! command, and the crate is `no_std` + `alloc`. So a machine that applies the same entries in the same
//! order reaches the same state and gives the same replies on every node, every time.
//!
//! ```
//! use tidings_core::structure::sequencer::{Offered, Sequencer};
//!
//! let mut sequencer = Sequencer::new(1000);
//! assert_eq!(sequencer.offer(2, "b"), Offered::Held);
//! assert_eq!(sequencer.offer(1, "a"), Offered::Ready("a"));
//! assert_eq!(sequencer.pop_ready(), Some((2, "b")));
//! assert_eq!(sequencer.offer(1, "a"), Offered::Duplicate("a"));
//! ```
//!
//! In reading order: [`structure`] holds data structures that know no service, [`machine`] holds the state
//! machines built from them, and `conformance` (a feature) tests a [`machine::Machine`] against the rules
//! of that trait.
//!
//! # Limits
//! Everything is bounded, and every bound is an argument. The documentation of each item says what happens
//! at its bound.

#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "conformance"))]
extern crate std;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod machine;
pub mod structure;
