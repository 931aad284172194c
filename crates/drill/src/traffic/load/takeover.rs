//! Servers that take turns: one at a time is connected. When it dies, or another connects, the drill goes on with the next one, and watches the one before: it must close its
//! connection soon, and must report nothing any more.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::timeout;

use super::super::wire::{Connection, Heard};
use super::Load;

/// How long a connection may stay open beside the one that replaced it.
pub(super) const TAKEOVER: Duration = Duration::from_secs(15);

/// A connection that another has replaced, and since when.
pub(super) struct Replaced {
    connection: Connection,
    since: Instant,
}

impl Load {
    /// The connection is of no more use, for this reason: goes on with the next one, where servers may
    /// die. What the server had not said that it had taken may have been counted, or not.
    ///
    /// # Errors
    /// The reason, where they may not; or that nobody else connected.
    pub(super) async fn ride_out(&mut self, why: String) -> Result<(), String> {
        if !self.options.crashes {
            return Err(why);
        }
        self.listen();
        if let Some(connection) = self.connection.take() {
            self.replaced.push(Replaced { connection, since: Instant::now() });
        }
        self.heard.push_back(None);
        self.report.taken_over += 1;
        let sent = std::mem::replace(&mut self.world.window, self.taken.clone());
        self.judge.doubt(&sent, &self.taken);
        self.out.clear();
        self.unanswered = 0;
        let wait = Duration::from_secs(self.options.connect_wait);
        let connected = timeout(wait, async { while self.connect().await.is_err() {} }).await;
        connected.map_err(|_| format!("nobody connected within {} s after: {why}", wait.as_secs()))
    }

    /// Looks at the connections that were replaced.
    pub(super) fn look_at_replaced(&mut self) {
        let judge = &mut self.judge;
        self.replaced.retain_mut(|replaced| {
            loop {
                match replaced.connection.heard.try_recv() {
                    Ok(Heard::Text(_)) => judge
                        .differences
                        .add(|| "a report from a server that another had replaced".to_owned()),
                    Ok(Heard::Gone(_)) | Err(TryRecvError::Disconnected) => return false,
                    Ok(Heard::Ping(_) | Heard::Pong(_)) => {}
                    Err(TryRecvError::Empty) => break,
                }
            }
            let stays = replaced.since.elapsed() < TAKEOVER;
            if !stays {
                let seconds = TAKEOVER.as_secs();
                judge.differences.add(|| {
                    format!("two servers were connected at the same time for more than {seconds} s")
                });
            }
            stays
        });
    }
}
