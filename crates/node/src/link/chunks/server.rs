//! Tables of other nodes' tasks that this node reads.
//!
//! Only where the control topic says so, and only for the node that it has placed the router of the task on. A
//! connection that reads can write nothing, and what it has read decides nothing before the router has taken it.

use super::convert;
use crate::link::convert::{refused, spec_in};
use crate::link::server::{LinkService, first};
use crate::state::Placement;
use pipeline::reading::{self, Answer, Ask, Line, OpenReader};
use rpc::v1::chunks_down::Message as Down;
use rpc::{Code, Error, Principal, v1};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Status, Streaming};
use tracing::{debug, info};

/// Pieces of rows that wait for the stream.
const ANSWERS_QUEUED: usize = 4;

pub(in crate::link) type Answers = BoxStream<v1::ChunksUp>;

impl LinkService {
    pub(in crate::link) async fn begin_reader(
        &self,
        request: Request<Streaming<v1::ChunksDown>>,
    ) -> Result<Answers, Status> {
        if self.peers.protocols().max < rpc::CHUNKS {
            let cause = "this node reads no tables for others: it speaks an older protocol";
            return Err(Error::new(Code::Unsupported, cause, "ask another node").into());
        }
        let principal = Principal::of(&request)?.clone();
        let mut down = request.into_inner();
        let first = first(&mut down, "a reader").await?;
        let Some(Down::Open(open)) = first.and_then(|it| it.message) else {
            return Err(refused("the first message must open a reader").into());
        };
        principal.claims(&open.owner)?;
        self.peers.protocols().speaks(open.protocol)?;
        let placement = self.placement(&open.task, open.placement_rev).await?;
        self.has_reader(&open, &placement)?;
        Ok(self.run_reader(&open, down)?)
    }

    fn has_reader(&self, open: &v1::OpenReader, placement: &Placement) -> Result<(), Error> {
        let is_placed = placement.snapshot.iter().flatten().any(|node| *node == self.node);
        if is_placed && placement.router() == Some(&open.owner) {
            return Ok(());
        }
        let cause = format!(
            "the tables of task `{}` are to be read by {} for {}, not by {} for {}",
            open.task,
            placement.snapshot.as_ref().map_or("the router's node".into(), |it| it.join(", ")),
            placement.router().unwrap_or("no node"),
            self.node,
            open.owner
        );
        Err(Error::new(Code::Fenced, cause, "read the control topic"))
    }

    fn run_reader(
        &self,
        open: &v1::OpenReader,
        down: Streaming<v1::ChunksDown>,
    ) -> Result<Answers, Error> {
        let spec = spec_in(&open.spec, &open.task)?;
        let unconfined = spec.unconfined(&self.secrets_dir);
        if !unconfined.is_empty() {
            return Err(Error::spec(config::Problems(unconfined)));
        }
        let line = Line { system_id: open.system_id, timeline: open.timeline };
        let (asks, asked) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::channel::<Answer>(ANSWERS_QUEUED);
        let closed = answers.clone();
        let reader = OpenReader { spec: Arc::new(spec), line };
        reading::host(&reader, &self.secrets_dir, asked, answers).map_err(|failure| {
            Error::new(Code::State, failure.cause, "give this node what the spec refers to")
        })?;
        info!(task = open.task, owner = open.owner, "tables are read here");
        tokio::spawn(listen(open.task.clone(), down, asks, closed));
        let told = ReceiverStream::new(answered).map(|answer| Ok(convert::answer_out(answer)));
        Ok(Box::pin(told))
    }
}

/// Hands on what is asked. Dropping `asks` ends the reader.
async fn listen(
    task: String,
    mut down: Streaming<v1::ChunksDown>,
    asks: mpsc::UnboundedSender<Ask>,
    answers: mpsc::Sender<Answer>,
) {
    loop {
        let message = tokio::select! {
            message = down.message() => message,
            // The stream's other half was dropped: nobody listens any more.
            () = answers.closed() => return,
        };
        let Ok(Some(v1::ChunksDown { message })) = message else {
            debug!(task, "a reader of tables is not asked any more");
            return;
        };
        // A second opening, or something of a later release, which it must not send.
        let Some(ask) = message.and_then(convert::ask_in) else { return };
        if asks.send(ask).is_err() {
            return;
        }
    }
}
