//! A lane of ours that another node writes: orders go down its stream, events come up.
//!
//! Nothing is lost when it breaks: the router keeps what is not durable, and the lane's next life gets it.

use super::convert;
pub use super::convert::Caller;
use super::peers::Peers;
use super::trace;
use crate::state::Placement;
use pipeline::hosts::OpenLane;
use pipeline::lane::{Event, Order, Report};
use pipeline::link::{LinkError, Sender};
use pipeline::producer::StartLane;
use pipeline::{Failure, Progress};
use rpc::v1::lane_down::Message as Down;
use rpc::v1::lane_up::Message as Up;
use rpc::{Code, Error, v1};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use supervision::FailureClass;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Frames that wait for the stream; what waits before them costs nothing, since it is shared with the router.
const FRAMES_QUEUED: usize = 4;

/// Where something is to run.
#[derive(Clone, Debug)]
pub struct Place {
    pub node: String,
    pub address: String,
}

/// Where `node` is by the placement of a task, and as whom `own` asks it.
///
/// # Errors
/// When the placement does not say it.
pub fn find(
    placement: &Placement,
    task: &str,
    node: &str,
    own: &str,
) -> Result<(Place, Caller), Failure> {
    let Some(address) = placement.addresses.get(node).cloned() else {
        let cause = format!("the placement of task `{task}` does not say where {node} is");
        return Err(Failure::transient(cause));
    };
    let caller = Caller { node: own.to_owned(), placement_rev: placement.rev };
    Ok((Place { node: node.to_owned(), address }, caller))
}

/// Starts a lane at `place`; its link lives on `runtime`.
#[must_use]
pub fn start(
    runtime: Handle,
    peers: Peers,
    place: Place,
    caller: Caller,
    open: OpenLane,
    progress: Arc<Progress>,
) -> StartLane {
    Box::new(move |report| {
        let (orders, queue) = mpsc::unbounded_channel();
        let lane = Lane { peers, place, report, progress };
        runtime.spawn(lane.live(open, caller, queue));
        // A lane that has ended has reported why.
        Box::new(move |order| drop(orders.send(order)))
    })
}

struct Lane {
    peers: Peers,
    place: Place,
    report: Report,
    progress: Arc<Progress>,
}

/// An open stream, and who makes frames for it.
struct Link {
    sender: Sender,
    down: mpsc::Sender<v1::LaneDown>,
    up: Streaming<v1::LaneUp>,
}

/// The oldest protocol that can carry the lanes of a task.
fn least(spec: &config::Task) -> u32 {
    match spec.sink.transaction_topic {
        config::Switch::On => rpc::PLACES,
        config::Switch::Off => rpc::PROTOCOL_MIN,
    }
}

/// Sends only what a node of this protocol can read.
fn sender(protocol: u32) -> Sender {
    let sender = Sender::default();
    let sender = if protocol < rpc::UNIQUE_INDEXES { sender.without_unique() } else { sender };
    if protocol < rpc::MARKS { sender.without_marks() } else { sender }
}

impl Lane {
    async fn live(self, open: OpenLane, caller: Caller, queue: mpsc::UnboundedReceiver<Order>) {
        let ended = match self.connect(&open, caller).await {
            Ok(Link { sender, down, up }) => tokio::select! {
                ended = self.listen(up) => ended,
                error = send(sender, queue, down) => Err(self.unsent(&error)),
            },
            Err(failure) => Err(failure),
        };
        (self.report)(match ended {
            Ok(()) => Event::Stopped,
            Err(failure) => Event::Failed(failure),
        });
    }

    async fn connect(&self, open: &OpenLane, caller: Caller) -> Result<Link, Failure> {
        let (protocols, least) = (self.peers.protocols(), least(&open.spec));
        if protocols.max < least {
            return Err(self.too_old(least, "this node"));
        }
        let first = convert::open_out(open, &caller)?;
        let opened = self.peers.open(&self.place, least, |mut client, protocol| {
            let (down, messages) = mpsc::channel(FRAMES_QUEUED);
            let first = Down::Open(v1::OpenLane { protocol, ..first.clone() });
            let call = trace::within(ReceiverStream::new(messages), open.traceparent.as_deref());
            async move {
                // It has room: nothing was sent before.
                let _ = down.try_send(v1::LaneDown { message: Some(first) });
                let up = client.lane(call).await?.into_inner();
                Ok(Link { sender: sender(protocol), down, up })
            }
        });
        opened.await.map_err(|error| {
            if error.code == Code::Protocol && protocols.min < least {
                self.too_old(least, &format!("node {}", self.place.node))
            } else {
                self.unreachable(&error)
            }
        })
    }

