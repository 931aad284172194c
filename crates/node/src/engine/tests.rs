//! What the engine is tested with, and tests of what it reads. The simulation is in `simulation`,
//! retries that a log does not recognise are in `twice`, a log that is nearly full in `room`.

mod machines;
mod room;
mod simulation;
mod twice;

use tidings_core::machine::encode;
use tidings_log::Memory;

use super::*;
use crate::clock::Manual;
use crate::handle::Handle;
use crate::lease;
use crate::node::Builder;
use crate::shared::Settings;
use machines::{Ledger, Total};

/// Small numbers that a seed decides (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A node between its start and its death, without its thread.
struct Life {
    engine: Engine,
    ledger: Handle<Ledger>,
    total: Handle<Total>,
    leases: Handle<lease::machine::Table>,
}

impl Life {
    fn over(log: Box<dyn Log>) -> Result<Self, Fatal> {
        Self::with_clock(log, Arc::default())
    }

    fn with_clock(log: Box<dyn Log>, clock: Arc<Manual>) -> Result<Self, Fatal> {
        let mut builder = Builder::new(Settings { events_kept_max: 50, ..Settings::default() });
        let ledger = builder.add(1, "ledger", Ledger::default());
        let total = builder.add(2, "total", Total::default());
        let leases = builder.leases.table.clone();
        let mut engine = Engine::recover(log, builder.slots, clock, |_| {})?;
        engine.begin_now();
        Ok(Self { engine, ledger, total, leases })
    }

    /// Everything that must be the same on every node and after every restart: the states, the
    /// deadlines, the kept events, and how far it has come.
    fn state(&self) -> (Vec<u8>, Option<Timestamp>, Applied) {
        let mut bytes = Vec::new();
        for slot in &self.engine.slots {
            slot.snapshot(&mut bytes);
        }
        let deadline = self.engine.slots.iter().filter_map(|slot| slot.next_deadline()).min();
        (bytes, deadline, self.engine.applied.clone())
    }
}

/// A batch with one command for the ledger.
fn batch(at: u64, name: u64) -> Vec<u8> {
    let mut body = Header { at: Timestamp(at), entries: 1 }.to_bytes().to_vec();
    body.push(1);
    encode(&(name, 0_u64), &mut body);
    body
}

fn start_over(body: &[u8]) -> String {
    let mut log = Memory::default();
    log.append(1, &batch(1, 1)).unwrap();
    log.append(2, body).unwrap();
    Life::over(Box::new(log)).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn an_entry_that_cannot_be_understood_stops_the_start_with_its_position() {
    let header = Header { at: Timestamp(1), entries: 1 }.to_bytes();
    let stranger = start_over(&[&header[..], &[9, 1, 1]].concat());
    assert!(stranger.contains("the entry at position 2 is for machine 9"), "{stranger}");
    let short = start_over(&[&header[..], &[1, 0xff]].concat());
    assert!(short.contains("at position 2: a command cannot be decoded"), "{short}");
    let long = start_over(&[&header[..], &[1, 1, 0, 7]].concat());
    assert!(long.contains("at position 2: the end of a batch cannot be decoded"), "{long}");
    let later = start_over(&[&[200][..], &header[1..], &[1, 1, 0]].concat());
    assert!(later.contains("written by a later version"), "{later}");
}

#[test]
fn a_snapshot_that_cannot_be_understood_stops_the_start_with_its_position() {
    let mut log = Memory::default();
    log.append(1, &batch(1, 1)).unwrap();
    log.write_snapshot(Position(1), 0, b"nonsense", true).unwrap();
    let why = Life::over(Box::new(log)).map(|_| ()).unwrap_err().to_string();
    assert!(why.contains("at position 1: the snapshot cannot be decoded"), "{why}");
}

#[test]
fn a_clock_that_is_behind_does_not_turn_back_time_that_another_node_has_logged() {
    let log = Memory::default();
    let mut other = log.join(tidings_log::Origin(77));
    let mut life = Life::over(Box::new(log.reopen())).unwrap();
    other.append(1, &batch(5000, 1)).unwrap();
    let (proposal, _reply) = life.ledger.proposal((2, 10));
    let mut proposals = VecDeque::from([proposal]);
    life.engine.commit(&mut proposals, &mut Vec::new(), Timestamp(1000)).unwrap();
    assert_eq!(life.engine.applied.at, Timestamp(5000));
    assert_eq!(life.engine.next_deadline(), Some(Timestamp(5010)));
    assert_eq!(life.state(), Life::over(Box::new(log.reopen())).unwrap().state());
}

#[test]
fn a_snapshot_that_was_taken_and_never_written_covers_nothing() {
    let mut log = Memory::default();
    log.append(1, &batch(1, 1)).unwrap();
    let mut life = Life::over(Box::new(log.reopen())).unwrap();
    let taken = life.engine.take_snapshot();
    assert!(life.engine.is_uncovered(), "or a node that stops now would leave the log as it is");
    life.engine.write_snapshot(Position(taken.applied.position), taken.seal().unwrap());
    assert!(!life.engine.is_uncovered(), "it is being written");
    while life.engine.work(Timestamp(1)) {}
    assert!(!life.engine.is_uncovered());
    assert!(!Life::over(Box::new(log.reopen())).unwrap().engine.is_uncovered());
    let mut proposals = VecDeque::from([life.ledger.proposal((2, 0)).0]);
    life.engine.commit(&mut proposals, &mut Vec::new(), Timestamp(1)).unwrap();
    assert!(life.engine.is_uncovered(), "one batch is enough");
    assert!(Life::over(Box::new(log)).unwrap().engine.is_uncovered());
}
