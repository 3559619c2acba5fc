//! Days of the calendar that PostgreSQL and Java share.

use crate::json;

/// A day of the proleptic Gregorian calendar; year 0 is 1 BC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
}

impl Civil {
    pub(crate) fn parse(text: &[u8], bc: bool) -> Option<(Self, &[u8])> {
        let (year, rest) = digits(text, 4, 7)?;
        let (month, rest) = digits(rest.strip_prefix(b"-")?, 2, 2)?;
        let (day, rest) = digits(rest.strip_prefix(b"-")?, 2, 2)?;
        let civil = Self { year: if bc { 1 - year } else { year }, month, day };
        civil.is_valid().then_some((civil, rest))
    }

    pub(crate) fn is_valid(self) -> bool {
        (1..=12).contains(&self.month) && (1..=31).contains(&self.day)
    }

    /// Days since 1970-01-01. Years are counted from March, so that the leap day comes last.
    pub(crate) fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (cycle, year_of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        let day_of_cycle =
            year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
        cycle * 146_097 + day_of_cycle - 719_468
    }

    pub(crate) fn of_days(days: i64) -> Self {
        let shifted = days + 719_468;
        let (cycle, day_of_cycle) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let leaps = day_of_cycle / 1460 - day_of_cycle / 36_524 + day_of_cycle / 146_096;
        let year_of_cycle = (day_of_cycle - leaps) / 365;
        let day_of_year =
            day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self { year: cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day }
    }

    /// Java's `ISO_LOCAL_DATE`: four digits at least, `+` before more, year 0 for 1 BC.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let Self { year, month, day } = self;
        if year < 0 {
            out.push(b'-');
        } else if 9999 < year {
            out.push(b'+');
        }
        let mut text = *b"0000-00-00";
        let mut put = |at: usize, number: i64| {
            text[at] += u8::try_from(number / 10 % 10).unwrap_or(0);
            text[at + 1] += u8::try_from(number % 10).unwrap_or(0);
        };
        put(5, month);
        put(8, day);
        let year = year.abs();
        if year <= 9999 {
            put(0, year / 100);
            put(2, year % 100);
            out.extend_from_slice(&text);
        } else {
            json::integer(year, out);
            out.extend_from_slice(&text[4..]);
        }
    }
}

/// Takes `min` to `max` digits off the front.
pub(crate) fn digits(text: &[u8], min: usize, max: usize) -> Option<(i64, &[u8])> {
    let count = text.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
    if count < min {
        return None;
    }
    let (digits, rest) = text.split_at(count);
    let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some((number, rest))
}
