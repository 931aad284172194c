//! The connected clients, and the queue of each.
//!
//! There is one lock. The machine's tap takes it once for a whole feed, and a client's writer once for a whole buffer, so it
//! costs nothing per event. Everything is reached by index: a follower's index in the graph leads to the user's first
//! connection, and each connection to the next of the same user. A follower that is not connected costs one array access.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tidings_core::machine::maze::{Sink, To};
use tidings_core::structure::graph::UserIndex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The index that stands for no connection.
const NONE: u32 = u32::MAX;
/// This much can be queued for a client, however many clients there are.
const SHARE_BYTES_MIN: usize = 4 << 10;
/// The source waits at least this long for a client whose queue is full, even for one that has not read for long: perhaps
/// it was this process that was suspended.
const PATIENCE_MIN: Duration = Duration::from_millis(50);
/// A queue that grew larger than this gives its memory back.
const QUEUE_BYTES_KEPT: usize = 64 << 10;

/// The connected clients. See the top of this module.
pub(super) struct Registry {
    inner: Mutex<Inner>,
    bounds: Bounds,
    /// Notified when a queue that was full no longer is, or its client has gone.
    room: Notify,
    /// Clients that were disconnected for being slow.
    pub(super) cut_off: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) queue_bytes_max: usize,
    pub(super) queues_bytes_max: usize,
    /// How long, in all, one client may throttle the source.
    pub(super) slow_wait: Duration,
}

/// What the lock protects, and what the machine delivers to.
pub(super) struct Inner {
    /// By connection. A free entry, and a client that was disconnected, has no link.
    clients: Vec<Client>,
    free: Vec<u32>,
    /// The connections, in no order, for broadcasts.
    all: Vec<u32>,
    /// The first connection of each user.
    by_user: HashMap<u64, u32>,
    /// The first connection of the user at each place of the graph. May be short.
    by_place: Vec<u32>,
    /// Connections whose queues have grown since their writers were last woken.
    dirty: Vec<u32>,
    pub(super) notifications: u64,
    /// How much was fed lately, and how much all queues have grown by it.
    fed: Fed,
    /// How many bytes all queues have grown by for each byte fed.
    growth: usize,
    /// The bytes queued for all clients.
    waiting: usize,
    /// While the source is connected to another node, a queue above this has the source paused. Twice as much is a client's
    /// share.
    throttle_above: usize,
    /// The bound on all queues while the source is connected to another node. A client that exceeds it with more than its
    /// share is disconnected at once.
    queued_max: usize,
    /// A queue is above `throttle_above`.
    over_share: bool,
    /// Clients that were disconnected because all queues together were full.
    pub(super) overflowed: u64,
}

/// How much was fed, and how much was queued because of it.
#[derive(Clone, Copy, Default)]
struct Fed {
    bytes: usize,
    queued: usize,
}

impl Fed {
    fn grown_per_byte(self) -> usize {
        self.queued / self.bytes.max(1)
    }
}

#[derive(Default)]
struct Client {
    user: u64,
    /// The bytes to be sent.
    queue: Vec<u8>,
    /// How many bytes its writer has taken and not written yet.
    writing: usize,
    /// The next connection of the same user.
    next: u32,
    /// Its index in `all`.
    at: u32,
    dirty: bool,
    /// How long it has throttled the source.
    slowed: Duration,
    /// When its writer last wrote anything.
    moved: Option<Instant>,
    link: Option<Arc<Link>>,
}

/// The signals from the registry to the task of a client.
#[derive(Default)]
pub(super) struct Link {
    /// The queue is no longer empty.
    pub(super) wake: Notify,
    /// The connection is to be closed at once.
    pub(super) cut: Notify,
}

impl Client {
    fn waiting(&self) -> usize {
        self.queue.len() + self.writing
    }

