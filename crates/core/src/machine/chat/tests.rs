//! The chat against a single list of all messages, and its rules one by one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::conformance;
use crate::machine::tests::{at_rising_times, restart};
use crate::structure::inbox::tests::model::Model;

mod stored;

fn id(number: u64) -> Id {
    u128::from(number).to_be_bytes()
}

fn post(user: &str, number: u64, timeout_s: u32, key: Option<&str>) -> Command {
    let text = format!("m{number}").into();
    Command::Post { id: id(number), user: user.into(), text, timeout_s, key: key.map(Into::into) }
}

fn take(user: &str, lease_ms: Option<u64>) -> Command {
    Command::Take { user: user.into(), limit: u32::MAX, bytes_max: u64::MAX, lease_ms }
}

/// A machine, and the users whom it has notified.
#[derive(Default)]
struct Driver {
    chat: Chat,
    notified: Vec<String>,
}

impl Driver {
    fn with(limits: Limits) -> Self {
        Self { chat: Chat::new(limits), notified: Vec::new() }
    }

    fn apply(&mut self, at: u64, command: Command) -> Reply {
        let notified = &mut self.notified;
        let notify = |Event::Arrived { user }: Event| notified.push(user.into());
        self.chat.apply(Timestamp(at), command, &mut { notify })
    }

    fn tick(&mut self, at: u64) {
        let notified = &mut self.notified;
        let notify = |Event::Arrived { user }: Event| notified.push(user.into());
        self.chat.tick(Timestamp(at), &mut { notify });
    }

    /// Ticks as a node does, until nothing is due.
    fn tick_all(&mut self, at: u64) {
        while let Some(due) = self.chat.next_deadline().filter(|due| due.0 <= at) {
            self.tick(due.0);
        }
    }

    fn take(&mut self, at: u64, user: &str) -> (Vec<String>, Taken) {
        let Reply::Taken(taken) = self.apply(at, take(user, None)) else { panic!("a take takes") };
        (taken.messages.iter().map(|message| message.text.clone().into()).collect(), taken)
    }

    fn notified(&mut self) -> Vec<String> {
        core::mem::take(&mut self.notified)
    }
}

#[test]
fn a_message_lives_as_long_as_its_timeout_by_the_times_of_the_entries() {
    for (timeout_s, age_ms, there) in
        [(0, 0, true), (0, 1, false), (60, 60_000, true), (60, 60_001, false)]
    {
        let mut driver = Driver::default();
        driver.apply(5, post("ann", 1, timeout_s, None));
        assert_eq!(driver.chat.peek(Timestamp(5 + age_ms), "ann").count(), usize::from(there));
        assert_eq!(driver.take(5 + age_ms, "ann").0.len(), usize::from(there));
    }
}

#[test]
fn the_longest_timeout_and_the_last_timestamp_work() {
    let mut driver = Driver::default();
    driver.apply(u64::MAX - 10, post("ann", 1, u32::MAX, None));
    assert_eq!(driver.take(u64::MAX - 1, "ann").0, ["m1"]);
    driver.apply(0, post("bob", 2, 31_536_000, None));
    assert_eq!(driver.chat.now, u64::MAX - 1, "time does not run backwards");
}

#[test]
fn repeating_a_post_changes_nothing() {
    let mut driver = Driver::default();
    assert_eq!(driver.apply(1, post("ann", 1, 60, None)), Reply::Posted);
    assert_eq!(driver.apply(2, post("ann", 1, 60, None)), Reply::PostedBefore { id: id(1) });
    assert_eq!(driver.take(2, "ann").0, ["m1"]);
    assert_eq!(driver.notified(), ["ann"]);
}

/// A post to ann under the key `key`.
fn keyed(number: u64, text: &str, timeout_s: u32) -> Command {
    let text = text.into();
    let key = Some("key".into());
    Command::Post { id: id(number), user: "ann".into(), text, timeout_s, key }
}

