//! Takes in messages that arrive late, twice and out of order, and hands them on once, in order, to
//! whoever they are for.
//!
//! This is the binary as a library, so that tests and drills can start a server in their own process. In reading order:
//! [`service`] (the one list of services), `contract` (what a service is), [`config`] (every setting), [`server`] (puts the
//! parts together), `adapter` (bytes to commands and back, a module for each service), `wire` (protocols), [`cluster`]
//! (several servers, as processes), [`cli`].

#![forbid(unsafe_code)]

mod adapter;
pub mod cli;
pub mod cluster;
pub mod config;
mod contract;
mod layers;
pub mod server;
pub mod service;
mod shutdown;
mod telemetry;
mod wire;
