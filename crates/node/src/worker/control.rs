//! Following the control topic: a thread reads, everybody sees the last state.

use crate::control::patiently;
use crate::state::{Changed, ClusterState};
use kafka::control::{ControlSettings, ensure_control};
use rpc::{Code, Error};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tracing::warn;

/// After an error that may pass.
const PAUSE: Duration = Duration::from_millis(500);

/// The control topic as it is read.
pub struct Following {
    pub state: watch::Receiver<Arc<ClusterState>>,
    /// Why it is not followed any more: something was taken from it.
    pub lost: oneshot::Receiver<String>,
}

/// Begins to follow.
///
/// # Errors
/// When the settings cannot be used. That no broker answers is no error: it is waited for.
pub fn follow(node: &config::Node, folder: &Path) -> Result<Following, Error> {
    let refused = |error: kafka::Error| {
        Error::new(Code::Argument, error.to_string(), "correct `control` of the node spec")
    };
    let settings = crate::control::settings(node, folder).map_err(refused)?;
    let (states, state) = watch::channel(Arc::new(ClusterState::default()));
    let (told, lost) = oneshot::channel();
    std::thread::Builder::new()
        .name("control reader".into())
        .spawn(move || {
            if let Err(error) = read(&settings, &states) {
                // Whoever waited may have ended.
                let _ = told.send(error.to_string());
            }
        })
        .map_err(|error| {
            let cause = format!("no thread for the control topic: {error}");
            Error::new(Code::Internal, cause, "raise the process limit")
        })?;
    Ok(Following { state, lost })
}

fn read(
    settings: &ControlSettings,
    states: &watch::Sender<Arc<ClusterState>>,
) -> Result<(), kafka::Error> {
    let is_closed = || states.is_closed();
    let passes = |error: &kafka::Error| {
        !matches!(error, kafka::Error::InternalTopic { .. } | kafka::Error::Config(_))
    };
    // Whoever comes first makes the topic.
    if patiently(PAUSE, is_closed, passes, || ensure_control(settings))?.is_none() {
        return Ok(());
    }
    let mut state = ClusterState::default();
    crate::control::follow(settings, PAUSE, is_closed, |entries| {
        let mut changed = false;
        for entry in entries {
            match state.apply(entry.offset, &entry.key, entry.value.as_deref()) {
                Ok(Changed::Nothing) => {}
                Ok(_) => changed = true,
                // I8: not obeyed.
                Err(unusable) => warn!(%unusable, "a control record is not obeyed"),
            }
        }
        if changed {
            states.send_replace(Arc::new(state.clone()));
        }
        true
    })
}
