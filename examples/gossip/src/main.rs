//! Peers that gossip over libp2p, and remember with the Tracker which messages they have seen.
//!
//! ```sh
//! cargo run --release --manifest-path examples/gossip/Cargo.toml
//! cargo run --release --manifest-path examples/gossip/Cargo.toml -- --peers 20 --messages 100 --dials 3
//! cargo test --manifest-path examples/gossip/Cargo.toml
//! ```
//!
//! Each peer is a libp2p swarm (TCP on a free port of 127.0.0.1, Noise, Yamux, gossipsub). The peers dial
//! each other as a ring with random chords, and forward every message to all their neighbours, so that it
//! arrives several times. Gossipsub is configured to remember nothing: each peer's Tracker decides which
//! message is new and must be forwarded. The program exits with 0 if all peers end up with all messages, and
//! with the same ones.
//!
//! - `net`: the peers and their connections.
//! - `peer`: one peer.

mod net;
mod peer;

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use net::Net;
use peer::{Peer, Phase, Progress, Seen};

/// An error of the set-up, before any gossip.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Peers that gossip over libp2p and remember messages with the Tracker.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Number of peers.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=200))]
    peers: u32,
    /// Number of messages that each peer publishes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: u32,
    /// Number of peers that each peer dials: the next one of the ring, the rest at random.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    dials: u32,
    /// Number of messages that each peer remembers: at least as many as all peers publish.
    #[arg(long, default_value_t = 100_000)]
    remember: u32,
    /// Time limit in seconds.
    #[arg(long, default_value_t = 30)]
    within: u64,
    /// The same seed gives the same peers, connections and messages, but not the same timing.
    #[arg(long, default_value_t = 444)]
    seed: u64,
}

impl Options {
    /// Returns the number of messages of all peers.
    fn total(&self) -> u32 {
        self.peers.saturating_mul(self.messages)
    }
}

/// The result of a run.
struct Outcome {
    seen: Vec<Seen>,
    total: u32,
    took: Duration,
}

impl Outcome {
    fn duplicates(&self) -> u64 {
        self.seen.iter().map(|seen| seen.duplicates).sum()
    }

    /// Returns whether all peers remember the same messages.
    fn agreed(&self) -> bool {
        self.seen.windows(2).all(|two| matches!(two, [a, b] if a.digest == b.digest))
    }

    fn passed(&self) -> bool {
        self.agreed() && self.seen.iter().all(|seen| seen.messages == self.total)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>4} {:>9} {:>10}  most came from", "peer", "messages", "duplicates")?;
        for (peer, seen) in self.seen.iter().enumerate() {
            write!(f, "{peer:>4} {:>9} {:>10}  ", seen.messages, seen.duplicates)?;
            for (from, count) in seen.relayed.iter().take(3) {
                write!(f, " {from} ({count})")?;
            }
            writeln!(f)?;
        }
        let messages: u64 = self.seen.iter().map(|seen| u64::from(seen.messages)).sum();
        writeln!(f, " all {messages:>9} {:>10}", self.duplicates())?;
        let agree = if self.agreed() { "agree" } else { "do not agree" };
        writeln!(f, "the peers {agree}; it took {:.2} s", self.took.as_secs_f64())?;
        write!(f, "{}", if self.passed() { "PASS" } else { "FAIL" })
    }
}

/// Waits until every peer has reached a stage. Returns false at the deadline.
async fn all_reach(
    peers: u32,
    progress: &mut mpsc::Receiver<Progress>,
    until: Instant,
    stage: Progress,
) -> bool {
    let mut reached = 0;
    while reached < peers {
        match tokio::time::timeout_at(until.into(), progress.recv()).await {
            Ok(Some(at)) => reached += u32::from(at == stage),
            Ok(None) | Err(_) => return false,
        }
    }
    true
}

async fn gossip(options: &Options) -> Result<Outcome, Error> {
    if options.remember < options.total() {
        return Err(format!(
            "--remember: {} is less than the {} messages that will be published",
            options.remember,
            options.total()
        )
        .into());
    }
    let net = Net::new(options.peers, options.dials, options.seed)?;
    let mut peers = Vec::new();
    let mut addresses = Vec::new();
    for number in 0..options.peers {
        let mut peer = Peer::new(&net, number, options)?;
        addresses.push(peer.listen().await?);
        peers.push(peer);
    }

    let started = Instant::now();
    let until = started + Duration::from_secs(options.within);
    let (phase, phases) = watch::channel(Phase::Connect);
    let (progress, mut progresses) = mpsc::channel(2 * peers.len());
    let mut running = JoinSet::new();
    for peer in peers {
        running.spawn(peer.run(addresses.clone(), phases.clone(), progress.clone()));
    }
    drop(progress);
    drop(phases);
    // No peer publishes before all are connected, and no peer leaves before all have every message and
    // every copy of it.
    if all_reach(options.peers, &mut progresses, until, Progress::Connected).await {
        phase.send_replace(Phase::Publish);
        if all_reach(options.peers, &mut progresses, until, Progress::Complete).await {
            phase.send_replace(Phase::Part);
            all_reach(options.peers, &mut progresses, until, Progress::Parted).await;
        }
    }
    let took = started.elapsed();
    phase.send_replace(Phase::End);
    let mut seen = Vec::new();
    while let Some(peer) = running.join_next().await {
        seen.push(peer??);
    }
    seen.sort_by_key(|seen| seen.peer);
    Ok(Outcome { seen, total: options.total(), took })
}

#[tokio::main]
async fn main() -> ExitCode {
    match gossip(&Options::parse()).await {
        Ok(outcome) => {
            println!("{outcome}");
            if outcome.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn peers_agree_on_messages_that_arrive_more_than_once() {
        let options = Options::parse_from(["gossip", "--peers=4", "--messages=20"]);
        let outcome = gossip(&options).await.expect("every peer can listen");
        assert!(outcome.passed(), "{outcome}");
        assert!(outcome.duplicates() > 0, "{outcome}");
        for seen in &outcome.seen {
            let relays: u64 = seen.relayed.iter().map(|(_, count)| count).sum();
            assert_eq!(
                relays,
                60 + seen.duplicates,
                "each message of the other peers once, plus duplicates: {outcome}"
            );
        }
    }

    #[tokio::test]
    async fn a_memory_that_is_too_small_is_rejected() {
        let options =
            Options::parse_from(["gossip", "--peers=4", "--messages=20", "--remember=79"]);
        assert!(gossip(&options).await.is_err());
    }
}