#[test]
fn the_same_key_returns_the_same_id_even_after_the_message_was_taken() {
    let mut driver = Driver::default();
    assert_eq!(driver.apply(0, keyed(1, "hi", 60)), Reply::Posted);
    assert_eq!(driver.apply(1, keyed(2, "hi", 60)), Reply::PostedBefore { id: id(1) });
    assert_eq!(driver.take(2, "ann").0, ["hi"]);
    assert_eq!(driver.apply(60_000, keyed(3, "hi", 60)), Reply::PostedBefore { id: id(1) });
    assert_eq!(driver.apply(60_001, keyed(4, "hi", 60)), Reply::Posted);
    assert_eq!(driver.apply(60_002, keyed(5, "hi", 60)), Reply::PostedBefore { id: id(4) });
    assert_eq!((driver.chat.counters().posted, driver.chat.counters().posted_before), (2, 3));
}

#[test]
fn the_same_key_with_other_content_is_a_conflict() {
    let mut driver = Driver::default();
    driver.apply(0, post("ann", 1, 60, Some("key")));
    let other_text = keyed(2, "other", 60);
    for other in [post("bob", 1, 60, Some("key")), post("ann", 1, 61, Some("key")), other_text] {
        assert_eq!(driver.apply(1, other), Reply::KeyConflict);
    }
    assert_eq!(driver.chat.counters().key_conflicts, 3);
    assert_eq!((driver.take(1, "ann").0.len(), driver.take(1, "bob").0.len()), (1, 0));
}

#[test]
fn contents_that_differ_only_in_where_the_parts_meet_have_different_digests() {
    assert_ne!(keys::of_content("ab", "c", 1), keys::of_content("a", "bc", 1));
    assert_eq!(keys::of_content("ab", "c", 1), keys::of_content("ab", "c", 1));
}

#[test]
fn a_key_expires_by_ticks_alone() {
    let mut driver = Driver::default();
    for number in 0..1000 {
        driver.apply(0, post("ann", number, 1, Some(&format!("key {number}"))));
    }
    driver.take(0, "ann");
    assert_eq!(driver.chat.keys(), 1000);
    driver.tick_all(2048);
    assert_eq!((driver.chat.keys(), driver.chat.next_deadline()), (0, None));
}

#[test]
fn every_bound_rejects_and_is_counted() {
    let mut driver = Driver::default();
    let limits = Limits {
        unread_per_user_max: 1,
        unread_max: 3,
        unread_bytes_max: 16,
        keys_max: 1,
        lease_ms_max: 10,
        ..Limits::default()
    };
    assert_eq!(driver.apply(0, Command::Configure(limits)), Reply::Configured);
    assert_eq!(driver.apply(0, post("ann", 1, 60, Some("a"))), Reply::Posted);
    assert_eq!(driver.apply(0, post("ann", 2, 60, None)), Reply::InboxFull);
    assert_eq!(driver.apply(0, post("bob", 3, 60, Some("b"))), Reply::KeysFull);
    assert_eq!(driver.apply(0, post("a long name", 4, 60, None)), Reply::Full);
    assert_eq!(driver.apply(0, post("bob", 5, 60, None)), Reply::Posted);
    assert_eq!(driver.apply(0, post("carl", 6, 60, None)), Reply::Posted);
    assert_eq!(driver.apply(0, post("", 7, 60, None)), Reply::Full);
    driver.apply(0, take("ann", Some(11)));
    assert_eq!(driver.chat.peek(Timestamp(10), "ann").count(), 1);
    let counters = driver.chat.counters();
    assert_eq!(
        *counters,
        Counters {
            posted: 3,
            leased: 1,
            unread_per_user_max: 1,
            unread_max: 1,
            unread_bytes_max: 1,
            keys_max: 1,
            lease_ms_max: 1,
            ..Counters::default()
        }
    );
}

