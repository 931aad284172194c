//! The inboxes against a trivial model, whatever happens in whatever order, and their rules one by one.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use proptest::prelude::*;

use super::super::slab::CHUNK;
use super::super::wheel::Items;
use super::*;
use model::Model;

pub(crate) mod model;

const ROOMY: Bounds =
    Bounds { per_user_max: 10_000, messages_max: 1_000_000, bytes_max: 1_000_000_000 };

const TAKE_ALL: Wanted = Wanted { limit: u32::MAX, bytes_max: u64::MAX, leased_until: None };

fn id(number: u64) -> Id {
    u128::from(number).to_be_bytes()
}

fn push(inboxes: &mut Inboxes, now: u64, user: &str, number: u64, gone_at: u64) {
    let text = format!("m{number}").into();
    assert_eq!(inboxes.push(now, user, id(number), text, gone_at), Pushed::Stored);
}

fn texts(messages: &[InboxMessage]) -> Vec<&str> {
    messages.iter().map(|message| &*message.text).collect()
}

fn take(inboxes: &mut Inboxes, now: u64, user: &str) -> Vec<String> {
    let out = inboxes.hand_out(now, user, TAKE_ALL);
    texts(&out.messages).into_iter().map(String::from).collect()
}

fn lease(inboxes: &mut Inboxes, now: u64, user: &str, limit: u32, until: u64) -> Vec<String> {
    let wanted = Wanted { limit, leased_until: Some(until), ..TAKE_ALL };
    let out = inboxes.hand_out(now, user, wanted);
    texts(&out.messages).into_iter().map(String::from).collect()
}

fn restart(inboxes: &Inboxes) -> Inboxes {
    let mut restoring = Inboxes::restore(inboxes.parts(), inboxes.bounds).unwrap();
    for message in inboxes.stored() {
        restoring.put(message).unwrap();
    }
    restoring.finish().unwrap()
}

impl Inboxes {
    /// Checks every list and count.
    pub(crate) fn assert_sound(&mut self) {
        let mut messages = 0;
        let mut leased = 0;
        let mut bytes = 0;
        let places = (0..self.users.places()).filter(|place| self.users.get(*place).is_some());
        for place in places.collect::<Vec<_>>() {
            let user = self.users.get(place).unwrap();
            assert_eq!(self.find_user(&user.name), Some(place));
            let mut before = NOWHERE;
            let mut next = user.first;
            let mut seq = None;
            let mut mine = 0;
            let mut mine_leased = 0;
            let mut only_leased = true;
            while let Some(message) = self.messages.get(next) {
                assert_eq!((message.user, message.before), (place, before));
                assert!(seq < Some(message.seq), "in order");
                assert_eq!(self.find(message.id), Some(next));
                let is_leased = message.until != 0;
                assert!(!is_leased || user.lease_ends <= message.until);
                assert!(is_leased || user.gone_at <= message.gone_at);
                only_leased &= next != user.unleased;
                assert!(!only_leased || is_leased, "a reader skips leased messages only");
                mine += 1;
                mine_leased += u32::from(is_leased);
                bytes += size(&user.name, &message.text);
                before = next;
                next = message.behind;
                seq = Some(message.seq);
            }
            assert!(mine > 0, "a user without messages is removed");
            assert_eq!((user.last, user.messages, user.leased), (before, mine, mine_leased));
            messages += mine;
            leased += mine_leased;
        }
        assert_eq!((messages, leased, bytes), (self.len(), self.leased(), self.bytes));
        assert_eq!(self.expiry.len() + self.leases.len(), messages);
        let link = |place| lists::Leased(&mut self.messages.clone()).link(place).copied();
        if messages < 20 {
            assert_eq!(self.leases.iter(link).count(), leased as usize);
        }
        assert!(self.messages.places() as usize <= 2 * messages as usize + CHUNK);
    }
}

