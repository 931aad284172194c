//! Properties of the maze.

use tidings_core::machine::maze::parse::{Event, LINE_BYTES_MAX, Read, line};
use tidings_core::machine::maze::{Command, Counters, Maze, Notification, Reply};
use tidings_core::machine::{Machine, Timestamp};

/// The parser agrees with a trivial one, line by line.
pub fn parse(bytes: &[u8]) {
    let mut rest = bytes;
    for expected in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (read, taken) = line(rest);
        assert_eq!(taken, expected.len(), "the whole line is consumed");
        assert_eq!(read, trivial(expected), "{}", expected.escape_ascii());
        rest = rest.split_at(taken).1;
    }
    assert!(rest.is_empty());
}

/// Parses a line exactly as the specification describes it, without regard to speed.
fn trivial(bytes: &[u8]) -> Read {
    trivial_event(bytes).map_or_else(
        || if bytes.len() > LINE_BYTES_MAX { Read::Overlong } else { Read::Malformed },
        |(number, event)| Read::Event { number, event },
    )
}

fn trivial_event(bytes: &[u8]) -> Option<(u64, Event)> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let fields: Vec<&str> = text.strip_suffix('\r').unwrap_or(text).split('|').collect();
    let number = |text: &str| {
        let is_digits = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_digits)
    };
    let event = match *fields.get(1..)? {
        ["B"] => Event::Broadcast,
        ["S", from] => Event::Status { from: number(from)? },
        ["F", from, to] => Event::Follow { from: number(from)?, to: number(to)? },
        ["U", from, to] => Event::Unfollow { from: number(from)?, to: number(to)? },
        ["P", from, to] => number(from).and(number(to)).map(|to| Event::Private { to })?,
        _ => return None,
    };
    let number = number(fields.first()?)?;
    (1..u64::MAX).contains(&number).then_some((number, event))
}

/// The bytes behind the first two, fed in one piece, give the same results as in pieces whose size the first
/// byte determines, with restarts as often as the second says.
pub fn feed(bytes: &[u8]) {
    let [pieces, restarts, bytes @ ..] = bytes else { return };
    let whole = fed([bytes], u64::MAX);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let pieces: Vec<Vec<u8>> =
        lines.chunks(usize::from(*pieces) + 1).map(<[&[u8]]>::concat).collect();
    let cut = fed(pieces.iter().map(Vec::as_slice), u64::from(*restarts) + 1);
    assert_eq!(whole, cut);
}

/// Feeds these pieces, with a restart after every `restart_every` of them, and returns what the maze emitted.
fn fed<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    restart_every: u64,
) -> (Vec<Notification>, Counters) {
    let mut maze = Maze::default();
    let mut emitted = Vec::new();
    let at = Timestamp(1);
    let mut apply = |maze: &mut Maze, command| {
        let mut reply = maze.apply(at, command, &mut |event| emitted.push(event));
        while reply == Reply::More {
            let release = Command::Release { bytes_max: 100 };
            reply = maze.apply(at, release, &mut |event| emitted.push(event));
        }
    };
    apply(&mut maze, Command::Open { source: 1 });
    for (part, bytes) in (0..).zip(pieces) {
        apply(&mut maze, Command::Feed { source: 1, part, bytes: bytes.to_vec() });
        if (part + 1).is_multiple_of(restart_every) {
            let mut snapshot = Vec::new();
            maze.snapshot(&mut snapshot);
            maze = Maze::restore(&snapshot).expect("a snapshot can be restored");
        }
    }
    apply(&mut maze, Command::Close { source: 1 });
    let counters = *maze.counters();
    assert_eq!(maze.held(), 0, "no event is left behind");
    (emitted, counters)
}
