//! Intervals in `IntervalStyle = postgres` → microseconds, or an ISO 8601 duration.

use super::kind::Beyond;
use crate::encode::ValueError;
use crate::encode::clock::{hours, infinite};
use crate::json;
use config::Interval as Mode;

/// 365.25 / 12 days, Debezium's average month.
const MONTH_US: i128 = 2_629_800_000_000;
const DAY_US: i128 = 86_400_000_000;

/// Why an infinite interval is refused.
pub(super) const INFINITE: &str = "an infinite interval has no number";

/// PostgreSQL's three fields; each has its own sign.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Interval {
    years: i64,
    months: i64,
    days: i64,
    /// The smallest one has no counterpart among the positive ones.
    micros: i128,
}

/// Writes an interval. An infinite one (PostgreSQL 17) is null where Debezium is followed strictly.
pub(super) fn write(
    text: &[u8],
    mode: Mode,
    beyond: Beyond,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if infinite(text).is_some() {
        return match (beyond, mode) {
            (Beyond::Strict, _) => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            (Beyond::Refused, Mode::Numeric) => Err(ValueError::OutOfRange(INFINITE)),
            (Beyond::Refused, Mode::String) | (Beyond::Text, _) => Ok(json::string(text, out)?),
        };
    }
    match mode {
        Mode::Numeric => json::integer(micros(text)?, out),
        Mode::String => Interval::parse(text).ok_or(ValueError::Malformed)?.iso(out),
    }
    Ok(())
}

/// Microseconds of an interval that is not infinite.
pub(super) fn micros(text: &[u8]) -> Result<i64, ValueError> {
    let interval = Interval::parse(text).ok_or(ValueError::Malformed)?;
    let months = i128::from(interval.years) * 12 + i128::from(interval.months);
    let micros = months * MONTH_US + i128::from(interval.days) * DAY_US + interval.micros;
    let limit = "an interval of more than 292,000 years has no count of microseconds";
    i64::try_from(micros).map_err(|_| ValueError::OutOfRange(limit))
}

impl Interval {
    /// `1 year 2 mons -3 days +04:05:06.789`; every part may be missing.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut interval = Self::default();
        let mut words = text.split(' ');
        while let Some(word) = words.next() {
            if word.contains(':') {
                let (negative, unsigned) = match word.as_bytes() {
                    [b'-', unsigned @ ..] => (true, unsigned),
                    [b'+', unsigned @ ..] => (false, unsigned),
                    unsigned => (false, unsigned),
                };
                let (micros, rest) = hours(unsigned)?;
                interval.micros = if negative { -micros } else { micros };
                return (rest.is_empty() && words.next().is_none()).then_some(interval);
            }
            let number: i64 = word.parse().ok()?;
            match words.next()? {
                "year" | "years" => interval.years = number,
                "mon" | "mons" => interval.months = number,
                "day" | "days" => interval.days = number,
                _ => return None,
            }
        }
        Some(interval)
    }

    /// `P1Y2M3DT4H5M6.789S`, every part written.
    fn iso(&self, out: &mut Vec<u8>) {
        let Self { years, months, days, micros } = *self;
        let (minutes, seconds) = (micros / 60_000_000, micros % 60_000_000);
        let parts = [(years, b"Y"), (months, b"M"), (days, b"D")];
        out.extend_from_slice(b"\"P");
        for (number, unit) in parts {
            json::integer(number, out);
            out.extend_from_slice(unit);
        }
        out.push(b'T');
        json::integer(minutes / 60, out);
        out.push(b'H');
        json::integer(minutes % 60, out);
        out.push(b'M');
        if seconds < 0 {
            out.push(b'-');
        }
        json::integer(seconds.unsigned_abs() / 1_000_000, out);
        let mut fraction = seconds.unsigned_abs() % 1_000_000;
        if fraction != 0 {
            out.push(b'.');
            let mut place = 100_000;
            while fraction != 0 {
                out.push(b'0' + u8::try_from(fraction / place).unwrap_or(9));
                fraction %= place;
                place /= 10;
            }
        }
        out.extend_from_slice(b"S\"");
    }
}
