//! The world: the events, the order of their lines, and the bytes that each client must receive. It is generated
//! batch by batch from the seed while it is sent, and never held as a whole.

use super::fold::Fold;
use super::line::{Counter, Event, Line, Names};
use super::malformed;
use super::options::Options;
use super::queue::Queue;
use crate::random::Random;

/// Follows, unfollows and private messages, in ten thousand events.
const FOLLOWS: u64 = 1_500;
const UNFOLLOWS: u64 = 1_500;
const PRIVATE: u64 = 1_500;
const ALL: u64 = 10_000;
/// One in this many follows repeats an existing one; one in this many unfollows has none to undo.
const POINTLESS_ONE_IN: u64 = 16;
/// The number of recent events from which a duplicate is chosen.
const RECENT: usize = 256;

/// The numbers of sent lines and of expected notifications.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Events with a number of their own.
    pub(super) events: u64,
    /// Lines that clients must receive, over all clients.
    pub(super) notifications: u64,
    pub(super) duplicates: u64,
    pub(super) malformed: u64,
    /// Numbers that never come.
    pub(super) gaps: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            notifications: self.notifications + other.notifications,
            duplicates: self.duplicates + other.duplicates,
            malformed: self.malformed + other.malformed,
            gaps: self.gaps + other.gaps,
        }
    }
}

/// The stream of one source, and the expected notifications.
pub(super) struct World {
    random: Random,
    names: Names,
    fold: Fold,
    users: u64,
    /// Broadcasts in ten thousand events.
    broadcasts: u64,
    /// The existing follows, from which unfollows are chosen. The follower graph itself is in `fold`.
    follows: Vec<(u32, u32)>,
    /// The number of follows that the mix aims at.
    follows_wanted: u64,
    /// Whether that number has been reached once.
    grown: bool,
    number: Counter,
    /// The number of events still to be generated.
    left: u64,
    batch: u64,
    crlf: bool,
    mischief: Option<Mischief>,
    gaps: f64,
    /// Whether the source dies: only a part of its last batch is sent, and its last line is cut.
    dies: bool,
    /// The lines of a batch in the order of their numbers.
    lines: Vec<Line>,
    /// The order in which they are sent.
    order: Vec<u32>,
    pub(super) counts: Counts,
}

/// The lines that are sent in addition to the events.
struct Mischief {
    duplicates: f64,
    malformed: f64,
    recent: Vec<Line>,
    scratch: Vec<u8>,
}

