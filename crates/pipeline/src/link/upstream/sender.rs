//! WAL, descriptions, changes and tables → frames.

use super::{KnownTables, Told, wire};
use crate::link::frame::Splitter;
use crate::link::sender::{change_out, identity_out, table_out, transaction_out};
use crate::link::{LinkError, message};
use bytes::Bytes;
use std::sync::Arc;
use wal::change::Old;
use wal::relation::RelationDescription;
use wal::{ChangeBatch, Table};

/// The end of a link at a reader or a decoder. Lives as long as the link.
#[derive(Debug, Default)]
pub struct UpSender {
    splitter: Splitter,
}

impl UpSender {
    /// Frames of whole CopyData messages, in order.
    ///
    /// # Errors
    /// When they fit no message.
    pub fn wal(&mut self, bytes: &Bytes, told: Told) -> Result<Vec<Bytes>, LinkError> {
        let head = wire::Up::Wal(told_out(told));
        self.frames(&head, bytes.len() + 32, [&bytes[..]])
    }

    /// Frames of a relation whose table is to be sent back.
    ///
    /// # Errors
    /// When it fits no message.
    pub fn describe(&mut self, relation: &RelationDescription) -> Result<Vec<Bytes>, LinkError> {
        let column = |column: &wal::relation::ColumnDescription| wire::RelationColumn {
            name: column.name.to_string(),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            in_identity: column.in_identity,
        };
        let relation = wire::Relation {
            oid: relation.oid,
            version: relation.version,
            schema: relation.schema.to_string(),
            name: relation.name.to_string(),
            identity: identity_out(relation.identity),
            columns: relation.columns.iter().map(column).collect(),
        };
        self.frames(&wire::Up::Describe(relation), 0, [])
    }

    /// Frames of changes, in order. Messages of applications stay behind: no router looks at them.
    ///
    /// # Errors
    /// When they fit no message.
    pub fn changes(&mut self, batch: &ChangeBatch, told: Told) -> Result<Vec<Bytes>, LinkError> {
        let head = wire::Up::Changes(wire::Changes {
            told: told_out(told),
            ends_transaction: batch.ends_transaction,
            committed_end_lsn: batch.committed_end_lsn.map(|lsn| lsn.0),
            idle_until: batch.idle_until.map(|lsn| lsn.0),
            tables: batch
                .tables
                .iter()
                .map(|table| wire::Version { oid: table.oid, version: table.version })
                .collect(),
            transactions: batch.transactions.iter().map(transaction_out).collect(),
            changes: batch
                .changes
                .iter()
                .map(|change| change_out(change, change.transaction, change.table))
                .collect(),
        });
        let bytes = batch.bytes.len() + 32 * batch.changes.len() + 256;
        let tuples = batch.changes.iter().flat_map(|change| {
            let spans = change.old.map(Old::span).into_iter().chain(change.new);
            spans.map(|span| batch.slice(span))
        });
        self.frames(&head, bytes, tuples)
    }

    fn frames<'a>(
        &mut self,
        head: &wire::Up,
        bytes: usize,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Bytes>, LinkError> {
        let message = message::write(wire::VERSION, head, bytes, parts)?;
        Ok(self.splitter.split(&message))
    }
}

/// The end of a link at a router, which completes the relations of a decoder. Lives as long as the link.
#[derive(Debug, Default)]
pub struct TableSender {
    splitter: Splitter,
    known: KnownTables,
}

impl TableSender {
    /// Remembers in `known` what it has sent.
    #[must_use]
    pub fn new(known: KnownTables) -> Self {
        Self { splitter: Splitter::default(), known }
    }

    /// Frames of a table version, in order.
    ///
    /// # Errors
    /// When it fits no message.
    pub fn table(&mut self, table: &Arc<Table>) -> Result<Vec<Bytes>, LinkError> {
        let head = wire::Down::Table(table_out(table)?);
        let message = message::write(wire::VERSION, &head, 0, [])?;
        self.known.insert(table);
        Ok(self.splitter.split(&message))
    }
}

fn told_out(told: Told) -> wire::Told {
    let Told { credit, server_end, wal_bytes } = told;
    wire::Told { credit, server_end: server_end.0, wal_bytes }
}
