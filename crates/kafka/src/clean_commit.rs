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
/// A snapshot may have been begun before the commit returned; the one after it was not.
const SNAPSHOTS_AFTER: u64 = 2;

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

/// The counters of all brokers in one statistics snapshot.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct BrokerCounters {
    #[serde(default)]
    brokers: BTreeMap<String, Counters>,
}

impl BrokerCounters {
    /// Reads a statistics document of librdkafka; everything else in it is skipped.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Brokers without incidents do not count: they come and go with the metadata.
    fn troubled(&self) -> impl Iterator<Item = (&String, &Counters)> {
        self.brokers.iter().filter(|(_, counters)| **counters != Counters::default())
    }

    fn agrees_with(&self, other: &Self) -> bool {
        self.troubled().eq(other.troubled())
    }
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
/// `before`: counters at begin; `None` when unreadable. `snapshots_since`: snapshots that arrived
/// after the commit returned, `after` being the newest of them.
#[must_use]
pub fn judge_statistics(
    before: Option<&BrokerCounters>,
    snapshots_since: u64,
    after: Option<&BrokerCounters>,
) -> Verdict {
    if snapshots_since < SNAPSHOTS_AFTER {
        return Verdict::WaitForStatistics;
    }
    match (before, after) {
        (Some(before), Some(after)) if before.agrees_with(after) => Verdict::Clean,
        (Some(_) | None, Some(_) | None) => Verdict::Dirty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counters(req_timeouts: u64, txretries: u64, disconnects: u64) -> BrokerCounters {
        let counters = Counters { req_timeouts, txretries, disconnects };
        BrokerCounters { brokers: BTreeMap::from([("k1:9092/1".into(), counters)]) }
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
        let before = counters(1, 2, 3);
        let judge = |after: &BrokerCounters| judge_statistics(Some(&before), 2, Some(after));
        assert_eq!(judge(&counters(1, 2, 3)), Verdict::Clean);
        assert_eq!(judge(&counters(2, 2, 3)), Verdict::Dirty);
        assert_eq!(judge(&counters(1, 3, 3)), Verdict::Dirty);
        assert_eq!(judge(&counters(1, 2, 4)), Verdict::Dirty);
    }

    #[test]
    fn a_snapshot_begun_before_the_commit_returned_is_not_believed() {
        let same = counters(0, 0, 0);
        for since in 0..SNAPSHOTS_AFTER {
            let verdict = judge_statistics(Some(&same), since, Some(&same));
            assert_eq!(verdict, Verdict::WaitForStatistics);
        }
    }

    #[test]
    fn statistics_that_cannot_be_read_are_dirty() {
        let same = counters(0, 0, 0);
        assert_eq!(judge_statistics(None, 2, Some(&same)), Verdict::Dirty);
        assert_eq!(judge_statistics(Some(&same), 2, None), Verdict::Dirty);
    }

    #[test]
    fn a_broker_that_came_without_incident_changes_nothing() {
        let mut after = counters(0, 1, 0);
        after.brokers.insert("k2:9092/2".into(), Counters::default());
        let before = counters(0, 1, 0);
        assert_eq!(judge_statistics(Some(&before), 2, Some(&after)), Verdict::Clean);
        after.brokers.clear();
        assert_eq!(judge_statistics(Some(&before), 2, Some(&after)), Verdict::Dirty);
    }

    #[test]
    fn the_library_s_document_is_understood() {
        let json = br#"{"name":"x","brokers":{"k1:9092/1":{"name":"k1","nodeid":1,"txretries":2,
            "req_timeouts":1,"disconnects":3,"rtt":{"min":1}}},"topics":{}}"#;
        assert_eq!(BrokerCounters::parse(json), Some(counters(1, 2, 3)));
        assert_eq!(BrokerCounters::parse(b"{"), None);
    }

    proptest! {
        #[test]
        fn a_slow_commit_is_clean_only_if_nothing_was_counted(
            before: [u8; 3], after: [u8; 3], since in 0u64..5
        ) {
            let of = |it: [u8; 3]| counters(it[0].into(), it[1].into(), it[2].into());
            let verdict = judge_statistics(Some(&of(before)), since, Some(&of(after)));
            prop_assert_eq!(verdict == Verdict::Clean, 2 <= since && before == after);
        }
    }
}
