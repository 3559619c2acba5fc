//! What a worker tells the leading coordinator about its tasks and lanes.

use super::Context;
use super::runner::Runner;
use crate::state::ClusterState;
use pipeline::hosts::Host;
use pipeline::progress::{LaneState, SeenTable, TableProgress, TableState};
use rpc::limits::TABLES_SEEN_MAX;
use rpc::v1;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tables of a report: one task may have ten thousand.
const TABLES_MAX: usize = 32;

/// What the front has seen of a task's database.
pub(super) fn of_database(task: &str, placement_rev: u64, tables: &[SeenTable]) -> v1::TablesSeen {
    let table = |it: &SeenTable| v1::SeenTable {
        schema: it.schema.clone(),
        table: it.table.clone(),
        has_key: it.has_key,
    };
    let cut = TABLES_SEEN_MAX < tables.len();
    let tables = tables.iter().take(TABLES_SEEN_MAX).map(table).collect();
    v1::TablesSeen { task: task.into(), placement_rev, tables, cut }
}

pub(super) fn of_front(
    task: &str,
    node: &str,
    runner: &Runner,
    placement_rev: u64,
) -> v1::TaskReport {
    let (mut said, progress) = (runner.said(), &runner.progress);
    // A task that runs may still need a person: its slot stands still, or will be lost; a table or a statement is missing.
    if said.cause.is_empty() {
        let danger = progress.slot_health().as_ref().and_then(pipeline::health::danger);
        if let Some(told) =
            danger.or_else(|| progress.unfit_tables()).or_else(|| progress.ddl_gap())
        {
            (said.cause, said.remedy) = told;
        }
    }
    if said.cause.is_empty()
        && let Some(gap) = progress.accepted_gap()
    {
        said.cause = gap.to_string();
        said.remedy = "`task snapshot NAME --table TABLE` reads tables again".into();
    }
    let lag = progress.server_end().0.saturating_sub(progress.watermark().0);
    let latency = progress.latency();
    let latency_ms = latency.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
    // What the slot keeps begins where the oldest open transaction does; until somebody has looked, it is the lag at least.
    let retained_bytes = progress.slot_health().map_or(lag, |it| it.retained_bytes);
    let (tables, counts) = progress.tables(|it| (it.shown(TABLES_MAX), it.counts()));
    let lane = |(number, lane): (u32, pipeline::progress::LaneProgress)| v1::LaneReport {
        lane: number,
        node: match &lane.host {
            Host::Here => node.to_owned(),
            Host::Node(node) => node.clone(),
            Host::Nowhere => String::new(),
        },
        state: match lane.state {
            LaneState::Waiting | LaneState::Opening => "opening",
            LaneState::Running => "running",
            LaneState::Retrying => "retrying",
            LaneState::Draining => "draining",
        }
        .into(),
        position: Some(v1::Position {
            commit_lsn: lane.position.commit_lsn.0,
            ordinal: lane.position.ordinal,
        }),
        records: lane.records,
    };
    v1::TaskReport {
        task: task.into(),
        placement_rev,
        state: said.state.word().into(),
        cause: said.cause,
        remedy: said.remedy,
        since_unix_ms: micros(said.since) / 1000,
        phase: runner.phase().into(),
        watermark_lsn: progress.watermark().0,
        retained_bytes,
        lag_bytes: lag,
        latency_ms,
        records: progress.records.load(Relaxed),
        dead_letters: progress.dead_letters.load(Relaxed),
        ddl_gaps: progress.ddl_gaps.load(Relaxed),
        rate: runner.rate(),
        retries: progress.trouble().map_or(0, |it| u64::from(it.retries)),
        lanes: (0..).zip(progress.lanes()).map(lane).collect(),
        tables: tables.into_iter().map(table).collect(),
        tables_count: counts.0,
        tables_over: counts.1,
        snapshot_rate: runner.snapshot_rate(),
        spec_rev: runner.spec_rev(said.state),
    }
}

fn table(table: TableProgress) -> v1::TableReport {
    let (rate, left) = (table.per_second(), table.left());
    let TableProgress { schema, table, snapshot, asked, rows, bytes, estimate, state, .. } = table;
    let (state, cause) = match state {
        TableState::Waiting => ("waiting", String::new()),
        TableState::Reading => ("reading", String::new()),
        TableState::Done => ("done", String::new()),
        TableState::Refused(why) => ("refused", why),
    };
    v1::TableReport {
        schema,
        table,
        snapshot,
        order: asked.unwrap_or_default(),
        state: state.into(),
        cause,
        rows,
        bytes,
        rows_estimated: estimate,
        rate,
        left_ms: left.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// One report for each task of which only lanes run here.
pub(super) fn of_lanes(context: &Context, state: &ClusterState) -> Vec<v1::TaskReport> {
    let mut tasks: BTreeMap<String, Vec<v1::LaneReport>> = BTreeMap::new();
    for ((task, lane), hosted) in context.hosted.all() {
        tasks.entry(task).or_default().push(v1::LaneReport {
            lane: u32::from(lane),
            node: context.node.node.clone(),
            state: if hosted.open { "running" } else { "opening" }.into(),
            position: Some(v1::Position {
                commit_lsn: hosted.position.commit_lsn.0,
                ordinal: hosted.position.ordinal,
            }),
            records: hosted.progress.records.load(Relaxed),
        });
    }
    let report = |(task, lanes): (String, Vec<v1::LaneReport>)| v1::TaskReport {
        placement_rev: state.placements.get(&task).map_or(0, |it| it.rev),
        task,
        lanes,
        ..v1::TaskReport::default()
    };
    tasks.into_iter().map(report).collect()
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
