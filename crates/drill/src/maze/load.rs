//! The load: one thread that makes the events, writes them, reads every client and compares, in
//! turns. What is under way is bounded: when the clients are too far behind, no more events are
//! made until they have caught up.

mod turn;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::Targets;
use super::client::{Client, Cuts, Role};
use super::options::Options;
use super::probe::Probe;
use super::queue::Queue;
use super::source::Source;
use super::world::{Counts, World};
use crate::error::Error;
use crate::progress::Progress;
use crate::verdict::{Differences, Latency, grouped};

/// What one read takes at most.
const READ_BYTES: usize = 256 << 10;
/// What is read at most of the clients that had read nothing until the end, or little.
const REST_BYTES_MAX: u64 = 256 << 20;
/// How long they are waited for: their windows open only now, and the server's system looks again
/// only after it has waited twice as long as before.
const REST_WAIT: Duration = Duration::from_secs(8);
/// When clients leave and return, in tenths of the stream.
const LEAVE_TENTHS: [u64; 3] = [2, 4, 6];
const RETURN_TENTHS: [u64; 3] = [3, 5, 7];

/// Why the load ended before its time.
#[derive(Debug)]
enum Halt {
    /// Nobody waits for it any more.
    Dropped,
    OutOfTime,
    /// Nothing moved for `--stall-ms`.
    Stalled,
    /// The server has closed the source.
    SourceClosed(io::Error),
    /// A source after the first could not connect.
    NoSource(io::Error),
    /// A client could not connect again.
    NoClient(io::Error),
    /// Waiting for connections failed.
    System(io::Error),
}

/// What the load found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) counts: Counts,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    /// From the first byte written to the last one received.
    pub(super) elapsed: Duration,
    /// Processor time of the drill meanwhile.
    pub(super) cpu: Duration,
    pub(super) latency: Latency,
    pub(super) complete: usize,
    pub(super) cut_off: u64,
    /// Clients whose server died.
    pub(super) cut: u64,
    pub(super) differences: Differences,
    pub(super) failures: Vec<String>,
}

/// The state of a running load.
pub(super) struct Load {
    options: Options,
    targets: Targets,
    /// Which user each client is.
    claimed: Vec<u32>,
    world: World,
    /// Made and not written yet.
    sent: Queue,
    clients: Vec<Client>,
    /// What each client must still receive.
    expected: Vec<Queue>,
    poll: Poll,
    events: Events,
    /// Clients that may have something to be read.
    ready: Vec<usize>,
    buffer: Vec<u8>,
    probe: Probe,
    /// Events of the sources before this one.
    counts_before: Counts,
    /// How often clients have left, and how often returned.
    left: usize,
    returned: usize,
    /// Until then the clients that returned get time to be registered.
    paused: Option<Instant>,
    sluggish_read: Instant,
    started: Instant,
    /// When something was written or read last, and when read.
    moved: Instant,
    received: Instant,
    deadline: Instant,
    /// Everything was received and the source is closed.
    over: bool,
    report: Report,
    progress: Progress,
    dropped: Arc<AtomicBool>,
}

