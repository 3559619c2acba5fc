//! What consumers must see of one time line, from its transactions and routing alone.

use super::postgres::Transaction;
use crate::bench;
use config::Hash;
use kafka::meta::Revision;
use record::plan::{TablePlan, TaskPlan};
use std::sync::{Arc, LazyLock};
use wal::{Lsn, Position};

/// Lanes of a revision, at most.
pub(crate) const LANES: u8 = 4;
pub(crate) const PARTITIONS: i32 = 9;
/// Rows of a transaction, less one at most.
pub(crate) const ROWS: u64 = 7;

/// Shapes differ in their hash: rows go to other partitions, which belong to the same lanes.
const HASHES: [Hash; 2] = [Hash::Murmur2, Hash::Java];

/// Plans by hash, then by lanes. A front that finds one partition more must not take it into account.
static PLANS: LazyLock<[[Vec<Arc<TablePlan>>; 2]; 2]> = LazyLock::new(|| {
    HASHES.map(|hash| {
        let mut spec = bench::spec();
        spec.sink.hash = hash;
        let task = TaskPlan::new(&spec, "appdb").expect("a plan");
        [PARTITIONS, PARTITIONS + 1].map(|partitions| {
            let plan = |lanes| TablePlan::new(bench::table(), &task, 0, partitions, lanes);
            (1..=LANES).map(|lanes| Arc::new(plan(lanes).expect("a plan"))).collect()
        })
    })
});

/// By hash, the partition of each ordinal: the bench's ids are their ordinals.
static ROUTES: LazyLock<[Vec<i32>; 2]> = LazyLock::new(|| HASHES.map(routes));

fn routes(hash: Hash) -> Vec<i32> {
    let batch = bench::inserts(100, 0..ROWS, true);
    let (plan, mut scratch) = (plan(1, false, hash), record::route::Scratch::default());
    let mut routes = Vec::new();
    for index in 0..u32::try_from(ROWS).expect("few") {
        plan.route(&batch, index, &mut scratch, &mut |piece| routes.push(piece.partition));
    }
    routes
}

/// By lanes and partition.
static OWNERS: LazyLock<Vec<Vec<Option<u8>>>> = LazyLock::new(|| {
    let batch = bench::inserts(100, 0..ROWS, true);
    let of = |lanes| {
        let mut owners = vec![None; usize::try_from(PARTITIONS).expect("few")];
        for hash in HASHES {
            let (plan, mut scratch) = (plan(lanes, false, hash), record::route::Scratch::default());
            for index in 0..u32::try_from(ROWS).expect("few") {
                plan.route(&batch, index, &mut scratch, &mut |piece| {
                    owners[usize::try_from(piece.partition).expect("few")] = Some(piece.lane);
                });
            }
        }
        owners
    };
    (1..=LANES).map(of).collect()
});

pub(crate) fn plan(lanes: u8, unpinned: bool, hash: Hash) -> Arc<TablePlan> {
    Arc::clone(&PLANS[number(hash)][usize::from(unpinned)][usize::from(lanes) - 1])
}

fn number(hash: Hash) -> usize {
    usize::from(hash != Hash::Murmur2)
}

/// The lane that a partition belongs to; `None`: no row ever goes there.
pub(crate) fn owner(lanes: u8, partition: usize) -> Option<u8> {
    OWNERS[usize::from(lanes) - 1].get(partition).copied().flatten()
}

/// One time line as it was fed.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) timeline: u32,
    /// By partition.
    pub(crate) expected: Vec<Vec<Position>>,
    /// The hash, and from where on it is in force.
    hashes: Vec<(Lsn, Hash)>,
}

impl History {
    pub(crate) fn new() -> Self {
        let mut history = Self { timeline: 1, expected: Vec::new(), hashes: Vec::new() };
        history.feed(1, &[]);
        history
    }

    /// What lanes are fed from now on.
    pub(crate) fn feed(&mut self, timeline: u32, transactions: &[Transaction]) {
        // One more than there are: where a front without pins would write to.
        let partitions = usize::try_from(PARTITIONS + 1).expect("few");
        (self.timeline, self.expected) = (timeline, vec![Vec::new(); partitions]);
        transactions.iter().for_each(|it| self.wrote(*it));
    }

    /// A front is about to route by these revisions.
    pub(crate) fn goes_by(&mut self, revision: &Revision, transactions: &[Transaction]) {
        self.hashes.retain(|(at, _)| *at < revision.start);
        self.hashes.push((revision.start, revision.shape.hash));
        self.hashes.extend(revision.marks.iter().map(|mark| (mark.at, mark.shape.hash)));
        self.feed(self.timeline, transactions);
    }

    /// The partition of a row.
    pub(crate) fn route(&self, at: Position) -> usize {
        let hash = self.hashes.iter().rfind(|(from, _)| *from <= at.commit_lsn);
        let routes = &ROUTES[number(hash.map_or(Hash::Murmur2, |(_, hash)| *hash))];
        usize::try_from(routes[usize::try_from(at.ordinal).expect("few")]).expect("few")
    }

    pub(crate) fn wrote(&mut self, transaction: Transaction) {
        for ordinal in 0..transaction.rows {
            let position = Position { commit_lsn: transaction.commit, ordinal };
            let partition = self.route(position);
            self.expected[partition].push(position);
        }
    }

    /// The event of a partition after the first `shown`, and where its transaction ends.
    pub(crate) fn owed(&self, partition: usize, shown: usize) -> Option<(Position, Lsn)> {
        let position = *self.expected[partition].get(shown)?;
        Some((position, Transaction { commit: position.commit_lsn, rows: 0 }.end()))
    }
}
