//! A machine of your own, durable: a high-score table over SQLite, started twice.
//!
//! `cargo run -p tidings-node --example own_machine`

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidings_core::machine::{Machine, Malformed, Timestamp, decode, encode};
use tidings_log::sqlite::{Options, Sqlite};
use tidings_node::{Builder, Handle, Node, Settings};

/// What is asked of it, as it is stored: variants are only ever added.
#[derive(Serialize, Deserialize)]
enum Command {
    Score { player: String, points: u64 },
}

#[derive(Default)]
struct HighScores(BTreeMap<String, u64>);

impl Machine for HighScores {
    type Command = Command;
    /// Whether it was the player's best.
    type Reply = bool;
    /// A new best: the player and the points.
    type Event = (String, u64);

    fn apply(
        &mut self,
        _at: Timestamp,
        Command::Score { player, points }: Command,
        emit: &mut impl FnMut(Self::Event),
    ) -> bool {
        let best = self.0.entry(player.clone()).or_default();
        let better = points > *best;
        if better {
            *best = points;
            emit((player, points));
        }
        better
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        encode(&self.0, out);
    }

    fn restore(mut bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(Self(decode("high scores", &mut bytes)?))
    }
}

fn start(
    folder: &std::path::Path,
) -> Result<(Node, Handle<HighScores>), Box<dyn std::error::Error>> {
    let mut builder = Builder::new(Settings::default());
    // The number stands in the log before each command: it is never given to another machine.
    let scores = builder.add(1, "high-scores", HighScores::default());
    let log = Sqlite::open(folder, Options::default())?;
    Ok((builder.start(Box::new(log), |_| {})?, scores))
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (node, scores) = start(folder.path())?;
    for (player, points) in [("ada", 70), ("grace", 90), ("ada", 60), ("ada", 95)] {
        let better = scores.propose(Command::Score { player: player.to_owned(), points }).await?;
        println!("{player} {points}: {}", if better { "a new best" } else { "not better" });
    }
    node.stop().await?;

    let (node, scores) = start(folder.path())?;
    println!("after a restart: {:?}", scores.read(|scores| scores.0.clone()));
    assert_eq!(scores.read(|scores| scores.0.get("ada").copied()), Some(95));
    node.stop().await?;
    Ok(())
}
