//! Figures of a running task, for whoever shows them. Written by the stages, never read by them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use wal::Lsn;

/// Counters and positions of one task. All may be read at any time; they are not taken together.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows that the snapshot is expected to have, an estimate.
    pub snapshot_rows_estimated: AtomicU64,
    pub snapshot_rows: AtomicU64,
    pub snapshot_bytes: AtomicU64,
    pub snapshot_running: AtomicBool,
    /// Bytes received from the replication connection.
    pub wal_bytes: AtomicU64,
    /// Records given to Kafka, tombstones included.
    pub records: AtomicU64,
    /// Kafka transactions committed, or rounds of delivery in at-least-once mode.
    pub commits: AtomicU64,
    /// Commit time of the newest change that is durable, microseconds since 1970.
    pub durable_commit_time_us: AtomicU64,
    server_end: AtomicU64,
    watermark: AtomicU64,
}

impl Progress {
    /// The server named its end of WAL and sent `bytes`.
    pub fn received(&self, server_end: Lsn, bytes: usize) {
        self.server_end.fetch_max(server_end.0, Relaxed);
        self.wal_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A position is durable in every lane.
    pub fn advanced(&self, watermark: Lsn) {
        self.watermark.fetch_max(watermark.0, Relaxed);
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
