//! Key and value of one event.

use super::stamp::{Stamp, position};
use super::template::{self, Template};
use crate::encode::debezium::Work;
use crate::encode::event::{Action, Event};
use crate::encode::statement::Statement;
use crate::encode::{Render, Rendered, RowError, avro};
use crate::plan::{TablePlan, TaskPlan};
use config::ObjectName;
use wal::Transaction;

/// Symbols of the enum `Operation`.
mod operation {
    pub(super) const INSERT: i64 = 0;
    pub(super) const UPDATE: i64 = 1;
    pub(super) const DELETE: i64 = 2;
    pub(super) const DDL: i64 = 3;
    pub(super) const INIT: i64 = 16;
}

/// Writes events of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    stamp: Stamp,
    work: Work,
    /// `source`.
    source: Box<[u8]>,
    /// First part of `objectName`, if there is one.
    database: Option<Box<str>>,
}

impl Encoder {
    pub(crate) fn new(task: &TaskPlan) -> Self {
        Self {
            stamp: Stamp::default(),
            work: Work::default(),
            source: template::source(task).into(),
            database: match task.options.object_name {
                ObjectName::Database => Some(task.database.clone()),
                ObjectName::Schema => None,
            },
        }
    }

    /// Writes a DDL statement.
    pub(crate) fn statement(&self, event: &Event<'_>, statement: &Statement, out: &mut Rendered) {
        let out = &mut out.value;
        let (schema, name) = statement.subject();
        let parts = [self.database.as_deref().unwrap_or_default(), schema, name];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        self.head(event, out);
        out.extend_from_slice(&self.source);
        avro::long(operation::DDL, out);
        avro::long(1, out);
        avro::string(&template::joined(&parts), out);
        // No time stamps, tags, fields and images before; the text after.
        for branch in [0, 0, 0, 0, 1] {
            avro::long(branch, out);
        }
        avro::string(&statement.text, out);
        out.extend_from_slice(&self.stamp.born);
    }

    /// From the layout's version to `sourceTxid`.
    fn head(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let (stamp, change) = (&self.stamp, event.change);
        // The layout's version.
        avro::long(0, out);
        avro::long(event.id, out);
        out.extend_from_slice(&stamp.seconds);
        position(change.lsn, out);
        position(stamp.resume(change.lsn), out);
        out.extend_from_slice(&stamp.txid);
    }
}

impl Render for Encoder {
    type Template = Template;

    fn begin(&mut self, transaction: &Transaction) {
        self.stamp.prepare(transaction);
    }

    /// Nothing tells when the event was handled.
    fn tick(&mut self, _: i64) {}

    fn render(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError> {
        let work = &mut self.work;
        if let Some(row) = &event.key {
            out.keyed = true;
            plan.columns.object(plan.key(), row, work, &mut out.key)?;
        }
        let out = &mut out.value;
        self.head(event, out);
        let Self { stamp, work, .. } = self;
        out.extend_from_slice(&template.source);
        let operation = match event.action {
            Action::Read => operation::INIT,
            Action::Insert => operation::INSERT,
            Action::Update => operation::UPDATE,
            Action::Delete => operation::DELETE,
            Action::Truncate => operation::DDL,
        };
        avro::long(operation, out);
        out.extend_from_slice(&template.object);
        if event.action == Action::Truncate {
            out.extend_from_slice(&template.truncate);
        } else {
            out.extend_from_slice(&template.row_head);
            let before = match (event.action, &event.before) {
                // An old key is sent where it has changed: here it is that of the new row.
                (Action::Update, None) => event.after.as_ref().map(|row| (row, true)),
                (_, before) => before.as_ref().map(|row| (row, row.is_key())),
            };
            let after = event.after.as_ref().map(|row| (row, false));
            for image in [before, after] {
                match image {
                    Some((row, is_key)) => template.image(row, is_key, work, out)?,
                    None => avro::long(0, out),
                }
            }
        }
        out.extend_from_slice(&stamp.born);
        Ok(())
    }
}
