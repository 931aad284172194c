//! A point in time as a message writes it (any offset, any number of digits) and as a server must
//! show it (UTC, no needless digits). Computed by hand, so that the referee shares no calendar with
//! the player.

use std::cmp::Ordering;
use std::io::Write;

use crate::random::Random;

/// The offsets from UTC in which messages are written, in minutes.
const OFFSETS_MINUTES: [i64; 10] = [0, 60, 120, -300, 330, 345, -570, 840, -720, 0];

/// A point in time, and how a message writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Seconds since 1970 in UTC.
    second: i64,
    nano: u32,
    /// How many digits of the fraction are written; the others are zero.
    digits: u32,
    offset_minutes: i64,
    /// An offset of nothing is written `Z`.
    zulu: bool,
}

impl Moment {
    /// A moment within this second, written in some way.
    pub(super) fn within(second: i64, random: &mut Random) -> Self {
        let drawn = random.bits();
        let digits = u32::try_from(drawn % 10).unwrap_or(0);
        let offset = usize::try_from((drawn >> 8) % OFFSETS_MINUTES.len() as u64).unwrap_or(0);
        let unit = 10u64.pow(9 - digits);
        let nano = (drawn >> 32) % 1_000_000_000 / unit * unit;
        Self {
            second,
            nano: u32::try_from(nano).unwrap_or(0),
            digits,
            offset_minutes: OFFSETS_MINUTES.get(offset).copied().unwrap_or(0),
            zulu: offset == 0,
        }
    }

    /// Writes it as a message has it: RFC 3339 with its own offset and digits.
    pub(super) fn write_sent(&self, out: &mut Vec<u8>) {
        write_seconds(self.second + self.offset_minutes * 60, out);
        if self.digits > 0 {
            out.push(b'.');
            write_padded(u64::from(self.nano / 10u32.pow(9 - self.digits)), self.digits, out);
        }
        if self.zulu {
            out.push(b'Z');
            return;
        }
        out.push(if self.offset_minutes < 0 { b'-' } else { b'+' });
        let minutes = self.offset_minutes.unsigned_abs();
        write_padded(minutes / 60, 2, out);
        out.push(b':');
        write_padded(minutes % 60, 2, out);
    }

    /// As a server must show it: UTC with `Z`, the fraction without zeros at its end.
    pub(super) fn shown(&self) -> String {
        let mut out = Vec::with_capacity(32);
        write_seconds(self.second, &mut out);
        if self.nano > 0 {
            let mut fraction = format!(".{:09}", self.nano);
            fraction.truncate(fraction.trim_end_matches('0').len());
            out.extend_from_slice(fraction.as_bytes());
        }
        out.push(b'Z');
        String::from_utf8(out).unwrap_or_default()
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.second, self.nano).partial_cmp(&(other.second, other.nano))
    }
}

/// `YYYY-MM-DDTHH:MM:SS`, the date by Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn write_seconds(second: i64, out: &mut Vec<u8>) {
    let (days, of_day) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);

    write_padded(year.unsigned_abs(), 4, out);
    for (before, part) in [
        (b'-', month),
        (b'-', day),
        (b'T', of_day / 3_600),
        (b':', of_day / 60 % 60),
        (b':', of_day % 60),
    ] {
        out.push(before);
        write_padded(part.unsigned_abs(), 2, out);
    }
}

/// A number with zeros in front of it.
fn write_padded(number: u64, width: u32, out: &mut Vec<u8>) {
    let mut unit = 10u64.pow(width.saturating_sub(1));
    while unit > 0 {
        out.push(b'0' + u8::try_from(number / unit % 10).unwrap_or(0));
        unit /= 10;
    }
}

/// A whole number in decimal.
pub(super) fn write_number(number: i64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    write!(out, "{number}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::Moment;
    use crate::random::Random;

    #[test]
    fn the_example_of_the_specification_is_shown_in_utc_without_needless_digits() {
        let moment = Moment {
            second: 1_643_827_145,
            nano: 863_370_000,
            digits: 5,
            offset_minutes: 60,
            zulu: false,
        };
        let mut sent = Vec::new();
        moment.write_sent(&mut sent);
        assert_eq!(String::from_utf8(sent).unwrap(), "2022-02-02T19:39:05.86337+01:00");
        assert_eq!(moment.shown(), "2022-02-02T18:39:05.86337Z");
        assert_eq!(Moment { nano: 0, ..moment }.shown(), "2022-02-02T18:39:05Z");
    }

    proptest! {
        #[test]
        fn both_ways_of_writing_mean_the_same_to_a_calendar(
            second in 0i64..250_000_000_000, seed: u64,
        ) {
            let moment = Moment::within(second, &mut Random::new(seed));
            let mut sent = Vec::new();
            moment.write_sent(&mut sent);
            let sent = String::from_utf8(sent).unwrap();
            let parsed = OffsetDateTime::parse(&sent, &Rfc3339).unwrap();
            prop_assert_eq!(parsed.unix_timestamp(), second);
            prop_assert_eq!(parsed.nanosecond(), moment.nano);
            let utc = parsed.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap();
            prop_assert_eq!(utc, moment.shown());
        }
    }
}
