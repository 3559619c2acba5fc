//! Inlet: stands for a stage on another node, beside the stage that it feeds.
//!
//! In:    what the stage reports; the confirmed position; limits and orders for the reader.
//! Out:   [`WalBatch`] to the decoder, or [`TableLearned`] and [`Decoded`] to the router; [`Order`] to the stage.
//! Holds: the line to the stage.
//! Never: answers for the stage: a line that breaks ends the generation.

use super::{Event, Order, Report, Seen, Start};
use crate::Failure;
use crate::batch::{Decoded, Retire, TableLearned, WalBatch};
use crate::describe::{Describe, Described};
use crate::progress::Progress;
use crate::reader::{self, Obey};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient,
    WrapFuture,
};
use std::rc::Rc;
use std::sync::Arc;
use supervision::{FailureClass, Lifeline, Limits};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use wal::Lsn;
use wal::relation::RelationDescription;

/// The stage that is fed.
pub enum Sink {
    Decoder(Recipient<WalBatch>),
    Router {
        learned: Recipient<TableLearned>,
        decoded: Recipient<Decoded>,
        /// Completes and plans what a decoder asks for.
        describe: Rc<dyn Describe>,
    },
}

/// What the stage is told whenever it changes.
#[derive(Clone)]
pub struct Told {
    pub confirmed: watch::Receiver<Lsn>,
    /// How much may be read in a second.
    pub limits: watch::Receiver<Limits>,
}

/// A stage on another node. Lives as long as its generation.
pub struct Inlet {
    start: Option<Start>,
    told: Told,
    orders: Option<UnboundedSender<Order>>,
    sink: Sink,
    progress: Arc<Progress>,
    wal_bytes: u64,
    /// It was told to end.
    closing: bool,
    lifeline: Lifeline,
}

/// Link → Inlet.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Reported(Event);

impl Inlet {
    /// One that starts its stage when it starts.
    #[must_use]
    pub fn new(
        start: Start,
        sink: Sink,
        told: Told,
        progress: Arc<Progress>,
        lifeline: Lifeline,
    ) -> Self {
        let start = Some(start);
        Self { start, told, orders: None, sink, progress, wal_bytes: 0, closing: false, lifeline }
    }

    /// A stage that has ended has reported why.
    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }

    fn seen(&mut self, seen: Seen) {
        let new = seen.wal_bytes.saturating_sub(self.wal_bytes);
        self.wal_bytes = self.wal_bytes.max(seen.wal_bytes);
        self.progress.received(seen.server_end, usize::try_from(new).unwrap_or(usize::MAX));
    }

    fn fail(&mut self, Failure { class, cause }: Failure, ctx: &mut Context<Self>) {
        // Who owns the task is known from Kafka alone: whatever a node has against it may pass.
        let class = match class {
            FailureClass::Fenced => FailureClass::Transient,
            FailureClass::Connection
            | FailureClass::Transient
            | FailureClass::Poison
            | FailureClass::Fatal => class,
        };
        self.lifeline.pull(class, cause);
        ctx.stop();
    }

    fn out_of_place(&mut self, what: &str, ctx: &mut Context<Self>) {
        let cause = format!("{what} came from a stage that has none; run one release everywhere");
        self.fail(Failure::transient(cause), ctx);
    }

    fn describe(&mut self, relation: RelationDescription, ctx: &mut Context<Self>) {
        let Sink::Router { describe, .. } = &self.sink else {
            return self.out_of_place("a relation", ctx);
        };
        let described = describe.describe(relation);
        ctx.spawn(described.into_actor(self).map(|described, this, ctx| match described {
            Ok(described) => this.learned(described),
            Err(failure) => this.fail(failure, ctx),
        }));
    }

    /// The router knows it first: changes of it come only after the decoder knows it, too.
    fn learned(&self, Described { table, plans, inference }: Described) {
        if let Sink::Router { learned, .. } = &self.sink {
            let told = Arc::clone(&table);
            learned.do_send(TableLearned { table: told, plans, inference });
            self.order(Order::Learned(table));
        }
    }
}

impl Actor for Inlet {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(start) = self.start.take() else { return };
        let Told { mut confirmed, mut limits } = self.told.clone();
        let reports: Recipient<Reported> = ctx.address().recipient();
        let report: Report = Arc::new(move |event| reports.do_send(Reported(event)));
        let orders = start(report);
        self.orders = Some(orders.clone());
        let tell = async move {
            loop {
                let order = tokio::select! {
                    Ok(()) = confirmed.changed() => Order::Confirmed(*confirmed.borrow_and_update()),
                    // The stage has those that hold now: they are in what opens it.
                    Ok(()) = limits.changed() => Order::Limits(*limits.borrow_and_update()),
                    else => return,
                };
                if orders.send(order).is_err() {
                    return;
                }
            }
        };
        ctx.spawn(tell.into_actor(self));
    }
}

impl Handler<Reported> for Inlet {
    type Result = ();

    fn handle(&mut self, Reported(event): Reported, ctx: &mut Context<Self>) {
        match event {
            Event::Wal(batch, seen) => {
                let Sink::Decoder(decoder) = &self.sink else {
                    return self.out_of_place("WAL", ctx);
                };
                decoder.do_send(batch);
                self.seen(seen);
            }
            Event::Changes(changes, seen) => {
                let Sink::Router { decoded, .. } = &self.sink else {
                    return self.out_of_place("changes", ctx);
                };
                decoded.do_send(changes);
                self.seen(seen);
            }
            Event::Describe(relation) => self.describe(relation, ctx),
            Event::Failed(failure) => self.fail(failure, ctx),
            Event::Closed if self.closing => {
                self.lifeline.release();
                ctx.stop();
            }
            Event::Closed => {
                let class = FailureClass::Connection;
                let cause = "a stage on another node ended for another life of it".into();
                self.fail(Failure { class, cause }, ctx);
            }
        }
    }
}

impl Handler<Obey> for Inlet {
    type Result = ();

    fn handle(&mut self, Obey(order): Obey, _: &mut Context<Self>) {
        match order {
            reader::Order::Read => {}
            reader::Order::Pause => self.order(Order::Pause),
            reader::Order::Close => {
                // The last one, which nobody may have told yet.
                self.order(Order::Confirmed(*self.told.confirmed.borrow()));
                self.order(Order::Close);
                self.closing = true;
            }
        }
    }
}

impl Handler<Retire> for Inlet {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.lifeline.release();
        ctx.stop();
    }
}
