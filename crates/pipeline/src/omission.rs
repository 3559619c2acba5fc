//! DDL that is left out as DTS leaves it out (`compat.dts_ddl`; product.md, P25), where the whole transaction decides: one that
//! also changes rows, or of whose statements the task selects a part only. Pure.
//!
//! What comes before the first row of a transaction is held until that row, or the end, tells. So the outcome depends on the
//! WAL and the plans alone, and comes out the same when the transaction is read again.

use crate::batch::Marked;
use record::encode::{DtsDdl, dts_ddl};
use record::plan::TablePlan;
use std::ops::Range;
use std::sync::Arc;
use wal::change::Operation;
use wal::statement::is_captured;
use wal::{ChangeBatch, Lsn};

/// Of the buffers that are held of one transaction, in bytes. Statements of a larger one go on as they come: what is written
/// too much harms less than memory without a bound.
const HELD_BYTES_MAX: usize = 4 << 20;

/// The plans of a batch, by [`wal::Change::table`].
pub(crate) type Planned = Arc<[Option<Arc<TablePlan>>]>;

/// Changes that were held, and by what they are routed.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) batch: ChangeBatch,
    pub(crate) plans: Planned,
    pub(crate) marked: Option<Arc<Marked>>,
}

/// Leaves statements out, in one life of the front.
#[derive(Debug, Default)]
pub(crate) struct Omission {
    open: Option<Open>,
}

/// The transaction that was open where the last batch ended.
#[derive(Debug)]
struct Open {
    commit_lsn: Lsn,
    fate: Fate,
    held: Vec<Released>,
}

/// What becomes of the statements of a transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// What came so far does not tell.
    Unknown,
    Written,
    LeftOut,
}

impl Omission {
    /// Takes out of a batch what is left out, and what is held. Gives back what was held before and goes before the
    /// batch.
    pub(crate) fn sift(
        &mut self,
        batch: &mut ChangeBatch,
        plans: &Planned,
        marked: Option<&Arc<Marked>>,
    ) -> Vec<Released> {
        let mut released = self.end(batch);
        let is_plain = self.open.is_none() && !batch.tables.iter().any(|it| is_captured(it));
        if is_plain && batch.ends_transaction {
            return released;
        }
        let mut left_out = Vec::new();
        for range in transactions(batch) {
            let is_over = batch.ends_transaction || range.end < batch.changes.len();
            let commit_lsn = batch.transaction(&batch.changes[range.start]).commit_lsn;
            let mut open = self.open.take().unwrap_or_else(|| Open::new(commit_lsn));
            if open.fate == Fate::Unknown {
                open.fate = fate(batch, plans, range.clone());
            }
            let held = open.held.iter().map(|it| it.batch.bytes.len()).sum::<usize>();
            if open.fate == Fate::Unknown && (is_over || HELD_BYTES_MAX < held + batch.bytes.len())
            {
                open.fate = Fate::Written;
            }
            if open.fate == Fate::Unknown {
                open.held.push(held_of(batch, range.clone(), plans, marked));
                left_out.extend(range);
            } else {
                released.append(&mut open.release());
                left_out.extend(range.filter(|&index| is_left_out(batch, index, open.fate)));
            }
            self.open = (!is_over).then_some(open);
        }
        remove(batch, &left_out);
        released
    }

    /// What was held of a transaction that ends before the first change of the batch.
    fn end(&mut self, batch: &ChangeBatch) -> Vec<Released> {
        let goes_on = |open: &Open| match batch.changes.first() {
            Some(first) => batch.transaction(first).commit_lsn == open.commit_lsn,
            None => !batch.ends_transaction && batch.committed_end_lsn.is_none(),
        };
        let Some(mut open) = self.open.take_if(|open| !goes_on(open)) else { return Vec::new() };
        if open.fate == Fate::Unknown {
            open.fate = Fate::Written;
        }
        let mut released = open.release();
        if let Some(last) = released.last_mut() {
            last.batch.ends_transaction = true;
        }
        released
    }
}

impl Open {
    fn new(commit_lsn: Lsn) -> Self {
        Self { commit_lsn, fate: Fate::Unknown, held: Vec::new() }
    }

    /// What is held, without what is left out.
    fn release(&mut self) -> Vec<Released> {
        let mut held = std::mem::take(&mut self.held);
        for Released { batch, .. } in &mut held {
            let all = 0..batch.changes.len();
            let left_out: Vec<_> =
                all.filter(|&index| is_left_out(batch, index, self.fate)).collect();
            remove(batch, &left_out);
        }
        held.retain(|it| !it.batch.changes.is_empty());
        held
    }
}

/// The changes of each transaction of the batch.
fn transactions(batch: &ChangeBatch) -> Vec<Range<usize>> {
    let mut start = 0;
    let groups = batch.changes.chunk_by(|one, other| one.transaction == other.transaction);
    groups
        .map(|group| {
            let range = start..start + group.len();
            start = range.end;
            range
        })
        .collect()
}

/// What these changes tell of the statements of their transaction. TRUNCATE is DDL to DTS, and stays in any case: it
/// is in the topics of rows.
fn fate(batch: &ChangeBatch, plans: &Planned, range: Range<usize>) -> Fate {
    for change in &batch.changes[range] {
        let is_row = match change.operation {
            Operation::Insert | Operation::Update | Operation::Delete => {
                batch.table(change).oid != wal::statement::OID
            }
            Operation::Read | Operation::Truncate => false,
        };
        let is_selected = plans.get(change.table as usize).is_some_and(Option::is_some);
        if is_row || is_captured(batch.table(change)) && !is_selected {
            return Fate::LeftOut;
        }
    }
    Fate::Unknown
}

fn is_left_out(batch: &ChangeBatch, index: usize, fate: Fate) -> bool {
    match dts_ddl(batch, &batch.changes[index]) {
        None | Some(DtsDdl::Gap) => false,
        Some(DtsDdl::LeftOut) => true,
        Some(DtsDdl::Written) => fate == Fate::LeftOut,
    }
}

fn held_of(
    batch: &ChangeBatch,
    range: Range<usize>,
    plans: &Planned,
    marked: Option<&Arc<Marked>>,
) -> Released {
    let changes = &batch.changes[range];
    let transactions = changes.first().map(|it| *batch.transaction(it)).into_iter().collect();
    let changes = changes.iter().map(|it| wal::Change { transaction: 0, ..*it }).collect();
    let held = ChangeBatch {
        bytes: batch.bytes.clone(),
        changes,
        transactions,
        tables: batch.tables.clone(),
        ..ChangeBatch::default()
    };
    Released { batch: held, plans: Arc::clone(plans), marked: marked.cloned() }
}

/// Removes the changes of these numbers, which ascend.
fn remove(batch: &mut ChangeBatch, numbers: &[usize]) {
    if numbers.is_empty() {
        return;
    }
    let (mut numbers, mut index) = (numbers.iter().peekable(), 0);
    batch.changes.retain(|_| {
        let is_removed = numbers.next_if(|&&number| number == index).is_some();
        index += 1;
        !is_removed
    });
}