#[test]
fn waiters_are_notified_when_a_message_is_posted_put_back_or_its_lease_ends() {
    let mut driver = Driver::default();
    driver.apply(0, post("ann", 1, 60, None));
    assert_eq!(driver.notified(), ["ann"]);
    driver.apply(0, take("ann", Some(10)));
    driver.tick_all(1000);
    assert_eq!(driver.notified(), ["ann"]);
    let (_, taken) = driver.take(1000, "ann");
    assert_eq!(driver.notified(), [""; 0]);
    let receipt = taken.receipt.unwrap();
    let messages = taken.messages;
    driver.apply(1000, Command::PutBack { user: "ann".into(), receipt, messages });
    assert_eq!(driver.notified(), ["ann"]);
}

#[test]
fn a_take_that_ends_a_lease_and_leaves_messages_notifies_other_waiters() {
    let mut driver = Driver::default();
    driver.apply(0, post("ann", 1, 60, None));
    driver.apply(0, post("ann", 2, 60, None));
    driver.apply(0, take("ann", Some(10)));
    driver.notified();
    let one = Command::Take { user: "ann".into(), limit: 1, bytes_max: 100, lease_ms: None };
    let Reply::Taken(taken) = driver.apply(10, one) else { panic!("a take takes") };
    assert!(taken.more);
    assert_eq!(driver.notified(), ["ann"]);
}

#[test]
fn a_receipt_puts_messages_back_once() {
    let mut driver = Driver::default();
    driver.apply(0, post("ann", 1, 60, None));
    let (_, taken) = driver.take(0, "ann");
    let receipt = taken.receipt.unwrap();
    let back = Command::PutBack { user: "ann".into(), receipt, messages: taken.messages };
    assert_eq!(driver.apply(1, back.clone()), Reply::PutBack(1));
    assert_eq!(driver.take(2, "ann").0, ["m1"]);
    assert_eq!(driver.apply(3, back), Reply::PutBack(0));
    assert_eq!(driver.take(3, "ann").0, [""; 0]);
    assert_eq!(driver.chat.counters().put_back_again, 1);
}

#[test]
fn a_receipt_expires_and_is_not_revived_by_a_new_bound() {
    let mut driver = Driver::default();
    for at in [0, 60_000, 60_001] {
        driver.apply(at, post("ann", at, 600, None));
    }
    let mut back = |at, used_at: &[u64]| {
        let (_, taken) = driver.take(at, "ann");
        let receipt = taken.receipt.unwrap();
        let back = Command::PutBack { user: "ann".into(), receipt, messages: taken.messages };
        used_at.iter().map(|at| driver.apply(*at, back.clone())).collect::<Vec<_>>()
    };
    assert_eq!(back(60_001, &[120_001]), [Reply::PutBack(3)]);
    assert_eq!(back(120_001, &[180_002]), [Reply::PutBack(0)], "too late");
    driver.apply(180_002, post("ann", 4, 600, None));
    let (_, taken) = driver.take(180_002, "ann");
    let receipt = taken.receipt.unwrap();
    let back = Command::PutBack { user: "ann".into(), receipt, messages: taken.messages };
    assert_eq!(driver.apply(180_002, back.clone()), Reply::PutBack(1));
    driver.take(180_003, "ann");
    driver.tick(300_000);
    assert!(driver.chat.put_back.is_empty(), "forgotten");
    let limits = Limits { put_back_ms_max: u64::MAX, ..Limits::default() };
    driver.apply(300_000, Command::Configure(limits));
    assert_eq!(driver.apply(300_000, back), Reply::PutBack(0));
}

