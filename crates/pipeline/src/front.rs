//! One life of the front: acknowledger, router, and what feeds the router.

use crate::acknowledger::{self, Acknowledger, Flush, Positions, WriteWatermark};
use crate::batch::{
    Advanced, Copied, Durable, Held, HoldForMark, LaneBatch, LaneReady, LaneStanding, MarkReached,
    Marked, Retire, SnapshotRead, Tell,
};
use crate::copying::{self, Copying};
use crate::decoder::Decoder;
use crate::describe::Describe;
use crate::descriptions::Descriptions;
use crate::failure::Failure;
use crate::guardian::Guardian;
use crate::hosts::{Host, Hosts, Upstream};
use crate::lanes::Lanes;
use crate::progress::Progress;
use crate::reader::Order;
use crate::router::Router;
use crate::snapshot::{self, Snapshot};
use crate::upstream::{
    Inlet, OpenStage, ReadFrom, Sink, Source, SourceParts, Told, UpstreamStage, failing,
};
use crate::upstream::{decoding, spool};
use actix::{Actor, Addr, Recipient};
use postgres::settings::Settings;
use record::plan::TablePlan;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use supervision::{Budget, Credit, Lifeline, Limits, Stage, StageFailed};
use telemetry::traces::Sampler;
use tokio::sync::{oneshot, watch};
use wal::{ChangeBatch, Lsn};

/// What every front of a task shares.
pub struct Context<'a> {
    pub task: &'a str,
    pub generation: u64,
    pub lanes: &'a Lanes,
    pub lanes_count: u8,
    pub budget: &'a Budget,
    pub positions: &'a Positions,
    pub progress: &'a Arc<Progress>,
    pub guardian: &'a Addr<Guardian>,
    /// Somebody waits for each position.
    pub eager: bool,
    /// Consumers are told of source transactions.
    pub counts: bool,
    /// DDL is left out as DTS does it.
    pub omits_ddl: bool,
    /// Where the revision ends; `None`: it goes on.
    pub end: Option<Lsn>,
    /// Later revisions, and from where on they are in force.
    pub marks: Vec<(Lsn, Arc<Marked>)>,
    pub descriptions: Descriptions,
}

/// A running front.
pub struct Front {
    pub generation: u64,
    router: Addr<Router>,
    acknowledger: Addr<Acknowledger>,
    feed: Feed,
}

enum Feed {
    /// The decoder, unless it is where the source is.
    Stream {
        source: Source,
        decoder: Option<Addr<Decoder>>,
        /// How much may be read in a second.
        limits: watch::Sender<Limits>,
    },
    Snapshot(Addr<Snapshot>),
}

/// How to feed a front from the stream.
pub struct StreamFeed {
    /// Of the reader; a decoder elsewhere is opened by the same.
    pub open: OpenStage,
    pub settings: Settings,
    /// Where a reader here spools transactions in progress.
    pub data_dir: PathBuf,
    pub describe: Rc<dyn Describe>,
    pub write: WriteWatermark,
    /// Where the stages before the router run.
    pub places: Upstream,
    pub hosts: Rc<dyn Hosts>,
}

impl Context<'_> {
    /// A front over the replication stream.
    #[must_use]
    pub fn stream(&self, feed: StreamFeed) -> Front {
        let StreamFeed { open, settings, data_dir, describe, write, places, hosts } = feed;
        let (confirmed, watched) = watch::channel(open.confirmed);
        let (limits, limited) = watch::channel(open.limits());
        let (router, acknowledger) = self.middle(write, confirmed);
        let start = |stage, host: &Host| match host {
            Host::Here => None,
            Host::Node(node) => {
                let open = OpenStage { stage, ..open.clone() };
                Some(hosts.start_stage(node, open, self.budget.clone()))
            }
            Host::Nowhere => {
                let cause = format!("no node can have the {stage} of the task");
                Some(failing(Failure::transient(cause)))
            }
        };
        let (decoded, learned) = (router.clone().recipient(), router.clone().recipient());
        let progress = Arc::clone(self.progress);
        if let Some(start) = start(UpstreamStage::Decoder, &places.decoder) {
            let sink = Sink::Router { learned, decoded, describe };
            let line = self.line(Stage::Decoder);
            let told = Told { confirmed: watched, limits: limited };
            let source = Source::Elsewhere(Inlet::new(start, sink, told, progress, line).start());
            let feed = Feed::Stream { source, decoder: None, limits };
            return self.begin(router, acknowledger, feed);
        }
        let line = self.line(Stage::Decoder);
        let core = wal::decoder::Decoder::new(decoding(&open));
        let spool = spool(&open.spec);
        let decoder = Decoder::new(core, describe, decoded, learned, spool, line).start();
        let from = match start(UpstreamStage::Reader, &places.reader) {
            None => {
                let (budget, spools) = (self.budget.clone(), open.spools(&data_dir));
                ReadFrom::Here { open: open.stream(settings), budget, spools }
            }
            Some(start) => ReadFrom::Elsewhere(start),
        };
        let parts = SourceParts {
            confirmed: watched,
            limits: limited,
            decoder: decoder.clone().recipient(),
            eager: self.eager,
            progress,
            lifeline: self.line(Stage::Reader),
        };
        let source = Source::begin(from, parts);
        let feed = Feed::Stream { source, decoder: Some(decoder), limits };
        self.begin(router, acknowledger, feed)
    }

    /// A front over what has no place in the stream. `make` gets the router and the snapshot's lifeline.
    #[must_use]
    pub fn snapshot(
        &self,
        work: snapshot::Work,
        make: impl FnOnce(Addr<Router>, Recipient<SnapshotRead>, Lifeline) -> snapshot::Parts,
    ) -> Front {
        // The snapshot confirms nothing: the slot stands where it was made.
        let write: WriteWatermark = Rc::new(|_, _| Box::pin(std::future::ready(Ok(()))));
        let (router, acknowledger) = self.middle(write, watch::channel(Lsn::ZERO).0);
        let guardian = self.guardian.clone().recipient();
        let parts = make(router.clone(), guardian, self.line(Stage::Snapshot));
        let snapshot = Snapshot::new(parts, work).start();
        self.begin(router, acknowledger, Feed::Snapshot(snapshot))
    }

    fn line(&self, stage: Stage) -> Lifeline {
        let guardian: Recipient<StageFailed> = self.guardian.clone().recipient();
        Lifeline::new(guardian, self.generation, stage)
    }

    fn middle(
        &self,
        write: WriteWatermark,
        confirmed: watch::Sender<Lsn>,
    ) -> (Addr<Router>, Addr<Acknowledger>) {
        let guardian: Recipient<Advanced> = self.guardian.clone().recipient();
        let acknowledger = Acknowledger::new(acknowledger::Parts {
            generation: self.generation,
            lanes: self.lanes_count,
            eager: self.eager,
            positions: Rc::clone(self.positions),
            write,
            confirmed,
            guardian,
            sampler: Sampler::new(self.task),
            lifeline: self.line(Stage::Acknowledger),
        })
        .start();
        let producers: Vec<Option<Recipient<LaneBatch>>> = self.lanes.producers();
        let line = self.line(Stage::Router);
        let routed = acknowledger.clone().recipient();
        let router = Router::new(self.generation, self.end, producers, routed, line);
        let router =
            router.marked(self.marks.clone()).counting(self.counts).omitting(self.omits_ddl);
        let router = router.describing(self.descriptions.clone()).start();
        (router, acknowledger)
    }

    fn begin(&self, router: Addr<Router>, acknowledger: Addr<Acknowledger>, feed: Feed) -> Front {
        let front = Front { generation: self.generation, router, acknowledger, feed };
        self.lanes.attach(None, &front.listeners());
        front
    }
}

