//! Every metric: its name, its labels and what it means. A scrape is filled from what is known at that moment and
//! written once; nothing is counted here.
//!
//! Nodes tell what they know, so two of them may tell of the same task: take `max by (task, …)`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// What the text of [`Scrape::text`] is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All names begin so.
const PREFIX: &str = "distributary";

type Bytes = Gauge<u64, AtomicU64>;
type Count = Gauge<u64, AtomicU64>;
type Seconds = Gauge<f64, AtomicU64>;

/// Metrics of a node at one moment.
pub struct Scrape {
    registry: Registry,
    node_info: Family<OfNode, Count>,
    ready: Count,
    leader: Family<OfLeader, Count>,
    term: Count,
    spans_dropped: Counter,
    members: Family<OfMembers, Count>,
    task_state: Family<OfState, Count>,
    lanes: Family<OfState, Count>,
    lane_records: Family<OfLane, Counter>,
    records: Family<OfTask, Counter>,
    dead_letters: Family<OfTask, Counter>,
    ddl_gaps: Family<OfTask, Counter>,
    commits: Family<OfTask, Counter>,
    wal_bytes: Family<OfTask, Counter>,
    latency: Family<OfTask, Seconds>,
    lag_bytes: Family<OfTask, Bytes>,
    watermark: Family<OfTask, Bytes>,
    source_end: Family<OfTask, Bytes>,
    retries: Family<OfTask, Count>,
    credit_used: Family<OfTask, Bytes>,
    credit_max: Family<OfTask, Bytes>,
    spool_bytes: Family<OfTask, Bytes>,
    spool_transactions: Family<OfTask, Count>,
    snapshot_rows: Family<OfTask, Count>,
    snapshot_rows_estimated: Family<OfTask, Count>,
    snapshot_bytes: Family<OfTask, Bytes>,
    snapshot_rate: Family<OfTask, Seconds>,
    snapshot_left: Family<OfTask, Seconds>,
    snapshot_tables: Family<OfTask, Count>,
    snapshot_tables_done: Family<OfTask, Count>,
    failures: Family<OfClass, Counter>,
    slot_retained: Family<OfTask, Bytes>,
    slot_safe: Family<OfTask, Bytes>,
    slot_in_danger: Family<OfTask, Count>,
    oldest_transaction: Family<OfTask, Seconds>,
    standbys_missing: Family<OfTask, Count>,
}

/// How a task's slot fares.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeasuredSlot {
    pub retained_bytes: u64,
    /// `None`: no limit.
    pub safe_bytes: Option<u64>,
    pub is_in_danger: bool,
    /// Zero: none is open.
    pub oldest_transaction: Duration,
    pub standbys_missing: u64,
}

/// How far a task's snapshot is.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeasuredSnapshot {
    pub rows: u64,
    pub rows_estimated: u64,
    pub bytes: u64,
    /// Rows per second.
    pub rate: f64,
    /// `None`: nothing is read now, or more than was expected.
    pub left: Option<Duration>,
    pub tables: u64,
    pub tables_done: u64,
}

