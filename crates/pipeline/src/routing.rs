//! Splitting batches over lanes, and what must be sent again when a lane gets a new owner. Pure.

use crate::batch::{Decoded, Durable, LaneBatch, Routed, TableLearned};
use crate::chunk::merge::Merge;
use crate::lane::unix_micros;
use crate::transactions::Transactions;
use record::plan::TablePlan;
use record::route::{Piece, Scratch};
use record::transaction::Order;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use supervision::Credit;
use wal::{ChangeBatch, Lsn, Table, statement};

/// The router's state in one life of the front.
#[derive(Debug)]
pub struct Routing {
    generation: u64,
    /// End of the revision: what commits here or later belongs to the next one.
    end: Option<Lsn>,
    plans: HashMap<(u32, u32), Option<Arc<TablePlan>>>,
    lanes: Vec<Lane>,
    scratch: Scratch,
    seq: u64,
    /// Where chunks of snapshots find their place.
    pub merge: Merge,
    /// Where consumers are told of transactions.
    transactions: Option<Transactions>,
}

#[derive(Debug, Default)]
struct Lane {
    /// Sent and not yet durable, in order.
    retained: VecDeque<LaneBatch>,
    /// Of the batch in hand.
    pieces: Vec<Piece>,
    orders: Vec<Order>,
    /// The last part ended inside a source transaction: the lane must hear of its end, even where
    /// the rest has nothing for it.
    is_open: bool,
}

impl Routing {
    /// Nothing routed yet, over `lanes` lanes.
    #[must_use]
    pub fn new(generation: u64, lanes: usize) -> Self {
        Self {
            generation,
            end: None,
            plans: HashMap::new(),
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            scratch: Scratch::default(),
            seq: 0,
            merge: Merge::default(),
            transactions: None,
        }
    }

    /// Routes only what commits before `end`, and lets nothing beyond be confirmed.
    #[must_use]
    pub fn until(self, end: Option<Lsn>) -> Self {
        Self { end, ..self }
    }

    /// Counts the records of each source transaction.
    #[must_use]
    pub fn counting(self, counts: bool) -> Self {
        Self { transactions: counts.then(Transactions::default), ..self }
    }

    /// A table version, before its first change.
    pub fn learn(&mut self, learned: TableLearned) {
        let TableLearned { table, plan } = learned;
        if table.oid == statement::OID {
            // The decoder remembers no more of them at a time, and numbers them anew.
            let oldest = table.version.saturating_sub(statement::KNOWN_MAX);
            self.plans.retain(|&(oid, version), _| oid != statement::OID || oldest <= version);
        }
        self.plans.insert((table.oid, table.version), plan);
    }

    /// Splits a batch, hands each lane its part and keeps it until it is durable.
    pub fn route(&mut self, decoded: Decoded, send: &mut dyn FnMut(usize, &LaneBatch)) -> Routed {
        let Decoded { mut batch, credit } = decoded;
        if let Some(end) = self.end {
            batch.cut(end);
        }
        let plan =
            |table: &Arc<Table>| self.plans.get(&(table.oid, table.version)).cloned().flatten();
        let plans: Arc<[_]> = batch.tables.iter().map(plan).collect();
        self.merge.route(&batch);
        self.hand_on(batch, &plans, credit, send)
    }

    /// Hands on a chunk whose rows have found their place.
    pub fn route_chunk(
        &mut self,
        batch: ChangeBatch,
        plan: Arc<TablePlan>,
        credit: Credit,
        send: &mut dyn FnMut(usize, &LaneBatch),
    ) -> Routed {
        self.hand_on(batch, &[Some(plan)].into(), credit, send)
    }

    fn hand_on(
        &mut self,
        mut batch: ChangeBatch,
        plans: &Arc<[Option<Arc<TablePlan>>]>,
        credit: Credit,
        send: &mut dyn FnMut(usize, &LaneBatch),
    ) -> Routed {
        self.seq += 1;
        // What the merge compares are the rows as they were sent.
        record::rewrite::rewrite(&mut batch, plans);
        self.split(&batch, plans);
        let ends_transaction = batch.ends_transaction;
        let transactions = match &mut self.transactions {
            Some(transactions) => {
                // A chunk ends no transaction of the stream.
                if ends_transaction && batch.chunk.is_none() {
                    transactions.end();
                } else if let Some(end) = batch.committed_end_lsn {
                    // It may be confirmed, so it must be told.
                    transactions.end_below(end);
                }
                transactions.take_ended()
            }
            None => Vec::new(),
        };
        let confirmable = batch.idle_until.max(batch.committed_end_lsn);
        let ended = batch.transactions.len().checked_sub(if ends_transaction { 1 } else { 2 });
        let ended = ended.and_then(|index| batch.transactions.get(index));
        let ended = ended.filter(|_| batch.chunk.is_none());
        let commit_time_us = ended.map(|transaction| unix_micros(transaction.commit_time));
        let (batch, credit) = (Arc::new(batch), Arc::new(credit));
        let mut lanes = 0;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if lane.pieces.is_empty() && !(lane.is_open && ends_transaction) {
                continue;
            }
            lane.is_open = !ends_transaction;
            lanes |= 1 << number;
            let part = LaneBatch {
                generation: self.generation,
                seq: self.seq,
                batch: Arc::clone(&batch),
                plans: Arc::clone(plans),
                pieces: lane.pieces.drain(..).collect(),
                orders: lane.orders.drain(..).collect(),
                ends_transaction,
                credit: Arc::clone(&credit),
            };
            send(number, &part);
            lane.retained.push_back(part);
        }
        Routed { seq: self.seq, lanes, confirmable, commit_time_us, transactions }
    }

    /// Fills `pieces` of every lane.
    fn split(&mut self, batch: &ChangeBatch, plans: &[Option<Arc<TablePlan>>]) {
        let lanes = &mut self.lanes;
        // Rows of a snapshot belong to no transaction.
        let mut transactions = self.transactions.as_mut().filter(|_| batch.snapshot.is_none());
        for (index, change) in (0u32..).zip(&batch.changes) {
            let Some(Some(plan)) = plans.get(change.table as usize) else { continue };
            plan.route(batch, index, &mut self.scratch, &mut |piece: Piece| {
                let lane = &mut lanes[usize::from(piece.lane)];
                lane.pieces.push(piece);
                if let Some(transactions) = &mut transactions {
                    let transaction = batch.transaction(change);
                    let order = if plan.is_statement() {
                        // Consumers count rows.
                        Order { total: 0, collection: 0 }
                    } else {
                        transactions.count(transaction, change.lsn, plan.table())
                    };
                    lane.orders.push(order);
                }
            });
        }
    }

    /// Forgets what a lane holds for good. News of an older life frees nothing.
    pub fn durable(&mut self, durable: &Durable) {
        if durable.generation != self.generation {
            return;
        }
        let Some(lane) = self.lanes.get_mut(usize::from(durable.lane)) else { return };
        while lane.retained.front().is_some_and(|part| part.seq <= durable.seq) {
            lane.retained.pop_front();
        }
    }

    /// What a lane's new owner must get, in order.
    pub fn retained(&self, lane: usize) -> impl ExactSizeIterator<Item = &LaneBatch> {
        self.lanes[lane].retained.iter()
    }
}
