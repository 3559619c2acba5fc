//! Heartbeats: while the stream runs, consumers are told at intervals that the task lives (`sink.heartbeat_topic`).

use crate::meta::Meta;
use record::told::Teller;
use std::sync::Arc;
use std::time::Duration;
use supervision::FailureClass;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::warn;

/// Tells until it is dropped.
#[derive(Debug)]
pub struct Pulse(JoinHandle<()>);

impl Pulse {
    /// Tells at once and then after each `interval`. One that cannot be written is left out.
    #[must_use]
    pub fn begin(meta: Meta, teller: Arc<Teller>, interval: Duration) -> Self {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(tokio::spawn(async move {
            loop {
                ticks.tick().await;
                let Err(failure) = meta.beat(Arc::clone(&teller)).await else { continue };
                warn!(cause = failure.cause, "a heartbeat could not be written");
                // What that means is for those who write more than heartbeats.
                if failure.class == FailureClass::Fenced {
                    return;
                }
            }
        }))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.abort();
    }
}
