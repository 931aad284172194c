//! The rules of [`Log`] as test functions: one for each rule, and one that runs random operations and
//! compares the log with a trivial in-memory model.
//!
//! Each function takes a closure that opens the same store again, as a restarted process would. The
//! handle that the closure returned before has been dropped by then. A violated rule panics with a
//! message that names it.
//! ```
//! use tidings_log::{Memory, conformance};
//!
//! conformance::all(|| {
//!     let store = Memory::default();
//!     move || store.reopen()
//! });
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests: a panic is how they report"
)]

use crate::{AppendError, Batch, Bounds, Error, Log, Origin, Position, Snapshot};

/// How often a read is retried that returns [`Error::Unanswered`].
const READ_RETRIES_MAX: usize = 30;

/// Checks every rule, each on a store of its own. `store` creates an empty store and returns the
/// closure that opens it.
pub fn all<L: Log, O: FnMut() -> L>(mut store: impl FnMut() -> O) {
    positions_are_dense(store());
    an_append_can_be_retried(store());
    a_number_out_of_turn_is_rejected(store());
    a_read_is_bounded(store());
    an_incomplete_snapshot_is_invisible(store());
    truncation_stays_behind_the_snapshot(store());
    for seed in 1..=8 {
        a_random_life(store(), seed, 120);
    }
}

/// Reads until `bytes_max` is reached: one call of a log may return as little as one batch.
fn read(log: &mut impl Log, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
    let mut all = read_retried(log, from, bytes_max)?;
    loop {
        let bytes: usize = all.iter().map(|batch| batch.body.len()).sum();
        let Some(last) = all.last().filter(|_| bytes < bytes_max) else { return Ok(all) };
        let more = read_retried(log, last.position.next(), bytes_max - bytes)?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

/// Reads once, and retries while the log does not answer: the contract sets no time limit.
fn read_retried(log: &mut impl Log, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
    for _ in 0..READ_RETRIES_MAX {
        match log.read(from, bytes_max) {
            Err(Error::Unanswered(_)) => {}
            answer => return answer,
        }
    }
    log.read(from, bytes_max)
}

/// Truncates until nothing more can be removed. Returns how many batches that were.
fn truncate_all(log: &mut impl Log, before: Position) -> u64 {
    let mut removed = 0;
    loop {
        match log.truncate(before).unwrap() {
            0 => return removed,
            more => removed += more,
        }
    }
}

/// Batches stand at 1, 2, 3 and read back as they were written, before and after a restart.
pub fn positions_are_dense<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    assert_eq!(bounds(&mut log), (1, 1), "a new log is empty");
    assert_eq!(log.last_number(), 0, "a new log has no last number");
    assert!(read(&mut log, Position(1), 100).unwrap().is_empty());
    let bodies: Vec<Vec<u8>> = (1..=9_u8).map(|n| vec![n; usize::from(n) * 700]).collect();
    for (body, at) in bodies.iter().zip(1..) {
        assert_eq!(log.append(at, body).unwrap(), Position(at), "positions are dense");
    }
    let origin = log.origin();
    drop(log);
    let mut log = open();
    assert_eq!(log.origin(), origin, "the origin survives a restart");
    assert_eq!(log.last_number(), 9, "the last number survives a restart");
    assert_eq!(bounds(&mut log), (1, 10));
    let expected: Vec<Batch> =
        bodies.into_iter().zip(1..).map(|(body, at)| batch(origin, at, at, body)).collect();
    assert_eq!(read(&mut log, Position(1), usize::MAX).unwrap(), expected);
    assert!(log.check().is_ok());
}

/// Appending the last number again with the same bytes changes nothing and returns the same position.
pub fn an_append_can_be_retried<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    log.append(1, b"").unwrap();
    assert_eq!(log.append(1, b"").unwrap(), Position(1), "an empty body");
    log.append(2, b"two").unwrap();
    assert_eq!(log.append(2, b"two").unwrap(), Position(2));
    drop(log);
    let mut log = open();
    assert_eq!(log.append(2, b"two").unwrap(), Position(2), "after a restart");
    assert_eq!(bounds(&mut log), (1, 3), "a retry appends nothing");
    log.write_snapshot(Position(2), 0, b"", true).unwrap();
    truncate_all(&mut log, Position(3));
    assert_eq!(log.append(2, b"two").unwrap(), Position(2), "after truncation");
    drop(log);
    let mut log = open();
    assert_eq!(log.append(2, b"two").unwrap(), Position(2), "after both");
    assert_eq!(log.append(3, b"three").unwrap(), Position(3));
}

/// A number that is neither the next nor the last one is rejected, and so are different bytes under the
/// last number. Nothing changes.
pub fn a_number_out_of_turn_is_rejected<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    for number in [0, 2, u64::MAX] {
        assert_rejected(&mut log, number, b"", 1);
    }
    log.append(1, b"one").unwrap();
    log.append(2, b"two").unwrap();
    for number in [0, 1, 4] {
        assert_rejected(&mut log, number, b"one", 3);
    }
    assert_rejected(&mut log, 2, b"other bytes", 3);
    drop(log);
    let mut log = open();
    assert_rejected(&mut log, 2, b"other bytes", 3);
    assert_eq!(bounds(&mut log), (1, 3));
}

