//! Where the stages around a router run: in its process, or on another node. What carries orders there is not
//! this package's business.

use crate::chunk::asked::CopyOrder;
use crate::commit::CommitBudget;
use crate::failure::Failure;
use crate::lane::{LaneThread, OpenSink};
use crate::link::Receiver;
use crate::misfit::Misfits;
use crate::planner::Pins;
use crate::producer::StartLane;
use crate::progress::Progress;
use crate::reading::{Conversation, OpenReader};
use crate::upstream::{self, OpenStage};
use kafka::limits::Limits;
use kafka::names::{LaneId, Names};
use kafka::settings::Settings;
use record::encode::Encoder;
use record::plan::TaskPlan;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use supervision::Budget;
use telemetry::traces::Trace;
use wal::Position;

/// Where a stage or a lane shall run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    Here,
    /// The node of this name.
    Node(String),
    /// No node can take it: it waits.
    Nowhere,
}

/// One life of a lane, and all that another node needs to know for it.
#[derive(Clone, Debug)]
pub struct OpenLane {
    /// The spec in force, whose secrets are references.
    pub spec: Arc<config::Task>,
    pub lane: u8,
    pub life: u64,
    pub revision: u64,
    /// Where the revision begins: what is not above it is another lane's business.
    pub floor: Position,
    /// `server_version_num` of the source, where records tell it; else 0.
    pub server_version: u32,
    /// What the lane holds does not count.
    pub anew: bool,
    /// Lanes of the revision.
    pub routed: u8,
    /// Partitions of each topic so far.
    pub pins: Pins,
    /// Header of calls that belong to its opening (W3C Trace Context).
    pub traceparent: Option<String>,
}

/// Where the stages before the router shall run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    pub reader: Host,
    pub decoder: Host,
}

/// Says where stages and lanes run, and starts them there.
pub trait Hosts {
    /// Where the stages before the router shall run now.
    fn upstream(&self) -> Upstream;

    /// A stage before the router on another node. What comes from there is paid from `budget`.
    fn start_stage(&self, node: &str, open: OpenStage, budget: Budget) -> upstream::Start;

    /// Where a lane shall run now.
    fn of(&self, lane: u8) -> Host;

    /// Whether a node that has had lanes is taken for dead. It may live: who opens its lanes fences it.
    fn is_gone(&self, _: &str) -> bool {
        false
    }

    /// A lane on another node. `progress` is told what it writes.
    fn start(&self, node: &str, open: OpenLane, progress: Arc<Progress>) -> StartLane;

    /// Where tables are read while the task streams: the connections are spread over these. None: no node may do it.
    fn chunk_readers(&self) -> Vec<Host> {
        vec![Host::Here]
    }

    /// A connection that reads tables, on another node.
    fn start_reader(&self, node: &str, _: OpenReader) -> Conversation {
        Conversation::failing(no_node(node))
    }

    /// Has the former owner of the task, if one may still run its front, end it in good order; resolves once it has,
    /// or is not waited for any more: then it is fenced. Polled once what a front needs is prepared. `trace`: of the start.
    fn handed_over(&self, _trace: &Trace) -> Option<Pin<Box<dyn Future<Output = ()> + '_>>> {
        None
    }

    /// Tables that somebody asked to have read again while the task streams, until that is done.
    fn copies(&self) -> Vec<CopyOrder> {
        Vec::new()
    }

    /// The newest spec of the task, where it is to come into force while the task runs; `None`: that with which it was
    /// begun.
    fn spec(&self) -> Option<Arc<config::Task>> {
        None
    }

    /// The spec is in force: from one position on, which is recorded.
    fn took(&self, _: &Arc<config::Task>) {}

    /// Resolves when [`Self::of`], [`Self::upstream`], [`Self::chunk_readers`], [`Self::copies`] or
    /// [`Self::spec`] may answer otherwise than before.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// Everything runs in this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here;

impl Hosts for Here {
    fn upstream(&self) -> Upstream {
        Upstream { reader: Host::Here, decoder: Host::Here }
    }

    fn start_stage(&self, node: &str, _: OpenStage, _: Budget) -> upstream::Start {
        upstream::failing(no_node(node))
    }

    fn of(&self, _: u8) -> Host {
        Host::Here
    }

    fn start(&self, node: &str, _: OpenLane, _: Arc<Progress>) -> StartLane {
        let failure = no_node(node);
        Box::new(move |report| {
            report(crate::lane::Event::Failed(failure));
            Box::new(drop)
        })
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(std::future::pending())
    }
}

fn no_node(node: &str) -> Failure {
    Failure::fatal(format!("there is no node `{node}` outside a cluster"))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("this node"),
            Self::Node(node) => f.write_str(node),
            Self::Nowhere => f.write_str("no node"),
        }
    }
}

/// Lets what opens these lanes connect, before they may be opened. Nobody is fenced by that; a spec that cannot be carried
/// out here is told by [`OpenLane::here`]. Paths are relative to `folder`.
pub fn connect(spec: &config::Task, folder: &Path, lanes: &[u8]) {
    let names = Names::new(&spec.sink.state_prefix, &spec.life());
    let (Ok(kafka), Ok(names)) = (Settings::new(spec, folder), names) else { return };
    for &lane in lanes {
        drop(kafka::ready::prepare(&kafka, &names, LaneId::Lane(lane)));
    }
}

impl OpenLane {
    /// The thread that writes this lane, and what its batches are read with if they come over a link.
    /// Paths of the spec, those of its secrets too, are relative to `folder`.
    ///
    /// # Errors
    /// When the spec cannot be carried out here: a secret or a certificate is missing.
    pub fn here(
        self,
        folder: &Path,
        progress: Arc<Progress>,
    ) -> Result<(LaneThread, Receiver), Failure> {
        let kafka = Settings::new(&self.spec, folder)?;
        let names = Names::new(&self.spec.sink.state_prefix, &self.spec.life())
            .map_err(|error| Failure::fatal(error.to_string()))?;
        let plan = TaskPlan::new(&self.spec, &self.spec.source.database)?;
        let plan = plan.of_server(self.server_version);
        let receiver = Receiver::new(&self, plan.clone());
        Ok((self.thread(kafka, names, &plan, progress), receiver))
    }

    /// The thread that writes this lane.
    #[must_use]
    pub fn thread(
        self,
        kafka: Settings,
        names: Names,
        plan: &TaskPlan,
        progress: Arc<Progress>,
    ) -> LaneThread {
        let Self { spec, lane, revision, floor, mut anew, routed, pins, .. } = self;
        let registry = kafka.registry().cloned();
        let misfits = Misfits::new(&spec, plan, lane);
        let letters = misfits.letters.clone().map(|(topic, partition)| (topic.into(), partition));
        let limits = Some(Limits::new(kafka.clone()));
        let open: OpenSink = Box::new(move || {
            let open = if anew { kafka::open_anew } else { kafka::open };
            let mut partitions = pins.of_lane(lane, routed);
            partitions.extend(letters.clone());
            let opened = open(&kafka, &names, LaneId::Lane(lane), revision, &partitions)?;
            anew = false;
            Ok(opened)
        });
        LaneThread {
            lane,
            open,
            encoder: Encoder::new(plan),
            misfits,
            budget: CommitBudget::new(spec.sink.commit_interval.0, spec.lanes.0),
            progress,
            floor,
            limits,
            registry,
        }
    }
}
