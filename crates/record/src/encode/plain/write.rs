//! One value → JSON, by its [`Rendering`].

use super::rendering::{Moments, Rendering};
use crate::encode::civil::Civil;
use crate::encode::clock::{DAY_US, has_form, moment, offset, write_clock};
use crate::encode::debezium::Work;
use crate::encode::number::{number, special};
use crate::encode::{ValueError, array, bytea};
use crate::json;
use config::Special;
use serde::de::IgnoredAny;

/// Writes a value that the server sent as `text`.
///
/// # Errors
/// When `text` is no value of the type, or is to be refused; `out` then ends somewhere in it.
pub(super) fn value(
    rendering: &Rendering,
    text: &[u8],
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    match rendering {
        Rendering::Text => Ok(json::string(text, out)?),
        Rendering::Number { is_bare } => digits(text, *is_bare, out),
        Rendering::Numeric { is_bare, special: mode } => {
            if *mode == Special::Refuse && special(text) {
                let limit = "NaN and infinities are to be refused";
                return Err(ValueError::OutOfRange(limit));
            }
            digits(text, *is_bare, out)
        }
        Rendering::Bool { is_bare } => boolean(text, *is_bare, out),
        Rendering::Bytes(mode) => bytea::write(text, *mode, &mut work.inner, out),
        Rendering::Date { moments, special } => date(text, *moments, *special, out),
        Rendering::TimeTz => time_tz(text, out),
        Rendering::Timestamp { moments, special } => timestamp(text, *moments, *special, out),
        Rendering::TimestampTz { moments, special } => timestamp_tz(text, *moments, *special, out),
        Rendering::Json => nested(text, out),
        // JSON arrays have no place for lower bounds.
        Rendering::Array { .. } if array::has_bounds(text) => Ok(json::string(text, out)?),
        Rendering::Array { element, delimiter } => {
            let mut unquoted = std::mem::take(&mut work.element);
            let item = &mut |text: &[u8], out: &mut Vec<u8>| value(element, text, work, out);
            let result = array::write_json(text, *delimiter, &mut unquoted, out, item);
            work.element = unquoted;
            result
        }
    }
}

fn digits(text: &[u8], is_bare: bool, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if !is_bare || special(text) {
        return Ok(json::string(text, out)?);
    }
    number(text).ok_or(ValueError::Malformed)?;
    out.extend_from_slice(text);
    Ok(())
}

fn boolean(text: &[u8], is_bare: bool, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let word: &[u8] = match text {
        b"t" => b"\"true\"",
        b"f" => b"\"false\"",
        _ => return Err(ValueError::Malformed),
    };
    out.extend_from_slice(if is_bare { &word[1..word.len() - 1] } else { word });
    Ok(())
}

/// Writes the value itself. It stays on one line: `json` keeps the blanks that it was written with.
fn nested(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    std::str::from_utf8(text).map_err(|_| ValueError::NotUtf8)?;
    serde_json::from_slice::<IgnoredAny>(text).map_err(|_| ValueError::Malformed)?;
    // Control characters stand between the tokens only: in strings JSON does not allow them.
    let start = out.len();
    out.extend_from_slice(text);
    out[start..].iter_mut().filter(|byte| **byte < 0x20).for_each(|byte| *byte = b' ');
    Ok(())
}

/// What JSON has only as PostgreSQL's text: infinite, before the year 1, after 9999.
fn beyond(text: &[u8], special: Special, out: &mut Vec<u8>) -> Result<(), ValueError> {
    match special {
        Special::Text => Ok(json::string(text, out)?),
        Special::Refuse => {
            let limit = "dates that are infinite or not of the years 1 to 9999 are to be refused";
            Err(ValueError::OutOfRange(limit))
        }
    }
}

fn date(
    text: &[u8],
    moments: Moments,
    special: Special,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let usual = |text: &[u8]| match Civil::parse(text, false) {
        Some((_, rest)) => rest.is_empty() && text.len() == 10,
        None => false,
    };
    if !usual(text) {
        return beyond(text, special, out);
    }
    out.push(b'"');
    out.extend_from_slice(text);
    if moments == (Moments::Iso { dates: true }) {
        out.extend_from_slice(b"T00:00:00.000000000");
    }
    out.push(b'"');
    Ok(())
}

/// A usual moment, `yyyy-MM-dd HH:mm:ss[.ffffff]`, and what follows it.
fn usual(text: &[u8]) -> Option<(&[u8; 19], &[u8], &[u8])> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    if !has_form(head) || text.ends_with(b" BC") {
        return None;
    }
    let Some(fraction) = rest.strip_prefix(b".") else { return Some((head, b"", rest)) };
    let count = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = fraction.split_at(count);
    (1..=6).contains(&count).then_some((head, fraction, rest))
}

fn timestamp(
    text: &[u8],
    moments: Moments,
    special: Special,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    match usual(text) {
        Some((head, fraction, b"")) => put(head, fraction, moments, false, out),
        Some(_) | None => return beyond(text, special, out),
    }
    Ok(())
}

fn timestamp_tz(
    text: &[u8],
    moments: Moments,
    special: Special,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let Some((head, fraction, zone)) = usual(text) else { return beyond(text, special, out) };
    if zone == b"+00" {
        put(head, fraction, moments, true, out);
        return Ok(());
    }
    // Our sessions are in UTC; others are brought there.
    let (civil, micros, zone) = moment(text).ok_or(ValueError::Malformed)?;
    let shifted = micros - offset(zone).ok_or(ValueError::Malformed)?;
    let day = civil.days() + shifted.div_euclid(DAY_US);
    let start = out.len();
    Civil::of_days(day).write(out);
    out.push(b' ');
    write_clock(shifted.rem_euclid(DAY_US), None, out);
    let utc = out.split_off(start);
    match usual(&utc) {
        Some((head, fraction, _)) => put(head, fraction, moments, true, out),
        None => return beyond(text, special, out),
    }
    Ok(())
}

fn put(head: &[u8; 19], fraction: &[u8], moments: Moments, is_zoned: bool, out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.extend_from_slice(head);
    match moments {
        Moments::Sql { zulu } => {
            if !fraction.is_empty() {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            if is_zoned && zulu {
                out.push(b'Z');
            }
        }
        Moments::Iso { .. } => {
            out[start + 10] = b'T';
            let mut nanos = *b".000000000";
            nanos[1..=fraction.len()].copy_from_slice(fraction);
            out.extend_from_slice(&nanos);
            if is_zoned {
                out.push(b'Z');
            }
        }
    }
    out.push(b'"');
}

/// Writes `timetz` with minutes in its offset.
fn time_tz(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    json::string(text, out)?;
    if let Some([b'+' | b'-', hours @ ..]) = text.last_chunk::<3>()
        && hours.iter().all(u8::is_ascii_digit)
    {
        out.truncate(out.len() - 1);
        out.extend_from_slice(b":00\"");
    }
    Ok(())
}

/// Writes a moment as `yyyy-MM-ddTHH:mm:ss`, without quotes. `us`: microseconds since 1970.
pub(crate) fn write_date_time(us: i64, out: &mut Vec<u8>) {
    Civil::of_days(us.div_euclid(DAY_US)).write(out);
    out.push(b'T');
    let whole = us.rem_euclid(DAY_US) / 1_000_000 * 1_000_000;
    write_clock(whole, None, out);
}
