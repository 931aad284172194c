//! One turn of the load: writes what the sockets accept, reads what has arrived, and waits if neither made progress.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::client::{Arrival, Role};
use super::super::source::Source;
use super::{Halt, LEAVE_TENTHS, Load, RETURN_TENTHS};

/// Events are generated until this many bytes wait to be written.
const WINDOW_BYTES: usize = 128 << 10;
/// Writes before the clients are looked at again.
const WRITES_PER_TURN: usize = 4;
/// No more events are generated while the clients have yet to receive this many bytes.
const BEHIND_BYTES_MAX: usize = 128 << 20;
/// How long the source is waited for before the clients are looked at again.
const SOURCE_WAIT: Duration = Duration::from_millis(1);
/// How long clients are waited for before the clock is looked at again.
const CLIENTS_WAIT: Duration = Duration::from_millis(5);
/// How often a client that reads slowly reads, and how much.
const SLUGGISH_EVERY: Duration = Duration::from_millis(10);
const SLUGGISH_READ_BYTES: usize = 1 << 10;
/// After so many returns, clients leave and return when everything so far has been received: what
/// they get twice or miss is then known to the line.
const LULL_FROM: usize = 1;

impl Load {
    /// Writes if there is a source, and reads what has come.
    pub(super) fn turn(&mut self, source: Option<&mut Source>) -> Result<(), Halt> {
        let now = Instant::now();
        self.look_at_clock(now)?;
        let mut wait = CLIENTS_WAIT;
        if let Some(source) = source {
            if !source.writable {
                source.wait(SOURCE_WAIT).map_err(Halt::System)?;
            }
            // As long as something waits to be written, clients are not waited for.
            if self.write(source)? || !source.writable {
                wait = Duration::ZERO;
            }
        }
        self.read_clients(wait)?;
        self.read_sluggish(now);
        Ok(())
    }

    /// Limits, and pauses that are over.
    fn look_at_clock(&mut self, now: Instant) -> Result<(), Halt> {
        if self.dropped.load(Ordering::Relaxed) {
            return Err(Halt::Dropped);
        }
        if now >= self.deadline {
            return Err(Halt::OutOfTime);
        }
        if let Some(until) = self.paused {
            self.moved = now;
            if now >= until {
                self.paused = None;
                for (client, queue) in self.clients.iter_mut().zip(&self.expected) {
                    client.is_due(queue);
                }
            }
        }
        if now.saturating_duration_since(self.moved) >= self.options.stall() {
            return Err(Halt::Stalled);
        }
        Ok(())
    }

    /// Makes events and writes them while they are taken, for a while. Whether there is more.
    fn write(&mut self, source: &mut Source) -> Result<bool, Halt> {
        for _ in 0..WRITES_PER_TURN {
            if !source.writable {
                return Ok(true);
            }
            if self.sent.is_empty() && !self.make()? {
                return Ok(false);
            }
            let written = source.write(&mut self.sent).map_err(Halt::SourceClosed)?;
            if written > 0 {
                self.report.sent_bytes += written as u64;
                self.probe.written(self.report.sent_bytes);
                self.moved = Instant::now();
            }
        }
        Ok(true)
    }

    /// Makes the next events, unless there are none, or the clients are too far behind.
    fn make(&mut self) -> Result<bool, Halt> {
        let mut made = self.made();
        if made >= self.next_point() {
            // At first they leave and return while much is under way, later in a lull (which a gap
            // would spoil).
            let lull = self.returned >= LULL_FROM && self.options.gaps == 0.0;
            if lull && self.owing() > 0 {
                return Ok(false);
            }
            self.come_or_go().map_err(Halt::NoClient)?;
        }
        if self.paused.is_some() || self.world.is_done() || self.behind() > BEHIND_BYTES_MAX {
            return Ok(false);
        }
        let (point, mut last) = (self.next_point(), None);
        while self.sent.len() < WINDOW_BYTES && made < point && !self.world.is_done() {
            last = self.world.make_batch(&mut self.sent, &mut self.expected).or(last);
            made = self.made();
        }
        for (client, queue) in self.clients.iter_mut().zip(&mut self.expected) {
            client.seal(queue);
        }
        let heard = last.map(|index| (index, self.clients.get(index), self.expected.get(index)));
        if let Some((index, Some(client), Some(queue))) = heard {
            let position = client.position() + queue.len() as u64;
            let written = self.report.sent_bytes + self.sent.len() as u64;
            self.probe.set(index, position, written);
        }
        self.progress.set_done(made);
        Ok(true)
    }

