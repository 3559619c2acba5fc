//! Stages of other nodes' tasks that this node runs.
//!
//! One is begun only where the control topic has placed it here, and only for the node that it has placed the
//! next stage on. Who may read the slot is decided by PostgreSQL all the same.

use super::client::From;
use super::convert;
use crate::link::convert::{failure_out, refused};
use crate::link::server::{LinkService, first};
use crate::state::Placement;
use pipeline::Failure;
use pipeline::batch::{Decoded, WalBatch};
use pipeline::link::LinkError;
use pipeline::link::upstream::{TableReceiver, Told, UpSender};
use pipeline::upstream::{self, Event, OpenStage, Order, ReaderHost, Seen, UpstreamStage};
use rpc::v1::stage_down::Message as Down;
use rpc::v1::stage_up::Message as Said;
use rpc::{Code, Error, Principal, v1};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervision::{Credit, Lent, Limits};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};
use tracing::{debug, warn};

/// Frames that wait for the stream; what waits before them holds its credit.
const FRAMES_QUEUED: usize = 4;

type Key = (String, UpstreamStage);
pub(in crate::link) type Answers = ReceiverStream<Result<v1::StageUp, Status>>;

/// Stages by task. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct HostedStages(Arc<Mutex<HashMap<Key, Hosted>>>);

#[derive(Clone, Debug)]
struct Hosted {
    generation: u64,
    stop: CancellationToken,
}

impl HostedStages {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Hosted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a former life of the same stage.
    fn insert(&self, key: Key, generation: u64) -> CancellationToken {
        let stop = CancellationToken::new();
        let mut all = self.lock();
        if let Some(former) = all.insert(key, Hosted { generation, stop: stop.clone() }) {
            former.stop.cancel();
        }
        stop
    }

    /// `stop`: of the life that has ended.
    fn remove(&self, key: &Key, stop: &CancellationToken) {
        let mut all = self.lock();
        // Whatever came after it has ended it.
        if !stop.is_cancelled() {
            all.remove(key);
        }
    }

    /// What is here now, by task: each stage, and the life of the front that it belongs to.
    #[must_use]
    pub fn all(&self) -> Vec<(String, UpstreamStage, u64)> {
        let all = self.lock();
        let mut all: Vec<_> =
            all.iter().map(|((task, stage), it)| (task.clone(), *stage, it.generation)).collect();
        all.sort_unstable();
        all
    }
}

impl LinkService {
    pub(in crate::link) async fn begin_stage(
        &self,
        request: Request<Streaming<v1::StageDown>>,
    ) -> Result<Answers, Status> {
        let principal = Principal::of(&request)?.clone();
        let mut down = request.into_inner();
        let first = first(&mut down, "a stage").await?;
        let Some(Down::Open(open)) = first.and_then(|it| it.message) else {
            return Err(refused("the first message must open a stage").into());
        };
        principal.claims(&open.owner)?;
        self.peers.protocols().speaks(open.protocol)?;
        let placement = self.placement(&open.task, open.placement_rev).await?;
        let stage = convert::open_in(&open)?;
        self.has_stage(&open, stage.stage, &placement)?;
        Ok(self.run_stage(stage, &placement, down)?)
    }

    fn has_stage(
        &self,
        open: &v1::OpenStage,
        stage: UpstreamStage,
        placement: &Placement,
    ) -> Result<(), Error> {
        let (own, next) = match stage {
            UpstreamStage::Reader => (placement.front.as_deref(), placement.decoder()),
            UpstreamStage::Decoder => (placement.decoder(), placement.router()),
        };
        if own == Some(&self.node) && next == Some(&open.owner) {
            return Ok(());
        }
        let cause = format!(
            "the {stage} of task `{}` is placed on {} and the stage after it on {}, not on {} and {}",
            open.task,
            own.unwrap_or("no node"),
            next.unwrap_or("no node"),
            self.node,
            open.owner
        );
        Err(Error::new(Code::Fenced, cause, "read the control topic"))
    }

