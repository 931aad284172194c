//! Servers that take turns: one at a time is connected. When it dies, or another connects, the drill goes on with the next one, and watches the one before: it must close its
//! connection soon, and must report nothing any more.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::timeout;

use super::super::wire::{Connection, Heard};
use super::super::world::Window;
use super::super::{ASK_AGAIN, shown};
use super::settle::{Settled, Shown};
use super::{Load, now_ms};

/// How long a connection may stay open beside the one that replaced it.
pub(super) const TAKEOVER: Duration = Duration::from_secs(15);

/// A connection that another has replaced, and since when.
pub(super) struct Replaced {
    connection: Connection,
    since: Instant,
}

impl Load {
    /// The connection is of no more use, for this reason: goes on with the next one, where servers may
    /// die. What is not reported by now may be reported by the next one, or not; but for what was counted
    /// in a window that is still open.
    ///
    /// # Errors
    /// The reason, where they may not; or that nobody else connected.
    pub(super) async fn ride_out(&mut self, why: String) -> Result<(), String> {
        if !self.options.crashes {
            return Err(why);
        }
        self.report.taken_over += 1;
        // A window that has ended may have been claimed, and then it is not sent again.
        let open = self.joined == 0 && self.window == now_ms() / self.options.window_ms;
        let counted = std::mem::take(&mut self.settled.window);
        let counted = if open { counted } else { Window::new() };
        let sent = std::mem::take(&mut self.world.window);
        self.out.clear();
        self.unanswered = 0;
        let wait = Duration::from_secs(self.options.connect_wait);
        let nobody = |_| format!("nobody connected within {} s after: {why}", wait.as_secs());
        if self.arrived.is_none() {
            self.arrived = Some(timeout(wait, self.next_server()).await.map_err(nobody)?);
        }
        self.listen();
        if let Some(connection) = self.connection.take() {
            self.replaced.push(Replaced { connection, since: Instant::now() });
        }
        self.judge.sum_up();
        self.look_at_reports();
        self.judge.broke();
        self.judge.doubt(&sent, &counted);
        self.report.doubtful += self.report.calls - self.settled.calls;
        self.joined = 0;
        self.window = now_ms() / self.options.window_ms;
        let again = async {
            while self.connect().await.is_err() {}
            if self.shown.is_some() {
                self.shown = Some(self.shown_now().await);
            }
        };
        timeout(wait, again).await.map_err(nobody)?;
        self.settled = Settled { calls: self.report.calls, ..Settled::default() };
        Ok(())
    }

    /// The next server that connects. What the one before reports until then is heard.
    async fn next_server(&mut self) -> TcpStream {
        loop {
            if let Some(connection) = &mut self.connection {
                tokio::select! {
                    biased;
                    heard = connection.heard.recv() => {
                        if self.hear(heard).is_err() {
                            self.connection = None;
                        }
                    }
                    Ok((stream, _)) = self.listener.accept() => return stream,
                }
            } else if let Ok((stream, _)) = self.listener.accept().await {
                return stream;
            }
        }
    }

    /// What the servers show now, of which it is not known how much it must be.
    async fn shown_now(&self) -> Shown {
        loop {
            if let Some(communications) = shown::communications(&self.servers).await {
                return Shown { communications, calls: self.report.calls };
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
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
