//! Where the lanes of a task that runs here are: as its placement says, which may change at any time.

use super::Context;
use crate::link::client::{self, Place};
use crate::state::{ClusterState, Placement};
use pipeline::Progress;
use pipeline::hosts::{Host, Hosts, OpenLane};
use pipeline::lane::Event;
use pipeline::producer::StartLane;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The hosts of one task.
pub(super) struct Placed {
    task: String,
    context: Context,
    /// Where links live: not on the front's thread, whose time is dear.
    runtime: Handle,
}

impl Placed {
    pub(super) fn new(task: &str, context: Context, runtime: Handle) -> Self {
        Self { task: task.to_owned(), context, runtime }
    }

    fn placement(&self) -> Option<Placement> {
        self.context.cluster.borrow().placements.get(&self.task).cloned()
    }
}

impl Hosts for Placed {
    fn of(&self, lane: u8) -> Host {
        let own = &self.context.node.node;
        let Some(placement) = self.placement() else { return Host::Nowhere };
        match placement.lanes.get(usize::from(lane)) {
            Some(Some(node)) if node == own => Host::Here,
            Some(Some(node)) => Host::Node(node.clone()),
            Some(None) => Host::Nowhere,
            // Of the revision before, which had more lanes: they are sealed beside the front.
            None if placement.front.as_ref() == Some(own) => Host::Here,
            None => Host::Nowhere,
        }
    }

    fn start(&self, node: &str, open: OpenLane, progress: Arc<Progress>) -> StartLane {
        let placement = self.placement().unwrap_or_default();
        let Some(address) = placement.addresses.get(node).cloned() else {
            let cause =
                format!("the placement of task `{}` does not say where {node} is", self.task);
            return Box::new(move |report| {
                report(Event::Failed(pipeline::Failure::transient(cause)));
                Box::new(drop)
            });
        };
        let caller = client::Caller {
            node: self.context.node.node.clone(),
            protocol: rpc::PROTOCOL_MAX,
            placement_rev: placement.rev,
        };
        let place = Place { node: node.to_owned(), address };
        let (runtime, peers) = (self.runtime.clone(), self.context.peers.clone());
        client::start(runtime, peers, place, caller, open, progress)
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let (task, mut seen) = (self.task.clone(), self.context.cluster.clone());
        let before = self.placement();
        Box::pin(async move {
            let other = |state: &Arc<ClusterState>| state.placements.get(&task) != before.as_ref();
            // A worker that ends drops the other half: nothing changes any more.
            if seen.wait_for(other).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