#[test]
fn messages_are_handed_out_once_oldest_first_and_only_to_their_user() {
    let mut inboxes = Inboxes::new(ROOMY);
    for number in [0, 2, 4] {
        push(&mut inboxes, 0, "ann", number, 100);
        push(&mut inboxes, 0, "bob", number + 1, 100);
    }
    assert_eq!(take(&mut inboxes, 0, "ann"), ["m0", "m2", "m4"]);
    assert_eq!(take(&mut inboxes, 0, "ann"), [""; 0]);
    assert_eq!(take(&mut inboxes, 0, "bob"), ["m1", "m3", "m5"]);
    assert_eq!(take(&mut inboxes, 0, "carl"), [""; 0]);
    assert_eq!((inboxes.len(), inboxes.users(), inboxes.bytes()), (0, 0, 0));
}

#[test]
fn a_message_is_available_until_the_millisecond_of_its_expiry() {
    let mut inboxes = Inboxes::new(ROOMY);
    push(&mut inboxes, 0, "ann", 1, 1001);
    push(&mut inboxes, 0, "ann", 2, 1002);
    assert_eq!(inboxes.peek(1000, "ann").count(), 2);
    assert_eq!(inboxes.peek(1001, "ann").count(), 1);
    assert_eq!(take(&mut inboxes, 1001, "ann"), ["m2"]);
    assert_eq!(inboxes.ended().messages, 1);
}

#[test]
fn expired_messages_are_freed_without_a_reader() {
    let mut inboxes = Inboxes::new(ROOMY);
    for number in 0..5000 {
        push(&mut inboxes, 0, &format!("user {}", number % 700), number, 1 + number * 100_000);
    }
    let mut now = 0;
    while let Some(deadline) = inboxes.next_deadline() {
        assert!(deadline > now);
        now = deadline;
        inboxes.work(now, u32::MAX, &mut |_| panic!("nothing comes back"));
        let alive = (0..5000).filter(|number| now < 1 + number * 100_000).count();
        let lately = (0..5000).filter(|number| now < 1025 + number * 100_000).count();
        assert!((alive..=lately).contains(&(inboxes.len() as usize)));
    }
    assert_eq!((inboxes.len(), inboxes.users(), inboxes.ended().messages), (0, 0, 5000));
}

#[test]
fn a_leased_message_is_hidden_and_then_back_in_its_place() {
    let mut inboxes = Inboxes::new(ROOMY);
    (1..=4).for_each(|number| push(&mut inboxes, 0, "ann", number, 100_000));
    assert_eq!(lease(&mut inboxes, 0, "ann", 2, 50), ["m1", "m2"]);
    assert_eq!(lease(&mut inboxes, 0, "ann", 1, 80), ["m3"]);
    assert_eq!(inboxes.peek(49, "ann").count(), 1);
    assert_eq!(
        inboxes.peek(50, "ann").map(|(_, text)| text).collect::<Vec<_>>(),
        ["m1", "m2", "m4"]
    );
    assert!(inboxes.acknowledge(49, "ann", id(2)));
    assert!(!inboxes.acknowledge(49, "ann", id(2)), "it is gone");
    assert!(!inboxes.acknowledge(49, "bob", id(1)), "another user's");
    assert!(!inboxes.acknowledge(49, "ann", id(4)), "not leased");
    assert!(!inboxes.acknowledge(50, "ann", id(1)), "the lease has ended");
    assert_eq!(take(&mut inboxes, 50, "ann"), ["m1", "m4"]);
    assert_eq!(take(&mut inboxes, 80, "ann"), ["m3"]);
}

#[test]
fn the_end_of_a_lease_is_reported_without_a_reader() {
    let mut inboxes = Inboxes::new(ROOMY);
    push(&mut inboxes, 0, "ann", 1, 100_000);
    push(&mut inboxes, 0, "bob", 2, 40);
    lease(&mut inboxes, 0, "ann", 1, 50);
    lease(&mut inboxes, 0, "bob", 1, 50);
    assert_eq!(inboxes.next_deadline(), Some(64));
    let mut returned = Vec::new();
    inboxes.work(64, 100, &mut |user| returned.push(String::from(user)));
    assert_eq!(returned, ["ann"], "bob's message has expired meanwhile");
    assert_eq!((inboxes.len(), inboxes.leased(), inboxes.ended().leases), (1, 0, 2));
}

