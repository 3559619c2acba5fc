//! What many events share: the bytes of their transaction, and of the moment they were handled.

use crate::encode::event::commit_us;
use crate::json;
use wal::Transaction;

/// What all events of a transaction share, written when its first one comes.
#[derive(Debug)]
pub(super) struct TransactionBytes {
    /// From `"source"` up to the value of its `ts_ms`.
    source_head: Box<[u8]>,
    /// From `"db"` up to the value of `sequence`.
    source_db: Box<[u8]>,
    /// From `"source"` to the first half of `sequence`.
    pub(super) head: Vec<u8>,
    /// Rest of `sequence` to `ts_ns`.
    pub(super) middle: Vec<u8>,
    /// Value of `txId`, up to the value of `lsn`.
    pub(super) tail: Vec<u8>,
}

impl TransactionBytes {
    pub(super) fn new(prefix: &str, database: &str) -> Self {
        let mut source_head = b",\"source\":{\"version\":".to_vec();
        json::str(env!("CARGO_PKG_VERSION"), &mut source_head);
        source_head.extend_from_slice(b",\"connector\":\"postgresql\",\"name\":");
        json::str(prefix, &mut source_head);
        source_head.extend_from_slice(b",\"ts_ms\":");
        let mut source_db = b",\"db\":".to_vec();
        json::str(database, &mut source_db);
        source_db.extend_from_slice(b",\"sequence\":\"[");
        Self {
            source_head: source_head.into(),
            source_db: source_db.into(),
            head: Vec::new(),
            middle: Vec::new(),
            tail: Vec::new(),
        }
    }

    pub(super) fn prepare(&mut self, transaction: &Transaction) {
        let us = commit_us(transaction);
        let Self { head, middle, tail, .. } = self;
        head.clear();
        head.extend_from_slice(&self.source_head);
        json::integer(us.div_euclid(1000), head);
        // Transaction 0: rows of a snapshot.
        head.extend_from_slice(match transaction.xid {
            0 => b",\"snapshot\":\"true\"".as_slice(),
            _ => b",\"snapshot\":\"false\"",
        });
        head.extend_from_slice(&self.source_db);
        match transaction.previous_commit_lsn {
            Some(previous) => {
                head.extend_from_slice(b"\\\"");
                json::integer(previous.0, head);
                head.extend_from_slice(b"\\\"");
            }
            None => head.extend_from_slice(b"null"),
        }
        head.extend_from_slice(b",\\\"");
        middle.clear();
        middle.extend_from_slice(b"\\\"]\",\"ts_us\":");
        json::integer(us, middle);
        middle.extend_from_slice(b",\"ts_ns\":");
        json::integer(us.saturating_mul(1000), middle);
        middle.push(b',');
        tail.clear();
        match transaction.xid {
            0 => tail.extend_from_slice(b"null"),
            xid => json::integer(xid, tail),
        }
        tail.extend_from_slice(b",\"lsn\":");
    }
}

/// The members that tell when the event was handled.
#[derive(Debug, Default)]
pub(super) struct ClockBytes {
    /// From the end of `op` to `ts_ns`.
    pub(super) bytes: Vec<u8>,
}

impl ClockBytes {
    pub(super) fn prepare(&mut self, now_us: i64) {
        let out = &mut self.bytes;
        out.clear();
        out.extend_from_slice(b"\",\"ts_ms\":");
        json::integer(now_us.div_euclid(1000), out);
        out.extend_from_slice(b",\"ts_us\":");
        json::integer(now_us, out);
        out.extend_from_slice(b",\"ts_ns\":");
        json::integer(now_us.saturating_mul(1000), out);
    }
}
