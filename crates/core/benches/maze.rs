//! The cost of an event of the maze: parsing its line, changing and reading the follower graph, and the whole
//! machine without receivers.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidings_core::machine::Timestamp;
use tidings_core::machine::maze::parse::{Read, line};
use tidings_core::machine::maze::{Command, Discard, Maze};
use tidings_core::structure::graph::{Followed, Graph};

const EVENTS: u64 = 100_000;
const USERS: u64 = 1_000;
const BATCH: usize = 100;
/// The bytes that the server feeds at once.
const FEED_BYTES: usize = 256 << 10;

/// Pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Lines of events, shuffled within batches: 15 % follows, as many unfollows and private messages,
/// the rest status updates.
fn lines() -> Vec<String> {
    let mut random = Random(666);
    let mut lines: Vec<String> = (1..=EVENTS)
        .map(|number| {
            let (from, to) = (random.below(USERS), random.below(USERS));
            match random.below(100) {
                0..15 => format!("{number}|F|{from}|{to}\n"),
                15..30 => format!("{number}|U|{from}|{to}\n"),
                30..45 => format!("{number}|P|{from}|{to}\n"),
                _ => format!("{number}|S|{from}\n"),
            }
        })
        .collect();
    for batch in lines.chunks_mut(BATCH) {
        for place in (1..batch.len()).rev() {
            let other = random.below(place as u64 + 1);
            batch.swap(place, usize::try_from(other).unwrap_or(0));
        }
    }
    lines
}

fn parser(criterion: &mut Criterion) {
    let bytes = lines().concat().into_bytes();
    let mut group = criterion.benchmark_group("maze");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("read a line", |bencher| {
        bencher.iter(|| {
            let mut rest = bytes.as_slice();
            let mut sum = 0;
            while !rest.is_empty() {
                let (read, taken) = line(rest);
                if let Read::Event { number, event } = read {
                    black_box(event);
                    sum += number;
                }
                rest = rest.split_at(taken).1;
            }
            sum
        });
    });
    let mut feeds = vec![Vec::new()];
    for line in lines() {
        if feeds.last().is_some_and(|feed| feed.len() + line.len() > FEED_BYTES) {
            feeds.push(Vec::new());
        }
        feeds.last_mut().into_iter().for_each(|feed| feed.extend(line.as_bytes()));
    }
    group.bench_function("the whole machine, an event", |bencher| {
        let commands = || {
            let feeds = (0..).zip(&feeds);
            let feeds =
                feeds.map(|(part, feed)| Command::Feed { source: 1, part, bytes: feed.clone() });
            [Command::Open { source: 1 }].into_iter().chain(feeds).collect::<Vec<_>>()
        };
        bencher.iter_batched(
            commands,
            |commands| {
                let mut maze = Maze::default();
                for command in commands {
                    maze.apply_to(Timestamp(1), command, &mut Discard);
                }
                maze.next()
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Returns a graph in which each of `users` has about this many followers.
fn graph(users: u64, followers: u64) -> Graph {
    let mut random = Random(444);
    let mut graph = Graph::new(1 << 30, 1 << 40);
    for _ in 0..users * followers {
        graph.follow(random.below(users), random.below(users));
    }
    graph
}

fn graphs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("graph");
    group.throughput(Throughput::Elements(1));
    for (users, followers) in [(1_000, 2), (1_000, 76), (10_000, 100), (1_000, 700)] {
        let mut graph = graph(users, followers);
        let name = |what: &str| format!("{what}, {users} users with {followers} followers");
        let mut random = Random(1);
        group.bench_function(name("follow and unfollow"), |bencher| {
            bencher.iter(|| {
                let (from, to) = (random.below(users), random.below(users));
                // Keep the graph as dense as it is.
                graph.follow(from, to) == Followed::New && graph.unfollow(from, to)
            });
        });
        group.bench_function(name("walk over all followers"), |bencher| {
            bencher.iter(|| {
                let places = graph.followers(random.below(users));
                places.iter().map(|place| u64::from(*place)).sum::<u64>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parser, graphs);
criterion_main!(benches);