impl World {
    /// The world of the source with this number, of `1 + --dying-sources`.
    pub(super) fn new(options: &Options, claimed: &[u32], source: u32) -> Self {
        let sources = u64::from(options.dying_sources) + 1;
        let dies = source < options.dying_sources;
        let share = options.events / sources;
        let wanted = u64::from(options.users) * options.mix.followers_hundredths() / 100;
        // Of a small world not everybody can follow so many.
        let pairs = u64::from(options.users) * u64::from(options.users - 1);
        let mischief = (options.duplicates > 0.0 || options.malformed > 0.0).then(|| Mischief {
            duplicates: options.duplicates,
            malformed: options.malformed,
            recent: Vec::with_capacity(RECENT),
            scratch: Vec::new(),
        });
        Self {
            random: Random::at(options.seed, u64::from(source)),
            names: Names::new(options.users),
            fold: Fold::new(options.users as usize, claimed),
            users: u64::from(options.users),
            broadcasts: options.mix.broadcasts(),
            follows: Vec::new(),
            follows_wanted: wanted.min(pairs / 2),
            grown: false,
            number: Counter::zero(),
            left: if dies { share } else { options.events - share * (sources - 1) },
            batch: u64::from(options.batch),
            crlf: options.crlf,
            mischief,
            gaps: options.gaps,
            dies,
            lines: Vec::new(),
            order: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Chooses which users the clients are: the same seed, the same users.
    pub(super) fn claimed(options: &Options) -> Vec<u32> {
        let mut random = Random::at(options.seed, u64::MAX);
        let mut users: Vec<u32> = (0..options.users).collect();
        for at in 0..users.len() {
            let other = at + random.index(users.len() - at);
            users.swap(at, other);
        }
        users.into_iter().cycle().take(options.clients as usize).collect()
    }

    /// The id that a client sends.
    pub(super) fn name(&self, user: u32) -> &[u8] {
        self.names.text(user)
    }

    /// Whether everything was made.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Makes the next batch: appends its lines to `sent`, shuffled, and to each client's queue what
    /// it must receive of it, in order. Says which client hears the last of it, if any does.
    pub(super) fn make_batch(&mut self, sent: &mut Queue, expected: &mut [Queue]) -> Option<usize> {
        let count = self.left.min(self.batch);
        self.left -= count;
        let gaps = if self.dies && self.left == 0 { 0.5 } else { self.gaps };
        self.lines.clear();
        let (mut last, mut notified) = (None, 0);
        for _ in 0..count {
            self.number.advance();
            if gaps > 0.0 && self.random.chance(gaps) {
                self.counts.gaps += 1;
                continue;
            }
            let event = self.draw();
            let crlf = self.crlf || self.draws_crlf();
            let line = Line::new(&self.number, event, &self.names, crlf);
            self.fold.route(event, |client| {
                if let Some(queue) = expected.get_mut(client) {
                    queue.push(&line);
                }
                notified += 1;
                last = Some(client);
            });
            self.lines.push(line);
        }
        self.counts.events += self.lines.len() as u64;
        self.counts.notifications += notified;
        self.send(sent);
        if self.dies && self.left == 0 {
            self.tear(sent);
        }
        last
    }

    /// Appends the lines of the batch in an order that was drawn.
    fn send(&mut self, sent: &mut Queue) {
        let count = self.lines.len();
        self.order.clear();
        self.order.extend((0u32..).take(count));
        for at in 0..count {
            let other = at + self.random.index(count - at);
            self.order.swap(at, other);
            let drawn = self.order.get(at).and_then(|&drawn| self.lines.get(drawn as usize));
            let Some(line) = drawn else { continue };
            if let Some(mischief) = &mut self.mischief {
                mischief.before(&mut self.random, &self.number, &mut self.counts, sent);
                sent.push(line);
                mischief.after(&mut self.random, line, &mut self.counts, sent);
            } else {
                sent.push(line);
            }
        }
    }

    /// Half a line that, if taken for a whole one, would be an event for a connected user.
    fn tear(&mut self, sent: &mut Queue) {
        self.number.advance();
        sent.extend(self.number.text());
        sent.extend(b"|B");
    }

    fn draws_crlf(&mut self) -> bool {
        let share = self.mischief.as_ref().map_or(0.0, |mischief| mischief.malformed);
        share > 0.0 && self.random.chance(share)
    }

    /// What happens next.
    fn draw(&mut self) -> Event {
        let (dice, pair) = (self.random.bits(), self.random.bits());
        let from = scaled(pair >> 32, self.users);
        // Nobody speaks to himself or follows himself.
        let to = (u64::from(from) + 1 + u64::from(scaled(pair, self.users - 1))) % self.users;
        let to = u32::try_from(to).unwrap_or(0);
        let kind = u64::from(scaled(dice >> 32, ALL));
        if kind < FOLLOWS + UNFOLLOWS {
            self.draw_graph(dice, from, to)
        } else if kind < FOLLOWS + UNFOLLOWS + PRIVATE {
            Event::Private { from, to }
        } else if kind < FOLLOWS + UNFOLLOWS + PRIVATE + self.broadcasts {
            Event::Broadcast
        } else if self.grown {
            Event::Status { from }
        } else {
            self.draw_graph(dice, from, to)
        }
    }

    /// A follow or an unfollow: the more follows stand, the more are undone, half and half when
    /// so many stand as shall.
    fn draw_graph(&mut self, dice: u64, from: u32, to: u32) -> Event {
        let standing = self.follows.len() as u64;
        self.grown |= standing >= self.follows_wanted;
        let undo = self.grown && u64::from(scaled(dice, 2 * self.follows_wanted)) < standing;
        let pointless = dice.is_multiple_of(POINTLESS_ONE_IN) || standing == 0;
        match (undo, pointless) {
            (true, true) => Event::Unfollow { from, to },
            (true, false) => {
                let at = self.random.index(self.follows.len());
                let (from, to) = self.follows.swap_remove(at);
                Event::Unfollow { from, to }
            }
            (false, true) if standing > 0 => {
                let at = self.random.index(self.follows.len());
                let (from, to) = self.follows.get(at).copied().unwrap_or((from, to));
                Event::Follow { from, to }
            }
            (false, _) => {
                self.follows.push((from, to));
                Event::Follow { from, to }
            }
        }
    }
}

impl Mischief {
    fn before(&mut self, random: &mut Random, last: &Counter, counts: &mut Counts, to: &mut Queue) {
        while self.malformed > 0.0 && random.chance(self.malformed.min(0.9)) {
            let mut next = last.clone();
            next.advance();
            self.scratch.clear();
            malformed::draw(random, &next, &mut self.scratch);
            to.extend(&self.scratch);
            counts.malformed += 1;
        }
    }

    fn after(&mut self, random: &mut Random, line: &Line, counts: &mut Counts, to: &mut Queue) {
        if self.duplicates <= 0.0 {
            return;
        }
        if self.recent.len() < RECENT {
            self.recent.push(*line);
        } else {
            let at = random.index(RECENT);
            if let Some(place) = self.recent.get_mut(at) {
                *place = *line;
            }
        }
        if random.chance(self.duplicates)
            && let Some(line) = self.recent.get(random.index(self.recent.len()))
        {
            to.push(line);
            counts.duplicates += 1;
        }
    }
}

/// The low 32 bits of something drawn, as a number below `bound`.
fn scaled(bits: u64, bound: u64) -> u32 {
    u32::try_from(((bits & 0xffff_ffff) * bound) >> 32).unwrap_or(0)
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
