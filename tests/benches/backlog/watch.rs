//! One run of a subject, watched.

use super::{LOOK_AGAIN, RUN_MAX};
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::procfs::{cpu_seconds, has_ended, memory_bytes_max};
use tests::sql::Sql;

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// From the walsender's first sight to the end of the process.
    pub(super) seconds: f64,
    /// From the start of the process.
    pub(super) seconds_whole: f64,
    pub(super) client_cpu: f64,
    pub(super) walsender_cpu: f64,
    pub(super) broker_cpu: f64,
    pub(super) memory_bytes: u64,
}

/// Watches a run until its process ends.
pub(super) fn watch(
    sql: &mut Sql,
    slots: &[String],
    mut child: Child,
    begun: Instant,
    folder: &Path,
) -> Cost {
    let mut cost = Cost::default();
    let mut walsenders = vec![Walsender::default(); slots.len()];
    let mut streaming_since = None;
    while !has_ended(child.id()) {
        assert!(begun.elapsed() < RUN_MAX, "the run does not end");
        for (walsender, slot) in walsenders.iter_mut().zip(slots) {
            if walsender.process == 0 {
                walsender.process = reader_of(sql, slot);
            }
            walsender.cpu = cpu_seconds(walsender.process).unwrap_or(walsender.cpu);
        }
        if walsenders.iter().any(|it| it.process != 0) {
            streaming_since.get_or_insert_with(Instant::now);
        }
        cost.memory_bytes = memory_bytes_max(child.id()).unwrap_or(cost.memory_bytes);
        sleep(LOOK_AGAIN);
    }
    cost.seconds = streaming_since.expect("the run was seen streaming").elapsed().as_secs_f64();
    cost.seconds_whole = begun.elapsed().as_secs_f64();
    cost.client_cpu = cpu_seconds(child.id()).expect("not waited for yet");
    cost.walsender_cpu = walsenders.iter().map(|it| it.cpu).sum();
    let status = child.wait().expect("a child can be waited for");
    let log = std::fs::read_to_string(folder.join("drain.log")).unwrap_or_default();
    assert!(status.success(), "the run ended with {status}:\n{log}");
    let mut free = || slots.iter().all(|slot| reader_of(sql, slot) == 0);
    tests::deadline::await_true("free slots", Duration::from_secs(20), &mut free);
    cost
}

#[derive(Clone, Copy, Debug, Default)]
struct Walsender {
    /// 0: not seen yet.
    process: u32,
    cpu: f64,
}

/// The walsender of a slot; 0: it has none.
pub(super) fn reader_of(sql: &mut Sql, slot: &str) -> u32 {
    let query = format!(
        "SELECT coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    sql.value(&query).parse().expect("a process id")
}
