//! The one list of services. A service has the same name on every floor, on the command line, in the configuration, in
//! metrics, logs and docs. The list cannot miss a variant, and no match on it has a wildcard, so the compiler names the
//! places where a new service is missing.

use std::fmt;
use std::sync::Arc;

use crate::adapter;
use crate::contract::{Configured, Machine, Service as _, configure};
use crate::layers::{Layers, Unusable};

/// Makes [`Service`] and everything that has a line for each service.
macro_rules! services {
    ($($(#[$doc:meta])* $service:ident: $module:ident, machine $machine:literal;)*) => {
        /// A service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Service {
            $($(#[$doc])* $service,)*
        }

        impl Service {
            /// All services.
            pub const ALL: [Self; [$(Self::$service),*].len()] = [$(Self::$service),*];

            /// Returns the name that the service has everywhere.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$service => stringify!($module),)*
                }
            }

            /// Returns the number of the service's machine in the log. It never changes and is never used again.
            pub const fn machine(self) -> u8 {
                match self {
                    $(Self::$service => $machine,)*
                }
            }

            /// Returns one line about the service.
            pub(crate) const fn about(self) -> &'static str {
                match self {
                    $(Self::$service => adapter::$module::Adapter::ABOUT,)*
                }
            }

            /// Reads the service's settings.
            pub(crate) fn configure(self, layers: &Layers) -> Result<Arc<dyn Configured>, Unusable> {
                match self {
                    $(Self::$service => configure::<adapter::$module::Adapter>(layers),)*
                }
            }
        }
    };
}

services! {
    /// State per channel from numbered, duplicated, shuffled HTTP messages.
    Rockets: rockets, machine 1;
    /// An inbox for each user, whose messages expire and are handed out once.
    Chat: chat, machine 2;
    /// Numbered events over TCP, put in order and routed along a follower graph.
    Maze: maze, machine 3;
    /// Calls per window between the parents of services, counted from a WebSocket.
    Traffic: traffic, machine 4;
    /// The last messages that peers have relayed, distinct by id.
    Tracker: tracker, machine 5;
}

impl Service {
    /// Returns the service of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// Returns the name and the number of the service's machine.
    pub(crate) const fn slot(self) -> Machine {
        Machine { id: self.machine(), name: self.name() }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
