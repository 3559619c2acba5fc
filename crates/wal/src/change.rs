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
    /// The batch is a chunk that was read while the stream ran; its rows have no position in the stream.
    pub chunk: Option<Arc<Chunk>>,
}

/// A part of a table that was read while the stream ran (delivery-protocol.md, section 9).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chunk {
    /// What a lane notes that holds the chunk.
    pub name: String,
    /// Chunks that may not be durable in every lane, this one among them: of others no note is needed.
    pub open: Vec<String>,
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

    /// Leaves out what commits at `end` or later, and claims nothing beyond it.
    pub fn cut(&mut self, end: Lsn) {
        let kept = self.changes_before(end);
        let commits_beyond = self.committed_end_lsn.is_some_and(|it| end < it);
        // Transactions come one after the other: before one that is left out, all are whole.
        self.ends_transaction |= kept < self.changes.len() || commits_beyond;
        self.changes.truncate(kept);
        self.committed_end_lsn = self.committed_end_lsn.map(|it| it.min(end));
        self.idle_until = self.idle_until.map(|it| it.min(end));
    }

    /// How many of the changes commit before `at`; they come first.
    #[must_use]
    pub fn changes_before(&self, at: Lsn) -> usize {
        self.changes.partition_point(|it| self.transaction(it).commit_lsn < at)
    }

    /// Takes off the changes from number `first` on, which must begin a transaction. Only the part with them claims
    /// what may be confirmed: where the transaction before them ends is not known. `None`: nothing to take off.
    #[must_use]
    pub fn split_off(&mut self, first: usize) -> Option<Self> {
        let transaction = self.changes.get(first)?.transaction as usize;
        let rest = Self {
            bytes: self.bytes.clone(),
            changes: self.changes.split_off(first),
            transactions: self.transactions.clone(),
            tables: self.tables.clone(),
            committed_end_lsn: self.committed_end_lsn.take(),
            ends_transaction: self.ends_transaction,
            idle_until: self.idle_until.take(),
            messages: Vec::new(),
            snapshot: self.snapshot.clone(),
            chunk: self.chunk.clone(),
        };
        self.transactions.truncate(transaction);
        self.ends_transaction = true;
        Some(rest)
    }

    /// Identity and order of a change of this batch.
    #[must_use]
    pub fn position(&self, change: &Change) -> Position {
        Position { commit_lsn: self.transaction(change).commit_lsn, ordinal: change.ordinal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transactions of one change each, which commit at 10, 20, … and end 5 later.
    fn batch(count: u64, ends_transaction: bool) -> ChangeBatch {
        let lsns = (1..=count).map(|it| Lsn(10 * it));
        let transaction = |commit_lsn| Transaction {
            xid: 1,
            commit_lsn,
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        };
        let change = |transaction| Change {
            transaction,
            table: 0,
            ordinal: 0,
            lsn: Lsn(1),
            operation: Operation::Insert,
            old: None,
            new: None,
        };
        let ended = count - u64::from(!ends_transaction);
        ChangeBatch {
            changes: (0..u32::try_from(count).expect("few")).map(change).collect(),
            transactions: lsns.map(transaction).collect(),
            committed_end_lsn: (0 < ended).then_some(Lsn(10 * ended + 5)),
            ends_transaction,
            ..ChangeBatch::default()
        }
    }

    #[track_caller]
    fn cut(mut batch: ChangeBatch, end: u64) -> (usize, Option<Lsn>, bool) {
        batch.cut(Lsn(end));
        (batch.changes.len(), batch.committed_end_lsn, batch.ends_transaction)
    }

    #[test]
    fn what_commits_at_the_end_is_left_out() {
        assert_eq!(cut(batch(3, true), 30), (2, Some(Lsn(30)), true));
        assert_eq!(cut(batch(3, true), 35), (3, Some(Lsn(35)), true));
        assert_eq!(cut(batch(3, true), 99), (3, Some(Lsn(35)), true));
        assert_eq!(cut(batch(3, true), 5), (0, Some(Lsn(5)), true));
    }

    #[test]
    fn an_open_transaction_stays_open_unless_it_is_the_one_left_out() {
        assert_eq!(cut(batch(3, false), 99), (3, Some(Lsn(25)), false));
        assert_eq!(cut(batch(3, false), 26), (2, Some(Lsn(25)), true));
    }

    #[test]
    fn a_batch_is_split_between_two_transactions() {
        let mut first = batch(3, false);
        let kept = first.changes_before(Lsn(20));
        let rest = first.split_off(kept).expect("a rest");
        let lsns = |it: &ChangeBatch| -> Vec<u64> {
            it.changes.iter().map(|change| it.transaction(change).commit_lsn.0).collect()
        };
        assert_eq!((lsns(&first), lsns(&rest)), (vec![10], vec![20, 30]));
        assert_eq!((first.ends_transaction, rest.ends_transaction), (true, false));
        // The one before is confirmed with the rest.
        assert_eq!((first.committed_end_lsn, rest.committed_end_lsn), (None, Some(Lsn(25))));
        assert_eq!(batch(3, true).changes_before(Lsn(31)), 3);
        assert!(batch(3, true).split_off(3).is_none());
    }

    #[test]
    fn an_idle_position_is_not_claimed_beyond_the_end() {
        let mut idle = ChangeBatch { idle_until: Some(Lsn(50)), ..ChangeBatch::default() };
        idle.cut(Lsn(40));
        assert_eq!(idle.idle_until, Some(Lsn(40)));
    }
}