    /// Tried again until the node is renewed, or the spec asks for less.
    fn too_old(&self, least: u32, who: &str) -> Failure {
        let node = &self.place.node;
        Failure::transient(format!(
            "node {node} cannot take the lane: a transaction topic needs protocol {least}, which {who} does not speak; \
             renew it, have the lane placed elsewhere, or set `sink.transaction_topic: off`"
        ))
    }

    /// What the other end cannot read is kept by the router until the node is renewed, or the lane placed elsewhere.
    fn unsent(&self, error: &LinkError) -> Failure {
        let node = &self.place.node;
        if !matches!(error, LinkError::Marked) {
            return Failure::fatal(error.to_string());
        }
        Failure::transient(format!(
            "node {node} cannot take the lane: {error}; renew it (protocol {}), or have the lane placed elsewhere",
            rpc::MARKS
        ))
    }

    /// Until the lane's life is over.
    async fn listen(&self, mut up: Streaming<v1::LaneUp>) -> Result<(), Failure> {
        let (mut records, mut commits, mut dead_letters, mut ddl_gaps) = (0, 0, 0, 0);
        loop {
            let message = up.message().await.map_err(|status| self.broke(&status.into()))?;
            let Some(v1::LaneUp { message }) = message else {
                let cause = format!("the link to node {} has ended", self.place.node);
                return Err(Failure { class: FailureClass::Connection, cause });
            };
            match message {
                Some(Up::Opened(v1::Opened { term, position })) => {
                    let term = i64::try_from(term).unwrap_or(i64::MAX);
                    let position = convert::position_in(position);
                    (self.report)(Event::Opened { term, position });
                }
                Some(Up::Durable(durable)) => {
                    let Progress { records: all, commits: all_commits, .. } = &*self.progress;
                    all.fetch_add(durable.records.saturating_sub(records), Relaxed);
                    all_commits.fetch_add(durable.commits.saturating_sub(commits), Relaxed);
                    (records, commits) = (durable.records, durable.commits);
                    let new = durable.dead_letters.saturating_sub(dead_letters);
                    self.progress.dead_letters.fetch_add(new, Relaxed);
                    let new_gaps = durable.ddl_gaps.saturating_sub(ddl_gaps);
                    self.progress.ddl_gaps.fetch_add(new_gaps, Relaxed);
                    (dead_letters, ddl_gaps) = (durable.dead_letters, durable.ddl_gaps);
                    let newest = &self.progress.durable_commit_time_us;
                    newest.fetch_max(durable.commit_time_unix_us, Relaxed);
                    let v1::Durable { generation, seq, position, .. } = durable;
                    let position = convert::position_in(position);
                    (self.report)(Event::Durable { generation, seq, position });
                }
                Some(Up::Sealed(v1::Sealed {})) => (self.report)(Event::Sealed),
                Some(Up::Failed(failed)) => {
                    return Err(convert::failure_in(&self.place.node, &failed));
                }
                Some(Up::Stopped(v1::Stopped {})) => return Ok(()),
                // Of a later release.
                None => {}
            }
        }
    }

    fn unreachable(&self, error: &Error) -> Failure {
        let cause = format!("node {} does not take the lane: {error}", self.place.node);
        // Whatever it is, another node or a later attempt may do: the retry windows decide.
        let class = if error.code == Code::Fenced {
            FailureClass::Fenced
        } else if error.passes() {
            FailureClass::Connection
        } else {
            FailureClass::Transient
        };
        Failure { class, cause }
    }

    fn broke(&self, error: &Error) -> Failure {
        let cause = format!("the link to node {} broke: {error}", self.place.node);
        Failure { class: FailureClass::Connection, cause }
    }
}

/// Sends what is ordered. Ends only where something cannot be sent; the other end says how all else ends.
async fn send(
    mut sender: Sender,
    mut queue: mpsc::UnboundedReceiver<Order>,
    down: mpsc::Sender<v1::LaneDown>,
) -> LinkError {
    loop {
        let last = match queue.recv().await {
            Some(Order::Write(batch)) => {
                let frames = match sender.frames(&batch) {
                    Ok(frames) => frames,
                    Err(error) => return error,
                };
                drop(batch);
                for payload in frames {
                    let frame = v1::Frame { payload };
                    if !pass(&down, Down::Frame(frame)).await {
                        return std::future::pending().await;
                    }
                }
                continue;
            }
            Some(Order::Seal(end)) => Down::Seal(v1::Seal { end_lsn: end.0 }),
            None => Down::Stop(v1::Stop {}),
        };
        pass(&down, last).await;
        // The stream stays open for the answer.
        return std::future::pending().await;
    }
}

/// `false`: the stream is gone, and its other half says why.
async fn pass(down: &mpsc::Sender<v1::LaneDown>, message: Down) -> bool {
    down.send(v1::LaneDown { message: Some(message) }).await.is_ok()
}
