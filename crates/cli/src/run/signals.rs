//! Ctrl-C and SIGTERM: the first asks for the end, the second takes it.

use crate::exit::Exit;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// From now on a signal cancels `stop`; a second one ends the process.
///
/// # Errors
/// When the system takes no handler.
pub(crate) fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            }
        };
        let name = next().await;
        info!(
            signal = name,
            "stopping; what is under way is finished, a second signal ends at once"
        );
        stop.cancel();
        let name = next().await;
        warn!(signal = name, "ended at once; the next run goes on from what is committed");
        std::process::exit(Exit::Failed.into());
    });
    Ok(())
}
