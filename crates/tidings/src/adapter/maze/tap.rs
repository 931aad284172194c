//! The machine's tap: where what is due goes straight to who is connected.

use std::sync::Arc;

use tidings_core::machine::Timestamp;
use tidings_core::machine::maze::{Command, Counters, Maze, Nowhere, Reply};
use tidings_node::{Tap, When};
use tokio::sync::Notify;

use super::registry::Registry;
use crate::telemetry::Complaint;

/// Taps the machine.
pub(crate) struct Outlet {
    outside: Outside,
    gap_complaint: Complaint,
    line_complaint: Complaint,
}

/// What is shared with the adapter.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(super) registry: Arc<Registry>,
    /// Told when a tick had to leave something.
    pub(crate) more: Arc<Notify>,
}

impl Outlet {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self {
            outside: Outside { registry, more: Arc::default() },
            gap_complaint: Complaint::new("numbers never came and are skipped"),
            line_complaint: Complaint::new("lines of the source are malformed and skipped"),
        }
    }

    pub(crate) fn outside(&self) -> Outside {
        self.outside.clone()
    }

    /// Lets `act` deliver to who is connected, wakes those for whom something came, and complains
    /// of what was wrong.
    fn deliver<R>(
        &self,
        machine: &mut Maze,
        act: impl FnOnce(&mut Maze, &mut super::registry::Inner) -> R,
    ) -> R {
        let before = *machine.counters();
        let mut inner = self.outside.registry.lock();
        let done = act(machine, &mut inner);
        inner.wake();
        drop(inner);
        let Counters { gaps, lost, malformed, .. } = *machine.counters();
        if gaps > before.gaps {
            let why = format!("{} gaps, {} numbers", gaps - before.gaps, lost - before.lost);
            self.gap_complaint.warn(&why);
        }
        if malformed > before.malformed {
            self.line_complaint.warn(&format!("{} at once", malformed - before.malformed));
        }
        done
    }
}

impl Tap<Maze> for Outlet {
    fn apply(&mut self, machine: &mut Maze, at: Timestamp, command: Command, when: When) -> Reply {
        match when {
            When::Now => self.deliver(machine, |machine, to| machine.apply_to(at, command, to)),
            When::Again => machine.apply_to(at, command, &mut Nowhere),
        }
    }

    fn tick(&mut self, machine: &mut Maze, at: Timestamp, when: When) {
        match when {
            When::Now => {
                self.deliver(machine, |machine, to| machine.tick_to(at, to));
                if machine.has_more() {
                    self.outside.more.notify_one();
                }
            }
            When::Again => machine.tick_to(at, &mut Nowhere),
        }
    }
}
