//! Splitting batches over lanes, and what must be sent again when a lane gets a new owner. Pure.

use crate::batch::{
    Decoded, Durable, Held, Inference, LaneBatch, MarkReached, Marked, Routed, Stated, TableLearned,
};
use crate::chunk::merge::Merge;
use crate::lane::unix_micros;
use crate::omission::{Omission, Released};
use crate::planner::Plans;
use crate::transactions::Transactions;
use bytes::BytesMut;
use record::plan::TablePlan;
use record::route::{Piece, Scratch};
use record::transaction::Order;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use supervision::Credit;
use wal::change::{Operation, Span};
use wal::{Change, ChangeBatch, Chunk, Lsn, Position, Table, statement};

/// The router's state in one life of the front.
#[derive(Debug)]
pub struct Routing {
    generation: u64,
    /// End of the revision: what commits here or later belongs to the next one.
    end: Option<Lsn>,
    /// By relation and version.
    plans: HashMap<(u32, u32), (Arc<Table>, Plans)>,
    /// Revisions after the first, and from where on they are in force.
    marks: Vec<(Lsn, Arc<Marked>)>,
    /// The transaction of the last change that was routed.
    newest: Lsn,
    /// Another revision is to come at this position.
    hold: Option<Hold>,
    lanes: Vec<Lane>,
    /// By relation and version, until the first change.
    inferences: HashMap<(u32, u32), Inference>,
    met: Vec<Met>,
    scratch: Scratch,
    seq: u64,
    /// Chunks that lanes may be sent again, by the number of their batch.
    chunks: VecDeque<(u64, String)>,
    /// Where chunks of snapshots find their place.
    pub merge: Merge,
    /// Where consumers are told of transactions.
    transactions: Option<Transactions>,
    /// Where DDL is left out as DTS does it.
    omission: Option<Omission>,
}

/// The first change of a version of a table, which the meta lane is to keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Met {
    pub oid: u32,
    pub number: u64,
    pub at: Position,
}

/// What waits until a mark is recorded.
#[derive(Debug)]
struct Hold {
    at: Lsn,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
enum Waiting {
    Learned(TableLearned),
    Changes(ChangeBatch, Arc<Credit>),
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
            marks: Vec::new(),
            newest: Lsn::ZERO,
            hold: None,
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            inferences: HashMap::new(),
            met: Vec::new(),
            scratch: Scratch::default(),
            seq: 0,
            merge: Merge::default(),
            chunks: VecDeque::new(),
            transactions: None,
            omission: None,
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

    /// Leaves DDL out as DTS does it.
    #[must_use]
    pub fn omitting(self, omits: bool) -> Self {
        Self { omission: omits.then(Omission::default), ..self }
    }

    /// By these revisions, each from its position on, in their order.
    #[must_use]
    pub fn marked(self, marks: Vec<(Lsn, Arc<Marked>)>) -> Self {
        Self { marks, ..self }
    }

    /// Holds what commits at a position that nothing routed has reached, and not before `at_least`, until the
    /// revision that begins there is known.
    pub fn hold(&mut self, at_least: Lsn) -> Held {
        let held = self.hold.as_ref().map_or(Lsn::ZERO, |hold| hold.at);
        let at = at_least.max(Lsn(self.newest.0 + 1)).max(held);
        let waiting = self.hold.take().map(|hold| hold.waiting).unwrap_or_default();
        self.hold = Some(Hold { at, waiting });
        Held { at, tables: self.plans.values().map(|(table, _)| Arc::clone(table)).collect() }
    }

    /// A revision begins where changes are held: what is held is routed.
    pub fn reach(
        &mut self,
        reached: MarkReached,
        send: &mut dyn FnMut(usize, &LaneBatch),
    ) -> Vec<Routed> {
        let MarkReached { at, marked, plans } = reached;
        for (table, plan) in plans {
            if let Some((_, known)) = self.plans.get_mut(&(table.oid, table.version)) {
                known.learn(marked.number, plan);
            }
        }
        self.marks.retain(|(before, _)| *before < at);
        self.marks.push((at, marked));
        let waiting = self.hold.take().map(|hold| hold.waiting).unwrap_or_default();
        let mut routed = Vec::new();
        for waiting in waiting {
            match waiting {
                Waiting::Learned(learned) => self.learn(learned),
                Waiting::Changes(batch, credit) => {
                    self.route_marked(batch, &credit, send, &mut routed);
                }
            }
        }
        routed
    }

