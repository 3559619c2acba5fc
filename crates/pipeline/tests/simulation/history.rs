//! What consumers must see of one time line, from its transactions and routing alone.

use super::postgres::Transaction;
use crate::bench;
use record::plan::TablePlan;
use std::sync::{Arc, LazyLock};
use wal::{Lsn, Position};

/// Lanes of a revision, at most.
pub(crate) const LANES: u8 = 4;
pub(crate) const PARTITIONS: i32 = 9;
/// Rows of a transaction, less one at most.
pub(crate) const ROWS: u64 = 7;

/// Plans by lanes. A front that finds one partition more must not take it into account.
static PLANS: LazyLock<[Vec<Arc<TablePlan>>; 2]> = LazyLock::new(|| {
    [PARTITIONS, PARTITIONS + 1]
        .map(|partitions| (1..=LANES).map(|lanes| bench::table_plan(partitions, lanes)).collect())
});

/// The partition of each ordinal: the bench's ids are their ordinals.
static ROUTES: LazyLock<Vec<i32>> = LazyLock::new(|| {
    let batch = bench::inserts(100, 0..ROWS, true);
    let (plan, mut scratch) = (plan(1, false), record::route::Scratch::default());
    let mut routes = Vec::new();
    for index in 0..u32::try_from(ROWS).expect("few") {
        plan.route(&batch, index, &mut scratch, &mut |piece| routes.push(piece.partition));
    }
    routes
});

/// By lanes and partition.
static OWNERS: LazyLock<Vec<Vec<Option<u8>>>> = LazyLock::new(|| {
    let batch = bench::inserts(100, 0..ROWS, true);
    let of = |lanes| {
        let mut owners = vec![None; usize::try_from(PARTITIONS).expect("few")];
        let (plan, mut scratch) = (plan(lanes, false), record::route::Scratch::default());
        for index in 0..u32::try_from(ROWS).expect("few") {
            plan.route(&batch, index, &mut scratch, &mut |piece| {
                owners[usize::try_from(piece.partition).expect("few")] = Some(piece.lane);
            });
        }
        owners
    };
    (1..=LANES).map(of).collect()
});

pub(crate) fn plan(lanes: u8, unpinned: bool) -> Arc<TablePlan> {
    Arc::clone(&PLANS[usize::from(unpinned)][usize::from(lanes) - 1])
}

/// The lane that a partition belongs to; `None`: no row ever goes there.
pub(crate) fn owner(lanes: u8, partition: usize) -> Option<u8> {
    OWNERS[usize::from(lanes) - 1].get(partition).copied().flatten()
}

/// The partition of a row.
pub(crate) fn route(ordinal: u64) -> usize {
    usize::try_from(ROUTES[usize::try_from(ordinal).expect("few")]).expect("few")
}

/// One time line as it was fed.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) timeline: u32,
    /// By partition.
    pub(crate) expected: Vec<Vec<Position>>,
}

impl History {
    pub(crate) fn new(timeline: u32, transactions: &[Transaction]) -> Self {
        // One more than there are: where a front without pins would write to.
        let partitions = usize::try_from(PARTITIONS + 1).expect("few");
        let mut history = Self { timeline, expected: vec![Vec::new(); partitions] };
        transactions.iter().for_each(|it| history.wrote(*it));
        history
    }

    pub(crate) fn wrote(&mut self, transaction: Transaction) {
        for ordinal in 0..transaction.rows {
            let position = Position { commit_lsn: transaction.commit, ordinal };
            self.expected[route(ordinal)].push(position);
        }
    }

    /// The event of a partition after the first `shown`, and where its transaction ends.
    pub(crate) fn owed(&self, partition: usize, shown: usize) -> Option<(Position, Lsn)> {
        let position = *self.expected[partition].get(shown)?;
        Some((position, Transaction { commit: position.commit_lsn, rows: 0 }.end()))
    }
}
