//! Frames → WAL, descriptions, changes and tables. Nothing that came from outside is used before it was
//! checked; the WAL is checked by the decoder, as what a server sends is.

use super::{KnownTables, Told, wire};
use crate::link::frame::Joiner;
use crate::link::receiver::{changes, identity_in, table_in, transaction_in};
use crate::link::{LinkError, message};
use bytes::Bytes;
use std::sync::Arc;
use wal::relation::{ColumnDescription, RelationDescription};
use wal::{ChangeBatch, Lsn, Table};

/// What a stage before the router has sent.
#[derive(Clone, Debug)]
pub enum Up {
    Wal { bytes: Bytes, told: Told },
    Describe(RelationDescription),
    Changes { batch: ChangeBatch, told: Told },
}

/// The end of a link that hears a reader or a decoder. Lives as long as the link.
#[derive(Debug, Default)]
pub struct UpReceiver {
    joiner: Joiner,
    known: KnownTables,
}

impl UpReceiver {
    /// `known`: what the other end was told by a [`super::TableSender`].
    #[must_use]
    pub fn new(known: KnownTables) -> Self {
        Self { joiner: Joiner::default(), known }
    }

    /// Takes a frame in; what it was a part of, once its last one has come.
    ///
    /// # Errors
    /// When anything in it is not as it must be: the link must be opened again.
    pub fn take(&mut self, frame: Bytes) -> Result<Option<Up>, LinkError> {
        let Some(message) = self.joiner.join(frame)? else { return Ok(None) };
        let (head, bytes) = message::read(wire::VERSION, &message)?;
        Ok(Some(match head {
            wire::Up::Wal(told) => Up::Wal { bytes, told: told_in(told) },
            wire::Up::Describe(relation) if bytes.is_empty() => Up::Describe(relation_in(relation)),
            wire::Up::Describe(_) => {
                return Err(LinkError::Inconsistent("bytes follow a description"));
            }
            wire::Up::Changes(head) => {
                let told = told_in(head.told);
                Up::Changes { batch: self.batch(&head, bytes)?, told }
            }
        }))
    }

    fn batch(&self, head: &wire::Changes, bytes: Bytes) -> Result<ChangeBatch, LinkError> {
        let table = |&wire::Version { oid, version }: &wire::Version| {
            self.known.get(oid, version).ok_or(LinkError::Undescribed { oid, version })
        };
        let tables: Vec<Arc<Table>> = head.tables.iter().map(table).collect::<Result<_, _>>()?;
        let columns: Vec<_> = tables.iter().map(|table| table.columns.len()).collect();
        Ok(ChangeBatch {
            changes: changes(&head.changes, &columns, head.transactions.len(), &bytes)?,
            bytes,
            transactions: head.transactions.iter().map(transaction_in).collect(),
            tables,
            committed_end_lsn: head.committed_end_lsn.map(Lsn),
            ends_transaction: head.ends_transaction,
            idle_until: head.idle_until.map(Lsn),
            messages: Vec::new(),
            snapshot: None,
            chunk: None,
        })
    }
}

/// The end of a link at a decoder. Lives as long as the link.
#[derive(Debug, Default)]
pub struct TableReceiver {
    joiner: Joiner,
}

impl TableReceiver {
    /// Takes a frame in; a table version, once its last one has come.
    ///
    /// # Errors
    /// As [`UpReceiver::take`].
    pub fn take(&mut self, frame: Bytes) -> Result<Option<Arc<Table>>, LinkError> {
        let Some(message) = self.joiner.join(frame)? else { return Ok(None) };
        let (wire::Down::Table(table), rest) = message::read(wire::VERSION, &message)?;
        if !rest.is_empty() {
            return Err(LinkError::Inconsistent("bytes follow a table"));
        }
        Ok(Some(Arc::new(table_in(table)?)))
    }
}

fn told_in(told: wire::Told) -> Told {
    let wire::Told { credit, server_end, wal_bytes } = told;
    Told { credit, server_end: Lsn(server_end), wal_bytes }
}

/// What it differs in from the version before stays behind: completing it does not look at that.
fn relation_in(relation: wire::Relation) -> RelationDescription {
    let column = |column: wire::RelationColumn| ColumnDescription {
        name: column.name.into(),
        type_oid: column.type_oid,
        type_modifier: column.type_modifier,
        in_identity: column.in_identity,
    };
    RelationDescription {
        oid: relation.oid,
        version: relation.version,
        schema: relation.schema.into(),
        name: relation.name.into(),
        identity: identity_in(relation.identity),
        columns: relation.columns.into_iter().map(column).collect(),
        differences: Vec::new(),
    }
}
