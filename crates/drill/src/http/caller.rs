//! One connection that makes calls of a drill, one at a time, and outlives its connection and its
//! server: after a failure it goes on with the next server.

use std::sync::Arc;
use std::time::Duration;

use super::{Connection, Error, Target};

/// Makes one call at a time. A call without an answer is told as such and not made again: whether it
/// was done is not known.
pub(crate) struct Caller {
    targets: Arc<[Target]>,
    /// The one that it talks to; the next one when that fails.
    at: usize,
    connection: Option<Connection>,
    /// The last call has no answer: wait before the next.
    failed: bool,
    /// How long.
    retry: Duration,
    /// The body of the last answer.
    body: Vec<u8>,
    /// Where its next page is, if it said so.
    next_page: Option<String>,
}

impl Caller {
    /// The `number`th of those that are spread over the servers.
    pub(crate) fn new(number: usize, targets: &Arc<[Target]>, retry: Duration) -> Self {
        Self {
            targets: Arc::clone(targets),
            at: number,
            connection: None,
            failed: false,
            retry,
            body: Vec::new(),
            next_page: None,
        }
    }

    /// What goes into the `Host` field of the next call.
    pub(crate) fn authority(&self) -> &str {
        self.targets.get(self.at % self.targets.len()).map_or("", Target::authority)
    }

    /// Sees to it that there is a connection, for as long as it takes: a call begins with one.
    pub(crate) async fn connect(&mut self) {
        while self.connection.is_none() {
            let Some(target) = self.targets.get(self.at % self.targets.len()) else { return };
            self.connection = Connection::open(target).await.ok();
            self.failed = self.connection.is_none();
            self.pause().await;
        }
    }

    /// Sends a request and reads the answer: the status, and the body to be read by
    /// [`Caller::body`].
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<u16, Error> {
        let answered = self.try_exchange(request).await;
        self.failed = answered.is_err();
        answered
    }

    async fn try_exchange(&mut self, request: &[u8]) -> Result<u16, Error> {
        let Some(mut connection) = self.connection.take() else { return Err(Error::Closed) };
        connection.send(request).await?;
        let response = connection.receive().await?;
        self.body.clear();
        self.body.extend_from_slice(response.body);
        self.next_page = response.head.next_page().map(str::to_owned);
        let (status, keeps_open) = (response.head.status(), response.head.keeps_open());
        self.connection = Some(connection).filter(|_| keeps_open);
        Ok(status)
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Where the last answer says that the next page is.
    pub(crate) fn next_page(&self) -> Option<&str> {
        self.next_page.as_deref()
    }

    /// The last answer was none to be content with.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    /// After a failure, waits a while and goes to the next server.
    pub(crate) async fn pause(&mut self) {
        if std::mem::take(&mut self.failed) {
            self.at += 1;
            self.connection = None;
            tokio::time::sleep(self.retry).await;
        }
    }
}
