//! How fast something goes right now. Pure: the caller says what time it is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counts that come closer together than this are one.
const SPACING: Duration = Duration::from_millis(100);

/// Counts of the last seconds.
#[derive(Debug)]
pub struct Rate {
    /// What lies further back does not count.
    window: Duration,
    counts: VecDeque<(Instant, u64)>,
}

impl Rate {
    #[must_use]
    pub fn over(window: Duration) -> Self {
        Self { window, counts: VecDeque::new() }
    }

    /// Takes the count of now; the first is where counting begins.
    pub fn per_second(&mut self, count: u64, now: Instant) -> f64 {
        let last = self.counts.back().map(|&(at, _)| now.saturating_duration_since(at));
        if last.is_none_or(|since| SPACING <= since) {
            self.counts.push_back((now, count));
        }
        let is_old = |&(at, _): &(Instant, u64)| self.window <= now.saturating_duration_since(at);
        while self.counts.get(1).is_some_and(is_old) {
            self.counts.pop_front();
        }
        let Some(&(since, first)) = self.counts.front() else { return 0.0 };
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        if seconds == 0.0 { 0.0 } else { count.saturating_sub(first) as f64 / seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> Rate {
        Rate::over(Duration::from_secs(5))
    }

    #[test]
    fn what_was_there_before_is_no_speed() {
        let start = Instant::now();
        let mut rate = rate();
        assert_eq!(rate.per_second(200_000, start), 0.0);
        assert_eq!(rate.per_second(200_500, start + Duration::from_millis(500)), 1000.0);
    }

    #[test]
    fn a_burst_is_forgotten_after_the_window() {
        let start = Instant::now();
        let mut rate = rate();
        rate.per_second(0, start);
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(rate.per_second(5000, at(1)), 5000.0);
        assert_eq!(rate.per_second(5000, at(5)), 1000.0);
        assert_eq!(rate.per_second(5000, at(6)), 0.0);
    }

    #[test]
    fn whoever_asks_often_learns_the_same_and_costs_no_memory() {
        let start = Instant::now();
        let mut rate = rate();
        let asked =
            (0..100_000).map(|ms| rate.per_second(ms * 2, start + Duration::from_millis(ms)));
        let last = asked.last().expect("asked");
        assert!((last - 2000.0).abs() < 0.001, "{last}");
        assert!(rate.counts.len() < 55, "{}", rate.counts.len());
    }
}
