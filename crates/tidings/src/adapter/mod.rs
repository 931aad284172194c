//! Bytes to commands, replies and events to bytes: a module for each service, each with requests
//! and responses of its own. Adapters do not see each other.

pub(crate) mod chat;
pub(crate) mod maze;
pub(crate) mod rockets;
pub(crate) mod tracker;
pub(crate) mod traffic;
