//! The machine's tap: it puts notifications straight into the queues of connected clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidings_core::machine::Timestamp;
use tidings_core::machine::maze::{Command, Counters, Discard, Maze, Reply};
use tidings_node::{Tap, When};
use tokio::sync::Notify;

use super::intake::Intake;
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
    /// Notified when a tick had to leave events for later.
    pub(super) more: Arc<Notify>,
    /// The source is connected to another node, or may be. That node waits for its gaps, and a slow client of this node has
    /// the source paused through the log.
    pub(super) elsewhere: Arc<AtomicBool>,
    /// Notified when a client of this node is slow and the source is connected to another node.
    pub(super) throttle: Arc<Notify>,
    /// Notified when a node pauses or resumes the source, and when one closes it.
    pub(super) source_changed: Arc<Notify>,
    /// How long this node's source has been waited for.
    pub(super) intake: Arc<Intake>,
}

impl Outlet {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self {
            outside: Outside {
                registry,
                more: Arc::default(),
                elsewhere: Arc::default(),
                throttle: Arc::default(),
                source_changed: Arc::default(),
                intake: Arc::default(),
            },
            gap_complaint: Complaint::new("numbers never came and are skipped"),
            line_complaint: Complaint::new("lines of the source are malformed and skipped"),
        }
    }

    pub(crate) fn outside(&self) -> Outside {
        self.outside.clone()
    }

    /// Runs `act`, which delivers to the queues of connected clients, wakes the writers of those that have grown, and logs what
    /// was wrong.
    fn deliver<R>(
        &self,
        machine: &mut Maze,
        act: impl FnOnce(&mut Maze, &mut super::registry::Inner) -> R,
    ) -> R {
        let before = *machine.counters();
        let elsewhere = self.outside.elsewhere.load(Ordering::Relaxed);
        let mut inner = self.outside.registry.lock();
        self.outside.registry.watch_queues(&mut inner, elsewhere);
        let done = act(machine, &mut inner);
        inner.wake();
        let over_share = inner.take_over_share();
        drop(inner);
        if over_share {
            self.outside.throttle.notify_one();
        }
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
            When::Now => {
                let said = matches!(
                    command,
                    Command::Pause { .. } | Command::Resume { .. } | Command::Abandon { .. }
                );
                let reply = self.deliver(machine, |machine, to| machine.apply_to(at, command, to));
                if said {
                    self.outside.source_changed.notify_waiters();
                }
                reply
            }
            When::Again => machine.apply_to(at, command, &mut Discard),
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
            When::Again => machine.tick_to(at, &mut Discard),
        }
    }

    /// Only the node with the source knows whether it has waited for it. Without a source, every gap has been waited for.
    fn may_tick(&self, machine: &Maze, due: Timestamp) -> bool {
        machine.connected().is_none()
            || (!self.outside.elsewhere.load(Ordering::Relaxed)
                && self.outside.intake.has_waited_until(due))
    }
}
