//! Producer: the owner of one lane. A thin actor before the lane's own thread, because Kafka's
//! transactional calls block; the thread may be another node's.
//!
//! In:    [`LaneBatch`] from the router; what the lane reports.
//! Out:   [`LaneOpened`], [`LaneSealed`], [`LaneStopped`] to the guardian; [`Durable`] to the router and the acknowledger.
//! Holds: the lane's queue; batches in it hold their credit.
//! Never: blocks; decides on its own to take a lane back that it has lost.

use crate::batch::{Durable, LaneBatch, LaneOpened, LaneSealed, LaneStopped};
use crate::failure::Failure;
use crate::guardian::Guardian;
use crate::lane::{Event, Order, Orders, Report};
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient};
use std::sync::Arc;
use supervision::Lifeline;
use tracing::{info, warn};
use wal::Lsn;

/// Starts the lane, which reports until it ends.
pub type StartLane = Box<dyn FnOnce(Report) -> Orders>;

/// The owner of one lane for one life.
pub struct Producer {
    lane: u8,
    life: u64,
    start: Option<StartLane>,
    orders: Option<Orders>,
    guardian: Addr<Guardian>,
    listeners: Vec<Recipient<Durable>>,
    lifeline: Lifeline,
}

/// Lane → Producer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Reported(Event);

/// A new front: the lane reports to these from now on. Guardian → Producer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Attach {
    pub listeners: Vec<Recipient<Durable>>,
}

/// The revision ends: say so in the lane's checkpoint, and end. Guardian → Producer.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Seal(pub Lsn);

/// Commit what is there and end. Guardian → Producer.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

impl Producer {
    /// An owner that opens its lane when it starts.
    #[must_use]
    pub fn new(
        lane: u8,
        life: u64,
        start: StartLane,
        guardian: Addr<Guardian>,
        lifeline: Lifeline,
    ) -> Self {
        Self {
            lane,
            life,
            start: Some(start),
            orders: None,
            guardian,
            listeners: Vec::new(),
            lifeline,
        }
    }

    fn fail(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        warn!(lane = self.lane, class = failure.class.word(), cause = %failure.cause, "lane failed");
        self.lifeline.pull(failure.class, failure.cause);
        ctx.stop();
    }
}

impl Actor for Producer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let reports: Recipient<Reported> = ctx.address().recipient();
        let report: Report = Arc::new(move |event| reports.do_send(Reported(event)));
        self.orders = self.start.take().map(|start| start(report));
    }
}

impl Handler<LaneBatch> for Producer {
    type Result = ();

    fn handle(&mut self, batch: LaneBatch, _: &mut Context<Self>) {
        // A lane that has ended has reported why; the router keeps the batch for its successor.
        if let Some(order) = &self.orders {
            order(Order::Write(batch));
        }
    }
}

impl Handler<Reported> for Producer {
    type Result = ();

    fn handle(&mut self, Reported(event): Reported, ctx: &mut Context<Self>) {
        let Self { lane, life, .. } = *self;
        match event {
            Event::Opened { term, position } => {
                info!(lane, term, position = %position, "lane opened");
                self.guardian.do_send(LaneOpened { lane, life, term, position });
            }
            Event::Durable { generation, seq, position } => {
                let durable = Durable { generation, lane, seq, position };
                self.listeners.iter().for_each(|listener| listener.do_send(durable));
            }
            Event::Sealed => self.guardian.do_send(LaneSealed { lane, life }),
            Event::Failed(failure) => self.fail(failure, ctx),
            Event::Stopped => {
                self.guardian.do_send(LaneStopped { lane, life });
                self.lifeline.release();
                ctx.stop();
            }
        }
    }
}

impl Handler<Attach> for Producer {
    type Result = ();

    fn handle(&mut self, attach: Attach, _: &mut Context<Self>) {
        self.listeners = attach.listeners;
    }
}

impl Handler<Seal> for Producer {
    type Result = ();

    fn handle(&mut self, Seal(end): Seal, _: &mut Context<Self>) {
        // As for a batch: a lane that has ended has reported why.
        if let Some(order) = self.orders.take() {
            order(Order::Seal(end));
        }
    }
}

impl Handler<Stop> for Producer {
    type Result = ();

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) {
        // Ends the lane after what is queued.
        self.orders = None;
    }
}
