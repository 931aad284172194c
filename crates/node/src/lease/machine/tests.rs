//! The machine against the dumbest model, its laws, and what is stored.

use proptest::prelude::*;
use tidings_core::conformance;

use super::*;

fn take(name: &str, holder: &str, ttl_ms: u64) -> Command {
    Command::Take { name: name.to_owned(), holder: holder.to_owned(), ttl_ms }
}

fn give(name: &str, holder: &str, token: u64) -> Command {
    Command::Give { name: name.to_owned(), holder: holder.to_owned(), token }
}

/// Applies a command. Returns the reply, and the token of the event if the lease has changed hands.
fn apply(table: &mut Table, at: u64, command: Command) -> (Reply, Option<u64>) {
    let mut changed = None;
    let reply = table.apply(Timestamp(at), command, &mut |token| changed = Some(token));
    (reply, changed)
}

#[test]
fn a_lease_is_its_holders_until_it_has_run_out() {
    let mut table = Table::default();
    assert_eq!(apply(&mut table, 10, take("l", "a", 5)), (Reply::Held { token: 1 }, Some(1)));
    let other = Reply::Other { holder: "a".to_owned(), until: Timestamp(15) };
    assert_eq!(apply(&mut table, 14, take("l", "b", 5)), (other, None));
    assert_eq!(apply(&mut table, 15, take("l", "b", 5)), (Reply::Held { token: 2 }, Some(2)));
}

#[test]
fn a_renewal_keeps_the_token_and_never_shortens() {
    let mut table = Table::default();
    apply(&mut table, 0, take("l", "a", 10));
    assert_eq!(apply(&mut table, 4, take("l", "a", 1)), (Reply::Held { token: 1 }, None));
    assert_eq!(table.get("l").unwrap().until, 10);
    let late = apply(&mut table, 99, take("l", "a", 10));
    assert_eq!(late, (Reply::Held { token: 1 }, None), "nobody else had it meanwhile");
}

#[test]
fn what_is_given_back_is_free_and_the_token_still_rises() {
    let mut table = Table::default();
    apply(&mut table, 0, take("l", "a", 10));
    assert_eq!(apply(&mut table, 1, give("l", "b", 1)), (Reply::NotHeld, None));
    assert_eq!(apply(&mut table, 1, give("l", "a", 9)), (Reply::NotHeld, None));
    assert_eq!(apply(&mut table, 1, give("l", "a", 0)), (Reply::Given, Some(1)));
    assert_eq!(apply(&mut table, 1, give("l", "a", 1)), (Reply::NotHeld, None));
    assert_eq!(apply(&mut table, 1, take("l", "b", 10)), (Reply::Held { token: 2 }, Some(2)));
}

#[test]
fn names_and_leases_are_bounded_and_those_that_have_run_out_make_room() {
    let mut table = Table::default();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    assert_eq!(apply(&mut table, 0, take(&long, "a", 1)).0, Reply::Unusable);
    assert_eq!(apply(&mut table, 0, take("l", &long, 1)).0, Reply::Unusable);
    for which in 0..LEASES_MAX {
        let (reply, _) = apply(&mut table, 0, take(&which.to_string(), "a", 10));
        assert!(matches!(reply, Reply::Held { .. }));
    }
    assert_eq!(apply(&mut table, 9, take("one more", "a", 10)).0, Reply::Unusable);
    assert!(matches!(apply(&mut table, 10, take("one more", "a", 10)).0, Reply::Held { .. }));
    assert_eq!(table.leases.len(), 1);
    apply(&mut table, 10, take("long", "a", u64::MAX));
    assert_eq!(table.get("long").unwrap().until, 10 + TTL_MS_MAX);
}

#[derive(Clone, Debug)]
enum Step {
    Take(u8, u8, u64),
    Give(u8, u8, u64),
}

fn command(step: &Step) -> Command {
    match step {
        Step::Take(name, holder, ttl_ms) => take(&name.to_string(), &holder.to_string(), *ttl_ms),
        Step::Give(name, holder, token) => give(&name.to_string(), &holder.to_string(), *token),
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8, 0..3u8, 0..20u64).prop_map(|(name, holder, ttl)| Step::Take(name, holder, ttl)),
        1 => (0..3u8, 0..3u8, 0..9u64).prop_map(|(name, holder, token)| Step::Give(name, holder, token)),
    ]
}