impl Load {
    /// Connects all clients.
    pub(super) fn connect(
        options: Options,
        targets: &Targets,
        progress: Progress,
        dropped: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let claimed = World::claimed(&options);
        let world = World::new(&options, &claimed, 0);
        let (slow, returning) = (options.slow as usize, options.returning as usize);
        let cuts = if options.cuts_allowed { Cuts::Allowed } else { Cuts::Forbidden };
        let clients = claimed.iter().enumerate().map(|(index, &user)| {
            let role = match index {
                _ if index >= slow + returning => Role::Exact,
                _ if index >= slow => Role::Returning,
                _ if index % 2 == 1 => Role::Sluggish,
                _ => Role::Silent,
            };
            Client::new(index, world.name(user), role, cuts)
        });
        let clients: Vec<Client> = clients.collect();
        let now = Instant::now();
        let mut load = Self {
            expected: clients.iter().map(|_| Queue::default()).collect(),
            targets: targets.clone(),
            deadline: now + Duration::from_secs(options.common.timeout),
            poll: Poll::new().map_err(Error::System)?,
            events: Events::with_capacity(1_024),
            buffer: vec![0; READ_BYTES],
            sent: Queue::default(),
            ready: Vec::new(),
            probe: Probe::default(),
            counts_before: Counts::default(),
            left: 0,
            returned: 0,
            paused: None,
            sluggish_read: now,
            started: now,
            moved: now,
            received: now,
            over: false,
            report: Report::default(),
            options,
            claimed,
            world,
            clients,
            progress,
            dropped,
        };
        for client in 0..load.clients.len() {
            let address = load.address(client, 0).ok_or(Error::NoTarget)?;
            let what = "user clients";
            let connected = load.connect_client(client);
            connected.map_err(|error| Error::Connect { what, address, error })?;
        }
        Ok(load)
    }

    /// Sends all events, from the first source to the last, receives all notifications, and returns the report.
    pub(super) fn run(mut self) -> Report {
        let cpu = cpu();
        let mut ended = Ok(());
        for number in 0..=self.options.dying_sources {
            ended = self.run_source(number);
            if ended.is_err() {
                break;
            }
        }
        let ended_at = if ended.is_ok() { self.received } else { Instant::now() };
        self.report.elapsed = ended_at.saturating_duration_since(self.started);
        self.report.cpu = self::cpu().saturating_sub(cpu);
        if let Err(halt) = ended {
            self.tell(&halt);
        }
        self.end();
        self.report
    }

    /// One source from its connection to its end.
    fn run_source(&mut self, number: u32) -> Result<(), Halt> {
        let last = number == self.options.dying_sources;
        if number > 0 {
            self.counts_before = self.counts();
            self.world = World::new(&self.options, &self.claimed, number);
        }
        let chunk = match self.options.chunk {
            0 => usize::MAX,
            bytes => bytes as usize,
        };
        let address = self.targets.source;
        let mut source = Source::connect(address, chunk).map_err(Halt::NoSource)?;
        self.moved = Instant::now();
        if number == 0 {
            (self.started, self.received) = (self.moved, self.moved);
        }
        while !(self.world.is_done() && self.sent.is_empty()) {
            self.turn(Some(&mut source))?;
        }
        // Everything must come while the source is still there, unless a gap holds it up.
        if last && self.options.gaps == 0.0 {
            match self.receive_all() {
                Err(Halt::Stalled) => self.report.failures.push(format!(
                    "{} clients were not complete {} ms after the last event, while the source \
                     was open",
                    self.owing(),
                    self.options.stall_ms
                )),
                ended => ended?,
            }
            self.quiet()?;
        }
        source.close();
        self.moved = Instant::now();
        self.receive_all()?;
        self.over = last;
        for (client, queue) in self.clients.iter_mut().zip(&mut self.expected) {
            if let Some(difference) = client.end_source(queue) {
                self.report.differences.add(|| difference);
            }
        }
        if last { self.quiet() } else { Ok(()) }
    }

