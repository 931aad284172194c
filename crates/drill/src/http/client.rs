//! The comfortable way to ask: one question at a time, and again until it is answered, because a
//! drill outlives the server that it watches being killed.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Connection, Error, Target, head};
use crate::patience::Patience;

/// Asks for an answer that shows what any of several servers has acknowledged.
pub(crate) const STRONG: &str = "Tidings-Consistency: strong\r\n";

/// An answer on its own.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The value of the `Link` field, if there is one.
    pub link: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The address of the next page, if there is one.
    pub fn next_page(&self) -> Option<&str> {
        head::next_page(self.link.as_deref()?)
    }
}

/// Asks one question at a time over a connection that is kept, and made again when it breaks.
#[derive(Debug)]
pub struct Client {
    cluster: Arc<Cluster>,
    /// Which of the servers it asks.
    at: usize,
    connection: Option<Connection>,
    /// Headers that are sent with each request.
    fields: &'static str,
}

impl Client {
    /// A client that connects with the first question.
    pub fn new(target: Target, retry: Duration) -> Self {
        Self::at(0, &Cluster::new(&[target], retry, Patience::default()))
    }

    /// A client of one of several servers.
    pub(crate) fn at(at: usize, cluster: &Arc<Cluster>) -> Self {
        Self { cluster: Arc::clone(cluster), at, connection: None, fields: "" }
    }

    /// The same that asks for what any server has acknowledged.
    #[must_use]
    pub fn strong(self) -> Self {
        Self { fields: STRONG, ..self }
    }

    /// What it asks.
    pub(crate) fn authority(&self) -> &str {
        self.cluster.target(self.at).map_or("", Target::authority)
    }

    /// The answer to `GET path`. Asks again after a while if the connection breaks, cannot be
    /// made, or the answer is 5xx. It retries without a limit: add a timeout.
    pub async fn get(&mut self, path: &str) -> Answer {
        loop {
            match self.try_get(path).await {
                Ok(answer) if answer.status < 500 => return answer,
                Ok(_) | Err(_) => tokio::time::sleep(self.cluster.retry()).await,
            }
        }
    }

    /// The answer to `GET path`, or why there is none in time. A kept connection that turns out to be
    /// closed is made again once.
    ///
    /// # Errors
    ///
    /// As [`Connection::open`] and [`Connection::receive`].
    pub async fn try_get(&mut self, path: &str) -> Result<Answer, Error> {
        let kept = self.connection.is_some();
        let answered = match self.ask_in_time(path).await {
            Err(Error::Connection(_) | Error::Closed) if kept => self.ask_in_time(path).await,
            answered => answered,
        };
        if answered.as_ref().is_ok_and(|answer| answer.status < 500) {
            self.cluster.succeeded();
        } else {
            self.cluster.failed();
        }
        answered
    }

    async fn ask_in_time(&mut self, path: &str) -> Result<Answer, Error> {
        let within = self.cluster.answer_within();
        let answered = tokio::time::timeout(within, self.ask(path)).await;
        answered.unwrap_or(Err(Error::Late(within)))
    }

    async fn ask(&mut self, path: &str) -> Result<Answer, Error> {
        let (authority, fields) = (self.authority(), self.fields);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\n{fields}\r\n");
        let mut connection = if let Some(kept) = self.connection.take() {
            kept
        } else {
            let target = self.cluster.target(self.at);
            Connection::open(target.ok_or(Error::Closed)?).await?
        };
        connection.send(request.as_bytes()).await?;
        let response = connection.receive().await?;
        let keeps_open = response.head.keeps_open();
        let answer = Answer {
            status: response.head.status(),
            link: response.head.field("link").map(str::to_owned),
            body: response.body.to_vec(),
        };
        if keeps_open {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::Answer;

    #[test]
    fn the_next_page_is_found_among_other_links() {
        let answer = |link: &str| Answer { status: 200, link: Some(link.into()), body: vec![] };
        let both = answer("</rockets>; rel=\"first\", </rockets?cursor=a%2C>; rel=\"next\"");
        assert_eq!(both.next_page(), Some("/rockets?cursor=a%2C"));
        assert_eq!(answer("</rockets>; rel=\"prev\"").next_page(), None);
    }
}
