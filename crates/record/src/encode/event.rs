//! What one piece of a change says, whatever the format: action, rows, key, number of its record.

use crate::plan::TablePlan;
use crate::route::{Part, Piece};
use crate::row::Row;
use crate::transaction::Order;
use wal::change::Old;
use wal::{Change, ChangeBatch, Operation, Transaction};

/// What a record says of its row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// A row of a snapshot.
    Read,
    Insert,
    Update,
    Delete,
    Truncate,
}

/// One record to be written, and the tombstone that may follow it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) change: &'a Change,
    pub(crate) transaction: &'a Transaction,
    pub(crate) action: Action,
    /// The old row, as far as it was logged: of updates and deletes.
    pub(crate) before: Option<Row<'a>>,
    pub(crate) after: Option<Row<'a>>,
    /// The row that the message key is of; `None`: the table has no key, or no row is meant.
    pub(crate) key: Option<Row<'a>>,
    /// Of a key change that is a deletion and a creation: the row under the other key.
    pub(crate) other_key: Option<Row<'a>>,
    /// A tombstone follows.
    pub(crate) tombstone: bool,
    /// Number of this record among those of its change; `None`: there is no other.
    pub(crate) part: Option<i32>,
    /// No record of the same change comes after this one, but for a tombstone and for those of other
    /// partitions.
    pub(crate) ends_change: bool,
    /// Its place in its transaction, where consumers are told of that.
    pub(crate) order: Option<Order>,
}

/// Microseconds from 1970 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// When a transaction was committed: microseconds since 1970.
pub(crate) fn commit_us(transaction: &Transaction) -> i64 {
    transaction.commit_time.saturating_add(EPOCH_US)
}

impl<'a> Event<'a> {
    /// What a piece says; `None`: its batch does not have the change. `tombstones`: one follows each
    /// deletion.
    pub(crate) fn of(
        plan: &TablePlan,
        batch: &'a ChangeBatch,
        piece: &Piece,
        tombstones: bool,
    ) -> Option<Self> {
        let change = batch.changes.get(piece.change as usize)?;
        let transaction = batch.transactions.get(change.transaction as usize)?;
        let new = change.new.map(|new| batch.tuple(new));
        let old = change.old.map(|old| batch.tuple(old.span()));
        let after = new.map(|new| Row::new(new, old));
        let before = change.old.map(|logged| match logged {
            Old::Row(span) => Row::new(batch.tuple(span), new),
            Old::Key(span) => Row::key(batch.tuple(span), new),
        });
        let keyed = |row: Option<Row<'a>>| row.filter(|_| !plan.key().is_empty());
        let with = |action| Self {
            change,
            transaction,
            action,
            before: None,
            after,
            key: keyed(after),
            other_key: None,
            tombstone: false,
            part: None,
            ends_change: true,
            order: None,
        };
        let deleted = Self {
            before,
            after: None,
            key: keyed(before),
            tombstone: tombstones,
            part: tombstones.then_some(0),
            ..with(Action::Delete)
        };
        Some(match (change.operation, piece.part) {
            (Operation::Read, _) => with(Action::Read),
            (Operation::Insert, _) => with(Action::Insert),
            (Operation::Update, Part::Whole) => Self { before, ..with(Action::Update) },
            (Operation::Update, Part::KeyChangeDelete) => {
                Self { other_key: keyed(after), part: Some(0), ends_change: false, ..deleted }
            }
            (Operation::Update, Part::KeyChangeCreate) => {
                Self { other_key: keyed(before), part: Some(2), ..with(Action::Insert) }
            }
            (Operation::Delete, _) => deleted,
            (Operation::Truncate, _) => {
                let several = 1 < plan.partitions();
                Self { part: several.then_some(piece.partition), ..with(Action::Truncate) }
            }
        })
    }
}