proptest! {
    #[test]
    fn it_says_what_a_list_of_all_that_happened_says(
        steps in prop::collection::vec((step(), 0..8u64), 0..100),
    ) {
        let mut table = Table::default();
        // By lease: its last holder, the token and the end; nothing when it was given back.
        let mut model: Vec<Option<(u8, u64, u64)>> = vec![None; 3];
        let (mut at, mut last) = (0, 0);
        for (step, later) in steps {
            at += later;
            let (reply, changed) = apply(&mut table, at, command(&step));
            match step {
                Step::Take(name, holder, ttl_ms) => {
                    let lease = &mut model[usize::from(name)];
                    let expected = match *lease {
                        Some((has, token, until)) if has == holder => {
                            *lease = Some((has, token, until.max(at + ttl_ms)));
                            Reply::Held { token }
                        }
                        Some((has, _, until)) if at < until => {
                            Reply::Other { holder: has.to_string(), until: Timestamp(until) }
                        }
                        _ => {
                            last += 1;
                            *lease = Some((holder, last, at + ttl_ms));
                            prop_assert_eq!(changed, Some(last));
                            Reply::Held { token: last }
                        }
                    };
                    prop_assert_eq!(reply, expected);
                }
                Step::Give(name, holder, token) => {
                    let lease = &mut model[usize::from(name)];
                    let is_his = lease.is_some_and(|(has, under, _)| {
                        has == holder && (token == 0 || token == under)
                    });
                    prop_assert_eq!(reply == Reply::Given, is_his);
                    prop_assert_eq!(changed.is_some(), is_his);
                    if is_his {
                        *lease = None;
                    }
                }
            }
        }
    }

    #[test]
    fn it_obeys_the_laws_of_machines(
        steps in prop::collection::vec((step(), 0..20u64), 1..80),
        restart_every in 1..20_usize,
    ) {
        let commands = steps.iter().map(|(step, at)| (Timestamp(*at), command(step)));
        conformance::check(Table::default, commands, restart_every);
    }
}

/// A golden file, or its first version: written when it is missing, to be looked at and committed.
fn golden(name: &str, first: &[u8]) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|_| {
        std::fs::write(&path, first).unwrap();
        first.to_vec()
    })
}

#[test]
fn stored_commands_and_snapshots_of_the_first_version_can_be_read() {
    let steps =
        [Step::Take(1, 1, 5000), Step::Take(2, 2, 300), Step::Give(1, 1, 1), Step::Take(1, 2, 9)];
    let (mut commands, mut table) = (Vec::new(), Table::default());
    for step in &steps {
        encode(&command(step), &mut commands);
        apply(&mut table, 1_700_000_000_000, command(step));
    }
    let stored = golden("leases.commands.v1", &commands);
    assert_eq!(commands, stored);
    let mut stored = stored.as_slice();
    for step in &steps {
        assert_eq!(decode::<Command>("a command", &mut stored).unwrap(), command(step));
    }
    let mut snapshot = Vec::new();
    table.snapshot(&mut snapshot);
    let stored = golden("leases.snapshot.v1", &snapshot);
    assert_eq!(snapshot, stored);
    let mut again = Vec::new();
    Table::restore(&stored).unwrap().snapshot(&mut again);
    assert_eq!(again, stored);
}

#[test]
fn a_snapshot_that_cannot_be_is_refused() {
    let mut table = Table::default();
    apply(&mut table, 0, take("l", "a", 10));
    let mut snapshot = Vec::new();
    table.snapshot(&mut snapshot);
    assert!(Table::restore(&snapshot).is_ok());
    assert!(Table::restore(&snapshot[..snapshot.len() - 1]).is_err(), "cut short");
    assert!(Table::restore(&[&snapshot[..], &[0]].concat()).is_err(), "with something behind it");
    let mut early = Vec::new();
    encode(&Stored::V1(0), &mut early);
    encode(&table.leases, &mut early);
    assert!(Table::restore(&early).is_err(), "a token that was never given");
}