    fn run_stage(
        &self,
        open: OpenStage,
        placement: &Placement,
        down: Streaming<v1::StageDown>,
    ) -> Result<Answers, Error> {
        let unconfined = open.spec.unconfined(&self.secrets_dir);
        if !unconfined.is_empty() {
            return Err(Error::spec(config::Problems(unconfined)));
        }
        let (key, generation) = ((open.spec.task.clone(), open.stage), open.generation);
        let reader = self.reader_of(&open, placement);
        let (events, told) = mpsc::unbounded_channel();
        // Nobody hears the last words of a life that another one has followed.
        let report: upstream::Report = Arc::new(move |event| drop(events.send(event)));
        let hosted = upstream::host(open, reader, &self.secrets_dir, &self.data_dir, report);
        let orders = hosted.map_err(|failure| {
            Error::new(Code::State, failure.cause, "give this node what the spec refers to")
        })?;
        let stop = self.stages.insert(key.clone(), generation);
        let (up, answers) = mpsc::channel(FRAMES_QUEUED);
        let lent = Arc::default();
        let heard = listen(key.clone(), down, orders, Arc::clone(&lent), stop.clone(), up.clone());
        let stages = self.stages.clone();
        tokio::spawn(heard);
        tokio::spawn(async move {
            tell(told, up, &lent).await;
            stages.remove(&key, &stop);
        });
        Ok(ReceiverStream::new(answers))
    }

    /// Where the reader of a stage is: a decoder's may be on yet another node.
    fn reader_of(&self, open: &OpenStage, placement: &Placement) -> ReaderHost {
        let node = match (open.stage, placement.front.as_deref()) {
            (UpstreamStage::Decoder, Some(node)) if node != self.node => node,
            (UpstreamStage::Decoder | UpstreamStage::Reader, _) => {
                return ReaderHost::Here(upstream::budget());
            }
        };
        let open = OpenStage { stage: UpstreamStage::Reader, ..open.clone() };
        let from = From { node: &self.node, peers: &self.peers, runtime: Handle::current() };
        ReaderHost::Elsewhere(from.start(node, placement, open, upstream::budget()))
    }
}

fn lock(lent: &Mutex<Lent>) -> MutexGuard<'_, Lent> {
    lent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands what comes to the stage. Dropping `orders` ends it.
async fn listen(
    (task, stage): Key,
    mut down: Streaming<v1::StageDown>,
    orders: mpsc::UnboundedSender<Order>,
    lent: Arc<Mutex<Lent>>,
    stop: CancellationToken,
    up: mpsc::Sender<Result<v1::StageUp, Status>>,
) {
    let mut tables = TableReceiver::default();
    loop {
        let message = tokio::select! {
            message = down.message() => message,
            // The stream's other half was dropped: nobody listens any more.
            () = up.closed() => return,
            () = stop.cancelled() => return,
        };
        let Ok(Some(v1::StageDown { message })) = message else {
            debug!(task, %stage, "a link has ended");
            return;
        };
        let obeyed = match message {
            Some(Down::Confirmed(confirmed)) => Ok(Some(Order::Confirmed(wal::Lsn(confirmed.lsn)))),
            Some(Down::Credit(credit)) => {
                lock(&lent).repay(credit.bytes).map(|()| None).map_err(|error| error.to_string())
            }
            Some(Down::Table(frame)) => {
                let table = tables.take(frame.payload);
                table.map(|table| table.map(Order::Learned)).map_err(|error| error.to_string())
            }
            Some(Down::Limits(v1::Limits { rows, bytes })) => {
                Ok(Some(Order::Limits(Limits { rows, bytes })))
            }
            Some(Down::Pause(v1::Pause {})) => Ok(Some(Order::Pause)),
            Some(Down::Stop(v1::Stop {})) => Ok(Some(Order::Close)),
            // A second opening, or something of a later release, which it must not send.
            Some(Down::Open(_)) | None => Err("it said something unexpected".into()),
        };
        match obeyed {
            Ok(Some(order)) => drop(orders.send(order)),
            Ok(None) => {}
            Err(cause) => {
                warn!(task, %stage, cause, "a link is ended");
                let failed = failure_out(Failure::transient(cause));
                let said = v1::StageUp { message: Some(Said::Failed(failed)) };
                let _ = up.send(Ok(said)).await;
                return;
            }
        }
    }
}

