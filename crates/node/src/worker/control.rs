//! Following the control topic: a thread reads, everybody sees the last state.

use crate::control::patiently;
use crate::state::{Changed, ClusterState};
use kafka::control::{ControlSettings, ensure_control};
use rpc::{Code, Error};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tracing::warn;

/// After an error that may pass.
const PAUSE: Duration = Duration::from_millis(500);

/// A leader that commits no sign of life for eight seconds leads no more. Whoever is still told by a leader that it
/// leads, and has read nothing for longer than that, does not reach Kafka.
const SILENCE_MAX: Duration = Duration::from_secs(9);

/// Whether this node hears what is written to the control topic. Clones are one.
#[derive(Clone, Debug)]
pub struct Hearing {
    heard: watch::Sender<Instant>,
    deaf: watch::Sender<bool>,
}

impl Default for Hearing {
    fn default() -> Self {
        Self { heard: watch::Sender::new(Instant::now()), deaf: watch::Sender::new(false) }
    }
}

impl Hearing {
    /// Something was read.
    fn note(&self) {
        self.heard.send_replace(Instant::now());
        self.deaf.send_if_modified(std::mem::take);
    }

    /// Somebody leads: if nothing of it is heard, the node is deaf from here on, until something is read.
    pub(super) fn is_deaf_to_a_leader(&self) -> bool {
        let deaf = SILENCE_MAX < self.heard.borrow().elapsed();
        if deaf {
            self.deaf.send_replace(true);
        }
        deaf
    }

    /// Until something is read, where the node is deaf.
    pub(super) async fn restored(&self) {
        // The sender is our own: it is there.
        let _ = self.deaf.subscribe().wait_for(|deaf| !deaf).await;
    }

    /// Whether the node is deaf.
    #[must_use]
    pub fn deaf(&self) -> watch::Receiver<bool> {
        self.deaf.subscribe()
    }
}

/// The control topic as it is read.
pub struct Following {
    pub state: watch::Receiver<Arc<ClusterState>>,
    pub hearing: Hearing,
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
    let hearing = Hearing::default();
    let hears = hearing.clone();
    std::thread::Builder::new()
        .name("control reader".into())
        .spawn(move || {
            if let Err(error) = read(&settings, &states, &hears) {
                // Whoever waited may have ended.
                let _ = told.send(error.to_string());
            }
        })
        .map_err(|error| {
            let cause = format!("no thread for the control topic: {error}");
            Error::new(Code::Internal, cause, "raise the process limit")
        })?;
    Ok(Following { state, hearing, lost })
}

fn read(
    settings: &ControlSettings,
    states: &watch::Sender<Arc<ClusterState>>,
    hearing: &Hearing,
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
        hearing.note();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_no_leader_is_deaf_until_something_is_read() {
        let hearing = Hearing::default();
        assert!(!hearing.is_deaf_to_a_leader());
        let Some(long_ago) = Instant::now().checked_sub(SILENCE_MAX * 2) else { return };
        hearing.heard.send_replace(long_ago);
        assert!(!*hearing.deaf().borrow(), "without a leader silence says nothing");
        assert!(hearing.is_deaf_to_a_leader());
        assert!(*hearing.deaf().borrow());
        hearing.note();
        assert!(!*hearing.deaf().borrow());
        assert!(!hearing.is_deaf_to_a_leader());
    }
}
