//! Stored forms: the golden files of the first version can be read, and anything that was not stored by this
//! machine is rejected.

use super::*;

use crate::machine::tests::{assert_golden_commands, assert_golden_snapshot, snapshot};
fn golden_commands() -> Vec<Command> {
    let limits = Limits {
        unread_per_user_max: 7,
        unread_max: 600,
        unread_bytes_max: 50_000,
        keys_max: 4,
        lease_ms_max: 300_000,
        put_back_ms_max: 20_000,
        put_backs_max: 1,
    };
    let message = InboxMessage { seq: 0, id: id(1), text: "m1".into(), gone_at: 60_002 };
    vec![
        Command::Configure(limits),
        post("ann", 1, 60, None),
        Command::Take { user: "ann".into(), limit: 1, bytes_max: 65_536, lease_ms: None },
        post("ann", u64::MAX, u32::MAX, Some("a key")),
        post("a/b \u{1f680}", 3, 0, Some("")),
        post("ann", 4, 31_536_000, None),
        take("ann", Some(30_000)),
        Command::Acknowledge { user: "ann".into(), id: id(4) },
        Command::PutBack {
            user: "ann".into(),
            receipt: Receipt { take: 1, at: 1 },
            messages: vec![message],
        },
    ]
}

fn golden_chat() -> Chat {
    let mut chat = Chat::default();
    for command in golden_commands() {
        chat.apply(Timestamp(1), command, &mut |_| {});
    }
    chat
}

#[test]
fn stored_commands_and_snapshots_of_the_first_version_can_be_read() {
    assert_golden_commands("chat.commands.v1", &golden_commands());
    let again = assert_golden_snapshot("chat.snapshot.v1", &golden_chat());
    assert_eq!((again.inboxes().len(), again.inboxes().leased(), again.keys()), (3, 1, 2));
}

#[test]
fn a_machine_restored_in_the_middle_of_a_tick_behaves_like_the_one_that_keeps_running() {
    let mut one = Driver::with(Limits { unread_per_user_max: u32::MAX, ..Limits::default() });
    for number in 0..20_000 {
        let key = (number % 3 == 0).then(|| format!("key {number}"));
        one.apply(number, post(&format!("user {}", number % 50), number, 4000, key.as_deref()));
    }
    let mut parts = 0;
    while let Some(due) = one.chat.next_deadline() {
        let mut two =
            Driver { chat: Chat::restore(&snapshot(&one.chat)).unwrap(), notified: Vec::new() };
        assert_eq!(two.chat.next_deadline(), Some(due));
        one.tick(due.0);
        two.tick(due.0);
        assert!(snapshot(&one.chat) == snapshot(&two.chat));
        parts += 1;
    }
    assert!(parts > 10, "{parts}");
}

#[test]
fn a_snapshot_that_ends_early_or_late_is_rejected() {
    let bytes = snapshot(&golden_chat());
    for length in 0..bytes.len() {
        assert!(Chat::restore(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(Chat::restore(&[&bytes[..], &[0]].concat()).is_err());
}

proptest! {
    #[test]
    fn a_damaged_snapshot_is_rejected_or_restores_a_working_chat(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        steps in prop::collection::vec(command(), 0..20),
    ) {
        let mut bytes = snapshot(&golden_chat());
        for (place, byte) in damage {
            *place.get_mut(&mut bytes) = byte;
        }
        if let Ok(mut chat) = Chat::restore(&bytes) {
            chat.inboxes.assert_sound();
            for command in steps {
                chat.apply(Timestamp(1), command, &mut |_| {});
                chat.inboxes.assert_sound();
            }
            let deadline = chat.next_deadline().unwrap_or_default();
            for more in 0..5 {
                chat.tick(Timestamp(deadline.0.saturating_add(more)), &mut |_| {});
                chat.inboxes.assert_sound();
            }
            prop_assert!(Chat::restore(&snapshot(&chat)).is_ok());
        }
    }

    #[test]
    fn no_bytes_make_restoring_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        // The first byte is the version.
        let _unless_rejected = Chat::restore(&bytes).is_ok();
        let _unless_rejected = Chat::restore(&[&[0], &bytes[..]].concat()).is_ok();
    }
}
