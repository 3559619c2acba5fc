//! A stage of ours that another node runs: orders and credit go down its stream, batches come up.
//!
//! Nothing is lost when it breaks: the front begins again, from the confirmed position.

use super::convert;
use crate::link::client::{Place, find};
use crate::link::convert::{Caller, failure_in};
use crate::link::peers::Peers;
use crate::state::Placement;
use pipeline::Failure;
use pipeline::batch::{Decoded, WalBatch};
use pipeline::link::upstream::{KnownTables, TableSender, Told, Up, UpReceiver};
use pipeline::upstream::{Event, OpenStage, Order, Report, Seen, Start, UpstreamStage, failing};
use rpc::v1::stage_down::Message as Down;
use rpc::v1::stage_up::Message as Said;
use rpc::{Error, v1};
use std::sync::Arc;
use supervision::{Budget, Credit, FailureClass, Limits, TellLender};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Messages that wait for the stream. Each is small.
const MESSAGES_QUEUED: usize = 16;

/// The node that a stage is started from.
pub struct From<'a> {
    pub node: &'a str,
    pub peers: &'a Peers,
    /// Where links live.
    pub runtime: Handle,
}

impl From<'_> {
    /// A stage of a task on another node of its placement. What comes from there is paid from `budget`.
    #[must_use]
    pub fn start(self, on: &str, placement: &Placement, open: OpenStage, budget: Budget) -> Start {
        let (place, caller) = match find(placement, &open.spec.task, on, self.node) {
            Ok(found) => found,
            Err(failure) => return failing(failure),
        };
        let (runtime, peers) = (self.runtime, self.peers.clone());
        Box::new(move |report| {
            let (orders, queue) = mpsc::unbounded_channel();
            let stage = Elsewhere { peers, place, stage: open.stage, budget, report };
            runtime.spawn(stage.live(open, caller, queue));
            orders
        })
    }
}

struct Elsewhere {
    peers: Peers,
    place: Place,
    stage: UpstreamStage,
    budget: Budget,
    report: Report,
}

type Streams = (mpsc::Sender<v1::StageDown>, Streaming<v1::StageUp>);

impl Elsewhere {
    async fn live(self, open: OpenStage, caller: Caller, queue: mpsc::UnboundedReceiver<Order>) {
        let known = KnownTables::default();
        let (repay, repaid) = mpsc::unbounded_channel();
        let ended = match self.connect(&open, caller).await {
            Ok((down, up)) => tokio::select! {
                ended = self.listen(up, UpReceiver::new(known.clone()), repay) => ended,
                ended = send(queue, repaid, TableSender::new(known), down) => match ended {
                    Some(failure) => Err(failure),
                    // Nobody listens any more.
                    None => return,
                },
            },
            Err(failure) => Err(failure),
        };
        (self.report)(match ended {
            Ok(()) => Event::Closed,
            Err(failure) => Event::Failed(failure),
        });
    }

    async fn connect(&self, open: &OpenStage, caller: Caller) -> Result<Streams, Failure> {
        let first = convert::open_out(open, &caller)?;
        let opened = self.peers.open(&self.place, rpc::PROTOCOL_MIN, |mut client, protocol| {
            let (down, messages) = mpsc::channel(MESSAGES_QUEUED);
            let first = Down::Open(v1::OpenStage { protocol, ..first.clone() });
            async move {
                // It has room: nothing was sent before.
                let _ = down.try_send(v1::StageDown { message: Some(first) });
                let up = client.stage(ReceiverStream::new(messages)).await?.into_inner();
                Ok((down, up))
            }
        });
        opened.await.map_err(|error| self.refused(&error))
    }

