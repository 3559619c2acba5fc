//! How late the newest durable change is, by what is known of what waits. Pure.

use std::time::{Duration, Instant};

/// Since when something waits that the server has and Kafka has not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Lag {
    since: Option<Instant>,
    /// Nothing waited at some moment: what waits now has come after that.
    was_even: bool,
}

impl Lag {
    /// Something waits, or nothing does.
    pub(super) fn look(&mut self, is_behind: bool, now: Instant) {
        match (is_behind, self.since) {
            (true, Some(_)) => {}
            (true, None) => self.since = Some(now),
            (false, _) => *self = Self { since: None, was_even: true },
        }
    }

    /// From the commit of the newest durable change until now; zero: nothing waits; `None`: nothing has come yet. `age`: of
    /// that change; `None`: none has become durable in this process, and the time that this has waited is all that is
    /// known. After a time without changes it is not the age of the last one, but at most the time since nothing waited.
    pub(super) fn latency(self, age: Option<Duration>, now: Instant) -> Option<Duration> {
        let Some(since) = self.since else {
            return (self.was_even || age.is_some()).then_some(Duration::ZERO);
        };
        let waits = now.saturating_duration_since(since);
        Some(match age {
            None => waits,
            Some(age) if self.was_even => age.min(waits),
            Some(age) => age,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_waits_since_the_start_is_late_although_nothing_became_durable() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        assert_eq!(lag.latency(None, start), None, "nothing is known yet");
        lag.look(true, start);
        lag.look(true, start + seconds(5));
        assert_eq!(lag.latency(None, start + seconds(40)), Some(seconds(40)));
        // The first change of a backlog of three hours says how old that is.
        assert_eq!(lag.latency(Some(seconds(10_800)), start + seconds(41)), Some(seconds(10_800)));
    }

    #[test]
    fn after_a_time_without_changes_the_next_one_is_not_late() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        lag.look(false, start);
        assert_eq!(lag.latency(Some(seconds(7200)), start), Some(Duration::ZERO));
        lag.look(true, start + seconds(10));
        assert_eq!(lag.latency(Some(seconds(7200)), start + seconds(12)), Some(seconds(2)));
        // Under a steady load the age of the newest one counts.
        assert_eq!(lag.latency(Some(seconds(1)), start + seconds(900)), Some(seconds(1)));
    }
}
