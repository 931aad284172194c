//! Reads request bodies: never more than the limit, never longer than the deadline.

use std::fmt::Display;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};

use super::Problem;

/// A body, a piece at a time.
pub(crate) struct Pieces<B> {
    body: B,
    /// What the whole of it may take.
    bytes_max: usize,
    taken: usize,
    /// When the whole of it must be there; set when it was first waited for.
    deadline: Option<tokio::time::Instant>,
    timeout: Duration,
    /// What the sender says it takes.
    declared: Option<usize>,
}

/// A body as hyper reads it, boxed by axum or not.
pub(crate) trait MessageBody:
    Body<Data = Bytes, Error: Display + Send> + Unpin + Send
{
}

impl<B: Body<Data = Bytes, Error: Display + Send> + Unpin + Send> MessageBody for B {}

impl<B: MessageBody> Pieces<B> {
    /// # Errors
    /// 413 when the sender says it is larger than allowed: nothing is read then.
    pub(crate) fn new(
        headers: &HeaderMap,
        body: B,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Self, Problem> {
        let declared = headers.get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.parse().ok());
        let pieces = Self { body, bytes_max, taken: 0, deadline: None, timeout, declared };
        pieces.check(declared.unwrap_or(0))?;
        Ok(pieces)
    }

    /// From here on another limit holds.
    ///
    /// # Errors
    /// 413 when it is broken already.
    pub(crate) fn limit(&mut self, bytes_max: usize) -> Result<(), Problem> {
        self.bytes_max = bytes_max;
        self.check(self.taken.max(self.declared.unwrap_or(0)))
    }

    /// What the sender says it takes, or the limit.
    pub(crate) fn declared_or_max(&self) -> usize {
        self.declared.unwrap_or(self.bytes_max).min(self.bytes_max)
    }

    fn check(&self, bytes: usize) -> Result<(), Problem> {
        if bytes <= self.bytes_max {
            return Ok(());
        }
        let detail = format!("the body is larger than the {} bytes allowed", self.bytes_max);
        Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
    }

    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// 413 over the limit, 408 after the deadline, 400 when the sender breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let Some(frame) = self.frame().await? else {
                return Ok(None);
            };
            let frame =
                frame.map_err(|why| Problem::bad_request(format!("the body breaks off: {why}")))?;
            // A frame that is not data holds trailers, which are ignored.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.taken += data.len();
            self.check(self.taken)?;
            return Ok(Some(data));
        }
    }

    /// Waits for a frame. One that has already arrived costs no timer.
    async fn frame(&mut self) -> Result<Option<Result<Frame<Bytes>, B::Error>>, Problem> {
        let ready = {
            let mut frame = std::pin::pin!(self.body.frame());
            std::future::poll_fn(|context| std::task::Poll::Ready(frame.as_mut().poll(context)))
                .await
        };
        if let std::task::Poll::Ready(frame) = ready {
            return Ok(frame);
        }
        let timeout = self.timeout;
        let deadline = *self.deadline.get_or_insert_with(|| tokio::time::Instant::now() + timeout);
        let frame = tokio::time::timeout_at(deadline, self.body.frame()).await;
        frame.map_err(|_| {
            let detail = format!("the body did not come within {timeout:?}");
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })
    }

    /// All that is left, behind `first`. A body that came in one piece is not copied.
    ///
    /// # Errors
    /// As [`Pieces::next`].
    pub(crate) async fn rest(mut self, first: Bytes) -> Result<Bytes, Problem> {
        let Some(second) = self.next().await? else {
            return Ok(first);
        };
        let expected = self.declared.unwrap_or(0).min(self.bytes_max);
        let mut all = BytesMut::with_capacity(expected.max(first.len() + second.len()));
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}
