//! Lines that are none: each must be skipped, counted, and change nothing, not even for the
//! number it bears.

use super::line::Counter;
use crate::random::Random;

/// The longest line that must be read is 1 KiB with its end; these are all beyond it.
const OVER_LONG_BYTES: std::ops::Range<u64> = 1_100..70_000;
/// One in this many malformed lines is too long. They are rare because each is a thousand times as large.
const OVER_LONG_ONE_IN: u64 = 64;

/// What follows the number of a malformed line.
const TAILS: [&[u8]; 26] = [
    b"",
    b"|",
    b"||||",
    b"|B|",
    b"|B|1",
    b"|b",
    b"|X|1|2",
    b"|BB",
    b"|F|60",
    b"|F|60|",
    b"|F||50",
    b"|F|60|50|7",
    b"|U|1",
    b"|P|1|2|3",
    b"|P|1|-2",
    b"|P|one|2",
    b"|P|1|18446744073709551616",
    b"|S",
    b"|S|",
    b"|S|1|2",
    b"|S|0x1",
    b"|S|1.0",
    b"|B\0",
    b"|B ",
    b"|B\rx",
    b"|S|\xff\xfe",
];

/// Whole lines without their ends.
const WHOLE: [&[u8]; 14] = [
    b"",
    b"hello",
    b"|B",
    b" 5|B",
    b"-5|B",
    b"0x5|B",
    b"5.0|S|1",
    b"18446744073709551616|B",
    b"99999999999999999999999999999999|S|1",
    b"\0\0\0\0",
    b"\xff\xfe\xfd",
    b"GET / HTTP/1.1",
    b"{\"type\":\"B\"}",
    b"\xef\xbb\xbf5|B",
];

/// Draws a malformed line and appends it with its end. Many bear the next number, so that a server
/// that lets them use it up is found out.
pub(super) fn draw(random: &mut Random, next: &Counter, out: &mut Vec<u8>) {
    if random.below(OVER_LONG_ONE_IN) == 0 {
        over_long(random, next, out);
    } else if random.below(3) == 0 {
        out.extend_from_slice(WHOLE.get(random.index(WHOLE.len())).unwrap_or(&WHOLE[0]));
    } else {
        out.extend_from_slice(next.text());
        out.extend_from_slice(TAILS.get(random.index(TAILS.len())).unwrap_or(&TAILS[0]));
    }
    out.extend_from_slice(if random.below(4) == 0 { b"\r\n" } else { b"\n" });
}

/// A line that never seems to end, one kind of which would be an event if it did not.
fn over_long(random: &mut Random, next: &Counter, out: &mut Vec<u8>) {
    let len = OVER_LONG_BYTES.start + random.below(OVER_LONG_BYTES.end - OVER_LONG_BYTES.start);
    let len = usize::try_from(len).unwrap_or(0);
    let (filler, end): (u8, &[u8]) = match random.below(3) {
        0 => (b'0', b"1"),
        1 => (b'9', b""),
        _ => (b'x', b"|B"),
    };
    out.extend_from_slice(next.text());
    out.extend_from_slice(b"|S|");
    out.resize(out.len() + len, filler);
    out.extend_from_slice(end);
}
