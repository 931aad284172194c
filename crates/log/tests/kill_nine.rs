//! The process is killed with SIGKILL at an arbitrary moment.
//!
//! Whatever it was doing (an append, a chunk of a snapshot, a truncation, a WAL checkpoint), a restart
//! must find every acknowledged batch, complete and at its position; a lost one would be an order that a
//! client was told is stored. What holds now: an append is acknowledged only after its transaction is
//! synced, every other write is one transaction, and truncation never passes a complete snapshot. The
//! test runs itself as a child process, kills it eight times, and reads everything back each time.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use tidings_log::{Log as _, Position, Sqlite, sqlite};

/// Names the data directory; set in the child process that will be killed.
const VICTIM: &str = "TIDINGS_VICTIM";
const ROUNDS: u64 = 8;

fn open(directory: &Path) -> Sqlite {
    Sqlite::open(directory, sqlite::Options::default()).unwrap()
}

/// Bodies of different lengths, some spanning many pages, no two alike.
fn body(number: u64) -> Vec<u8> {
    let length = usize::try_from(number * 7919 % 30_000).unwrap();
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

#[test]
fn acknowledged_batches_survive_a_kill() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        append_forever(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=ROUNDS {
        // The scheduler decides when the child dies, but not how many acknowledgements it gives first.
        acknowledged = kill_after(directory.path(), round * 7919 % 150 + 1).max(acknowledged);
        let mut log = open(directory.path());
        let last = log.last_number();
        assert!(last == acknowledged || last == acknowledged + 1, "{last}, {acknowledged}");
        acknowledged = last;
        let mut from = log.bounds().unwrap().first;
        let snapshot = log.read_snapshot().unwrap();
        let covered = snapshot.map_or(Position(0), |snapshot| {
            assert_eq!(snapshot.body, [body(snapshot.position.0), body(29_999)].concat());
            snapshot.position
        });
        assert!(from <= covered.next(), "no uncovered batch has been truncated");
        loop {
            let batches = log.read(from, 1 << 20).unwrap();
            let Some(end) = batches.last() else { break };
            from = end.position.next();
            for batch in batches {
                assert_eq!((batch.number, batch.body), (batch.position.0, body(batch.number)));
            }
        }
        assert_eq!(from, Position(last + 1));
        assert_eq!(sqlite::verify(directory.path()).unwrap().damages, [""; 0]);
    }
    assert!(acknowledged > ROUNDS);
}

/// Runs the child until it has acknowledged this many batches, and a few more until the signal arrives.
fn kill_after(directory: &Path, acknowledgements: u64) -> u64 {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "acknowledged_batches_survive_a_kill", "--nocapture"])
        .env(VICTIM, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut last = 0;
    let mut count = 0;
    for line in BufReader::new(victim.stdout.take().unwrap()).lines() {
        // A line that the signal cut short acknowledges nothing.
        let line = line.unwrap();
        let Some(number) = line.strip_prefix("durable ").and_then(|l| l.strip_suffix('.')) else {
            continue;
        };
        last = number.parse().unwrap();
        count += 1;
        if count == acknowledgements {
            victim.kill().unwrap();
        }
    }
    victim.wait().unwrap();
    assert!(count >= acknowledgements, "the child died by itself after {count}");
    last
}

/// Appends, writes snapshots and truncates until the process is killed.
fn append_forever(directory: &Path) -> ! {
    let mut log = open(directory);
    let mut out = std::io::stdout();
    loop {
        let number = log.last_number() + 1;
        let position = log.append(number, &body(number)).unwrap();
        writeln!(out, "durable {number}.").unwrap();
        out.flush().unwrap();
        if number.is_multiple_of(40) {
            log.write_snapshot(position, 0, &body(number), false).unwrap();
            log.write_snapshot(position, 1, &body(29_999), true).unwrap();
            while log.truncate(Position(number - 20)).unwrap() > 0 {}
        }
    }
}
