//! The meta lane's thread: its calls block, the task awaits.

use crate::failure::Failure;
use kafka::meta::{MetaLane, MetaRecord, MetaState};
use kafka::names::Names;
use kafka::settings::Settings;
use std::sync::mpsc;
use supervision::FailureClass;
use tokio::sync::oneshot;

/// The task's hold on its meta lane. Clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Meta {
    orders: mpsc::Sender<Order>,
}

struct Order {
    records: Vec<MetaRecord>,
    done: oneshot::Sender<Result<(), kafka::Error>>,
}

impl Meta {
    /// Opens the meta lane, which fences every older owner of the task, and reads its state. `anew`:
    /// what cannot be read of it does not count.
    ///
    /// # Errors
    /// When Kafka does not answer, does not permit it, or the state cannot be trusted.
    pub async fn open(
        settings: Settings,
        names: Names,
        revision: u64,
        anew: bool,
    ) -> Result<(Self, MetaState), Failure> {
        let open = if anew { MetaLane::open_anew } else { MetaLane::open };
        let (orders, queue) = mpsc::channel::<Order>();
        let (opened, state) = oneshot::channel();
        std::thread::Builder::new()
            .name("meta lane".into())
            .spawn(move || match open(&settings, &names, revision) {
                Ok((lane, state)) => {
                    // Whoever asked may have gone: then the queue ends at once, too.
                    let _ = opened.send(Ok(state));
                    serve(lane, &queue);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|error| Failure::transient(format!("no thread for the meta lane: {error}")))?;
        let state = state.await.map_err(|_| panicked())??;
        Ok((Self { orders }, state))
    }

    /// Writes records in one transaction; resolves once they are durable.
    ///
    /// # Errors
    /// [`FailureClass::Fenced`]: another process owns the task. Others may pass.
    pub async fn write(&self, records: Vec<MetaRecord>) -> Result<(), Failure> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order { records, done }).map_err(|_| panicked())?;
        Ok(answer.await.map_err(|_| panicked())??)
    }
}

fn serve(mut lane: MetaLane, queue: &mpsc::Receiver<Order>) {
    while let Ok(Order { records, done }) = queue.recv() {
        // The caller decides what a failure means; it may have gone.
        let _ = done.send(lane.write(&records));
    }
}

fn panicked() -> Failure {
    let cause = "the meta lane's thread has ended; see the log line of the panic";
    Failure { class: FailureClass::Fatal, cause: cause.into() }
}
