//! The drill of the pulse: its options, and a referee that counts too.

use serde::Serialize;

use crate::Target;
use crate::error::Error;
use crate::harness::{self, Course, Drill, drive};
use crate::http::{Client, Cluster};
use crate::options::{Common, reproduce};
use crate::progress::Progress;
use crate::verdict::Verdict;

/// How to drill the pulse.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// The same seed gives the same beats
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// The options of every drill
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

/// Drills a server.
///
/// # Errors
/// [`Error`] if the options cannot be drilled.
pub async fn run(
    targets: &[Target],
    options: &Options,
    progress: Progress,
) -> Result<Verdict, Error> {
    harness::check(options, targets.len())?;
    let cluster = Cluster::new(targets, std::time::Duration::from_millis(500), options.common.patience);
    let drill = Pulse { client: Client::at(0, &cluster), described: false };
    let reproduce = reproduce(options, options.seed);
    Ok(drive(drill, &cluster, &options.common, reproduce, &progress).await)
}

struct Pulse {
    client: Client,
    described: bool,
}

impl Drill for Pulse {
    const NAME: &'static str = "pulse";

    async fn load(&mut self) {
        self.described = self.client.get("/openapi.json").await.status == 200;
    }

    fn report(self, course: &Course, verdict: &mut Verdict) {
        verdict.row("elapsed", course.elapsed);
        if !self.described {
            verdict.fail("it is not described");
        }
    }
}
