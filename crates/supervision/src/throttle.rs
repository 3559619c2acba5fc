//! Throttle: so many rows and bytes in a second. Pure: the caller says what time it is, and waits.
//!
//! Each limit is a schedule: what passes takes its share of a second, and the next may pass when that is
//! over. There is no saving up: who was idle for a minute gets no minute's worth at once. Only what a late
//! timer has cost is made up for, within `SLACK`, so that the mean is what was asked for.

use std::time::{Duration, Instant};

/// How late a waiting caller may come without losing its turn.
const SLACK: Duration = Duration::from_millis(250);
/// What passes at once is at most this share of a second.
const SLICES_PER_SECOND: u64 = 20;

/// Limits per second; 0: none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    pub rows: u64,
    pub bytes: u64,
}

/// Holds its caller to [`Limits`].
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    limits: Limits,
    rows: Schedule,
    bytes: Schedule,
}

/// When the next may pass; `None`: now.
#[derive(Clone, Copy, Debug, Default)]
struct Schedule(Option<Instant>);

impl Throttle {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Other limits from now on. What was waited for under the old ones is over.
    pub fn set(&mut self, limits: Limits) {
        *self = Self::new(limits);
    }

    /// Whether anything is limited.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.limits != Limits::default()
    }

    /// Rows and bytes that should pass at once, at most; one row always may. Who comes late may take what it
    /// has missed, so that a slow caller is no slower than its limit.
    #[must_use]
    pub fn slice(&self, now: Instant) -> (u64, u64) {
        let slice = |schedule: Schedule, per_second: u64| {
            if per_second == 0 {
                return u64::MAX;
            }
            let late =
                schedule.0.map_or(Duration::ZERO, |turn| now.saturating_duration_since(turn));
            let missed = u128::from(per_second) * late.min(SLACK).as_millis() / 1000;
            let missed = u64::try_from(missed).unwrap_or(u64::MAX);
            (per_second / SLICES_PER_SECOND).saturating_add(missed).max(1)
        };
        (slice(self.rows, self.limits.rows), slice(self.bytes, self.limits.bytes))
    }

    /// When the next may pass; `None`: at once.
    #[must_use]
    pub fn ready_at(&self) -> Option<Instant> {
        let rows = self.rows.0.filter(|_| self.limits.rows != 0);
        let bytes = self.bytes.0.filter(|_| self.limits.bytes != 0);
        rows.max(bytes)
    }

    /// This much has passed at `now`.
    pub fn passed(&mut self, now: Instant, rows: u64, bytes: u64) {
        self.rows.passed(now, rows, self.limits.rows);
        self.bytes.passed(now, bytes, self.limits.bytes);
    }
}

impl Schedule {
    fn passed(&mut self, now: Instant, amount: u64, per_second: u64) {
        if per_second == 0 {
            self.0 = None;
            return;
        }
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        // The first to pass has lost nothing.
        let turn = self.0.map_or(now, |turn| turn.max(earliest));
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(per_second);
        self.0 = Some(turn + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that pass in ten seconds, of a caller that wakes up late by up to `late_ms`.
    fn passed(limits: Limits, row_bytes: u64, late_ms: u64) -> u64 {
        let start = Instant::now();
        let end = start + Duration::from_secs(10);
        let (mut throttle, mut now, mut rows, mut turn) = (Throttle::new(limits), start, 0, 0);
        while now < end {
            let (rows_max, bytes_max) = throttle.slice(now);
            let slice = rows_max.min(bytes_max / row_bytes).clamp(1, 1 << 40);
            throttle.passed(now, slice, slice * row_bytes);
            rows += slice;
            turn += 1;
            let late = Duration::from_millis(turn * 7919 % (late_ms + 1));
            now = now.max(throttle.ready_at().expect("limited")) + late;
        }
        rows
    }

    #[test]
    fn ten_seconds_let_through_what_was_asked_for() {
        for (rows, bytes, row_bytes, expected) in [
            (1, 0, 100, 10),
            (100, 0, 100, 1000),
            (50_000, 0, 100, 500_000),
            (0, 1_000_000, 100, 100_000),
            (0, 1000, 5000, 2),
            (1000, 1_000_000, 5000, 2000),
        ] {
            for late_ms in [0, 1, 30, 200] {
                let passed = passed(Limits { rows, bytes }, row_bytes, late_ms);
                let error = passed.abs_diff(expected);
                assert!(
                    20 * error <= expected || error <= 1,
                    "{passed} of {expected}, late by {late_ms} ms"
                );
            }
        }
    }

    #[test]
    fn who_was_idle_has_not_saved_up() {
        let (start, mut throttle) = (Instant::now(), Throttle::new(Limits { rows: 100, bytes: 0 }));
        throttle.passed(start, 1, 0);
        let later = start + Duration::from_secs(60);
        throttle.passed(later, 100, 0);
        assert_eq!(throttle.ready_at(), Some(later - SLACK + Duration::from_secs(1)));
    }

    #[test]
    fn other_limits_hold_at_once() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Limits { rows: 1, bytes: 0 });
        throttle.passed(start, 3600, 0);
        throttle.set(Limits { rows: 100, bytes: 0 });
        assert_eq!(throttle.ready_at(), None);
        throttle.passed(start, 100, 0);
        assert_eq!(throttle.ready_at(), Some(start + Duration::from_secs(1)));
    }

    #[test]
    fn without_limits_nobody_waits() {
        let mut throttle = Throttle::new(Limits::default());
        throttle.passed(Instant::now(), 1 << 40, 1 << 50);
        assert_eq!((throttle.ready_at(), throttle.is_active()), (None, false));
        throttle.set(Limits { rows: 1, bytes: 0 });
        assert!(throttle.is_active());
    }
}
