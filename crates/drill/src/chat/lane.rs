//! A lane: one connection that posts, or takes and acknowledges, a call at a time. It outlives its
//! connection and its server.

use std::io::Write;
use std::sync::Arc;

use super::answer;
use super::board::Board;
use super::judge::{Answer, Handed, Take, Text};
use super::world::Plan;
use crate::http::{Caller, Cluster, STRONG};
use crate::random::Random;

/// Readers draw from streams that lie behind those of the messages.
const READER_STREAMS: u64 = 1 << 40;
/// How often the draining of a user is refused before it is given up.
const DRAIN_TRIES_MAX: u32 = 10;

pub(super) struct Lane {
    number: u32,
    board: Arc<Board>,
    caller: Caller,
    request: Vec<u8>,
    /// The last take was answered, but not in the form that an answer must have.
    formless: bool,
}

impl Lane {
    pub(super) fn new(number: u32, cluster: &Arc<Cluster>, board: &Arc<Board>) -> Self {
        Self {
            number,
            board: Arc::clone(board),
            caller: Caller::new(number as usize, cluster),
            request: Vec::new(),
            formless: false,
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
                    Answer::Missing if self.formless => tries_left -= 1,
                    Answer::Done(handed) if handed.is_empty() => break,
                    // There may be more; or another server may know. How long none does is for the
                    // whole drill to say.
                    Answer::Done(_) | Answer::Missing | Answer::Late | Answer::Refused(500..) => {}
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
        self.caller.connect().await;
        self.request.clear();
        let authority = self.caller.authority();
        self.board.world().write_post(plan, authority, &mut self.request);
        let begun = self.board.begin_post(self.number, plan);
        let reply = self.caller.exchange(&self.request).await;
        let reply = reply.as_ref().map(|&status| (status, self.caller.body()));
        let again = self.board.end_post(begun, plan, reply);
        self.caller.pause().await;
        again
    }

    async fn take(&mut self, take: Take) -> Answer<Vec<Handed>> {
        self.caller.connect().await;
        let query = take.query();
        // A take is strong by itself, because it changes something; a look is not.
        let fields = if take.peek { STRONG } else { "" };
        let wait = take.wait.unwrap_or_default();
        self.ask("GET", take.user, &query, fields);
        let begun = self.board.begin_take(self.number, take);
        let reply = self.caller.exchange_for(&self.request, wait).await;
        let reply = reply.as_ref().map(|&status| (status, self.caller.body()));
        let answered = reply.is_ok_and(|(status, _)| status < 500);
        let answer = self.board.end_take(begun, reply);
        self.formless = answered && matches!(answer, Answer::Missing);
        self.caller.pause().await;
        answer
    }

    async fn acknowledge(&mut self, user: u32, handed: &Handed) {
        let Text::Whole(message) = handed.text else { return };
        self.caller.connect().await;
        self.ask("DELETE", user, &format!("/{}", answer::shown(handed.id)), "");
        let begun = self.board.begin_acknowledge(self.number, message);
        let reply = self.caller.exchange(&self.request).await;
        let reply = reply.as_ref().map(|&status| (status, self.caller.body()));
        self.board.end_acknowledge(begun, reply);
        self.caller.pause().await;
    }

    /// Writes a request without a body about a user's messages.
    fn ask(&mut self, method: &str, user: u32, rest: &str, fields: &str) {
        let authority = self.caller.authority();
        let path = self.board.world().path(user);
        self.request.clear();
        // Writing to a vector cannot fail.
        write!(
            self.request,
            "{method} /chat/{path}{rest} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n"
        )
        .unwrap_or_default();
    }
}