#[test]
fn a_message_that_expires_while_leased_can_be_acknowledged_and_does_not_return() {
    let mut inboxes = Inboxes::new(ROOMY);
    push(&mut inboxes, 0, "ann", 1, 10);
    push(&mut inboxes, 0, "ann", 2, 10);
    lease(&mut inboxes, 0, "ann", 2, 50);
    assert!(inboxes.acknowledge(49, "ann", id(1)));
    assert_eq!(take(&mut inboxes, 50, "ann"), [""; 0]);
    assert!(inboxes.is_empty());
}

#[test]
fn one_hand_out_is_bounded_in_number_and_bytes_but_never_empty() {
    let mut inboxes = Inboxes::new(ROOMY);
    (1..=5).for_each(|number| push(&mut inboxes, 0, "ann", number, 100));
    let mut wanted = Wanted { limit: 2, ..TAKE_ALL };
    let out = inboxes.hand_out(0, "ann", wanted);
    assert_eq!((texts(&out.messages), out.more), (vec!["m1", "m2"], true));
    wanted = Wanted { bytes_max: 1, ..TAKE_ALL };
    let out = inboxes.hand_out(0, "ann", wanted);
    assert_eq!((texts(&out.messages), out.more), (vec!["m3"], true));
    wanted = Wanted { bytes_max: 4, ..TAKE_ALL };
    let out = inboxes.hand_out(0, "ann", wanted);
    assert_eq!((texts(&out.messages), out.more), (vec!["m4", "m5"], false));
}

#[test]
fn at_a_bound_a_message_is_rejected_and_nothing_changes() {
    let bounds = Bounds { per_user_max: 2, messages_max: 3, bytes_max: 17 };
    let mut inboxes = Inboxes::new(bounds);
    let mut push = |user, number, text: &str| inboxes.push(0, user, id(number), text.into(), 9);
    assert_eq!(push("ann", 1, "one"), Pushed::Stored);
    assert_eq!(push("ann", 1, "one"), Pushed::Known);
    assert_eq!(push("ann", 2, "two"), Pushed::Stored);
    assert_eq!(push("ann", 3, "three"), Pushed::InboxFull);
    assert_eq!(push("bob", 4, "four"), Pushed::BytesFull);
    assert_eq!(push("bob", 5, "5"), Pushed::Stored);
    assert_eq!(push("carl", 6, ""), Pushed::MessagesFull);
    assert_eq!((inboxes.len(), inboxes.users(), inboxes.bytes()), (3, 2, 16));
    // Expired messages make room in their own inbox immediately.
    assert_eq!(inboxes.push(9, "ann", id(7), "7".into(), 100), Pushed::Stored);
    assert_eq!(inboxes.len(), 2);
}

#[test]
fn a_message_put_back_is_in_its_place_unless_it_exists_or_has_expired() {
    let mut inboxes = Inboxes::new(ROOMY);
    (1..=4).for_each(|number| push(&mut inboxes, 0, "ann", number, 100 * number));
    let taken = inboxes.hand_out(0, "ann", Wanted { limit: 3, ..TAKE_ALL }).messages;
    push(&mut inboxes, 0, "ann", 5, 1000);
    let shuffled: Vec<_> = taken.iter().rev().cloned().collect();
    assert_eq!(inboxes.put_back(150, "ann", shuffled), (2, 0));
    assert_eq!(inboxes.put_back(150, "ann", taken), (0, 0));
    let foreign = InboxMessage { seq: 99, id: id(99), text: "".into(), gone_at: 1000 };
    assert_eq!(inboxes.put_back(150, "ann", vec![foreign]), (0, 0));
    let forged = InboxMessage { seq: 1, id: id(98), text: "".into(), gone_at: 1000 };
    assert_eq!(inboxes.put_back(150, "ann", vec![forged]), (0, 0), "another message's number");
    inboxes.assert_sound();
    assert_eq!(take(&mut inboxes, 150, "ann"), ["m2", "m3", "m4", "m5"]);
}