    /// Until the stage's life is over.
    async fn listen(
        &self,
        mut up: Streaming<v1::StageUp>,
        mut receiver: UpReceiver,
        repay: mpsc::UnboundedSender<u32>,
    ) -> Result<(), Failure> {
        // Who is told of it after the link has ended has nobody to pass it on to.
        let tell: TellLender = Arc::new(move |bytes| {
            let _ = repay.send(bytes);
        });
        loop {
            let said = up.message().await.map_err(|status| self.broke(&Error::from(status)))?;
            let Some(v1::StageUp { message }) = said else {
                return Err(self.broke(&"the other end has closed it"));
            };
            match message {
                Some(Said::Frame(frame)) => {
                    let came = receiver.take(frame.payload);
                    let came = came.map_err(|error| Failure::transient(self.said(&error)))?;
                    if let Some(event) = self.event(came, &tell).await {
                        (self.report)(event);
                    }
                }
                Some(Said::Failed(failed)) => return Err(failure_in(&self.place.node, &failed)),
                Some(Said::Stopped(v1::Stopped {})) => return Ok(()),
                // Of a later release.
                None => {}
            }
        }
    }

    /// What came, once it is paid for. Whoever sends more than it has credit for waits here.
    async fn event(&self, came: Option<Up>, tell: &TellLender) -> Option<Event> {
        Some(match came? {
            Up::Wal { bytes, told } => {
                let credit = self.pay(bytes.len(), told, tell).await;
                Event::Wal(WalBatch { bytes, credit }, seen(told))
            }
            Up::Changes { batch, told } => {
                let credit = self.pay(batch.bytes.len(), told, tell).await;
                Event::Changes(Decoded { batch, credit }, seen(told))
            }
            Up::Describe(relation) => Event::Describe(relation),
        })
    }

    async fn pay(&self, bytes: usize, told: Told, tell: &TellLender) -> Credit {
        let credit = self.budget.take(bytes.max(told.credit as usize)).await;
        if told.credit == 0 { credit } else { credit.lent_by(told.credit, Arc::clone(tell)) }
    }

    fn said(&self, what: &dyn std::fmt::Display) -> String {
        format!("the link to the {} on node {}: {what}", self.stage, self.place.node)
    }

    fn refused(&self, error: &Error) -> Failure {
        let Self { stage, place, .. } = self;
        let cause = format!("node {} does not take the {stage}: {error}", place.node);
        // Whatever it is, another node or a later attempt may do: the retry windows decide.
        let class = if error.passes() { FailureClass::Connection } else { FailureClass::Transient };
        Failure { class, cause }
    }

    fn broke(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure { class: FailureClass::Connection, cause: self.said(why) }
    }
}

fn seen(told: Told) -> Seen {
    Seen { server_end: told.server_end, wal_bytes: told.wal_bytes }
}

/// Sends what is ordered, and credit as it comes back. `None`: no orders will come.
async fn send(
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut repaid: mpsc::UnboundedReceiver<u32>,
    mut tables: TableSender,
    down: mpsc::Sender<v1::StageDown>,
) -> Option<Failure> {
    loop {
        let order = tokio::select! {
            order = orders.recv() => order?,
            Some(bytes) = repaid.recv() => {
                pass(&down, Down::Credit(v1::Credit { bytes: sum(bytes, &mut repaid) })).await;
                continue;
            }
        };
        let message = match order {
            Order::Confirmed(lsn) => Down::Confirmed(v1::Confirmed { lsn: lsn.0 }),
            Order::Learned(table) => {
                let frames = match tables.table(&table) {
                    Ok(frames) => frames,
                    Err(error) => return Some(Failure::fatal(error.to_string())),
                };
                for payload in frames {
                    pass(&down, Down::Table(v1::Frame { payload })).await;
                }
                continue;
            }
            Order::Limits(Limits { rows, bytes }) => Down::Limits(v1::Limits { rows, bytes }),
            Order::Pause => Down::Pause(v1::Pause {}),
            Order::Close => Down::Stop(v1::Stop {}),
        };
        pass(&down, message).await;
    }
}

/// All that has come back, as one. Nobody has been lent more than a `u32` counts.
fn sum(first: u32, repaid: &mut mpsc::UnboundedReceiver<u32>) -> u32 {
    let mut bytes = first;
    while let Ok(more) = repaid.try_recv() {
        bytes = bytes.saturating_add(more);
    }
    bytes
}

/// Where the stream is gone, its other half says why.
async fn pass(down: &mpsc::Sender<v1::StageDown>, message: Down) {
    if down.send(v1::StageDown { message: Some(message) }).await.is_err() {
        std::future::pending::<()>().await;
    }
}
