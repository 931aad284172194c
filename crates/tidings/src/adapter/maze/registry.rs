//! Who is connected, and what waits to be sent to each.
//!
//! One lock, taken once for a whole feed by the machine's tap and once for a whole buffer by a
//! client's writer, so it costs nothing per event. Everything is reached by index: a follower's
//! place in the graph leads to his first connection, and one connection of a user to the next, so
//! that a follower who is not connected costs one look into an array.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tidings_core::machine::maze::{Sink, To};
use tidings_core::structure::graph::UserIndex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Stands for no connection.
const NOBODY: u32 = u32::MAX;
/// However many clients there are, this much may wait for each.
const SHARE_BYTES_MIN: usize = 4 << 10;
/// Every client whose queue is full is waited for so long, even one that has stood still for long:
/// maybe it was this process that did.
const PATIENCE_MIN: Duration = Duration::from_millis(50);
/// A queue that was larger than this for once gives its memory back.
const QUEUE_BYTES_KEPT: usize = 64 << 10;

/// Who is connected. See the top of this module.
pub(super) struct Registry {
    inner: Mutex<Inner>,
    bounds: Bounds,
    /// Told when a queue that was full no longer is, or its client has gone.
    room: Notify,
    /// Clients that were cut off for being slow.
    pub(super) cut_off: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) queue_bytes_max: usize,
    pub(super) queues_bytes_max: usize,
    /// For how long, in all, one client may slow the source.
    pub(super) slow_wait: Duration,
}

/// What the lock protects, and what the machine delivers to.
pub(super) struct Inner {
    /// By connection; one that is free or cut off has no link.
    clients: Vec<Client>,
    free: Vec<u32>,
    /// The connections, in no order, for broadcasts.
    all: Vec<u32>,
    /// The first connection of each user.
    by_user: HashMap<u64, u32>,
    /// The first connection of the user at each place of the graph. May be short.
    by_place: Vec<u32>,
    /// Connections for which something has come since their writers were last woken.
    dirty: Vec<u32>,
    pub(super) notifications: u64,
    /// What was fed lately, and what it has made all queues grow by.
    fed: Fed,
    /// How many bytes all queues have grown by for each byte fed.
    growth: usize,
    /// What waits for all clients.
    waiting: usize,
    /// While the source is another node's a queue with more than this presses; twice as much is a client's
    /// share.
    press_over: usize,
    /// What may wait for all clients while the source is another node's: the one who comes over it with
    /// more than its share is cut off at once.
    waiting_max: usize,
    /// A queue has pressed.
    pressed: bool,
    /// Clients that were cut off because their queue was over what may be in it at all.
    pub(super) overflowed: u64,
}

/// What was fed, and what came of it.
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
    /// Waits to be sent.
    queue: Vec<u8>,
    /// What its writer has taken of it and not yet written.
    writing: usize,
    /// The next connection of the same user.
    next: u32,
    /// Where it stands in `all`.
    at: u32,
    dirty: bool,
    /// For how long it has slowed the source.
    slowed: Duration,
    /// When it last took anything.
    moved: Option<Instant>,
    link: Option<Arc<Link>>,
}

/// Between the registry and the task of a client.
#[derive(Default)]
pub(super) struct Link {
    /// There is something to write.
    pub(super) wake: Notify,
    /// The connection is to end at once.
    pub(super) cut: Notify,
}

impl Client {
    fn waiting(&self) -> usize {
        self.queue.len() + self.writing
    }

    /// It counts as gone from here on, although its task removes it. Returns whether it was there.
    fn cut_off(&mut self) -> bool {
        let Some(link) = self.link.take() else { return false };
        link.cut.notify_one();
        self.writing = 0;
        self.queue = Vec::new();
        true
    }

