//! Whether a commit that returned Ok can hide a copy of itself on the network (delivery-protocol.md,
//! section 5, C2 to C4). Pure: no client, no clock.
//!
//! The client library speaks version 1 of the transaction protocol: a commit request that it sends
//! again in silence, and whose first copy is delayed, can end the *next* transaction of the epoch.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// `retry.backoff.ms` and `retry.backoff.max.ms` of the producers.
pub const RETRY_BACKOFF: Duration = Duration::from_millis(1000);
/// A commit faster than this was not sent twice: the library waits longer before it repeats
/// (the back-off less its jitter of one fifth).
const FAST_MAX: Duration = Duration::from_millis(750);

/// What the library counted for one broker since the instance was made (librdkafka, STATISTICS.md).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Counters {
    #[serde(default)]
    pub req_timeouts: u64,
    #[serde(default)]
    pub txretries: u64,
    #[serde(default)]
    pub disconnects: u64,
}

/// One statistics snapshot: the counters of all brokers, and when they were read.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Snapshot {
    /// Microseconds since the instance was made. A snapshot waits in the client's queue while a call
    /// blocks, so the time of its arrival says nothing.
    age: u64,
    #[serde(default)]
    brokers: BTreeMap<String, Counters>,
}

impl Snapshot {
    /// Reads a statistics document of librdkafka; everything else in it is skipped.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    fn is_after(&self, age: Duration) -> bool {
        age < Duration::from_micros(self.age)
    }

    /// Brokers without incidents do not count: they come and go with the metadata.
    fn troubled(&self) -> impl Iterator<Item = (&String, &Counters)> {
        self.brokers.iter().filter(|(_, counters)| **counters != Counters::default())
    }

    fn agrees_with(&self, other: &Self) -> bool {
        self.troubled().eq(other.troubled())
    }
}

/// Set in the environment of an unoptimised build, every commit passes for clean: the suites show that the rule is needed.
const SWITCH: &str = "DISTRIBUTARY_DIRTY_COMMITS_PASS";

pub(crate) fn is_switched_off() -> bool {
    cfg!(debug_assertions) && std::env::var_os(SWITCH).is_some()
}

/// What is known about a commit that returned Ok.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The instance may go on.
    Clean,
    /// Too slow to be sure: ask again with the next statistics snapshot.
    WaitForStatistics,
    /// The instance must not begin another transaction.
    Dirty,
}

/// Judges by duration alone (C2).
#[must_use]
pub fn judge_duration(took: Duration) -> Verdict {
    if took < FAST_MAX { Verdict::Clean } else { Verdict::WaitForStatistics }
}

/// Judges a slow commit (C3, C4).
///
/// `before`: a snapshot from before the begin; `None` when unreadable. `returned`: when the commit
/// returned, measured from a moment not later than the making of the instance. `after`: the newest
/// snapshot; one that was made before the commit returned cannot have seen its last retry.
#[must_use]
pub fn judge_statistics(
    before: Option<&Snapshot>,
    returned: Duration,
    after: Option<&Snapshot>,
) -> Verdict {
    match (before, after) {
        (Some(_), Some(after)) if !after.is_after(returned) => Verdict::WaitForStatistics,
        (Some(before), Some(after)) if before.agrees_with(after) => Verdict::Clean,
        (Some(_) | None, Some(_) | None) => Verdict::Dirty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RETURNED: Duration = Duration::from_millis(5);
    const LATER: u64 = 5001;

    fn snapshot(age: u64, [req_timeouts, txretries, disconnects]: [u64; 3]) -> Snapshot {
        let counters = Counters { req_timeouts, txretries, disconnects };
        Snapshot { age, brokers: BTreeMap::from([("k1:9092/1".into(), counters)]) }
    }

    #[test]
    fn a_fast_commit_is_clean_and_a_slow_one_needs_statistics() {
        let judge = |ms| judge_duration(Duration::from_millis(ms));
        assert_eq!(judge(0), Verdict::Clean);
        assert_eq!(judge(749), Verdict::Clean);
        assert_eq!(judge(750), Verdict::WaitForStatistics);
        assert_eq!(judge(60_000), Verdict::WaitForStatistics);
    }

    #[test]
    fn the_bound_lies_below_the_shortest_retry() {
        assert!(FAST_MAX <= RETRY_BACKOFF.mul_f64(0.75));
    }

    #[test]
    fn each_counter_alone_makes_a_slow_commit_dirty() {
        let before = snapshot(0, [1, 2, 3]);
        let judge =
            |after| judge_statistics(Some(&before), RETURNED, Some(&snapshot(LATER, after)));
        assert_eq!(judge([1, 2, 3]), Verdict::Clean);
        assert_eq!(judge([2, 2, 3]), Verdict::Dirty);
        assert_eq!(judge([1, 3, 3]), Verdict::Dirty);
        assert_eq!(judge([1, 2, 4]), Verdict::Dirty);
    }

    #[test]
    fn a_snapshot_from_before_the_commit_returned_is_not_believed() {
        let before = snapshot(0, [0; 3]);
        for age in [0, 4999, 5000] {
            let verdict = judge_statistics(Some(&before), RETURNED, Some(&snapshot(age, [0; 3])));
            assert_eq!(verdict, Verdict::WaitForStatistics, "{age}");
        }
    }

    #[test]
    fn statistics_that_cannot_be_read_are_dirty() {
        let same = snapshot(LATER, [0; 3]);
        assert_eq!(judge_statistics(None, RETURNED, Some(&same)), Verdict::Dirty);
        assert_eq!(judge_statistics(Some(&same), RETURNED, None), Verdict::Dirty);
    }

    #[test]
    fn a_broker_that_came_without_incident_changes_nothing() {
        let mut after = snapshot(LATER, [0, 1, 0]);
        after.brokers.insert("k2:9092/2".into(), Counters::default());
        let before = snapshot(0, [0, 1, 0]);
        let judge = |after: &Snapshot| judge_statistics(Some(&before), RETURNED, Some(after));
        assert_eq!(judge(&after), Verdict::Clean);
        after.brokers.clear();
        assert_eq!(judge(&after), Verdict::Dirty);
    }

    #[test]
    fn the_library_s_document_is_understood() {
        let json = br#"{"name":"x","ts":99,"age":7,"brokers":{"k1:9092/1":{"name":"k1","nodeid":1,
            "txretries":2,"req_timeouts":1,"disconnects":3,"rtt":{"min":1}}},"topics":{}}"#;
        assert_eq!(Snapshot::parse(json), Some(snapshot(7, [1, 2, 3])));
        assert_eq!(Snapshot::parse(b"{"), None);
        assert_eq!(
            Snapshot::parse(br#"{"brokers":{}}"#),
            None,
            "without its time it proves nothing"
        );
    }

    proptest! {
        #[test]
        fn a_slow_commit_is_clean_only_if_nothing_was_counted(
            before: [u8; 3], after: [u8; 3], age in 4990u64..5010
        ) {
            let of = |age, it: [u8; 3]| snapshot(age, it.map(u64::from));
            let (begun, ended) = (of(0, before), of(age, after));
            let verdict = judge_statistics(Some(&begun), RETURNED, Some(&ended));
            prop_assert_eq!(verdict == Verdict::Clean, 5000 < age && before == after);
        }
    }
}
