//! Streams for people who watch: now, whenever something changes, and once a second.

use super::desk::{Desk, Handle};
use rpc::Error;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a look at the desk gives: `None` ends the stream.
pub(super) type Look<T> = fn(&Desk, &str) -> Result<Option<T>, Error>;

/// Shows `object` until there is nothing to see any more, or nobody looks.
pub(super) fn watch<T: PartialEq + Clone + Send + 'static>(
    handle: Handle,
    object: String,
    look: Look<T>,
) -> ReceiverStream<Result<T, Status>> {
    let (shown, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let stop = handle.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = shown.closed() => {}
            () = show(handle, object, look, shown.clone()) => {}
        }
    });
    ReceiverStream::new(stream)
}

async fn show<T: Send + 'static>(
    mut handle: Handle,
    object: String,
    look: Look<T>,
    shown: mpsc::Sender<Result<T, Status>>,
) {
    loop {
        handle.versions.mark_unchanged();
        let asked = object.clone();
        let seen = handle.ask(move |desk| look(desk, &asked)).await.flatten();
        let item = match seen {
            Ok(Some(seen)) => Ok(seen),
            Ok(None) => return,
            Err(error) => Err(Status::from(error)),
        };
        let is_end = item.is_err();
        if shown.send(item).await.is_err() || is_end {
            return;
        }
        tokio::time::sleep(PAUSE_MIN).await;
        let changed = handle.versions.changed();
        if let Ok(Err(_)) = tokio::time::timeout(PAUSE_MAX - PAUSE_MIN, changed).await {
            return;
        }
    }
}
