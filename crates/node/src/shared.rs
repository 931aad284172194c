//! What a node, its handles and its thread share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::clock::Clock;
use crate::memory::InMemory;
use crate::queue::Queue;
use crate::stats::Stats;

/// The bounds of a node.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A snapshot is taken when this many bytes were appended since the last one. A start replays only what follows the
    /// last snapshot.
    pub snapshot_log_bytes: u64,
    /// Whether a snapshot is taken when the node stops.
    pub snapshot_on_stop: bool,
    /// How many events of each machine are kept for watchers to resume.
    pub events_kept_max: usize,
    /// The memory that these events may take, by machine.
    pub events_kept_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            snapshot_log_bytes: 64 << 20,
            snapshot_on_stop: true,
            events_kept_max: 10_000,
            events_kept_bytes_max: 16 << 20,
        }
    }
}

/// Where the entries of a node go.
pub(crate) enum World {
    /// Nowhere: proposers apply them.
    Memory { memory: InMemory, history: u64 },
    /// To a log of this node alone.
    OwnLog { history: u64 },
    /// To a log that other nodes append to as well.
    SharedLog { history: u64 },
}

/// What a node, its handles and its thread share.
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    /// Set when the node starts. Proposals made before are queued.
    world: OnceLock<World>,
    /// Written by the thread after each batch.
    stats: Mutex<Stats>,
}

impl Shared {
    pub(crate) fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue: Arc::default(),
            clock,
            settings,
            world: OnceLock::new(),
            stats: Mutex::default(),
        }
    }

    /// Starts the node in a world. A node starts once.
    pub(crate) fn begin(&self, world: World) {
        self.world.get_or_init(|| world);
    }

    /// Returns what stands in for the log, if there is none.
    pub(crate) fn in_memory(&self) -> Option<&InMemory> {
        match self.world.get() {
            Some(World::Memory { memory, .. }) => Some(memory),
            Some(World::OwnLog { .. } | World::SharedLog { .. }) | None => None,
        }
    }

    /// Returns whether other nodes append to the log.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.world.get(), Some(World::SharedLog { .. }))
    }

    /// Returns the name of the history of entries; 0 before the start.
    pub(crate) fn history(&self) -> u64 {
        match self.world.get() {
            Some(
                World::Memory { history, .. }
                | World::OwnLog { history }
                | World::SharedLog { history },
            ) => *history,
            None => 0,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = *self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = self.in_memory() {
            stats.entries = memory.entries();
        }
        stats
    }

    pub(crate) fn publish(&self, stats: Stats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}
