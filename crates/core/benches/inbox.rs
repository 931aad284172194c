//! The cost of a message in the machine: posted, taken, leased and acknowledged, expired; in a small chat and
//! in one with a million unread messages.

use std::cell::RefCell;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidings_core::machine::chat::{Chat, Command, Discard, Limits};
use tidings_core::machine::{Machine, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Pseudo-random numbers, the same in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn id(&mut self) -> [u8; 16] {
        let words = [self.next().to_be_bytes(), self.next().to_be_bytes()];
        let mut id = [0; 16];
        id.iter_mut().zip(words.into_iter().flatten()).for_each(|(place, byte)| *place = byte);
        id
    }

    fn post(&mut self, user: u64, timeout_s: u32, key: Option<Box<str>>) -> Command {
        let user = format!("user {user}").into();
        Command::Post { id: self.id(), user, text: "x".repeat(100).into(), timeout_s, key }
    }
}

fn take(user: u64, lease_ms: Option<u64>) -> Command {
    let user = format!("user {user}").into();
    Command::Take { user, limit: u32::MAX, bytes_max: u64::MAX, lease_ms }
}

/// Returns a chat with `unread` messages, ten per user.
fn chat(unread: u64) -> (Chat, Draw) {
    let mut chat = Chat::new(Limits::default());
    let mut draw = Draw(1);
    for number in 0..unread {
        let command = draw.post(number % (unread / 10), 86_400, None);
        chat.apply_to(NOW, command, &mut Discard);
    }
    (chat, draw)
}

/// Applies commands that were built before the clock started.
fn apply_all(chat: &RefCell<Chat>, commands: Vec<Command>) {
    let mut chat = chat.borrow_mut();
    for command in commands {
        black_box(chat.apply_to(NOW, command, &mut Discard));
    }
}

fn messages(criterion: &mut Criterion) {
    const BATCH: u64 = 1000;
    let mut group = criterion.benchmark_group("chat");
    group.throughput(Throughput::Elements(BATCH));
    for unread in [1000, 1_000_000] {
        let (chat, mut draw) = chat(unread);
        let chat = RefCell::new(chat);
        let users = unread / 10;
        group.bench_function(format!("post, {unread} unread"), |bencher| {
            bencher.iter_batched(
                || {
                    // Take the messages of the previous round, off the clock.
                    let takes = (0..BATCH).map(|user| take(users + user, None));
                    apply_all(&chat, takes.collect());
                    (0..BATCH).map(|user| draw.post(users + user, 86_400, None)).collect()
                },
                |commands| apply_all(&chat, commands),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(format!("take of one, {unread} unread"), |bencher| {
            bencher.iter_batched(
                || {
                    let posts = (0..BATCH).map(|user| draw.post(users + user, 86_400, None));
                    apply_all(&chat, posts.collect());
                    (0..BATCH).map(|user| take(users + user, None)).collect()
                },
                |commands| apply_all(&chat, commands),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(format!("lease of one and acknowledge, {unread} unread"), |bencher| {
            bencher.iter_batched(
                || {
                    let posts: Vec<_> =
                        (0..BATCH).map(|user| draw.post(users + user, 86_400, None)).collect();
                    let acknowledge = |post: &Command| {
                        let Command::Post { id, user, .. } = post else { return None };
                        Some(Command::Acknowledge { user: user.clone(), id: *id })
                    };
                    let acknowledge: Vec<_> = posts.iter().filter_map(acknowledge).collect();
                    apply_all(&chat, posts);
                    let leases = (0..BATCH).map(|user| take(users + user, Some(30_000)));
                    leases.chain(acknowledge).collect()
                },
                |commands| apply_all(&chat, commands),
                BatchSize::PerIteration,
            );
        });
    }
    let (chat, mut draw) = chat(1000);
    let chat = RefCell::new(chat);
    let mut keys = 0;
    group.bench_function("post with a key", |bencher| {
        bencher.iter_batched(
            || {
                // Forget the keys of the previous round, off the clock.
                *chat.borrow_mut() = Chat::new(Limits::default());
                let commands = (keys..keys + BATCH)
                    .map(|key| draw.post(key, 60, Some(format!("key {key}").into())))
                    .collect();
                keys += BATCH;
                commands
            },
            |commands| apply_all(&chat, commands),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn whole_inboxes(criterion: &mut Criterion) {
    const INBOX: u64 = 10_000;
    let mut group = criterion.benchmark_group("inbox of 10,000");
    group.throughput(Throughput::Elements(INBOX));
    for unread in [1000, 1_000_000] {
        let (chat, mut draw) = chat(unread);
        let chat = RefCell::new(chat);
        let user = unread;
        let mut round = 1;
        for (name, lease_ms) in [("take", None), ("lease", Some(1))] {
            group.bench_function(format!("{name}, {unread} unread elsewhere"), |bencher| {
                bencher.iter_batched(
                    || {
                        // The messages leased in the previous round have returned.
                        let back = Timestamp(NOW.0 + round);
                        chat.borrow_mut().apply_to(back, take(user, None), &mut Discard);
                        round += 1;
                        let posts = (0..INBOX).map(|_| draw.post(user, 86_400, None));
                        apply_all(&chat, posts.collect());
                        take(user, lease_ms)
                    },
                    |command| chat.borrow_mut().apply_to(NOW, command, &mut Discard),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

fn expiry(criterion: &mut Criterion) {
    const MESSAGES: u64 = 100_000;
    let mut group = criterion.benchmark_group("expiry");
    group.sample_size(10);
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("of 100,000 messages of 10,000 users, all ticks", |bencher| {
        bencher.iter_batched(
            || {
                let mut chat = Chat::new(Limits::default());
                let mut draw = Draw(1);
                for _ in 0..MESSAGES {
                    let user = draw.next() % 10_000;
                    let timeout_s = draw.next() % 3600;
                    let timeout_s = u32::try_from(timeout_s).unwrap_or(0);
                    let command = draw.post(user, timeout_s, None);
                    chat.apply_to(NOW, command, &mut Discard);
                }
                chat
            },
            |mut chat| {
                while let Some(due) = chat.next_deadline() {
                    chat.tick_to(due, &mut Discard);
                }
                assert!(chat.inboxes().is_empty());
                chat
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, messages, whole_inboxes, expiry);
criterion_main!(benches);
