//! What must hold of the maze.

use tidings_core::machine::maze::parse::{Event, LINE_BYTES_MAX, Read, line};
use tidings_core::machine::maze::{Command, Counters, Maze, Notification, Reply};
use tidings_core::machine::{Machine, Timestamp};

/// Holds the parser to a dumb one, line by line.
pub fn parse(bytes: &[u8]) {
    let mut rest = bytes;
    for expected in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (read, taken) = line(rest);
        assert_eq!(taken, expected.len(), "the line as a whole is taken");
        assert_eq!(read, dumb(expected), "{}", expected.escape_ascii());
        rest = rest.split_at(taken).1;
    }
    assert!(rest.is_empty());
}

/// Reads a line as the specification says, with nothing in mind but that.
fn dumb(bytes: &[u8]) -> Read {
    dumb_event(bytes).map_or_else(
        || if bytes.len() > LINE_BYTES_MAX { Read::Overlong } else { Read::Malformed },
        |(number, event)| Read::Event { number, event },
    )
}

fn dumb_event(bytes: &[u8]) -> Option<(u64, Event)> {
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

/// Feeds the bytes behind the first two as one piece, and again in pieces as the first says, with
/// restarts as the second says: nobody can tell the difference.
pub fn feed(bytes: &[u8]) {
    let [pieces, restarts, bytes @ ..] = bytes else { return };
    let whole = fed([bytes], u64::MAX);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let pieces: Vec<Vec<u8>> =
        lines.chunks(usize::from(*pieces) + 1).map(<[&[u8]]>::concat).collect();
    let cut = fed(pieces.iter().map(Vec::as_slice), u64::from(*restarts) + 1);
    assert_eq!(whole, cut);
}

/// What comes of feeding these pieces, with a restart after every so many of them.
fn fed<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    restart_every: u64,
) -> (Vec<Notification>, Counters) {
    let (mut maze, mut told, at) = (Maze::default(), Vec::new(), Timestamp(1));
    let mut apply = |maze: &mut Maze, command| {
        let mut reply = maze.apply(at, command, &mut |event| told.push(event));
        while reply == Reply::More {
            let release = Command::Release { bytes_max: 100 };
            reply = maze.apply(at, release, &mut |event| told.push(event));
        }
    };
    apply(&mut maze, Command::Open { source: 1 });
    for (part, bytes) in (0..).zip(pieces) {
        apply(&mut maze, Command::Feed { source: 1, part, bytes: bytes.to_vec() });
        if (part + 1).is_multiple_of(restart_every) {
            let mut snapshot = Vec::new();
            maze.snapshot(&mut snapshot);
            maze = Maze::restore(&snapshot).expect("what was stored can be read");
        }
    }
    apply(&mut maze, Command::Close { source: 1 });
    let counters = *maze.counters();
    assert_eq!(maze.held(), 0, "nothing is left behind");
    (told, counters)
}
