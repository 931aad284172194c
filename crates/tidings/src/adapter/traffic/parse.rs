//! Reads frames: the usual shape by hand (`fast`), every other shape by serde. A frame becomes a sequence of records; nothing is
//! allocated for an element.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_core::machine::traffic::record::{self, Record};
use tidings_core::structure::tally::Id;
use uuid::Uuid;

use super::fast;

/// Appends the records of a frame to `out`. Elements that cannot be read are left out.
///
/// # Errors
/// How many elements were left out, and what is wrong with the first. A frame that is not JSON, or neither an element nor an
/// array of them, counts as one.
pub(super) fn frame(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let begun = out.len();
    if fast::frame(text.as_bytes(), out).is_some() {
        return Ok(());
    }
    out.truncate(begun);
    slow(text, out)
}

/// Elements that could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) count: u64,
    /// What is wrong with the first.
    pub(super) why: String,
}

/// The same by serde: any shape that JSON allows.
pub(super) fn slow(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let one = |why: String| Malformed { count: 1, why };
    if !text.trim_ascii_start().starts_with('[') {
        return element(text, out).map_err(one);
    }
    let elements: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|why| one(why.to_string()))?;
    let mut malformed: Option<Malformed> = None;
    for (place, raw) in elements.into_iter().enumerate() {
        if let Err(why) = element(raw.get(), out) {
            let why = || Malformed { count: 0, why: format!("element {place}: {why}") };
            malformed.get_or_insert_with(why).count += 1;
        }
    }
    malformed.map_or(Ok(()), Err)
}

/// A child and its parent, or a call. Other fields are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Element<'a> {
    #[serde(borrow)]
    parent: Option<Text<'a>>,
    #[serde(borrow)]
    child: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    destination: Option<Text<'a>>,
    http_status: Option<u16>,
}

/// A newtype, because serde makes an `Option<Cow>` owned.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn element(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let read: Element<'_> = serde_json::from_str(text).map_err(|why| why.to_string())?;
    match read {
        Element {
            parent: Some(parent),
            child: Some(child),
            source: None,
            destination: None,
            ..
        } => {
            let (child, parent) = (id("child", &child)?, id("parent", &parent)?);
            record::write(out, Record::Belongs { child: &child, parent: &parent });
        }
        Element {
            parent: None,
            child: None,
            source: Some(source),
            destination: Some(destination),
            http_status: Some(status),
        } => {
            let (source, destination) = (id("source", &source)?, id("destination", &destination)?);
            let kind = record::kind(status);
            record::write(out, Record::Call { source: &source, destination: &destination, kind });
        }
        Element { .. } => {
            return Err(
                "neither parent and child nor source, destination and httpStatus".to_owned()
            );
        }
    }
    Ok(())
}

fn id(field: &str, text: &Text<'_>) -> Result<Id, String> {
    let id = Uuid::try_parse(&text.0).map_err(|_| {
        let text: String = text.0.chars().take(60).collect();
        format!("{field}: {text:?} is not a UUID")
    })?;
    Ok(id.into_bytes())
}

#[cfg(test)]
mod tests;
