//! Following the control topic: a thread reads, everybody sees the last state.

use crate::state::{Changed, ClusterState};
use kafka::control::{ControlReader, ControlSettings, ensure_control};
use rpc::{Code, Error};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tracing::{debug, warn};

/// How long one look may take: the thread ends so soon after nobody listens any more.
const POLL: Duration = Duration::from_millis(500);
/// A first pause after an error that may pass.
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
    let control = &node.control;
    let settings =
        ControlSettings::new(&control.brokers, &control.prefix, &control.security, folder)
            .map_err(refused)?;
    let (states, state) = watch::channel(Arc::new(ClusterState::default()));
    let (told, lost) = oneshot::channel();
    std::thread::Builder::new()
        .name("control reader".into())
        .spawn(move || {
            if let Err(cause) = read(&settings, &states) {
                // Whoever waited may have ended.
                let _ = told.send(cause);
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
) -> Result<(), String> {
    // Whoever comes first makes the topic.
    while let Err(error) = ensure_control(settings) {
        if matches!(error, kafka::Error::InternalTopic { .. } | kafka::Error::Config(_)) {
            return Err(error.to_string());
        }
        warn!(%error, "the control topic cannot be looked at yet");
        if states.is_closed() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    let mut reader = ControlReader::new(settings).map_err(|error| error.to_string())?;
    let mut state = ClusterState::default();
    while !states.is_closed() {
        let entries = match reader.poll(POLL) {
            Ok(entries) => entries,
            Err(error @ kafka::Error::InternalTopic { .. }) => return Err(error.to_string()),
            Err(error) => {
                debug!(%error, "the control topic cannot be read at the moment");
                std::thread::sleep(PAUSE);
                continue;
            }
        };
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
    }
    Ok(())
}
