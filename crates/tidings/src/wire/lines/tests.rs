//! Any pieces give the same lines.

use proptest::prelude::*;

use super::*;

const LINE_BYTES_MAX: usize = 16;

/// Everything that comes out when these pieces come in.
fn through(pieces: &[&[u8]], take_every: usize) -> Vec<u8> {
    let (mut lines, mut out) = (Lines::new(LINE_BYTES_MAX), Vec::new());
    for (i, piece) in pieces.iter().enumerate() {
        let from = lines.buffer.len();
        lines.buffer.extend_from_slice(piece);
        lines.received(from);
        assert!(lines.len() - lines.whole <= LINE_BYTES_MAX + 1, "bounded");
        if i % take_every == 0 {
            let whole = lines.take();
            assert!(whole.is_empty() || whole.ends_with(b"\n"));
            out.extend(whole);
        }
    }
    out.extend(lines.take_all());
    out
}

/// The lines, those that are too long cut to one byte more than allowed.
fn dumb(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let mut cut = text[..text.len().min(LINE_BYTES_MAX + 1)].to_vec();
            cut.extend(line.ends_with(b"\n").then_some(b'\n'));
            cut
        })
        .collect()
}

proptest! {
    #[test]
    fn any_pieces_give_the_same_lines(
        bytes in prop::collection::vec(prop::sample::select(b"abcdefg\n".as_slice()), 0..300),
        cuts in prop::collection::vec(1usize..40, 1..50),
        take_every in 1usize..4,
    ) {
        let (mut rest, mut cuts, mut pieces) = (bytes.as_slice(), cuts.iter().cycle(), Vec::new());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        let out = dumb(&through(&pieces, take_every));
        prop_assert_eq!(out, dumb(&bytes));
    }
}

#[test]
fn a_line_that_does_not_end_takes_no_memory() {
    let mut lines = Lines::new(LINE_BYTES_MAX);
    for _ in 0..1000 {
        let from = lines.buffer.len();
        lines.buffer.extend_from_slice(&[b'x'; 1000]);
        lines.received(from);
        assert_eq!(lines.len(), LINE_BYTES_MAX + 1);
    }
    let from = lines.buffer.len();
    lines.buffer.extend_from_slice(b"xx\n1|B\n2");
    lines.received(from);
    let expected = [&[b'x'; LINE_BYTES_MAX + 1][..], b"\n1|B\n"].concat();
    assert_eq!(lines.take(), expected);
    assert_eq!(lines.take_all(), b"2");
}
