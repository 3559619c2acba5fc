//! Key and value of one event.

use super::stamp::{Stamp, position};
use super::template::Template;
use crate::encode::debezium::Work;
use crate::encode::event::{Action, Event};
use crate::encode::{Render, Rendered, RowError, avro};
use crate::plan::TablePlan;
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
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    stamp: Stamp,
    work: Work,
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
        let Self { stamp, work } = self;
        if let Some(row) = &event.key {
            out.keyed = true;
            plan.columns.object(plan.key(), row, work, &mut out.key)?;
        }
        let (change, out) = (event.change, &mut out.value);
        // The layout's version.
        avro::long(0, out);
        avro::long(stamp.serial.of_event(event), out);
        out.extend_from_slice(&stamp.seconds);
        position(change.lsn, out);
        position(stamp.resume(change.lsn), out);
        out.extend_from_slice(&stamp.txid);
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
