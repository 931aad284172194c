//! A shared log with a bound that is filled faster than checkpoints come: what is kept free is enough for
//! those that make room again.

use tidings_log::Origin;
use tidings_log::faulty::{Call, Fault, Faulty};

use super::*;

const NOW: Timestamp = Timestamp(1);

/// Over a small log that another node has joined.
fn life(log: &Memory) -> Life {
    drop(log.join(Origin(77)));
    Life::over(Box::new(log.reopen())).unwrap()
}

fn small() -> Memory {
    Memory::default().with_bytes_max(10_000)
}

impl Life {
    /// Proposes a command. Whether the log had room for it.
    fn proposes(&mut self, name: u64) -> bool {
        let (proposal, mut reply) = self.ledger.proposal((name, 0));
        let mut proposals = VecDeque::from([proposal]);
        let mut applied = Vec::new();
        self.engine.commit(&mut proposals, &mut applied, NOW).unwrap();
        applied.into_iter().for_each(Proposal::answer);
        reply.try_recv().unwrap().is_ok()
    }

    /// Proposes until a checkpoint is due.
    fn fills_half(&mut self, log: &mut Memory) {
        while log.filled_percent() < 50 {
            assert!(self.proposes(0));
        }
    }

    /// What the node's thread does beside the commits: for a checkpoint of which the other one, if it is
    /// there, says nothing.
    fn housekeeping(&mut self) {
        let now = Timestamp(self.engine.applied.at.0 + 1_000);
        self.engine.ask_for_checkpoint(u64::MAX, now).unwrap();
        self.sealed();
        while self.engine.work(now) {}
        // Nobody is waited for for so long.
        while self.engine.work(Timestamp(now.0 + 60_000)) {}
    }

    /// A snapshot that was taken is sealed and written.
    fn sealed(&mut self) {
        let (taken, asked) = self.engine.taken_at_checkpoint().unwrap();
        let (position, digest) = (Position(taken.applied.position), taken.digest());
        self.engine.write_snapshot(position, taken.seal().unwrap());
        self.engine.sealed_at_checkpoint(position, digest, asked, NOW).unwrap();
    }

    fn follows(&mut self) {
        while self.engine.follow().unwrap() {}
    }
}

#[test]
fn what_is_proposed_to_a_log_that_is_nearly_full_is_refused_until_checkpoints_have_made_room() {
    let mut log = small();
    let mut life = life(&log);
    let taken = (0..10_000).take_while(|name| life.proposes(*name)).count() as u64;
    assert!((75..80).contains(&log.filled_percent()), "{}", log.filled_percent());
    assert!(life.engine.check().is_err());
    assert_eq!(life.engine.barrier(NOW).unwrap(), Ok(()), "reads go on");
    life.housekeeping();
    assert!(log.filled_percent() < 10, "{}", log.filled_percent());
    assert!(life.engine.check().is_ok());
    for name in taken..10 * taken {
        if !life.proposes(name) {
            life.housekeeping();
            assert!(life.proposes(name));
        }
    }
    let applied: Vec<_> = (0..10 * taken).collect();
    assert_eq!(life.ledger.read(|ledger| ledger.applied.clone()), applied);
    assert_eq!(life.state(), Life::over(Box::new(log)).unwrap().state());
}

#[test]
fn barriers_leave_room_for_checkpoints_too() {
    let mut log = small();
    let mut life = life(&log);
    while life.engine.barrier(NOW).unwrap().is_ok() {}
    assert!((90..95).contains(&log.filled_percent()), "{}", log.filled_percent());
    life.housekeeping();
    assert_eq!(life.engine.barrier(NOW).unwrap(), Ok(()));
}

#[test]
fn a_log_of_one_node_is_used_to_its_end() {
    let mut log = small();
    let mut life = Life::over(Box::new(log.reopen())).unwrap();
    let _taken = (0..10_000).take_while(|name| life.proposes(*name)).count();
    assert!(log.filled_percent() > 98, "{}", log.filled_percent());
}

#[test]
fn the_log_keeps_for_a_while_what_another_node_has_not_read() {
    let mut log = small();
    let mut life = life(&log);
    let mut other = Life::over(Box::new(log.join(Origin(77)))).unwrap();
    assert!(other.proposes(0));
    let mut third = Life::over(Box::new(log.join(Origin(78)))).unwrap();
    assert!(third.proposes(1));
    life.follows();
    life.fills_half(&mut log);
    life.engine.ask_for_checkpoint(u64::MAX, NOW).unwrap();
    life.sealed();
    other.follows();
    other.sealed();
    life.follows();
    while life.engine.work(NOW) {}
    assert_eq!(log.bounds().unwrap().first, Position(1), "the third one is behind");
    assert!(life.engine.is_waiting());
    // Nobody asks for the next one meanwhile.
    for now in [NOW, Timestamp(4_999)] {
        for one in [&mut life, &mut other] {
            one.engine.ask_for_checkpoint(u64::MAX, now).unwrap();
            assert!(one.engine.taken_at_checkpoint().is_none());
        }
    }
    third.follows();
    third.sealed();
    life.follows();
    while life.engine.work(NOW) {}
    assert!(log.filled_percent() < 10, "{}", log.filled_percent());
}

