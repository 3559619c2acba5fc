//! Changes of rows, decoded but not rendered: tuples stay the bytes that the server sent.

use crate::{Lsn, Position, Table, Tuple};
use bytes::Bytes;
use std::sync::Arc;

/// Some changes of the stream in commit order, over one buffer.
///
/// A transaction may span several batches and a batch several transactions.
#[derive(Clone, Debug, Default)]
pub struct ChangeBatch {
    /// What the spans of `changes` point into.
    pub bytes: Bytes,
    pub changes: Vec<Change>,
    /// The transactions of `changes`, by [`Change::transaction`].
    pub transactions: Vec<Transaction>,
    /// The table versions of `changes`, by [`Change::table`].
    pub tables: Vec<Arc<Table>>,
    /// `end_lsn` of the last commit in this batch: once it and all before it are durable, this may
    /// be confirmed to the server.
    pub committed_end_lsn: Option<Lsn>,
    /// No transaction is open where the batch ends. Set by the decoder and the snapshot.
    pub ends_transaction: bool,
    /// Where no transaction is open and everything received was decoded: the server's position,
    /// up to which nothing else has committed. Set by keepalives.
    pub idle_until: Option<Lsn>,
    /// Messages of applications, in stream order.
    pub messages: Vec<LogicalMessage>,
    /// Id of the snapshot whose rows these are; `None` in the stream.
    pub snapshot: Option<Arc<str>>,
}

/// What the changes of a transaction share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transaction {
    /// 0 for snapshot rows.
    pub xid: u32,
    /// LSN of the commit record; for snapshot rows the snapshot's LSN.
    pub commit_lsn: Lsn,
    /// End of the transaction before this one (Debezium's `sequence`); `None` right after start.
    pub previous_commit_lsn: Option<Lsn>,
    /// Microseconds since 2000-01-01 00:00 UTC (PostgreSQL's `TimestampTz`).
    pub commit_time: i64,
    /// Number of changes, where it is known before the first one is passed on.
    pub changes_count: Option<u64>,
}

/// One change of a row, or a TRUNCATE of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// Index into [`ChangeBatch::transactions`].
    pub transaction: u32,
    /// Index into [`ChangeBatch::tables`].
    pub table: u32,
    /// Counts the change messages of the transaction from 0; of the snapshot, the rows read so far.
    pub ordinal: u64,
    /// The change's own place in the WAL (`source.lsn`). Identity and order do not rest on it.
    pub lsn: Lsn,
    pub operation: Operation,
    /// The old row or key, as far as it was logged.
    pub old: Option<Old>,
    /// The new row.
    pub new: Option<Span>,
}

/// What happened. `Read` is a row of a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    Read,
    Insert,
    Update,
    Delete,
    /// One per table; tables of one TRUNCATE have ordinals in the order of the message.
    Truncate,
}

/// The old tuple of an UPDATE or DELETE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Old {
    /// `K`: identity columns only; null elsewhere means "not part of the key".
    Key(Span),
    /// `O`: the whole row (REPLICA IDENTITY FULL).
    Row(Span),
}

/// A message that an application wrote with `pg_logical_emit_message`.
///
/// It is no change: ordinals count rows and truncates only, so that switching messages on or off in
/// the stream moves no position.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogicalMessage {
    /// Index into [`ChangeBatch::transactions`]; `None`: written outside any transaction, and not
    /// undone with one.
    pub transaction: Option<u32>,
    /// Ordinal that the transaction's next change has, or would have.
    pub ordinal_next: Option<u64>,
    /// So many of [`ChangeBatch::changes`] come before it.
    pub changes_before: u32,
    pub lsn: Lsn,
    /// UTF-8, for [`ChangeBatch::slice`].
    pub prefix: Span,
    /// Any bytes, for [`ChangeBatch::slice`].
    pub content: Span,
}

/// A checked [`Tuple`] inside [`ChangeBatch::bytes`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Old {
    #[must_use]
    pub fn span(self) -> Span {
        match self {
            Self::Key(span) | Self::Row(span) => span,
        }
    }
}

impl ChangeBatch {
    /// The tuple of a span.
    #[must_use]
    pub fn tuple(&self, span: Span) -> Tuple<'_> {
        Tuple::trusted(self.slice(span))
    }

    /// The bytes of a span: prefix or content of a message.
    #[must_use]
    pub fn slice(&self, span: Span) -> &[u8] {
        self.bytes.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Transaction of a change of this batch.
    #[must_use]
    pub fn transaction(&self, change: &Change) -> &Transaction {
        &self.transactions[change.transaction as usize]
    }

    /// Table version of a change of this batch.
    #[must_use]
    pub fn table(&self, change: &Change) -> &Arc<Table> {
        &self.tables[change.table as usize]
    }

    /// Identity and order of a change of this batch.
    #[must_use]
    pub fn position(&self, change: &Change) -> Position {
        Position { commit_lsn: self.transaction(change).commit_lsn, ordinal: change.ordinal }
    }
}
