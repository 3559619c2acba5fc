//! Figures of a running task, for whoever shows them. Written by the stages, never read by them.

mod lag;
mod tables;

use lag::Lag;
pub use tables::{TableProgress, TableState, Tables};

use crate::hosts::Host;
use kafka::meta::Gap;
use postgres::health::SlotHealth;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use supervision::{Budget, FailureClass};
use tracing::{info, warn};
use wal::{Lsn, Position};

/// What is being tried again.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub cause: String,
    /// Attempts since `since`.
    pub retries: u32,
    pub since: Instant,
    /// When it is given up (`retry` of the spec).
    pub until: Instant,
}

/// How a lane fares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneProgress {
    pub host: Host,
    pub state: LaneState,
    /// Where it stood when it was opened or last reported.
    pub position: Position,
    /// That it has committed in this process.
    pub records: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaneState {
    /// No node can take it.
    Waiting,
    Opening,
    Running,
    /// It failed, and will be opened again.
    Retrying,
    /// Told to end, to begin elsewhere.
    Draining,
}

/// A table of the database, captured or not. Names as in the catalog.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeenTable {
    pub schema: String,
    pub table: String,
    /// It has a key that it can be copied by while the stream goes on.
    pub has_key: bool,
}

/// After so many attempts to open a lane its trouble is the task's, also where the front works.
const LANE_RETRIES_TOLD: u32 = 3;

/// Counters and positions of one task. All may be read at any time; they are not taken together.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows that the snapshot is expected to have, an estimate.
    pub snapshot_rows_estimated: AtomicU64,
    pub snapshot_rows: AtomicU64,
    pub snapshot_bytes: AtomicU64,
    pub snapshot_running: AtomicBool,
    /// The stream is followed: what was before it is in Kafka.
    pub streaming: AtomicBool,
    /// Bytes received from the replication connection.
    pub wal_bytes: AtomicU64,
    /// Of transactions in progress, and of one that is handed on: bytes in their spools.
    pub spool_bytes: AtomicU64,
    pub spool_transactions: AtomicU64,
    /// Records given to Kafka, tombstones included.
    pub records: AtomicU64,
    /// Records of the dead-letter topic among them.
    pub dead_letters: AtomicU64,
    /// Records of DDL statements of which only a mark came: the event trigger failed.
    pub ddl_gaps: AtomicU64,
    /// Kafka transactions committed, or rounds of delivery in at-least-once mode.
    pub commits: AtomicU64,
    /// Commit time of the newest change that is durable, microseconds since 1970.
    pub durable_commit_time_us: AtomicU64,
    server_end: AtomicU64,
    watermark: AtomicU64,
    lag: Mutex<Lag>,
    /// Failures of the front and of lanes, in the order of [`FailureClass::ALL`].
    failures: [AtomicU64; FailureClass::ALL.len()],
    trouble: Mutex<Option<Trouble>>,
    /// Of lanes that are opened again, by number.
    lane_troubles: Mutex<BTreeMap<u8, Trouble>>,
    lanes: Mutex<Vec<LaneProgress>>,
    budget: Mutex<Option<Budget>>,
    slot: Mutex<Option<SlotHealth>>,
    gap: Mutex<Option<Gap>>,
    tables_unfit: Mutex<Option<(String, String)>>,
    /// Of all streams of the task.
    tables: Arc<Mutex<Tables>>,
    /// Of all streams, too.
    seen: Arc<Mutex<Option<Arc<[SeenTable]>>>>,
    pub trace: telemetry::traces::Trace,
}

pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A panic elsewhere leaves a figure behind, nothing worse.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at(lanes: &mut Vec<LaneProgress>, lane: u8) -> &mut LaneProgress {
    let new = || LaneProgress {
        host: Host::Nowhere,
        state: LaneState::Waiting,
        position: Position::ZERO,
        records: 0,
    };
    let missing = (usize::from(lane) + 1).saturating_sub(lanes.len());
    lanes.extend(std::iter::repeat_with(new).take(missing));
    &mut lanes[usize::from(lane)]
}

