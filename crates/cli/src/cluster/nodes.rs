//! `distributary cluster`: who is there, and what runs where.

use super::reach::Reach;
use super::view::{Cluster, Node, Placement};
use super::watch::{Ended, Next, Screen, now_unix_ms, watch};
use super::{people, refusal};
use crate::arguments::{Nodes, NodesVerb};
use crate::exit::Exit;
use crate::output::Output;
use crate::system;
use rpc::{Code, Error, v1};
use std::io;

pub(crate) fn nodes(arguments: &Nodes, output: Output) -> io::Result<Exit> {
    let reach = match Reach::new(&arguments.access) {
        Ok(reach) => reach,
        Err(error) => return Ok(refusal::say(output, &error)),
    };
    system::block_on(carry_out(&arguments.verb, &reach, output))
}

async fn carry_out(verb: &NodesVerb, reach: &Reach, output: Output) -> io::Result<Exit> {
    match verb {
        NodesVerb::Status { watch: true } => watched(reach, output).await,
        NodesVerb::Status { watch: false } => status(reach, output).await,
        NodesVerb::Drain { node } => {
            let request = v1::DrainNodeRequest { node: node.clone() };
            changed(reach.change(async |it| it.drain_node(request.clone()).await).await, output)
        }
        NodesVerb::Uncordon { node } => {
            let request = v1::UncordonNodeRequest { node: node.clone() };
            changed(reach.change(async |it| it.uncordon_node(request.clone()).await).await, output)
        }
        NodesVerb::MoveLane { task, lane, node } => {
            let request = v1::MoveLaneRequest {
                task: task.clone(),
                lane: *lane,
                node: node.clone().unwrap_or_default(),
            };
            let answer = reach.change(async |it| it.move_lane(request.clone()).await).await;
            moved(task, *lane, answer, output)
        }
    }
}

async fn status(reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::ClusterStatusRequest {};
    let reach = reach.toward_leader().await;
    let answer = reach.read(async |admin| admin.cluster_status(request).await).await;
    match answer.and_then(|answer| present(answer.cluster)) {
        Ok(cluster) => {
            let cluster = Cluster::from(cluster);
            output.document(&cluster, || people::cluster(&cluster, now_unix_ms()))?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

async fn watched(reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::WatchClusterRequest {};
    let open = async |reach: &Reach| reach.read(async |it| it.watch_cluster(request).await).await;
    let mut screen = Screen::new(output);
    let ended = watch(reach, output, open, |message: v1::WatchClusterResponse| {
        if let Some(cluster) = message.cluster.map(Cluster::from) {
            screen.show(cluster, |cluster| people::cluster(cluster, now_unix_ms()))?;
        }
        Ok(Next::More)
    });
    match ended.await? {
        Ended::Done => Ok(Exit::Done),
        Ended::Refused(error) => Ok(refusal::say(output, &error)),
    }
}

fn changed(answer: Result<v1::NodeChanged, Error>, output: Output) -> io::Result<Exit> {
    match answer.and_then(|answer| present(answer.node)) {
        Ok(node) => {
            let node = Node::from(node);
            output.document(&node, || people::node(&node))?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

fn moved(
    task: &str,
    lane: u32,
    answer: Result<v1::MoveLaneResponse, Error>,
    output: Output,
) -> io::Result<Exit> {
    match answer.and_then(|answer| present(answer.placement)) {
        Ok(placement) => {
            let placement = Placement::from(placement);
            output.document(&placement, || {
                let node = usize::try_from(lane).ok().and_then(|lane| placement.lanes.get(lane));
                let node = node.map_or("another worker", String::as_str);
                let revision = placement.revision;
                format!("lane {lane} of task `{task}` moves to {node}, placement {revision}\n")
            })?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

fn present<T>(part: Option<T>) -> Result<T, Error> {
    part.ok_or_else(|| Error::new(Code::Internal, "the answer is empty", ""))
}
