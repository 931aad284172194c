//! The log in JetStream, against real servers: the contract, several nodes on one stream, servers that
//! die, unsuitable streams, and damage.
//!
//! Needs a `nats-server`, which `crates/log/nats-server` fetches. Without one each test prints that it is
//! skipped; in CI it fails instead.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod copy;
mod damage;
mod faults;
mod nodes;
mod rejections;

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidings_log::jetstream::Options;
use tidings_log::nats_server::{Servers, VERSION, find};
use tidings_log::{Batch, Error, JetStream, Log, Position, conformance};

/// Servers with a folder of their own.
struct World {
    folder: TempDir,
    servers: Servers,
}

impl World {
    /// Starts `count` servers, or returns `None` if there is no `nats-server`.
    fn start(count: usize) -> Option<Self> {
        let Some(binary) = find(VERSION) else {
            assert!(std::env::var_os("CI").is_none(), "no nats-server: run crates/log/nats-server");
            eprintln!("SKIPPED: there is no nats-server; crates/log/nats-server fetches it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // No test cuts the power, and the default sync interval makes a single server ten times faster.
        let servers = Servers::start(&binary, folder.path(), count, "2m").unwrap();
        Some(Self { folder, servers })
    }

    fn options(&self, node: &str) -> Options {
        Options::new(self.servers.urls(), &self.folder.path().join(node))
    }

    fn open(&self, node: &str) -> JetStream {
        JetStream::open(self.options(node)).unwrap()
    }

    /// Runs `work` on a plain connection, to do what a log would not do.
    fn by_hand(&self, work: impl AsyncFnOnce(async_nats::jetstream::Context)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = async_nats::connect(self.servers.urls().swap_remove(0)).await.unwrap();
            work(async_nats::jetstream::new(client)).await;
        });
    }
}

#[test]
fn jetstream_keeps_the_contract() {
    let Some(world) = World::start(1) else { return };
    let mut stores = 0;
    conformance::all(|| {
        stores += 1;
        let mut options = world.options(&format!("store-{stores}"));
        options.stream = format!("store-{stores}");
        options.share_every_snapshot = true;
        move || JetStream::open(options.clone()).unwrap()
    });
}

/// Reads every batch that a log knows of.
fn all(log: &mut impl Log) -> Vec<Batch> {
    let next = log.bounds().unwrap().next;
    all_before(log, next)
}

/// Reads every batch before a position, however long it takes to arrive.
fn all_before(log: &mut impl Log, next: Position) -> Vec<Batch> {
    let mut from = log.bounds().unwrap().first;
    let mut all: Vec<Batch> = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while from < next {
        match log.read(from, 1 << 20) {
            Ok(batches) => all.extend(batches),
            Err(Error::Unanswered(_)) if Instant::now() < until => {}
            Err(other) => panic!("{other}"),
        }
        from = all.last().map_or(from, |last| last.position.next());
    }
    all
}

fn body(number: u64, bytes: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(bytes).collect()
}
