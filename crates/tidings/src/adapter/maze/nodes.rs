//! What there is to do because several nodes share the log of the maze.
//!
//! A source connects to any node, which takes a lease for it; user clients connect to any. Every node
//! applies every feed, so each delivers to its own clients, in order: a client gets all that is applied
//! on its node after its id was read. Nothing that was sent after that is missing; on a node that is
//! behind, something that was sent a little before may come too.
//!
//! When the node with the source is gone its lease runs out. Then another one takes the lease, and says
//! that the source has ended. A source is named by its connection, so that happens to it once, whoever
//! says it and how often, and what a node that was only silent feeds afterwards is refused.
//!
//! That happens to a source that is alive, too, when its node could not renew the lease in time: the log
//! has not answered it for longer than the lease lasts (5 s), or not answered anybody, and afterwards
//! another node was faster. Then every feed of the deposed source that comes behind in the log is refused
//! on all nodes alike, its connection is closed, and what it sent and nobody had applied is lost with it.
//! Nothing is delivered twice: a feed that is appended again is known by its number, and what was
//! applied before stays applied. The source that comes next starts a new sequence.
//!
//! A node with a slow client has the source held by way of the log, and goes on counting how long that
//! client has slowed it. Until the source's node has heard of it more comes, and a node that was behind
//! gets much at once: that is taken as long as `client_queues_bytes_max` holds what waits for all
//! clients. Beyond, whoever has more than its share of it is cut off at once and counted.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidings_core::machine::Timestamp;
use tidings_core::machine::maze::{Command, Maze, SourceId};
use tidings_node::{Lease, Refused, Taken};
use tokio::time::sleep;

use super::{Adapter, feed};

/// The name of the lease on the source.
pub(crate) const LEASE: &str = "maze source";
/// What is fed at once, at most, while others share the log.
pub(super) const SHARED_FEED_BYTES: usize = 64 << 10;
/// How often a node looks whether a source was left behind.
const CARE_EVERY: Duration = Duration::from_millis(500);
/// How often a source that wants the lease looks for it ...
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// ... and for how long, while whoever has it is closing, or gone.
const OBTAIN_WAIT: Duration = Duration::from_secs(10);
/// How often a hold is renewed.
const HOLD_AGAIN: Duration = Duration::from_secs(2);

/// Takes the lease for a source. Returns false when another node has one that is alive.
pub(super) async fn obtain(adapter: &Adapter, lease: &Lease) -> Result<bool, Refused> {
    let begun = Instant::now();
    let mut seen: Option<(u64, Timestamp)> = None;
    while begun.elapsed() < OBTAIN_WAIT && !*adapter.stop.borrow() {
        if let Some(taken) = lease.taken_until() {
            // Under another token it was taken anew: by a node that cares for what was left behind, say.
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
        sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

/// Ends a source whose node is gone, for ever.
pub(super) async fn care(adapter: &Adapter) -> Result<(), Refused> {
    let lease = adapter.leases.lease(LEASE);
    loop {
        sleep(CARE_EVERY).await;
        let left =
            adapter.machine.read(|machine| machine.connected().is_some() || closing(machine));
        if !left || lease.is_taken() {
            continue;
        }
        // Behind this everything that the one before could do is applied here.
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

/// Has the source held while a client of this node is slow and the source is another one's, for ever.
pub(super) async fn hold_back(adapter: &Adapter) -> Result<(), Refused> {
    let by = adapter.name;
    loop {
        adapter.outside.pressed.notified().await;
        let mut held: Option<Instant> = None;
        loop {
            if held.is_none_or(|at| at.elapsed() >= HOLD_AGAIN) {
                held = Some(Instant::now());
                feed::propose(adapter, Command::Pause { by }).await?;
            }
            if adapter.registry.wait_a_while(HOLD_AGAIN).await {
                break;
            }
        }
        feed::propose(adapter, Command::Resume { by }).await?;
    }
}

/// Waits until another node has said that this source has ended.
pub(super) async fn given_up(adapter: &Adapter, source: SourceId) {
    if !adapter.leases.is_shared() {
        return std::future::pending().await;
    }
    loop {
        let mut said = std::pin::pin!(adapter.outside.said.notified());
        said.as_mut().enable();
        if adapter.machine.read(Maze::connected) != Some(source) {
            return;
        }
        said.await;
    }
}

impl Adapter {
    /// The source is this node's, or no longer is.
    pub(super) fn set_here(&self, here: bool) {
        if here && self.leases.is_shared() {
            self.registry.begin_feeding();
        }
        self.source_connected.store(here, Ordering::Relaxed);
        let elsewhere = self.leases.is_shared() && !here;
        self.outside.elsewhere.store(elsewhere, Ordering::Relaxed);
    }

    /// What is fed or released at once, at most.
    pub(super) fn piece(&self, usual: usize) -> usize {
        if self.leases.is_shared() { usual.min(SHARED_FEED_BYTES) } else { usual }
    }
}