    /// Disconnects the client. It counts as gone from here on, although its task removes it later. Returns whether it was
    /// connected.
    fn cut_off(&mut self) -> bool {
        let Some(link) = self.link.take() else { return false };
        link.cut.notify_one();
        self.writing = 0;
        self.queue = Vec::new();
        true
    }

    /// Returns how much longer it may throttle the source. A client that reads nothing uses this up even while it throttles
    /// nothing, so that many stopped clients cost no more time than one.
    fn patience(&self, slow_wait: Duration) -> Duration {
        let still =
            self.moved.filter(|_| self.writing > 0).map_or(Duration::ZERO, |at| at.elapsed());
        slow_wait.saturating_sub(self.slowed.max(still))
    }
}

impl Inner {
    #[inline]
    fn push(&mut self, which: u32, line: &[u8]) {
        let Some(client) = self.clients.get_mut(which as usize) else { return };
        if client.link.is_none() {
            return;
        }
        client.queue.extend_from_slice(line);
        self.notifications += 1;
        self.fed.queued += line.len();
        self.waiting += line.len();
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(which);
        }
        if client.waiting() > self.throttle_above {
            self.throttle(which);
        }
    }

    /// Has the source paused, which another node reads: it does not know of this queue.
    #[cold]
    fn throttle(&mut self, which: u32) {
        self.over_share = true;
        let Some(client) = self.clients.get_mut(which as usize) else { return };
        let waiting = client.waiting();
        let over = self.waiting > self.queued_max && waiting / 2 > self.throttle_above;
        if over && client.cut_off() {
            self.overflowed += 1;
            self.waiting = self.waiting.saturating_sub(waiting);
            let user = client.user;
            tracing::warn!(
                user,
                "the queues of all clients are full: a client with more than its share is disconnected"
            );
        }
    }

    pub(super) fn take_over_share(&mut self) -> bool {
        std::mem::take(&mut self.over_share)
    }

    /// Queues a line for all connections of a user, from the first one on.
    #[inline]
    fn push_all_of(&mut self, first: u32, line: &[u8]) {
        let mut which = first;
        while which != NONE {
            self.push(which, line);
            which = self.clients.get(which as usize).map_or(NONE, |client| client.next);
        }
    }

    fn first_of(&self, user: u64) -> u32 {
        self.by_user.get(&user).copied().unwrap_or(NONE)
    }

    /// Wakes the writers of all clients whose queues have grown.
    pub(super) fn wake(&mut self) {
        for which in self.dirty.drain(..) {
            if let Some(client) = self.clients.get_mut(which as usize) {
                client.dirty = false;
                if let Some(link) = &client.link {
                    link.wake.notify_one();
                }
            }
        }
    }

    fn set_first(&mut self, user: u64, place: Option<UserIndex>, first: u32) {
        if first == NONE {
            self.by_user.remove(&user);
        } else {
            self.by_user.insert(user, first);
        }
        if let Some(place) = place {
            self.set_place(place, first);
        }
    }

    fn set_place(&mut self, place: UserIndex, first: u32) {
        let place = place as usize;
        if first != NONE && self.by_place.len() <= place {
            self.by_place.resize(place + 1, NONE);
        }
        if let Some(stands) = self.by_place.get_mut(place) {
            *stands = first;
        }
    }
}

impl Sink for Inner {
    #[inline]
    fn deliver(&mut self, line: &[u8], to: To<'_>) {
        match to {
            To::User(user) => self.push_all_of(self.first_of(user), line),
            To::Followers { places, .. } => {
                for place in places {
                    let first = self.by_place.get(*place as usize).copied().unwrap_or(NONE);
                    if first != NONE {
                        self.push_all_of(first, line);
                    }
                }
            }
            To::Everybody => {
                let all = std::mem::take(&mut self.all);
                all.iter().for_each(|which| self.push(*which, line));
                self.all = all;
            }
        }
    }

    fn placed(&mut self, place: UserIndex, user: u64) {
        let first = self.first_of(user);
        self.set_place(place, first);
    }

    fn cleared(&mut self) {
        self.by_place.clear();
    }
}

