//! When to try again, and when to stop trying. Pure: the caller says what time it is.

use crate::FailureClass;
use std::time::{Duration, Instant};

/// Bounds of trying again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RestartPolicy {
    /// Delay before the first retry; doubles with each further one.
    pub delay_min: Duration,
    pub delay_max: Duration,
    /// How long a series of [`FailureClass::Connection`] failures may last (P65).
    pub connection_window: Duration,
    /// How long a series of other failures may last (P66).
    pub other_window: Duration,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    RestartAfter(Duration),
    /// The class allows no retry, or its window has passed.
    GiveUp,
}

/// The failures of one thing since it last made progress.
#[derive(Clone, Debug, Default)]
pub struct FailureLog {
    since: Option<Instant>,
    count: u32,
}

impl RestartPolicy {
    /// How long a series of failures of this class may last.
    #[must_use]
    pub fn window(&self, class: FailureClass) -> Duration {
        match class {
            FailureClass::Fatal | FailureClass::Poison => Duration::ZERO,
            FailureClass::Connection => self.connection_window,
            FailureClass::Transient | FailureClass::Fenced => self.other_window,
        }
    }
}

impl FailureLog {
    /// Counts a failure at `now` and decides. `jitter` is a random number: the delay is spread over
    /// the upper half of its value so that many that failed together do not come back together.
    pub fn record(
        &mut self,
        class: FailureClass,
        now: Instant,
        jitter: u32,
        policy: &RestartPolicy,
    ) -> Verdict {
        if matches!(class, FailureClass::Fatal | FailureClass::Poison) {
            return Verdict::GiveUp;
        }
        let since = *self.since.get_or_insert(now);
        if policy.window(class) < now.saturating_duration_since(since) {
            return Verdict::GiveUp;
        }
        let delay = policy.delay_min.saturating_mul(2u32.saturating_pow(self.count));
        self.count = self.count.saturating_add(1);
        let delay = delay.min(policy.delay_max);
        let spread = delay / 2;
        let share = f64::from(jitter) / f64::from(u32::MAX);
        Verdict::RestartAfter(delay - spread + spread.mul_f64(share))
    }

    /// Progress was made: the next failure begins a new series.
    pub fn progressed(&mut self) {
        *self = Self::default();
    }

    /// Failures in the present series.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Start of the present series.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RestartPolicy = RestartPolicy {
        delay_min: Duration::from_millis(100),
        delay_max: Duration::from_secs(1),
        connection_window: Duration::from_secs(60),
        other_window: Duration::from_secs(10),
    };

    #[test]
    fn delays_double_up_to_their_limit() {
        let (mut log, now) = (FailureLog::default(), Instant::now());
        let delays: Vec<Verdict> =
            (0..6).map(|_| log.record(FailureClass::Transient, now, u32::MAX, &POLICY)).collect();
        let expected = [100, 200, 400, 800, 1000, 1000]
            .map(|ms| Verdict::RestartAfter(Duration::from_millis(ms)));
        assert_eq!(delays, expected);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let (mut log, now) = (FailureLog::default(), Instant::now());
        let verdict = log.record(FailureClass::Transient, now, 0, &POLICY);
        assert_eq!(verdict, Verdict::RestartAfter(Duration::from_millis(50)));
    }

    #[test]
    fn each_class_has_its_window() {
        let now = Instant::now();
        let late = now + Duration::from_secs(11);
        for (class, gives_up) in
            [(FailureClass::Connection, false), (FailureClass::Transient, true)]
        {
            let mut log = FailureLog::default();
            log.record(class, now, 0, &POLICY);
            assert_eq!(log.record(class, late, 0, &POLICY) == Verdict::GiveUp, gives_up);
        }
    }

    #[test]
    fn progress_ends_the_series() {
        let (mut log, now) = (FailureLog::default(), Instant::now());
        log.record(FailureClass::Transient, now, 0, &POLICY);
        log.progressed();
        let late = now + Duration::from_secs(11);
        assert_ne!(log.record(FailureClass::Transient, late, 0, &POLICY), Verdict::GiveUp);
    }

    #[test]
    fn what_a_person_must_decide_is_never_retried() {
        for class in [FailureClass::Fatal, FailureClass::Poison] {
            let verdict = FailureLog::default().record(class, Instant::now(), 0, &POLICY);
            assert_eq!(verdict, Verdict::GiveUp);
        }
    }
}
