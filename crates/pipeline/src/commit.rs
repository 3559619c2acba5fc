//! When a lane's Kafka transaction ends (delivery-protocol.md, section 5). Pure.

use std::time::{Duration, Instant};

/// Bounds of one Kafka transaction of a lane.
#[derive(Clone, Copy, Debug)]
pub struct CommitBudget {
    pub bytes_max: u64,
    pub events_max: u64,
    /// The longest that an event waits for its commit while more keep coming.
    pub interval_max: Duration,
    /// One lane: end only where a source transaction ends, unless that passes the bounds.
    pub whole_transactions: bool,
    /// How long a Kafka transaction may wait for the end of its source transaction: well below
    /// `transaction.timeout.ms`, after which the broker aborts it.
    pub open_max: Duration,
}

impl CommitBudget {
    /// The defaults of the protocol with the task's own interval.
    #[must_use]
    pub fn new(interval_max: Duration, lanes: u8) -> Self {
        Self {
            bytes_max: 16 << 20,
            events_max: 50_000,
            interval_max,
            whole_transactions: lanes == 1,
            open_max: Duration::from_secs(10),
        }
    }

    /// The same for a lane whose changes were committed so long ago: a consumer that gets them seconds late
    /// does not see a longer interval, and each commit costs lane and broker as much as some hundred rows.
    #[must_use]
    pub fn behind(&self, lag: Duration) -> Self {
        let longest = self.interval_max.max(INTERVAL_BEHIND_MAX);
        Self { interval_max: (lag / LAG_PER_INTERVAL).clamp(self.interval_max, longest), ..*self }
    }

    /// How long a busy lane lets its queue fill before it looks again.
    pub(crate) fn gather(&self) -> Duration {
        (self.interval_max / 10).min(GATHER_MAX)
    }

    /// How long a busy lane waits for more before it commits.
    fn gather_max(&self) -> Duration {
        self.interval_max / 4
    }
}

/// Of a backlog, what is not committed must fit into the task's credit several times.
const INTERVAL_BEHIND_MAX: Duration = Duration::from_millis(500);
/// An interval is this part of the lag at most.
const LAG_PER_INTERVAL: u32 = 8;
/// Some hundred rows of a lane's share in a busy stream; more saves little.
const GATHER_MAX: Duration = Duration::from_millis(20);

/// What is in the open Kafka transaction.
#[derive(Clone, Copy, Debug)]
pub struct OpenTransaction {
    pub bytes: u64,
    pub events: u64,
    pub opened_at: Instant,
}

/// What the last Kafka transaction of a lane tells about the next one: whether more is on its way where the
/// queue is empty for a moment. A lane that keeps up with a backlog would commit a handful of rows at a
/// time, which costs lane and broker more than the rows do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tempo(Option<Ended>);

#[derive(Clone, Copy, Debug)]
struct Ended {
    events: u64,
    at: Instant,
}

/// Events of a transaction after which the next one is worth a wait. Some thousand small source transactions
/// a second stay below it.
const BUSY_EVENTS: u64 = 16;
/// What begins later than this after the last commit stands alone.
const PAUSE: Duration = Duration::from_millis(20);

impl Tempo {
    /// A transaction was committed.
    pub fn ended(&mut self, transaction: &OpenTransaction, now: Instant) {
        self.0 = Some(Ended { events: transaction.events, at: now });
    }

    /// How long the transaction may still wait for more, with nothing queued now. `None`: not at all.
    #[must_use]
    pub fn patience(
        &self,
        open: &OpenTransaction,
        now: Instant,
        budget: &CommitBudget,
    ) -> Option<Duration> {
        let last = self.0.filter(|last| BUSY_EVENTS <= last.events)?;
        if PAUSE < open.opened_at.saturating_duration_since(last.at) {
            return None;
        }
        let age = now.saturating_duration_since(open.opened_at);
        budget.gather_max().checked_sub(age).filter(|rest| !rest.is_zero())
    }
}

/// Where the lane stands when it asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    /// Between two changes of a batch.
    Change,
    /// After a batch; the next one waits already.
    Batch { ends_transaction: bool },
    /// After a batch, and nothing waits.
    Idle { ends_transaction: bool },
}