#[test]
fn unknown_receipts_and_too_many_receipts_are_rejected() {
    let mut driver = Driver::with(Limits { put_backs_max: 1, ..Limits::default() });
    let message = |seq| InboxMessage { seq, id: id(seq), text: "".into(), gone_at: 1000 };
    let mut back = |take, at, seq| {
        let receipt = Receipt { take, at };
        let messages = vec![message(seq)];
        driver.apply(5, Command::PutBack { user: "ann".into(), receipt, messages })
    };
    assert_eq!(back(1, 0, 0), Reply::PutBack(0));
    assert_eq!(back(0, 0, 0), Reply::PutBack(0));
    for number in 0..2 {
        driver.apply(5, post("ann", number, 60, None));
        driver.take(5, "ann");
    }
    let mut back = |take, at, seq| {
        let receipt = Receipt { take, at };
        let messages = vec![message(seq)];
        driver.apply(5, Command::PutBack { user: "ann".into(), receipt, messages })
    };
    assert_eq!(back(1, 6, 0), Reply::PutBack(0), "a time in the future");
    assert_eq!(back(1, 5, 0), Reply::PutBack(1));
    assert_eq!(back(2, 5, 1), Reply::PutBack(0), "one too many");
    let Counters { put_back_again, put_backs_max, .. } = *driver.chat.counters();
    assert_eq!((put_back_again, put_backs_max), (3, 1));
}

#[test]
fn a_lease_has_no_receipt() {
    let mut driver = Driver::default();
    driver.apply(0, post("ann", 1, 60, None));
    let Reply::Taken(taken) = driver.apply(0, take("ann", Some(5))) else { panic!("a take takes") };
    assert_eq!((taken.messages.len(), taken.receipt), (1, None));
    assert_eq!(driver.take(0, "ann").1.receipt, None, "neither has an empty take");
}

#[test]
fn a_tick_is_bounded_and_the_rest_is_due_immediately() {
    let mut driver = Driver::with(Limits { unread_per_user_max: 100_000, ..Limits::default() });
    for number in 0..10_000 {
        driver.apply(0, post("ann", number, 1, None));
    }
    let mut ticks = Vec::new();
    while let Some(due) = driver.chat.next_deadline() {
        let before = driver.chat.inboxes().len();
        driver.tick(due.0);
        assert!(before - driver.chat.inboxes().len() <= TICK_STEPS_MAX);
        ticks.push(due.0);
    }
    assert_eq!(ticks, (1024..1029).collect::<Vec<_>>());
    assert_eq!((driver.chat.inboxes().len(), driver.chat.ended().messages), (0, 10_000));
}

/// A random step.
#[derive(Clone, Debug)]
enum Act {
    Post { user: usize, again: Option<usize>, timeout_s: u32, key: Option<u8> },
    Take { user: usize, limit: u32, bytes_max: u64, lease_ms: Option<u64> },
    Acknowledge { pick: usize },
    PutBack { pick: usize },
    Configure { per_user_max: u32 },
    Wait { ms: u64 },
    Restart,
}

const USERS: [&str; 3] = ["ann", "bob", ""];

fn act() -> impl Strategy<Value = Act> {
    let user = || 0..USERS.len();
    let ms = || prop_oneof![0u64..100, 0u64..3000, 0u64..100_000];
    let limit = prop_oneof![Just(u32::MAX), 0u32..4];
    let bytes_max = prop_oneof![Just(u64::MAX), 0u64..9];
    let key = || prop::option::weighted(0.3, 0u8..4);
    prop_oneof![
        12 => (user(), prop::option::weighted(0.1, any::<usize>()), 0u32..100, key()).prop_map(
            |(user, again, timeout_s, key)| Act::Post { user, again, timeout_s, key }
        ),
        6 => (user(), limit, bytes_max, prop::option::of(ms())).prop_map(
            |(user, limit, bytes_max, lease_ms)| Act::Take { user, limit, bytes_max, lease_ms }
        ),
        3 => any::<usize>().prop_map(|pick| Act::Acknowledge { pick }),
        3 => any::<usize>().prop_map(|pick| Act::PutBack { pick }),
        1 => (1u32..9).prop_map(|per_user_max| Act::Configure { per_user_max }),
        5 => ms().prop_map(|ms| Act::Wait { ms }),
        1 => Just(Act::Restart),
    ]
}

/// What was posted: user, timeout and key.
type Posted = (usize, u32, Option<u8>);

