//! Decoder: bytes of the stream → changes with positions and table versions.
//!
//! In:    [`WalBatch`] from the reader.
//! Out:   [`TableLearned`] and [`Decoded`] to the router, in stream order.
//! Holds: relation versions, transaction state; batches that wait while a table is described, or, where the
//!        format wants its length, for the end of their transaction.
//! Never: renders a value. A change is not passed on before its table version is.

use crate::batch::{Decoded, Retire, TableLearned, WalBatch};
use crate::describe::{Describe, Described};
use crate::failure::Failure;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture,
};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use supervision::{Credit, Lifeline};
use wal::decoder::{self, Step};
use wal::spool::Spool;

/// What is held of a transaction until its length is known: a part of the task's credit, so that the reader
/// can go on.
pub(crate) const SPOOL_BYTES_MAX: usize = 8 << 20;
/// How long it is held. The server sends a transaction when it has committed, and in one go; longer than this
/// takes only one that the reader has no credit for.
const SPOOL_MAX: Duration = Duration::from_secs(10);

/// The second stage. Lives as long as its generation.
pub struct Decoder {
    core: decoder::Decoder,
    describe: Rc<dyn Describe>,
    decoded: Recipient<Decoded>,
    learned: Recipient<TableLearned>,
    waiting: VecDeque<WalBatch>,
    /// Of formats that write a transaction's length.
    spool: Option<Spool<Credit>>,
    describing: bool,
    lifeline: Lifeline,
}

impl Decoder {
    /// A decoder at the start of a stream. Both recipients are one actor's. `spools`: the length of a
    /// transaction must be known with its first change.
    #[must_use]
    pub fn new(
        core: decoder::Decoder,
        describe: Rc<dyn Describe>,
        decoded: Recipient<Decoded>,
        learned: Recipient<TableLearned>,
        spool: Option<Spool<Credit>>,
        lifeline: Lifeline,
    ) -> Self {
        let waiting = VecDeque::new();
        Self { core, describe, decoded, learned, waiting, spool, describing: false, lifeline }
    }

    /// Puts what may be decoded where it is waited for.
    fn take_up(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        self.core.expect(spool.lengths());
        let ready = std::iter::from_fn(|| spool.pop());
        self.waiting.extend(ready.map(|(bytes, credit)| WalBatch { bytes, credit }));
    }

    /// Takes in a buffer, which may have to wait for the end of its transaction.
    fn spool(&mut self, batch: WalBatch, ctx: &mut Context<Self>) {
        let Some(spool) = &mut self.spool else { return self.waiting.push_back(batch) };
        let was_holding = spool.is_holding();
        spool.push(batch.bytes, batch.credit);
        if spool.is_holding() && !was_holding {
            let begun = spool.serial();
            ctx.run_later(SPOOL_MAX, move |this, ctx| {
                if let Some(spool) = this.spool.as_mut().filter(|spool| spool.serial() == begun) {
                    spool.give_up();
                    this.take_up();
                    this.drain(ctx);
                }
            });
        }
        self.take_up();
    }

    /// What waits behind it is not passed on, else what was not decoded would be confirmed; the core decodes no more
    /// of it either.
    fn fail(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        self.waiting.clear();
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
        let Described { table, plans, inference } = described;
        self.core.learn(table.clone());
        self.learned.do_send(TableLearned { table, plans, inference });
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
        self.spool(batch, ctx);
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
