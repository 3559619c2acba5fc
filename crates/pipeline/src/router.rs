//! Router: splits batches over lanes.
//!
//! In:    [`TableLearned`] and [`Decoded`] in stream order; [`Durable`] from the lanes;
//!        [`LaneReady`] when a lane has a new owner.
//! Out:   [`LaneBatch`] per lane; [`Routed`] to the acknowledger.
//!        Windows and rows of chunks, which wait here for their place.
//! Holds: the plan of every table version; per lane, what is not yet durable, so that one
//!        producer can be replaced alone.
//! Never: looks into a value beyond the key columns; decides by anything but WAL content and plans.

use crate::batch::{
    ChunkRead, ChunkRouted, CloseWindow, Decoded, Durable, HoldForMark, LaneBatch, LaneReady,
    MarkReached, MarkWindow, Marked, OpenWindow, Retire, Routed, RoutedBefore, TableLearned, Tell,
};
use crate::chunk::merge::Verdict;
use crate::descriptions::Descriptions;
use crate::routing::{Met, Routing};
use actix::{Actor, ActorContext, Context, Handler, Recipient};
use record::plan::TablePlan;
use std::collections::VecDeque;
use std::sync::Arc;
use supervision::{Credit, Lifeline};
use tracing::info;
use wal::{ChangeBatch, Lsn};

/// The third stage. Lives as long as its generation.
#[derive(Debug)]
pub struct Router {
    routing: Routing,
    /// `None` while a lane has no open owner: its parts are retained.
    producers: Vec<Option<Recipient<LaneBatch>>>,
    acknowledger: Recipient<Routed>,
    /// Chunks whose place has not come.
    waiting: VecDeque<ChunkRead>,
    /// Where first changes of table versions are written down.
    descriptions: Option<Descriptions>,
    lifeline: Lifeline,
}

impl Router {
    /// A router of one generation over the lanes whose owners are `producers`, up to the end of the
    /// revision where that is known.
    #[must_use]
    pub fn new(
        generation: u64,
        end: Option<Lsn>,
        producers: Vec<Option<Recipient<LaneBatch>>>,
        acknowledger: Recipient<Routed>,
        lifeline: Lifeline,
    ) -> Self {
        let routing = Routing::new(generation, producers.len()).until(end);
        let (waiting, descriptions) = (VecDeque::new(), None);
        Self { routing, producers, acknowledger, waiting, descriptions, lifeline }
    }

    /// Hands on the chunks whose place has come, in the order in which they were read: lanes forget what a chunk does not
    /// name as open, and it names only those that were read before it.
    fn merge(&mut self) {
        while let Some(mut chunk) = self.waiting.pop_front() {
            let routed = match self.routing.merge.emit(chunk.ticket, &mut chunk.batch) {
                Verdict::Wait => return self.waiting.push_front(chunk),
                Verdict::Again => ChunkRouted::Again,
                Verdict::Emit { left_out, .. } => {
                    let ChunkRead { batch, plan, credit, .. } = chunk;
                    let rows = batch.changes.len() as u64;
                    // No mark comes while tables are copied: the plan is of the newest revision.
                    let seq = self.hand_on(batch, vec![Some(plan)], credit);
                    ChunkRouted::At { seq, rows, left_out }
                }
            };
            // Whoever read it may have gone; its next life reads it again.
            let _ = chunk.answer.send(routed);
        }
    }

    /// Hands on what has no place in the stream; gives its number.
    fn hand_on(
        &mut self,
        batch: ChangeBatch,
        plans: Vec<Option<Arc<TablePlan>>>,
        credit: Credit,
    ) -> u64 {
        let mut send = to(&self.producers);
        let routed = self.routing.route_aside(batch, &plans.into(), credit, &mut send);
        let seq = routed.seq;
        self.acknowledger.do_send(routed);
        seq
    }

    fn routed(&mut self, routed: Vec<Routed>) {
        // No lane has been durable meanwhile: the acknowledger shares this thread.
        for Met { oid, number, at } in self.routing.take_met() {
            if let Some(descriptions) = &self.descriptions {
                descriptions.met(oid, number, at);
            }
        }
        routed.into_iter().for_each(|it| self.acknowledger.do_send(it));
        self.merge();
    }

    /// Writes down there at which changes table versions begin.
    #[must_use]
    pub fn describing(self, descriptions: Descriptions) -> Self {
        Self { descriptions: Some(descriptions), ..self }
    }

