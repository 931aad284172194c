//! Why a drill was not begun.

use std::net::SocketAddr;

/// Why a drill was not begun. Nothing was sent then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is out of its range.
    #[error("{0}")]
    Option(String),
    /// Two options contradict each other.
    #[error("--{option}: {why}")]
    Options {
        /// The option.
        option: &'static str,
        /// The allowed values.
        why: String,
    },
    /// There is no server to drill.
    #[error("no server to drill: give at least one")]
    NoTarget,
    /// A server is not there.
    #[error("the {what} could not connect to {address}: {error}")]
    Connect {
        /// The kind of connection.
        what: &'static str,
        /// The address of the server.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The drill's own port cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The system has no way to wait for connections.
    #[error("cannot wait for connections: {0}")]
    System(std::io::Error),
}
