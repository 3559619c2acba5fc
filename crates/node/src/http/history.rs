//! The last hour of every task, in memory: what latency and rate were, round by round. Pure: the caller says what
//! time it is.
//!
//! In:    a [`Status`] every ten seconds.
//! Out:   [`Round`]s after a given one; the rate of now.
//! Holds: [`ROUNDS_MAX`] rounds of at most [`TASKS_MAX`] tasks.
//! Never: makes up a figure. A front that began anew counts from zero: that round has no rate.

use super::Status;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How often the tasks are looked at.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// An hour.
pub(super) const ROUNDS_MAX: usize = 360;
/// Tasks that are remembered in a round; further ones have no curve.
const TASKS_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct History {
    rounds: VecDeque<Round>,
    /// Number of the last round.
    last: u64,
    /// Records of each task, and when that was.
    counted: BTreeMap<String, (u64, Instant)>,
}

/// One look at all tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Round {
    pub(super) round: u64,
    pub(super) at_unix_ms: u64,
    pub(super) tasks: BTreeMap<String, Point>,
}

/// Latency in milliseconds, records per second, bytes behind: in that order, to be short.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Point(pub(super) Option<u64>, pub(super) Option<f64>, pub(super) u64);

impl History {
    pub(super) fn note(&mut self, status: &Status, now: Instant) {
        let measured = status.tasks.iter().filter_map(|it| Some((&it.name, it.measured?)));
        let measured: Vec<_> = measured.take(TASKS_MAX).collect();
        let mut tasks = BTreeMap::new();
        let mut counted = BTreeMap::new();
        for (name, it) in measured {
            let rate = it.rate.or_else(|| {
                let (before, at) = self.counted.get(name)?;
                let seconds = now.saturating_duration_since(*at).as_secs_f64();
                let new = it.records.checked_sub(*before)?;
                (0.0 < seconds).then(|| new as f64 / seconds)
            });
            let rate = rate.map(|rate| (rate * 10.0).round() / 10.0);
            tasks.insert(name.clone(), Point(it.latency_ms, rate, it.lag_bytes));
            counted.insert(name.clone(), (it.records, now));
        }
        self.counted = counted;
        self.last += 1;
        if self.rounds.len() == ROUNDS_MAX {
            self.rounds.pop_front();
        }
        self.rounds.push_back(Round { round: self.last, at_unix_ms: status.seen_unix_ms, tasks });
    }

    /// What came after a round; all of it after 0, and after a round that is of another life of this node.
    pub(super) fn after(&self, round: u64) -> impl Iterator<Item = &Round> {
        let from = if self.last < round { 0 } else { round };
        self.rounds.iter().filter(move |it| from < it.round)
    }

    /// Records per second, as last seen.
    pub(super) fn rate(&self, task: &str) -> Option<f64> {
        self.rounds.back()?.tasks.get(task)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::{Measured, Task};
    use super::*;

    fn status(records: u64) -> Status {
        let measured =
            Some(Measured { records, latency_ms: Some(7), lag_bytes: 9, ..Measured::default() });
        let task = Task { name: "shop".into(), measured, ..Task::default() };
        Status { tasks: vec![task], ..Status::default() }
    }

    #[test]
    fn a_rate_is_what_came_between_two_looks() {
        let (mut history, start) = (History::default(), Instant::now());
        history.note(&status(100), start);
        assert_eq!(history.rate("shop"), None);
        history.note(&status(350), start + EVERY);
        assert_eq!(history.rate("shop"), Some(25.0));
        // The front began anew.
        history.note(&status(10), start + EVERY * 2);
        assert_eq!(history.rate("shop"), None);
        let points: Vec<_> = history.after(0).map(|round| round.tasks["shop"]).collect();
        let point = |rate| Point(Some(7), rate, 9);
        assert_eq!(points, [point(None), point(Some(25.0)), point(None)]);
    }

    #[test]
    fn an_hour_is_kept_and_asked_for_piece_by_piece() {
        let (mut history, start) = (History::default(), Instant::now());
        for round in 0..400 {
            history.note(&status(u64::from(round)), start + EVERY * round);
        }
        assert_eq!(history.after(0).count(), ROUNDS_MAX);
        assert_eq!(history.after(0).next().map(|it| it.round), Some(41));
        assert_eq!(history.after(398).map(|it| it.round).collect::<Vec<_>>(), [399, 400]);
        assert_eq!(history.after(5000).count(), ROUNDS_MAX);
    }

    #[test]
    fn a_task_that_nobody_measures_has_no_point() {
        let mut history = History::default();
        let task = Task { name: "shop".into(), ..Task::default() };
        history.note(&Status { tasks: vec![task], ..Status::default() }, Instant::now());
        assert!(history.after(0).all(|round| round.tasks.is_empty()));
    }
}
