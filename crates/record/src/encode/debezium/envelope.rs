//! Key, envelope and header of one event.

use super::stamp::{ClockBytes, TransactionBytes};
use super::template::Template;
use super::values::Work;
use super::words;
use crate::encode::event::Event;
use crate::encode::{Render, Rendered, RowError};
use crate::json;
use crate::plan::{TablePlan, TaskPlan};
use crate::transaction;
use wal::Transaction;

/// Writes events of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    transaction: TransactionBytes,
    clock: ClockBytes,
    work: Work,
    /// Microseconds since 1970.
    pub(super) now_us: i64,
    pub(super) prefix: Box<str>,
    pub(super) database: Box<str>,
    pub(super) schemas: bool,
}

impl Encoder {
    pub(crate) fn new(task: &TaskPlan) -> Self {
        Self {
            now_us: 0,
            prefix: task.prefix.clone(),
            database: task.database.clone(),
            schemas: task.options.schemas,
            transaction: TransactionBytes::new(&task.prefix, &task.database),
            clock: ClockBytes::default(),
            work: Work::default(),
        }
    }
}

impl Render for Encoder {
    type Template = Template;

    fn begin(&mut self, transaction: &Transaction) {
        self.transaction.prepare(transaction);
    }

    fn tick(&mut self, now_us: i64) {
        self.clock.prepare(now_us);
        self.now_us = now_us;
    }

    fn render(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError> {
        let (columns, work) = (&plan.columns, &mut self.work);
        if let Some(row) = &event.key {
            out.keyed = true;
            template.key(columns, plan.key(), row, work, &mut out.key)?;
        }
        if let Some(row) = &event.other_key {
            out.header_name = Some(words::other_key_header(event.action));
            columns.object(plan.key(), row, work, &mut out.header)?;
        }
        let out = &mut out.value;
        out.extend_from_slice(&template.value_open);
        match &words::before(event) {
            Some(row) => columns.row(row, work, out)?,
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"after\":");
        match &event.after {
            Some(row) => columns.row(row, work, out)?,
            None => out.extend_from_slice(b"null"),
        }
        let mut number = itoa::Buffer::new();
        let lsn = number.format(event.change.lsn.0).as_bytes();
        out.extend_from_slice(&self.transaction.head);
        out.extend_from_slice(lsn);
        out.extend_from_slice(&self.transaction.middle);
        out.extend_from_slice(&template.source_table);
        out.extend_from_slice(&self.transaction.tail);
        out.extend_from_slice(lsn);
        out.extend_from_slice(b",\"xmin\":null},\"transaction\":");
        match event.order {
            Some(order) => {
                out.extend_from_slice(b"{\"id\":\"");
                transaction::id(event.transaction, event.change.lsn, out);
                out.extend_from_slice(b"\",\"total_order\":");
                json::integer(order.total, out);
                out.extend_from_slice(b",\"data_collection_order\":");
                json::integer(order.collection, out);
                out.push(b'}');
            }
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"op\":\"");
        out.extend_from_slice(words::op(event.action).as_bytes());
        out.extend_from_slice(&self.clock.bytes);
        out.extend_from_slice(template.value_close);
        Ok(())
    }
}
