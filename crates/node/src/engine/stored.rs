//! What an engine does with what is in the log: its own of earlier lives, and what others append.

use std::time::Instant;

use tidings_core::machine::{Malformed, decode};
use tidings_log::{Batch, Position};

use super::{Engine, Fatal, PROGRESS_EVERY, Progress, READ_BYTES, STALLED_AFTER};
use crate::entry::{self, Header, NODES, TICK};

impl Engine {
    pub(super) fn replay(&mut self, progress: &mut impl FnMut(Progress)) -> Result<(), Fatal> {
        let first = self.applied.position;
        let entries_before = self.applied.entries;
        let total = self.log.bounds()?.next.0.saturating_sub(first + 1);
        let started = Instant::now();
        let mut told = started;
        loop {
            let read = self.catch_up()?;
            self.stats.replayed = self.applied.entries - entries_before;
            if read == 0 {
                return Ok(());
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                progress(Progress {
                    done: self.applied.position - first,
                    total,
                    entries: self.stats.replayed,
                    elapsed: started.elapsed(),
                });
            }
        }
    }

    /// Whether the log still has what comes next, as far as is known without asking.
    ///
    /// # Errors
    /// [`tidings_log::Error::Truncated`] when others have truncated it.
    pub(super) fn reaches_back(&mut self) -> Result<(), Fatal> {
        let asked = Position(self.applied.position).next();
        let first = self.log.bounds()?.first;
        let is_here = self.read_ahead.first().is_some_and(|batch| batch.position == asked);
        if first <= asked || is_here {
            return Ok(());
        }
        Err(tidings_log::Error::Truncated { asked, first }.into())
    }

    /// The next batches of the log. Asks until they come.
    pub(super) fn read(&mut self) -> Result<Vec<Batch>, Fatal> {
        let from = Position(self.applied.position).next();
        if self.read_ahead.first().is_some_and(|batch| batch.position == from) {
            return Ok(std::mem::take(&mut self.read_ahead));
        }
        let (begun, mut told) = (Instant::now(), false);
        loop {
            match self.log.read(from, READ_BYTES) {
                Err(tidings_log::Error::Unanswered(why)) => {
                    if !told && begun.elapsed() >= STALLED_AFTER {
                        told = true;
                        tracing::warn!(why, "the log does not answer");
                    }
                    if told && !(self.on_stall)(Some(&why)) {
                        return Err(Fatal::Unanswered(why));
                    }
                }
                read => {
                    if told {
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
        self.tell_watchers();
        Ok(batches.len())
    }

    /// Applies what others have appended before the batch just appended at `position`. Returns
    /// where that batch counts: a retry that the log did not recognise stands behind a first copy,
    /// and the first is the one that is applied, here as after a restart.
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
                    self.tell_watchers();
                    return Ok(batch.position);
                }
                self.apply_stored(&batch)?;
                self.since_snapshot_bytes += batch.body.len() as u64;
            }
        }
    }

    fn tell_watchers(&self) {
        self.slots.iter().for_each(|slot| slot.tell_watchers());
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
        self.heard(batch.origin.0, position);
        let mut bytes = batch.body.as_slice();
        let header = Header::read(&mut bytes).map_err(malformed)?;
        let at = self.applied.at.max(header.at);
        self.applied.at = at;
        for _ in 0..header.entries {
            let machine = entry::machine(&mut bytes).map_err(malformed)?;
            if machine == NODES {
                let notice = decode("a notice", &mut bytes).map_err(malformed)?;
                self.heed(batch.origin.0, notice)?;
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
