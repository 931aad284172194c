//! The comfortable way to ask: one question at a time, and again until it is answered, because a
//! drill outlives the server that it watches being killed.

use std::time::Duration;

use super::{Connection, Error, Target, head};

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
    target: Target,
    connection: Option<Connection>,
    /// How long to wait before asking again.
    retry: Duration,
}

impl Client {
    /// A client that connects with the first question.
    pub fn new(target: Target, retry: Duration) -> Self {
        Self { target, connection: None, retry }
    }

    /// The answer to `GET path`. Asks again after a while if the connection breaks, cannot be
    /// made, or the answer is 5xx: for ever, so give it a time limit.
    pub async fn get(&mut self, path: &str) -> Answer {
        loop {
            match self.try_get(path).await {
                Ok(answer) if answer.status < 500 => return answer,
                Ok(_) | Err(_) => tokio::time::sleep(self.retry).await,
            }
        }
    }

    /// The answer to `GET path`, or why there is none. A kept connection that turns out to be
    /// closed is made again once.
    ///
    /// # Errors
    ///
    /// As [`Connection::open`] and [`Connection::receive`].
    pub async fn try_get(&mut self, path: &str) -> Result<Answer, Error> {
        let kept = self.connection.is_some();
        match self.ask(path).await {
            Err(Error::Connection(_) | Error::Closed) if kept => self.ask(path).await,
            answered => answered,
        }
    }

    async fn ask(&mut self, path: &str) -> Result<Answer, Error> {
        let authority = self.target.authority();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\n\r\n");
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.target).await?,
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
