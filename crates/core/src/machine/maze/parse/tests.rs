//! Which lines are events and which are malformed.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn event(text: &str) -> (u64, Event) {
    match line(text.as_bytes()) {
        (Read::Event { number, event }, bytes) if bytes == text.len() => (number, event),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn all_five_kinds_of_line_are_parsed() {
    assert_eq!(event("666|F|60|50\r\n"), (666, Event::Follow { from: 60, to: 50 }));
    assert_eq!(event("1|U|12|9\r\n"), (1, Event::Unfollow { from: 12, to: 9 }));
    assert_eq!(event("542532|B\r\n"), (542532, Event::Broadcast));
    assert_eq!(event("43|P|32|56\n"), (43, Event::Private { to: 56 }));
    assert_eq!(event("634|S|32\n"), (634, Event::Status { from: 32 }));
}

#[test]
fn numbers_reach_their_limits_and_may_have_leading_zeros() {
    let most = u64::MAX;
    assert_eq!(
        event(&format!("{NUMBER_MAX}|S|{most}\n")),
        (NUMBER_MAX, Event::Status { from: most })
    );
    assert_eq!(event("00000000000000000007|S|0\n"), (7, Event::Status { from: 0 }));
    let longest = format!("{NUMBER_MAX}|F|{most}|{most}\r\n");
    assert_eq!(longest.len(), GOOD_BYTES_MAX);
    assert_eq!(event(&longest), (NUMBER_MAX, Event::Follow { from: most, to: most }));
}

#[test]
fn any_other_line_is_malformed_and_skipped_to_its_end() {
    let most = u64::MAX;
    let over = format!("{most}|B");
    for text in [
        "",
        "\r",
        "hello",
        "1",
        "1|",
        "1|B|",
        "1|B|1",
        "1|b",
        "1|X|1|2",
        "1|BB",
        "1|F|60",
        "1|F|60|",
        "1|F||50",
        "1|F|60|50|7",
        "1|U|1",
        "1|P|1|2|3",
        "1|P|1|-2",
        "1|P|one|2",
        "1|S",
        "1|S|",
        "1|S|1|2",
        "1|S|0x1",
        "1|S|1.0",
        "1|B\0",
        "1|B ",
        "1|B\rx",
        "1|B\r\r",
        " 5|B",
        "-5|B",
        "+5|B",
        "0|B",
        "|B",
        "1|P|1|18446744073709551616",
        "18446744073709551616|B",
        "000000000000000000001|B",
        "\u{feff}5|B",
        &over,
    ] {
        let text = format!("{text}\n2|B\n");
        let expected = text.len() - 4;
        assert_eq!(line(text.as_bytes()), (Read::Malformed, expected), "{text:?}");
    }
}

#[test]
fn a_line_without_an_end_is_malformed_and_takes_all_bytes() {
    for text in ["1|S|3", "1|B", "1|B\r", "1"] {
        assert_eq!(line(text.as_bytes()), (Read::Malformed, text.len()), "{text:?}");
    }
    assert_eq!(line(b""), (Read::Malformed, 0));
}

#[test]
fn a_line_of_more_than_a_kibibyte_is_over_long() {
    let longest = "x".repeat(LINE_BYTES_MAX - 1) + "\n";
    assert_eq!(line(longest.as_bytes()), (Read::Malformed, LINE_BYTES_MAX));
    let longer = "x".repeat(LINE_BYTES_MAX) + "\n";
    assert_eq!(line(longer.as_bytes()), (Read::Overlong, LINE_BYTES_MAX + 1));
}

/// A trivial parser that splits text.
fn parse_by_splitting(text: &str) -> Option<(u64, Event)> {
    let text = text.strip_suffix('\n')?;
    let text = text.strip_suffix('\r').unwrap_or(text);
    let fields: Vec<&str> = text.split('|').collect();
    let number = |text: &&str| {
        let digits = text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits)
    };
    let event = match fields[1..] {
        ["B"] => Event::Broadcast,
        ["S", ref from] => Event::Status { from: number(from)? },
        ["F", ref from, ref to] => Event::Follow { from: number(from)?, to: number(to)? },
        ["U", ref from, ref to] => Event::Unfollow { from: number(from)?, to: number(to)? },
        ["P", ref from, ref to] => {
            number(from)?;
            Event::Private { to: number(to)? }
        }
        _ => return None,
    };
    let number = number(&fields[0]).filter(|number| (1..=NUMBER_MAX).contains(number))?;
    Some((number, event))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_line_is_parsed_as_by_splitting(
        text in "[0-9]{0,21}\\|?[FUBPSx]?(\\|[0-9]{0,21}){0,3}[\r\\-x]{0,1}\n",
    ) {
        let expected = match parse_by_splitting(&text) {
            Some((number, event)) => Read::Event { number, event },
            None => Read::Malformed,
        };
        prop_assert_eq!(line(text.as_bytes()), (expected, text.len()));
    }

    #[test]
    fn any_bytes_are_consumed_line_by_line(bytes in prop::collection::vec(prop::sample::select(b"19|FUBPS\r\n\0".as_slice()), 0..200)) {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (_, taken) = line(rest);
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
            prop_assert_eq!(taken, end, "{:?}", String::from_utf8_lossy(rest));
            rest = &rest[taken..];
        }
    }
}
