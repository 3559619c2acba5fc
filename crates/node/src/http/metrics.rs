//! A [`Status`] as metrics.

use super::Status;
use super::status::{Measured, Snapshot};
use crate::task_state::TaskState;
use std::time::Duration;
use supervision::FailureClass;
use telemetry::metrics::{self, Scrape};

pub(super) fn text(status: Option<&Status>, ready: bool) -> String {
    let scrape = Scrape::new();
    scrape.ready(ready);
    scrape.spans_dropped(telemetry::traces::dropped());
    let Some(status) = status else { return scrape.text() };
    scrape.node(&status.node, &status.role, &status.version);
    scrape.leader(status.leader.as_deref(), status.term);
    for member in &status.members {
        let state = if member.state.is_empty() { "unknown" } else { &member.state };
        scrape.member(&member.role, state);
    }
    let states = TaskState::ALL.map(TaskState::word);
    for task in &status.tasks {
        if !task.state.is_empty() {
            scrape.task_state(&task.name, &task.state, states.iter().copied());
        }
        for lane in &task.lanes {
            let state = if lane.state.is_empty() { "unknown" } else { &lane.state };
            scrape.lane(&task.name, state);
            if let Some(records) = lane.records {
                scrape.lane_records(&task.name, lane.lane, records);
            }
        }
        if let Some(it) = &task.measured {
            scrape.measured(&task.name, &measured(it));
            let words = FailureClass::ALL.map(FailureClass::word);
            let failures = it.failures.iter().flatten().copied();
            scrape.failures(&task.name, std::iter::zip(words, failures));
        }
    }
    scrape.text()
}

fn measured(it: &Measured) -> metrics::Measured {
    metrics::Measured {
        records: it.records,
        dead_letters: it.dead_letters,
        ddl_gaps: it.ddl_gaps,
        commits: it.commits,
        wal_bytes: it.wal_bytes,
        latency: it.latency_ms.map(Duration::from_millis),
        lag_bytes: it.lag_bytes,
        watermark: it.watermark.0,
        source_end: it.source_end.map(|end| end.0),
        retries: it.retries,
        credit: it.credit,
        spool: it.spool,
        snapshot: it.snapshot_rows.map(|(rows, rows_estimated)| {
            let Snapshot { bytes, rate, left_s, tables, tables_done } =
                it.snapshot.unwrap_or_default();
            let left = left_s.and_then(|it| Duration::try_from_secs_f64(it).ok());
            metrics::MeasuredSnapshot {
                rows,
                rows_estimated,
                bytes,
                rate,
                left,
                tables,
                tables_done,
            }
        }),
        slot: it.slot.map(|slot| metrics::MeasuredSlot {
            retained_bytes: slot.retained_bytes,
            safe_bytes: slot.safe_bytes,
            is_in_danger: slot.in_danger,
            oldest_transaction: Duration::from_secs(slot.oldest_transaction_s),
            standbys_missing: slot.standbys_missing,
        }),
    }
}
