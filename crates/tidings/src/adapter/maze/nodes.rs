//! What the maze does because several nodes share its log.
//!
//! A source connects to any node, which takes a lease for it. User clients connect to any node. Every node applies every feed
//! and delivers to its own clients, in order. A client gets everything that is applied on its node after its id was read:
//! nothing that was sent after that is missing, and on a node that is behind, a little that was sent before may come too.
//!
//! When the node with the source is gone, its lease ends. Another node takes the lease and logs that the source is closed. A
//! source is named by its connection, so it is closed once, whoever logs it and how often, and a feed that the old node
//! appends afterwards is rejected.
//!
//! A live source is closed in the same way when its node could not renew the lease in time, because the log did not answer
//! that node for longer than the lease lasts (5 s), and another node was faster. Every later feed of that source is rejected on
//! all nodes alike, its connection is closed, and what it had sent and no node had applied is lost. Nothing is delivered
//! twice: a feed that is appended again is recognised by its number. The next source starts a new sequence.
//!
//! A node with a slow client has the source paused through the log, and goes on counting how long that client throttles it.
//! Until the source's node has applied that, more events arrive, and a node that was behind gets many at once. They are queued
//! as long as `client_queues_bytes_max` has room for all clients; beyond that, a client with more than its share is
//! disconnected at once and counted.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidings_core::machine::Timestamp;
use tidings_core::machine::maze::{Command, Maze, SourceId};
use tidings_node::{Lease, Refused, Taken};
use tokio::time::sleep;

use super::{Adapter, feed};

/// The name of the lease on the source.
pub(crate) const LEASE: &str = "maze source";
/// How much is fed at once, at most, while other nodes share the log.
pub(super) const SHARED_FEED_BYTES: usize = 64 << 10;
/// How often a node checks for a source whose node is gone.
const ORPHAN_CHECK_EVERY: Duration = Duration::from_millis(500);
/// How often a source that wants the lease checks whether it is free ...
const LEASE_CHECK_EVERY: Duration = Duration::from_millis(50);
/// ... and for how long, while its holder is closing, or gone.
const OBTAIN_WAIT: Duration = Duration::from_secs(10);
/// How often a pause is renewed.
const PAUSE_RENEW_EVERY: Duration = Duration::from_secs(2);

/// Takes the lease for a source. Returns false when another node has one that is alive.
pub(super) async fn obtain(adapter: &Adapter, lease: &Lease) -> Result<bool, Refused> {
    let begun = Instant::now();
    let mut seen: Option<(u64, Timestamp)> = None;
    while begun.elapsed() < OBTAIN_WAIT && !*adapter.stop.borrow() {
        if let Some(taken) = lease.taken_until() {
            // Under another token it was taken anew, perhaps by a node that closes an orphaned source.
            let same = seen.filter(|(token, _)| *token == taken.0);
            let renewed = same.is_some_and(|(_, until)| taken.1 > until);
            if renewed && adapter.machine.read(|machine| machine.connected().is_some()) {
                return Ok(false);
            }
            seen = same.or(Some(taken));
        } else {
            match lease.take().await {
                Ok(Taken::Held { .. }) => return Ok(true),
                Ok(Taken::Other { .. } | Taken::Full) => {}
                Err(Refused::NoRoom(why) | Refused::Silent(why) | Refused::Unknown(why)) => {
                    adapter.room_complaint.warn(&why);
                }
                Err(why @ (Refused::Stopping | Refused::Failed(_))) => return Err(why),
            }
        }
        sleep(LEASE_CHECK_EVERY).await;
    }
    Ok(false)
}

/// Closes sources whose nodes are gone. Runs until it is dropped.
pub(super) async fn close_orphans(adapter: &Adapter) -> Result<(), Refused> {
    let lease = adapter.leases.lease(LEASE);
    loop {
        sleep(ORPHAN_CHECK_EVERY).await;
        let left =
            adapter.machine.read(|machine| machine.connected().is_some() || closing(machine));
        if !left || lease.is_taken() {
            continue;
        }
        // The take is logged, so everything that the last holder could append is applied here.
        if let Ok(Taken::Held { token }) = lease.take().await {
            let (source, closing) =
                adapter.machine.read(|machine| (machine.connected(), closing(machine)));
            if let Some(source) = source.filter(|_| lease.is_held_as(token)) {
                tracing::warn!("the node with the source is gone: the source counts as closed");
                feed::propose(adapter, Command::Abandon { source }).await?;
            } else if closing {
                feed::release(adapter).await?;
            }
        }
        lease.give();
    }
}

/// Whether a source has closed, and something of it waits to be released.
fn closing(machine: &Maze) -> bool {
    machine.has_more() && machine.connected().is_none()
}

/// Pauses the source while it is connected to another node and a client of this node is slow. Runs until it is dropped.
pub(super) async fn pause_remote_source(adapter: &Adapter) -> Result<(), Refused> {
    let by = adapter.name;
    loop {
        adapter.outside.throttle.notified().await;
        let mut paused: Option<Instant> = None;
        loop {
            if paused.is_none_or(|at| at.elapsed() >= PAUSE_RENEW_EVERY) {
                paused = Some(Instant::now());
                feed::propose(adapter, Command::Pause { by }).await?;
            }
            if adapter.registry.wait_for_change(PAUSE_RENEW_EVERY).await {
                break;
            }
        }
        feed::propose(adapter, Command::Resume { by }).await?;
    }
}

/// Waits until another node has logged that this source is closed.
pub(super) async fn closed_elsewhere(adapter: &Adapter, source: SourceId) {
    if !adapter.leases.is_shared() {
        return std::future::pending().await;
    }
    loop {
        let mut changed = std::pin::pin!(adapter.outside.source_changed.notified());
        changed.as_mut().enable();
        if adapter.machine.read(Maze::connected) != Some(source) {
            return;
        }
        changed.await;
    }
}

impl Adapter {
    /// Sets whether the source is connected to this node.
    pub(super) fn set_here(&self, here: bool) {
        if here && self.leases.is_shared() {
            self.registry.begin_feeding();
        }
        self.source_connected.store(here, Ordering::Relaxed);
        let elsewhere = self.leases.is_shared() && !here;
        self.outside.elsewhere.store(elsewhere, Ordering::Relaxed);
    }

    /// Returns how much is fed or released at once, at most.
    pub(super) fn piece(&self, usual: usize) -> usize {
        if self.leases.is_shared() { usual.min(SHARED_FEED_BYTES) } else { usual }
    }
}
