//! A tracker and its relay counts allocate only when they are created. A counting allocator proves it.

#![expect(unsafe_code, reason = "only an allocator sees what is allocated")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroU32;

use tidings_core::structure::tracker::{Inserted, NotFound, Relays, Tracked, Tracker};

thread_local! {
    /// How often this thread requested memory. Per thread, because tests run concurrently.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count of the requests.
struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Debug, PartialEq, Eq)]
struct Item(u64);

impl Tracked for Item {
    type Id = u64;

    fn id(&self) -> &u64 {
        &self.0
    }
}

fn capacity(capacity: u32) -> NonZeroU32 {
    NonZeroU32::new(capacity).unwrap()
}

/// Returns how often `work` requests memory.
fn asked(work: impl FnOnce()) -> u64 {
    let before = ASKED.get();
    work();
    ASKED.get() - before
}

#[test]
fn the_allocator_counts() {
    assert_eq!(asked(|| drop(std::hint::black_box(vec![1, 2, 3]))), 1);
}

/// Runs every operation, on more values than there is room for.
fn every_operation(tracker: &mut Tracker<Item>) {
    let ends = 3 * u64::from(tracker.capacity());
    for id in 0..ends {
        let duplicate = matches!(tracker.insert(Item(id)), Inserted::Duplicate(_));
        assert!(!duplicate);
        assert_eq!(tracker.insert(Item(id)), Inserted::Duplicate(Item(id)));
        if id % 3 == 0 {
            assert_eq!(tracker.remove(&(id / 2 + ends)), Err(NotFound));
            assert_eq!(tracker.remove(&id), Ok(Item(id)));
        }
    }
    tracker.insert_batch((0..ends).map(Item), |_| {});
    assert_eq!(tracker.iter().rev().count(), tracker.len() as usize);
    tracker.retain(|item| item.0 % 5 != 0);
    assert!(tracker.evict_while(|item| item.0 < ends / 2 + ends / 4) > 0);
    assert!(tracker.pop_oldest().is_some());
    tracker.clear();
    tracker.insert_batch((0..ends).map(Item), |_| {});
    assert_eq!(tracker.len(), tracker.capacity());
}

#[test]
fn a_small_tracker_allocates_nothing_after_construction() {
    let mut tracker = Tracker::new(capacity(1000), 1);
    assert_eq!(asked(|| every_operation(&mut tracker)), 0);
}

#[test]
fn a_large_tracker_allocates_nothing_after_construction() {
    // Large enough for `insert_batch` to prefetch.
    let mut tracker = Tracker::new(capacity(400_000), 1);
    assert!(tracker.stats().bytes > 12 << 20);
    assert_eq!(asked(|| every_operation(&mut tracker)), 0);
}

#[test]
fn creating_a_tracker_takes_three_allocations() {
    assert_eq!(asked(|| drop(Tracker::<Item>::new(capacity(1000), 1))), 3);
}

#[test]
fn relays_allocate_nothing_after_construction() {
    let mut tracker = Tracker::new(capacity(100), 1);
    let mut relays = Relays::new(capacity(100), capacity(4));
    let count = || {
        for relayed in 0..10_000u64 {
            let (_, place) = tracker.insert_placed(Item(relayed / 8));
            std::hint::black_box(relays.count(place, relayed % 8));
            assert!(relays.peers(place).count() > 0);
        }
    };
    assert_eq!(asked(count), 0);
}
