//! What an engine does with what is in the log: what it wrote in earlier lives, and what other nodes append.

use tidings_core::machine::{Malformed, decode};
use tidings_log::{Batch, Position};

use super::{Engine, Fatal, PROGRESS_EVERY, Progress, READ_BYTES};
use crate::entry::{self, Header, NODES, TICK};

impl Engine {
    /// Applies the log from the snapshot to its end.
    pub(super) fn replay(&mut self, progress: &mut impl FnMut(Progress)) -> Result<(), Fatal> {
        let first = self.applied.position;
        let entries_before = self.applied.entries;
        let total = self.log.bounds()?.next.0.saturating_sub(first + 1);
        let started = self.clock.steady();
        let mut reported = started;
        loop {
            let read = self.catch_up()?;
            self.stats.replayed = self.applied.entries - entries_before;
            if read == 0 {
                return Ok(());
            }
            let now = self.clock.steady();
            if now.saturating_sub(reported) >= PROGRESS_EVERY {
                reported = now;
                progress(Progress {
                    done: self.applied.position - first,
                    total,
                    entries: self.stats.replayed,
                    elapsed: now.saturating_sub(started),
                });
            }
        }
    }

    /// Checks that the log still has the next batch, as far as is known without asking a server.
    ///
    /// # Errors
    /// [`tidings_log::Error::Truncated`] when another node has truncated it.
    pub(super) fn reaches_back(&mut self) -> Result<(), Fatal> {
        let asked = Position(self.applied.position).next();
        let first = self.log.bounds()?.first;
        let is_here = self.read_ahead.first().is_some_and(|batch| batch.position == asked);
        if first <= asked || is_here {
            return Ok(());
        }
        Err(tidings_log::Error::Truncated { asked, first }.into())
    }

    /// Reads the next batches of the log, and retries until the log answers.
    pub(super) fn read(&mut self) -> Result<Vec<Batch>, Fatal> {
        let from = Position(self.applied.position).next();
        if self.read_ahead.first().is_some_and(|batch| batch.position == from) {
            return Ok(std::mem::take(&mut self.read_ahead));
        }
        let begun = self.clock.steady();
        let mut is_stalled = false;
        loop {
            match self.log.read(from, READ_BYTES) {
                Err(tidings_log::Error::Unanswered(why)) => {
                    if !is_stalled && self.has_stalled(begun) {
                        is_stalled = true;
                        tracing::warn!(why, "the log does not answer");
                    }
                    if is_stalled && !(self.on_stall)(Some(&why)) {
                        return Err(Fatal::Unanswered(why));
                    }
                }
                read => {
                    if is_stalled {
                        (self.on_stall)(None);
                    }
                    return Ok(read?);
                }
            }
        }
    }

    /// Applies the next batches of the log. Returns how many.
    pub(super) fn catch_up(&mut self) -> Result<usize, Fatal> {
        let batches = self.read()?;
        for batch in &batches {
            self.apply_stored(batch)?;
            self.since_snapshot_bytes += batch.body.len() as u64;
        }
        self.notify_watchers();
        Ok(batches.len())
    }

    /// Applies what other nodes appended before the batch just appended at `position`. Returns the position at which that batch
    /// counts: if the log did not recognise a retry, an earlier copy of the batch comes first, and the first copy is applied,
    /// here as after a restart.
    pub(super) fn catch_up_before(&mut self, position: Position) -> Result<Position, Fatal> {
        loop {
            let from = Position(self.applied.position).next();
            if from > position {
                return Err(Fatal::GivenAgain { position });
            }
            if from == position {
                return Ok(position);
            }
            let mut batches = self.read()?.into_iter();
            while let Some(batch) = batches.next() {
                let same = batch.origin == self.log.origin() && batch.number == self.number;
                if same || batch.position >= position {
                    self.read_ahead = batches.collect();
                    self.notify_watchers();
                    return Ok(batch.position);
                }
                self.apply_stored(&batch)?;
                self.since_snapshot_bytes += batch.body.len() as u64;
            }
        }
    }

    fn notify_watchers(&self) {
        self.slots.iter().for_each(|slot| slot.notify_watchers());
    }

    fn apply_stored(&mut self, batch: &Batch) -> Result<(), Fatal> {
        let position = batch.position;
        let malformed = |why| Fatal::Malformed { position, why };
        self.applied.position = position.0;
        let last = self.applied.origins.entry(batch.origin.0).or_default();
        if batch.number <= *last {
            return Ok(());
        }
        if batch.number > *last + 1 {
            let (origin, missing) = (batch.origin.0, *last + 1);
            return Err(Fatal::Missing { position, origin, missing, number: batch.number });
        }
        *last = batch.number;
        if let Some(sharing) = &mut self.sharing {
            sharing.agreement.record_append(batch.origin.0, position.0);
        }
        let mut bytes = batch.body.as_slice();
        let header = Header::read(&mut bytes).map_err(malformed)?;
        let at = self.applied.at.max(header.at);
        self.applied.at = at;
        for _ in 0..header.entries {
            let machine = entry::machine(&mut bytes).map_err(malformed)?;
            if machine == NODES {
                let notice = decode("a notice", &mut bytes).map_err(malformed)?;
                self.apply_notice(batch.origin.0, notice)?;
                continue;
            }
            let slot = self.slots.iter().find(|slot| slot.id() == machine & !TICK);
            let slot = slot.ok_or(Fatal::UnknownMachine { position, machine: machine & !TICK })?;
            self.applied.entries += 1;
            if machine & TICK == 0 {
                slot.apply_stored(at, self.applied.entries, &mut bytes).map_err(malformed)?;
            } else {
                slot.tick(&mut || (at, self.applied.entries));
                if let Some(sharing) = &mut self.sharing {
                    sharing.others_ticked = at;
                }
            }
        }
        if bytes.is_empty() {
            Ok(())
        } else {
            Err(malformed(Malformed { what: "the end of a batch" }))
        }
    }
}