#[test]
fn a_message_put_back_to_another_user_harms_nobody() {
    let mut inboxes = Inboxes::new(ROOMY);
    push(&mut inboxes, 0, "ann", 1, 100);
    let strange = InboxMessage { seq: 0, id: id(99), text: "".into(), gone_at: 1000 };
    assert_eq!(inboxes.put_back(0, "bob", vec![strange]), (1, 0));
    let mut inboxes = restart(&inboxes);
    inboxes.assert_sound();
    assert_eq!(take(&mut inboxes, 0, "ann"), ["m1"]);
}

#[test]
fn messages_put_back_exceed_the_bounds_by_at_most_a_quarter() {
    let mut inboxes = Inboxes::new(Bounds { per_user_max: 8, ..ROOMY });
    (0..8).for_each(|number| push(&mut inboxes, 0, "ann", number, 100));
    let taken = inboxes.hand_out(0, "ann", TAKE_ALL).messages;
    (10..18).for_each(|number| push(&mut inboxes, 0, "ann", number, 100));
    assert_eq!(inboxes.put_back(0, "ann", taken), (2, 6));
    assert_eq!(inboxes.len(), 10);
}

#[test]
fn expired_messages_take_no_room_from_those_put_back() {
    let mut inboxes = Inboxes::new(Bounds { per_user_max: 4, ..ROOMY });
    (0..4).for_each(|number| push(&mut inboxes, 0, "ann", number, 100));
    let taken = inboxes.hand_out(0, "ann", TAKE_ALL).messages;
    (10..14).for_each(|number| push(&mut inboxes, 0, "ann", number, 10));
    assert_eq!(inboxes.put_back(50, "ann", taken), (4, 0));
    assert_eq!(take(&mut inboxes, 50, "ann"), ["m0", "m1", "m2", "m3"]);
}

#[test]
fn work_in_small_portions_frees_everything() {
    let mut inboxes = Inboxes::new(ROOMY);
    (0..1000).for_each(|number| push(&mut inboxes, 0, "ann", number, 5_000_000));
    let mut rounds = 0;
    while inboxes.work(6_000_000, 100, &mut |_| {}) == 0 {
        rounds += 1;
        assert!(inboxes.is_empty() || inboxes.next_deadline() <= Some(6_000_000));
    }
    assert!((10..60).contains(&rounds), "{rounds}");
    assert!(inboxes.is_empty());
}

#[test]
fn memory_of_a_peak_is_given_back() {
    let mut inboxes = Inboxes::new(Bounds { messages_max: 1 << 20, ..ROOMY });
    for number in 0..200_000 {
        push(&mut inboxes, 0, &format!("user {}", number / 10), number, 1000 + number);
    }
    inboxes.work(200_500, u32::MAX, &mut |_| {});
    assert!(inboxes.len() < 2000);
    assert!(inboxes.messages.places() as usize <= 2 * inboxes.len() as usize + CHUNK);
    assert!(inboxes.users.places() as usize <= 2 * inboxes.users() as usize + CHUNK);
    inboxes.assert_sound();
}