/// What clients know: what was posted under each key, and what was handed out.
#[derive(Default)]
struct Clients {
    posts: Vec<Posted>,
    /// For each key its content, its id and when it expires.
    keys: BTreeMap<u8, ((usize, u32), Id, u64)>,
    taken: Vec<(usize, Taken)>,
    leased: Vec<(usize, Id)>,
    used: BTreeSet<u64>,
    /// The users that found nothing and have not been notified since.
    waiting: BTreeSet<usize>,
}

proptest! {
    #[test]
    fn it_behaves_like_a_single_list_of_all_messages(acts in prop::collection::vec(act(), 0..120)) {
        let mut limits = Limits::default();
        let mut driver = Driver::default();
        let mut model = Model::default();
        let mut outside = Clients::default();
        let mut now = 1_000_000;
        for act in acts {
            match act {
                Act::Post { user, again, timeout_s, key } => {
                    model.expire(now);
                    // Repeat an earlier post, if it can still be recognised.
                    let again = again.and_then(|pick| pick.checked_rem(outside.posts.len()));
                    let again = again.filter(|number| model.knows(id(*number as u64)));
                    let number = again.unwrap_or(outside.posts.len());
                    let (user, timeout_s, key) = again.map_or((user, timeout_s, key), |number| outside.posts[number]);
                    if again.is_none() {
                        outside.posts.push((user, timeout_s, key));
                    }
                    let name = key.map(|key| format!("key {key}"));
                    let command = Command::Post {
                        id: id(number as u64),
                        user: USERS[user].into(),
                        text: "text".into(),
                        timeout_s,
                        key: name.map(Into::into),
                    };
                    let reply = driver.apply(now, command);
                    let content = (user, timeout_s);
                    let known = key.and_then(|key| outside.keys.get(&key)).filter(|(.., over)| now < *over);
                    if let Some((of, first, _)) = known {
                        let same = Reply::PostedBefore { id: *first };
                        prop_assert_eq!(reply, if *of == content { same } else { Reply::KeyConflict });
                        continue;
                    }
                    let gone_at = now + u64::from(timeout_s) * 1000 + 1;
                    let number = id(number as u64);
                    let pushed = model.push(now, USERS[user], number, "text", gone_at, limits.unread_per_user_max);
                    match pushed {
                        Pushed::Stored => {
                            prop_assert_eq!(reply, Reply::Posted);
                            outside.keys.extend(key.map(|key| (key, (content, number, gone_at))));
                        }
                        Pushed::Known => prop_assert_eq!(reply, Reply::PostedBefore { id: number }),
                        Pushed::InboxFull | Pushed::MessagesFull | Pushed::BytesFull => {
                            prop_assert_eq!(reply, Reply::InboxFull);
                        }
                    }
                }
                Act::Take { user, limit, bytes_max, lease_ms } => {
                    let leased_until = lease_ms.map(|ms| now + ms.max(1));
                    let (messages, more) =
                        model.hand_out(now, USERS[user], Wanted { limit, bytes_max, leased_until });
                    let command = Command::Take { user: USERS[user].into(), limit, bytes_max, lease_ms };
                    let Reply::Taken(taken) = driver.apply(now, command) else { panic!("a take takes") };
                    prop_assert_eq!(&taken.messages, &messages);
                    prop_assert_eq!(taken.more, more);
                    prop_assert_eq!(taken.receipt.is_some(), lease_ms.is_none() && !messages.is_empty());
                    if lease_ms.is_some() {
                        outside.leased.extend(messages.iter().map(|message| (user, message.id)));
                    } else {
                        outside.taken.push((user, taken));
                    }
                    if messages.is_empty() && !more {
                        outside.waiting.insert(user);
                    }
                }
                Act::Acknowledge { pick } => {
                    let Some(pick) = pick.checked_rem(outside.leased.len()) else { continue };
                    let (user, id) = outside.leased[pick];
                    let there = model.acknowledge(now, USERS[user], id);
                    let reply = driver.apply(now, Command::Acknowledge { user: USERS[user].into(), id });
                    prop_assert_eq!(reply, if there { Reply::Acknowledged } else { Reply::NotFound });
                }
                Act::PutBack { pick } => {
                    let Some(pick) = pick.checked_rem(outside.taken.len()) else { continue };
                    let (user, Taken { messages, receipt, .. }) = outside.taken[pick].clone();
                    let Some(receipt) = receipt else { continue };
                    let in_time = now - receipt.at <= limits.put_back_ms_max;
                    let back = if in_time && outside.used.insert(receipt.take) {
                        model.put_back(now, USERS[user], &messages, limits.unread_per_user_max)
                    } else {
                        0
                    };
                    let command = Command::PutBack { user: USERS[user].into(), receipt, messages };
                    prop_assert_eq!(driver.apply(now, command), Reply::PutBack(back));
                }
                Act::Configure { per_user_max } => {
                    limits.unread_per_user_max = per_user_max;
                    driver.apply(now, Command::Configure(limits));
                }
                Act::Wait { ms } => {
                    now += ms;
                    driver.tick_all(now);
                }
                Act::Restart => {
                    driver.chat = restart(&driver.chat);
                }
            }
            for user in driver.notified() {
                outside.waiting.retain(|waiting| USERS[*waiting] != user);
            }
            for (place, user) in USERS.iter().enumerate() {
                let available = model.available(now, user);
                let expected = available.iter().map(|message| (&message.id, &*message.text));
                prop_assert!(driver.chat.peek(Timestamp(now), user).eq(expected), "{user}");
                // A waiter whose messages are there has been notified, or will be within a tick.
                let soon = driver.chat.next_deadline().is_some_and(|due| due.0 <= now + 64);
                prop_assert!(available.is_empty() || !outside.waiting.contains(&place) || soon);
            }
            driver.chat.inboxes.assert_sound();
        }
    }

    #[test]
    fn the_chat_keeps_the_contract(
        steps in prop::collection::vec((0u64..3000, command()), 0..80),
        restart_every in 1usize..5,
    ) {
        conformance::check(Chat::default, at_rising_times(steps), restart_every);
    }
}

