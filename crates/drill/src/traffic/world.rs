//! The calls as text, and what they must add up to: a count for each pair of parents.

use std::collections::BTreeMap;
use std::io::Write;

use super::Options;
use crate::random::Random;

/// The calls from one parent to another: all, with errors, rejected.
pub(super) type Counts = [u64; 3];

/// What a window must have counted, by the numbers of the parents.
pub(super) type Window = BTreeMap<(u32, u32), Counts>;

/// Statuses, and how they count.
const STATUSES: [(&str, Counts); 8] = [
    ("200", [1, 0, 0]),
    ("201", [1, 0, 0]),
    ("204", [1, 0, 0]),
    ("302", [1, 0, 0]),
    ("200", [1, 0, 0]),
    ("404", [1, 0, 1]),
    ("500", [1, 1, 0]),
    ("503", [1, 1, 0]),
];
const REQUESTS: [&str; 4] = [
    "\"method\":\"GET\",\"path\":\"/v1/orders\"",
    "\"method\":\"POST\",\"path\":\"/v1/orders/7/items\"",
    "\"method\":\"GET\",\"path\":\"/healthz\"",
    "\"method\":\"DELETE\",\"path\":\"/v1/sessions/42\"",
];
/// Frames that cannot be read.
const MALFORMED: [&str; 5] = [
    "hello",
    "{\"source\":",
    "{\"source\":\"no\",\"destination\":\"no\",\"method\":\"GET\",\"path\":\"/\",\"httpStatus\":200}",
    "[{\"parent\":7}]",
    "42",
];

/// A UUID as text.
pub(super) type Name = [u8; 36];

/// Parents, children, and the calls between them.
pub(super) struct World {
    random: Random,
    pub(super) parents: Vec<Name>,
    children: Vec<(Name, u32)>,
    /// What the open window must count.
    pub(super) window: Window,
}

/// What an update does.
#[derive(Debug, Clone, Copy)]
enum Update {
    /// A child comes, and calls.
    Comes,
    /// A child calls, and then it is said whose it is.
    CallsFirst,
    /// A child moves to another parent.
    Moves,
}

impl World {
    pub(super) fn new(options: &Options) -> Self {
        let mut random = Random::new(options.seed);
        let parents: Vec<_> = (0..options.parents).map(|_| name(&mut random)).collect();
        let children = (0..options.children).map(|at| (name(&mut random), at % options.parents));
        let children = children.collect();
        Self { random, parents, children, window: Window::new() }
    }

    /// Whether this happens.
    pub(super) fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.chance(share)
    }

    /// The whole topology, as an array.
    pub(super) fn topology(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, (child, parent)) in self.children.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.belongs(child, *parent, out);
        }
        out.push(b']');
    }

    fn belongs(&self, child: &Name, parent: u32, out: &mut Vec<u8>) {
        let parent = self.parents.get(parent as usize).map_or(&[][..], |name| name);
        for part in [b"{\"parent\":\"", parent, b"\",\"child\":\"", child, b"\"}"] {
            out.extend_from_slice(part);
        }
    }

    /// A call between two children, counted.
    pub(super) fn call(&mut self, out: &mut Vec<u8>) {
        let (from, to) =
            (self.random.index(self.children.len()), self.random.index(self.children.len()));
        self.call_between(from, to, out);
    }

    fn call_between(&mut self, from: usize, to: usize, out: &mut Vec<u8>) {
        let draw = self.random.bits();
        let pick = |bits: u64, len: usize| usize::try_from(bits % len as u64).unwrap_or(0);
        let (Some((source, from)), Some((destination, to)), Some((status, adds)), Some(request)) = (
            self.children.get(from),
            self.children.get(to),
            STATUSES.get(pick(draw, STATUSES.len())),
            REQUESTS.get(pick(draw >> 8, REQUESTS.len())),
        ) else {
            return;
        };
        for part in [
            b"{\"source\":\"",
            &source[..],
            b"\",\"destination\":\"",
            &destination[..],
            b"\",",
            request.as_bytes(),
            b",\"httpStatus\":",
            status.as_bytes(),
            b"}",
        ] {
            out.extend_from_slice(part);
        }
        let counts = self.window.entry((*from, *to)).or_default();
        counts.iter_mut().zip(adds).for_each(|(count, add)| *count += add);
    }

    /// The next update: frames, and how many calls are among them.
    pub(super) fn update(&mut self, number: u32) -> (Vec<Vec<u8>>, u64) {
        let parent = u32::try_from(self.random.below(self.parents.len() as u64)).unwrap_or(0);
        let update = match number % 3 {
            0 => Update::Comes,
            1 => Update::CallsFirst,
            _ => Update::Moves,
        };
        let child = if matches!(update, Update::Moves) {
            let child = self.random.index(self.children.len());
            if let Some(child) = self.children.get_mut(child) {
                child.1 = parent;
            }
            child
        } else {
            let new = name(&mut self.random);
            self.children.push((new, parent));
            self.children.len() - 1
        };
        let mut belongs = Vec::new();
        if let Some((name, parent)) = self.children.get(child).copied() {
            // Alone or in an array: both are allowed.
            if number.is_multiple_of(2) {
                belongs.push(b'[');
            }
            self.belongs(&name, parent, &mut belongs);
            if number.is_multiple_of(2) {
                belongs.push(b']');
            }
        }
        let mut calls = Vec::new();
        for _ in 0..2 {
            let mut frame = Vec::new();
            let other = self.random.index(self.children.len());
            self.call_between(child, other, &mut frame);
            calls.push(frame);
        }
        let frames = match update {
            Update::Comes | Update::Moves => [vec![belongs], calls].concat(),
            Update::CallsFirst => [calls, vec![belongs]].concat(),
        };
        (frames, 2)
    }

    /// A frame that cannot be read.
    pub(super) fn malformed(&mut self) -> &'static [u8] {
        let at = self.random.index(MALFORMED.len());
        MALFORMED.get(at).unwrap_or(&"").as_bytes()
    }
}

fn name(random: &mut Random) -> Name {
    let mut name = [0; 36];
    let (high, low) = (random.bits(), random.bits());
    let text = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0x0fff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    );
    // It has 36 letters.
    drop((&mut name[..]).write_all(text.as_bytes()));
    name
}
