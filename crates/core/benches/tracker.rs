//! The cost of a tracker per operation, with ids of 32 bytes, full, at three sizes; compared with a map and a
//! queue.

#![expect(clippy::indexing_slicing, reason = "a benchmark that indexes wrongly may panic")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::num::NonZeroU32;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use hashbrown::HashMap;
use tidings_core::structure::tracker::{Folded, Inserted, Sip, Tracked, Tracker, Trusting};

/// Operations in one run of the timed part.
const RUN: usize = 4096;

/// A duplicate in gossip repeats one of this many recent ids.
const RECENT: usize = 1000;

const SIZES: [(&str, usize); 3] = [("1k", 1 << 10), ("64k", 1 << 16), ("1M", 1 << 20)];

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Id([u8; 32]);

impl Tracked for Id {
    type Id = [u8; 32];

    fn id(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Pseudo-random numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        z ^ (z >> 32)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % end
    }

    fn id(&mut self) -> Id {
        let mut id = [0; 32];
        for part in id.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes());
        }
        Id(id)
    }
}

/// Steps to run repeatedly: so many that an id has been forgotten when it comes again.
struct Loop<T> {
    steps: Vec<T>,
    at: usize,
}

impl<T> Loop<T> {
    fn new(mut steps: Vec<T>) -> Self {
        steps.truncate(steps.len() / RUN * RUN);
        Self { steps, at: 0 }
    }

    fn run(&mut self) -> &[T] {
        let from = self.at;
        self.at = if from + 2 * RUN > self.steps.len() { 0 } else { from + RUN };
        &self.steps[from..from + RUN]
    }
}

#[derive(Clone, Copy)]
enum Step {
    Add(Id),
    Get(Id),
    Remove(Id),
}

fn fresh(size: usize) -> Vec<Id> {
    let mut numbers = Numbers(1);
    (0..2 * size + 2 * RUN).map(|_| numbers.id()).collect()
}

/// One new id for every nine recent ones.
fn gossip(size: usize) -> Vec<Id> {
    let mut numbers = Numbers(2);
    let mut ids = Vec::new();
    for new in fresh(size) {
        ids.push(new);
        let recent = ids.len().div_ceil(10).min(RECENT);
        for _ in 0..9 {
            let back = 10 * numbers.below(recent);
            ids.push(ids[(ids.len() - 1) / 10 * 10 - back]);
        }
    }
    ids
}

/// Arbitrary tracked ids.
fn known(size: usize) -> Vec<Id> {
    let ids = fresh(size);
    let mut numbers = Numbers(3);
    (0..(2 * size).max(1 << 16)).map(|_| ids[numbers.below(size)]).collect()
}

/// Half adds of new ids; a quarter lookups and a quarter removals of ids that were tracked once.
fn mixed(size: usize) -> Vec<Step> {
    let ids = fresh(size);
    let mut numbers = Numbers(4);
    let mut steps = Vec::new();
    for (at, id) in ids.iter().enumerate() {
        steps.push(Step::Add(*id));
        let known = ids[(at + ids.len() - numbers.below(size)) % ids.len()];
        steps.push(if numbers.below(2) == 0 { Step::Get(known) } else { Step::Remove(known) });
    }
    steps
}

/// What is measured: a tracker, or the usual alternative.
trait Remembers {
    fn add(&mut self, id: Id) -> bool;
    fn get(&self, id: &Id) -> bool;
    fn remove(&mut self, id: &Id) -> bool;
}

impl<S: std::hash::BuildHasher> Remembers for Tracker<Id, S> {
    fn add(&mut self, id: Id) -> bool {
        !matches!(self.insert(id), Inserted::Duplicate(_))
    }

    fn get(&self, id: &Id) -> bool {
        Tracker::get(self, &id.0).is_ok()
    }

    fn remove(&mut self, id: &Id) -> bool {
        Tracker::remove(self, &id.0).is_ok()
    }
}

/// A map with a queue. A removed id leaves a stale entry in the queue, recognised by its number.
struct MapAndQueue {
    map: HashMap<Id, u64, Folded>,
    queue: VecDeque<(u64, Id)>,
    next: u64,
    size: usize,
}