impl Progress {
    /// Of one stream of a task of several, whose figures are in `whole`.
    #[must_use]
    pub fn of_stream(whole: &Self) -> Self {
        let (tables, seen) = (Arc::clone(&whole.tables), Arc::clone(&whole.seen));
        Self { tables, seen, ..Self::default() }
    }

    /// Takes the figures of the task from those of its streams: counts add up, the lowest watermark counts, and the
    /// newest commit time.
    pub fn gather(&self, streams: &[Arc<Self>]) {
        type Counter = fn(&Progress) -> &AtomicU64;
        let counters: [Counter; 10] = [
            |it| &it.snapshot_rows_estimated,
            |it| &it.snapshot_rows,
            |it| &it.snapshot_bytes,
            |it| &it.wal_bytes,
            |it| &it.spool_bytes,
            |it| &it.spool_transactions,
            |it| &it.records,
            |it| &it.dead_letters,
            |it| &it.ddl_gaps,
            |it| &it.commits,
        ];
        for counter in counters {
            let sum = streams.iter().map(|it| counter(it).load(Relaxed)).sum();
            counter(self).store(sum, Relaxed);
        }
        for (at, sum) in self.failures.iter().enumerate() {
            sum.store(streams.iter().map(|it| it.failures[at].load(Relaxed)).sum(), Relaxed);
        }
        let newest = streams.iter().map(|it| it.durable_commit_time_us.load(Relaxed)).max();
        self.durable_commit_time_us.store(newest.unwrap_or_default(), Relaxed);
        let runs = |it: &Arc<Self>| it.snapshot_running.load(Relaxed);
        self.snapshot_running.store(streams.iter().any(runs), Relaxed);
        self.streaming.store(streams.iter().all(|it| it.streaming.load(Relaxed)), Relaxed);
        self.advanced(streams.iter().map(|it| it.watermark()).min().unwrap_or_default());
        let end = streams.iter().map(|it| it.server_end()).max().unwrap_or_default();
        self.server_end.fetch_max(end.0, Relaxed);
        self.look_at_lag();
        let trouble = |(number, it): (u8, &Arc<Self>)| {
            let trouble = it.trouble()?;
            Some(Trouble { cause: format!("stream {number}: {}", trouble.cause), ..trouble })
        };
        self.troubled((1..).zip(streams).find_map(trouble));
        *lock(&self.lanes) = streams.iter().flat_map(|it| it.lanes()).collect();
        let slots = streams.iter().filter_map(|it| it.slot_health());
        self.slot(slots.max_by_key(|it| it.retained_bytes));
        *lock(&self.tables_unfit) = streams.iter().find_map(|it| it.unfit_tables());
        if let Some(gap) = streams.iter().find_map(|it| it.accepted_gap()) {
            self.gap_accepted(gap);
        }
    }

    /// The catalog holds these tables now. The same ones stay the same list.
    pub(crate) fn saw(&self, tables: Vec<SeenTable>) {
        let mut seen = lock(&self.seen);
        if seen.as_deref() != Some(&*tables) {
            *seen = Some(tables.into());
        }
    }

    /// Tables of the database, as they were seen last; `None`: nobody has looked.
    #[must_use]
    pub fn seen_tables(&self) -> Option<Arc<[SeenTable]>> {
        lock(&self.seen).clone()
    }

    /// The server named its end of WAL and sent `bytes`.
    pub fn received(&self, server_end: Lsn, bytes: usize) {
        self.server_end.fetch_max(server_end.0, Relaxed);
        self.wal_bytes.fetch_add(bytes as u64, Relaxed);
        self.look_at_lag();
    }

    /// A stream's part of what is spooled has changed: bytes and transactions. The stream before it may end later than
    /// it begins.
    pub fn spooled(&self, before: (u64, u64), now: (u64, u64)) {
        self.spool_bytes.fetch_add(now.0.wrapping_sub(before.0), Relaxed);
        self.spool_transactions.fetch_add(now.1.wrapping_sub(before.1), Relaxed);
    }

