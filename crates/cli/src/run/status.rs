//! Now and then a line that says how a task fares, while something changes or should.

use super::bar::{Bars, TABLES_MAX};
use crate::console::Console;
use crate::output::{Output, OutputFormat};
use pipeline::Progress;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use wal::Lsn;

/// How often the figures are looked at: a latency is at most this much too high.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
const STREAM_LINE_EVERY: Duration = Duration::from_secs(10);
const SNAPSHOT_LINE_EVERY: Duration = Duration::from_secs(5);
/// So long the watermark may rest behind the server; an idle task confirms every few seconds.
const REST_MAX: Duration = Duration::from_secs(30);

/// Shows the progress until it is dropped.
pub(crate) async fn watch(progress: Arc<Progress>, console: Console, output: Output) {
    let mut bars = match output.format {
        OutputFormat::Text => Bars::new(console),
        OutputFormat::Json | OutputFormat::Yaml => None,
    };
    let mut status = Status::new(Sample::of(&progress), Instant::now());
    let mut due = tokio::time::interval(SAMPLE_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let (sample, now) = (Sample::of(&progress), Instant::now());
        status.observe(sample, now, now_us());
        if let Some(bars) = &mut bars {
            let tables = || progress.tables(|it| it.shown(TABLES_MAX));
            bars.show(&sample, tables, status.latest_us / 1000, now);
        }
        match status.line(sample, now) {
            // The bar shows the same.
            Some(Line::Snapshot { .. } | Line::Stream { .. }) if bars.is_some() => {}
            Some(line) => line.log(),
            None => {}
        }
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The figures of one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sample {
    pub(crate) snapshot_running: bool,
    pub(crate) snapshot_rows: u64,
    pub(crate) snapshot_rows_estimated: u64,
    snapshot_bytes: u64,
    pub(crate) records: u64,
    dead_letters: u64,
    durable_commit_time_us: u64,
    watermark: Lsn,
    server_end: Lsn,
}

impl Sample {
    fn of(progress: &Progress) -> Self {
        Self {
            snapshot_running: progress.snapshot_running.load(Relaxed),
            snapshot_rows: progress.snapshot_rows.load(Relaxed),
            snapshot_rows_estimated: progress.snapshot_rows_estimated.load(Relaxed),
            snapshot_bytes: progress.snapshot_bytes.load(Relaxed),
            records: progress.records.load(Relaxed),
            dead_letters: progress.dead_letters.load(Relaxed),
            durable_commit_time_us: progress.durable_commit_time_us.load(Relaxed),
            watermark: progress.watermark(),
            server_end: progress.server_end(),
        }
    }

    pub(crate) fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }

    /// `None` before this process has written the first.
    pub(crate) fn watermark(&self) -> Option<Lsn> {
        (self.watermark != Lsn(0)).then_some(self.watermark)
    }

    /// WAL between the watermark and the end that the server named last.
    pub(crate) fn lag_bytes(&self) -> Option<u64> {
        Some(self.server_end.0.saturating_sub(self.watermark()?.0))
    }
}

/// What is worth a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    Snapshot { rows: u64, estimated: u64, bytes: u64, rows_per_second: u64 },
    Stream { sample: Sample, per_second: u64, latency_ms: u64 },
    Resting { sample: Sample, seconds: u64 },
}

impl Line {
    fn log(self) {
        match self {
            Self::Snapshot { rows, estimated, bytes, rows_per_second } => {
                info!(rows, estimated, bytes, rows_per_second, "snapshot");
            }
            Self::Stream { sample, per_second, latency_ms } => info!(
                records = sample.records,
                dead_letters = (sample.dead_letters != 0).then_some(sample.dead_letters),
                per_second,
                latency_ms,
                lag_bytes = sample.lag_bytes(),
                watermark = sample.watermark().map(tracing::field::display),
                "status"
            ),
            Self::Resting { sample, seconds } => warn!(
                seconds,
                lag_bytes = sample.lag_bytes(),
                watermark = sample.watermark().map(tracing::field::display),
                "the server has more, but nothing becomes durable"
            ),
        }
    }
}

/// Decides when a line is due. Holds no clock: the caller says what time it is.
#[derive(Debug)]
struct Status {
    /// What the last line showed, and when.
    shown: Sample,
    shown_at: Instant,
    /// The watermark, and since when it has stood there.
    watermark: Lsn,
    rests_since: Instant,
    /// The commit time that the latency was taken from last.
    measured_us: u64,
    latest_us: u64,
    /// The longest since the last line.
    longest_us: u64,
}

impl Status {
    fn new(sample: Sample, now: Instant) -> Self {
        Self {
            shown: sample,
            shown_at: now,
            watermark: sample.watermark,
            rests_since: now,
            measured_us: sample.durable_commit_time_us,
            latest_us: 0,
            longest_us: 0,
        }
    }

