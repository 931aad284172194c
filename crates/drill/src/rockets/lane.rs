//! A lane: one sender with one connection. It takes requests from the board, keeps as many under
//! way as it may, reports what came of them, and sends again what was not acknowledged: to the next
//! server, if there are several. That changes nothing that was taken before: messages have numbers.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use super::board::{Board, Request, Work};
use super::options::Options;
use crate::Target;
use crate::http::{Cluster, Connection, Error, Head, Response};
use crate::patience::Alarm;

/// The room that is left for the number in `Content-Length:`, which is written when the body
/// is; spaces before a field's value mean nothing (RFC 9112, section 5).
const LENGTH_DIGITS: usize = 10;

/// Runs a lane until everything is acknowledged.
pub(super) async fn run(number: usize, cluster: Arc<Cluster>, options: Options, board: Arc<Board>) {
    let mut lane = Lane::new(number, &cluster, &options, &board);
    loop {
        match lane.fill() {
            Next::Exchange => {
                if let Err(error) = lane.exchange().await {
                    lane.broken(&error);
                }
            }
            Next::NotBefore(time) => tokio::time::sleep_until(time.into()).await,
            Next::Room(None) => board.has_room().await,
            Next::Room(Some(time)) => {
                // Whichever comes first; what is to be sent again may be what others wait for.
                let waited = tokio::time::timeout_at(time.into(), board.has_room()).await;
                drop(waited);
            }
            Next::Finished => return,
        }
    }
}

/// What a lane does once it has taken what it can.
enum Next {
    /// Send what is new, read what has come.
    Exchange,
    /// Sleep.
    NotBefore(Instant),
    /// Wait for room, until something is to be sent again.
    Room(Option<Instant>),
    Finished,
}

struct Lane<'a> {
    cluster: &'a Cluster,
    /// Which of the servers it sends to.
    at: usize,
    options: &'a Options,
    board: &'a Board,
    alarm: Alarm,
    /// Everything before the length of the body, for this server.
    head: Vec<u8>,
    connection: Option<Connection>,
    /// Requests made and not yet sent.
    out: Vec<u8>,
    /// Requests sent or about to be, in the order of the answers to come.
    in_flight: VecDeque<(Request, Instant)>,
    /// Requests to be sent again, and when, the soonest first.
    again: VecDeque<(Request, Instant)>,
}

impl<'a> Lane<'a> {
    fn new(at: usize, cluster: &'a Cluster, options: &'a Options, board: &'a Board) -> Self {
        Self {
            cluster,
            at,
            options,
            board,
            alarm: Alarm::default(),
            head: head(at, cluster, options),
            connection: None,
            out: Vec::new(),
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
        }
    }

    /// Continues with the next server, if there is one. Requests in progress are sent again.
    fn move_on(&mut self) {
        if self.cluster.len() > 1 {
            self.at += 1;
            self.head = head(self.at, self.cluster, self.options);
            self.connection = None;
        }
    }

    /// Takes work until the bound of requests in progress is reached.
    fn fill(&mut self) -> Next {
        let now = Instant::now();
        while self.in_flight.len() < self.options.pipeline as usize {
            let again = self.again.front().map(|&(_, due)| due);
            if again.is_some_and(|due| due <= now) {
                if let Some((request, _)) = self.again.pop_front() {
                    self.push(request, now);
                }
                continue;
            }
            let idle = match self.board.take(now) {
                Work::Send(request) => {
                    self.push(request, now);
                    continue;
                }
                Work::NotBefore(time) => Next::NotBefore(again.map_or(time, |due| due.min(time))),
                Work::Full => Next::Room(again),
                Work::Finished => again.map_or(Next::Finished, Next::NotBefore),
            };
            if self.in_flight.is_empty() {
                return idle;
            }
            break;
        }
        Next::Exchange
    }

    /// Writes a request behind those that are still to be sent.
    fn push(&mut self, request: Request, now: Instant) {
        self.out.extend_from_slice(&self.head);
        let length_at = self.out.len();
        self.out.extend_from_slice(&[b' '; LENGTH_DIGITS]);
        self.out.extend_from_slice(b"\r\n\r\n");
        let body_at = self.out.len();
        let world = self.board.world();
        let deliveries = world.deliveries().get(request.deliveries.clone());
        for &delivery in deliveries.unwrap_or_default() {
            world.write(delivery, &mut self.out);
            if self.options.bulk > 0 {
                self.out.push(b'\n');
            }
        }
        let length = self.out.len() - body_at;
        if let Some(mut room) = self.out.get_mut(length_at..length_at + LENGTH_DIGITS) {
            // The room is wide enough for the largest bulk.
            write!(room, "{length:>LENGTH_DIGITS$}").unwrap_or_default();
        }
        self.in_flight.push_back((request, now));
    }