    /// For how much longer it may slow the source. One that takes nothing uses this up even while
    /// it slows nobody, so that many who have stopped cost no more than one.
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
        if client.waiting() > self.press_over {
            self.press(which);
        }
    }

    /// The source is another node's, which does not know of this queue.
    #[cold]
    fn press(&mut self, which: u32) {
        self.pressed = true;
        let Some(client) = self.clients.get_mut(which as usize) else { return };
        let waiting = client.waiting();
        let over = self.waiting > self.waiting_max && waiting / 2 > self.press_over;
        if over && client.cut_off() {
            self.overflowed += 1;
            self.waiting = self.waiting.saturating_sub(waiting);
            let user = client.user;
            tracing::warn!(
                user,
                "the queues of all clients are full: one with more than its share is cut off"
            );
        }
    }

    pub(super) fn take_pressed(&mut self) -> bool {
        std::mem::take(&mut self.pressed)
    }

    /// To all connections of one user, given the first.
    #[inline]
    fn push_all_of(&mut self, first: u32, line: &[u8]) {
        let mut which = first;
        while which != NOBODY {
            self.push(which, line);
            which = self.clients.get(which as usize).map_or(NOBODY, |client| client.next);
        }
    }

    fn first_of(&self, user: u64) -> u32 {
        self.by_user.get(&user).copied().unwrap_or(NOBODY)
    }

    /// Wakes the writers of those for whom something has come.
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
        if first == NOBODY {
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
        if first != NOBODY && self.by_place.len() <= place {
            self.by_place.resize(place + 1, NOBODY);
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
                    let first = self.by_place.get(*place as usize).copied().unwrap_or(NOBODY);
                    if first != NOBODY {
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
            press_over: usize::MAX,
            waiting_max: usize::MAX,
            pressed: false,
            overflowed: 0,
        };
        Self { inner: Mutex::new(inner), bounds, room: Notify::new(), cut_off: AtomicU64::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are connected, and how many notifications there were.
    pub(super) fn counts(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.all.len(), inner.notifications)
    }

    /// A client has said who it is. Called while the machine stands still, so that the place is
    /// right.
    pub(super) fn add(&self, user: u64, place: Option<UserIndex>, link: Arc<Link>) -> u32 {
        let mut inner = self.lock();
        let which = inner.free.pop().unwrap_or_else(|| {
            inner.clients.push(Client::default());
            u32::try_from(inner.clients.len() - 1).unwrap_or(NOBODY)
        });
        let at = u32::try_from(inner.all.len()).unwrap_or(NOBODY);
        let next = inner.first_of(user);
        if let Some(client) = inner.clients.get_mut(which as usize) {
            let moved = Some(Instant::now());
            *client = Client { user, next, at, moved, link: Some(link), ..Client::default() };
        }
        inner.all.push(which);
        inner.set_first(user, place, which);
        which
    }

    /// A client has gone. Called while the machine stands still.
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

    /// Swaps what waits for a client into `buffer`, which has been written and is empty. Returns
    /// whether there is anything.
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

    /// So much of what a writer took has been written.
    pub(super) fn written(&self, which: u32, bytes: usize) {
        let mut inner = self.lock();
        let share = self.share(inner.all.len()).min(inner.press_over);
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

    /// What may wait for each of so many clients.
    fn share(&self, clients: usize) -> usize {
        let share = (self.bounds.queues_bytes_max / clients.max(1)).max(SHARE_BYTES_MIN);
        share.min(self.bounds.queue_bytes_max)
    }

    /// Before something is delivered: whether the source is another node's. That is held only by way of the
    /// log, and until it has heard of it more comes: so it is told when half a share waits, and what comes
    /// is taken as long as there is room for all clients together.
    pub(super) fn watch_queues(&self, inner: &mut Inner, elsewhere: bool) {
        (inner.press_over, inner.waiting_max) = (usize::MAX, usize::MAX);
        if elsewhere {
            inner.press_over = self.share(inner.all.len()) / 2;
            inner.waiting_max = self.bounds.queues_bytes_max;
        }
    }

    /// A source is about to feed: what others have fed does not count.
    pub(super) fn begin_feeding(&self) {
        let mut inner = self.lock();
        (inner.fed, inner.growth) = (Fed::default(), 0);
    }

    /// How much may be fed at once, such that all queues together grow by no more than a quarter of
    /// their bound if it goes on as lately. O(1).
    pub(super) fn feed_bytes(&self, bytes_max: usize) -> usize {
        let mut inner = self.lock();
        // A mean that forgets half with each look.
        inner.growth = inner.growth.midpoint(inner.fed.grown_per_byte());
        inner.fed = Fed::default();
        bytes_max.min((self.bounds.queues_bytes_max / 4 / inner.growth.max(1)).max(SHARE_BYTES_MIN))
    }

    /// So many bytes of the source are being applied.
    pub(super) fn feeding(&self, bytes: usize) {
        self.lock().fed.bytes += bytes;
    }

    /// Waits until every queue has room. A client that has held this up for too long in all is cut
    /// off. O(clients), and more only while one of them is full.
    pub(super) async fn wait_for_room(&self) {
        while !self.wait_a_while(Duration::MAX).await {}
    }

    /// Waits until something has changed, at most so long. Returns true, at once, when every queue has
    /// room.
    pub(super) async fn wait_a_while(&self, at_most: Duration) -> bool {
        let mut room = std::pin::pin!(self.room.notified());
        room.as_mut().enable();
        let (full, patience) = self.full();
        if full.is_empty() {
            return true;
        }
        let begun = Instant::now();
        // Whichever comes first.
        drop(tokio::time::timeout(patience.min(at_most), room).await);
        self.charge(&full, begun.elapsed());
        false
    }

    /// Whose queues are full, and how long the most impatient of them may be waited for.
    fn full(&self) -> (Vec<u32>, Duration) {
        let inner = self.lock();
        let share = self.share(inner.all.len()).min(inner.press_over);
        let (mut full, mut patience) = (Vec::new(), self.bounds.slow_wait);
        for which in &inner.all {
            let Some(client) = inner.clients.get(*which as usize) else { continue };
            if client.link.is_some() && client.waiting() > share {
                full.push(*which);
                patience = patience.min(client.patience(self.bounds.slow_wait));
            }
        }
        (full, patience.max(PATIENCE_MIN))
    }

    /// These were full, and have slowed the source for so long.
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
                tracing::warn!(user, "a client held up the source for too long: it is cut off");
            }
        }
    }
}

#[cfg(test)]
mod tests;