#[test]
fn a_node_that_stays_behind_is_not_waited_for_for_ever() {
    let mut log = small();
    let mut life = life(&log);
    let mut other = Life::over(Box::new(log.join(Origin(77)))).unwrap();
    assert!(other.proposes(0));
    life.follows();
    while life.proposes(1) {}
    life.housekeeping();
    assert!(log.filled_percent() < 10, "{}", log.filled_percent());
    let why = other.engine.follow().unwrap_err();
    assert!(why.is_behind(), "{why}");
    let rebuilt = Life::over(Box::new(log.join(Origin(77)))).unwrap();
    life.follows();
    assert_eq!(rebuilt.state(), life.state());
}

#[test]
fn a_log_that_is_truncated_while_it_is_recovered_is_recovered_from_the_newer_snapshot() {
    let log = small();
    let mut life = life(&log);
    while life.proposes(0) {}
    let expected = life.state().0;
    let mut away = Some(life);
    let late = Faulty::new(log.join(Origin(78)), move |call| {
        // There was no snapshot when it was asked for.
        if let (Call::Read { .. }, Some(mut life)) = (call, away.take()) {
            life.housekeeping();
        }
        None
    });
    let late = Life::over(Box::new(late)).unwrap();
    assert_eq!(late.state().0, expected);
}

#[test]
fn an_append_without_outcome_is_not_tried_for_ever_by_a_node_that_is_behind() {
    let log = small();
    let mut life = life(&log);
    while life.proposes(0) {}
    let mut others = Some(life);
    let mut tries = 0;
    let behind = Faulty::new(log.join(Origin(78)), move |call| {
        let Call::Append { .. } = call else { return None };
        tries += 1;
        assert!(tries < 10, "it is tried again and again");
        if let Some(mut life) = others.take() {
            life.housekeeping();
        }
        Some(Fault::UnknownLost)
    });
    let mut behind = Life::over(Box::new(behind)).unwrap();
    let why = behind.engine.barrier(NOW).unwrap_err();
    assert!(why.is_behind(), "{why}");
}

#[test]
fn of_two_nodes_that_ask_for_a_checkpoint_at_once_only_one_takes_it() {
    let mut log = small();
    let mut life = life(&log);
    let mut other = Life::over(Box::new(log.join(Origin(77)))).unwrap();
    life.fills_half(&mut log);
    other.follows();
    life.engine.ask_for_checkpoint(u64::MAX, NOW).unwrap();
    life.sealed();
    while life.engine.work(NOW) {}
    // It has not read that one has asked already.
    other.engine.ask_for_checkpoint(u64::MAX, NOW).unwrap();
    life.follows();
    assert!(life.engine.taken_at_checkpoint().is_none());
    assert!(matches!(other.engine.taken_at_checkpoint(), Some((_, false))));
}

#[test]
fn the_time_of_the_log_counts_where_the_clock_is_behind() {
    let mut log = small();
    let mut life = life(&log);
    life.fills_half(&mut log);
    life.engine.ask_for_checkpoint(u64::MAX, NOW).unwrap();
    life.sealed();
    while life.engine.work(NOW) {}
    assert_eq!(log.bounds().unwrap().first, Position(1), "the others are waited for");
    log.join(Origin(77)).append(1, &batch(60_000, 1)).unwrap();
    life.follows();
    while life.engine.work(NOW) {}
    assert!(log.filled_percent() < 10, "{}", log.filled_percent());
}

#[test]
fn a_lease_is_renewed_where_there_is_room_for_nothing_else() {
    let mut log = small();
    let mut life = life(&log);
    while life.proposes(0) {}
    let (name, holder) = ("traffic".to_owned(), "here".to_owned());
    let renewal = lease::machine::Command::Take { name, holder, ttl_ms: 5_000 };
    let (one, mut refused) = life.ledger.proposal((1, 0));
    let (another, mut renewed) = life.leases.proposal(renewal);
    let mut proposals = VecDeque::from([one, another]);
    let mut applied = Vec::new();
    life.engine.commit(&mut proposals, &mut applied, NOW).unwrap();
    applied.into_iter().for_each(Proposal::answer);
    assert!(matches!(refused.try_recv(), Ok(Err(Refused::NoRoom(_)))));
    assert!(matches!(renewed.try_recv(), Ok(Ok(lease::machine::Reply::Held { .. }))));
    assert!((75..80).contains(&log.filled_percent()), "{}", log.filled_percent());
}
