//! Writes rockets as JSON by hand, because serde escapes and checks every key, which would take most of the time here.
//! `schema::Rocket` describes the same; a test checks that they agree.

use tidings_core::machine::rockets::{Channel, MessageTime, Rocket, Sequence, State, View};
use time::OffsetDateTime;

/// Appends a rocket.
pub(super) fn rocket(rocket: &Rocket, out: &mut Vec<u8>) {
    write(rocket.channel(), rocket.state(), &rocket.sequence(), out);
}

/// Appends a rocket as it was after a change.
pub(super) fn view(view: &View, out: &mut Vec<u8>) {
    write(view.channel, &view.state, &view.sequence, out);
}

fn write(channel: Channel, state: &State, sequence: &Sequence, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"");
    let mut buffer = uuid::Uuid::encode_buffer();
    let id = uuid::Uuid::from_bytes(channel.0);
    out.extend_from_slice(id.hyphenated().encode_lower(&mut buffer).as_bytes());
    out.extend_from_slice(b"\",\"type\":");
    text(state.kind.as_deref(), out);
    out.extend_from_slice(b",\"speed\":");
    number(state.speed, out);
    out.extend_from_slice(b",\"mission\":");
    text(state.mission.as_deref(), out);
    if let Some(reason) = &state.reason {
        out.extend_from_slice(b",\"status\":\"exploded\",\"exploded\":true,\"reason\":");
        text(Some(reason), out);
    } else {
        out.extend_from_slice(b",\"status\":\"active\",\"exploded\":false");
    }
    out.extend_from_slice(b",\"createdAt\":\"");
    time(state.created, out);
    out.extend_from_slice(b"\",\"updatedAt\":\"");
    time(state.updated, out);
    out.extend_from_slice(b"\",\"sequence\":{\"last\":");
    number(sequence.last, out);
    out.extend_from_slice(b",\"applied\":");
    number(sequence.applied, out);
    out.extend_from_slice(b",\"pending\":");
    number(sequence.pending, out);
    out.extend_from_slice(b",\"missing\":[");
    for (place, gap) in sequence.missing.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"[" } else { b",[" });
        number(gap.from, out);
        out.push(b',');
        number(gap.to, out);
        out.push(b']');
    }
    out.extend_from_slice(b"],\"lost\":");
    number(sequence.lost, out);
    let complete: &[u8] =
        if sequence.complete() { b",\"complete\":true}}" } else { b",\"complete\":false}}" };
    out.extend_from_slice(complete);
}

fn number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn text(text: Option<&str>, out: &mut Vec<u8>) {
    // Writing a string into a Vec does not fail.
    let _cannot_fail = serde_json::to_writer(out, &text);
}

/// Appends a time as RFC 3339 in UTC. A fraction has no trailing zeros, and is left out if it is 0.
fn time(time: MessageTime, out: &mut Vec<u8>) {
    let utc =
        OffsetDateTime::from_unix_timestamp(time.seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let year = u32::try_from(utc.year()).unwrap_or(0);
    digits::<2>(year / 100, out);
    digits::<2>(year % 100, out);
    out.push(b'-');
    digits::<2>(u32::from(u8::from(utc.month())), out);
    out.push(b'-');
    digits::<2>(u32::from(utc.day()), out);
    out.push(b'T');
    digits::<2>(u32::from(utc.hour()), out);
    out.push(b':');
    digits::<2>(u32::from(utc.minute()), out);
    out.push(b':');
    digits::<2>(u32::from(utc.second()), out);
    if time.nanoseconds > 0 {
        out.push(b'.');
        digits::<9>(time.nanoseconds, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// Returns the last `N` digits of a number.
fn digits<const N: usize>(mut number: u32, out: &mut Vec<u8>) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::super::{parse, schema, values};
    use super::*;
    use tidings_core::machine::rockets::{Command, Rockets};
    use tidings_core::machine::{Machine, Timestamp};

    fn shown(text: &str) -> String {
        let mut out = Vec::new();
        time(values::time(text).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_shown_in_utc_with_the_fraction_they_came_with() {
        assert_eq!(shown("2022-02-02T19:39:05.86337+01:00"), "2022-02-02T18:39:05.86337Z");
        assert_eq!(shown("1969-12-31T23:59:59.000000001Z"), "1969-12-31T23:59:59.000000001Z");
        assert_eq!(shown("0000-01-01T00:00:00-00:01"), "0000-01-01T00:01:00Z");
        assert_eq!(shown("9999-12-31T23:59:59.500-00:00"), "9999-12-31T23:59:59.5Z");
        assert_eq!(values::time("0000-01-01T00:00:00+00:01"), None);
        assert_eq!(values::time("9999-12-31T23:59:59-00:01"), None);
    }

    #[test]
    fn what_is_written_is_what_the_schema_describes() {
        let mut machine = Rockets::default();
        let messages = [
            r#"{"metadata":{"channel":"193270a9-c9cf-404a-8f83-838e71d9ae67","messageNumber":1,
                "messageTime":"2022-02-02T19:39:05.86337+01:00","messageType":"RocketLaunched"},
                "message":{"type":"Fal\"con\u0007 🚀","launchSpeed":-500,"mission":"A\\B"}}"#,
            r#"{"metadata":{"channel":"193270a9-c9cf-404a-8f83-838e71d9ae67","messageNumber":5,
                "messageTime":"2022-02-02T19:39:06Z","messageType":"RocketExploded"},
                "message":{"reason":""}}"#,
            r#"{"metadata":{"channel":"193270a9-c9cf-404a-8f83-838e71d9ae68","messageNumber":3,
                "messageTime":"2022-02-02T19:39:06Z","messageType":"?"}}"#,
        ];
        for message in messages {
            let delivery = parse::delivery(message.as_bytes(), 100).unwrap();
            machine.apply(Timestamp(0), Command::Deliver(delivery), &mut |_| {});
        }
        for shown in machine.rockets() {
            let mut out = Vec::new();
            rocket(shown, &mut out);
            let described: schema::Rocket = serde_json::from_slice(&out).unwrap();
            let again = serde_json::to_value(&described).unwrap();
            assert_eq!(again, serde_json::from_slice::<serde_json::Value>(&out).unwrap());
        }
    }
}