#[test]
fn contradictory_stored_messages_are_rejected() {
    let mut inboxes = Inboxes::new(ROOMY);
    for (number, user) in [(0, "ann"), (1, "bob"), (2, "ann")] {
        push(&mut inboxes, 0, user, number, 9);
    }
    let good: Vec<_> = inboxes.stored().collect();
    let put_all = |parts: Parts, messages: &[StoredMessage<'_>]| {
        let mut restoring = Inboxes::restore(parts, ROOMY)?;
        messages.iter().try_for_each(|message| restoring.put(message.clone()))?;
        restoring.finish().map(|mut inboxes| inboxes.assert_sound())
    };
    assert!(put_all(inboxes.parts(), &good).is_some());
    assert!(put_all(inboxes.parts(), &good[..2]).is_none(), "a message is missing");
    let with = |change: fn(&mut StoredMessage<'_>)| {
        let mut messages = good.clone();
        change(&mut messages[2]);
        put_all(inboxes.parts(), &messages)
    };
    assert!(with(|message| message.seq = 0).is_none(), "a number twice");
    assert!(with(|message| message.seq = 3).is_none(), "a number that was never assigned");
    assert!(with(|message| message.id = id(0)).is_none(), "an id twice");
    assert!(with(|message| message.user = StoredUser::Known(2)).is_none(), "an unknown user");
    assert!(with(|message| message.user = StoredUser::New("ann".into())).is_none(), "a name twice");
    assert!(with(|message| message.emptying = true).is_none(), "no list is being emptied");
    let mut parts = inboxes.parts();
    parts.messages = 2;
    assert!(put_all(parts, &good).is_none(), "one message too many");
}

#[derive(Clone, Debug)]
enum Act {
    Push { user: usize, life_ms: u64, bytes: usize },
    HandOut { user: usize, limit: u32, bytes_max: u64, lease_ms: Option<u64> },
    Acknowledge { pick: usize, user: Option<usize> },
    PutBack { pick: usize, count: usize },
    Wait { ms: u64 },
    Work { steps_max: u32 },
    Restart,
}

const USERS: [&str; 4] = ["ann", "bob", "carl", ""];

fn act() -> impl Strategy<Value = Act> {
    let user = || 0..USERS.len();
    let time = || prop_oneof![Just(0u64), 0u64..200, 0u64..5000, 0u64..5_000_000];
    let limit = prop_oneof![Just(u32::MAX), 0u32..4];
    let lease_ms = prop::option::of(time().prop_map(|ms| ms + 1));
    prop_oneof![
        12 => (user(), time(), 0usize..9)
            .prop_map(|(user, life_ms, bytes)| Act::Push { user, life_ms, bytes }),
        6 => (user(), limit, prop_oneof![Just(u64::MAX), 0u64..20], lease_ms).prop_map(
            |(user, limit, bytes_max, lease_ms)| Act::HandOut { user, limit, bytes_max, lease_ms }
        ),
        3 => (any::<usize>(), prop::option::weighted(0.1, user()))
            .prop_map(|(pick, user)| Act::Acknowledge { pick, user }),
        3 => (any::<usize>(), 0usize..4).prop_map(|(pick, count)| Act::PutBack { pick, count }),
        3 => time().prop_map(|ms| Act::Wait { ms }),
        3 => prop_oneof![Just(u32::MAX), 0u32..5].prop_map(|steps_max| Act::Work { steps_max }),
        1 => Just(Act::Restart),
    ]
}

/// What was handed out, and to which user.
type Out = Vec<(usize, InboxMessage)>;

fn some_of(out: &Out, pick: usize, count: usize) -> (usize, Vec<InboxMessage>) {
    let Some(first) = pick.checked_rem(out.len()) else { return (0, Vec::new()) };
    let user = out[first].0;
    let his = out[first..].iter().filter(|(other, _)| *other == user);
    (user, his.take(count).map(|(_, message)| message.clone()).collect())
}

