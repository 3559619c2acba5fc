//! Key, envelope and header of one event.

use super::super::values::Work;
use super::super::words;
use super::template::Template;
use crate::encode::event::{Event, commit_us};
use crate::encode::{Render, Rendered, RowError, protobuf};
use crate::plan::{TablePlan, TaskPlan};
use wal::Transaction;

/// Fields of `Envelope`.
const BEFORE: u32 = 1;
const AFTER: u32 = 2;
const SOURCE: u32 = 3;
const OP: u32 = 4;
const TS_MS: u32 = 5;
const TS_US: u32 = 6;
const TS_NS: u32 = 7;

/// Fields of `Source`.
mod source {
    pub(super) const VERSION: u32 = 1;
    pub(super) const CONNECTOR: u32 = 2;
    pub(super) const NAME: u32 = 3;
    pub(super) const TS_MS: u32 = 4;
    pub(super) const SNAPSHOT: u32 = 5;
    pub(super) const DB: u32 = 6;
    pub(super) const SEQUENCE: u32 = 7;
    pub(super) const TS_US: u32 = 8;
    pub(super) const TS_NS: u32 = 9;
    pub(super) const TXID: u32 = 12;
    pub(super) const LSN: u32 = 13;
}

/// Writes events of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Fields of the source that are the same for all.
    connector: Box<[u8]>,
    /// Fields of the source of the present transaction, but for table, `sequence` and `lsn`.
    head: Vec<u8>,
    /// Text of `sequence` up to the event's LSN.
    sequence: Vec<u8>,
    /// Fields `ts_ms` to `ts_ns` of the envelope.
    clock: Vec<u8>,
    work: Work,
}

impl Encoder {
    pub(crate) fn new(task: &TaskPlan) -> Self {
        let mut connector = Vec::new();
        let text = |field, text: &str, out: &mut Vec<u8>| {
            protobuf::bytes(field, text.as_bytes(), out);
        };
        text(source::VERSION, env!("CARGO_PKG_VERSION"), &mut connector);
        text(source::CONNECTOR, "postgresql", &mut connector);
        text(source::NAME, &task.prefix, &mut connector);
        text(source::DB, &task.database, &mut connector);
        Self {
            connector: connector.into(),
            head: Vec::new(),
            sequence: Vec::new(),
            clock: Vec::new(),
            work: Work::default(),
        }
    }
}

impl Render for Encoder {
    type Template = Template;

    fn begin(&mut self, transaction: &Transaction) {
        let Self { connector, head, sequence, .. } = self;
        let us = commit_us(transaction);
        head.clear();
        head.extend_from_slice(connector);
        protobuf::int(source::TS_MS, us.div_euclid(1000), head);
        protobuf::int(source::TS_US, us, head);
        protobuf::int(source::TS_NS, us.saturating_mul(1000), head);
        // Transaction 0: rows of a snapshot.
        let snapshot: &[u8] = if transaction.xid == 0 { b"true" } else { b"false" };
        protobuf::bytes(source::SNAPSHOT, snapshot, head);
        if transaction.xid != 0 {
            protobuf::int(source::TXID, i64::from(transaction.xid), head);
        }
        words::sequence(transaction, sequence);
    }

    fn tick(&mut self, now_us: i64) {
        self.clock.clear();
        protobuf::int(TS_MS, now_us.div_euclid(1000), &mut self.clock);
        protobuf::int(TS_US, now_us, &mut self.clock);
        protobuf::int(TS_NS, now_us.saturating_mul(1000), &mut self.clock);
    }

    fn render(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError> {
        let Self { head, sequence, clock, work, .. } = self;
        let settled = template.settled()?;
        let key = settled.key.as_ref().map_or(&[][..], |key| &key.numbers);
        if let Some(row) = &event.key {
            out.keyed = true;
            template.key(key, plan.key(), row, work, &mut out.key)?;
        }
        if let Some(row) = &event.other_key {
            out.header_name = Some(words::other_key_header(event.action));
            plan.columns.object(plan.key(), row, work, &mut out.header)?;
        }
        let out = &mut out.value;
        for (field, row) in [(BEFORE, words::before(event)), (AFTER, event.after)] {
            let Some(row) = row else { continue };
            protobuf::nested(field, out, |out| {
                template.row(&settled.value.numbers, &row, work, out)
            })?;
        }
        let lsn = event.change.lsn.0;
        protobuf::nested(SOURCE, out, |out| {
            out.extend_from_slice(head);
            out.extend_from_slice(&template.source_table);
            protobuf::int(source::LSN, lsn.cast_signed(), out);
            protobuf::nested(source::SEQUENCE, out, |out| {
                out.extend_from_slice(sequence);
                out.extend_from_slice(itoa::Buffer::new().format(lsn).as_bytes());
                out.extend_from_slice(b"\"]");
                Ok::<_, RowError>(())
            })
        })?;
        protobuf::bytes(OP, words::op(event.action).as_bytes(), out);
        out.extend_from_slice(clock);
        Ok(())
    }
}
