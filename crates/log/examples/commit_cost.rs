//! The cost of a commit: wall clock and CPU time (user and system) of this thread, for batches of 1, 32
//! and 1024 commands and for bulk rows.
//!
//! `TIDINGS_BENCH_DIR` names the directory, on a real disk and not tmpfs (default: `.`). The argument is
//! the number of seconds for each row of the table.
#![expect(clippy::print_stdout, reason = "the example prints a table")]

use std::time::{Duration, Instant};

use tidings_log::{Log, Sqlite, sqlite};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::var("TIDINGS_BENCH_DIR").unwrap_or_else(|_| ".".to_owned());
    let seconds = match std::env::args().nth(1) {
        Some(seconds) => seconds.parse()?,
        None => 2.0,
    };
    println!(" bytes a batch   commits/s    CPU us    p50 us    p99 us    max us   MB/s");
    for bytes in [40, 128, 32 * 40, 32 * 128, 1024 * 40, 1024 * 128, 450_000] {
        let directory = tempfile::tempdir_in(&root)?;
        let mut log = Sqlite::open(directory.path(), sqlite::Options::default())?;
        measure(&mut log, bytes, Duration::from_secs_f64(seconds))?;
    }
    Ok(())
}

fn measure(
    log: &mut Sqlite,
    bytes: usize,
    time: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let body: Vec<u8> = (0..bytes).map(|i| (i % 251).to_le_bytes()[0]).collect();
    let mut number = 0;
    // Warm up: the WAL reaches its full length and the file gets its first pages.
    while number < 512 {
        number += 1;
        log.append(number, &body)?;
    }
    let mut each_us = Vec::new();
    let cpu = cpu_ns()?;
    let start = Instant::now();
    while start.elapsed() < time {
        let begin = Instant::now();
        number += 1;
        log.append(number, &body)?;
        each_us.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let wall = start.elapsed().as_secs_f64();
    let cpu = cpu_ns()? - cpu;
    each_us.sort_by(f64::total_cmp);
    let commits = each_us.len();
    let at = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into the measurements"
        )]
        let index = (commits as f64 * part) as usize;
        each_us.get(index.min(commits - 1)).copied().unwrap_or_default()
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (commits, cpu, bytes) = (commits as f64, cpu as f64, bytes as f64);
    println!(
        "{bytes:>14} {:>11.0} {:>9.1} {:>9.0} {:>9.0} {:>9.0} {:>6.1}",
        commits / wall,
        cpu / commits / 1e3,
        at(0.5),
        at(0.99),
        at(1.0),
        commits / wall * bytes / 1e6,
    );
    Ok(())
}

/// Returns the nanoseconds that this thread has spent on a CPU, according to Linux.
fn cpu_ns() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = stat.split_whitespace().next().unwrap_or_default();
    Ok(first.parse()?)
}
