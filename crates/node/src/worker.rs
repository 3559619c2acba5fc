//! A worker: runs the stages and the lanes that the control topic has placed on it.
//!
//! * [`control`]: follows the control topic. What it holds is obeyed, and nothing else.
//! * `join`: the stream to the leading coordinator: signs of life and reports. Without one, everything
//!   goes on as it is.
//! * `tasks`, `runner`: the fronts whose router is here. `hosts`: where their other stages and lanes run. Those of other
//!   nodes' tasks come through [`crate::link::server`].
//! * `view`: what the HTTP port shows of all that.

pub mod control;
mod hosts;
mod join;
mod report;
mod runner;
mod specs;
mod tasks;
mod view;

use crate::doors::Doors;
use crate::link::peers::Peers;
use crate::link::server::{HostedLanes, LinkService};
use crate::link::stage::HostedStages;
use crate::state::ClusterState;
use config::node::Role;
use rpc::{Error, Protocols, Services};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tasks::Tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a worker that was told to end waits for its lanes and fronts to be moved away.
const LEAVE_MAX: Duration = Duration::from_secs(20);
/// How long fronts that were not moved may take to end.
const END_MAX: Duration = Duration::from_secs(15);

/// What every part of a worker needs.
#[derive(Clone)]
struct Context {
    node: Arc<config::Node>,
    /// What paths of task specs are relative to.
    secrets_dir: PathBuf,
    /// Where transactions in progress are spooled.
    data_dir: PathBuf,
    cluster: watch::Receiver<Arc<ClusterState>>,
    peers: Peers,
    hosted: HostedLanes,
    /// Stages before the routers of other nodes' tasks.
    stages: HostedStages,
    hearing: control::Hearing,
    /// A coordinator that leads knows this worker.
    joined: Arc<AtomicBool>,
}

/// Runs a worker until `stop`, and then until what it has runs elsewhere. `folder`: what paths of the
/// node spec are relative to.
///
/// # Errors
/// When it cannot listen, its certificate is not its own, or the control topic cannot be used.
pub async fn run(node: config::Node, folder: &Path, stop: CancellationToken) -> Result<(), Error> {
    let Doors { tls, page, server } =
        Doors::open(&node, folder, rpc::identity::Role::Worker).await?;
    let cluster = control::follow(&node, folder)?;
    let protocols = Protocols::up_to(node.protocol_max)?;
    let context = Context {
        secrets_dir: folder.join(&node.secrets_dir),
        data_dir: folder.join(&node.data_dir),
        cluster: cluster.state.clone(),
        peers: Peers::new(tls.clone().map(Arc::new), protocols),
        hosted: HostedLanes::default(),
        stages: HostedStages::default(),
        hearing: cluster.hearing.clone(),
        joined: Arc::default(),
        node: Arc::new(node),
    };
    let tasks = Tasks::new(context.clone());
    let link = LinkService {
        node: context.node.node.clone(),
        secrets_dir: context.secrets_dir.clone(),
        data_dir: context.data_dir.clone(),
        cluster: context.cluster.clone(),
        lanes: context.hosted.clone(),
        stages: context.stages.clone(),
        peers: context.peers.clone(),
        deaf: cluster.hearing.deaf(),
        hand_over: tasks.hand_over(),
    };
    info!(node = context.node.node, address = %server.address(), role = %Role::Worker, "worker listens");
    let ended = CancellationToken::new();
    let serving = tokio::spawn({
        let ended = ended.clone();
        async move { server.serve(Services::new().link(link), ended.cancelled_owned()).await }
    });
    let (view, ready) = view::of(context.clone(), tasks.clone());
    let shown = tokio::spawn(page.serve(view, ready, ended.clone().cancelled_owned()));
    let leaving = CancellationToken::new();
    let joined = tokio::spawn(join::keep(
        context.clone(),
        tls.map(Arc::new),
        tasks.clone(),
        leaving.clone(),
    ));
    let carried_out = tokio::spawn(tasks.clone().carry_out());
    tokio::select! {
        () = stop.cancelled() => {}
        lost = cluster.lost => {
            let cause = lost.unwrap_or_else(|_| "it is followed no more".into());
            warn!(cause, "the control topic is lost");
        }
    }
    info!("leaving the cluster: what runs here is to run elsewhere");
    leaving.cancel();
    if tokio::time::timeout(LEAVE_MAX, tasks.emptied()).await.is_err() {
        warn!("not everything was moved away in time; it ends here, and others fence it");
    }
    carried_out.abort();
    tasks.end(END_MAX).await;
    joined.abort();
    ended.cancel();
    let _ = tokio::join!(serving, shown);
    Ok(())
}

/// A thread that panicked while it held the lock ends nobody else.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
