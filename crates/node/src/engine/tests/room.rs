//! A shared log with a bound that is filled faster than checkpoints come: what is kept free is enough for
//! those that make room again.

use tidings_log::Origin;

use super::*;

const NOW: Timestamp = Timestamp(1);
const LATER: Timestamp = Timestamp(60_000);

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

    /// What the node's thread does beside the commits: for two checkpoints. The second one lets go of
    /// what the first covers.
    fn housekeeping(&mut self) {
        for _ in 0..2 {
            self.engine.ask_for_checkpoint(u64::MAX, NOW).unwrap();
            let (taken, asked) = self.engine.taken_at_checkpoint().unwrap();
            let (position, digest) = (Position(taken.applied.position), taken.digest());
            self.engine.write_snapshot(position, taken.seal().unwrap());
            self.engine.sealed_at_checkpoint(position, digest, asked, NOW).unwrap();
            while self.engine.work(NOW) {}
            // The other one says nothing.
            while self.engine.work(LATER) {}
        }
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