impl Remembers for MapAndQueue {
    fn add(&mut self, id: Id) -> bool {
        if self.map.contains_key(&id) {
            return false;
        }
        while self.map.len() >= self.size || self.queue.len() >= 2 * self.size {
            let Some((number, oldest)) = self.queue.pop_front() else { break };
            if self.map.get(&oldest) == Some(&number) {
                self.map.remove(&oldest);
            }
        }
        self.map.insert(id, self.next);
        self.queue.push_back((self.next, id));
        self.next += 1;
        true
    }

    fn get(&self, id: &Id) -> bool {
        self.map.contains_key(id)
    }

    fn remove(&mut self, id: &Id) -> bool {
        self.map.remove(id).is_some()
    }
}

fn tracker<S: std::hash::BuildHasher>(size: usize, hasher: S) -> Tracker<Id, S> {
    let capacity = u32::try_from(size).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    Tracker::with_hasher(capacity, hasher)
}

fn map_and_queue(size: usize) -> MapAndQueue {
    let map = HashMap::with_capacity_and_hasher(size, Folded::new(1));
    MapAndQueue { map, queue: VecDeque::with_capacity(2 * size), next: 0, size }
}

fn fill<R: Remembers>(mut remembers: R, ids: &[Id]) -> R {
    for id in ids {
        remembers.add(*id);
    }
    remembers
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn adds(group: &mut Group<'_>, name: &str, ids: Vec<Id>, remembers: impl Remembers) {
    let mut remembers = fill(remembers, &ids);
    let mut ids = Loop::new(ids);
    group.bench_function(name, |bencher| {
        bencher.iter(|| ids.run().iter().map(|id| usize::from(remembers.add(*id))).sum::<usize>());
    });
}

fn batches(group: &mut Group<'_>, name: &str, ids: Vec<Id>, tracker: Tracker<Id>) {
    let mut tracker = fill(tracker, &ids);
    let mut ids = Loop::new(ids);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let mut new = 0usize;
            tracker.insert_batch(ids.run().iter().copied(), |inserted| {
                new += usize::from(!matches!(inserted, Inserted::Duplicate(_)));
            });
            new
        });
    });
}

fn gets(group: &mut Group<'_>, name: &str, size: usize, remembers: impl Remembers) {
    let remembers = fill(remembers, &fresh(size)[..size]);
    let mut ids = Loop::new(known(size));
    group.bench_function(name, |bencher| {
        bencher.iter(|| ids.run().iter().map(|id| usize::from(remembers.get(id))).sum::<usize>());
    });
}

fn mix(group: &mut Group<'_>, name: &str, size: usize, remembers: impl Remembers) {
    let mut remembers = fill(remembers, &fresh(size));
    let mut steps = Loop::new(mixed(size));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for step in steps.run() {
                black_box(match step {
                    Step::Add(id) => remembers.add(*id),
                    Step::Get(id) => remembers.get(id),
                    Step::Remove(id) => remembers.remove(id),
                });
            }
        });
    });
}

fn trackers(criterion: &mut Criterion) {
    let folded = |size| tracker(size, Folded::new(1));
    for (name, size) in SIZES {
        let mut group = criterion.benchmark_group(format!("tracker {name}"));
        group.throughput(Throughput::Elements(RUN as u64));
        adds(&mut group, "evicting add", fresh(size), folded(size));
        adds(&mut group, "evicting add, SipHash", fresh(size), tracker(size, Sip::new(1, 2)));
        adds(&mut group, "evicting add, trusted", fresh(size), tracker(size, Trusting::new(1)));
        batches(&mut group, "evicting add, batch", fresh(size), folded(size));
        adds(&mut group, "evicting add, map and queue", fresh(size), map_and_queue(size));
        adds(&mut group, "nine in ten duplicates", gossip(size), folded(size));
        batches(&mut group, "nine in ten duplicates, batch", gossip(size), folded(size));
        adds(
            &mut group,
            "nine in ten duplicates, map and queue",
            gossip(size),
            map_and_queue(size),
        );
        adds(&mut group, "uniform duplicates", known(size), folded(size));
        batches(&mut group, "uniform duplicates, batch", known(size), folded(size));
        gets(&mut group, "get", size, folded(size));
        gets(&mut group, "get, map and queue", size, map_and_queue(size));
        mix(&mut group, "mixed", size, folded(size));
        mix(&mut group, "mixed, map and queue", size, map_and_queue(size));
        group.finish();
    }
}

criterion_group!(benches, trackers);
criterion_main!(benches);
