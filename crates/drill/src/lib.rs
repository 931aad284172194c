//! Messy worlds and their referees: load for Tidings, and the proof that its answers are right.
//!
//! A drill makes a world from a seed (messages late, twice and out of order), sends it to a server
//! from outside, as fast as asked, and knows what must come of it. It looks while the load
//! runs and compares everything in the end; its [`Verdict`] is a table that ends in PASS
//! or FAIL. It survives the server being killed and started again, and then still holds it to
//! every message that was acknowledged.
//!
//! What is right is computed here, by the dumbest code that can be read off the specification, and
//! never with the server's own structures: a referee that links the player is no referee.
//!
//! ```no_run
//! use tidings_drill::{Progress, Target, rockets};
//!
//! # async fn drill() -> Result<(), Box<dyn std::error::Error>> {
//! let target = Target::resolve("127.0.0.1:8088").await?;
//! let verdict = rockets::run(&[target], &rockets::Options::default(), Progress::shown()).await?;
//! eprintln!("{verdict}");
//! assert!(verdict.passed());
//! # Ok(())
//! # }
//! ```
//!
//! In reading order:
//!
//! - [`rockets`]: the drill of the rockets: options, world, what is right, sending, judging.
//! - [`chat`]: the drill of the chat: racing readers, expiry, leases; its [judge](chat::judge) works
//!   without the rest.
//! - [`maze`]: the drill of the maze: events in disorder, and what every client must receive.
//! - [`traffic`]: the drill of the traffic: an upstream server of its own.
//! - [`tracker`]: the drill of the tracker: peers that relay the same messages all at once.
//! - `harness`: the contract of a drill, and what runs it.
//! - [`error`]: why a drill was not begun.
//! - [`verdict`]: the table, as text and as JSON, and the latencies in it.
//! - [`progress`]: shows the progress of a drill to a person.
//! - [`http`]: a client that costs little enough to load a server from one core.
//! - [`metrics`]: the CPU time and the memory that a server reports of itself.
//! - [`patience`]: how long a drill waits for a server that is away.
//! - [`options`]: what the options of all drills share.
//! - [`random`]: randomness that can be replayed.
//!
//! Costs. Of rockets: eight bytes of memory per delivery and a bit per message; against a server
//! that answers with canned bytes (`examples/ceiling.rs`), each on a core of its own, 32
//! connections: 180,000 requests/s one at a time (5.5 µs each, of which the system takes nine
//! tenths), 1,400,000/s with 16 in flight (0.7 µs), 6,500,000 messages/s in bulk (0.2 µs). Of chat:
//! about 280 bytes for a message that is unread or among the last 200,000 that were read, 16 for
//! the others; 5.6 µs for a post or a take (`ceiling drill-chat --plain`, where rockets take 5.4). Of the
//! maze: memory by how far the clients are behind, not by the number of events; against a server
//! that only routes (`examples/maze_ceiling.rs`), 100 clients: 20,000,000 events/s of the light mix
//! (0.045 µs each), 12,000,000 of the heavy one (0.08 µs, 56,000,000 notifications/s).
//!
//! It does not do TLS. Several targets are taken to be one service: nodes that show the same.

pub mod chat;
pub mod error;
mod harness;
pub mod http;
pub mod maze;
pub mod metrics;
pub mod options;
pub mod patience;
pub mod progress;
pub mod random;
pub mod rockets;
pub mod tracker;
pub mod traffic;
pub mod verdict;

pub use error::Error;
pub use http::Target;
pub use options::Common;
pub use patience::Patience;
pub use progress::Progress;
pub use verdict::Verdict;
