//! A coordinator: one of those that lead the cluster, or would (delivery-protocol.md, section 10).
//!
//! ```text
//! control topic ── tail thread ──► Desk ──► writer thread ── control topic
//!                                  ▲  │
//!        Cluster, Admin (gRPC) ────┘  └──► workers, answers
//! ```
//!
//! * `control`: the threads that wait for Kafka. `desk`: the one task that decides, told of everything.
//! * `join`: workers. `admin`: people. Both only carry.
//! * Pure: `plan`, `orders`, `reports`, `difference`, `spec`, `view`.

mod admin;
mod control;
mod desk;
mod difference;
mod join;
mod orders;
mod page;
mod plan;
mod plan_tables;
mod reports;
mod spec;
mod view;
mod watch;

use self::control::Control;
use self::desk::{Desk, Handle};
use crate::doors::Doors;
use crate::{leader, membership};
use rpc::Services;
use rpc::identity::Role;
use std::path::Path;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The times by which a coordinator acts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    pub leader: leader::Timing,
    pub members: membership::Timing,
}

/// Why a coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    #[error(transparent)]
    Rpc(#[from] rpc::Error),
    #[error("the threads of the control topic cannot be started: {0}")]
    Threads(#[from] std::io::Error),
    #[error("a thread of the control topic has ended without a word")]
    Silent,
}

/// Runs a coordinator until `stop`; one that leads resigns first. Paths of the spec are relative to
/// `folder`. Waits for Kafka as long as it takes.
///
/// # Errors
/// A spec that cannot be used, an address that is taken, a control topic that cannot be trusted.
pub async fn run(node: config::Node, folder: &Path, stop: CancellationToken) -> Result<(), Error> {
    run_timed(node, folder, stop, Timings::default()).await
}

/// As [`run`], by other times than those of the protocol.
///
/// # Errors
/// As [`run`].
pub async fn run_timed(
    node: config::Node,
    folder: &Path,
    stop: CancellationToken,
    timings: Timings,
) -> Result<(), Error> {
    let settings = crate::control::settings(&node, folder)?;
    let protocols = rpc::Protocols::up_to(node.protocol_max)?;
    let Doors { page, server, .. } = Doors::open(&node, folder, Role::Coordinator).await?;
    let address = match node.listen.ends_with(":0") {
        true => server.address().to_string(),
        false => node.address(),
    };
    info!(node = node.node, address, topic = settings.topic(), "coordinator listens");

    // Ends with the person's token, and with the server.
    let stop = stop.child_token();
    let ended = CancellationToken::new();
    let control = Control::start(settings, &node.node, &address)?;
    let secrets_dir = folder.join(&node.secrets_dir);
    let (desk, requests, versions) =
        Desk::new(node.node.clone(), address, control, timings, secrets_dir);
    let handle = Handle::new(requests, versions, ended.clone());
    let (view, ready) = page::of(node.node, handle.clone());
    let showing = page.serve(view, ready, ended.clone().cancelled_owned());
    let services = Services::new()
        .cluster(join::Service::new(handle.clone(), protocols))
        .admin(admin::Service::new(handle));
    let deciding = async {
        let result = desk.run(stop.clone()).await;
        ended.cancel();
        result
    };
    let serving = async {
        let served = server.serve(services, ended.cancelled()).await;
        stop.cancel();
        served
    };
    let (decided, served, ()) = tokio::join!(deciding, serving, showing);
    decided?;
    Ok(served?)
}
