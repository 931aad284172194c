//! One connection that makes calls of a drill, one at a time, and outlives its connection and its
//! server: after a failure it continues with the next server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, Connection, Error, Target};
use crate::patience::Alarm;

/// Makes one call at a time. A call without an answer is reported as such and not repeated: it may or may not have
/// taken effect, and only the user of this type knows whether it can be repeated.
pub(crate) struct Caller {
    cluster: Arc<Cluster>,
    /// The server that it talks to; the next one when that fails.
    at: usize,
    connection: Option<Connection>,
    alarm: Alarm,
    /// The last call has no answer, or one that says to come again: wait before the next.
    failed: bool,
    /// The body of the last answer.
    body: Vec<u8>,
    /// Where its next page is, if it said so.
    next_page: Option<String>,
}

impl Caller {
    /// The `number`th of those that are spread over the servers.
    pub(crate) fn new(number: usize, cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            at: number,
            connection: None,
            alarm: Alarm::default(),
            failed: false,
            body: Vec::new(),
            next_page: None,
        }
    }

    /// What goes into the `Host` field of the next call.
    pub(crate) fn authority(&self) -> &str {
        self.cluster.target(self.at).map_or("", Target::authority)
    }

    /// Sees to it that there is a connection, for as long as it takes: a call begins with one.
    pub(crate) async fn connect(&mut self) {
        while self.connection.is_none() {
            let Some(target) = self.cluster.target(self.at) else { return };
            let due = Instant::now() + self.cluster.answer_within();
            let opened = self.alarm.until(due, Connection::open(target)).await;
            self.connection = opened.and_then(Result::ok);
            if self.connection.is_none() {
                self.fail();
            }
            self.pause().await;
        }
    }

    /// Sends a request and reads the answer: the status, and the body to be read by
    /// [`Caller::body`]. After 5xx it continues with the next server.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<u16, Error> {
        self.exchange_for(request, Duration::ZERO).await
    }

    /// The same with a request that the server may answer so much later.
    pub(crate) async fn exchange_for(
        &mut self,
        request: &[u8],
        longer: Duration,
    ) -> Result<u16, Error> {
        let within = self.cluster.answer_within() + longer;
        let due = Instant::now() + within;
        let Self { connection, alarm, body, next_page, .. } = self;
        let answered = alarm.until(due, try_exchange(connection, body, next_page, request)).await;
        let answered = answered.unwrap_or(Err(Error::Late(within)));
        if answered.as_ref().is_ok_and(|&status| status < 500) {
            self.cluster.succeeded();
        } else {
            self.fail();
        }
        answered
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Where the last answer says that the next page is.
    pub(crate) fn next_page(&self) -> Option<&str> {
        self.next_page.as_deref()
    }

    /// The last call has no answer to be content with.
    pub(crate) fn fail(&mut self) {
        self.cluster.failed();
        self.failed = true;
    }

    /// After a failure, waits a while and goes to the next server.
    pub(crate) async fn pause(&mut self) {
        if std::mem::take(&mut self.failed) {
            self.at += 1;
            self.connection = None;
            tokio::time::sleep(self.cluster.retry()).await;
        }
    }
}

/// Sends a request and reads the answer into `body` and `next_page`. The connection is kept if it can
/// be used again.
async fn try_exchange(
    kept: &mut Option<Connection>,
    body: &mut Vec<u8>,
    next_page: &mut Option<String>,
    request: &[u8],
) -> Result<u16, Error> {
    let Some(mut connection) = kept.take() else { return Err(Error::Closed) };
    connection.send(request).await?;
    let response = connection.receive().await?;
    body.clear();
    body.extend_from_slice(response.body);
    *next_page = response.head.next_page().map(str::to_owned);
    let (status, keeps_open) = (response.head.status(), response.head.keeps_open());
    *kept = Some(connection).filter(|_| keeps_open);
    Ok(status)
}