    fn observe(&mut self, sample: Sample, now: Instant, now_us: u64) {
        // The age of a change is its latency only at the moment when it became durable.
        if sample.durable_commit_time_us != self.measured_us {
            self.measured_us = sample.durable_commit_time_us;
            self.latest_us = now_us.saturating_sub(self.measured_us);
            self.longest_us = self.longest_us.max(self.latest_us);
        }
        let moved = sample.watermark != self.watermark || sample.records != self.shown.records;
        let level = sample.server_end <= sample.watermark;
        if moved || level || sample.snapshot_running {
            self.watermark = sample.watermark;
            self.rests_since = now;
        }
    }

    fn line(&mut self, sample: Sample, now: Instant) -> Option<Line> {
        let every = if sample.snapshot_running { SNAPSHOT_LINE_EVERY } else { STREAM_LINE_EVERY };
        let elapsed = now.saturating_duration_since(self.shown_at);
        if elapsed < every {
            return None;
        }
        let shown = std::mem::replace(&mut self.shown, sample);
        self.shown_at = now;
        let longest_us = std::mem::take(&mut self.longest_us);
        let per_second = |count: u64| {
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
            count.saturating_mul(1000) / millis
        };
        if sample.snapshot_running {
            return Some(Line::Snapshot {
                rows: sample.snapshot_rows,
                estimated: sample.snapshot_rows_estimated,
                bytes: sample.snapshot_bytes,
                rows_per_second: per_second(
                    sample.snapshot_rows.saturating_sub(shown.snapshot_rows),
                ),
            });
        }
        if sample.records != shown.records {
            let per_second = per_second(sample.records.saturating_sub(shown.records));
            return Some(Line::Stream { sample, per_second, latency_ms: longest_us / 1000 });
        }
        let rests = now.saturating_duration_since(self.rests_since);
        (REST_MAX <= rests).then_some(Line::Resting { sample, seconds: rests.as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streaming(records: u64, durable_commit_time_us: u64) -> Sample {
        let (watermark, server_end) = (Lsn(1000), Lsn(1500));
        Sample { records, durable_commit_time_us, watermark, server_end, ..Sample::default() }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_line_is_due_after_its_time_and_only_when_records_came() {
        let start = Instant::now();
        let mut status = Status::new(streaming(0, 0), start);
        let sample = streaming(50, 1);
        assert_eq!(status.line(sample, start + seconds(9)), None);
        let line = status.line(sample, start + seconds(10));
        assert_eq!(line, Some(Line::Stream { sample, per_second: 5, latency_ms: 0 }));
        assert_eq!(status.line(sample, start + seconds(20)), None);
    }

    #[test]
    fn latency_is_the_longest_and_does_not_grow_while_nothing_comes() {
        let start = Instant::now();
        let mut status = Status::new(streaming(0, 0), start);
        status.observe(streaming(1, 1_000_000), start, 1_300_000);
        status.observe(streaming(2, 2_000_000), start, 2_100_000);
        status.observe(streaming(2, 2_000_000), start, 9_000_000);
        assert_eq!(status.latest_us, 100_000);
        let line = status.line(streaming(2, 2_000_000), start + seconds(10));
        assert!(matches!(line, Some(Line::Stream { latency_ms: 300, .. })), "{line:?}");
    }

    #[test]
    fn lag_is_known_from_the_first_watermark_on() {
        assert_eq!(streaming(1, 1).lag_bytes(), Some(500));
        let sample = Sample { server_end: Lsn(1500), ..Sample::default() };
        assert_eq!((sample.watermark(), sample.lag_bytes()), (None, None));
    }

    #[test]
    fn a_watermark_that_rests_behind_the_server_is_said() {
        let start = Instant::now();
        let mut status = Status::new(streaming(5, 0), start);
        let mut resting = Vec::new();
        for second in 1..=40 {
            let now = start + seconds(second);
            status.observe(streaming(5, 0), now, 0);
            resting.extend(status.line(streaming(5, 0), now));
        }
        let sample = streaming(5, 0);
        let said = [30, 40].map(|seconds| Line::Resting { sample, seconds });
        assert_eq!(resting, said);
        let moved = Sample { watermark: Lsn(1001), ..sample };
        status.observe(moved, start + seconds(41), 0);
        assert_eq!(status.line(moved, start + seconds(50)), None);
    }

    #[test]
    fn an_idle_task_that_holds_everything_says_nothing() {
        let start = Instant::now();
        let idle = Sample { server_end: Lsn(1000), ..streaming(5, 0) };
        let mut status = Status::new(idle, start);
        for second in 1..=100 {
            let now = start + seconds(second);
            status.observe(idle, now, 0);
            assert_eq!(status.line(idle, now), None);
        }
    }

    #[test]
    fn a_snapshot_has_its_own_lines() {
        let start = Instant::now();
        let mut status = Status::new(Sample::default(), start);
        let sample = Sample {
            snapshot_running: true,
            snapshot_rows: 1000,
            snapshot_rows_estimated: 4000,
            ..Sample::default()
        };
        let line = status.line(sample, start + seconds(5));
        let expected =
            Line::Snapshot { rows: 1000, estimated: 4000, bytes: 0, rows_per_second: 200 };
        assert_eq!(line, Some(expected));
    }
}