    /// A table version, before its first change.
    pub fn learn(&mut self, learned: TableLearned) {
        if let Some(hold) = self.hold.as_mut().filter(|hold| !hold.waiting.is_empty()) {
            return hold.waiting.push_back(Waiting::Learned(learned));
        }
        let TableLearned { table, plans, inference } = learned;
        if let Some(inference) = inference {
            self.inferences.insert((table.oid, table.version), inference);
        }
        if table.oid == statement::OID {
            // The decoder remembers no more of them at a time, and numbers them anew.
            let oldest = table.version.saturating_sub(statement::KNOWN_MAX);
            self.plans.retain(|&(oid, version), _| oid != statement::OID || oldest <= version);
        }
        self.plans.insert((table.oid, table.version), (table, plans));
    }

    /// Splits a batch, hands each lane its part and keeps it until it is durable. Where a revision begins
    /// inside of the batch its parts follow each other; nothing, where all of it waits for a mark.
    pub fn route(
        &mut self,
        decoded: Decoded,
        send: &mut dyn FnMut(usize, &LaneBatch),
    ) -> Vec<Routed> {
        let mut routed = Vec::with_capacity(1);
        let Decoded { mut batch, credit } = decoded;
        // Its parts share it.
        let credit = Arc::new(credit);
        if let Some(hold) = &mut self.hold {
            let before = batch.changes_before(hold.at);
            // What comes after something held, even if it is only a claim of what may be confirmed, waits, too.
            if !hold.waiting.is_empty() || before == 0 && !batch.changes.is_empty() {
                hold.waiting.push_back(Waiting::Changes(batch, credit));
                return routed;
            }
            if let Some(rest) = batch.split_off(before) {
                hold.waiting.push_back(Waiting::Changes(rest, Arc::clone(&credit)));
            }
        }
        self.route_marked(batch, &credit, send, &mut routed);
        routed
    }

    /// Part by part, each by the revision in force where it commits.
    fn route_marked(
        &mut self,
        mut batch: ChangeBatch,
        credit: &Arc<Credit>,
        send: &mut dyn FnMut(usize, &LaneBatch),
        routed: &mut Vec<Routed>,
    ) {
        if let Some(end) = self.end {
            batch.cut(end);
        }
        let inside = self.marks.iter().map(|(at, _)| batch.changes_before(*at));
        let inside = inside.filter(|first| (1..batch.changes.len()).contains(first)).min();
        if let Some(rest) = inside.and_then(|first| batch.split_off(first)) {
            self.route_one(batch, credit, send, routed);
            return self.route_marked(rest, credit, send, routed);
        }
        self.route_one(batch, credit, send, routed);
    }

    /// First changes of table versions since this was asked last.
    pub fn take_met(&mut self) -> Vec<Met> {
        std::mem::take(&mut self.met)
    }

    /// Puts statements that were told from the stream before the changes that told of them.
    fn infer(&mut self, batch: &mut ChangeBatch) {
        let mut index = 0;
        while index < batch.changes.len() && !self.inferences.is_empty() {
            let change = batch.changes[index];
            let table = batch.table(&change);
            if let Some(inference) = self.inferences.remove(&(table.oid, table.version)) {
                let (oid, at) = (table.oid, batch.position(&change));
                let Inference { number, since, not_before, statement } = inference;
                if since.is_none() {
                    self.met.push(Met { oid, number, at });
                }
                let is_here = since.is_none_or(|since| since == at) && not_before <= at.commit_lsn;
                if let Some(stated) = statement.filter(|_| is_here) {
                    insert(batch, index, &stated);
                    let key = (stated.table.oid, stated.table.version);
                    self.plans.insert(key, (stated.table, stated.plans));
                    index += 1;
                }
            }
            index += 1;
        }
    }

    /// A batch that one revision decides.
    fn route_one(
        &mut self,
        mut batch: ChangeBatch,
        credit: &Arc<Credit>,
        send: &mut dyn FnMut(usize, &LaneBatch),
        routed: &mut Vec<Routed>,
    ) {
        if let Some(last) = batch.changes.last() {
            self.newest = self.newest.max(batch.transaction(last).commit_lsn);
        }
        let passed = self.marks.partition_point(|(at, _)| *at <= self.newest);
        let marked = passed.checked_sub(1).map(|index| Arc::clone(&self.marks[index].1));
        let number = marked.as_ref().map(|it| it.number);
        self.infer(&mut batch);
        let plan = |table: &Arc<Table>| {
            self.plans.get(&(table.oid, table.version))?.1.under(number).cloned()
        };
        let plans: Arc<[_]> = batch.tables.iter().map(plan).collect();
        // Each stands once.
        for table in batch.tables.iter().filter(|it| statement::is_inferred(it)) {
            self.plans.remove(&(table.oid, table.version));
        }
        self.merge.route(&batch);
        let omission = self.omission.as_mut();
        let released = omission.map(|it| it.sift(&mut batch, &plans, marked.as_ref()));
        for Released { batch, plans, marked } in released.into_iter().flatten() {
            // What was held has given its credit back: the rest of its transaction may need all of it.
            let credit = Arc::new(Credit::none());
            routed.push(self.hand_on(batch, &plans, marked.as_ref(), &credit, send));
        }
        routed.push(self.hand_on(batch, &plans, marked.as_ref(), credit, send));
    }

