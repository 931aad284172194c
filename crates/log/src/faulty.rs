//! A log that fails on purpose, by a plan. The same plan gives the same failures.

use crate::{AppendError, Batch, Bounds, Error, Log, Origin, Position, Snapshot};

/// What goes wrong in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no room. Nothing is written.
    Full,
    /// The outcome is unknown; the batch was written. (For a snapshot chunk: as [`Fault::UnknownLost`].)
    UnknownWritten,
    /// The outcome is unknown; the batch was not written. (For a snapshot chunk: [`Error::Store`]. For a
    /// read, whose only fault this can be: [`Error::Unanswered`].)
    UnknownLost,
    /// The log breaks. This call and every later one report it.
    Broken,
}

/// The calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Log::append`] of this number.
    Append {
        /// The number of the batch.
        number: u64,
    },
    /// [`Log::write_snapshot`] of this chunk.
    WriteSnapshot {
        /// The position that the snapshot covers.
        position: Position,
        /// The number of the chunk.
        chunk: u32,
    },
    /// [`Log::read`] starting at this position.
    Read {
        /// The first requested batch.
        from: Position,
    },
}

/// A log that wraps another one and fails its appends, reads and snapshots when `plan` says so.
///
/// ```
/// use tidings_log::faulty::{Fault, Faulty};
/// use tidings_log::{AppendError, Log, Memory};
///
/// let store = Memory::default();
/// let mut log = Faulty::scripted(store.reopen(), [Some(Fault::UnknownWritten), None]);
/// assert!(matches!(log.append(1, b"one"), Err(AppendError::Unknown(_))));
/// assert!(log.append(1, b"one").is_ok(), "the retry finds the batch");
/// assert_eq!(store.last_number(), 1);
/// ```
pub struct Faulty<L> {
    inner: L,
    /// Decides before each call which fault it suffers, if any.
    plan: Box<dyn FnMut(Call) -> Option<Fault> + Send>,
    /// A broken log stays broken until `inner` is opened again.
    broken: bool,
}

impl<L: Log> Faulty<L> {
    /// Wraps `inner`. `plan` is asked before each call which fault the call suffers.
    pub fn new(inner: L, plan: impl FnMut(Call) -> Option<Fault> + Send + 'static) -> Self {
        Self { inner, plan: Box::new(plan), broken: false }
    }

    /// Takes the faults from a list, one item for each append or snapshot chunk. After the end of the list
    /// nothing fails; reads never fail.
    pub fn scripted<I>(inner: L, faults: I) -> Self
    where
        I: IntoIterator<Item = Option<Fault>>,
        I::IntoIter: Send + 'static,
    {
        let mut faults = faults.into_iter();
        Self::new(inner, move |call| match call {
            Call::Append { .. } | Call::WriteSnapshot { .. } => faults.next().flatten(),
            Call::Read { .. } => None,
        })
    }

    /// Returns the inner log, which a restart without failures would find.
    pub fn into_inner(self) -> L {
        self.inner
    }

    fn ensure_usable(&self) -> Result<(), Error> {
        if self.broken { Err(Error::Store(BROKEN.to_owned())) } else { Ok(()) }
    }

    fn break_now(&mut self) -> Error {
        self.broken = true;
        Error::Store(BROKEN.to_owned())
    }
}

const BROKEN: &str = "the log is broken: the plan asked for it";
const PLANNED: &str = "the plan asked for it";

