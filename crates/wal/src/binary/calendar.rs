//! Dates and times in ISO form, in UTC; intervals in the form `postgres`.

use super::Fault;
use super::read::Reader;
use super::text::Text;

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
const MINUTE_US: i64 = 60_000_000;
const SECOND_US: i64 = 1_000_000;
/// Days from 0000-03-01 to 2000-01-01, both in the Gregorian calendar.
const EPOCH_DAYS: i64 = 730_425;
/// Days of the calendar's cycle of 400 years.
const CYCLE_DAYS: i64 = 146_097;

/// Days since 2000-01-01; the ends of the range are infinite.
pub(super) fn date(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    match value.int32()? {
        i32::MAX => out.extend(b"infinity"),
        i32::MIN => out.extend(b"-infinity"),
        days => {
            let year = day(days.into(), out);
            era(year, out);
        }
    }
    Ok(())
}

/// Microseconds since midnight.
pub(super) fn time(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    clock(value.int64()?, out);
    Ok(())
}

/// As a time, then seconds west of Greenwich.
pub(super) fn timetz(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    clock(value.int64()?, out);
    let west = value.int32()?;
    out.push(if west <= 0 { b'+' } else { b'-' });
    let seconds = west.unsigned_abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    self::hours(hours.into(), out);
    if minutes != 0 || seconds != 0 {
        out.push(b':');
        out.padded::<2>(minutes);
    }
    if seconds != 0 {
        out.push(b':');
        out.padded::<2>(seconds);
    }
    Ok(())
}

/// Microseconds since 2000-01-01; the ends of the range are infinite.
pub(super) fn timestamp(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    moment(value.int64()?, b"", out);
    Ok(())
}

/// As a timestamp, in UTC.
pub(super) fn timestamptz(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    moment(value.int64()?, b"+00", out);
    Ok(())
}

/// Where intervals can be infinite, these are the ends of all three fields.
pub(super) fn interval(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let found = (value.int64()?, value.int32()?, value.int32()?);
    match found {
        (i64::MAX, i32::MAX, i32::MAX) => out.extend(b"infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => out.extend(b"-infinity"),
        (microseconds, days, months) => span(microseconds, days, months, out),
    }
    Ok(())
}

pub(super) fn finite_interval(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let (microseconds, days, months) = (value.int64()?, value.int32()?, value.int32()?);
    span(microseconds, days, months, out);
    Ok(())
}

fn moment(at: i64, zone: &[u8], out: &mut Text) {
    match at {
        i64::MAX => out.extend(b"infinity"),
        i64::MIN => out.extend(b"-infinity"),
        at => {
            let year = day(at.div_euclid(DAY_US), out);
            out.push(b' ');
            clock(at.rem_euclid(DAY_US), out);
            out.extend(zone);
            era(year, out);
        }
    }
}

/// Writes the day, of whose year the era is not said, and returns the year: 0 is 1 BC.
fn day(since_2000: i64, out: &mut Text) -> i64 {
    let days = since_2000 + EPOCH_DAYS;
    let (cycle, day) = (days.div_euclid(CYCLE_DAYS), days.rem_euclid(CYCLE_DAYS));
    // Years begin in March here, so that the odd day is the last one.
    let year_of_cycle = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = 400 * cycle + year_of_cycle + next;
    let shown = if 0 < year { year } else { 1 - year }.unsigned_abs();
    if shown < 10_000 {
        out.padded::<4>(shown as u32);
    } else {
        out.number(shown);
    }
    out.push(b'-');
    out.padded::<2>(month as u32);
    out.push(b'-');
    out.padded::<2>(day_of_month as u32);
    year
}

fn era(year: i64, out: &mut Text) {
    if year <= 0 {
        out.extend(b" BC");
    }
}

/// The time of day; 24:00:00 is one.
fn clock(microseconds: i64, out: &mut Text) {
    hours((microseconds / HOUR_US).unsigned_abs(), out);
    minutes_on(microseconds, out);
}

/// Of a number of microseconds, what is below an hour: `:MM:SS` and as many decimals as it takes.
fn minutes_on(microseconds: i64, out: &mut Text) {
    let below = |whole: i64, unit: i64| (microseconds % whole / unit).unsigned_abs() as u32;
    out.push(b':');
    out.padded::<2>(below(HOUR_US, MINUTE_US));
    out.push(b':');
    out.padded::<2>(below(MINUTE_US, SECOND_US));
    let fraction = below(SECOND_US, 1);
    if fraction != 0 {
        out.push(b'.');
        out.padded::<6>(fraction);
        let zeros = out.as_slice().iter().rev().take_while(|byte| **byte == b'0').count();
        out.truncate(out.len() - zeros);
    }
}

fn hours(hours: u64, out: &mut Text) {
    if hours < 10 {
        out.push(b'0');
    }
    out.number(hours);
}

/// Years, months, days, then the time, which is left out where it is zero beside them. After a negative part a
/// positive one says its sign.
fn span(microseconds: i64, days: i32, months: i32, out: &mut Text) {
    let (mut is_first, mut after_negative) = (true, false);
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count == 0 {
            continue;
        }
        if !is_first {
            out.push(b' ');
        }
        if after_negative && 0 < count {
            out.push(b'+');
        }
        out.number(count);
        out.push(b' ');
        out.extend(unit.as_bytes());
        if count != 1 {
            out.push(b's');
        }
        (is_first, after_negative) = (false, count < 0);
    }
    if !is_first && microseconds == 0 {
        return;
    }
    if !is_first {
        out.push(b' ');
    }
    if microseconds < 0 {
        out.push(b'-');
    } else if after_negative {
        out.push(b'+');
    }
    hours((microseconds / HOUR_US).unsigned_abs(), out);
    minutes_on(microseconds, out);
}