    /// A position is durable in every lane.
    pub fn advanced(&self, watermark: Lsn) {
        self.watermark.fetch_max(watermark.0, Relaxed);
        self.look_at_lag();
    }

    fn look_at_lag(&self) {
        let end = self.server_end();
        // The stream has not begun: the server has told nothing.
        if Lsn(0) < end {
            lock(&self.lag).look(self.watermark() < end, Instant::now());
        }
    }

    /// From the commit of the newest durable change until now; zero: nothing waits; `None`: nothing has come yet. Where
    /// nothing has become durable in this process, as long as something has waited in it.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        let newest_us = self.durable_commit_time_us.load(Relaxed);
        let age = || since_1970().saturating_sub(Duration::from_micros(newest_us));
        lock(&self.lag).latency((0 < newest_us).then(age), Instant::now())
    }

    /// The front or a lane has failed, whatever follows.
    pub fn failed(&self, class: FailureClass) {
        if let Some(at) = FailureClass::ALL.iter().position(|it| *it == class) {
            self.failures[at].fetch_add(1, Relaxed);
        }
    }

    /// How often the front or a lane has failed in this process, in the order of [`FailureClass::ALL`].
    #[must_use]
    pub fn failures(&self) -> [u64; FailureClass::ALL.len()] {
        self.failures.each_ref().map(|it| it.load(Relaxed))
    }

    /// The front failed and is tried again; `None`: it works.
    pub fn troubled(&self, trouble: Option<Trouble>) {
        *lock(&self.trouble) = trouble;
    }

    /// A lane failed and is opened again. Told of no more once it runs, or waits for a node.
    pub fn lane_troubled(&self, lane: u8, trouble: Trouble) {
        lock(&self.lane_troubles).insert(lane, trouble);
    }

    /// What is being tried again now. While the front works, lanes may come and go: of one it is told then only where
    /// it cannot be opened again and again.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        let trouble = lock(&self.trouble).clone();
        let retries_min = if self.streaming.load(Relaxed) { LANE_RETRIES_TOLD } else { 1 };
        trouble.or_else(|| {
            let lanes = lock(&self.lane_troubles);
            lanes.values().find(|it| retries_min <= it.retries).cloned()
        })
    }

    /// What a person should know of statements that were not captured: cause and remedy.
    #[must_use]
    pub fn ddl_gap(&self) -> Option<(String, String)> {
        let count = self.ddl_gaps.load(Relaxed);
        (count != 0).then(|| {
            let statements = if count == 1 { "statement" } else { "statements" };
            let cause = format!(
                "{count} DDL {statements} could not be captured by the event trigger since the task was started"
            );
            let remedy = "their records in the DDL topic say why in `gap`; mend that, tell readers of the \
                          topic what was done, then start the task again";
            (cause, remedy.to_owned())
        })
    }

    /// How the slot fares, now and then while the task streams.
    pub fn slot(&self, health: Option<SlotHealth>) {
        *lock(&self.slot) = health;
    }

    /// How the slot fared at the last look; `None`: nobody has looked.
    #[must_use]
    pub fn slot_health(&self) -> Option<SlotHealth> {
        lock(&self.slot).clone()
    }

    /// Tables that are not captured, or whose users are kept from updating: cause and remedy; `None`: there are none (any more).
    pub fn tables_unfit(&self, told: Option<(String, String)>) {
        let mut before = lock(&self.tables_unfit);
        match &told {
            Some((cause, remedy)) if *before != told => warn!(cause, remedy, "tables do not fit"),
            None if before.is_some() => info!("all tables fit again"),
            Some(_) | None => {}
        }
        *before = told;
    }

    /// What was told last by [`Self::tables_unfit`].
    #[must_use]
    pub fn unfit_tables(&self) -> Option<(String, String)> {
        lock(&self.tables_unfit).clone()
    }

    /// A person let changes go (`--accept-gap`).
    pub fn gap_accepted(&self, gap: Gap) {
        *lock(&self.gap) = Some(gap);
    }

    /// What was let go in the life of this process.
    #[must_use]
    pub fn accepted_gap(&self) -> Option<Gap> {
        *lock(&self.gap)
    }

    /// What pays for the task's bytes.
    pub fn paid_from(&self, budget: &Budget) {
        *lock(&self.budget) = Some(budget.clone());
    }

    /// Bytes held between the database and Kafka, and how many may be.
    #[must_use]
    pub fn credit(&self) -> Option<(u64, u64)> {
        let budget = lock(&self.budget);
        let budget = budget.as_ref()?;
        let max = u64::from(budget.bytes_max());
        Some((max.saturating_sub(budget.bytes_free() as u64), max))
    }

    /// How a lane fares now; its position, where it is known.
    pub fn lane(&self, lane: u8, host: &Host, state: LaneState, position: Option<Position>) {
        if matches!(state, LaneState::Running | LaneState::Waiting) {
            lock(&self.lane_troubles).remove(&lane);
        }
        let mut lanes = lock(&self.lanes);
        let told = at(&mut lanes, lane);
        told.host.clone_from(host);
        told.state = state;
        told.position = position.unwrap_or(told.position);
    }

    /// A lane that is written in this process has committed so many records more.
    pub fn committed(&self, lane: u8, records: u64) {
        at(&mut lock(&self.lanes), lane).records += records;
    }

    /// Every lane, by number.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneProgress> {
        lock(&self.lanes).clone()
    }

    /// Takes a note of the tables of snapshots, or looks at them.
    pub fn tables<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        look(&mut lock(&self.tables))
    }

    /// The server's end of WAL, as last heard.
    #[must_use]
    pub fn server_end(&self) -> Lsn {
        Lsn(self.server_end.load(Relaxed))
    }

    /// Everything up to here is durable in Kafka.
    #[must_use]
    pub fn watermark(&self) -> Lsn {
        Lsn(self.watermark.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_cannot_be_opened_is_told_until_it_is() {
        let progress = Progress::default();
        let told = || progress.trouble().map(|it| it.cause);
        let trouble = |cause: &str, retries| Trouble {
            cause: cause.into(),
            retries,
            since: Instant::now(),
            until: Instant::now(),
        };
        progress.lane_troubled(1, trouble("no right to write", 1));
        assert_eq!(told().as_deref(), Some("no right to write"));
        progress.lane(1, &Host::Here, LaneState::Opening, None);
        assert_eq!(told().as_deref(), Some("no right to write"), "it is tried again");
        progress.troubled(Some(trouble("the front's", 1)));
        assert_eq!(told().as_deref(), Some("the front's"));
        progress.troubled(None);
        progress.streaming.store(true, Relaxed);
        assert_eq!(told(), None, "the front works, and a lane may move");
        progress.lane_troubled(1, trouble("no right to write", LANE_RETRIES_TOLD));
        assert_eq!(told().as_deref(), Some("no right to write"));
        progress.lane(1, &Host::Here, LaneState::Running, None);
        assert_eq!(told(), None);
    }

    #[test]
    fn failures_are_counted_by_class() {
        let progress = Progress::default();
        progress.failed(FailureClass::Connection);
        progress.failed(FailureClass::Fatal);
        progress.failed(FailureClass::Connection);
        assert_eq!(progress.failures(), [2, 0, 0, 0, 1]);
    }

    #[test]
    fn records_of_a_lane_are_counted_where_it_is_written() {
        let progress = Progress::default();
        progress.committed(2, 5);
        progress.lane(2, &Host::Here, LaneState::Running, None);
        progress.committed(2, 3);
        let records: Vec<_> = progress.lanes().iter().map(|it| it.records).collect();
        assert_eq!(records, [0, 0, 8]);
    }
}
