//! Key, envelope and header of one event.

use super::super::statement::{Teller, key_schema, value_schema};
use super::super::values::Work;
use super::super::words;
use super::template::Template;
use super::tree;
use crate::encode::event::{Event, commit_us};
use crate::encode::statement::Statement;
use crate::encode::{Render, Rendered, RowError, protobuf};
use crate::plan::{TablePlan, TaskPlan};
use crate::transaction;
use wal::Transaction;

/// Fields of `Envelope`.
const BEFORE: u32 = 1;
const AFTER: u32 = 2;
const SOURCE: u32 = 3;
const OP: u32 = 4;
const TS_MS: u32 = 5;
const TS_US: u32 = 6;
const TS_NS: u32 = 7;
const TRANSACTION: u32 = 8;

/// Fields of `Transaction`.
mod place {
    pub(super) const ID: u32 = 1;
    pub(super) const TOTAL_ORDER: u32 = 2;
    pub(super) const DATA_COLLECTION_ORDER: u32 = 3;
}

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
    /// Microseconds since 1970.
    now_us: i64,
    prefix: Box<str>,
    database: Box<str>,
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
            now_us: 0,
            prefix: task.prefix.clone(),
            database: task.database.clone(),
            work: Work::default(),
        }
    }

    /// Writes a DDL statement behind the ids of its schemas.
    pub(crate) fn statement(&self, event: &Event<'_>, statement: &Statement, out: &mut Rendered) {
        let teller = Teller { prefix: &self.prefix, database: &self.database, now_us: self.now_us };
        out.keyed = true;
        tree::write(&key_schema(), &teller.key(), &mut out.key);
        tree::write(&value_schema(), &teller.value(event, statement), &mut out.value);
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
        self.now_us = now_us;
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
        if let Some(order) = event.order {
            let mut id = Vec::new();
            transaction::id(event.transaction, event.change.lsn, &mut id);
            protobuf::nested(TRANSACTION, out, |out| {
                protobuf::bytes(place::ID, &id, out);
                protobuf::int(place::TOTAL_ORDER, order.total.cast_signed(), out);
                protobuf::int(place::DATA_COLLECTION_ORDER, order.collection.cast_signed(), out);
                Ok::<_, RowError>(())
            })?;
        }
        Ok(())
    }
}
