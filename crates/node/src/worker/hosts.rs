//! Where the stages and lanes of a task whose router is here are: as its placement says, which may change at
//! any time.

use super::Context;
use super::specs::Specs;
use crate::front::{self, HAND_OVER_MAX};
use crate::link::chunks;
use crate::link::client::{self, Caller, Place};
use crate::link::peers::Peers;
use crate::link::stage::client::From;
use crate::link::trace;
use crate::state::{ClusterState, Placement};
use pipeline::chunk::asked::CopyOrder;
use pipeline::hosts::{Host, Hosts, OpenLane, Upstream};
use pipeline::lane::Event;
use pipeline::producer::StartLane;
use pipeline::reading::{Conversation, OpenReader};
use pipeline::upstream::{self, OpenStage};
use pipeline::{Failure, Progress};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use supervision::Budget;
use telemetry::traces::Trace;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::info;

/// The hosts of one task.
pub(super) struct Placed {
    task: String,
    context: Context,
    /// Where links live: not on the front's thread, whose time is dear.
    runtime: Handle,
    /// The newest placement with the router here.
    ours: RefCell<Option<Placement>>,
    specs: Arc<Specs>,
    /// What has passed of them, as far as the task was told that there is something new.
    passed: Rc<RefCell<watch::Receiver<Option<Arc<config::Task>>>>>,
}

impl Placed {
    pub(super) fn new(task: &str, context: Context, runtime: Handle, specs: Arc<Specs>) -> Self {
        let (task, ours) = (task.to_owned(), RefCell::default());
        let passed = Rc::new(RefCell::new(specs.passed()));
        Self { task, context, runtime, ours, specs, passed }
    }

    /// Once the router is placed elsewhere, everything stays where it is until this front ends.
    fn placement(&self) -> Option<Placement> {
        let newest = self.context.cluster.borrow().placements.get(&self.task).cloned();
        if let Some(newest) = newest.filter(|it| self.is_ours(it)) {
            self.ours.replace(Some(newest));
        }
        self.ours.borrow().clone()
    }

    fn is_ours(&self, placement: &Placement) -> bool {
        placement.router() == Some(&self.context.node.node)
    }

    /// Where a node is, and as whom it is asked.
    fn find(&self, node: &str) -> Result<(Place, Caller), Failure> {
        let placement = self.placement().unwrap_or_default();
        client::find(&placement, &self.task, node, &self.context.node.node)
    }

    fn host(&self, node: Option<&str>) -> Host {
        match node {
            Some(node) if node == self.context.node.node => Host::Here,
            Some(node) => Host::Node(node.to_owned()),
            None => Host::Nowhere,
        }
    }
}

impl Hosts for Placed {
    fn upstream(&self) -> Upstream {
        let placement = self.placement().unwrap_or_default();
        Upstream {
            reader: self.host(placement.front.as_deref()),
            decoder: self.host(placement.decoder()),
        }
    }

    fn start_stage(&self, node: &str, open: OpenStage, budget: Budget) -> upstream::Start {
        let Context { node: own, peers, .. } = &self.context;
        let from = From { node: &own.node, peers, runtime: self.runtime.clone() };
        from.start(node, &self.placement().unwrap_or_default(), open, budget)
    }

    fn of(&self, lane: u8) -> Host {
        let Some(placement) = self.placement() else { return Host::Nowhere };
        match placement.lanes.get(usize::from(lane)) {
            Some(owner) => self.host(owner.as_deref()),
            // Of the revision before, which had more lanes: they are sealed beside the router.
            None if placement.router() == Some(&self.context.node.node) => Host::Here,
            None => Host::Nowhere,
        }
    }

    fn is_gone(&self, node: &str) -> bool {
        self.placement().is_some_and(|it| it.gone.iter().any(|gone| gone == node))
    }

    fn start(&self, node: &str, open: OpenLane, progress: Arc<Progress>) -> StartLane {
        let (place, caller) = match self.find(node) {
            Ok(found) => found,
            Err(failure) => {
                return Box::new(move |report| {
                    report(Event::Failed(failure));
                    Box::new(drop)
                });
            }
        };
        let (runtime, peers) = (self.runtime.clone(), self.context.peers.clone());
        client::start(runtime, peers, place, caller, open, progress)
    }

