//! The head of an answer, and the memory of heads: a server says the same few heads over and over
//! (only the date moves, once a second), and the same bytes mean the same.

use std::sync::Arc;

use super::Error;

/// The most fields that a head may have.
const FIELDS_MAX: usize = 64;
/// How many heads are remembered: more than a server has kinds of answers to one request.
const SEEN_MAX: usize = 8;

/// Status and fields of an answer.
#[derive(Debug)]
pub struct Head {
    status: u16,
    /// The fields as they came; few, so a list.
    fields: Vec<(String, String)>,
    framing: Framing,
    keeps_open: bool,
    /// The bytes that it was parsed from, with the empty line.
    raw: Vec<u8>,
}

/// The address of the next page in a `Link` field.
pub(super) fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let mut parameters = parameters.split(';').map(str::trim);
        parameters.any(|p| p == "rel=\"next\"" || p == "rel=next").then_some(address)
    })
}

/// How the end of the body is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The value of the first field of this name, in any case. `O(fields)`.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The address of the next page, if there is one: `Link: <address>; rel="next"` (RFC 8288).
    pub fn next_page(&self) -> Option<&str> {
        next_page(self.field("link")?)
    }

    /// Whether the server will take another request on this connection.
    pub fn keeps_open(&self) -> bool {
        self.keeps_open
    }

    /// An answer before the answer (100 Continue), to be skipped.
    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// How long it is, with the empty line.
    pub(super) fn bytes(&self) -> usize {
        self.raw.len()
    }

    /// Parses the head at the start of `bytes`, if all of it is there.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(Error::Malformed(error.to_string())),
        };
        let mut head = Self {
            status: parsed.code.unwrap_or(0),
            fields: Vec::with_capacity(parsed.headers.len()),
            framing: Framing::UntilClose,
            keeps_open: parsed.version == Some(1),
            raw: bytes.get(..length).unwrap_or_default().to_vec(),
        };
        for field in parsed.headers.iter() {
            let value = String::from_utf8_lossy(field.value).into_owned();
            head.fields.push((field.name.to_owned(), value));
        }
        head.framing = head.find_framing()?;
        if let Some(connection) = head.field("connection") {
            let mut options = connection.split(',').map(str::trim);
            head.keeps_open &= !options.any(|option| option.eq_ignore_ascii_case("close"));
        }
        head.keeps_open &= head.framing != Framing::UntilClose;
        Ok(Some(head))
    }

    fn find_framing(&self) -> Result<Framing, Error> {
        if matches!(self.status, 100..200 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        if let Some(coding) = self.field("transfer-encoding") {
            return if coding.eq_ignore_ascii_case("chunked") {
                Ok(Framing::Chunked)
            } else {
                Err(Error::Malformed(format!("the transfer coding {coding:?}")))
            };
        }
        match self.field("content-length") {
            None => Ok(Framing::UntilClose),
            Some(length) => match length.parse() {
                Ok(length) => Ok(Framing::Length(length)),
                Err(_) => Err(Error::Malformed(format!("the content length {length:?}"))),
            },
        }
    }
}

/// Heads that were parsed before, the oldest overwritten first.
#[derive(Debug, Default)]
pub(super) struct Seen {
    heads: Vec<Arc<Head>>,
    oldest: usize,
}

impl Seen {
    /// The head at the start of `bytes`, if all of it is there.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<Option<Arc<Head>>, Error> {
        // A remembered head includes its empty line, so a prefix that is equal is the whole head.
        if let Some(head) = self.heads.iter().find(|head| bytes.starts_with(&head.raw)) {
            return Ok(Some(Arc::clone(head)));
        }
        let Some(head) = Head::parse(bytes)?.map(Arc::new) else {
            return Ok(None);
        };
        if self.heads.len() < SEEN_MAX {
            self.heads.push(Arc::clone(&head));
        } else if let Some(oldest) = self.heads.get_mut(self.oldest) {
            *oldest = Arc::clone(&head);
            self.oldest = (self.oldest + 1) % SEEN_MAX;
        }
        Ok(Some(head))
    }
}
