//! Dates and times in `DateStyle = ISO`, `TimeZone = UTC`, taken apart and written.

use super::ValueError;
use super::civil::{Civil, digits};

pub(crate) const HOUR_US: i64 = 3_600_000_000;
pub(crate) const DAY_US: i64 = 24 * HOUR_US;

/// `Some(true)`: infinity; `Some(false)`: -infinity.
pub(crate) fn infinite(text: &[u8]) -> Option<bool> {
    match text {
        b"infinity" => Some(true),
        b"-infinity" => Some(false),
        _ => None,
    }
}

/// The form of nearly all timestamps.
const FORM: &[u8; 19] = b"0000-00-00 00:00:00";

pub(crate) fn has_form(text: &[u8; 19]) -> bool {
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        sign => byte == sign,
    };
    text.iter().zip(FORM).fold(true, |all, pair| all & fits(pair))
}

/// Splits off the era.
pub(crate) fn era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |text| (text, true))
}

/// The day of a date that is not infinite.
pub(crate) fn day(text: &[u8]) -> Result<Civil, ValueError> {
    let (text, bc) = era(text);
    whole(Civil::parse(text, bc))
}

/// Microseconds since midnight.
pub(crate) fn time_of_day(text: &[u8]) -> Result<i64, ValueError> {
    whole(clock(text))
}

/// Day and microseconds of the day of a timestamp without time zone that is not infinite.
pub(crate) fn day_and_time(text: &[u8]) -> Result<(Civil, i64), ValueError> {
    whole(moment(text).map(|(day, micros, rest)| ((day, micros), rest)))
}

/// As [`day_and_time`], of a timestamp with time zone, in UTC.
pub(crate) fn day_and_time_utc(text: &[u8]) -> Result<(Civil, i64), ValueError> {
    let (day, micros, rest) = moment(text).ok_or(ValueError::Malformed)?;
    let offset = offset(rest).ok_or(ValueError::Malformed)?;
    if offset == 0 {
        return Ok((day, micros));
    }
    let shifted = micros - offset;
    let day = Civil::of_days(day.days() + shifted.div_euclid(DAY_US));
    Ok((day, shifted.rem_euclid(DAY_US)))
}

/// What was taken, where nothing follows it.
fn whole<T>(taken: Option<(T, &[u8])>) -> Result<T, ValueError> {
    match taken {
        Some((value, [])) => Ok(value),
        Some(_) | None => Err(ValueError::Malformed),
    }
}

/// Day, microseconds of the day, and what follows.
pub(crate) fn moment(text: &[u8]) -> Option<(Civil, i64, &[u8])> {
    if let Some((head, rest)) = text.split_first_chunk::<19>()
        && has_form(head)
        && !rest.ends_with(b" BC")
    {
        let two = |at: usize| i64::from(head[at] - b'0') * 10 + i64::from(head[at + 1] - b'0');
        let civil = Civil { year: two(0) * 100 + two(2), month: two(5), day: two(8) };
        let (fraction, rest) = fraction(rest)?;
        let seconds = (two(11) * 60 + two(14)) * 60 + two(17);
        let fits = civil.is_valid() && two(11) < 25 && two(14) < 60 && two(17) <= 60;
        return fits.then_some((civil, seconds * 1_000_000 + fraction, rest));
    }
    let (text, bc) = era(text);
    let (civil, rest) = Civil::parse(text, bc)?;
    let (micros, rest) = clock(rest.strip_prefix(b" ")?)?;
    Some((civil, micros, rest))
}

/// `hh:mm:ss[.ffffff]` of a day → microseconds and what follows.
pub(crate) fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (micros, rest) = hours(text)?;
    let micros = i64::try_from(micros).ok()?;
    (micros < 25 * HOUR_US).then_some((micros, rest))
}

/// As [`clock`], of as many hours as an interval has.
pub(crate) fn hours(text: &[u8]) -> Option<(i128, &[u8])> {
    let (hours, rest) = digits(text, 2, 10)?;
    let (minutes, rest) = digits(rest.strip_prefix(b":")?, 2, 2)?;
    let (seconds, rest) = digits(rest.strip_prefix(b":")?, 2, 2)?;
    if 59 < minutes || 60 < seconds {
        return None;
    }
    let (fraction, rest) = fraction(rest)?;
    let micros = (minutes * 60 + seconds) * 1_000_000 + fraction;
    Some((i128::from(hours) * i128::from(HOUR_US) + i128::from(micros), rest))
}

/// `.ffffff`, which may be missing → microseconds and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let (number, rest) = digits(text, 1, 6)?;
    let missing = 6 - (text.len() - rest.len());
    Some((number * 10i64.pow(u32::try_from(missing).ok()?), rest))
}

/// `+hh[:mm[:ss]]` → microseconds east of UTC.
pub(crate) fn offset(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'+', text @ ..] => (1, text),
        [b'-', text @ ..] => (-1, text),
        _ => return None,
    };
    let (hours, rest) = digits(text, 2, 2)?;
    let part = |rest: &'_ [u8]| -> Option<(i64, usize)> {
        match rest.strip_prefix(b":") {
            Some(after) => digits(after, 2, 2).map(|(number, _)| (number, 3)),
            None => Some((0, 0)),
        }
    };
    let (minutes, taken) = part(rest)?;
    let rest = &rest[taken..];
    let (seconds, taken) = part(rest)?;
    rest[taken..].is_empty().then_some(sign * ((hours * 60 + minutes) * 60 + seconds) * 1_000_000)
}

/// Writes `hh:mm:ss` and the fraction: so many digits, or without trailing zeros.
pub(crate) fn write_clock(micros: i64, width: Option<u8>, out: &mut Vec<u8>) {
    let seconds = micros / 1_000_000;
    let mut text = *b"00:00:00.000000";
    let mut put = |at: usize, number: i64| {
        text[at] += u8::try_from(number / 10 % 10).unwrap_or(0);
        text[at + 1] += u8::try_from(number % 10).unwrap_or(0);
    };
    put(0, seconds / 3600);
    put(3, seconds / 60 % 60);
    put(6, seconds % 60);
    let fraction = micros % 1_000_000;
    put(9, fraction / 10_000);
    put(11, fraction / 100 % 100);
    put(13, fraction % 100);
    let kept = match width {
        Some(width) => usize::from(width),
        None => text[9..].iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1),
    };
    out.extend_from_slice(&text[..if kept == 0 { 8 } else { 9 + kept }]);
}
