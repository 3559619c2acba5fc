//! Router: splits batches over lanes.
//!
//! In:    [`TableLearned`] and [`Decoded`] in stream order; [`Durable`] from the lanes;
//!        [`LaneReady`] when a lane has a new owner.
//! Out:   [`LaneBatch`] per lane; [`Routed`] to the acknowledger.
//! Holds: the plan of every table version; per lane, what is not yet durable, so that one
//!        producer can be replaced alone.
//! Never: looks into a value beyond the key columns; decides by anything but WAL content and plans.

use crate::batch::{Decoded, Durable, LaneBatch, LaneReady, Routed, TableLearned};
use actix::{Actor, Context, Handler, Recipient};
use record::plan::TablePlan;
use record::route::{Piece, Scratch};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use supervision::Lifeline;
use tracing::info;

/// The third stage. Lives as long as its generation.
#[derive(Debug)]
pub struct Router {
    generation: u64,
    plans: HashMap<(u32, u32), Option<Arc<TablePlan>>>,
    lanes: Vec<Lane>,
    scratch: Scratch,
    seq: u64,
    acknowledger: Recipient<Routed>,
    _lifeline: Lifeline,
}

/// One lane as the router sees it.
#[derive(Debug)]
struct Lane {
    /// `None` while it has no open owner: batches wait in `retained`.
    producer: Option<Recipient<LaneBatch>>,
    retained: VecDeque<LaneBatch>,
    /// Of the batch in hand.
    pieces: Vec<Piece>,
}

impl Router {
    /// A router of one generation over the lanes whose owners are `producers`.
    #[must_use]
    pub fn new(
        generation: u64,
        producers: Vec<Option<Recipient<LaneBatch>>>,
        acknowledger: Recipient<Routed>,
        lifeline: Lifeline,
    ) -> Self {
        let lane = |producer| Lane { producer, retained: VecDeque::new(), pieces: Vec::new() };
        Self {
            generation,
            plans: HashMap::new(),
            lanes: producers.into_iter().map(lane).collect(),
            scratch: Scratch::default(),
            seq: 0,
            acknowledger,
            _lifeline: lifeline,
        }
    }

    /// Fills `pieces` of every lane.
    fn split(&mut self, batch: &wal::ChangeBatch, plans: &[Option<Arc<TablePlan>>]) {
        let lanes = &mut self.lanes;
        for (index, change) in (0u32..).zip(&batch.changes) {
            let Some(Some(plan)) = plans.get(change.table as usize) else { continue };
            plan.route(batch, index, &mut self.scratch, &mut |piece: Piece| {
                lanes[usize::from(piece.lane)].pieces.push(piece);
            });
        }
    }
}

impl Actor for Router {
    type Context = Context<Self>;
}

impl Handler<TableLearned> for Router {
    type Result = ();

    fn handle(&mut self, learned: TableLearned, _: &mut Context<Self>) {
        let TableLearned { table, plan } = learned;
        self.plans.insert((table.oid, table.version), plan);
    }
}

impl Handler<Decoded> for Router {
    type Result = ();

    fn handle(&mut self, decoded: Decoded, _: &mut Context<Self>) {
        let Decoded { batch, credit } = decoded;
        self.seq += 1;
        let plan = |table: &Arc<wal::Table>| {
            self.plans.get(&(table.oid, table.version)).cloned().flatten()
        };
        let plans: Arc<[_]> = batch.tables.iter().map(plan).collect();
        self.split(&batch, &plans);
        // A batch ends its transaction when the last change belongs to one that has committed.
        let ends_transaction = batch.committed_end_lsn.is_some() && batch.ends_transaction;
        let confirmable = batch.idle_until.or(batch.committed_end_lsn);
        let (batch, credit) = (Arc::new(batch), Arc::new(credit));
        let mut lanes = 0;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if lane.pieces.is_empty() {
                continue;
            }
            lanes |= 1 << number;
            let part = LaneBatch {
                generation: self.generation,
                seq: self.seq,
                batch: Arc::clone(&batch),
                plans: Arc::clone(&plans),
                pieces: lane.pieces.drain(..).collect(),
                ends_transaction,
                credit: Arc::clone(&credit),
            };
            if let Some(producer) = &lane.producer {
                producer.do_send(part.clone());
            }
            lane.retained.push_back(part);
        }
        self.acknowledger.do_send(Routed { seq: self.seq, lanes, confirmable });
    }
}

impl Handler<Durable> for Router {
    type Result = ();

    fn handle(&mut self, durable: Durable, _: &mut Context<Self>) {
        if durable.generation != self.generation {
            return;
        }
        let Some(lane) = self.lanes.get_mut(usize::from(durable.lane)) else { return };
        while lane.retained.front().is_some_and(|part| part.seq <= durable.seq) {
            lane.retained.pop_front();
        }
    }
}

impl Handler<LaneReady> for Router {
    type Result = ();

    fn handle(&mut self, ready: LaneReady, _: &mut Context<Self>) {
        let LaneReady { lane: number, producer } = ready;
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return };
        info!(lane = number, batches = lane.retained.len(), "lane has a new owner, sending again");
        for part in &lane.retained {
            producer.do_send(part.clone());
        }
        lane.producer = Some(producer);
    }
}