impl Registry {
    pub(super) fn new(bounds: Bounds) -> Self {
        let inner = Inner {
            clients: Vec::new(),
            free: Vec::new(),
            all: Vec::new(),
            by_user: HashMap::new(),
            by_place: Vec::new(),
            dirty: Vec::new(),
            notifications: 0,
            fed: Fed::default(),
            growth: 0,
            waiting: 0,
            throttle_above: usize::MAX,
            queued_max: usize::MAX,
            over_share: false,
            overflowed: 0,
        };
        Self { inner: Mutex::new(inner), bounds, room: Notify::new(), cut_off: AtomicU64::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many clients are connected, and how many notifications there were.
    pub(super) fn counts(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.all.len(), inner.notifications)
    }

    /// Adds a client whose id is known. Called under the machine's lock, so that its index in the graph is right.
    pub(super) fn add(&self, user: u64, place: Option<UserIndex>, link: Arc<Link>) -> u32 {
        let mut inner = self.lock();
        let which = inner.free.pop().unwrap_or_else(|| {
            inner.clients.push(Client::default());
            u32::try_from(inner.clients.len() - 1).unwrap_or(NONE)
        });
        let at = u32::try_from(inner.all.len()).unwrap_or(NONE);
        let next = inner.first_of(user);
        if let Some(client) = inner.clients.get_mut(which as usize) {
            let moved = Some(Instant::now());
            *client = Client { user, next, at, moved, link: Some(link), ..Client::default() };
        }
        inner.all.push(which);
        inner.set_first(user, place, which);
        which
    }

    /// Removes a client. Called under the machine's lock.
    pub(super) fn remove(&self, which: u32, place: impl FnOnce(u64) -> Option<UserIndex>) {
        let mut inner = self.lock();
        let Some(client) = inner.clients.get_mut(which as usize) else { return };
        let client = std::mem::take(client);
        inner.waiting = inner.waiting.saturating_sub(client.waiting());
        let Client { user, next, at, dirty, .. } = client;
        if dirty {
            inner.dirty.retain(|other| *other != which);
        }
        inner.all.swap_remove(at as usize);
        if let Some(moved) = inner.all.get(at as usize).copied()
            && let Some(moved) = inner.clients.get_mut(moved as usize)
        {
            moved.at = at;
        }
        let first = inner.first_of(user);
        if first == which {
            inner.set_first(user, place(user), next);
        } else {
            let mut before = first;
            while let Some(client) = inner.clients.get_mut(before as usize) {
                if client.next == which {
                    client.next = next;
                    break;
                }
                before = client.next;
            }
        }
        inner.free.push(which);
        drop(inner);
        self.room.notify_waiters();
    }

    /// Swaps the queue of a client with `buffer`, which has been written and is empty. Returns whether there is anything to
    /// write.
    pub(super) fn swap(&self, which: u32, buffer: &mut Vec<u8>) -> bool {
        if buffer.capacity() > QUEUE_BYTES_KEPT {
            *buffer = Vec::new();
        }
        let mut inner = self.lock();
        let Some(client) = inner.clients.get_mut(which as usize) else { return false };
        std::mem::swap(&mut client.queue, buffer);
        client.writing = buffer.len();
        client.moved = Some(Instant::now());
        client.writing > 0
    }

    /// Reports that a writer has written this many bytes.
    pub(super) fn written(&self, which: u32, bytes: usize) {
        let mut inner = self.lock();
        let share = self.share(inner.all.len()).min(inner.throttle_above);
        let Some(client) = inner.clients.get_mut(which as usize) else { return };
        let was_full = client.waiting() > share;
        let bytes = bytes.min(client.writing);
        client.writing -= bytes;
        client.moved = Some(Instant::now());
        let has_room = client.waiting() <= share;
        inner.waiting = inner.waiting.saturating_sub(bytes);
        drop(inner);
        if was_full && has_room {
            self.room.notify_waiters();
        }
    }

    /// Returns how much may be queued for each client.
    fn share(&self, clients: usize) -> usize {
        let share = (self.bounds.queues_bytes_max / clients.max(1)).max(SHARE_BYTES_MIN);
        share.min(self.bounds.queue_bytes_max)
    }

    /// Sets, before something is delivered, whether the source is connected to another node (`elsewhere`). Such a source is
    /// paused through the log, and more events arrive until its node has applied that. So it is paused when half a share is
    /// queued, and what still arrives is queued as long as there is room for all clients together.
    pub(super) fn watch_queues(&self, inner: &mut Inner, elsewhere: bool) {
        inner.throttle_above = usize::MAX;
        inner.queued_max = usize::MAX;
        if elsewhere {
            inner.throttle_above = self.share(inner.all.len()) / 2;
            inner.queued_max = self.bounds.queues_bytes_max;
        }
    }

    /// Forgets what was fed before: a source of this node is about to feed.
    pub(super) fn begin_feeding(&self) {
        let mut inner = self.lock();
        inner.fed = Fed::default();
        inner.growth = 0;
    }

    /// Returns how much may be fed at once, so that all queues together grow by at most a quarter of their bound if the mix of
    /// events stays as it was. O(1).
    pub(super) fn feed_bytes(&self, bytes_max: usize) -> usize {
        let mut inner = self.lock();
        // An exponential moving average.
        inner.growth = inner.growth.midpoint(inner.fed.grown_per_byte());
        inner.fed = Fed::default();
        bytes_max.min((self.bounds.queues_bytes_max / 4 / inner.growth.max(1)).max(SHARE_BYTES_MIN))
    }

    /// Reports that this many bytes of the source are being applied.
    pub(super) fn feeding(&self, bytes: usize) {
        self.lock().fed.bytes += bytes;
    }

    /// Waits until every queue has room. A client that has throttled the source for too long, in all, is disconnected.
    /// O(clients) while no queue is full.
    pub(super) async fn wait_for_room(&self) {
        while !self.wait_for_change(Duration::MAX).await {}
    }

    /// Returns true, at once, when every queue has room. Otherwise waits until something has changed, at most this long.
    pub(super) async fn wait_for_change(&self, at_most: Duration) -> bool {
        let mut room = std::pin::pin!(self.room.notified());
        room.as_mut().enable();
        let (full, patience) = self.full();
        if full.is_empty() {
            return true;
        }
        let begun = Instant::now();
        // Until there is room, or the patience is used up.
        drop(tokio::time::timeout(patience.min(at_most), room).await);
        self.charge(&full, begun.elapsed());
        false
    }

    /// Returns the clients whose queues are full, and the shortest time that one of them may still throttle the source.
    fn full(&self) -> (Vec<u32>, Duration) {
        let inner = self.lock();
        let share = self.share(inner.all.len()).min(inner.throttle_above);
        let mut full = Vec::new();
        let mut patience = self.bounds.slow_wait;
        for which in &inner.all {
            let Some(client) = inner.clients.get(*which as usize) else { continue };
            if client.link.is_some() && client.waiting() > share {
                full.push(*which);
                patience = patience.min(client.patience(self.bounds.slow_wait));
            }
        }
        (full, patience.max(PATIENCE_MIN))
    }

    /// Charges clients whose queues were full with the time that they throttled the source.
    fn charge(&self, full: &[u32], time: Duration) {
        let mut inner = self.lock();
        for which in full {
            let Some(client) = inner.clients.get_mut(*which as usize) else { continue };
            client.slowed += time;
            let waiting = client.waiting();
            if client.patience(self.bounds.slow_wait).is_zero() && client.cut_off() {
                self.cut_off.fetch_add(1, Ordering::Relaxed);
                let user = client.user;
                inner.waiting = inner.waiting.saturating_sub(waiting);
                tracing::warn!(
                    user,
                    "a client throttled the source for too long: it is disconnected"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