proptest! {
    #[test]
    fn inboxes_behave_like_a_single_list_of_all_messages(
        acts in prop::collection::vec(act(), 0..150),
        per_user_max in prop_oneof![Just(1000u32), 1u32..6],
    ) {
        let bounds = Bounds { per_user_max, ..ROOMY };
        let mut inboxes = Inboxes::new(bounds);
        let mut model = Model::default();
        let mut now = 1_000_000;
        let mut next_id = 0;
        let mut taken: Out = Vec::new();
        let mut leased: Out = Vec::new();
        // When messages were to expire and leases to end.
        let mut gone_ats = Vec::new();
        let mut lease_ends = Vec::new();
        for act in acts {
            match act {
                Act::Push { user, life_ms, bytes } => {
                    // Sometimes repeat a message that exists.
                    let known = model.all.first().filter(|_| bytes == 8);
                    let number = known.map_or(next_id, |entry| u64::from_be_bytes(
                        entry.message.id[8..].try_into().unwrap(),
                    ));
                    next_id += 1;
                    gone_ats.push(now + life_ms + 1);
                    let text = "x".repeat(bytes);
                    let gone_at = now + life_ms + 1;
                    model.expire(now);
                    prop_assume!(number + 1 == next_id || model.knows(id(number)));
                    let expected =
                        model.push(now, USERS[user], id(number), &text, gone_at, per_user_max);
                    let pushed = inboxes.push(now, USERS[user], id(number), text.into(), gone_at);
                    prop_assert_eq!(pushed, expected);
                }
                Act::HandOut { user, limit, bytes_max, lease_ms } => {
                    let leased_until = lease_ms.map(|ms| now + ms);
                    let wanted = Wanted { limit, bytes_max, leased_until };
                    let (messages, more) = model.hand_out(now, USERS[user], wanted);
                    let out = inboxes.hand_out(now, USERS[user], wanted);
                    prop_assert_eq!(&out.messages, &messages);
                    prop_assert_eq!(out.more, more);
                    lease_ends.extend(messages.iter().filter_map(|_| leased_until));
                    let whose = messages.into_iter().map(|message| (user, message));
                    if lease_ms.is_some() { leased.extend(whose) } else { taken.extend(whose) }
                }
                Act::Acknowledge { pick, user } => {
                    let (whose, some) = some_of(&leased, pick, 1);
                    let user = USERS[user.unwrap_or(whose)];
                    for message in some {
                        let expected = model.acknowledge(now, user, message.id);
                        prop_assert_eq!(inboxes.acknowledge(now, user, message.id), expected);
                    }
                }
                Act::PutBack { pick, count } => {
                    let (user, some) = some_of(&taken, pick, count);
                    let back = model.put_back(now, USERS[user], &some, per_user_max);
                    prop_assert_eq!(inboxes.put_back(now, USERS[user], some).0, back);
                }
                Act::Wait { ms } => now += ms,
                Act::Work { steps_max } => {
                    let mut returned = Vec::new();
                    let left = inboxes.work(now, steps_max, &mut |user| returned.push(String::from(user)));
                    for user in returned {
                        prop_assert!(inboxes.peek(now, &user).next().is_some(), "reported without a message");
                    }
                    if left > 0 {
                        prop_assert!(inboxes.next_deadline().is_none_or(|deadline| deadline > now));
                        model.expire(now);
                        let lately = |ends: &[u64], ms: u64| {
                            ends.iter().filter(|end| (now - ms..=now).contains(end)).count()
                        };
                        let hidden = model.all.iter().filter(|entry| entry.until > 0).count();
                        let (gone, ended) = (lately(&gone_ats, 1024), lately(&lease_ends, 64));
                        prop_assert!(inboxes.len() as usize <= model.all.len() + gone + ended);
                        prop_assert!(inboxes.leased() as usize <= hidden + ended);
                    }
                }
                Act::Restart => {
                    let again = restart(&inboxes);
                    prop_assert_eq!(again.next_deadline(), inboxes.next_deadline());
                    prop_assert!(again.stored().eq(inboxes.stored()));
                    inboxes = again;
                }
            }
            for user in USERS {
                let available = model.available(now, user);
                let expected = available.iter().map(|message| (&message.id, &*message.text));
                prop_assert!(inboxes.peek(now, user).eq(expected), "{user}");
            }
            prop_assert!(inboxes.len() as usize >= model.all.len());
            inboxes.assert_sound();
        }
    }
}