/// Sends what the stage reports, until its life is over or nobody listens.
async fn tell(
    mut events: mpsc::UnboundedReceiver<Event>,
    up: mpsc::Sender<Result<v1::StageUp, Status>>,
    lent: &Mutex<Lent>,
) {
    let mut sender = UpSender::default();
    let last = loop {
        let frames = match events.recv().await {
            Some(Event::Wal(WalBatch { bytes, credit }, seen)) => {
                sender.wal(&bytes, lend(lent, credit, seen))
            }
            Some(Event::Changes(Decoded { batch, credit }, seen)) => {
                sender.changes(&batch, lend(lent, credit, seen))
            }
            Some(Event::Describe(relation)) => sender.describe(&relation),
            Some(Event::Failed(failure)) => break Said::Failed(failure_out(failure)),
            Some(Event::Closed) => break Said::Stopped(v1::Stopped {}),
            None => {
                let cause = "the stage has panicked; see the log line of the panic";
                break Said::Failed(failure_out(Failure::transient(cause)));
            }
        };
        if let Err(ended) = pass(&up, frames).await {
            break ended;
        }
    };
    // A caller that is gone does not care.
    let _ = up.send(Ok(v1::StageUp { message: Some(last) })).await;
}

fn lend(lent: &Mutex<Lent>, credit: Credit, seen: Seen) -> Told {
    let Seen { server_end, wal_bytes } = seen;
    Told { credit: lock(lent).lend(credit), server_end, wal_bytes }
}

async fn pass(
    up: &mpsc::Sender<Result<v1::StageUp, Status>>,
    frames: Result<Vec<bytes::Bytes>, LinkError>,
) -> Result<(), Said> {
    let frames =
        frames.map_err(|error| Said::Failed(failure_out(Failure::fatal(error.to_string()))))?;
    for payload in frames {
        let said = v1::StageUp { message: Some(Said::Frame(v1::Frame { payload })) };
        // It is said to nobody.
        up.send(Ok(said)).await.map_err(|_| Said::Stopped(v1::Stopped {}))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::peers::Peers;
    use crate::link::server::HostedLanes;
    use tokio::sync::watch;

    /// What the node says to `owner`, with reader, decoder and router on `r`, `d` and `q`.
    fn refused(node: &str, stage: UpstreamStage, owner: &str) -> Option<Code> {
        let service = LinkService {
            node: node.into(),
            secrets_dir: ".".into(),
            data_dir: ".".into(),
            cluster: watch::channel(Arc::default()).1,
            lanes: HostedLanes::default(),
            stages: HostedStages::default(),
            peers: Peers::new(None, rpc::Protocols::OURS),
            deaf: watch::channel(false).1,
            hand_over: crate::link::server::no_fronts(),
        };
        let [front, decoder, router] = ["r", "d", "q"].map(|it| Some(it.to_owned()));
        let placement = Placement { rev: 1, front, decoder, router, ..Placement::default() };
        let open = v1::OpenStage { owner: owner.into(), ..v1::OpenStage::default() };
        service.has_stage(&open, stage, &placement).err().map(|error| error.code)
    }

    #[test]
    fn a_stage_runs_where_it_is_placed_for_the_one_after_it() {
        let (reader, decoder) = (UpstreamStage::Reader, UpstreamStage::Decoder);
        assert_eq!(refused("r", reader, "d"), None);
        assert_eq!(refused("d", decoder, "q"), None);
        for (node, stage, owner) in [
            ("r", reader, "q"),
            ("r", decoder, "q"),
            ("d", reader, "d"),
            ("d", decoder, "r"),
            ("q", decoder, "q"),
        ] {
            assert_eq!(
                refused(node, stage, owner),
                Some(Code::Fenced),
                "{stage} on {node} for {owner}"
            );
        }
    }

    #[test]
    fn a_later_life_of_a_stage_ends_the_one_before() {
        let (stages, key) = (HostedStages::default(), ("shop".to_owned(), UpstreamStage::Reader));
        let first = stages.insert(key.clone(), 1);
        let second = stages.insert(key.clone(), 2);
        assert_eq!((first.is_cancelled(), second.is_cancelled()), (true, false));
        stages.remove(&key, &first);
        assert_eq!(stages.all(), [("shop".to_owned(), UpstreamStage::Reader, 2)]);
        stages.remove(&key, &second);
        assert!(stages.all().is_empty());
    }
}
