//! What a client's referee lets pass, and what not.

use super::super::queue::Queue;
use super::{Client, Cuts, Role, SLOW_BYTES_MAX};

/// A client that must receive this.
fn client(role: Role, expected: &[u8]) -> (Client, Queue) {
    let mut queue = Queue::default();
    queue.extend(expected);
    (Client::new(3, b"77", role, Cuts::Forbidden), queue)
}

#[test]
fn what_is_expected_passes_in_any_pieces() {
    let lines = b"1|B\n2|S|5\r\n3|P|1|77\n";
    for size in 1..lines.len() {
        let (mut client, mut queue) = client(Role::Exact, lines);
        for piece in lines.chunks(size) {
            assert!(client.owes(&queue));
            assert_eq!(client.take(&mut queue, piece), None);
        }
        assert!(!client.owes(&queue) && client.is_complete());
    }
}

#[test]
fn a_difference_shows_where_it_is_and_both_lines() {
    let (mut client, mut queue) = client(Role::Exact, b"1|B\n20|B\n3|B\n");
    assert_eq!(client.take(&mut queue, b"1|"), None);
    let difference = client.take(&mut queue, b"B\n21|B\n3|B\n").unwrap();
    let expected = "client 3 (user 77), byte 4: expected \"20|B\\n\", got \"21|B\\n\"";
    assert_eq!(difference, expected);
    assert_eq!(client.take(&mut queue, b"?"), None, "it is told once");
    assert!(!client.owes(&queue) && !client.is_complete());
}

#[test]
fn a_byte_too_many_differs() {
    let (mut client, mut queue) = client(Role::Exact, b"1|B\n");
    assert_eq!(client.take(&mut queue, b"1|B\n"), None);
    let difference = client.take(&mut queue, b"1|B\n").unwrap();
    assert!(difference.ends_with("byte 4: expected nothing, got \"1|B\\n\""), "{difference}");
}

#[test]
fn a_client_that_returns_goes_on_at_any_later_line() {
    let (mut client, mut queue) = client(Role::Returning, b"1|B\n2|B\n3|B\n4|B\n");
    assert_eq!(client.take(&mut queue, b"1|"), None);
    client.leave(&mut queue);
    assert_eq!(client.position(), 4, "half a line counts as received");
    assert_eq!(client.take(&mut queue, b"3|"), None);
    assert_eq!(client.take(&mut queue, b"B\n4|B"), None);
    assert_eq!(client.take(&mut queue, b"\n"), None);
    assert!(queue.is_empty() && client.is_complete());
}

#[test]
fn a_line_that_was_received_does_not_come_again_after_a_return() {
    let (mut client, mut queue) = client(Role::Returning, b"1|B\n2|B\n");
    assert_eq!(client.take(&mut queue, b"1|"), None);
    client.leave(&mut queue);
    let difference = client.take(&mut queue, b"1|B\n").unwrap();
    assert!(difference.ends_with("first after its return, which it must not"), "{difference}");
}

#[test]
fn nothing_is_missing_from_when_a_client_is_known_to_be_back() {
    let (mut client, mut queue) = client(Role::Returning, b"1|B\n2|B\n");
    client.leave(&mut queue);
    client.is_due(&queue);
    queue.extend(b"3|B\n4|B\n");
    let difference = client.take(&mut queue, b"4|B\n").unwrap();
    assert!(difference.contains("has missed lines"), "{difference}");
}

#[test]
fn of_a_slow_client_the_beginning_is_compared() {
    let line = b"123456|S|12345\n";
    let expected = line.repeat(SLOW_BYTES_MAX / line.len() + 1);
    let (mut client, mut queue) = client(Role::Sluggish, &expected);
    client.seal(&mut queue);
    assert_eq!(client.take(&mut queue, &line.repeat(10)), None);
    queue.extend(b"5|B\n");
    client.seal(&mut queue);
    assert_eq!(queue.len(), expected.len() - 10 * line.len(), "no more is kept");
    assert!(client.take(&mut queue, b"7|B\n").is_some());
    assert!(!client.owes(&queue), "it is not waited for");
}