impl Front {
    /// Reads tables while this front streams.
    ///
    /// # Errors
    /// When what was written down of them cannot be read.
    pub fn copy(
        &self,
        context: &Context<'_>,
        make: impl FnOnce(Addr<Router>, Recipient<Copied>, Lifeline) -> copying::Parts,
    ) -> Result<Addr<Copying>, Failure> {
        let guardian = context.guardian.clone().recipient();
        let parts = make(self.router.clone(), guardian, context.line(Stage::Snapshot));
        Ok(Copying::new(parts)?.start())
    }

    /// Whether it follows the stream.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(self.feed, Feed::Stream { .. })
    }

    fn listeners(&self) -> [Recipient<Durable>; 2] {
        [self.router.clone().recipient(), self.acknowledger.clone().recipient()]
    }

    /// A lane has lost its owner.
    pub fn lane_lost(&self, lane: u8) {
        self.acknowledger.do_send(LaneStanding { lane, is_open: false });
    }

    /// A lane has a new owner: it hears from this front, and gets what is not durable.
    pub fn lane_ready(&self, lane: u8, lanes: &Lanes) {
        self.acknowledger.do_send(LaneStanding { lane, is_open: true });
        lanes.attach(Some(lane), &self.listeners());
        if let Some(producer) = lanes.producer(lane) {
            self.router.do_send(LaneReady { lane, producer });
        }
    }

    /// Has the router hold what commits from a position on, which it says, not before `at_least`.
    ///
    /// # Errors
    /// When the router has ended.
    pub async fn hold(&self, at_least: Lsn) -> Result<Held, Failure> {
        let (answer, held) = oneshot::channel();
        self.router.do_send(HoldForMark { at_least, answer });
        held.await.map_err(|_| Failure::transient("the router ended before a mark"))
    }

    /// What is held goes on by the revision that begins there.
    pub fn reached(&self, reached: MarkReached) {
        self.router.do_send(reached);
    }

    /// Hands statements to the lanes beside the stream; gives the number of their batch.
    ///
    /// # Errors
    /// When the router has ended.
    pub async fn tell(
        &self,
        batch: ChangeBatch,
        plans: Vec<Option<Arc<TablePlan>>>,
        credit: Credit,
    ) -> Result<u64, Failure> {
        let (answer, routed) = oneshot::channel();
        self.router.do_send(Tell { batch, plans, credit, answer });
        routed.await.map_err(|_| Failure::transient("the router ended before statements"))
    }

    /// What may be read in a second from now on.
    pub fn limit(&self, to: Limits) {
        if let Feed::Stream { limits, .. } = &self.feed {
            limits.send_if_modified(|limits| std::mem::replace(limits, to) != to);
        }
    }

    /// Takes nothing more in.
    pub fn pause(&self) {
        if let Feed::Stream { source, .. } = &self.feed {
            source.obey(Order::Pause);
        }
    }

    /// Confirms whatever is durable now; [`Advanced`] follows.
    pub fn flush(&self) {
        self.acknowledger.do_send(Flush);
    }

    /// Ends this life. Waits up to `patience` for the reader to take leave of the server.
    pub async fn retire(self, patience: Duration) {
        match &self.feed {
            Feed::Stream { source, decoder, .. } => {
                if let Some(decoder) = decoder {
                    decoder.do_send(Retire);
                }
                source.obey(Order::Close);
                let until = tokio::time::Instant::now() + patience;
                while source.connected() && tokio::time::Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                source.retire();
            }
            Feed::Snapshot(snapshot) => snapshot.do_send(Retire),
        }
        self.router.do_send(Retire);
        self.acknowledger.do_send(Retire);
    }
}
