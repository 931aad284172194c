//! Sends the calls of the world, receives the reports, and breaks the connection as the options say.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

mod settle;
mod takeover;

use super::Options;
use super::judge::Judge;
use super::report::Report;
use super::wire::{self, Connection, Heard};
use super::world::World;
use crate::http::Cluster;
use crate::progress::Progress;
use settle::{Settled, Shown};
use takeover::Replaced;

/// Frames are put together to writes of this size.
const WRITE_BYTES: usize = 64 << 10;
/// So much may be on its way before the server has answered a ping behind it.
const UNANSWERED_BYTES_MAX: usize = 1 << 20;
/// Nothing is sent so long before the end of a window, or less in short windows ...
const BEFORE_END: Duration = Duration::from_millis(150);
/// ... and so long after.
const AFTER_END: Duration = Duration::from_millis(20);
/// What was counted so long before the end of a window, by the clock of the drill, is in it.
const CLEAR: Duration = Duration::from_millis(40);
/// How long a stall is.
const STALL: Duration = Duration::from_millis(300);
/// How long nothing more may come.
const QUIET: Duration = Duration::from_millis(200);
/// The failure if a server connects while another is connected.
const SECOND: &str = "another has connected while it was there";
/// With a rate, so often a little is sent.
const TURN: Duration = Duration::from_millis(10);

/// The kinds of incident that happen at a given number of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mischief {
    Drop,
    Close,
    Stall,
    Update(u32),
}

/// The state of a running load.
pub(super) struct Load {
    options: Options,
    listener: TcpListener,
    /// To be asked over HTTP, if any.
    servers: Arc<Cluster>,
    /// `None` where they cannot be asked.
    shown: Option<Shown>,
    connection: Option<Connection>,
    /// Has come while the one above was there.
    arrived: Option<TcpStream>,
    replaced: Vec<Replaced>,
    world: World,
    settled: Settled,
    judge: Judge,
    /// Frames that are not written yet.
    out: Vec<u8>,
    /// The frame that is put together, for its room.
    payload: Vec<u8>,
    /// Calls made, those of updates left out.
    made: u64,
    /// What was written since the last answer to a ping.
    unanswered: usize,
    pings: u64,
    /// The number of the window that is being sent, and how many there were whose ends were not clear.
    window: u64,
    joined: u32,
    /// The incidents to come, the next one last.
    mischief: Vec<(u64, Mischief)>,
    /// Reports that have come, and breaks of the connection (`None`), in their order: judged when it is
    /// known what must be in them.
    heard: VecDeque<Option<Vec<u8>>>,
    pub(super) report: Report,
    progress: Progress,
}

