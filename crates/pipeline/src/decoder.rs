//! Decoder: bytes of the stream → changes with positions and table versions.
//!
//! In:    [`WalBatch`] from the reader.
//! Out:   [`TableLearned`] and [`Decoded`] to the router, in stream order.
//! Holds: relation versions, transaction state; batches that wait while a table is described.
//! Never: renders a value. A change is not passed on before its table version is.

use crate::batch::{Decoded, Retire, TableLearned, WalBatch};
use crate::describe::{Describe, Described};
use crate::failure::Failure;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture,
};
use std::collections::VecDeque;
use std::rc::Rc;
use supervision::{Credit, Lifeline};
use wal::decoder::{self, Step};

/// The second stage. Lives as long as its generation.
pub struct Decoder {
    core: decoder::Decoder,
    describe: Rc<dyn Describe>,
    decoded: Recipient<Decoded>,
    learned: Recipient<TableLearned>,
    waiting: VecDeque<WalBatch>,
    describing: bool,
    lifeline: Lifeline,
}

impl Decoder {
    /// A decoder at the start of a stream. Both recipients are one actor's.
    #[must_use]
    pub fn new(
        core: decoder::Decoder,
        describe: Rc<dyn Describe>,
        decoded: Recipient<Decoded>,
        learned: Recipient<TableLearned>,
        lifeline: Lifeline,
    ) -> Self {
        let waiting = VecDeque::new();
        Self { core, describe, decoded, learned, waiting, describing: false, lifeline }
    }

    fn fail(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        self.lifeline.pull(failure.class, failure.cause);
        ctx.stop();
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        while !self.describing
            && let Some(WalBatch { bytes, credit }) = self.waiting.pop_front()
        {
            let step = self.core.decode(bytes);
            self.follow(step, credit, ctx);
        }
    }

    fn follow(
        &mut self,
        step: Result<Step, decoder::Error>,
        credit: Credit,
        ctx: &mut Context<Self>,
    ) {
        match step {
            Ok(Step::Done(batch)) => self.decoded.do_send(Decoded { batch, credit }),
            Ok(Step::Describe(relation)) => {
                self.describing = true;
                let described = self.describe.describe(relation);
                ctx.spawn(described.into_actor(self).map(move |described, this, ctx| {
                    this.describing = false;
                    match described {
                        Ok(described) => this.learned(described, credit, ctx),
                        Err(failure) => this.fail(failure, ctx),
                    }
                }));
            }
            Err(error) => self.fail(Failure::from(error), ctx),
        }
    }

    fn learned(&mut self, described: Described, credit: Credit, ctx: &mut Context<Self>) {
        let Described { table, plan } = described;
        self.core.learn(table.clone());
        self.learned.do_send(TableLearned { table, plan });
        let step = self.core.resume();
        self.follow(step, credit, ctx);
        self.drain(ctx);
    }
}

impl Actor for Decoder {
    type Context = Context<Self>;
}

impl Handler<WalBatch> for Decoder {
    type Result = ();

    fn handle(&mut self, batch: WalBatch, ctx: &mut Context<Self>) {
        self.waiting.push_back(batch);
        self.drain(ctx);
    }
}

impl Handler<Retire> for Decoder {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.lifeline.release();
        ctx.stop();
    }
}
