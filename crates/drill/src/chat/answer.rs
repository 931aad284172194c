//! What the answers say: statuses, ids, messages.

use std::borrow::Cow;

use serde::Deserialize;

use super::judge::{Answer, Handed};
use super::world::World;
use crate::http::Error;

/// What came back on the wire.
pub(super) type Reply<'a> = Result<(u16, &'a [u8]), &'a Error>;

/// An answer, or why it has not the form that it must have.
pub(super) type Read<T> = Result<Answer<T>, String>;

#[derive(Deserialize)]
struct Posted<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// The answer to a post. A repeated post with the same key may be answered as one that created nothing.
pub(super) fn posted(reply: Reply<'_>, keyed: bool) -> Read<u128> {
    read(
        reply,
        |status| status == 201 || keyed && status == 200,
        |body| {
            let posted: Posted = serde_json::from_slice(body).map_err(|error| error.to_string())?;
            uuid(&posted.id)
        },
    )
}

/// The answer to a take.
pub(super) fn taken(reply: Reply<'_>, world: &World) -> Read<Vec<Handed>> {
    read(
        reply,
        |status| status == 200,
        |body| {
            let items: Vec<Item> =
                serde_json::from_slice(body).map_err(|error| error.to_string())?;
            let handed =
                |item: Item| Ok(Handed { id: uuid(&item.id)?, text: world.identify(&item.text) });
            items.into_iter().map(handed).collect()
        },
    )
}

/// The answer to an acknowledgement.
pub(super) fn acknowledged(reply: Reply<'_>) -> Read<()> {
    read(reply, |status| status == 204, |_| Ok(()))
}

/// A problem document, as far as it says whether something was changed.
#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Whether a 503 says that the call may have been done.
fn is_unknown(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|Problem { kind }| {
        ["urn:tidings:problem:unknown", "urn:tidings:problem:failed"].contains(&&*kind)
    })
}

/// 4xx says that nothing was changed, and 503 unless it says otherwise; after any other failure nobody
/// knows.
fn read<T>(
    reply: Reply<'_>,
    is_done: impl Fn(u16) -> bool,
    done: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Read<T> {
    match reply {
        Ok((status, body)) if is_done(status) => done(body).map(Answer::Done),
        Ok((503, body)) if is_unknown(body) => Ok(Answer::Late),
        Ok((status @ (400..=499 | 503), _)) => Ok(Answer::Refused(status)),
        Ok((500..=599, _)) | Err(Error::Connection(_) | Error::Closed | Error::Target(_)) => {
            Ok(Answer::Missing)
        }
        Err(Error::Late(_)) => Ok(Answer::Late),
        Ok((status, _)) => Err(format!("status {status}")),
        Err(error @ (Error::Malformed(_) | Error::TooLong { .. })) => Err(error.to_string()),
    }
}

/// A `UUIDv7` in its usual form (RFC 9562).
fn uuid(text: &str) -> Result<u128, String> {
    let wrong = || format!("the id {text:?} is no UUIDv7");
    let mut id = 0;
    for (place, byte) in text.bytes().enumerate() {
        let digit = char::from(byte).to_digit(16);
        match (place, digit) {
            (8 | 13 | 18 | 23, None) if byte == b'-' => {}
            (0..8 | 9..13 | 14..18 | 19..23 | 24..36, Some(digit)) => {
                id = id << 4 | u128::from(digit);
            }
            _ => return Err(wrong()),
        }
    }
    let (version, variant) = (id >> 76 & 0xf, id >> 62 & 0b11);
    if text.len() == 36 && (version, variant) == (7, 0b10) { Ok(id) } else { Err(wrong()) }
}

/// An id, encoded for a path.
pub(super) fn shown(id: u128) -> String {
    let digits = format!("{id:032x}");
    let part = |range| digits.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, Error, acknowledged, posted, shown, uuid};

    const ID: &str = "01912d68-783e-7a03-8467-5661c1243ad4";

    #[test]
    fn an_id_is_read_as_it_is_shown_and_nothing_else_is_one() {
        assert_eq!(shown(uuid(ID).unwrap()), ID);
        let version = ID.replacen("-7a", "-4a", 1);
        let variant = ID.replacen("-84", "-c4", 1);
        let cut = ID.get(..35).unwrap();
        let long = format!("{ID}0");
        let shifted = "01912d6-8783e-7a03-8467-5661c1243ad4";
        for wrong in [version.as_str(), &variant, cut, &long, shifted, "", "é"] {
            assert!(uuid(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told_from_a_refusal() {
        let body = format!(r#"{{"id":"{ID}"}}"#);
        let done = Answer::Done(uuid(ID).unwrap());
        assert_eq!(posted(Ok((201, body.as_bytes())), false), Ok(done.clone()));
        assert_eq!(posted(Ok((200, body.as_bytes())), true), Ok(done));
        assert!(posted(Ok((200, body.as_bytes())), false).is_err());
        assert!(posted(Ok((201, b"{}")), false).is_err());
        assert_eq!(acknowledged(Ok((404, b""))), Ok(Answer::Refused(404)));
        assert_eq!(acknowledged(Ok((500, b""))), Ok(Answer::Missing));
        assert_eq!(acknowledged(Ok((503, b""))), Ok(Answer::Refused(503)));
        let problem =
            |kind: &str| format!(r#"{{"status":503,"type":"urn:tidings:problem:{kind}"}}"#);
        let answer = |kind: &str| acknowledged(Ok((503, problem(kind).as_bytes())));
        assert_eq!(answer("silent"), Ok(Answer::Refused(503)));
        assert_eq!(answer("unknown"), Ok(Answer::Late));
        assert_eq!(acknowledged(Err(&Error::Late(Duration::ZERO))), Ok(Answer::Late));
        assert_eq!(acknowledged(Err(&Error::Closed)), Ok(Answer::Missing));
        assert!(acknowledged(Err(&Error::Malformed("SSH".to_owned()))).is_err());
    }
}
