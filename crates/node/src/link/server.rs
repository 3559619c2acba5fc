//! Lanes of other nodes' tasks that this node writes.
//!
//! A lane is taken only where the control topic has placed it here, and only from the node that it has
//! placed the task's router on. Who may write is decided by Kafka all the same: opening fences.

use super::chunks;
use super::convert::{self, refused};
use super::peers::Peers;
use super::stage::HostedStages;
use super::stage::server::Answers;
use super::trace;
use crate::state::{ClusterState, Placement};
use bytes::Bytes;
use pipeline::hosts::OpenLane;
use pipeline::lane::{Event, Order, Orders, Report};
use pipeline::link::Receiver;
use pipeline::{Failure, Progress};
use rpc::v1::lane_down::Message as Down;
use rpc::v1::lane_up::Message as Up;
use rpc::v1::link_server::Link;
use rpc::{Code, Error, Principal, v1};
use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervision::{Budget, FailureClass};
use telemetry::traces::Trace;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

/// Bytes of batches that one lane holds and has not written. The caller's credit bounds them, too; this
/// bounds what a caller without any sense for it can do.
const LANE_BYTES_MAX: u32 = 64 << 20;
/// How long the placement that a caller names may take to be read here.
const PLACEMENT_WAIT_MAX: Duration = Duration::from_secs(5);
const DEAF: &str = "this node does not reach Kafka";
/// A caller says at once what it wants.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(5);

/// The first message of a stream that opens something; `None`: the stream has ended. `opens`: what, with its article.
pub(super) async fn first<T>(down: &mut Streaming<T>, opens: &str) -> Result<Option<T>, Status> {
    let first = tokio::time::timeout(OPEN_WAIT_MAX, down.message()).await;
    first.map_err(|_| refused(format!("nothing was said to open {opens}")))?
}

/// A lane that this node writes, for its reports.
#[derive(Clone, Debug)]
pub struct Hosted {
    pub owner: String,
    pub life: u64,
    pub revision: u64,
    pub open: bool,
    pub position: wal::Position,
    pub progress: Arc<Progress>,
}

/// Lanes by task and number. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct HostedLanes(Arc<Mutex<HashMap<(String, u8), Hosted>>>);

