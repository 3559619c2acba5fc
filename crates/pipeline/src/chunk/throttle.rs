//! How fast a snapshot may go (`throttle.snapshot`). Pure: the caller says what time it is.

use std::time::{Duration, Instant};

/// Limits per second; 0: none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    pub queries: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// When the next chunk may be read. What was read is paid for afterwards, so a chunk of any size gets through.
#[derive(Clone, Debug)]
pub struct Throttle {
    limits: Limits,
    due: Instant,
}

impl From<config::SnapshotThrottle> for Limits {
    fn from(spec: config::SnapshotThrottle) -> Self {
        Self { queries: spec.qps, rows: spec.rows, bytes: spec.bytes.0 }
    }
}

impl Throttle {
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, due: now }
    }

    /// Other limits from now on: what was waited for under the old ones is over.
    pub fn set(&mut self, limits: Limits, now: Instant) {
        *self = Self::new(limits, now);
    }

    /// How long to wait before the next query.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// A query has read so much. Time that was not used is not saved up.
    pub fn paid(&mut self, rows: u64, bytes: u64, now: Instant) {
        let Limits { queries, rows: rows_max, bytes: bytes_max } = self.limits;
        let costs = [(1, queries), (rows, rows_max), (bytes, bytes_max)]
            .map(|(count, limit)| if limit == 0 { 0.0 } else { count as f64 / limit as f64 });
        let seconds = costs.into_iter().fold(0.0, f64::max).min(86_400.0);
        self.due = self.due.max(now) + Duration::from_secs_f64(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_paid_for_by_the_dearest_of_its_costs() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Limits { queries: 10, rows: 100, bytes: 1000 }, start);
        assert_eq!(throttle.wait(start), Duration::ZERO);
        throttle.paid(50, 2000, start);
        assert_eq!(throttle.wait(start), Duration::from_secs(2));
        throttle.paid(0, 0, start);
        assert_eq!(throttle.wait(start), Duration::from_millis(2100));
    }

    #[test]
    fn time_that_was_not_used_is_not_saved_up() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Limits { rows: 100, ..Limits::default() }, start);
        let later = start + Duration::from_secs(60);
        throttle.paid(100, 0, later);
        assert_eq!(throttle.wait(later), Duration::from_secs(1));
    }

    #[test]
    fn other_limits_hold_at_once() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Limits { rows: 1, ..Limits::default() }, start);
        throttle.paid(3600, 0, start);
        throttle.set(Limits { rows: 100, ..Limits::default() }, start);
        assert_eq!(throttle.wait(start), Duration::ZERO);
        throttle.paid(100, 0, start);
        assert_eq!(throttle.wait(start), Duration::from_secs(1));
    }

    #[test]
    fn without_limits_nothing_waits() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Limits::default(), start);
        throttle.paid(u64::MAX, u64::MAX, start);
        assert_eq!(throttle.wait(start), Duration::ZERO);
    }
}
