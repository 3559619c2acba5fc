//! Reader: the replication connection of one generation.
//!
//! In:    bytes of the replication connection; the confirmed position.
//! Out:   [`WalBatch`] to the decoder; status to the server.
//! Holds: the connection, at most one batch that is not yet paid for.
//! Never: stops reporting while it waits for credit or its throttle; confirms above what it has received.

use crate::batch::WalBatch;
use crate::failure::Failure;
use crate::progress::Progress;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient,
    WrapFuture,
};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use supervision::{Budget, Credit, Lifeline, Limits, Throttle};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::info;
use wal::Lsn;

/// What came in one read: whole CopyData messages.
#[derive(Debug)]
pub struct Received {
    /// None, where nothing is to be handed on yet.
    pub bytes: Bytes,
    /// Highest end of WAL that the server named so far.
    pub server_end: Lsn,
    /// A keepalive asks for an answer.
    pub reply_requested: bool,
}

/// A future of a port; failures are classified already.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + 'a>>;

/// The port: a started replication stream. Both halves are used at the same time.
pub trait WalStream {
    /// Waits for the next bytes. Cancel-safe.
    fn read(&mut self) -> Answer<'_, Received>;
    /// Reports positions to the server; with `reply`, asks it for a keepalive.
    fn report(&mut self, received: Lsn, confirmed: Lsn, reply: bool) -> Answer<'_, ()>;
    /// Ends the stream in good order.
    fn close(self: Box<Self>) -> Answer<'static, ()>;
    /// How often the server wants to hear from us at least.
    fn status_interval(&self) -> Duration;
}

/// Opens the stream on the reader's own thread.
pub type OpenStream = Box<dyn FnOnce() -> Answer<'static, Box<dyn WalStream>> + Send>;

/// What the reader is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    Read,
    /// Keep the connection and report, but take in nothing more.
    Pause,
    /// Report the last position and end.
    Close,
}

/// Changes what the reader does. Orders only go forward.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Obey(pub Order);

/// Everything a reader is made of.
pub struct Parts {
    pub open: OpenStream,
    pub budget: Budget,
    /// Of what is read in a second: rows, and bytes of the stream. They may change at any time.
    pub limits: watch::Receiver<Limits>,
    pub confirmed: watch::Receiver<Lsn>,
    pub decoder: Recipient<WalBatch>,
    /// Ask for keepalives often: somebody waits for the position.
    pub eager: bool,
    pub progress: Arc<Progress>,
    pub lifeline: Lifeline,
}

/// The first stage. Lives as long as its generation.
pub struct Reader {
    parts: Option<(Parts, watch::Receiver<Order>)>,
    orders: watch::Sender<Order>,
}

impl Reader {
    /// A reader that opens its stream when it starts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (orders, obeyed) = watch::channel(Order::Read);
        Self { parts: Some((parts, obeyed)), orders }
    }
}

impl Actor for Reader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some((mut parts, orders)) = self.parts.take() else { return };
        let run = async move {
            match run(&mut parts, orders).await {
                Ok(()) => parts.lifeline.release(),
                Err(failure) => parts.lifeline.pull(failure.class, failure.cause),
            }
        };
        ctx.spawn(run.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl Handler<Obey> for Reader {
    type Result = ();

    fn handle(&mut self, Obey(order): Obey, _: &mut Context<Self>) {
        self.orders.send_replace(order);
    }
}

/// Everything that can wake the reader. Without credit it stops reading, never stops reporting.
enum Wake {
    Ordered,
    StatusDue,
    /// Other limits hold.
    Limited,
    Received(Received),
    Paid(Bytes, Credit),
}

async fn run(parts: &mut Parts, mut orders: watch::Receiver<Order>) -> Result<(), Failure> {
    let open = std::mem::replace(&mut parts.open, Box::new(|| Box::pin(std::future::pending())));
    let mut stream = open().await?;
    let mut status_due = ticks(stream.status_interval(), parts.eager);
    let mut received = Lsn::ZERO;
    let mut unpaid: Option<Bytes> = None;
    let mut throttle = Throttle::new(*parts.limits.borrow_and_update());
    loop {
        let order = *orders.borrow_and_update();
        if order == Order::Close {
            break;
        }
        let confirmed = *parts.confirmed.borrow_and_update();
        let wake = tokio::select! {
            biased;
            changed = orders.changed() => changed.map_or(Wake::StatusDue, |()| Wake::Ordered),
            _ = status_due.tick() => Wake::StatusDue,
            Ok(()) = parts.confirmed.changed() => Wake::StatusDue,
            Ok(()) = parts.limits.changed() => Wake::Limited,
            wake = read_or_pay(stream.as_mut(), &parts.budget, &mut throttle, &mut unpaid), if order == Order::Read => wake?,
        };
        match wake {
            Wake::Ordered => {}
            Wake::Limited => throttle.set(*parts.limits.borrow_and_update()),
            Wake::StatusDue => {
                let confirmed = (*parts.confirmed.borrow()).min(received);
                stream.report(received, confirmed, parts.eager).await?;
            }
            Wake::Received(batch) => {
                received = received.max(batch.server_end);
                parts.progress.received(batch.server_end, batch.bytes.len());
                if batch.reply_requested {
                    stream.report(received, confirmed.min(received), false).await?;
                }
                unpaid = Some(batch.bytes).filter(|bytes| !bytes.is_empty());
            }
            Wake::Paid(bytes, credit) => parts.decoder.do_send(WalBatch { bytes, credit }),
        }
    }
    let confirmed = (*parts.confirmed.borrow()).min(received);
    stream.report(received, confirmed, false).await?;
    info!(lsn = %confirmed, "replication stream closed, position confirmed");
    stream.close().await
}

fn ticks(interval: Duration, eager: bool) -> Interval {
    let interval = if eager { interval.min(Duration::from_millis(50)) } else { interval };
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Cancel-safe: what was read stays in `unpaid` until it is paid for. Under a throttle it goes on in parts,
/// each when its turn comes.
async fn read_or_pay(
    stream: &mut dyn WalStream,
    budget: &Budget,
    throttle: &mut Throttle,
    unpaid: &mut Option<Bytes>,
) -> Result<Wake, Failure> {
    let Some(waiting) = unpaid.as_mut() else {
        return stream.read().await.map(Wake::Received);
    };
    if !throttle.is_active() {
        let credit = budget.take(waiting.len()).await;
        return Ok(Wake::Paid(unpaid.take().unwrap_or_default(), credit));
    }
    if let Some(at) = throttle.ready_at() {
        tokio::time::sleep_until(at.into()).await;
    }
    let (rows_max, bytes_max) = throttle.slice(Instant::now().into_std());
    let (bytes, rows) = wal::frame::part(waiting, rows_max, bytes_max);
    let credit = budget.take(bytes).await;
    let part = waiting.split_to(bytes);
    throttle.passed(Instant::now().into_std(), rows, bytes as u64);
    if waiting.is_empty() {
        *unpaid = None;
    }
    Ok(Wake::Paid(part, credit))
}
