//! Now and then a line that says how a task fares, while something changes.

use super::bar::SnapshotBar;
use crate::console::Console;
use crate::output::{Output, OutputFormat};
use pipeline::Progress;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use tracing::info;
use wal::Lsn;

/// How often the figures are looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
const STREAM_LINE_EVERY: Duration = Duration::from_secs(10);
const SNAPSHOT_LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress until it is dropped.
pub(crate) async fn watch(progress: Arc<Progress>, console: Console, output: Output) {
    let mut bar = match output.format {
        OutputFormat::Text => SnapshotBar::new(console),
        OutputFormat::Json | OutputFormat::Yaml => None,
    };
    let mut status = Status::new(Sample::of(&progress), Instant::now());
    let mut due = tokio::time::interval(SAMPLE_EVERY);
    loop {
        due.tick().await;
        let sample = Sample::of(&progress);
        status.observe(sample, now_us());
        if let Some(bar) = &mut bar {
            bar.show(&sample);
        }
        match status.line(sample, Instant::now()) {
            Some(Line::Snapshot { .. }) if bar.is_some() => {}
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
    records: u64,
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
            durable_commit_time_us: progress.durable_commit_time_us.load(Relaxed),
            watermark: progress.watermark(),
            server_end: progress.server_end(),
        }
    }
}

/// What is worth a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    Snapshot { rows: u64, estimated: u64, bytes: u64, rows_per_second: u64 },
    Stream { records: u64, per_second: u64, latency_ms: u64, lag_bytes: u64, watermark: Lsn },
}

impl Line {
    fn log(self) {
        match self {
            Self::Snapshot { rows, estimated, bytes, rows_per_second } => {
                info!(rows, estimated, bytes, rows_per_second, "snapshot");
            }
            Self::Stream { records, per_second, latency_ms, lag_bytes, watermark } => {
                info!(records, per_second, latency_ms, lag_bytes, %watermark, "status");
            }
        }
    }
}

/// Decides when a line is due. Holds no clock: the caller says what time it is.
#[derive(Debug)]
struct Status {
    /// What the last line showed, and when.
    shown: Sample,
    shown_at: Instant,
    /// The commit time that the latency was taken from last.
    measured_us: u64,
    /// The longest since the last line.
    latency_us: u64,
}

impl Status {
    fn new(sample: Sample, now: Instant) -> Self {
        Self {
            shown: sample,
            shown_at: now,
            measured_us: sample.durable_commit_time_us,
            latency_us: 0,
        }
    }

    /// The age of a change is its latency only at the moment when it became durable.
    fn observe(&mut self, sample: Sample, now_us: u64) {
        if sample.durable_commit_time_us != self.measured_us {
            self.measured_us = sample.durable_commit_time_us;
            self.latency_us = self.latency_us.max(now_us.saturating_sub(self.measured_us));
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
        let latency_us = std::mem::take(&mut self.latency_us);
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
        (sample.records != shown.records).then(|| Line::Stream {
            records: sample.records,
            per_second: per_second(sample.records.saturating_sub(shown.records)),
            latency_ms: latency_us / 1000,
            lag_bytes: sample.server_end.0.saturating_sub(sample.watermark.0),
            watermark: sample.watermark,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streaming(records: u64, durable_commit_time_us: u64) -> Sample {
        let (watermark, server_end) = (Lsn(1000), Lsn(1500));
        Sample { records, durable_commit_time_us, watermark, server_end, ..Sample::default() }
    }

    #[test]
    fn a_line_is_due_after_its_time_and_only_when_records_came() {
        let start = Instant::now();
        let mut status = Status::new(streaming(0, 0), start);
        assert_eq!(status.line(streaming(50, 1), start + Duration::from_secs(9)), None);
        let line = status.line(streaming(50, 1), start + Duration::from_secs(10));
        let expected = Line::Stream {
            records: 50,
            per_second: 5,
            latency_ms: 0,
            lag_bytes: 500,
            watermark: Lsn(1000),
        };
        assert_eq!(line, Some(expected));
        assert_eq!(status.line(streaming(50, 1), start + Duration::from_secs(20)), None);
    }

    #[test]
    fn latency_is_the_longest_and_does_not_grow_while_nothing_comes() {
        let start = Instant::now();
        let mut status = Status::new(streaming(0, 0), start);
        status.observe(streaming(1, 1_000_000), 1_300_000);
        status.observe(streaming(2, 2_000_000), 2_100_000);
        status.observe(streaming(2, 2_000_000), 9_000_000);
        let line = status.line(streaming(2, 2_000_000), start + Duration::from_secs(10));
        assert!(matches!(line, Some(Line::Stream { latency_ms: 300, .. })), "{line:?}");
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
        let line = status.line(sample, start + Duration::from_secs(5));
        let expected =
            Line::Snapshot { rows: 1000, estimated: 4000, bytes: 0, rows_per_second: 200 };
        assert_eq!(line, Some(expected));
    }
}
