//! Writes windows as JSON, for upstream and for HTTP.

use std::io::Write;

use tidings_core::machine::traffic::Traffic;
use tidings_core::structure::tally::{Counts, Id, Row};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Adapter;
use super::settings::Format;

/// A report with more rows is sorted and written on a thread of its own.
const ROWS_AT_ONCE: usize = 10_000;

/// A row with its names.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) from: Id,
    pub(super) to: Id,
    pub(super) counts: Counts,
}

/// Returns rows with their names, sorted by these. O(rows log rows).
pub(super) fn named(rows: &[Row], parents: &[Id]) -> Vec<Named> {
    let name = |place: u32| parents.get(place as usize).copied().unwrap_or_default();
    let rows =
        rows.iter().map(|row| Named { from: name(row.from), to: name(row.to), counts: row.counts });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable_by_key(|row| (row.from, row.to));
    rows
}

/// Returns the oldest unsent report: the first millisecond of its window, and the text to send.
pub(super) async fn oldest_unsent(adapter: &Adapter) -> Option<(u64, String)> {
    let copy = |machine: &Traffic| {
        let report = machine.unsent()?;
        Some((report.start, report.rows.clone(), machine.tally().parents().to_vec()))
    };
    let (start, rows, parents) = adapter.machine.read(copy)?;
    let format = adapter.settings.format;
    let few = rows.len() <= ROWS_AT_ONCE;
    let write = move || frame(format, start, &named(&rows, &parents));
    let text = if few { write() } else { tokio::task::spawn_blocking(write).await.ok()? };
    Some((start, text))
}

/// Returns the frame for a window.
fn frame(format: Format, start: u64, rows: &[Named]) -> String {
    let mut out = Vec::with_capacity(64 + rows.len() * 110);
    match format {
        Format::Plain => write_rows(&mut out, rows, false),
        Format::Full => {
            // Writing to memory does not fail.
            drop(write!(out, "{{\"start\":\"{}\",\"calls\":", time(start)));
            write_rows(&mut out, rows, true);
            out.push(b'}');
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Writes an array of rows, with or without the counts of errors and rejections.
pub(super) fn write_rows(out: &mut Vec<u8>, rows: &[Named], full: bool) {
    out.push(b'[');
    for (place, Named { from, to, counts }) in rows.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let (from, to) = (Uuid::from_bytes(*from), Uuid::from_bytes(*to));
        let Counts { calls, rejected, failed } = counts;
        // Writing to memory does not fail.
        drop(write!(out, "{{\"from\":\"{from}\",\"to\":\"{to}\",\"count\":{calls}"));
        if full {
            drop(write!(out, ",\"errors\":{failed},\"rejected\":{rejected}"));
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// Formats a time in UTC.
pub(super) fn time(ms: u64) -> String {
    let nanoseconds = i128::from(ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Named> {
        let counts = Counts { calls: 7, rejected: 2, failed: 1 };
        let rows = [Row { from: 1, to: 0, counts }, Row { from: 0, to: 1, counts }];
        named(&rows, &[[1; 16], [2; 16]])
    }

    #[test]
    fn a_plain_report_is_an_array_in_order() {
        let one = "01010101-0101-0101-0101-010101010101";
        let two = "02020202-0202-0202-0202-020202020202";
        let expected = format!(
            r#"[{{"from":"{one}","to":"{two}","count":7}},{{"from":"{two}","to":"{one}","count":7}}]"#
        );
        assert_eq!(frame(Format::Plain, 0, &rows()), expected);
        assert_eq!(frame(Format::Plain, 0, &[]), "[]");
    }

    #[test]
    fn a_full_one_has_the_start_of_its_window_and_what_went_wrong() {
        let text = frame(Format::Full, 1_700_000_040_000, &rows());
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["start"], "2023-11-14T22:14:00Z");
        assert_eq!(
            (&read["calls"][0]["errors"], &read["calls"][0]["rejected"]),
            (&1.into(), &2.into())
        );
    }
}
