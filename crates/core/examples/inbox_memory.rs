//! The cost of a million unread messages: memory, requested and resident, and the longest pauses while they are
//! posted, stored, expire and are taken.
//!
//! ```sh
//! cargo run --release -p tidings-core --example inbox_memory -- 1000000 100000
//! ```
//! The arguments are the numbers of messages and of users.

#![expect(unsafe_code, reason = "counting allocations needs an allocator of its own")]
#![expect(clippy::disallowed_methods, reason = "it measures a machine, so it may read clocks")]
#![expect(clippy::disallowed_types, reason = "it measures a machine, so it may read clocks")]
#![expect(clippy::print_stdout, reason = "the example prints its results")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tidings_core::machine::chat::{Chat, Command, Discard, Limits};
use tidings_core::machine::{Machine, Timestamp};

/// The system's allocator, with a count of the requested bytes.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let bytes = BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(bytes, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the resident memory of this process in MiB, 0 where there is no `/proc`.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "printed with one decimal")]
fn report(what: &str, chat: &Chat) {
    let mib = BYTES.load(Ordering::Relaxed) as f64 / f64::from(1 << 20);
    println!(
        "{what:<34}{:>9} messages {mib:>7.1} MiB counted {:>7.1} MiB resident",
        chat.inboxes().len(),
        resident()
    );
}

/// The longest of many calls, in CPU time of this thread, because other processes share the machine.
#[derive(Default)]
struct Longest(Duration);

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Longest {
    fn time<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let started = cpu_time();
        let done = act();
        self.0 = self.0.max(cpu_time().saturating_sub(started));
        done
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut argument = |or: u64| arguments.next().and_then(Result::ok).unwrap_or(or);
    let messages = argument(1_000_000);
    let users = argument(100_000);
    let now = 1_700_000_000_000;
    let mut chat = Chat::new(Limits { unread_max: u32::MAX, ..Limits::default() });
    report("empty", &chat);

    let mut longest = Longest::default();
    for number in 0..messages {
        let id = (u128::from(number) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
        let user = format!("user {}", number % users).into();
        let text = "x".repeat(100).into();
        let post = Command::Post { id, user, text, timeout_s: 3600, key: None };
        longest.time(|| chat.apply_to(Timestamp(now + number / 1000), post, &mut Discard));
    }
    report("posted", &chat);
    println!("  longest post {:?}", longest.0);

    let mut snapshot = Vec::new();
    let started = Instant::now();
    chat.snapshot(&mut snapshot);
    println!("  snapshot of {} MB in {:?}", snapshot.len() / 1_000_000, started.elapsed());
    let started = Instant::now();
    let restored = Chat::restore(&snapshot);
    println!("  restored in {:?}", started.elapsed());
    drop(snapshot);
    drop(restored);

    let mut longest = Longest::default();
    let mut ticks = 0;
    while u64::from(chat.inboxes().len()) > messages / 10
        && let Some(due) = chat.next_deadline()
    {
        longest.time(|| chat.tick_to(due, &mut Discard));
        ticks += 1;
    }
    report("nine in ten have expired", &chat);
    println!("  longest of {ticks} ticks {:?}", longest.0);

    let mut longest = Longest::default();
    for number in 0..users {
        let user = format!("user {number}").into();
        let take = Command::Take { user, limit: u32::MAX, bytes_max: u64::MAX, lease_ms: None };
        longest.time(|| chat.apply_to(Timestamp(now), take, &mut Discard));
    }
    report("the rest was taken", &chat);
    println!("  longest take {:?}", longest.0);
}
