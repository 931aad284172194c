//! Shows the progress of a drill: a bar where standard error is a terminal, a
//! plain line every few seconds where it is not, or nothing.

use std::convert::Infallible;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::verdict::grouped;

/// How often the bar is drawn anew.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How far a drill is. A clone shows the same drill, so that a test can wait until some
/// of the work is done: see [`Progress::done`].
#[derive(Debug, Clone)]
pub struct Progress {
    /// Whether and where it is shown.
    shown: bool,
    /// Work done so far, in messages acknowledged.
    done: Arc<AtomicU64>,
    /// Work in all; 0 until the drill knows it.
    total: Arc<AtomicU64>,
}

impl Progress {
    /// Shown on standard error.
    pub fn shown() -> Self {
        Self { shown: true, ..Self::silent() }
    }

    /// Shown nowhere.
    pub fn silent() -> Self {
        Self { shown: false, done: Arc::default(), total: Arc::default() }
    }

    /// How much of the work is done: for a drill of messages, those that were acknowledged.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How much work there is; 0 until the drill knows it.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Begins: so much work there is.
    pub(crate) fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// So much of it is done.
    pub(crate) fn set_done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Shows how far it is until it is dropped. It reads the counters at its own pace, so
    /// that the drill pays nothing for being watched.
    pub(crate) async fn show(&self) -> Infallible {
        if !self.shown {
            return std::future::pending().await;
        }
        if stderr().is_terminal() { self.show_bar().await } else { self.show_lines().await }
    }

    /// Draws a bar until this is dropped, which erases it.
    async fn show_bar(&self) -> Infallible {
        let bar = Bar(ProgressBar::new(self.total()));
        let template = "{wide_bar} {human_pos}/{human_len} {per_sec:>14} {eta:>5}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.0.set_style(style);
        }
        loop {
            bar.0.set_position(self.done());
            tokio::time::sleep(BAR_EVERY).await;
        }
    }

    /// Writes lines until this is dropped.
    async fn show_lines(&self) -> Infallible {
        let started = Instant::now();
        loop {
            tokio::time::sleep(LINE_EVERY).await;
            let (done, total) = (grouped(self.done()), grouped(self.total()));
            eprintln!("{done} of {total} after {} s", started.elapsed().as_secs());
        }
    }
}

/// A bar that leaves the terminal as it was.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