fn command() -> impl Strategy<Value = Command> {
    let user = || prop::sample::select(vec!["ann", "bob", ""]).prop_map(Box::<str>::from);
    let number = || 0u64..30;
    let limits = (1u32..9, 1u32..20, 1u64..99, 1u32..4, 1u64..999, 1u64..9999, 1u32..3).prop_map(
        |(per_user, all, bytes, keys_max, lease_ms_max, put_back_ms_max, put_backs_max)| Limits {
            unread_per_user_max: per_user,
            unread_max: all,
            unread_bytes_max: bytes,
            keys_max,
            lease_ms_max,
            put_back_ms_max,
            put_backs_max,
        },
    );
    let key = prop::option::weighted(0.3, prop::sample::select(vec!["a", "b", ""]));
    let message = (number(), 0u64..99_999).prop_map(|(seq, gone_at)| InboxMessage {
        seq,
        id: id(seq),
        text: "back".into(),
        gone_at,
    });
    let receipt = (0u64..9, 0u64..9999).prop_map(|(take, at)| Receipt { take, at });
    prop_oneof![
        1 => limits.prop_map(Command::Configure),
        20 => (number(), user(), 0u32..5, key).prop_map(|(number, user, timeout_s, key)| {
            post(&user, number, timeout_s, key)
        }),
        8 => (user(), 0u32..5, 0u64..20, prop::option::of(0u64..2000)).prop_map(
            |(user, limit, bytes_max, lease_ms)| Command::Take { user, limit, bytes_max, lease_ms }
        ),
        3 => (user(), number()).prop_map(|(user, number)| Command::Acknowledge {
            user,
            id: id(number),
        }),
        3 => (user(), receipt, prop::collection::vec(message, 0..4)).prop_map(
            |(user, receipt, messages)| Command::PutBack { user, receipt, messages }
        ),
    ]
}
