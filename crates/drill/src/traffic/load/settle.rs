//! When everything is known to be counted, and in which window: a ping behind it has been answered, and
//! then, if the servers can be asked over HTTP, they show as many communications as were sent.

use std::time::Duration;

use tokio::time::Instant;

use super::super::shown;
use super::super::world::Window;
use super::{CLEAR, Load, now_ms};

/// How long what has been taken may take to be counted: a log that several nodes share can be without a
/// leader for some seconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(20);
/// How often the servers are asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// A moment at which everything that had been sent was counted.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) at_ms: u64,
    /// All that had been sent by then.
    pub(super) calls: u64,
    /// Those of the open window. Only kept where servers may die.
    pub(super) window: Window,
}

/// What the server showed, and how many calls had been sent by then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) communications: u64,
    pub(super) calls: u64,
}

impl Load {
    /// Waits until everything is counted.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        self.answered().await?;
        self.counted().await?;
        let window = if self.options.crashes && self.shown.is_some() {
            self.world.window.clone()
        } else {
            Window::new()
        };
        self.settled = Settled { at_ms: now_ms(), calls: self.report.calls, window };
        Ok(())
    }

    /// Whether everything that was sent was counted for sure before the end of the window in which the
    /// last of it was sent.
    pub(super) fn is_clear(&self) -> bool {
        let end = (self.window + 1).saturating_mul(self.options.window_ms);
        let by = Duration::from_millis(self.settled.at_ms) + CLEAR;
        self.settled.calls == self.report.calls && by < Duration::from_millis(end)
    }

    /// Waits until the servers show as many communications as were sent.
    async fn counted(&mut self) -> Result<(), String> {
        let Some(Shown { communications, calls }) = self.shown else { return Ok(()) };
        let due = communications + self.report.calls - calls;
        let until = Instant::now() + COUNTED_WITHIN;
        loop {
            let servers = self.servers.clone();
            let asking = shown::communications(&servers);
            tokio::pin!(asking);
            let shown = loop {
                tokio::select! {
                    shown = &mut asking => break shown,
                    heard = self.next() => drop(self.hear(heard)?),
                }
            };
            if shown.is_some_and(|shown| shown >= due) {
                return Ok(());
            }
            if Instant::now() > until {
                let shown = shown.map_or("nothing".to_owned(), |shown| shown.to_string());
                return Err(format!(
                    "the servers show {shown} {COUNTED_WITHIN:?} after they had taken {due} \
                     communications"
                ));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}
