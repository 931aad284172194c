//! Structures and deterministic state machines for messages that come late, twice and out of
//! order.
//!
//! Nothing here reads a clock, draws a random number, or does I/O: time is an argument, ids come
//! in with the command, and the crate is `no_std` + `alloc`. Hence a machine that is given the same
//! entries in the same order says the same things on every node, every time.
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
//! In reading order: [`structure`] holds what knows no service, [`machine`] what is built of it,
//! `conformance` (a feature) the laws that every [`machine::Machine`] obeys, as functions to call
//! from a test.
//!
//! # Limits
//! Everything is bounded, and every bound is an argument. What happens at a bound stands at the
//! item that has it.

#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "conformance"))]
extern crate std;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod machine;
pub mod structure;
