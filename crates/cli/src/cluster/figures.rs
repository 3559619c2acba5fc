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

pub(super) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

pub(super) fn count(count: u64) -> String {
    HumanCount(count).to_string()
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
    fn small_rates_are_not_rounded_away() {
        let rates = [0.0, 0.25, 9.5, 12.4, 123_456.7, f64::NAN].map(rate);
        assert_eq!(rates, ["0/s", "0.2/s", "9.5/s", "12/s", "123,457/s", "0/s"]);
    }
}