    /// Reads until nobody is owed anything.
    fn receive_all(&mut self) -> Result<(), Halt> {
        while self.paused.is_some() || self.owing() > 0 {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Reads for a while in which nothing more may come: what does differs.
    fn quiet(&mut self) -> Result<(), Halt> {
        let until = Instant::now() + self.options.quiet();
        let received = self.received;
        while Instant::now() < until {
            self.moved = Instant::now();
            self.turn(None)?;
        }
        // What comes now has been judged; the time it took does not count.
        self.received = received;
        Ok(())
    }

    /// How many clients are owed something.
    fn owing(&self) -> usize {
        let clients = self.clients.iter().zip(&self.expected);
        clients.filter(|(client, queue)| client.owes(queue)).count()
    }

    /// All that was made so far, over all sources.
    fn counts(&self) -> Counts {
        self.counts_before + self.world.counts
    }

    /// Returns the address to which a client connects, after this number of failed attempts.
    fn address(&self, index: usize, failed: usize) -> Option<SocketAddr> {
        let addresses = &self.targets.clients;
        addresses.get((index + failed) % addresses.len().max(1)).copied()
    }

    /// Connects a client, at first or again: where servers may die, to the first that is there.
    fn connect_client(&mut self, index: usize) -> io::Result<()> {
        let tries = if self.options.cuts_allowed { self.targets.clients.len() } else { 1 };
        let mut connected = Ok(());
        for failed in 0..tries {
            connected = match self.address(index, failed) {
                Some(address) => self.connect_to(index, address),
                None => Ok(()),
            };
            if connected.is_ok() {
                break;
            }
        }
        connected
    }

    fn connect_to(&mut self, index: usize, address: SocketAddr) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let reads_at_once = matches!(client.role(), Role::Exact | Role::Returning);
        let stream = client.connect(address)?;
        if reads_at_once {
            self.poll.registry().register(stream, Token(index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// What the clients had that read late or never, and what is owed to others.
    fn end(&mut self) {
        self.read_rest();
        for (client, queue) in self.clients.iter_mut().zip(&mut self.expected) {
            if let Some(difference) = client.end_source(queue) {
                self.report.differences.add(|| difference);
            }
            self.report.complete += usize::from(client.is_complete());
            self.report.cut += u64::from(client.is_cut());
        }
        self.report.counts = self.counts();
        self.report.latency = std::mem::take(&mut self.probe.latency);
        self.progress.set_done(self.options.events);
    }

    /// Reads what the slow clients have left, until each was closed or has everything.
    fn read_rest(&mut self) {
        let mut slow: Vec<usize> = (0..self.options.slow as usize).collect();
        slow.iter().filter_map(|&index| self.clients.get(index)).for_each(Client::take_large);
        let mut heard = Instant::now();
        let mut rest_bytes = REST_BYTES_MAX;
        while rest_bytes > 0 && !slow.is_empty() && heard.elapsed() < REST_WAIT {
            let before = self.report.received_bytes;
            slow.retain(|&index| {
                self.read_client(index, READ_BYTES);
                let client = self.clients.get(index).zip(self.expected.get(index));
                client.is_some_and(|(client, queue)| client.has_rest(queue))
            });
            match self.report.received_bytes - before {
                0 => std::thread::sleep(Duration::from_millis(1)),
                bytes => {
                    rest_bytes = rest_bytes.saturating_sub(bytes);
                    heard = Instant::now();
                }
            }
        }
    }

    /// Says why it ended before its time.
    fn tell(&mut self, halt: &Halt) {
        let counts = self.counts();
        let made = grouped(counts.events + counts.gaps);
        let events = grouped(self.options.events);
        let owing = self.owing();
        let failure = match halt {
            Halt::Dropped => "nobody waits for it any more".to_owned(),
            Halt::OutOfTime => format!(
                "out of time after {} s with {made} of {events} events made and {owing} clients \
                 not complete",
                self.options.common.timeout
            ),
            Halt::Stalled => format!(
                "nothing moved for {} ms with {made} of {events} events made, {} bytes of them not \
                 written, and {owing} clients not complete",
                self.options.stall_ms,
                grouped(self.sent.len() as u64)
            ),
            Halt::NoSource(error) => format!("the event source could not connect: {error}"),
            Halt::SourceClosed(error) => {
                format!("the server closed the event source at event {made} of {events}: {error}")
            }
            Halt::NoClient(error) => format!("a client could not return: {error}"),
            Halt::System(error) => format!("the system refused to go on: {error}"),
        };
        self.report.failures.push(failure);
    }
}

/// The processor time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
