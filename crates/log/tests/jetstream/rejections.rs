//! What a node does not open or append, and the reason it gives.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{Config, StorageType};
use tidings_log::jetstream::Options;
use tidings_log::{AppendError, Error, JetStream, Log as _, Sqlite, sqlite};

use crate::{World, body};

fn rejection(options: Options) -> String {
    match JetStream::open(options) {
        Ok(_) => panic!("it was opened"),
        Err(why) => why.to_string(),
    }
}

#[test]
fn servers_that_do_not_answer_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(["nats://127.0.0.1:1"], folder.path());
    options.connect_within = Duration::from_millis(300);
    let why = rejection(options.clone());
    assert!(why.contains("no NATS server can be reached at nats://127.0.0.1:1"), "{why}");
    options.servers = vec!["http://127.0.0.1:1".to_owned()];
    let why = rejection(options.clone());
    assert!(why.contains("http://127.0.0.1:1"), "{why}");
    options.stream = "a.b".to_owned();
    assert!(rejection(options).contains("\"a.b\" cannot be the name of a stream"));
}

#[test]
fn a_stream_that_would_lose_data_is_rejected_and_not_changed() {
    let Some(world) = World::start(1) else { return };
    world.by_hand(async |context| {
        let config = Config {
            name: "tidings".to_owned(),
            subjects: vec!["tidings.log.*".to_owned()],
            storage: StorageType::Memory,
            ..Config::default()
        };
        context.create_stream(config).await.unwrap();
    });
    let why = rejection(world.options("a"));
    assert!(why.contains("its storage is memory, needed is file"), "{why}");
}

#[test]
fn a_directory_belongs_to_one_log() {
    let Some(world) = World::start(1) else { return };
    let options = world.options("a");
    drop(JetStream::open(options.clone()).unwrap());
    let why = Sqlite::open(&options.directory, sqlite::Options::default()).unwrap_err().to_string();
    assert!(why.contains("node of a cluster"), "{why}");
    let mut other = options.clone();
    other.stream = "other".to_owned();
    assert!(rejection(other).contains("belongs to another log than the stream other"));
    let own = world.options("own");
    let mut single = Sqlite::open(&own.directory, sqlite::Options::default()).unwrap();
    single.append(1, b"x").unwrap();
    drop(single);
    assert!(rejection(own).contains("tidings log copy"));
    let held = JetStream::open(options.clone()).unwrap();
    assert!(matches!(JetStream::open(options), Err(Error::InUse(_))));
    drop(held);
}

/// Waits for a fill level: appends and truncations of other nodes are counted with a delay.
fn wait_for_fill(log: &mut JetStream, percents: RangeInclusive<u8>) {
    let until = Instant::now() + Duration::from_secs(10);
    while !percents.contains(&log.filled_percent()) {
        assert!(Instant::now() < until, "{} %, and not {percents:?}", log.filled_percent());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_full_stream_rejects_a_batch_and_accepts_it_when_there_is_room() {
    let Some(world) = World::start(1) else { return };
    let mut options = world.options("a");
    options.bytes_max = Some(200_000);
    let mut log = JetStream::open(options).unwrap();
    let mut other = JetStream::open(world.options("b")).unwrap();
    // A node learns of other nodes' appends only while it reads.
    assert!(other.read(tidings_log::Position(1), 1).unwrap().is_empty());
    let mut number = 0;
    let why = loop {
        number += 1;
        match log.append(number, &body(number, 30_000)) {
            Ok(_) => assert!(number < 10),
            Err(AppendError::Full(why)) => break why,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(why.contains("maximum bytes"), "{why}");
    wait_for_fill(&mut log, 75..=100);
    wait_for_fill(&mut other, 75..=100);
    let end = log.bounds().unwrap().next;
    log.write_snapshot(tidings_log::Position(end.0 - 1), 0, b"", true).unwrap();
    log.share_snapshot().unwrap();
    assert!(log.truncate(end).unwrap() > 0);
    wait_for_fill(&mut log, 0..=0);
    wait_for_fill(&mut other, 0..=0);
    assert_eq!(log.append(number, &body(number, 30_000)).unwrap(), end);
}
