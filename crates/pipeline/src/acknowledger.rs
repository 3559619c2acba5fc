//! Acknowledger: finds the position that may be confirmed and makes it durable before it is.
//!
//! In:    [`Routed`] from the router, [`Durable`] from the lanes.
//! Out:   [`Advanced`] to the guardian; the confirmed position to the reader.
//! Holds: the frontier.
//! Never: confirms a position whose low watermark is not durable (delivery-protocol.md, section 7).

use crate::batch::{Advanced, Durable, Routed};
use crate::failure::Failure;
use crate::frontier::Frontier;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use supervision::Lifeline;
use tokio::sync::watch;
use wal::Lsn;

/// Writes a low watermark; resolves once it is durable.
pub type WriteWatermark = Rc<dyn Fn(Lsn) -> Pin<Box<dyn Future<Output = Result<(), Failure>>>>>;

/// How often positions are confirmed while there is traffic.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(500);
/// How often, while only keepalives move the position: idle tasks hardly write.
const CONFIRM_INTERVAL_IDLE: Duration = Duration::from_secs(10);

/// The last stage on the way back.
pub struct Acknowledger {
    generation: u64,
    frontier: Frontier,
    write: WriteWatermark,
    confirmed: watch::Sender<Lsn>,
    guardian: Recipient<Advanced>,
    lifeline: Lifeline,
    /// A watermark is on its way.
    writing: bool,
    /// Only idle positions came since the last watermark.
    idle: bool,
    /// Somebody waits for each position: confirm as soon as it moves.
    eager: bool,
    written_at: tokio::time::Instant,
    reported_seq: u64,
}

impl Acknowledger {
    /// An acknowledger of one generation. `eager`: do not save watermarks.
    pub fn new(
        generation: u64,
        lanes: u8,
        eager: bool,
        write: WriteWatermark,
        confirmed: watch::Sender<Lsn>,
        guardian: Recipient<Advanced>,
        lifeline: Lifeline,
    ) -> Self {
        Self {
            generation,
            frontier: Frontier::new(lanes),
            write,
            confirmed,
            guardian,
            lifeline,
            writing: false,
            idle: true,
            eager,
            written_at: tokio::time::Instant::now(),
            reported_seq: 0,
        }
    }

    fn report(&mut self) {
        self.reported_seq = self.frontier.seq();
        self.guardian.do_send(Advanced {
            generation: self.generation,
            seq: self.frontier.seq(),
            watermark: *self.confirmed.borrow(),
        });
    }

    /// Writes the next watermark when it is time.
    fn confirm(&mut self, ctx: &mut Context<Self>) {
        if self.reported_seq < self.frontier.seq() && self.frontier.outstanding() == 0 {
            self.report();
        }
        let Some(lsn) = self.frontier.confirmable() else { return };
        let interval = if self.idle { CONFIRM_INTERVAL_IDLE } else { CONFIRM_INTERVAL };
        let early = !self.eager && self.written_at.elapsed() < interval;
        if self.writing || early || lsn <= *self.confirmed.borrow() {
            return;
        }
        self.writing = true;
        self.idle = true;
        ctx.spawn((self.write)(lsn).into_actor(self).map(move |written, this, ctx| {
            this.writing = false;
            this.written_at = tokio::time::Instant::now();
            match written {
                Ok(()) => {
                    this.confirmed.send_replace(lsn);
                    this.report();
                    this.confirm(ctx);
                }
                Err(failure) => {
                    this.lifeline.pull(failure.class, failure.cause);
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
        if self.eager {
            self.confirm(ctx);
        }
    }
}

impl Handler<Durable> for Acknowledger {
    type Result = ();

    fn handle(&mut self, durable: Durable, ctx: &mut Context<Self>) {
        if durable.generation == self.generation {
            self.frontier.durable(durable.lane, durable.seq);
            if self.eager {
                self.confirm(ctx);
            }
        }
    }
}
