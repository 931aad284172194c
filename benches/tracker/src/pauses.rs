//! The longest single add among ten million, from empty to far beyond full. The machine itself pauses sometimes:
//! an empty loop shows for how long.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::designs::*;

/// Adds ids to a design of a capacity. Returns the longest add, and how many were too long.
type Run = fn(usize, u64) -> (Duration, u32);

/// Returns the longest of `steps` steps, and how many took more than 200 microseconds.
fn longest(steps: u64, mut step: impl FnMut(u64)) -> (Duration, u32) {
    let mut longest = Duration::ZERO;
    let mut over = 0;
    for n in 0..steps {
        let begun = Instant::now();
        step(n);
        let took = begun.elapsed();
        longest = longest.max(took);
        over += u32::from(took > Duration::from_micros(200));
    }
    (longest, over)
}

/// Returns the run whose longest step is the shortest: a pause of the machine is rare, but a pause of the design
/// occurs in every run.
fn best(runs: u32, mut run: impl FnMut() -> (Duration, u32)) -> (Duration, u32) {
    (0..runs).map(|_| run()).min().expect("there is at least one run")
}

fn of<S: Seen<Id>>(capacity: usize, steps: u64) -> (Duration, u32) {
    let mut design = S::new(capacity);
    longest(steps, |n| {
        black_box(design.add(Id::nth(n), n));
    })
}

pub fn measure(quick: bool) -> String {
    let (capacity, steps, runs) = if quick { (1_000, 50_000, 1) } else { (1 << 20, 10_000_000, 5) };
    let mut table =
        String::from("| design | longest add, µs | adds over 200 µs |\n| --- | --- | --- |\n");
    let designs: [(&str, Run); 9] = [
        ("(a loop that adds nothing)", |_, steps| {
            longest(steps, |n| {
                black_box(Id::nth(n));
            })
        }),
        ("Tracker", of::<Ours<Id>>),
        ("schnellru", of::<Schnellru<Id>>),
        ("hashlink", of::<Hashlink<Id>>),
        ("lru", of::<Lru<Id>>),
        ("indexmap", of::<Indexmap<Id>>),
        ("quick_cache", of::<QuickCache<Id>>),
        ("moka", of::<Moka<Id>>),
        ("HashMap + VecDeque", of::<MapAndQueue<Id>>),
    ];
    for (name, run) in designs {
        eprintln!("longest add of {name}");
        let runs = if name == "moka" { 1 } else { runs };
        let (longest, over) = best(runs, || run(capacity, steps));
        let micros = longest.as_nanos() as f64 / 1000.0;
        table += &format!("| {name} | {micros:.0} | {over} |\n");
    }
    table
}
