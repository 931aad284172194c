//! What the load of the traffic counts.

use std::time::Duration;

use crate::verdict::Differences;

/// What the load found.
#[derive(Default)]
pub(super) struct Report {
    pub(super) calls: u64,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) malformed: u64,
    pub(super) fragmented: u64,
    pub(super) broken: u64,
    pub(super) unclear: u64,
    /// How often another server took over.
    pub(super) taken_over: u64,
    /// Calls of which it is not known whether they were taken.
    pub(super) doubtful: u64,
    pub(super) again: u64,
    pub(super) reports: u64,
    /// From the first byte to the last answer, without the pauses.
    pub(super) busy: Duration,
    pub(super) differences: Differences,
}