    /// Sends what is new and handles at least one answer.
    async fn exchange(&mut self) -> Result<(), Error> {
        let within = self.cluster.answer_within();
        let oldest = self.in_flight.front().map_or_else(Instant::now, |&(_, sent)| sent);
        let due = tokio::time::Instant::from_std(oldest) + within;
        let kept = self.connection.take();
        let target = self.cluster.target(self.at).ok_or(Error::Closed)?;
        let out = &self.out;
        let first = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(target).await?,
            };
            if !out.is_empty() {
                connection.send(out).await?;
            }
            connection.wait().await?;
            Ok(connection)
        };
        let mut connection =
            self.alarm.until(due, first).await.unwrap_or(Err(Error::Late(within)))?;
        self.out.clear();
        let response = connection.receive().await?;
        let now = Instant::now();
        let at = self.at;
        let mut keeps_open = self.answered(&response, now);
        while keeps_open && at == self.at {
            let Some(response) = connection.receive_buffered()? else {
                break;
            };
            keeps_open = self.answered(&response, now);
        }
        if keeps_open && at == self.at && !self.options.connection_per_message {
            self.connection = Some(connection);
        } else {
            // The server announced that it will not answer the other requests, or the drill has left it.
            while let Some((request, _)) = self.in_flight.pop_back() {
                self.again.push_front((request, now));
            }
        }
        Ok(())
    }

    /// Handles the answer to the oldest request in progress. Returns whether more answers may come.
    fn answered(&mut self, response: &Response<'_>, now: Instant) -> bool {
        let Some((request, sent)) = self.in_flight.pop_front() else {
            return false;
        };
        let head = &response.head;
        if head.is_success() {
            self.cluster.succeeded();
            let took = now.saturating_duration_since(sent);
            if self.options.bulk > 0 {
                self.acknowledge_bulk(&request, took, response.body);
            } else {
                self.acknowledge(&request, took, head, response.body);
            }
        } else {
            let status = format!("status {}", head.status());
            self.board.failed(&status, std::slice::from_ref(&request));
            self.again.push_back((request, now + self.options.retry()));
            if head.status() >= 500 {
                self.cluster.failed();
                self.move_on();
            }
        }
        head.keeps_open()
    }

    fn acknowledge(&self, request: &Request, took: std::time::Duration, head: &Head, body: &[u8]) {
        let outcome = head.field("tidings-outcome").unwrap_or_default();
        self.board.acknowledge(request, took, &[], |report| {
            report.count(outcome, 1);
            if head.status() != 202 || !body.is_empty() || outcome.is_empty() {
                report.differences.add(|| {
                    format!(
                        "POST /messages: expected 202, an empty body and Tidings-Outcome, got {}, \
                         {} bytes and {outcome:?}",
                        head.status(),
                        body.len(),
                    )
                });
            }
        });
    }

    fn acknowledge_bulk(&self, request: &Request, took: std::time::Duration, body: &[u8]) {
        let sent = request.deliveries.len() as u64;
        let answer: Bulk = serde_json::from_slice(body).unwrap_or_default();
        let mut bad: Vec<usize> = answer.rejected.iter().map(|item| item.index).collect();
        bad.sort_unstable();
        bad.dedup();
        self.board.acknowledge(request, took, &bad, |report| {
            for (outcome, &count) in &answer.outcomes {
                report.count(outcome, count);
            }
            report.rejected += answer.rejected.len() as u64;
            let counted: u64 = answer.outcomes.values().sum();
            let rejected = answer.rejected.len() as u64;
            if answer.accepted + rejected != sent || counted != answer.accepted {
                report.differences.add(|| {
                    format!(
                        "POST /messages in bulk: {sent} messages sent, {} accepted, {rejected} \
                         rejected, {counted} with an outcome",
                        answer.accepted
                    )
                });
            }
            for item in &answer.rejected {
                report
                    .differences
                    .add(|| format!("POST /messages in bulk: rejected, {}", item.reason));
            }
        });
    }

    /// Marks all requests in progress to be sent again after a pause.
    fn broken(&mut self, error: &Error) {
        let due = Instant::now() + self.options.retry();
        self.connection = None;
        self.out.clear();
        self.cluster.failed();
        self.move_on();
        let requests: Vec<Request> = self.in_flight.drain(..).map(|(request, _)| request).collect();
        let reason = match error {
            Error::Malformed(_) | Error::TooLong { .. } => "an answer that is no HTTP",
            Error::Late(_) => "no answer in time",
            Error::Connection(_) | Error::Closed | Error::Target(_) => "a connection error",
        };
        self.board.failed(reason, &requests);
        self.again.extend(requests.into_iter().map(|request| (request, due)));
    }
}

/// The head of a request, up to the length of its body.
fn head(at: usize, cluster: &Cluster, options: &Options) -> Vec<u8> {
    let kind = if options.bulk > 0 { "application/x-ndjson" } else { "application/json" };
    let close = if options.connection_per_message { "Connection: close\r\n" } else { "" };
    let authority = cluster.target(at).map_or("", Target::authority);
    let head = format!(
        "POST /messages HTTP/1.1\r\nHost: {authority}\r\n{close}Content-Type: {kind}\r\n\
         Content-Length:"
    );
    head.into_bytes()
}

/// The answer to a bulk; what it leaves out counts as nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bulk {
    accepted: u64,
    outcomes: std::collections::BTreeMap<String, u64>,
    rejected: Vec<Rejected>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rejected {
    index: usize,
    reason: String,
}
