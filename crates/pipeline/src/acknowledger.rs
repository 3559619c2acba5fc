//! Acknowledger: finds the position that may be confirmed and makes it durable before it is.
//!
//! In:    [`Routed`] from the router, [`Durable`] from the lanes, [`LaneStanding`] from the guardian.
//! Out:   [`Advanced`] to the guardian; the confirmed position to the reader.
//! Holds: the frontier.
//! Never: confirms a position whose low watermark is not durable (delivery-protocol.md, section 7), or anything while a
//! lane is lost: what it was told of its last commits is believed again once its next owner has read its checkpoint.

use crate::batch::{Advanced, Durable, LaneStanding, Retire, Routed};
use crate::failure::Failure;
use crate::frontier::Frontier;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient,
    WrapFuture,
};
use record::transaction::Summary;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use supervision::Lifeline;
use telemetry::traces::Sampler;
use tokio::sync::watch;
use wal::{Lsn, Position};

/// Per lane, the last position that is known to be durable. Shared with whoever writes watermarks.
pub type Positions = Rc<RefCell<Vec<Position>>>;

/// Writes a low watermark, with what consumers are told beside it; resolves once it is durable.
pub type WriteWatermark =
    Rc<dyn Fn(Lsn, Beside) -> Pin<Box<dyn Future<Output = Result<(), Failure>>>>>;

/// What consumers are told beside a low watermark.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// When its newest captured transaction ended: microseconds since 1970.
    pub commit_time_us: Option<u64>,
    /// Transactions since the one before.
    pub transactions: Vec<Summary>,
}

/// How often positions are confirmed while there is traffic.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(500);
/// So many transactions that nobody was told of yet do not wait for that: they are held in memory.
const TRANSACTIONS_MAX: usize = 10_000;
/// How often, while only keepalives move the position: idle tasks hardly write.
const CONFIRM_INTERVAL_IDLE: Duration = Duration::from_secs(10);

/// Everything an acknowledger is made of.
pub struct Parts {
    pub generation: u64,
    pub lanes: u8,
    /// Somebody waits for each position: confirm as soon as it moves.
    pub eager: bool,
    pub positions: Positions,
    pub write: WriteWatermark,
    pub confirmed: watch::Sender<Lsn>,
    pub guardian: Recipient<Advanced>,
    /// Records some transactions; `None`: no traces are sent.
    pub sampler: Option<Sampler>,
    pub lifeline: Lifeline,
}

/// Confirm at once whatever can be. Answered by an [`Advanced`] that is settled.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Flush;

/// The last stage on the way back.
pub struct Acknowledger {
    parts: Parts,
    frontier: Frontier,
    /// Lanes that were lost and are not open again, as bits.
    lost: u64,
    /// A watermark is on its way.
    writing: bool,
    /// Only idle positions came since the last watermark.
    idle: bool,
    written_at: tokio::time::Instant,
    reported_seq: u64,
}

impl Acknowledger {
    /// An acknowledger of one generation.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            frontier: Frontier::new(parts.lanes),
            parts,
            lost: 0,
            writing: false,
            idle: true,
            written_at: tokio::time::Instant::now(),
            reported_seq: 0,
        }
    }

    fn confirmable(&self) -> Option<Lsn> {
        self.frontier.confirmable().filter(|_| self.lost == 0)
    }

    /// What is durable in every lane, for the chunks of snapshots that rest on it as the slot does on the watermark.
    fn durable_seq(&self) -> u64 {
        if self.lost == 0 { self.frontier.seq() } else { self.reported_seq }
    }

    fn report(&mut self) {
        self.reported_seq = self.durable_seq();
        let watermark = *self.parts.confirmed.borrow();
        let more = self.confirmable().is_some_and(|lsn| watermark < lsn);
        self.parts.guardian.do_send(Advanced {
            generation: self.parts.generation,
            seq: self.reported_seq,
            watermark,
            is_settled: !self.writing && !more,
        });
    }

    /// Writes the next watermark when it is time.
    fn confirm(&mut self, ctx: &mut Context<Self>) {
        if self.reported_seq < self.durable_seq() && self.frontier.outstanding() == 0 {
            self.report();
        }
        let Some(lsn) = self.confirmable() else { return };
        let interval = if self.idle { CONFIRM_INTERVAL_IDLE } else { CONFIRM_INTERVAL };
        let waits = !self.parts.eager && self.frontier.transactions() < TRANSACTIONS_MAX;
        let early = waits && self.written_at.elapsed() < interval;
        if self.writing || early || lsn <= *self.parts.confirmed.borrow() {
            return;
        }
        self.writing = true;
        self.idle = true;
        let commit_time_us = self.frontier.commit_time_us();
        let transactions = self.frontier.take_transactions();
        let write = (self.parts.write)(lsn, Beside { commit_time_us, transactions });
        ctx.spawn(write.into_actor(self).map(move |written, this, ctx| {
            this.writing = false;
            this.written_at = tokio::time::Instant::now();
            match written {
                Ok(()) => {
                    this.parts.confirmed.send_replace(lsn);
                    this.report();
                    this.confirm(ctx);
                }
                Err(failure) => {
                    this.parts.lifeline.pull(failure.class, failure.cause);
                    ctx.stop();
                }
            }
        }));
    }
}

impl Actor for Acknowledger {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(CONFIRM_INTERVAL, Self::confirm);
    }
}

impl Handler<Routed> for Acknowledger {
    type Result = ();

    fn handle(&mut self, routed: Routed, ctx: &mut Context<Self>) {
        self.idle &= routed.lanes == 0;
        self.frontier.routed(routed);
        if self.parts.eager || TRANSACTIONS_MAX <= self.frontier.transactions() {
            self.confirm(ctx);
        }
    }
}

impl Handler<Durable> for Acknowledger {
    type Result = ();

    fn handle(&mut self, durable: Durable, ctx: &mut Context<Self>) {
        if let Some(position) = self.parts.positions.borrow_mut().get_mut(usize::from(durable.lane))
        {
            *position = (*position).max(durable.position);
        }
        if durable.generation == self.parts.generation {
            self.frontier.durable(durable.lane, durable.seq);
            if let Some(sampler) = &mut self.parts.sampler {
                let lsn = self.frontier.confirmable().unwrap_or(Lsn::ZERO);
                sampler.durable(self.frontier.commit_time_us(), lsn);
            }
            if self.parts.eager || TRANSACTIONS_MAX <= self.frontier.transactions() {
                self.confirm(ctx);
            }
        }
    }
}

impl Handler<LaneStanding> for Acknowledger {
    type Result = ();

    fn handle(&mut self, standing: LaneStanding, ctx: &mut Context<Self>) {
        let bit = 1_u64.checked_shl(u32::from(standing.lane)).unwrap_or(0);
        if standing.is_open {
            self.lost &= !bit;
        } else {
            self.lost |= bit;
        }
        if self.parts.eager {
            self.confirm(ctx);
        }
    }
}

impl Handler<Flush> for Acknowledger {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Self>) {
        self.parts.eager = true;
        self.confirm(ctx);
        if !self.writing {
            self.report();
        }
    }
}

impl Handler<Retire> for Acknowledger {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.parts.lifeline.release();
        ctx.stop();
    }
}
