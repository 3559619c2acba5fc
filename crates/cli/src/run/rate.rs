//! How fast something goes right now. Pure: the caller says what time it is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What lies further back does not count.
const WINDOW: Duration = Duration::from_secs(5);

/// Counts of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    /// Takes the count of now; the first is where counting begins.
    pub(super) fn per_second(&mut self, count: u64, now: Instant) -> u64 {
        self.0.push_back((now, count));
        while self.0.get(1).is_some_and(|&(at, _)| WINDOW <= now.saturating_duration_since(at)) {
            self.0.pop_front();
        }
        let Some(&(since, first)) = self.0.front() else { return 0 };
        let millis = now.saturating_duration_since(since).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        count.saturating_sub(first).saturating_mul(1000).checked_div(millis).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_no_speed() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(200_000, start), 0);
        assert_eq!(rate.per_second(200_500, start + Duration::from_millis(500)), 1000);
    }

    #[test]
    fn a_burst_is_forgotten_after_the_window() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.per_second(0, start);
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(rate.per_second(5000, at(1)), 5000);
        assert_eq!(rate.per_second(5000, at(5)), 1000);
        assert_eq!(rate.per_second(5000, at(6)), 0);
    }
}
