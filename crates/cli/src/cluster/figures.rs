//! Figures as people read them. Pure.

use indicatif::{HumanBytes, HumanCount};

/// Milliseconds as a length of time, in its two largest units at most.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{millis}ms"),
        1..10 => format!("{}.{}s", seconds, millis % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// How long ago something was; `-` where nobody knows.
pub(super) fn age(since_unix_ms: u64, now_unix_ms: u64) -> String {
    if since_unix_ms == 0 {
        return NONE.to_owned();
    }
    let seconds = now_unix_ms.saturating_sub(since_unix_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        _ => span(seconds * 1000),
    }
}

/// A moment of UTC, by the calendar.
pub(super) fn moment(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 1970-01-01, in eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    (era * 400 + year + u64::from(month <= 2), month, day)
}

pub(super) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

pub(super) fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// How much of about so much is done: a bar of ten cells. What was expected is an estimate.
pub(super) fn bar(done: u64, expected: u64) -> String {
    let percent = (u128::from(done) * 100 / u128::from(expected.max(1))).min(100);
    let full = usize::try_from(percent / 10).unwrap_or_default();
    format!("{}{} {percent:>3}%", "█".repeat(full), "░".repeat(10 - full))
}

/// Records per second.
pub(super) fn rate(rate: f64) -> String {
    if rate.is_finite() && 0.0 < rate && rate < 10.0 {
        return format!("{rate:.1}/s");
    }
    format!("{}/s", HumanCount(rate.round() as u64))
}

/// What is not there.
pub(super) const NONE: &str = "-";

pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_short() {
        let spans = [7, 1234, 59_999, 61_000, 3_600_000, 7_260_000, 90_000_000].map(span);
        assert_eq!(spans, ["7ms", "1.2s", "59s", "1m 1s", "1h 0m", "2h 1m", "1d 1h"]);
        assert_eq!([age(0, 9), age(5, 9), age(9, 5), age(1, 60_001)], ["-", "0s", "0s", "1m 0s"]);
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        let moments = [0, 951_782_400_000, 951_868_799_999, 1_709_605_231_004, 1_735_689_599_000];
        let expected = [
            "1970-01-01 00:00:00",
            "2000-02-29 00:00:00",
            "2000-02-29 23:59:59",
            "2024-03-05 02:20:31",
            "2024-12-31 23:59:59",
        ];
        assert_eq!(moments.map(moment), expected);
    }

    #[test]
    fn a_bar_is_full_at_the_end_and_never_fuller() {
        assert_eq!(bar(0, 0), "░░░░░░░░░░   0%");
        assert_eq!(bar(59, 100), "█████░░░░░  59%");
        assert_eq!([bar(100, 100), bar(170, 100)], ["██████████ 100%"; 2]);
        assert_eq!(bar(u64::MAX, u64::MAX), "██████████ 100%");
    }

    #[test]
    fn small_rates_are_not_rounded_away() {
        let rates = [0.0, 0.25, 9.5, 12.4, 123_456.7, f64::NAN].map(rate);
        assert_eq!(rates, ["0/s", "0.2/s", "9.5/s", "12/s", "123,457/s", "0/s"]);
    }
}
