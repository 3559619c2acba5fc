//! Connections that read tables for the router of a task on another node: it asks, they answer. Nothing is lost
//! where one breaks: what it was asked is asked of another one.

mod convert;
mod server;

use super::client::Place;
use super::convert::{Caller, spec_out};
use super::peers::Peers;
use pipeline::Failure;
use pipeline::reading::{Answer, Ask, Conversation, NotRead, OpenReader};
use rpc::v1::chunks_down::Message as Down;
use rpc::{Code, Error, v1};
pub(super) use server::Answers;
use supervision::FailureClass;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Questions that wait for the stream: one is put at a time.
const ASKS_QUEUED: usize = 2;

/// Has a node read tables of a task; the link lives on `runtime`.
#[must_use]
pub(crate) fn start(
    runtime: &Handle,
    peers: Peers,
    place: Place,
    caller: Caller,
    open: OpenReader,
) -> Conversation {
    let (conversation, asked, answers) = Conversation::new();
    runtime.spawn(async move {
        let link = Link { peers, place };
        let lost = tokio::select! {
            // Nobody asks any more.
            () = answers.closed() => return,
            lost = link.live(&open, caller, asked, &answers) => lost,
        };
        let _ = answers.send(Answer::NotRead(NotRead::lost(lost))).await;
    });
    conversation
}

struct Link {
    peers: Peers,
    place: Place,
}

type Streams = (mpsc::Sender<v1::ChunksDown>, Streaming<v1::ChunksUp>);

impl Link {
    /// Until the link breaks.
    async fn live(
        &self,
        open: &OpenReader,
        caller: Caller,
        asked: mpsc::UnboundedReceiver<Ask>,
        answers: &mpsc::Sender<Answer>,
    ) -> Failure {
        match self.connect(open, caller).await {
            Ok((down, up)) => tokio::select! {
                lost = self.listen(up, answers) => lost,
                lost = ask(asked, down) => lost,
            },
            Err(failure) => failure,
        }
    }

    async fn connect(&self, open: &OpenReader, caller: Caller) -> Result<Streams, Failure> {
        let first = v1::OpenReader {
            // As the call says.
            protocol: 0,
            task: open.spec.task.clone(),
            placement_rev: caller.placement_rev,
            spec: spec_out(&open.spec)?,
            owner: caller.node,
            system_id: open.line.system_id,
            timeline: open.line.timeline,
        };
        let opened = self.peers.open(&self.place, rpc::CHUNKS, |mut client, protocol| {
            let (down, messages) = mpsc::channel(ASKS_QUEUED);
            let first = Down::Open(v1::OpenReader { protocol, ..first.clone() });
            async move {
                // It has room: nothing was sent before.
                let _ = down.try_send(convert::down(first));
                let up = client.chunks(ReceiverStream::new(messages)).await?.into_inner();
                Ok((down, up))
            }
        });
        // A release that does not know the call says so.
        let is_old = |error: &Error| matches!(error.code, Code::Protocol | Code::Unsupported);
        opened.await.map_err(|it| if is_old(&it) { self.too_old() } else { self.refused(&it) })
    }

    async fn listen(
        &self,
        mut up: Streaming<v1::ChunksUp>,
        answers: &mpsc::Sender<Answer>,
    ) -> Failure {
        loop {
            let answer = match up.message().await {
                Ok(Some(v1::ChunksUp { message: Some(said) })) => {
                    convert::answer_in(&self.place.node, said)
                }
                Ok(Some(_)) => Err("it said something of a later release".into()),
                Ok(None) => Err("the other end has closed it".into()),
                Err(status) => Err(Error::from(status).to_string()),
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(why) => return self.broke(&why),
            };
            if answers.send(answer).await.is_err() {
                return self.broke("nobody listens any more");
            }
        }
    }

    fn too_old(&self) -> Failure {
        Failure::transient(format!(
            "node {} cannot read tables for others: that needs protocol {}; renew it, or have `placement.snapshot` \
             of the task leave it out",
            self.place.node,
            rpc::CHUNKS
        ))
    }

    fn refused(&self, error: &Error) -> Failure {
        let cause = format!("node {} does not read tables: {error}", self.place.node);
        // Whatever it is, another node or a later attempt may do: the retry windows decide.
        let class = if error.passes() { FailureClass::Connection } else { FailureClass::Transient };
        Failure { class, cause }
    }

    fn broke(&self, why: &str) -> Failure {
        let cause = format!("the link to the reader of tables on node {}: {why}", self.place.node);
        Failure { class: FailureClass::Connection, cause }
    }
}

/// Sends what is asked. Ends with who asks; where the stream is gone, its other half says why.
async fn ask(
    mut asked: mpsc::UnboundedReceiver<Ask>,
    down: mpsc::Sender<v1::ChunksDown>,
) -> Failure {
    while let Some(ask) = asked.recv().await {
        if down.send(convert::ask_out(ask)).await.is_err() {
            return std::future::pending().await;
        }
    }
    Failure::transient("nobody asks any more")
}
