//! Router: splits batches over lanes.
//!
//! In:    [`TableLearned`] and [`Decoded`] in stream order; [`Durable`] from the lanes;
//!        [`LaneReady`] when a lane has a new owner.
//! Out:   [`LaneBatch`] per lane; [`Routed`] to the acknowledger.
//! Holds: the plan of every table version; per lane, what is not yet durable, so that one
//!        producer can be replaced alone.
//! Never: looks into a value beyond the key columns; decides by anything but WAL content and plans.

use crate::batch::{Decoded, Durable, LaneBatch, LaneReady, Retire, Routed, TableLearned};
use crate::routing::Routing;
use actix::{Actor, ActorContext, Context, Handler, Recipient};
use supervision::Lifeline;
use tracing::info;
use wal::Lsn;

/// The third stage. Lives as long as its generation.
#[derive(Debug)]
pub struct Router {
    routing: Routing,
    /// `None` while a lane has no open owner: its parts are retained.
    producers: Vec<Option<Recipient<LaneBatch>>>,
    acknowledger: Recipient<Routed>,
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
        Self { routing, producers, acknowledger, lifeline }
    }

    /// Counts the records of each source transaction.
    #[must_use]
    pub fn counting(self, counts: bool) -> Self {
        Self { routing: self.routing.counting(counts), ..self }
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
        let producers = &self.producers;
        let routed = self.routing.route(decoded, &mut |lane, part| {
            if let Some(producer) = &producers[lane] {
                producer.do_send(part.clone());
            }
        });
        self.acknowledger.do_send(routed);
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