    /// Numbers used so far, over all sources.
    fn made(&self) -> u64 {
        let counts = self.counts();
        counts.events + counts.gaps
    }

    /// How many bytes the clients must still receive.
    fn behind(&self) -> usize {
        let clients = self.clients.iter().zip(&self.expected);
        clients.map(|(client, queue)| client.behind(queue)).sum()
    }

    /// After how many events somebody leaves or returns next.
    fn next_point(&self) -> u64 {
        let tenths = if self.left == self.returned {
            LEAVE_TENTHS.get(self.left)
        } else {
            RETURN_TENTHS.get(self.returned)
        };
        match tenths {
            Some(tenths) if self.options.returning > 0 => self.options.events * tenths / 10,
            _ => u64::MAX,
        }
    }

    /// Lets the returning clients disconnect or reconnect.
    fn come_or_go(&mut self) -> io::Result<()> {
        let comes = self.left > self.returned;
        for index in 0..self.clients.len() {
            let Some((client, queue)) =
                self.clients.get_mut(index).zip(self.expected.get_mut(index))
            else {
                break;
            };
            if client.role() != Role::Returning {
                continue;
            }
            if comes {
                self.connect_client(index)?;
            } else {
                drop(client.leave(queue));
            }
        }
        if comes {
            self.returned += 1;
            self.paused = Some(Instant::now() + self.options.settle());
        } else {
            self.left += 1;
        }
        Ok(())
    }

    /// Reads every client that has something, once.
    fn read_clients(&mut self, wait: Duration) -> Result<(), Halt> {
        let wait = if self.ready.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Halt::System(error)),
        }
        for event in &self.events {
            let index = event.token().0;
            if let Some(client) = self.clients.get_mut(index) {
                client.ending |= event.is_read_closed() || event.is_error();
                if !client.readable {
                    client.readable = true;
                    self.ready.push(index);
                }
            }
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|&index| self.read_client(index, usize::MAX));
        self.ready = ready;
        Ok(())
    }

    /// Reads a client once. Whether there may be more.
    pub(super) fn read_client(&mut self, index: usize, bytes_max: usize) -> bool {
        let Some((client, queue)) = self.clients.get_mut(index).zip(self.expected.get_mut(index))
        else {
            return false;
        };
        let len = self.buffer.len().min(bytes_max);
        let buffer = self.buffer.get_mut(..len).unwrap_or_default();
        let more = match client.read(buffer) {
            Arrival::Bytes(count) => {
                let got = buffer.get(..count).unwrap_or_default();
                let now = Instant::now();
                if let Some(difference) = client.take(queue, got) {
                    self.report.differences.add(|| difference);
                }
                self.probe.received(index, client.position(), now);
                self.report.received_bytes += count as u64;
                (self.moved, self.received) = (now, now);
                count == len || client.ending
            }
            Arrival::Interrupted => true,
            Arrival::Nothing => false,
            Arrival::Closed => {
                if let Some(difference) = client.close(self.over) {
                    self.report.differences.add(|| difference);
                }
                self.report.cut_off +=
                    u64::from(matches!(client.role(), Role::Silent | Role::Sluggish));
                false
            }
        };
        client.readable = more;
        more
    }

    /// Reads a little from the slow clients.
    fn read_sluggish(&mut self, now: Instant) {
        if self.options.slow < 2
            || now.saturating_duration_since(self.sluggish_read) < SLUGGISH_EVERY
        {
            return;
        }
        self.sluggish_read = now;
        for index in 0..self.options.slow as usize {
            if self.clients.get(index).is_some_and(|client| client.role() == Role::Sluggish) {
                self.read_client(index, SLUGGISH_READ_BYTES);
            }
        }
    }
}