/// The current time, which decides the window of a call, in milliseconds.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Load {
    /// Of `servers` that show so many communications before anything was sent, if they show that.
    pub(super) fn new(
        options: &Options,
        listener: TcpListener,
        servers: &Arc<Cluster>,
        shown: Option<u64>,
        progress: Progress,
    ) -> Self {
        let world = World::new(options);
        let judge = Judge::new(&world.parents);
        let mut mischief = Vec::new();
        let kinds = [
            (options.drops, Mischief::Drop),
            (options.closes, Mischief::Close),
            (options.stalls, Mischief::Stall),
        ];
        for (count, kind) in kinds {
            let places = (1..=u64::from(count))
                .map(|at| (at * options.communications / u64::from(count + 1), kind));
            mischief.extend(places);
        }
        let updates = options.updates;
        mischief.extend((0..updates).map(|number| {
            let at = u64::from(number + 1) * options.communications / u64::from(updates + 1);
            (at, Mischief::Update(number))
        }));
        mischief.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            options: options.clone(),
            listener,
            servers: Arc::clone(servers),
            shown: shown.map(|communications| Shown { communications, calls: 0 }),
            connection: None,
            arrived: None,
            replaced: Vec::new(),
            world,
            settled: Settled::default(),
            judge,
            out: Vec::new(),
            payload: Vec::new(),
            made: 0,
            unanswered: 0,
            pings: 0,
            window: 0,
            joined: 0,
            mischief,
            heard: VecDeque::new(),
            report: Report::default(),
            progress,
        }
    }

    /// Ends the judgement. Called once.
    pub(super) fn finish(&mut self) {
        self.look_at_replaced();
        self.judge.close();
        self.report.reports = self.judge.reports;
        self.report.again = self.judge.again;
        self.report.differences = std::mem::take(&mut self.judge.differences);
    }

    /// Sends everything, and waits for all reports.
    pub(super) async fn run(&mut self) -> Result<(), String> {
        self.connect().await?;
        let mut turn = tokio::time::interval(TURN);
        let begun = Instant::now();
        self.window = now_ms() / self.options.window_ms;
        while self.made < self.options.communications {
            if let Err(why) = self.send(&mut turn, begun).await {
                self.ride_out(why).await?;
            }
            self.progress.set_done(self.made);
        }
        let busy = Instant::now();
        while let Err(why) = self.answered().await {
            self.ride_out(why).await?;
        }
        self.report.busy += busy.elapsed();
        while let Err(why) = self.settle().await {
            self.ride_out(why).await?;
        }
        self.joined += u32::from(!self.is_clear());
        self.seal();
        while let Err(why) = self.wait_for_reports().await {
            self.ride_out(why).await?;
        }
        Ok(())
    }

    /// Makes a piece of what is to be sent, and sends it.
    async fn send(
        &mut self,
        turn: &mut tokio::time::Interval,
        begun: Instant,
    ) -> Result<(), String> {
        self.wait_for_clear().await?;
        let busy = Instant::now();
        while let Some((_, mischief)) = self.mischief.pop_if(|(at, _)| *at <= self.made) {
            self.make(mischief).await?;
        }
        let due = match self.options.rate {
            0 => u64::MAX,
            rate => {
                turn.tick().await;
                let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                (ms.saturating_mul(rate) / 1000 + 1).saturating_sub(self.made)
            }
        };
        let mut left = due.min(self.options.communications - self.made);
        while left > 0 && self.out.len() < WRITE_BYTES {
            let count = u64::from(self.options.array).min(left);
            self.calls(count);
            left -= count;
        }
        self.write().await?;
        self.report.busy += busy.elapsed();
        Ok(())
    }

    /// Puts a frame of calls together.
    fn calls(&mut self, count: u64) {
        let mut payload = std::mem::take(&mut self.payload);
        self.put_calls(count, &mut payload);
        self.payload = payload;
    }

    fn put_calls(&mut self, count: u64, payload: &mut Vec<u8>) {
        if self.world.chance(self.options.malformed) {
            let wrong = self.world.malformed();
            wire::put(&mut self.out, wire::TEXT, wrong);
            self.report.malformed += 1;
        }
        payload.clear();
        if self.options.array == 1 {
            self.world.call(payload);
        } else {
            payload.push(b'[');
            for at in 0..count {
                if at > 0 {
                    payload.push(b',');
                }
                self.world.call(payload);
            }
            payload.push(b']');
        }
        self.report.calls += count;
        self.made += count;
        self.report.frames += 1;
        if !self.world.chance(self.options.fragmented) {
            wire::put(&mut self.out, wire::TEXT, payload);
            return;
        }
        self.report.fragmented += 1;
        let (one, rest) = payload.split_at(payload.len() / 3);
        let (two, three) = rest.split_at(rest.len() / 2);
        wire::put_part(&mut self.out, wire::TEXT, false, one);
        wire::put(&mut self.out, wire::PING, b"between");
        wire::put_part(&mut self.out, wire::CONTINUED, false, two);
        wire::put_part(&mut self.out, wire::CONTINUED, true, three);
    }

    async fn make(&mut self, mischief: Mischief) -> Result<(), String> {
        match mischief {
            Mischief::Update(number) => {
                let (frames, calls) = self.world.update(number);
                frames.iter().for_each(|frame| wire::put(&mut self.out, wire::TEXT, frame));
                self.report.frames += frames.len() as u64;
                self.report.calls += calls;
                self.write().await
            }
            Mischief::Stall => {
                self.settle().await?;
                self.pause(STALL).await;
                // Another window may have begun.
                self.wait_for_clear().await
            }
            Mischief::Drop => {
                // What the server has not taken would be lost.
                self.answered().await?;
                self.break_connection(false).await
            }
            Mischief::Close => {
                self.answered().await?;
                self.break_connection(true).await
            }
        }
    }

    async fn break_connection(&mut self, with_handshake: bool) -> Result<(), String> {
        if with_handshake {
            wire::put(&mut self.out, wire::CLOSE, &1001u16.to_be_bytes());
            self.write().await?;
        }
        self.listen();
        self.connection = None;
        self.heard.push_back(None);
        self.report.broken += 1;
        self.connect().await?;
        self.wait_for_clear().await
    }

    /// Waits for the client and sends it the topology.
    async fn connect(&mut self) -> Result<(), String> {
        let wait = Duration::from_secs(self.options.connect_wait);
        let stream = if let Some(arrived) = self.arrived.take() {
            arrived
        } else {
            let accepted = tokio::time::timeout(wait, self.listener.accept()).await;
            let accepted =
                accepted.map_err(|_| format!("nobody connected within {} s", wait.as_secs()))?;
            accepted.map_err(|why| format!("cannot accept: {why}"))?.0
        };
        let connection = tokio::time::timeout(wait, wire::accept(stream)).await;
        let connection = connection.map_err(|_| "the client did not ask for a WebSocket")?;
        self.connection = Some(connection.map_err(|why| format!("no handshake: {why}"))?);
        let mut topology = Vec::new();
        self.world.topology(&mut topology);
        wire::put(&mut self.out, wire::TEXT, &topology);
        self.report.frames += 1;
        self.write().await
    }

    /// Near the end of a window waits for the next one.
    async fn wait_for_clear(&mut self) -> Result<(), String> {
        let window = self.options.window();
        let before = BEFORE_END.min(window / 4);
        let into = Duration::from_millis(now_ms() % self.options.window_ms);
        if into < AFTER_END {
            self.pause(AFTER_END.saturating_sub(into)).await;
        } else if into >= window.saturating_sub(before) {
            self.settle().await?;
            let into = Duration::from_millis(now_ms() % self.options.window_ms);
            // Where that took longer, the next window has begun already.
            if into >= window.saturating_sub(before) {
                self.pause(window.saturating_sub(into) + AFTER_END).await;
            }
        }
        self.turn_window();
        Ok(())
    }

    /// If another window has begun: what was sent before must be reported. Without a clear end, some of
    /// it may be counted in this one.
    fn turn_window(&mut self) {
        let window = now_ms() / self.options.window_ms;
        let clear = self.is_clear();
        let passed = u32::try_from(window - self.window).unwrap_or(u32::MAX);
        self.window = window;
        if passed > 0 && !clear {
            self.report.unclear += 1;
            self.joined += passed;
        }
        if passed > 0 && (clear || self.judge.sums_up()) {
            self.seal();
        }
        if self.joined == 0 {
            self.look_at_reports();
        }
    }

    fn look_at_reports(&mut self) {
        for heard in self.heard.drain(..) {
            match heard {
                Some(text) => self.judge.report(&text),
                None => self.judge.broke(),
            }
        }
    }

    fn seal(&mut self) {
        let counts = std::mem::take(&mut self.world.window);
        self.settled.window.clear();
        if !counts.is_empty() {
            self.judge.expect(counts, self.joined + 1);
        }
        self.joined = 0;
    }

    /// Nothing is sent for a while; what comes is looked at.
    async fn pause(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while let Ok(heard) = tokio::time::timeout_at(until, self.next()).await {
            if self.hear(heard).is_err() {
                // It is found when something is sent.
                tokio::time::sleep_until(until).await;
                return;
            }
        }
    }

    async fn next(&mut self) -> Option<Heard> {
        let connection = self.connection.as_mut()?;
        tokio::select! {
            biased;
            heard = connection.heard.recv() => heard,
            Ok((stream, _)) = self.listener.accept(), if self.arrived.is_none() => {
                self.arrived = Some(stream);
                Some(Heard::Gone(SECOND.to_owned()))
            }
        }
    }

    /// Deals with what the client said. Returns whether that was an answer to a ping.
    fn hear(&mut self, heard: Option<Heard>) -> Result<bool, String> {
        match heard {
            Some(Heard::Text(text)) => self.heard.push_back(Some(text)),
            Some(Heard::Ping(payload)) => wire::put(&mut self.out, wire::PONG, &payload),
            Some(Heard::Pong(payload)) => return Ok(payload == self.pings.to_be_bytes()),
            Some(Heard::Gone(why)) => return Err(format!("the client has gone: {why}")),
            None => return Err("the client has gone".to_owned()),
        }
        Ok(false)
    }

    /// Looks at what has come.
    fn listen(&mut self) {
        while let Some(Ok(heard)) =
            self.connection.as_mut().map(|connection| connection.heard.try_recv())
        {
            if self.hear(Some(heard)).is_err() {
                return;
            }
        }
    }

    /// Writes what is put together. From time to time waits until the server has taken it.
    async fn write(&mut self) -> Result<(), String> {
        self.listen();
        self.look_at_replaced();
        if self.arrived.is_some() {
            return Err(format!("the client has gone: {SECOND}"));
        }
        let bytes = self.out.len();
        self.write_out().await?;
        self.report.bytes += bytes as u64;
        self.unanswered += bytes;
        if self.unanswered > UNANSWERED_BYTES_MAX { self.answered().await } else { Ok(()) }
    }

    async fn write_out(&mut self) -> Result<(), String> {
        let Some(connection) = &mut self.connection else { return Err("no connection".to_owned()) };
        let within = self.options.silence_max();
        let taken = tokio::time::timeout(within, connection.write.write_all(&self.out));
        let written = tokio::select! {
            biased;
            written = taken => written,
            Ok((stream, _)) = self.listener.accept(), if self.arrived.is_none() => {
                self.arrived = Some(stream);
                return Err(format!("the client has gone: {SECOND}"));
            }
        };
        self.out.clear();
        let written = written.map_err(|_| format!("nothing was taken for {within:?}"))?;
        written.map_err(|why| format!("the client has gone: {why}"))
    }

    /// Waits until the server has taken everything.
    async fn answered(&mut self) -> Result<(), String> {
        if self.arrived.is_some() {
            return Err(format!("the client has gone: {SECOND}"));
        }
        let within = self.options.silence_max();
        self.pings += 1;
        let number = self.pings.to_be_bytes();
        wire::put(&mut self.out, wire::PING, &number);
        self.write_out().await?;
        let answer = async {
            loop {
                let heard = self.next().await;
                if self.hear(heard)? {
                    return Ok(());
                }
            }
        };
        let answered = tokio::time::timeout(within, answer).await;
        self.unanswered = 0;
        answered.unwrap_or_else(|_| Err("a ping was not answered".to_owned()))
    }

    /// Waits until everything is reported, and a little longer.
    async fn wait_for_reports(&mut self) -> Result<(), String> {
        let wait = self.options.window() + self.options.silence_max();
        let deadline = tokio::time::Instant::now() + wait;
        self.look_at_reports();
        while self.judge.is_owed() {
            let Ok(heard) = tokio::time::timeout_at(deadline, self.next()).await else {
                return Ok(());
            };
            self.hear(heard)?;
            self.look_at_reports();
        }
        // A call that is in no known window may be reported in any.
        let more = if self.judge.sums_up() { self.options.window() } else { Duration::ZERO };
        self.pause(more + QUIET).await;
        self.look_at_reports();
        self.look_at_replaced();
        Ok(())
    }
}
