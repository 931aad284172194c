//! What a node counts.

/// What a node has done since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// The position of the last batch applied; 0 in memory.
    pub position: u64,
    /// Entries applied since the beginning of the log.
    pub entries: u64,
    /// Entries that the start replayed from the log.
    pub replayed: u64,
    /// Batches committed.
    pub batches: u64,
    /// Bytes committed.
    pub bytes: u64,
    /// Commands refused because the log had no room.
    pub refused: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Snapshots that could not be written.
    pub snapshots_failed: u64,
}
