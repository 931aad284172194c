//! Two threads add to one tracker: 64k ids, nine of ten adds are duplicates.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Instant;

use tidings_core::structure::tracker::{Folded, Hashed, Tracked, Tracker};

use crate::designs::{Id, Key};
use crate::rounds::Draw;

const CAPACITY: u32 = 1 << 16;
const SHARDS: usize = 16;
const BATCH: usize = 128;

struct Item(Id);

impl Tracked for Item {
    type Id = Id;
    fn id(&self) -> &Id {
        &self.0
    }
}

fn tracker(capacity: u32) -> Tracker<Item> {
    let seed = foldhash::fast::RandomState::default().hash_one(0);
    Tracker::new(NonZeroU32::new(capacity).expect("not 0"), seed)
}

/// Returns what each of two threads adds.
fn streams(count: usize) -> [Vec<Id>; 2] {
    let mut next = 1_000_u64;
    let mut draw = Draw(7);
    let mut streams = [Vec::new(), Vec::new()];
    for _ in 0..count {
        for stream in &mut streams {
            let duplicate = draw.below(100) < 90;
            stream.push(Id::nth(if duplicate { next - 1 - draw.below(1_000) } else { next }));
            next += u64::from(!duplicate);
        }
    }
    streams
}

/// Returns millions of adds per second.
fn rate(streams: &[Vec<Id>], work: impl Fn(&[Id]) + Sync) -> f64 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| work(stream));
        }
    });
    let count: usize = streams.iter().map(Vec::len).sum();
    count as f64 / begun.elapsed().as_secs_f64() / 1e6
}

pub fn measure(quick: bool) -> String {
    let (rounds, count) = if quick { (1, 10_000) } else { (9, 2_000_000) };
    let streams = streams(count);
    let names = [
        "one thread, no lock",
        "one thread, no lock, batches of 128",
        "two threads, std Mutex",
        "two threads, parking_lot Mutex",
        "two threads, std Mutex, hashed outside it",
        "two threads, std Mutex, batches of 128",
        "two threads, 16 shards",
    ];
    let mut samples = vec![Vec::new(); names.len()];
    for _ in 0..rounds {
        let one = std::slice::from_ref(&streams[0]);
        let single = Mutex::new(tracker(CAPACITY));
        samples[0].push(rate(one, |ids| {
            let mut tracker = single.lock().expect("nobody panics");
            ids.iter().for_each(|id| drop(black_box(tracker.insert(Item(*id)))));
        }));
        let single = Mutex::new(tracker(CAPACITY));
        samples[1].push(rate(one, |ids| {
            let mut tracker = single.lock().expect("nobody panics");
            for ids in ids.chunks(BATCH) {
                tracker.insert_batch(ids.iter().map(|id| Item(*id)), |it| drop(black_box(it)));
            }
        }));
        let locked = Mutex::new(tracker(CAPACITY));
        samples[2].push(rate(&streams, |ids| {
            for id in ids {
                drop(black_box(locked.lock().expect("nobody panics").insert(Item(*id))));
            }
        }));
        let locked = parking_lot::Mutex::new(tracker(CAPACITY));
        samples[3].push(rate(&streams, |ids| {
            ids.iter().for_each(|id| drop(black_box(locked.lock().insert(Item(*id)))));
        }));
        let locked = Mutex::new(tracker(CAPACITY));
        let hasher: Folded = locked.lock().expect("nobody panics").hasher().clone();
        samples[4].push(rate(&streams, |ids| {
            for id in ids {
                let hashed = Hashed::of(&hasher, id);
                let mut tracker = locked.lock().expect("nobody panics");
                drop(black_box(tracker.insert_hashed(hashed, Item(*id))));
            }
        }));
        let locked = Mutex::new(tracker(CAPACITY));
        samples[5].push(rate(&streams, |ids| {
            for ids in ids.chunks(BATCH) {
                let mut tracker = locked.lock().expect("nobody panics");
                tracker.insert_batch(ids.iter().map(|id| Item(*id)), |it| drop(black_box(it)));
            }
        }));
        let shards: Vec<_> =
            (0..SHARDS).map(|_| Mutex::new(tracker(CAPACITY / SHARDS as u32))).collect();
        samples[6].push(rate(&streams, |ids| {
            for id in ids {
                let shard = hasher.hash_one(id) as usize % SHARDS;
                drop(black_box(shards[shard].lock().expect("nobody panics").insert(Item(*id))));
            }
        }));
    }
    let mut table = String::from("| | million adds a second |\n| --- | --- |\n");
    for (name, mut samples) in names.into_iter().zip(samples) {
        samples.sort_by(f64::total_cmp);
        table += &format!("| {name} | {:.1} |\n", samples[samples.len() / 2]);
    }
    table
}
