//! Key, envelope and header of one event.

use super::super::statement::{Teller, key_schema, value_schema};
use super::super::values::Work;
use super::super::words;
use super::template::Template;
use super::tree;
use crate::encode::event::{Event, commit_us};
use crate::encode::statement::Statement;
use crate::encode::{Render, Rendered, RowError, avro};
use crate::plan::{TablePlan, TaskPlan};
use crate::transaction;
use wal::Transaction;

/// Branch of the value where null comes first.
const VALUE: i64 = 1;
const NULL: i64 = 0;
/// Branch of the value of `snapshot`, whose default comes first.
const SNAPSHOT: i64 = 0;

/// Writes events of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Fields `version` to `name` of the source.
    connector: Box<[u8]>,
    /// Field `db`.
    db: Box<[u8]>,
    /// Fields `version` to `db` of the source, of the present transaction.
    head: Vec<u8>,
    /// Text of `sequence` up to the event's LSN.
    sequence: Vec<u8>,
    /// Fields `ts_us` and `ts_ns`.
    times: Vec<u8>,
    /// Field `txId`.
    txid: Vec<u8>,
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
        let (mut connector, mut db) = (Vec::new(), Vec::new());
        for text in [env!("CARGO_PKG_VERSION"), "postgresql", &*task.prefix] {
            avro::string(text, &mut connector);
        }
        avro::string(&task.database, &mut db);
        Self {
            connector: connector.into(),
            db: db.into(),
            head: Vec::new(),
            sequence: Vec::new(),
            times: Vec::new(),
            txid: Vec::new(),
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

fn optional_long(value: i64, out: &mut Vec<u8>) {
    avro::long(VALUE, out);
    avro::long(value, out);
}

impl Render for Encoder {
    type Template = Template;

    fn begin(&mut self, transaction: &Transaction) {
        let Self { connector, db, head, sequence, times, txid, .. } = self;
        let us = commit_us(transaction);
        head.clear();
        head.extend_from_slice(connector);
        avro::long(us.div_euclid(1000), head);
        avro::long(SNAPSHOT, head);
        // Transaction 0: rows of a snapshot.
        avro::string(if transaction.xid == 0 { "true" } else { "false" }, head);
        head.extend_from_slice(db);
        words::sequence(transaction, sequence);
        times.clear();
        optional_long(us, times);
        optional_long(us.saturating_mul(1000), times);
        txid.clear();
        match transaction.xid {
            0 => avro::long(NULL, txid),
            xid => optional_long(i64::from(xid), txid),
        }
    }

    fn tick(&mut self, now_us: i64) {
        self.now_us = now_us;
        self.clock.clear();
        optional_long(now_us.div_euclid(1000), &mut self.clock);
        optional_long(now_us, &mut self.clock);
        optional_long(now_us.saturating_mul(1000), &mut self.clock);
    }

    fn render(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError> {
        let Self { head, sequence, times, txid, clock, work, .. } = self;
        if let Some(row) = &event.key {
            out.keyed = true;
            template.key(plan.key(), row, work, &mut out.key)?;
        }
        if let Some(row) = &event.other_key {
            out.header_name = Some(words::other_key_header(event.action));
            plan.columns.object(plan.key(), row, work, &mut out.header)?;
        }
        let out = &mut out.value;
        for row in [words::before(event), event.after] {
            match &row {
                Some(row) => {
                    avro::long(VALUE, out);
                    template.row(row, work, out)?;
                }
                None => avro::long(NULL, out),
            }
        }
        let lsn = event.change.lsn.0;
        let mut number = itoa::Buffer::new();
        let digits = number.format(lsn).as_bytes();
        out.extend_from_slice(head);
        avro::long(VALUE, out);
        avro::length(sequence.len() + digits.len() + 2, out);
        out.extend_from_slice(sequence);
        out.extend_from_slice(digits);
        out.extend_from_slice(b"\"]");
        out.extend_from_slice(times);
        out.extend_from_slice(&template.source_table);
        out.extend_from_slice(txid);
        optional_long(lsn.cast_signed(), out);
        // `xmin`, then `transaction`.
        avro::long(NULL, out);
        match event.order {
            Some(order) => {
                let mut id = Vec::new();
                transaction::id(event.transaction, event.change.lsn, &mut id);
                avro::long(VALUE, out);
                avro::bytes(&id, out);
                avro::long(order.total.cast_signed(), out);
                avro::long(order.collection.cast_signed(), out);
            }
            None => avro::long(NULL, out),
        }
        avro::string(words::op(event.action), out);
        out.extend_from_slice(clock);
        Ok(())
    }
}