impl OpenTransaction {
    /// Whether it has all that one transaction may have.
    #[must_use]
    pub fn is_full(&self, budget: &CommitBudget) -> bool {
        budget.bytes_max <= self.bytes || budget.events_max <= self.events
    }

    /// Whether to commit now.
    #[must_use]
    pub fn is_due(&self, at: At, now: Instant, budget: &CommitBudget) -> bool {
        let age = now.saturating_duration_since(self.opened_at);
        let late = budget.interval_max <= age;
        let full = self.is_full(budget) || budget.open_max <= age;
        match at {
            At::Change => full,
            At::Batch { ends_transaction } => {
                full || (late && (ends_transaction || !budget.whole_transactions))
            }
            At::Idle { ends_transaction } => full || ends_transaction || !budget.whole_transactions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lanes: u8, bytes: u64, age_ms: u64, at: At) -> bool {
        let budget = CommitBudget::new(Duration::from_millis(200), lanes);
        let now = Instant::now();
        let open = OpenTransaction { bytes, events: 1, opened_at: now };
        open.is_due(at, now + Duration::from_millis(age_ms), &budget)
    }

    #[test]
    fn a_lone_change_is_committed_at_once() {
        assert!(check(8, 1, 0, At::Idle { ends_transaction: true }));
    }

    #[test]
    fn a_backlog_is_committed_by_interval_and_size() {
        assert!(!check(8, 1, 0, At::Batch { ends_transaction: true }));
        assert!(check(8, 1, 200, At::Batch { ends_transaction: false }));
        assert!(check(8, 16 << 20, 0, At::Change));
    }

    #[test]
    fn one_lane_commits_whole_source_transactions_up_to_the_budget() {
        assert!(!check(1, 1, 9_000, At::Batch { ends_transaction: false }));
        assert!(!check(1, 1, 9_000, At::Idle { ends_transaction: false }));
        assert!(check(1, 1, 200, At::Batch { ends_transaction: true }));
        assert!(check(1, 16 << 20, 0, At::Change));
    }

    /// How long, in milliseconds, a transaction waits for more that began `begun_ms` after one of so many
    /// events was committed, and is `age_ms` old.
    fn patience(events: u64, begun_ms: u64, age_ms: u64) -> Option<u128> {
        let (budget, now) = (CommitBudget::new(Duration::from_millis(200), 8), Instant::now());
        let mut tempo = Tempo::default();
        tempo.ended(&OpenTransaction { bytes: 1, events, opened_at: now }, now);
        let opened_at = now + Duration::from_millis(begun_ms);
        let open = OpenTransaction { bytes: 1, events: 1, opened_at };
        let now = opened_at + Duration::from_millis(age_ms);
        tempo.patience(&open, now, &budget).map(|rest| rest.as_millis())
    }

    #[test]
    fn only_a_busy_lane_waits_for_more_and_only_for_a_moment() {
        assert_eq!(patience(16, 0, 0), Some(50));
        assert_eq!(patience(16, 20, 49), Some(1));
        assert_eq!(patience(16, 0, 50), None);
        assert_eq!(patience(16, 21, 0), None, "it came after a pause");
        assert_eq!(patience(15, 0, 0), None, "the one before was small");
        let open = OpenTransaction { bytes: 1, events: 1, opened_at: Instant::now() };
        let budget = CommitBudget::new(Duration::from_millis(200), 8);
        assert_eq!(Tempo::default().patience(&open, open.opened_at, &budget), None);
    }

    #[test]
    fn a_lane_far_behind_commits_less_often_and_never_more_often() {
        let interval = |own_ms, lag_ms| {
            let budget = CommitBudget::new(Duration::from_millis(own_ms), 8);
            budget.behind(Duration::from_millis(lag_ms)).interval_max.as_millis()
        };
        assert_eq!(
            [0, 1_600, 3_200, 3_600_000].map(|lag| interval(200, lag)),
            [200, 200, 400, 500]
        );
        assert_eq!([0, 3_600_000].map(|lag| interval(2_000, lag)), [2_000, 2_000]);
    }

    #[test]
    fn the_broker_must_not_abort_what_waits_too_long() {
        assert!(check(1, 1, 10_000, At::Idle { ends_transaction: false }));
    }
}
