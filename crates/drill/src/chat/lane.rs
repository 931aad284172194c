//! A lane: one connection that posts, or takes and acknowledges, a call at a time. It outlives its
//! connection and its server.

use std::io::Write;
use std::sync::Arc;

use super::answer;
use super::board::Board;
use super::judge::{Answer, Handed, Take, Text};
use super::world::Plan;
use crate::Target;
use crate::http::{Connection, Error};
use crate::random::Random;

/// Readers draw from streams that lie behind those of the messages.
const READER_STREAMS: u64 = 1 << 40;
/// How often a user is drained in vain before it is given up.
const DRAIN_TRIES_MAX: u32 = 10;

pub(super) struct Lane {
    number: u32,
    board: Arc<Board>,
    targets: Arc<[Target]>,
    /// The one that it talks to; the next one when that fails.
    at: usize,
    connection: Option<Connection>,
    /// The last call has no answer: wait before the next.
    failed: bool,
    /// The request, and the body of its answer.
    request: Vec<u8>,
    body: Vec<u8>,
}

impl Lane {
    pub(super) fn new(number: u32, targets: &Arc<[Target]>, board: &Arc<Board>) -> Self {
        Self {
            number,
            board: Arc::clone(board),
            targets: Arc::clone(targets),
            at: number as usize,
            connection: None,
            failed: false,
            request: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Posts until all is posted.
    pub(super) async fn write(mut self) {
        while let Some(plan) = self.board.next_post() {
            while self.post(&plan).await {}
        }
    }

    /// Takes, and acknowledges some of what it was lent, until all is posted.
    pub(super) async fn read(mut self) {
        let seed = self.board.options().seed;
        let mut random = Random::at(seed, READER_STREAMS + u64::from(self.number));
        while let Some(take) = self.board.next_take(&mut random) {
            let (user, lent) = (take.user, take.lease.is_some());
            let Answer::Done(handed) = self.take(take).await else { continue };
            for handed in handed.iter().filter(|_| lent) {
                if random.chance(self.board.options().acknowledged) {
                    self.acknowledge(user, handed).await;
                }
            }
        }
    }

    /// Takes everything that is left, until no user is left.
    pub(super) async fn drain(mut self) {
        while let Some(user) = self.board.next_drain() {
            let mut tries_left = DRAIN_TRIES_MAX;
            while tries_left > 0 {
                match self.take(Take { user, ..Take::default() }).await {
                    Answer::Done(handed) if handed.is_empty() => break,
                    Answer::Done(_) => {}
                    Answer::Missing => tries_left -= 1,
                    Answer::Refused(_) => {
                        tries_left -= 1;
                        tokio::time::sleep(self.board.options().retry()).await;
                    }
                }
            }
        }
    }

    /// Whether it is to be posted again.
    async fn post(&mut self, plan: &Plan) -> bool {
        self.connect().await;
        self.request.clear();
        let target = self.targets.get(self.at % self.targets.len());
        let authority = target.map_or("", Target::authority);
        self.board.world().write_post(plan, authority, &mut self.request);
        let begun = self.board.begin_post(self.number, plan);
        let reply = self.exchange().await;
        let reply = reply.as_ref().map(|&status| (status, self.body.as_slice()));
        let again = self.board.end_post(begun, plan, reply);
        self.failed |= again;
        self.pause().await;
        again
    }

    async fn take(&mut self, take: Take) -> Answer<Vec<Handed>> {
        self.connect().await;
        let query = take.query();
        self.ask("GET", take.user, &query);
        let begun = self.board.begin_take(self.number, take);
        let reply = self.exchange().await;
        let reply = reply.as_ref().map(|&status| (status, self.body.as_slice()));
        let answer = self.board.end_take(begun, reply);
        self.pause().await;
        answer
    }

    async fn acknowledge(&mut self, user: u32, handed: &Handed) {
        let Text::Whole(message) = handed.text else { return };
        self.connect().await;
        self.ask("DELETE", user, &format!("/{}", answer::shown(handed.id)));
        let begun = self.board.begin_acknowledge(self.number, message);
        let reply = self.exchange().await;
        let reply = reply.as_ref().map(|&status| (status, self.body.as_slice()));
        self.board.end_acknowledge(begun, reply);
        self.pause().await;
    }

    /// Writes a request without a body about a user's messages.
    fn ask(&mut self, method: &str, user: u32, rest: &str) {
        let target = self.targets.get(self.at % self.targets.len());
        let authority = target.map_or("", Target::authority);
        let path = self.board.world().path(user);
        self.request.clear();
        // Writing to a vector cannot fail.
        write!(self.request, "{method} /chat/{path}{rest} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
            .unwrap_or_default();
    }

    /// Sees to it that there is a connection, for as long as it takes: a call begins with one.
    async fn connect(&mut self) {
        while self.connection.is_none() {
            let Some(target) = self.targets.get(self.at % self.targets.len()) else { return };
            self.connection = Connection::open(target).await.ok();
            self.failed = self.connection.is_none();
            self.pause().await;
        }
    }

    /// Sends the request and reads the answer: the status, and the body in its place.
    async fn exchange(&mut self) -> Result<u16, Error> {
        let answered = self.try_exchange().await;
        self.failed = answered.is_err();
        answered
    }

    async fn try_exchange(&mut self) -> Result<u16, Error> {
        let Some(mut connection) = self.connection.take() else { return Err(Error::Closed) };
        connection.send(&self.request).await?;
        let response = connection.receive().await?;
        self.body.clear();
        self.body.extend_from_slice(response.body);
        let (status, keeps_open) = (response.head.status(), response.head.keeps_open());
        self.connection = Some(connection).filter(|_| keeps_open);
        Ok(status)
    }

    /// After a failure, waits a while and goes to the next server.
    async fn pause(&mut self) {
        if std::mem::take(&mut self.failed) {
            self.at += 1;
            self.connection = None;
            tokio::time::sleep(self.board.options().retry()).await;
        }
    }
}
