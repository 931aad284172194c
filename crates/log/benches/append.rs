//! Appending and reading back, in memory and in SQLite, for batches of 1, 32 and 1024 commands of 40 and
//! 128 bytes. `TIDINGS_BENCH_DIR` names a directory on a real disk (default: `.`).
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has no result")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidings_log::{Log, Memory, Position, Sqlite, sqlite};

const COMMANDS: [usize; 3] = [1, 32, 1024];
const COMMAND_BYTES: [usize; 2] = [40, 128];
/// Bytes of one read, the same as in a node's recovery.
const READ_BYTES: usize = 1 << 20;

fn directory() -> tempfile::TempDir {
    let root = std::env::var("TIDINGS_BENCH_DIR").unwrap_or_else(|_| ".".to_owned());
    tempfile::tempdir_in(root).unwrap()
}

fn append(c: &mut Criterion) {
    append_to(c, "append/memory", |_| Memory::default());
    append_to(c, "append/sqlite", |directory| {
        Sqlite::open(directory.path(), sqlite::Options::default()).unwrap()
    });
}

fn append_to<L: Log>(c: &mut Criterion, name: &str, open: impl Fn(&tempfile::TempDir) -> L) {
    let mut group = c.benchmark_group(name);
    for (commands, bytes) in COMMANDS.iter().flat_map(|n| COMMAND_BYTES.map(|b| (*n, b))) {
        let body = vec![7; commands * bytes];
        let directory = directory();
        let mut log = open(&directory);
        group.throughput(Throughput::Elements(commands as u64));
        let id = BenchmarkId::new(commands.to_string(), format!("{bytes} bytes"));
        group.bench_function(id, |b| {
            b.iter(|| {
                let number = log.last_number() + 1;
                let position = log.append(number, &body).unwrap();
                // Keep the log from growing: this measures appends.
                if number.is_multiple_of(256) {
                    log.write_snapshot(position, 0, b"", true).unwrap();
                    while log.truncate(position).unwrap() > 0 {}
                }
            });
        });
    }
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read/sqlite");
    for commands in COMMANDS {
        let directory = directory();
        let mut log = Sqlite::open(directory.path(), sqlite::Options::default()).unwrap();
        let body = vec![7; commands * 40];
        let batches = 1000;
        for number in 1..=batches {
            log.append(number, &body).unwrap();
        }
        group.throughput(Throughput::Elements(commands as u64 * batches));
        group.bench_function(BenchmarkId::from_parameter(commands), |b| {
            b.iter(|| {
                let mut from = Position(1);
                while let Some(batch) = log.read(from, READ_BYTES).unwrap().last() {
                    from = black_box(batch).position.next();
                }
            });
        });
    }
}

criterion_group!(benches, append, read);
criterion_main!(benches);