/// What the node that runs a task's front has measured. What is `None` is not known here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    pub records: u64,
    pub dead_letters: u64,
    pub ddl_gaps: u64,
    pub commits: Option<u64>,
    pub wal_bytes: Option<u64>,
    pub latency: Option<Duration>,
    pub lag_bytes: u64,
    pub watermark: u64,
    pub source_end: Option<u64>,
    pub retries: u64,
    /// Bytes held, and the most that may be.
    pub credit: Option<(u64, u64)>,
    /// Bytes of spooled transactions, and how many there are.
    pub spool: Option<(u64, u64)>,
    pub snapshot: Option<MeasuredSnapshot>,
    pub slot: Option<MeasuredSlot>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfNode {
    node: String,
    role: String,
    version: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfLeader {
    leader: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfMembers {
    role: String,
    state: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfTask {
    task: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfClass {
    task: String,
    class: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfState {
    task: String,
    state: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfLane {
    task: String,
    lane: u32,
}

impl Default for Scrape {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers a metric and hands it out; a counter's name gets `_total` behind it.
fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Scrape {
    #[must_use]
    #[rustfmt::skip]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        Self {
            node_info: add(r, "node_info", "Who this is; always 1"),
            ready: add(r, "node_ready", "1: the node can do its work, as /readyz says"),
            leader: add(r, "cluster_leader", "1: the coordinator that leads, as this node knows it"),
            term: add(r, "cluster_term", "Term of the leader; grows with each change"),
            spans_dropped: add(r, "trace_spans_dropped", "Spans that the collector of traces did not get"),
            members: add(r, "cluster_members", "Nodes by what they are and how they fare"),
            task_state: add(r, "task_state", "1: the task is in this state; 0: in another one"),
            lanes: add(r, "task_lanes", "Lanes of a task by how they fare"),
            lane_records: add(r, "lane_records", "Records that a lane of another node's task has written here"),
            records: add(r, "task_records", "Records given to Kafka since the front began, tombstones included"),
            dead_letters: add(r, "task_dead_letters", "Changes that went to the dead-letter topic since the front began"),
            ddl_gaps: add(r, "task_ddl_gaps", "DDL statements that the event trigger could not capture, since the front began"),
            commits: add(r, "task_commits", "Kafka transactions committed since the front began"),
            wal_bytes: add(r, "task_wal_bytes", "Bytes received from the database since the front began"),
            latency: add(r, "task_latency_seconds", "From the commit of the newest durable change until now; 0: nothing waits"),
            lag_bytes: add(r, "task_lag_bytes", "WAL between the watermark and the database's end"),
            watermark: add(r, "task_watermark_lsn", "Everything up to this position of the WAL, in bytes, is durable in Kafka"),
            source_end: add(r, "task_source_end_lsn", "The database's end of WAL, in bytes"),
            retries: add(r, "task_retries", "Attempts of what is being tried again; 0: nothing is"),
            credit_used: add(r, "task_credit_used_bytes", "Bytes that a task holds between the database and Kafka"),
            credit_max: add(r, "task_credit_max_bytes", "Bytes that a task may hold; all of them held: Kafka is what is slow"),
            spool_bytes: add(r, "task_spool_bytes", "Bytes on disk of transactions in progress (source.streaming), where the reader runs with the router"),
            spool_transactions: add(r, "task_spool_transactions", "Transactions in progress that are spooled, or read again from their spool"),
            snapshot_rows: add(r, "task_snapshot_rows", "Rows that the snapshot has read"),
            snapshot_rows_estimated: add(r, "task_snapshot_rows_estimated", "Rows that the snapshot is expected to have"),
            snapshot_bytes: add(r, "task_snapshot_bytes", "Bytes of COPY that the snapshot has read"),
            snapshot_rate: add(r, "task_snapshot_rows_per_second", "Rows per second that the snapshot reads, over the last ten seconds"),
            snapshot_left: add(r, "task_snapshot_left_seconds", "How long the snapshot takes yet at this rate; absent: nothing is read now, or the estimate was too low"),
            snapshot_tables: add(r, "task_snapshot_tables", "Tables of the snapshot and of those that were asked for"),
            snapshot_tables_done: add(r, "task_snapshot_tables_done", "Tables of these of which nothing more will be read"),
            failures: add(r, "task_failures", "Failures of the front and of lanes since the front began, by what they mean"),
            slot_retained: add(r, "task_slot_retained_bytes", "WAL that the database keeps for the slot"),
            slot_safe: add(r, "task_slot_safe_bytes", "WAL that may still be written before the slot can be lost; absent: no limit"),
            slot_in_danger: add(r, "task_slot_in_danger", "1: the slot may be lost or stands still, as the log and the alert say"),
            oldest_transaction: add(r, "task_oldest_transaction_seconds", "Age of the oldest open transaction that has written: the slot cannot pass it"),
            standbys_missing: add(r, "task_standbys_missing", "Standbys of synchronized_standby_slots that the slot waits for"),
            registry,
        }
    }

    /// Who tells all this.
    pub fn node(&self, node: &str, role: &str, version: &str) {
        let [node, role, version] = [node, role, version].map(str::to_owned);
        self.node_info.get_or_create(&OfNode { node, role, version }).set(1);
    }

    pub fn ready(&self, ready: bool) {
        self.ready.set(u64::from(ready));
    }

    /// Spans that were to be sent and were not.
    pub fn spans_dropped(&self, spans: u64) {
        self.spans_dropped.inc_by(spans);
    }

    pub fn leader(&self, leader: Option<&str>, term: u64) {
        if let Some(leader) = leader {
            self.leader.get_or_create(&OfLeader { leader: leader.into() }).set(1);
        }
        self.term.set(term);
    }

    /// One node of the cluster, this one included.
    pub fn member(&self, role: &str, state: &str) {
        let labels = OfMembers { role: role.into(), state: state.into() };
        self.members.get_or_create(&labels).inc();
    }

    /// A task's state, out of all that it could be in: alerts need those that it is not in.
    pub fn task_state<'a>(&self, task: &str, state: &str, all: impl Iterator<Item = &'a str>) {
        for one in all {
            let labels = OfState { task: task.into(), state: one.into() };
            self.task_state.get_or_create(&labels).set(u64::from(one == state));
        }
    }

    /// One lane of a task.
    pub fn lane(&self, task: &str, state: &str) {
        self.lanes.get_or_create(&OfState { task: task.into(), state: state.into() }).inc();
    }

    /// What a lane of another node's task has written here.
    pub fn lane_records(&self, task: &str, lane: u32, records: u64) {
        let labels = OfLane { task: task.into(), lane };
        self.lane_records.get_or_create(&labels).inc_by(records);
    }

    /// How often the front or a lane has failed, by the word of the class.
    pub fn failures<'a>(&self, task: &str, failures: impl Iterator<Item = (&'a str, u64)>) {
        for (class, count) in failures {
            let labels = OfClass { task: task.into(), class: class.into() };
            self.failures.get_or_create(&labels).inc_by(count);
        }
    }

    pub fn measured(&self, task: &str, measured: &Measured) {
        let of = OfTask { task: task.into() };
        self.records.get_or_create(&of).inc_by(measured.records);
        self.dead_letters.get_or_create(&of).inc_by(measured.dead_letters);
        self.ddl_gaps.get_or_create(&of).inc_by(measured.ddl_gaps);
        self.lag_bytes.get_or_create(&of).set(measured.lag_bytes);
        self.watermark.get_or_create(&of).set(measured.watermark);
        self.retries.get_or_create(&of).set(measured.retries);
        if let Some(commits) = measured.commits {
            self.commits.get_or_create(&of).inc_by(commits);
        }
        if let Some(bytes) = measured.wal_bytes {
            self.wal_bytes.get_or_create(&of).inc_by(bytes);
        }
        if let Some(latency) = measured.latency {
            self.latency.get_or_create(&of).set(latency.as_secs_f64());
        }
        if let Some(end) = measured.source_end {
            self.source_end.get_or_create(&of).set(end);
        }
        if let Some((used, max)) = measured.credit {
            self.credit_used.get_or_create(&of).set(used);
            self.credit_max.get_or_create(&of).set(max);
        }
        if let Some((bytes, transactions)) = measured.spool {
            self.spool_bytes.get_or_create(&of).set(bytes);
            self.spool_transactions.get_or_create(&of).set(transactions);
        }
        if let Some(slot) = measured.slot {
            self.slot_retained.get_or_create(&of).set(slot.retained_bytes);
            if let Some(bytes) = slot.safe_bytes {
                self.slot_safe.get_or_create(&of).set(bytes);
            }
            self.slot_in_danger.get_or_create(&of).set(u64::from(slot.is_in_danger));
            self.oldest_transaction.get_or_create(&of).set(slot.oldest_transaction.as_secs_f64());
            self.standbys_missing.get_or_create(&of).set(slot.standbys_missing);
        }
        if let Some(snapshot) = &measured.snapshot {
            self.snapshot(&of, snapshot);
        }
    }

    fn snapshot(&self, of: &OfTask, snapshot: &MeasuredSnapshot) {
        self.snapshot_rows.get_or_create(of).set(snapshot.rows);
        self.snapshot_rows_estimated.get_or_create(of).set(snapshot.rows_estimated);
        self.snapshot_bytes.get_or_create(of).set(snapshot.bytes);
        self.snapshot_rate.get_or_create(of).set(snapshot.rate);
        if let Some(left) = snapshot.left {
            self.snapshot_left.get_or_create(of).set(left.as_secs_f64());
        }
        self.snapshot_tables.get_or_create(of).set(snapshot.tables);
        self.snapshot_tables_done.get_or_create(of).set(snapshot.tables_done);
    }

    /// All of it, for Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn everything_measured() -> Measured {
        Measured {
            records: 7,
            dead_letters: 1,
            ddl_gaps: 2,
            commits: Some(2),
            wal_bytes: Some(1 << 40),
            latency: Some(Duration::from_millis(1500)),
            lag_bytes: 10,
            watermark: u64::MAX - 1,
            source_end: Some(u64::MAX),
            retries: 1,
            credit: Some((5, 6)),
            spool: Some((9, 2)),
            snapshot: Some(MeasuredSnapshot {
                rows: 3,
                rows_estimated: 4,
                bytes: 300,
                rate: 0.5,
                left: Some(Duration::from_secs(2)),
                tables: 5,
                tables_done: 2,
            }),
            slot: Some(MeasuredSlot {
                retained_bytes: 8,
                safe_bytes: Some(9),
                is_in_danger: true,
                oldest_transaction: Duration::from_secs(2),
                standbys_missing: 1,
            }),
        }
    }

    fn filled() -> Scrape {
        let scrape = Scrape::new();
        scrape.node("w1", "worker", "0.1.0");
        scrape.ready(true);
        scrape.spans_dropped(2);
        scrape.leader(Some("c1"), 42);
        scrape.member("worker", "alive");
        scrape.member("worker", "alive");
        scrape.task_state("shop", "parked", ["parked", "failed"].into_iter());
        scrape.lane("shop", "running");
        scrape.lane_records("other", 3, 9);
        let measured = everything_measured();
        scrape.measured("shop", &measured);
        scrape.failures("shop", [("connection", 3), ("fatal", 0)].into_iter());
        scrape
    }

    /// What is told of metrics of these names.
    fn told(is: impl Fn(&str) -> bool) -> String {
        let text = filled().text();
        let mut values: Vec<&str> = text.lines().filter(|line| !line.starts_with("# H")).collect();
        // The series of a family come in the order of a hash map.
        let families = values.chunk_by_mut(|_, next| !next.starts_with('#'));
        families.for_each(|family| family[1..].sort_unstable());
        values.retain(|line| is(line));
        values.join("\n")
    }

    #[test]
    fn every_metric_has_its_name_its_labels_and_its_value() {
        let values = told(|name| !(name.contains("_snapshot_") || name.contains("_failures")));
        expect![[r##"
            # TYPE distributary_node_info gauge
            distributary_node_info{node="w1",role="worker",version="0.1.0"} 1
            # TYPE distributary_node_ready gauge
            distributary_node_ready 1
            # TYPE distributary_cluster_leader gauge
            distributary_cluster_leader{leader="c1"} 1
            # TYPE distributary_cluster_term gauge
            distributary_cluster_term 42
            # TYPE distributary_trace_spans_dropped counter
            distributary_trace_spans_dropped_total 2
            # TYPE distributary_cluster_members gauge
            distributary_cluster_members{role="worker",state="alive"} 2
            # TYPE distributary_task_state gauge
            distributary_task_state{task="shop",state="failed"} 0
            distributary_task_state{task="shop",state="parked"} 1
            # TYPE distributary_task_lanes gauge
            distributary_task_lanes{task="shop",state="running"} 1
            # TYPE distributary_lane_records counter
            distributary_lane_records_total{task="other",lane="3"} 9
            # TYPE distributary_task_records counter
            distributary_task_records_total{task="shop"} 7
            # TYPE distributary_task_dead_letters counter
            distributary_task_dead_letters_total{task="shop"} 1
            # TYPE distributary_task_ddl_gaps counter
            distributary_task_ddl_gaps_total{task="shop"} 2
            # TYPE distributary_task_commits counter
            distributary_task_commits_total{task="shop"} 2
            # TYPE distributary_task_wal_bytes counter
            distributary_task_wal_bytes_total{task="shop"} 1099511627776
            # TYPE distributary_task_latency_seconds gauge
            distributary_task_latency_seconds{task="shop"} 1.5
            # TYPE distributary_task_lag_bytes gauge
            distributary_task_lag_bytes{task="shop"} 10
            # TYPE distributary_task_watermark_lsn gauge
            distributary_task_watermark_lsn{task="shop"} 18446744073709551614
            # TYPE distributary_task_source_end_lsn gauge
            distributary_task_source_end_lsn{task="shop"} 18446744073709551615
            # TYPE distributary_task_retries gauge
            distributary_task_retries{task="shop"} 1
            # TYPE distributary_task_credit_used_bytes gauge
            distributary_task_credit_used_bytes{task="shop"} 5
            # TYPE distributary_task_credit_max_bytes gauge
            distributary_task_credit_max_bytes{task="shop"} 6
            # TYPE distributary_task_spool_bytes gauge
            distributary_task_spool_bytes{task="shop"} 9
            # TYPE distributary_task_spool_transactions gauge
            distributary_task_spool_transactions{task="shop"} 2
            # TYPE distributary_task_slot_retained_bytes gauge
            distributary_task_slot_retained_bytes{task="shop"} 8
            # TYPE distributary_task_slot_safe_bytes gauge
            distributary_task_slot_safe_bytes{task="shop"} 9
            # TYPE distributary_task_slot_in_danger gauge
            distributary_task_slot_in_danger{task="shop"} 1
            # TYPE distributary_task_oldest_transaction_seconds gauge
            distributary_task_oldest_transaction_seconds{task="shop"} 2.0
            # TYPE distributary_task_standbys_missing gauge
            distributary_task_standbys_missing{task="shop"} 1
            # EOF"##]]
        .assert_eq(&values);
    }

    #[test]
    fn so_have_those_of_snapshots_and_failures() {
        let values = told(|name| name.contains("_snapshot_") || name.contains("_failures"));
        expect![[r##"
            # TYPE distributary_task_snapshot_rows gauge
            distributary_task_snapshot_rows{task="shop"} 3
            # TYPE distributary_task_snapshot_rows_estimated gauge
            distributary_task_snapshot_rows_estimated{task="shop"} 4
            # TYPE distributary_task_snapshot_bytes gauge
            distributary_task_snapshot_bytes{task="shop"} 300
            # TYPE distributary_task_snapshot_rows_per_second gauge
            distributary_task_snapshot_rows_per_second{task="shop"} 0.5
            # TYPE distributary_task_snapshot_left_seconds gauge
            distributary_task_snapshot_left_seconds{task="shop"} 2.0
            # TYPE distributary_task_snapshot_tables gauge
            distributary_task_snapshot_tables{task="shop"} 5
            # TYPE distributary_task_snapshot_tables_done gauge
            distributary_task_snapshot_tables_done{task="shop"} 2
            # TYPE distributary_task_failures counter
            distributary_task_failures_total{task="shop",class="connection"} 3
            distributary_task_failures_total{task="shop",class="fatal"} 0"##]]
        .assert_eq(&values);
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let scrape = Scrape::new();
        scrape.measured("shop", &Measured::default());
        assert!(!scrape.text().contains("latency_seconds{"));
        assert!(scrape.text().contains("distributary_task_records_total{task=\"shop\"} 0\n"));
    }

    #[test]
    fn a_hostile_label_stays_one_label() {
        let scrape = Scrape::new();
        scrape.lane("a\"} 1\nb{c=\"\\", "running");
        let expected = r#"task_lanes{task="a\"} 1\nb{c=\"\\",state="running"} 1"#;
        assert!(scrape.text().contains(expected), "{}", scrape.text());
    }
}
