//! The one list of services. A service bears the same name on every floor, on the command line, in
//! the configuration, in metrics, logs and docs; no match on it has a wildcard, so the compiler
//! names the places that a new one is missing from.

use std::fmt;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// State per channel from numbered, duplicated, shuffled HTTP messages.
    Rockets,
    /// An inbox for each user, whose messages expire and are handed out once.
    Chat,
    /// Numbered events over TCP, put in order and passed on by who follows whom.
    Maze,
    /// Calls per window between the parents of services, counted from a WebSocket.
    Traffic,
    /// The last messages that peers have relayed, distinct by id.
    Tracker,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Rockets, Self::Chat, Self::Maze, Self::Traffic, Self::Tracker];

    /// Its name, everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rockets => "rockets",
            Self::Chat => "chat",
            Self::Maze => "maze",
            Self::Traffic => "traffic",
            Self::Tracker => "tracker",
        }
    }

    /// The number of its machine in the log. Never changes, never goes to another one.
    pub const fn machine(self) -> u8 {
        match self {
            Self::Rockets => 1,
            Self::Chat => 2,
            Self::Maze => 3,
            Self::Traffic => 4,
            Self::Tracker => 5,
        }
    }

    /// The service of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
