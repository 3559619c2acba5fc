//! What one piece of a change says, whatever the format: action, rows, key, number of its record.

use crate::plan::TablePlan;
use crate::projection::Moment;
use crate::route::{Part, Piece};
use crate::row::Row;
use crate::transaction::Order;
use crate::transform::{Failed, Transformed};
use wal::change::Old;
use wal::{Change, ChangeBatch, Operation, Transaction, Tuple};

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

impl Action {
    /// What a piece of a change is for its reader.
    fn of(operation: Operation, part: Part) -> Self {
        match (operation, part) {
            (Operation::Read, _) => Self::Read,
            (Operation::Update, Part::KeyChangeDelete | Part::Leaves) | (Operation::Delete, _) => {
                Self::Delete
            }
            (Operation::Update, Part::KeyChangeCreate | Part::Enters) | (Operation::Insert, _) => {
                Self::Insert
            }
            (Operation::Update, Part::Whole | Part::Unjudged) => Self::Update,
            (Operation::Truncate, _) => Self::Truncate,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}

/// The rows of a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuples<'a> {
    pub(crate) old: Option<Tuple<'a>>,
    pub(crate) new: Option<Tuple<'a>>,
}

/// Tuples of what records show, used again and again.
#[derive(Debug, Default)]
pub(crate) struct Projected {
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Projected {
    /// The rows of a piece's change, as records show them; `None`: its batch does not have the change.
    pub(crate) fn tuples<'a>(
        &'a mut self,
        plan: &TablePlan,
        batch: &'a ChangeBatch,
        piece: &Piece,
    ) -> Option<Tuples<'a>> {
        let change = batch.changes.get(piece.change as usize)?;
        let (old, new) = (change.old.map(Old::span), change.new);
        let (old, new) = (old.map(|it| batch.tuple(it)), new.map(|it| batch.tuple(it)));
        let Some(projection) = &plan.projection else { return Some(Tuples { old, new }) };
        let transaction = batch.transactions.get(change.transaction as usize)?;
        let operation = Action::of(change.operation, piece.part).word();
        let moment = Moment { transaction, operation };
        let Self { old: old_bytes, new: new_bytes } = self;
        let project = |sent: Option<Tuple<'_>>, bytes: &'a mut Vec<u8>| {
            let sent = sent?;
            projection.apply(sent, moment, bytes);
            Some(Tuple::trusted(bytes))
        };
        Some(Tuples { old: project(old, old_bytes), new: project(new, new_bytes) })
    }
}

/// The piece and its rows after the object's transform; `None`: nothing is written.
pub(super) fn transformed<'a>(
    plan: &TablePlan,
    batch: &'a ChangeBatch,
    piece: &Piece,
    rows: Tuples<'a>,
    out: &'a mut Transformed,
) -> Result<Option<(Piece, Tuples<'a>)>, Failed> {
    let Some(transform) = &plan.transform else { return Ok(Some((*piece, rows))) };
    let change = batch.changes.get(piece.change as usize);
    let found = change
        .and_then(|change| Some((change, batch.transactions.get(change.transaction as usize)?)));
    let Some((change, transaction)) = found else { return Ok(Some((*piece, rows))) };
    let operation = Action::of(change.operation, piece.part).word();
    let kept = transform.apply(change, piece.part, Moment { transaction, operation }, rows, out)?;
    Ok(kept.map(|(part, rows)| (Piece { part, ..*piece }, rows)))
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
    /// Number of its record, in formats that have one.
    pub(crate) id: i64,
}

/// Part of a change that comes before all that is of the change itself.
const BEFORE_ALL: i32 = -1;
/// Microseconds from 1970 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// When a transaction was committed: microseconds since 1970.
pub(crate) fn commit_us(transaction: &Transaction) -> i64 {
    transaction.commit_time.saturating_add(EPOCH_US)
}

impl<'a> Event<'a> {
    /// What a piece says; `None`: its batch does not have the change. `rows`: the old and the new one as
    /// records show them; `tombstones`: one follows each deletion.
    pub(crate) fn of(
        plan: &TablePlan,
        batch: &'a ChangeBatch,
        piece: &Piece,
        rows: Tuples<'a>,
        tombstones: bool,
    ) -> Option<Self> {
        let change = batch.changes.get(piece.change as usize)?;
        let transaction = batch.transactions.get(change.transaction as usize)?;
        let Tuples { old, new } = rows;
        let after = new.map(|new| Row::new(new, old));
        let before = change.old.zip(old).map(|(logged, old)| match logged {
            Old::Row(_) => Row::new(old, new),
            Old::Key(_) => Row::key(old, new),
        });
        let keyed = |row: Option<Row<'a>>| row.filter(|_| !plan.key().is_empty());
        // It has no place of its own in the WAL, but stands before the change that it was told from.
        let is_inferred = wal::statement::is_inferred(plan.table());
        let with = |action| Self {
            change,
            transaction,
            action,
            before: None,
            after,
            key: keyed(after),
            other_key: None,
            tombstone: false,
            part: is_inferred.then_some(BEFORE_ALL),
            ends_change: !is_inferred,
            order: None,
            id: 0,
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
            // `Encoder::encode` refuses what was not judged; a dead letter has it whole.
            (Operation::Update, Part::Whole | Part::Unjudged) => {
                Self { before, ..with(Action::Update) }
            }
            (Operation::Update, Part::KeyChangeDelete) => {
                Self { other_key: keyed(after), part: Some(0), ends_change: false, ..deleted }
            }
            (Operation::Update, Part::KeyChangeCreate) => {
                Self { other_key: keyed(before), part: Some(2), ..with(Action::Insert) }
            }
            // The row as it is: that it was there before says nothing to readers who never saw it.
            (Operation::Update, Part::Enters) => with(Action::Insert),
            (Operation::Update, Part::Leaves) => deleted,
            (Operation::Delete, _) => deleted,
            (Operation::Truncate, _) => {
                let several = 1 < plan.partitions();
                Self { part: several.then_some(piece.partition), ..with(Action::Truncate) }
            }
        })
    }
}
