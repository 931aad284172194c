//! The cost of a sequencer per item: in order, and displaced by up to a hundred positions; compared with an
//! ordered map.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidings_core::structure::sequencer::{Offered, Sequencer};

const ITEMS: u64 = 100_000;

/// The numbers 1 to [`ITEMS`], shuffled within batches.
fn numbers(batch: usize) -> Vec<u64> {
    let mut numbers: Vec<u64> = (1..=ITEMS).collect();
    let mut state = 666u64;
    for batch in numbers.chunks_mut(batch) {
        for place in (1..batch.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            batch.swap(place, usize::try_from(state >> 33).unwrap_or(0) % (place + 1));
        }
    }
    numbers
}

fn sequence(mut sequencer: Sequencer<[u64; 5]>, numbers: &[u64]) -> u64 {
    let mut passed = 0;
    for number in numbers {
        if let Offered::Ready(item) = sequencer.offer(*number, [*number; 5]) {
            passed += black_box(item)[0];
            while let Some((_, item)) = sequencer.pop_ready() {
                passed += black_box(item)[0];
            }
        }
    }
    passed
}

fn with_a_map(numbers: &[u64]) -> u64 {
    let mut held = BTreeMap::new();
    let mut next = 1;
    let mut passed = 0;
    for number in numbers {
        held.insert(*number, [*number; 5]);
        while let Some(item) = held.remove(&next) {
            next += 1;
            passed += black_box(item)[0];
        }
    }
    passed
}

fn sequencers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sequencer");
    group.throughput(Throughput::Elements(ITEMS));
    for (name, batch) in [("in order", 1), ("displaced by up to 100", 100)] {
        let numbers = numbers(batch);
        group.bench_function(format!("{name}, window of 128"), |bencher| {
            bencher.iter(|| sequence(Sequencer::with_window(1_000_000, 128), &numbers));
        });
        group.bench_function(format!("{name}, no window"), |bencher| {
            bencher.iter(|| sequence(Sequencer::new(1000), &numbers));
        });
        group.bench_function(format!("{name}, BTreeMap"), |bencher| {
            bencher.iter(|| with_a_map(&numbers));
        });
    }
    group.finish();
}

criterion_group!(benches, sequencers);
criterion_main!(benches);