impl HostedLanes {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u8), Hosted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, key: &(String, u8), change: impl FnOnce(&mut Hosted)) {
        let mut all = self.lock();
        if let Some(hosted) = all.get_mut(key) {
            change(hosted);
        }
    }

    /// Notes a lane that begins here. One of a later life is left alone: opening would fence it.
    fn begin(&self, key: &(String, u8), hosted: Hosted) -> Result<(), Error> {
        let mut all = self.lock();
        if let Some(present) = all.get(key) {
            let (task, lane) = key;
            let (life, revision) = (hosted.life, hosted.revision);
            let cause = format!(
                "life {life} of lane {lane} of task `{task}`, revision {revision}, comes late: life {} of revision {} is here",
                present.life, present.revision
            );
            if life < present.life || revision < present.revision {
                return Err(Error::new(Code::Fenced, cause, "read the control topic"));
            }
            if life == present.life {
                return Err(Error::new(Code::Busy, cause, "begin a new life of the lane"));
            }
        }
        all.insert(key.clone(), hosted);
        Ok(())
    }

    fn remove(&self, key: &(String, u8), owner: &str, life: u64) {
        let mut all = self.lock();
        if all.get(key).is_some_and(|it| it.owner == owner && it.life == life) {
            all.remove(key);
        }
    }

    /// What is here now, by task and number.
    #[must_use]
    pub fn all(&self) -> Vec<((String, u8), Hosted)> {
        let all = self.lock();
        let mut all: Vec<_> = all.iter().map(|(key, it)| (key.clone(), it.clone())).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

/// The service.
pub struct LinkService {
    pub node: String,
    /// What paths of secrets are relative to.
    pub secrets_dir: PathBuf,
    /// Where readers here spool transactions in progress.
    pub data_dir: PathBuf,
    pub cluster: watch::Receiver<Arc<ClusterState>>,
    pub lanes: HostedLanes,
    pub stages: HostedStages,
    /// For a decoder here whose reader is elsewhere.
    pub peers: Peers,
    /// Whether this node does not reach Kafka: lanes that can be written elsewhere shall not wait here.
    pub deaf: watch::Receiver<bool>,
    pub hand_over: HandOver,
}

/// Ends the front of a task here in good order; resolves once it has ended.
pub type HandOver = Arc<dyn Fn(&str) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// There is no front here that could be handed over.
#[must_use]
pub fn no_fronts() -> HandOver {
    Arc::new(|_| Box::pin(std::future::ready(())))
}

#[tonic::async_trait]
impl Link for LinkService {
    type LaneStream = UnboundedReceiverStream<Result<v1::LaneUp, Status>>;

    async fn lane(
        &self,
        request: Request<Streaming<v1::LaneDown>>,
    ) -> Result<Response<Self::LaneStream>, Status> {
        let opening = Arc::new(Trace::from(trace::serve("lane.host", &request)));
        let began = self.begin_lane(request, &opening).await;
        Ok(Response::new(began.inspect_err(|status| opening.fail(status.message()))?))
    }

    async fn hand_over(
        &self,
        request: Request<v1::HandOverRequest>,
    ) -> Result<Response<v1::HandOverResponse>, Status> {
        if self.peers.protocols().max < rpc::HAND_OVER {
            let cause = "this node hands no front over: it speaks an older protocol";
            return Err(Error::new(Code::Unsupported, cause, "fence the front instead").into());
        }
        let handing = Trace::from(trace::serve("front.hand_over", &request));
        let ended = self.end_front(request, &handing).await;
        ended.inspect_err(|status| handing.fail(status.message()))?;
        Ok(Response::new(v1::HandOverResponse {}))
    }

    type StageStream = Answers;

    async fn stage(
        &self,
        request: Request<Streaming<v1::StageDown>>,
    ) -> Result<Response<Self::StageStream>, Status> {
        Ok(Response::new(self.begin_stage(request).await?))
    }

    type ChunksStream = chunks::Answers;

    async fn chunks(
        &self,
        request: Request<Streaming<v1::ChunksDown>>,
    ) -> Result<Response<Self::ChunksStream>, Status> {
        Ok(Response::new(self.begin_reader(request).await?))
    }
}

impl LinkService {
    /// `opening`: until the lane is open.
    async fn begin_lane(
        &self,
        request: Request<Streaming<v1::LaneDown>>,
        opening: &Arc<Trace>,
    ) -> Result<<Self as Link>::LaneStream, Status> {
        let principal = Principal::of(&request)?.clone();
        let mut down = request.into_inner();
        let first = first(&mut down, "a lane").await?;
        let Some(Down::Open(open)) = first.and_then(|it| it.message) else {
            return Err(refused("the first message must open a lane").into());
        };
        opening.note("task", open.task.clone());
        opening.note("lane", i64::from(open.lane));
        principal.claims(&open.owner)?;
        let protocol = self.peers.protocols().speaks(open.protocol)?;
        if *self.deaf.borrow() {
            return Err(
                Error::new(Code::Unreachable, DEAF, "check that it reaches the brokers").into()
            );
        }
        self.is_placed_here(&open).await?;
        let owner = open.owner.clone();
        let open = convert::open_in(open)?;
        Ok(self.begin(owner, open, protocol, down, Arc::clone(opening))?)
    }

    /// For the node that the router of a task is placed on now.
    async fn end_front(
        &self,
        request: Request<v1::HandOverRequest>,
        handing: &Trace,
    ) -> Result<(), Status> {
        let principal = Principal::of(&request)?.clone();
        let v1::HandOverRequest { task, placement_rev, owner } = request.into_inner();
        handing.note("task", task.clone());
        handing.note("to", owner.clone());
        principal.claims(&owner)?;
        let placement = self.placement(&task, placement_rev).await?;
        if placement.router() != Some(&owner) {
            let router = placement.router().unwrap_or("no node");
            let cause =
                format!("the router of task `{task}` is placed on {router}, not on {owner}");
            return Err(Error::new(Code::Fenced, cause, "read the control topic").into());
        }
        if owner != self.node {
            info!(task, to = owner, "the front is handed over");
            (self.hand_over)(&task).await;
        }
        Ok(())
    }

    /// Where a task runs, as this node has read it: not before `rev`.
    pub(super) async fn placement(&self, task: &str, rev: u64) -> Result<Placement, Error> {
        let mut cluster = self.cluster.clone();
        let is_read = |state: &Arc<ClusterState>| {
            state.placements.get(task).is_some_and(|placement| rev <= placement.rev)
        };
        let read = tokio::time::timeout(PLACEMENT_WAIT_MAX, cluster.wait_for(is_read)).await;
        if let Ok(Ok(state)) = read
            && let Some(placement) = state.placements.get(task)
        {
            return Ok(placement.clone());
        }
        let cause = format!("placement {rev} of task `{task}` has not been read here yet");
        Err(Error::new(Code::Unreachable, cause, "check that this node reaches Kafka"))
    }

    async fn is_placed_here(&self, open: &v1::OpenLane) -> Result<(), Error> {
        let placement = self.placement(&open.task, open.placement_rev).await?;
        let lane = placement.lanes.get(open.lane as usize).and_then(|it| it.as_deref());
        let router = placement.router();
        if lane != Some(&self.node) || router != Some(&open.owner) {
            let cause = format!(
                "lane {} of task `{}` is placed on {} and its router on {}, not on {} and {}",
                open.lane,
                open.task,
                lane.unwrap_or("no node"),
                router.unwrap_or("no node"),
                self.node,
                open.owner
            );
            return Err(Error::new(Code::Fenced, cause, "read the control topic"));
        }
        Ok(())
    }

    fn begin(
        &self,
        owner: String,
        open: OpenLane,
        protocol: u32,
        down: Streaming<v1::LaneDown>,
        opening: Arc<Trace>,
    ) -> Result<<Self as Link>::LaneStream, Error> {
        let unconfined = open.spec.unconfined(&self.secrets_dir);
        if !unconfined.is_empty() {
            return Err(Error::spec(config::Problems(unconfined)));
        }
        let (task, number, life, revision) =
            (open.spec.task.clone(), open.lane, open.life, open.revision);
        let key = (task, number);
        let progress = Arc::new(Progress::default());
        let (up, stream) = mpsc::unbounded_channel();
        let (thread, mut receiver) =
            open.here(&self.secrets_dir, Arc::clone(&progress)).map_err(|failure| {
                Error::new(Code::State, failure.cause, "give this node what the spec refers to")
            })?;
        if protocol < rpc::PLACES {
            receiver = receiver.without_places();
        }
        if protocol < rpc::MARKS {
            receiver = receiver.without_marks();
        }
        let hosted = Hosted {
            owner: owner.clone(),
            life,
            revision,
            open: false,
            position: wal::Position::ZERO,
            progress: Arc::clone(&progress),
        };
        self.lanes.begin(&key, hosted)?;
        let lanes = self.lanes.clone();
        let report: Report = Arc::new({
            let (key, up) = (key.clone(), up.clone());
            move |event| {
                match &event {
                    Event::Opened { .. } | Event::Stopped => opening.end(),
                    Event::Failed(failure) => opening.fail(&failure.cause),
                    Event::Durable { .. } | Event::Sealed => {}
                }
                match &event {
                    Event::Opened { position, .. } | Event::Durable { position, .. } => {
                        lanes.change(&key, |it| (it.open, it.position) = (true, *position));
                    }
                    Event::Sealed => {}
                    Event::Failed(_) | Event::Stopped => lanes.remove(&key, &owner, life),
                }
                // A caller that is gone does not care; its stream's end has ended the lane.
                let _ = up.send(Ok(up_message(event, &progress)));
            }
        });
        info!(task = key.0, lane = number, life, "a lane begins here");
        let orders = thread.spawn(report, ());
        tokio::spawn(feed(key, down, receiver, orders, up, self.deaf.clone()));
        Ok(UnboundedReceiverStream::new(stream))
    }
}

/// Hands what comes to the lane. Dropping `orders` lets it commit what is queued, and end.
async fn feed(
    (task, lane): (String, u8),
    mut down: Streaming<v1::LaneDown>,
    mut receiver: Receiver,
    orders: Orders,
    up: mpsc::UnboundedSender<Result<v1::LaneUp, Status>>,
    mut deaf: watch::Receiver<bool>,
) {
    let fail = |failure: Failure| {
        let failed = convert::failure_out(failure);
        // A caller that is gone does not care.
        let _ = up.send(Ok(v1::LaneUp { message: Some(Up::Failed(failed)) }));
    };
    let budget = Budget::new(LANE_BYTES_MAX);
    loop {
        let message = tokio::select! {
            message = down.message() => message,
            // The stream's other half was dropped: nobody listens any more.
            () = up.closed() => return,
            Ok(_) = deaf.wait_for(|deaf| *deaf) => {
                warn!(task, lane, "a link is ended: {DEAF}");
                fail(Failure { class: FailureClass::Connection, cause: DEAF.into() });
                return;
            }
        };
        match message {
            Ok(Some(v1::LaneDown { message: Some(Down::Frame(frame)) })) => {
                if let Err(cause) = take(frame.payload, &mut receiver, &orders, &budget).await {
                    warn!(task, lane, cause, "a link is ended");
                    fail(Failure::transient(cause));
                    return;
                }
            }
            Ok(Some(v1::LaneDown { message: Some(Down::Seal(seal)) })) => {
                orders(Order::Seal(wal::Lsn(seal.end_lsn)));
            }
            Ok(Some(v1::LaneDown { message: Some(Down::Stop(v1::Stop {})) })) => return,
            // A second opening, or something of a later release, which it must not send.
            Ok(Some(v1::LaneDown { message: Some(Down::Open(_)) | None })) => {
                warn!(task, lane, "a link said something unexpected, and is ended");
                return;
            }
            Ok(None) | Err(_) => {
                debug!(task, lane, "a link has ended");
                return;
            }
        }
    }
}

async fn take(
    frame: Bytes,
    receiver: &mut Receiver,
    orders: &Orders,
    budget: &Budget,
) -> Result<(), String> {
    let Some(mut batch) = receiver.take(frame).map_err(|error| error.to_string())? else {
        return Ok(());
    };
    batch.credit = Arc::new(budget.take(batch.batch.bytes.len()).await);
    orders(Order::Write(batch));
    Ok(())
}

fn up_message(event: Event, progress: &Progress) -> v1::LaneUp {
    let message = match event {
        Event::Opened { term, position } => Up::Opened(v1::Opened {
            term: u64::try_from(term).unwrap_or_default(),
            position: Some(convert::position_out(position)),
        }),
        Event::Durable { generation, seq, position } => Up::Durable(v1::Durable {
            generation,
            seq,
            position: Some(convert::position_out(position)),
            records: progress.records.load(Relaxed),
            commits: progress.commits.load(Relaxed),
            commit_time_unix_us: progress.durable_commit_time_us.load(Relaxed),
            dead_letters: progress.dead_letters.load(Relaxed),
            ddl_gaps: progress.ddl_gaps.load(Relaxed),
        }),
        Event::Sealed => Up::Sealed(v1::Sealed {}),
        Event::Failed(failure) => Up::Failed(convert::failure_out(failure)),
        Event::Stopped => Up::Stopped(v1::Stopped {}),
    };
    v1::LaneUp { message: Some(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_comes_late_does_not_touch_the_one_that_is_here() {
        let (lanes, key) = (HostedLanes::default(), ("shop".to_owned(), 3));
        let begin = |life, revision| {
            let (position, progress) = (wal::Position::ZERO, Arc::default());
            let hosted =
                Hosted { owner: "w1".into(), life, revision, open: false, position, progress };
            lanes.begin(&key, hosted).map_err(|error| error.code)
        };
        assert_eq!(begin(7, 2), Ok(()));
        assert_eq!(begin(6, 2), Err(Code::Fenced));
        assert_eq!(begin(8, 1), Err(Code::Fenced));
        assert_eq!(begin(7, 2), Err(Code::Busy));
        assert_eq!(lanes.all()[0].1.life, 7);
        assert_eq!(begin(8, 2), Ok(()));
        // The end of the first is no matter of the second.
        lanes.remove(&key, "w1", 7);
        assert_eq!(lanes.all()[0].1.life, 8);
        lanes.remove(&key, "w1", 8);
        assert_eq!(begin(1, 1), Ok(()), "nobody is fenced");
    }
}
