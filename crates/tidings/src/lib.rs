//! Takes in messages that arrive late, twice and out of order, and hands them on once, in order, to
//! whoever they are for.
//!
//! This is the binary as a library, so that tests and drills can start a server in their own
//! process. In reading order: [`service`] (the one list of what there is), [`config`] (every
//! setting), [`server`] (puts the parts together), [`cluster`] (several of them, as processes), `wire` (protocols), `adapter` (bytes to commands
//! and back, a module for each service), [`cli`].

#![forbid(unsafe_code)]

mod adapter;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod server;
pub mod service;
mod shutdown;
mod telemetry;
mod wire;
