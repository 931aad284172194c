//! The workloads, in rounds: in each round every design does the same work in turn.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Instant;

use crate::designs::*;

/// Counts the bytes that are allocated and not freed.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A duplicate in gossip repeats one of this many recent ids.
const RECENT: u64 = 1_000;

pub const WORKLOADS: [&str; 7] = [
    "evicting add",
    "90 % duplicates",
    "50 % duplicates, uniform",
    "get, hit",
    "get, miss",
    "mixed with removals",
    "iteration, per entry",
];

/// The results of a design at one capacity.
pub struct Result {
    pub design: &'static str,
    pub capacity: usize,
    /// Nanoseconds by workload; `None` where the design is too slow to measure.
    pub ns: Vec<Option<f64>>,
    pub bytes: f64,
}

/// A design, independent of its type.
trait Design<K> {
    fn add_all(&mut self, ids: &[K]) -> usize;
    fn get_all(&self, ids: &[K]) -> usize;
    /// Repeats: an add, a get, an add, a removal.
    fn mix(&mut self, ids: &[K]) -> usize;
    fn sum(&self) -> u64;
}

impl<K: Key, S: Seen<K>> Design<K> for S {
    fn add_all(&mut self, ids: &[K]) -> usize {
        Seen::add_all(self, ids)
    }
    fn get_all(&self, ids: &[K]) -> usize {
        ids.iter().filter(|id| self.get(id).is_some()).count()
    }
    fn mix(&mut self, ids: &[K]) -> usize {
        let mut done = 0;
        for ids in ids.chunks_exact(4) {
            done += usize::from(self.add(ids[0].clone(), 1));
            done += usize::from(self.get(&ids[1]).is_some());
            done += usize::from(self.add(ids[2].clone(), 1));
            done += usize::from(self.remove(&ids[3]));
        }
        done
    }
    fn sum(&self) -> u64 {
        Seen::sum(self)
    }
}

type Make<K> = (&'static str, fn(usize) -> Box<dyn Design<K>>);

fn designs<K: Key>() -> Vec<Make<K>> {
    vec![
        ("Tracker", |n| Box::new(Ours::<K>::new(n))),
        ("Tracker, batches of 128", |n| Box::new(OursBatched::<K>::new(n))),
        ("schnellru", |n| Box::new(Schnellru::<K>::new(n))),
        ("hashlink", |n| Box::new(Hashlink::<K>::new(n))),
        ("lru", |n| Box::new(Lru::<K>::new(n))),
        ("indexmap", |n| Box::new(Indexmap::<K>::new(n))),
        ("quick_cache", |n| Box::new(QuickCache::<K>::new(n))),
        ("moka", |n| Box::new(Moka::<K>::new(n))),
        ("HashMap + VecDeque", |n| Box::new(MapAndQueue::<K>::new(n))),
    ]
}

/// Pseudo-random numbers, the same in every run.
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20) % bound
    }
}

/// The stream of ids: the tracked ids are those of the last numbers below `next`.
struct Stream {
    next: u64,
    draw: Draw,
}

impl Stream {
    fn new_ids<K: Key>(&mut self, count: usize) -> Vec<K> {
        let first = self.next;
        self.next += count as u64;
        (first..self.next).map(K::nth).collect()
    }

    /// Returns adds of which `percent` repeat one of the last `of` ids.
    fn duplicates<K: Key>(&mut self, count: usize, percent: u64, of: u64) -> Vec<K> {
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            if self.draw.below(100) < percent {
                ids.push(K::nth(self.next - 1 - self.draw.below(of)));
            } else {
                ids.push(K::nth(self.next));
                self.next += 1;
            }
        }
        ids
    }

    fn tracked<K: Key>(&mut self, count: usize, capacity: u64) -> Vec<K> {
        (0..count).map(|_| K::nth(self.next - 1 - self.draw.below(capacity))).collect()
    }
}

pub fn measure<K: Key>(capacities: &[usize], quick: bool) -> Vec<Result> {
    let (rounds, count) = if quick { (1, 20_000) } else { (7, 200_000) };
    let mut results = Vec::new();
    for &capacity in capacities {
        let mut stream = Stream { next: 0, draw: Draw(0x5eed) };
        let fill: Vec<K> = stream.new_ids(capacity);
        let mut designs: Vec<_> = designs::<K>()
            .into_iter()
            .map(|(name, make)| {
                let before = LIVE.load(Ordering::Relaxed);
                let mut design = make(capacity);
                design.add_all(&fill);
                let bytes = LIVE.load(Ordering::Relaxed) - before;
                (name, design, bytes as f64 / capacity as f64, vec![Vec::new(); WORKLOADS.len()])
            })
            .collect();
        for round in 0..rounds {
            eprintln!("  {capacity}, round {} of {rounds}", round + 1);
            let n = count.max(capacity / 4);
            let new: Vec<K> = stream.new_ids(n);
            let recent: Vec<K> = stream.duplicates(n, 90, RECENT.min(capacity as u64));
            // A duplicate when the list is built must still be one when the list is used.
            let uniform: Vec<K> = stream.duplicates(n, 50, capacity as u64 * 3 / 4);
            let hits: Vec<K> = stream.tracked(n, capacity as u64);
            let misses: Vec<K> = (0..n as u64).map(|i| K::nth((1 << 50) + i)).collect();
            let mut mixed: Vec<K> = stream.new_ids(n);
            for places in mixed.chunks_exact_mut(4) {
                places[1] = K::nth(stream.next - 1 - stream.draw.below(capacity as u64));
                places[3] = K::nth(stream.next - 1 - stream.draw.below(capacity as u64));
            }
            let refill: Vec<K> = stream.new_ids(capacity);
            for (name, design, _, samples) in &mut designs {
                let mut time = |workload: usize, ops: usize, work: &mut dyn FnMut() -> u64| {
                    let begun = Instant::now();
                    black_box(work());
                    samples[workload].push(begun.elapsed().as_nanos() as f64 / ops as f64);
                };
                time(0, n, &mut || design.add_all(&new) as u64);
                time(1, n, &mut || design.add_all(&recent) as u64);
                time(2, n, &mut || design.add_all(&uniform) as u64);
                time(3, n, &mut || design.get_all(&hits) as u64);
                time(4, n, &mut || design.get_all(&misses) as u64);
                time(6, capacity, &mut || design.sum());
                // A removal shifts half of all entries.
                if *name != "indexmap" || capacity <= 1_000 {
                    time(5, n, &mut || design.mix(&mixed) as u64);
                    design.add_all(&refill);
                } else {
                    design.add_all(&refill);
                }
            }
        }
        for (design, _, bytes, samples) in designs {
            let ns = samples.into_iter().map(|mut samples| {
                samples.sort_by(f64::total_cmp);
                samples.get(samples.len() / 2).copied()
            });
            results.push(Result { design, capacity, ns: ns.collect(), bytes });
        }
    }
    results
}
