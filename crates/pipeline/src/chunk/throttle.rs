//! How fast a snapshot may go (`throttle.snapshot`). Pure: the caller says what time it is.

use std::time::{Duration, Instant};

/// How late a waiting reader may come without losing its turn: else each late timer would lower the mean.
const SLACK: Duration = Duration::from_millis(250);
/// What is read at once is at most this share of a second, so that ten seconds are exact within 5 %.
const PARTS_PER_SECOND: u64 = 8;

/// Limits per second; 0: none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// Nothing is read.
    pub paused: bool,
    pub queries: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// What one query reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Amount {
    pub rows: u64,
    pub bytes: u64,
}

/// When the next query may begin. Each pays before it begins, by what it is expected to read; what it has read is
/// settled afterwards.
#[derive(Clone, Debug)]
pub struct Throttle {
    limits: Limits,
    due: Instant,
}

impl From<config::SnapshotThrottle> for Limits {
    fn from(spec: config::SnapshotThrottle) -> Self {
        let config::SnapshotThrottle { paused, qps, rows, bytes } = spec;
        Self { paused, queries: qps, rows, bytes: bytes.0 }
    }
}

impl Limits {
    /// What one query should read at most.
    #[must_use]
    pub fn part(&self) -> Amount {
        // Where few queries are allowed, each must bring its share.
        let parts = match self.queries {
            0 => PARTS_PER_SECOND,
            queries => PARTS_PER_SECOND.min(queries),
        };
        let part = |limit: u64| if limit == 0 { u64::MAX } else { (limit / parts).max(1) };
        Amount { rows: part(self.rows), bytes: part(self.bytes) }
    }

    /// The dearest of its costs.
    fn cost(&self, amount: Amount) -> Duration {
        let costs = [(1, self.queries), (amount.rows, self.rows), (amount.bytes, self.bytes)]
            .map(|(count, limit)| if limit == 0 { 0.0 } else { count as f64 / limit as f64 });
        Duration::from_secs_f64(costs.into_iter().fold(0.0, f64::max).min(86_400.0))
    }
}

impl Throttle {
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, due: now }
    }

    /// Other limits from now on: what was waited for under the old ones is over.
    pub fn set(&mut self, limits: Limits, now: Instant) {
        if self.limits != limits {
            *self = Self::new(limits, now);
        }
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How long to wait before the next query; `None`: until other limits hold.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        (!self.limits.paused).then(|| self.due.saturating_duration_since(now))
    }

    /// A query begins that is expected to read so much. Time that was not used is not saved up.
    pub fn begin(&mut self, expected: Amount, now: Instant) {
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        self.due = self.due.max(earliest) + self.limits.cost(expected);
    }

    /// It has read something else.
    pub fn settle(&mut self, expected: Amount, read: Amount) {
        let (paid, cost) = (self.limits.cost(expected), self.limits.cost(read));
        let due = self.due + cost;
        self.due = due.checked_sub(paid).unwrap_or(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(rows: u64, bytes: u64) -> Amount {
        Amount { rows, bytes }
    }

    fn rows(rows: u64) -> Limits {
        Limits { rows, ..Limits::default() }
    }

    #[test]
    fn what_is_read_is_paid_for_by_the_dearest_of_its_costs() {
        let start = Instant::now();
        let limits = Limits { queries: 10, rows: 100, bytes: 1000, ..Limits::default() };
        let mut throttle = Throttle::new(limits, start);
        assert_eq!(throttle.wait(start), Some(Duration::ZERO));
        throttle.begin(amount(50, 2000), start);
        assert_eq!(throttle.wait(start), Some(Duration::from_secs(2)));
        throttle.begin(amount(0, 0), start);
        assert_eq!(throttle.wait(start), Some(Duration::from_millis(2100)));
        throttle.settle(amount(50, 2000), amount(50, 500));
        assert_eq!(throttle.wait(start), Some(Duration::from_millis(600)));
    }

    #[test]
    fn time_that_was_not_used_is_not_saved_up() {
        let start = Instant::now();
        let mut throttle = Throttle::new(rows(100), start);
        let later = start + Duration::from_secs(60);
        throttle.begin(amount(100, 0), later);
        assert_eq!(throttle.wait(later), Some(Duration::from_secs(1) - SLACK));
    }

    #[test]
    fn other_limits_hold_at_once_and_the_same_ones_change_nothing() {
        let start = Instant::now();
        let mut throttle = Throttle::new(rows(1), start);
        throttle.begin(amount(3600, 0), start);
        throttle.set(rows(1), start);
        assert_eq!(throttle.wait(start), Some(Duration::from_secs(3600)));
        throttle.set(rows(100), start);
        assert_eq!(throttle.wait(start), Some(Duration::ZERO));
        throttle.begin(amount(100, 0), start);
        assert_eq!(throttle.wait(start), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_paused_waits_until_other_limits_hold() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Limits { paused: true, ..rows(7) }, start);
        assert_eq!(throttle.wait(start + Duration::from_secs(3600)), None);
        throttle.set(rows(7), start);
        assert_eq!(throttle.wait(start), Some(Duration::ZERO));
    }

    #[test]
    fn without_limits_nothing_waits() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Limits::default(), start);
        throttle.begin(amount(u64::MAX, u64::MAX), start);
        assert_eq!(throttle.wait(start), Some(Duration::ZERO));
        assert_eq!(Limits::default().part(), amount(u64::MAX, u64::MAX));
    }

    /// Four readers whose queries take a while, and whose timers are late.
    #[test]
    fn ten_seconds_let_through_what_was_asked_for() {
        for (limits, expected) in [
            (rows(100), 1000),
            (rows(50_000), 500_000),
            (Limits { bytes: 1_000_000, ..Limits::default() }, 100_000),
            (Limits { queries: 2, rows: 1000, ..Limits::default() }, 10_000),
        ] {
            let start = Instant::now();
            let mut throttle = Throttle::new(limits, start);
            let mut free = [start; 4];
            let (mut read, mut turn) = (0, 0u64);
            loop {
                turn += 1;
                let late = Duration::from_millis(turn * 7919 % 40);
                let reader = free.iter_mut().min().expect("four");
                let now = *reader + throttle.wait(*reader).expect("not paused") + late;
                if start + Duration::from_secs(10) <= now {
                    break;
                }
                let part = limits.part();
                let rows = part.rows.min(part.bytes / 100);
                // The last chunks of tables are smaller than expected; each is a query all the same.
                let is_last = limits.queries == 0 && turn.is_multiple_of(5);
                let actual = if is_last { rows / 2 } else { rows };
                throttle.begin(amount(rows, rows * 100), now);
                throttle.settle(amount(rows, rows * 100), amount(actual, actual * 100));
                read += actual;
                *reader = now + Duration::from_millis(20);
            }
            assert!(20 * read.abs_diff(expected) <= expected, "{read} of {expected} by {limits:?}");
        }
    }
}