    /// Hands on what has no place in the stream and goes by the newest revision.
    pub fn route_aside(
        &mut self,
        batch: ChangeBatch,
        plans: &Arc<[Option<Arc<TablePlan>>]>,
        credit: Credit,
        send: &mut dyn FnMut(usize, &LaneBatch),
    ) -> Routed {
        let marked = self.marks.last().map(|(_, marked)| Arc::clone(marked));
        self.hand_on(batch, plans, marked.as_ref(), &Arc::new(credit), send)
    }

    fn hand_on(
        &mut self,
        mut batch: ChangeBatch,
        plans: &Arc<[Option<Arc<TablePlan>>]>,
        marked: Option<&Arc<Marked>>,
        credit: &Arc<Credit>,
        send: &mut dyn FnMut(usize, &LaneBatch),
    ) -> Routed {
        self.seq += 1;
        if let Some(chunk) = &mut batch.chunk {
            self.keep_open(chunk);
        }
        // What the merge compares are the rows as they were sent.
        record::rewrite::rewrite(&mut batch, plans);
        self.split(&batch, plans);
        let ends_transaction = batch.ends_transaction;
        // A chunk may come between two parts of a source transaction, of which it says nothing.
        let is_streamed = batch.chunk.is_none();
        let transactions = match &mut self.transactions {
            Some(transactions) => {
                if ends_transaction && is_streamed {
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
        let ended = ended.filter(|_| is_streamed);
        let commit_time_us = ended.map(|transaction| unix_micros(transaction.commit_time));
        let batch = Arc::new(batch);
        let mut lanes = 0;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if lane.pieces.is_empty() && !(lane.is_open && ends_transaction && is_streamed) {
                continue;
            }
            if is_streamed {
                lane.is_open = !ends_transaction;
            }
            lanes |= 1 << number;
            let part = LaneBatch {
                generation: self.generation,
                seq: self.seq,
                batch: Arc::clone(&batch),
                plans: Arc::clone(plans),
                pieces: lane.pieces.drain(..).collect(),
                orders: lane.orders.drain(..).collect(),
                ends_transaction,
                marked: marked.cloned(),
                credit: Arc::clone(credit),
            };
            send(number, &part);
            lane.retained.push_back(part);
        }
        Routed { seq: self.seq, lanes, confirmable, commit_time_us, transactions }
    }

    /// Lanes must not forget chunks that they may be sent again, also those of a table that was rewritten since, of which
    /// nothing is written down any more.
    fn keep_open(&mut self, chunk: &mut Arc<Chunk>) {
        let oldest = self.lanes.iter().filter_map(|it| it.retained.front()).map(|it| it.seq).min();
        self.chunks.retain(|(seq, _)| oldest.is_some_and(|oldest| oldest <= *seq));
        let sent = self.chunks.iter().map(|(_, name)| name);
        let unnamed: Vec<_> = sent.filter(|it| !chunk.open.contains(it)).cloned().collect();
        self.chunks.push_back((self.seq, chunk.name.clone()));
        if !unnamed.is_empty() {
            Arc::make_mut(chunk).open.extend(unnamed);
        }
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

/// Puts a statement before a change of the batch, at the position of that change: it has none of its own in the WAL.
fn insert(batch: &mut ChangeBatch, index: usize, stated: &Stated) {
    let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    let mut bytes = BytesMut::with_capacity(batch.bytes.len() + stated.tuple.len());
    bytes.extend_from_slice(&batch.bytes);
    let start = number(bytes.len());
    bytes.extend_from_slice(&stated.tuple);
    let new = Some(Span { start, end: number(bytes.len()) });
    batch.bytes = bytes.freeze();
    batch.tables.push(Arc::clone(&stated.table));
    let table = number(batch.tables.len() - 1);
    let told = batch.changes[index];
    let change = Change { table, operation: Operation::Insert, old: None, new, ..told };
    batch.changes.insert(index, change);
    for message in batch.messages.iter_mut().filter(|it| number(index) < it.changes_before) {
        message.changes_before += 1;
    }
}
