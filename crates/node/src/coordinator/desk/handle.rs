//! What the services hold of the desk, and what they may say to it.

use super::{Desk, orders};
use crate::membership::Registration;
use orders::{Done, Order};
use rpc::v1::{Beat, CoordinatorMessage, TablesSeen, TaskReport};
use rpc::{Code, Error};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

/// The way out of a worker's stream.
pub(in super::super) type Outward = mpsc::Sender<Result<CoordinatorMessage, Status>>;

pub(super) type Reply = Result<Done, Error>;

pub(in super::super) enum Request {
    /// Look at what is there.
    Ask(Box<dyn FnOnce(&Desk) + Send>),
    Change(Change),
    /// A worker has said something.
    Heard {
        node: String,
        connection: u64,
        said: Heard,
    },
}

/// An order of a person.
pub(in super::super) struct Change {
    pub(super) order: Order,
    pub(super) by: String,
    reply: oneshot::Sender<Reply>,
}

impl Change {
    pub(super) fn answer(self, reply: Reply) {
        // Whoever has asked may be gone.
        let _ = self.reply.send(reply);
    }
}

pub(in super::super) enum Heard {
    Join(Join),
    /// It registers a second time over the same stream.
    Again,
    Beat(Beat),
    Report(Box<TaskReport>),
    Tables(Box<TablesSeen>),
    Leaving,
    Closed,
}

/// A worker that registers, and the way to it.
pub(in super::super) struct Join {
    pub(in super::super) registration: Registration,
    pub(in super::super) protocol: u32,
    pub(in super::super) outward: Outward,
    /// Ends what listens to the worker.
    pub(in super::super) ended: DropGuard,
}

/// The desk, as the services see it.
#[derive(Clone)]
pub(in super::super) struct Handle {
    pub(in super::super) requests: mpsc::Sender<Request>,
    /// Another number whenever something has changed.
    pub(in super::super) versions: watch::Receiver<u64>,
    /// The desk has ended.
    pub(in super::super) stop: CancellationToken,
}

impl Handle {
    pub(in super::super) fn new(
        requests: mpsc::Sender<Request>,
        versions: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Self {
        Self { requests, versions, stop }
    }

    /// What a look at the desk gives.
    ///
    /// # Errors
    /// The desk has ended, or does not know yet what there is.
    pub(in super::super) async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Desk) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |desk: &Desk| {
            let seen = desk.is_present().then(|| look(desk)).ok_or_else(Error::starting);
            let _ = reply.send(seen);
        });
        self.requests.send(Request::Ask(look)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// What became of an order.
    ///
    /// # Errors
    /// Why it was not carried out.
    pub(in super::super) async fn order(&self, order: Order, by: String) -> Reply {
        let (reply, answer) = oneshot::channel();
        let change = Change { order, by, reply };
        self.requests.send(Request::Change(change)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

fn ended() -> Error {
    Error::new(Code::Unreachable, "this coordinator is about to end", "ask another one")
}
