//! `distributary coordinator` and `distributary worker`: a node of a cluster, until it is told to end.

use crate::arguments::NodeConfig;
use crate::exit::Exit;
use crate::output::Output;
use crate::run::stop_on_signals;
use crate::{report, spec};
use config::{LoadError, Node, Problems, Role};
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) fn coordinator(arguments: &NodeConfig, output: Output) -> io::Result<Exit> {
    live(arguments, Role::Coordinator, output, async |node, folder, stop| {
        node::coordinator::run(node, &folder, stop).await
    })
}

pub(crate) fn worker(arguments: &NodeConfig, output: Output) -> io::Result<Exit> {
    live(arguments, Role::Worker, output, async |node, folder, stop| {
        node::worker::run(node, &folder, stop).await
    })
}

fn live<E: Display>(
    arguments: &NodeConfig,
    role: Role,
    output: Output,
    run: impl AsyncFnOnce(Node, PathBuf, CancellationToken) -> Result<(), E>,
) -> io::Result<Exit> {
    let path = &arguments.config;
    let node = match Node::load(path, role) {
        Ok(node) => node,
        Err(LoadError::Wrong { problems: Problems(problems), .. }) => {
            report::problems(output, path, &problems);
            return Ok(Exit::Wrong);
        }
        Err(error) => {
            report::error(output, &error.to_string(), "");
            return Ok(Exit::Wrong);
        }
    };
    spec::warn_of_literals(&node.literal_secrets());
    let name = node.node.clone();
    // A node serves while its tasks work, each of them on a thread of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        let version = env!("CARGO_PKG_VERSION");
        info!(node = name, role = %role, version, "node starts");
        Ok::<_, io::Error>(run(node, spec::folder(path), stop.clone()).await.map(|()| stop))
    })?;
    // What still waits for a server must not hold the process back.
    runtime.shutdown_background();
    match ended {
        Ok(stop) => {
            if !stop.is_cancelled() {
                warn!(node = name, "node ends without having been told to");
                return Ok(Exit::Failed);
            }
            info!(node = name, "node ends");
            Ok(Exit::Done)
        }
        Err(error) => {
            report::error(output, &format!("{role} `{name}` cannot go on: {error}"), "");
            Ok(Exit::Failed)
        }
    }
}