impl<L: Log> Log for Faulty<L> {
    fn origin(&self) -> Origin {
        self.inner.origin()
    }

    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.ensure_usable()?;
        self.inner.bounds()
    }

    fn last_number(&self) -> u64 {
        self.inner.last_number()
    }

    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        if self.broken {
            return Err(AppendError::Broken(PLANNED.to_owned()));
        }
        match (self.plan)(Call::Append { number }) {
            None => self.inner.append(number, body),
            Some(Fault::Full) => Err(AppendError::Full(PLANNED.to_owned())),
            Some(Fault::UnknownLost) => Err(AppendError::Unknown(PLANNED.to_owned())),
            Some(Fault::UnknownWritten) => {
                self.inner.append(number, body)?;
                Err(AppendError::Unknown(PLANNED.to_owned()))
            }
            Some(Fault::Broken) => {
                self.broken = true;
                Err(AppendError::Broken(PLANNED.to_owned()))
            }
        }
    }

    fn filled_percent(&mut self) -> u8 {
        self.inner.filled_percent()
    }

    fn batch_bytes(&self) -> usize {
        self.inner.batch_bytes()
    }

    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        self.ensure_usable()?;
        match (self.plan)(Call::Read { from }) {
            None => self.inner.read(from, bytes_max),
            Some(Fault::Broken) => Err(self.break_now()),
            Some(_) => Err(Error::Unanswered(PLANNED.to_owned())),
        }
    }

    fn write_snapshot(
        &mut self,
        position: Position,
        chunk: u32,
        body: &[u8],
        last: bool,
    ) -> Result<(), Error> {
        self.ensure_usable()?;
        match (self.plan)(Call::WriteSnapshot { position, chunk }) {
            None => self.inner.write_snapshot(position, chunk, body, last),
            Some(Fault::Full) => Err(Error::Full(PLANNED.to_owned())),
            Some(Fault::UnknownWritten | Fault::UnknownLost) => {
                Err(Error::Store(PLANNED.to_owned()))
            }
            Some(Fault::Broken) => Err(self.break_now()),
        }
    }

    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        self.ensure_usable()?;
        self.inner.read_snapshot()
    }

    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.ensure_usable()?;
        self.inner.truncate(before)
    }

    fn check(&mut self) -> Result<(), Error> {
        self.ensure_usable()?;
        self.inner.check()
    }

    fn history(&self) -> u64 {
        self.inner.history()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn on_news(&mut self, notify: Box<dyn Fn() + Send + Sync>) {
        self.inner.on_news(notify);
    }

    fn share_snapshot(&mut self) -> Result<(), Error> {
        self.ensure_usable()?;
        self.inner.share_snapshot()
    }

    fn forget_snapshots(&mut self) -> Result<(), Error> {
        self.ensure_usable()?;
        self.inner.forget_snapshots()
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faulty};
    use crate::{AppendError, Error, Log, Memory, Position};

    #[test]
    fn a_full_log_accepts_the_same_append_later() {
        let mut log = Faulty::scripted(Memory::default(), [Some(Fault::Full)]);
        assert!(matches!(log.append(1, b"one"), Err(AppendError::Full(_))));
        assert_eq!(log.last_number(), 0);
        assert_eq!(log.append(1, b"one").unwrap(), Position(1));
    }

    #[test]
    fn a_broken_log_stays_broken_and_a_restart_finds_its_contents() {
        let store = Memory::default();
        let mut log = Faulty::scripted(store.reopen(), [None, Some(Fault::Broken)]);
        log.append(1, b"one").unwrap();
        for _ in 0..2 {
            assert!(matches!(log.append(2, b"two"), Err(AppendError::Broken(_))));
        }
        assert!(log.check().is_err() && log.read(Position(1), 1).is_err());
        assert_eq!(store.reopen().last_number(), 1);
    }

    #[test]
    fn a_snapshot_without_room_leaves_the_previous_one() {
        let faults = [None, None, Some(Fault::Full)];
        let mut log = Faulty::scripted(Memory::default(), faults);
        log.append(1, b"one").unwrap();
        log.write_snapshot(Position(0), 0, b"old", true).unwrap();
        let answer = log.write_snapshot(Position(1), 0, b"new", true);
        assert!(matches!(answer, Err(Error::Full(_))));
        assert_eq!(log.read_snapshot().unwrap().unwrap().body, b"old");
    }
}