/// A read returns at least one batch and stops once it has `bytes_max`.
pub fn a_read_is_bounded<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    for number in 1..=5 {
        log.append(number, &[7; 10]).unwrap();
    }
    for (bytes_max, batches) in [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (49, 5), (1000, 5)] {
        let found = read(&mut log, Position(1), bytes_max).unwrap();
        assert_eq!(found.len(), batches, "a read of {bytes_max} bytes");
    }
    assert_eq!(read(&mut log, Position(5), 100).unwrap().len(), 1);
    assert!(read(&mut log, Position(6), 100).unwrap().is_empty(), "the end");
    assert!(read(&mut log, Position(99), 100).unwrap().is_empty(), "behind the end");
}

/// A snapshot is invisible until its last chunk is written; then it replaces its predecessor.
pub fn an_incomplete_snapshot_is_invisible<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    assert_eq!(log.read_snapshot().unwrap(), None);
    for number in 1..=3 {
        log.append(number, b"x").unwrap();
    }
    assert!(
        log.write_snapshot(Position(4), 0, b"", true).is_err(),
        "a snapshot of batches that do not exist yet is rejected"
    );
    assert!(log.write_snapshot(Position(1), 1, b"", true).is_err(), "chunk 0 is first");
    log.write_snapshot(Position(1), 0, b"ab", false).unwrap();
    assert!(log.write_snapshot(Position(1), 2, b"", true).is_err(), "chunk 1 is next");
    assert!(log.write_snapshot(Position(2), 1, b"", true).is_err(), "of the same snapshot");
    assert_eq!(log.read_snapshot().unwrap(), None, "the snapshot is not complete");
    log.write_snapshot(Position(1), 1, b"cd", true).unwrap();
    let first = snapshot(1, b"abcd");
    assert_eq!(log.read_snapshot().unwrap(), first);
    log.write_snapshot(Position(3), 0, b"half", false).unwrap();
    assert_eq!(log.read_snapshot().unwrap(), first);
    drop(log);
    let mut log = open();
    assert_eq!(log.read_snapshot().unwrap(), first, "after a restart");
    assert!(
        log.write_snapshot(Position(3), 1, b"", true).is_err(),
        "half a snapshot does not survive a restart"
    );
    log.write_snapshot(Position(3), 0, b"", true).unwrap();
    assert_eq!(log.read_snapshot().unwrap(), snapshot(3, b""), "an empty snapshot");
    assert!(
        log.write_snapshot(Position(2), 0, b"", true).is_err(),
        "an older snapshot does not replace a newer one"
    );
    drop(log);
    assert_eq!(open().read_snapshot().unwrap(), snapshot(3, b""));
}

/// Truncation removes only batches that the snapshot covers, and changes no number.
pub fn truncation_stays_behind_the_snapshot<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    for number in 1..=6 {
        log.append(number, b"x").unwrap();
    }
    assert_eq!(log.truncate(Position(7)).unwrap(), 0, "there is no snapshot");
    log.write_snapshot(Position(4), 0, b"", true).unwrap();
    let first_slice = log.truncate(Position(7)).unwrap();
    assert!(first_slice > 0, "covered batches can be removed");
    assert_eq!(first_slice + truncate_all(&mut log, Position(7)), 4);
    assert_eq!(bounds(&mut log), (5, 7));
    assert_eq!(log.truncate(Position(2)).unwrap(), 0, "truncation does not go back");
    let asked = read(&mut log, Position(4), 1);
    assert!(
        matches!(asked, Err(Error::Truncated { asked: Position(4), first: Position(5) })),
        "{asked:?}"
    );
    log.write_snapshot(Position(6), 0, b"", true).unwrap();
    truncate_all(&mut log, Position(7));
    drop(log);
    let mut log = open();
    assert_eq!(bounds(&mut log), (7, 7), "every batch can be truncated");
    assert_eq!(log.last_number(), 6, "numbering continues");
    assert_eq!(log.append(7, b"y").unwrap(), Position(7), "positions continue");
}

/// Runs `steps` random appends, retries, reads, snapshots, truncations and restarts, and compares the log
/// with a model after each. The same seed gives the same operations. The log may fail appends by itself,
/// as [`AppendError`] allows: a full or unknown append is retried.
pub fn a_random_life<L: Log>(mut open: impl FnMut() -> L, seed: u64, steps: u32) {
    let mut random = Random(seed);
    let mut log = open();
    let mut model = Model::new(log.origin());
    for step in 0..steps {
        let at = format!("seed {seed}, step {step}");
        match random.below(16) {
            0..=6 => {
                let body = random.body();
                let number = model.last_number + 1;
                let position = persist(&mut log, number, &body);
                assert_eq!(position, model.append(body), "{at}");
            }
            7 => {
                if let Some((position, body)) = model.last.clone() {
                    assert_eq!(persist(&mut log, model.last_number, &body), position, "{at}");
                }
            }
            8..=10 => {
                let from = Position(random.below(model.next.0 + 2));
                let bytes_max = usize::try_from(random.below(20_000)).unwrap();
                match read(&mut log, from, bytes_max) {
                    Ok(batches) => assert_eq!(Some(batches), model.read(from, bytes_max), "{at}"),
                    Err(Error::Truncated { .. }) => assert!(from < model.first, "{at}"),
                    Err(other) => panic!("{at}: {other}"),
                }
            }
            11 | 12 => model.write_snapshot(&mut log, &mut random),
            13 | 14 => {
                let before = Position(random.below(model.next.0 + 2));
                let removed = log.truncate(before).unwrap();
                model.truncate(before, removed, &at);
            }
            _ => {
                drop(log);
                log = open();
            }
        }
        let expected = Bounds { first: model.first, next: model.next };
        assert_eq!(log.bounds().unwrap(), expected, "{at}");
        assert_eq!(log.last_number(), model.last_number, "{at}");
        assert_eq!(log.read_snapshot().unwrap(), model.snapshot, "{at}");
    }
}