    /// By these revisions, each from its position on.
    #[must_use]
    pub fn marked(self, marks: Vec<(Lsn, Arc<Marked>)>) -> Self {
        Self { routing: self.routing.marked(marks), ..self }
    }

    /// Counts the records of each source transaction.
    #[must_use]
    pub fn counting(self, counts: bool) -> Self {
        Self { routing: self.routing.counting(counts), ..self }
    }

    /// Leaves DDL out as DTS does it.
    #[must_use]
    pub fn omitting(self, omits: bool) -> Self {
        Self { routing: self.routing.omitting(omits), ..self }
    }
}

/// Gives each lane its part; a lane without an owner gets it later.
fn to(producers: &[Option<Recipient<LaneBatch>>]) -> impl FnMut(usize, &LaneBatch) {
    |lane, part| {
        if let Some(producer) = &producers[lane] {
            producer.do_send(part.clone());
        }
    }
}

impl Actor for Router {
    type Context = Context<Self>;
}

impl Handler<TableLearned> for Router {
    type Result = ();

    fn handle(&mut self, learned: TableLearned, _: &mut Context<Self>) {
        self.routing.learn(learned);
    }
}

impl Handler<Decoded> for Router {
    type Result = ();

    fn handle(&mut self, decoded: Decoded, _: &mut Context<Self>) {
        let routed = self.routing.route(decoded, &mut to(&self.producers));
        self.routed(routed);
    }
}

impl Handler<HoldForMark> for Router {
    type Result = ();

    fn handle(&mut self, hold: HoldForMark, _: &mut Context<Self>) {
        // Whoever asked may have gone.
        let _ = hold.answer.send(self.routing.hold(hold.at_least));
    }
}

impl Handler<MarkReached> for Router {
    type Result = ();

    fn handle(&mut self, reached: MarkReached, _: &mut Context<Self>) {
        let routed = self.routing.reach(reached, &mut to(&self.producers));
        self.routed(routed);
    }
}

impl Handler<OpenWindow> for Router {
    type Result = ();

    fn handle(&mut self, open: OpenWindow, _: &mut Context<Self>) {
        let OpenWindow { ticket, oid, key } = open;
        self.routing.merge.open(ticket, oid, key);
    }
}

impl Handler<MarkWindow> for Router {
    type Result = ();

    fn handle(&mut self, mark: MarkWindow, _: &mut Context<Self>) {
        let MarkWindow { ticket, snapshot, high, answer } = mark;
        // Whoever asked may have gone.
        let _ = answer.send(self.routing.merge.mark(ticket, snapshot, high));
    }
}

impl Handler<ChunkRead> for Router {
    type Result = ();

    fn handle(&mut self, chunk: ChunkRead, _: &mut Context<Self>) {
        self.waiting.push_back(chunk);
        self.merge();
    }
}

impl Handler<Tell> for Router {
    type Result = ();

    fn handle(&mut self, Tell { batch, plans, credit, answer }: Tell, _: &mut Context<Self>) {
        let seq = self.hand_on(batch, plans, credit);
        // Whoever asked may have gone.
        let _ = answer.send(seq);
    }
}

impl Handler<RoutedBefore> for Router {
    type Result = ();

    fn handle(&mut self, RoutedBefore(xid): RoutedBefore, _: &mut Context<Self>) {
        self.routing.merge.routed_before(xid);
    }
}

impl Handler<CloseWindow> for Router {
    type Result = ();

    fn handle(&mut self, CloseWindow(ticket): CloseWindow, _: &mut Context<Self>) {
        self.routing.merge.close(ticket);
    }
}

impl Handler<Durable> for Router {
    type Result = ();

    fn handle(&mut self, durable: Durable, _: &mut Context<Self>) {
        self.routing.durable(&durable);
    }
}

impl Handler<LaneReady> for Router {
    type Result = ();

    fn handle(&mut self, ready: LaneReady, _: &mut Context<Self>) {
        let LaneReady { lane, producer } = ready;
        let Some(owner) = self.producers.get_mut(usize::from(lane)) else { return };
        let retained = self.routing.retained(usize::from(lane));
        info!(lane, batches = retained.len(), "lane has a new owner, sending again");
        retained.for_each(|part| producer.do_send(part.clone()));
        *owner = Some(producer);
    }
}

impl Handler<Retire> for Router {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.lifeline.release();
        ctx.stop();
    }
}