    fn chunk_readers(&self) -> Vec<Host> {
        let placed = self.placement().and_then(|it| it.snapshot);
        // A node that is held back to an older protocol asks nobody.
        let placed = placed.filter(|_| rpc::CHUNKS <= self.context.peers.protocols().max);
        let Some(nodes) = placed else { return vec![Host::Here] };
        nodes.iter().map(|node| self.host(Some(node))).collect()
    }

    fn start_reader(&self, node: &str, open: OpenReader) -> Conversation {
        match self.find(node) {
            Ok((place, caller)) => {
                chunks::start(&self.runtime, self.context.peers.clone(), place, caller, open)
            }
            Err(failure) => Conversation::failing(failure),
        }
    }

    fn handed_over(&self, trace: &Trace) -> Option<Pin<Box<dyn Future<Output = ()> + '_>>> {
        if self.context.peers.protocols().max < rpc::HAND_OVER {
            return None;
        }
        let placement = self.placement()?;
        let from = front::former(&placement)?.to_owned();
        let address = placement.addresses.get(&from)?.clone();
        let request = rpc::v1::HandOverRequest {
            task: self.task.clone(),
            placement_rev: placement.rev,
            owner: self.context.node.node.clone(),
        };
        let mut span = trace.span("front.take_over", &self.task).with("from", from.clone());
        Some(Box::pin(async move {
            let request = trace::within(request, span.traceparent().as_deref());
            let asked = ask(self.context.peers.clone(), from.clone(), address, request);
            // A connection lives where it was made, and longer than this front.
            let asked = self.runtime.spawn(tokio::time::timeout(HAND_OVER_MAX, asked));
            match asked.await {
                Ok(Ok(Ok(()))) => info!(task = self.task, from, "the front was handed over"),
                // It is fenced instead.
                Ok(Ok(Err(error))) => {
                    span.fail(error.to_string());
                    info!(task = self.task, from, %error, "the front is taken over");
                }
                Ok(Err(_)) | Err(_) => {
                    span.fail("no answer in time");
                    info!(task = self.task, from, "no answer in time, the front is taken over");
                }
            }
        }))
    }

    fn copies(&self) -> Vec<CopyOrder> {
        let cluster = self.context.cluster.borrow();
        let open = cluster.copies.get(&self.task).map(|it| it.open.as_slice()).unwrap_or_default();
        let order = |it: &crate::state::CopyOrder| {
            let crate::state::CopyOrder { number, snapshot, table, condition } = it.clone();
            CopyOrder { number, snapshot, table, condition }
        };
        open.iter().map(order).collect()
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let (task, mut seen) = (self.task.clone(), self.context.cluster.clone());
        let (before, node) = (self.placement(), self.context.node.node.clone());
        let copies = seen.borrow().copies.get(&task).cloned();
        let passed = Rc::clone(&self.passed);
        Box::pin(async move {
            let other = |state: &Arc<ClusterState>| {
                let newest = state.placements.get(&task);
                let is_moved = newest != before.as_ref()
                    && newest.is_some_and(|it| it.router() == Some(&node));
                is_moved || state.copies.get(&task) != copies.as_ref()
            };
            let mut own = passed.borrow().clone();
            let ended = tokio::select! {
                moved = seen.wait_for(other) => moved.is_err(),
                applied = own.changed() => {
                    passed.borrow_mut().mark_unchanged();
                    applied.is_err()
                }
            };
            // A worker that ends drops the other half: nothing changes any more.
            if ended {
                std::future::pending::<()>().await;
            }
        })
    }

    fn spec(&self) -> Option<Arc<config::Task>> {
        self.passed.borrow().borrow().clone()
    }

    fn took(&self, spec: &Arc<config::Task>) {
        self.specs.took(spec);
    }
}

/// Asks whoever had the front before to end it.
async fn ask(
    peers: Peers,
    node: String,
    address: String,
    request: tonic::Request<rpc::v1::HandOverRequest>,
) -> Result<(), rpc::Error> {
    let channel = peers.channel(&node, &address).await?;
    rpc::client::link(channel).hand_over(request).await?;
    Ok(())
}