/// A trivial log: it keeps every batch, and remembers what has been truncated.
struct Model {
    origin: Origin,
    first: Position,
    next: Position,
    last_number: u64,
    last: Option<(Position, Vec<u8>)>,
    batches: Vec<Batch>,
    snapshot: Option<Snapshot>,
}

impl Model {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            first: Position(1),
            next: Position(1),
            last_number: 0,
            last: None,
            batches: Vec::new(),
            snapshot: None,
        }
    }

    fn append(&mut self, body: Vec<u8>) -> Position {
        let position = self.next;
        self.last_number += 1;
        self.next = position.next();
        self.last = Some((position, body.clone()));
        self.batches.push(batch(self.origin, position.0, self.last_number, body));
        position
    }

    fn read(&self, from: Position, bytes_max: usize) -> Option<Vec<Batch>> {
        if from < self.first {
            return None;
        }
        let mut batches: Vec<Batch> = Vec::new();
        for batch in self.batches.iter().filter(|b| b.position >= from) {
            let bytes: usize = batches.iter().map(|b| b.body.len()).sum();
            if !batches.is_empty() && bytes >= bytes_max {
                break;
            }
            batches.push(batch.clone());
        }
        Some(batches)
    }

    fn write_snapshot<L: Log>(&mut self, log: &mut L, random: &mut Random) {
        let newest = self.snapshot.as_ref().map_or(0, |s| s.position.0);
        let position = Position(newest + random.below(self.next.0 - newest));
        let chunks = u32::try_from(random.below(4)).unwrap();
        let mut joined = Vec::new();
        for chunk in 0..=chunks {
            let body = random.body();
            // Leaving out the last chunk sometimes makes a snapshot that must stay invisible.
            let last = chunk == chunks;
            if last && random.below(4) == 0 {
                return;
            }
            if log.write_snapshot(position, chunk, &body, last).is_err() {
                return;
            }
            joined.extend(body);
        }
        self.snapshot = Some(Snapshot { position, body: joined });
    }

    fn truncate(&mut self, before: Position, removed: u64, at: &str) {
        let covered = self.snapshot.as_ref().map_or(Position(0), |s| s.position);
        let most = before.min(covered.next()).0.saturating_sub(self.first.0);
        assert!(removed <= most, "{at}: {removed} removed, {most} allowed");
        assert!(removed > 0 || most == 0, "{at}: nothing removed of {most}");
        self.first = Position(self.first.0 + removed);
    }
}

/// Retries an append until it succeeds, as a node does.
fn persist<L: Log>(log: &mut L, number: u64, body: &[u8]) -> Position {
    for _ in 0..100 {
        match log.append(number, body) {
            Ok(position) => return position,
            Err(AppendError::Full(_) | AppendError::Unknown(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    panic!("batch {number} was not appended in 100 attempts")
}

fn assert_rejected<L: Log>(log: &mut L, number: u64, body: &[u8], next: u64) {
    let answer = log.append(number, body);
    assert!(
        matches!(
            answer,
            Err(AppendError::OutOfTurn { number: n, expected }) if n == number && expected == next
        ),
        "{answer:?} for number {number} when {next} is next"
    );
}

fn bounds<L: Log>(log: &mut L) -> (u64, u64) {
    let Bounds { first, next } = log.bounds().unwrap();
    (first.0, next.0)
}

fn batch(origin: Origin, position: u64, number: u64, body: Vec<u8>) -> Batch {
    Batch { position: Position(position), origin, number, body }
}

#[expect(clippy::unnecessary_wraps, reason = "the result is compared with `Log::read_snapshot`")]
fn snapshot(position: u64, body: &[u8]) -> Option<Snapshot> {
    Some(Snapshot { position: Position(position), body: body.to_vec() })
}

/// xorshift64*: reproducible from its seed, which must not be 0.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    /// Mostly short bodies, sometimes one longer than a page of any store.
    fn body(&mut self) -> Vec<u8> {
        let bytes_max = if self.below(8) == 0 { 40_000 } else { 300 };
        let bytes = self.below(bytes_max);
        (0..bytes).map(|_| self.next().to_le_bytes()[7]).collect()
    }
}
