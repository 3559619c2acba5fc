//! What the status page shows and the metrics tell: a plain picture of the cluster, or of one worker's part of it.
//! Pure, apart from the time in [`Status::new`].

use rpc::v1;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use wal::Lsn;

/// Hosts and brokers that are named; the others are counted.
const NAMES_MAX: usize = 3;

/// Everything, as one node knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Who tells this.
    pub node: String,
    /// `coordinator` or `worker`.
    pub role: String,
    pub version: String,
    /// What a reader must know of this view, e.g. that a worker sees its own part only.
    pub note: String,
    pub seen_unix_ms: u64,
    /// Name of the coordinator that leads.
    pub leader: Option<String>,
    pub term: u64,
    pub members: Vec<Member>,
    pub tasks: Vec<Task>,
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Member {
    pub name: String,
    /// `coordinator` or `worker`.
    pub role: String,
    pub address: String,
    pub version: String,
    pub labels: BTreeMap<String, String>,
    /// In the words of `cluster status`; empty: not known here.
    pub state: String,
    pub since_unix_ms: u64,
    pub fronts: u32,
    pub lanes: u32,
}

/// A task and its way from the database to Kafka.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Task {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub revision: u64,
    /// What a person wants of it: `running`, `suspended`, `released`.
    pub wanted: String,
    /// In the words of the control topic.
    pub state: String,
    pub cause: String,
    pub remedy: String,
    pub since_unix_ms: u64,
    pub phase: String,
    pub source: End,
    pub sink: End,
    /// Nodes of the stages; empty: nowhere.
    pub reader: String,
    pub decoder: String,
    pub router: String,
    pub lanes: Vec<Lane>,
    /// Absent where no node that runs the front has told this one.
    pub measured: Option<Measured>,
}

/// Where a task begins or ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct End {
    /// Name of the database, or of the format.
    pub title: String,
    /// Servers, or a named connection.
    pub at: String,
}

/// One lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Lane {
    pub lane: u32,
    /// Its owner; empty: nobody.
    pub node: String,
    /// `waiting`, `opening`, `running`, `retrying`, `draining`; empty: not known here.
    pub state: String,
    /// Position of its checkpoint, `LSN/ordinal`.
    pub position: String,
    /// What it has written, where its owner tells.
    pub records: Option<u64>,
}

/// How a task's slot fares.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Slot {
    /// WAL that the database keeps for it.
    pub retained_bytes: u64,
    /// WAL that may still be written before it can be lost; `None`: no limit.
    pub safe_bytes: Option<u64>,
    pub in_danger: bool,
    /// Age of the oldest open transaction that has written; zero: none.
    pub oldest_transaction_s: u64,
    pub standbys_missing: u64,
}

/// How far a task's snapshot is, and those that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    pub bytes: u64,
    /// Rows per second.
    pub rate: f64,
    /// `None`: nothing is read now, or more than was expected.
    pub left_s: Option<f64>,
    pub tables: u64,
    pub tables_done: u64,
}

/// Figures of the node that runs the front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    pub records: u64,
    /// Changes among them that went to the dead-letter topic.
    pub dead_letters: u64,
    /// DDL statements that the event trigger could not capture.
    pub ddl_gaps: u64,
    /// Of the last ten seconds, where there were two looks.
    pub rate: Option<f64>,
    pub latency_ms: Option<u64>,
    pub lag_bytes: u64,
    pub retries: u64,
    pub commits: Option<u64>,
    pub wal_bytes: Option<u64>,
    /// Bytes held between the database and Kafka, and the most that may be.
    pub credit: Option<(u64, u64)>,
    /// Bytes of transactions in progress that are spooled, and how many these are; `None`: they come when they have
    /// committed.
    pub spool: Option<(u64, u64)>,
    /// Rows that the snapshot has read, and the estimate of all.
    pub snapshot_rows: Option<(u64, u64)>,
    pub snapshot: Option<Snapshot>,
    /// How often the front or a lane has failed, in the order of [`supervision::FailureClass::ALL`].
    pub failures: Option<[u64; supervision::FailureClass::ALL.len()]>,
    /// How the slot fares, where the front runs.
    pub slot: Option<Slot>,
    #[serde(serialize_with = "as_text")]
    pub watermark: Lsn,
    #[serde(serialize_with = "maybe_as_text")]
    pub source_end: Option<Lsn>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn as_text<S: serde::Serializer>(lsn: &Lsn, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(lsn)
}

#[expect(clippy::ref_option, reason = "serde passes references")]
fn maybe_as_text<S: serde::Serializer>(lsn: &Option<Lsn>, to: S) -> Result<S::Ok, S::Error> {
    match lsn {
        Some(lsn) => to.collect_str(lsn),
        None => to.serialize_none(),
    }
}

impl Status {
    /// Of a node that knows nothing yet.
    #[must_use]
    pub fn new(node: &str, role: config::node::Role) -> Self {
        Self {
            node: node.into(),
            role: role.as_str().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            seen_unix_ms: unix_ms(),
            ..Self::default()
        }
    }

    /// What the admin service shows, with the ends that the tasks' specs name.
    #[must_use]
    pub fn of_cluster(
        node: &str,
        role: config::node::Role,
        view: v1::ClusterView,
        specs: &BTreeMap<String, crate::state::Task>,
    ) -> Self {
        let v1::ClusterView { leader, term, nodes, tasks } = view;
        let task = |it: v1::Task| {
            let spec = specs.get(&it.name).map(crate::state::Task::as_applied);
            Task::of(it, spec)
        };
        Self {
            leader: Some(leader).filter(|it| !it.is_empty()),
            term,
            members: nodes.into_iter().map(Member::of).collect(),
            tasks: tasks.into_iter().map(task).collect(),
            ..Self::new(node, role)
        }
    }
}

impl Member {
    fn of(node: v1::Node) -> Self {
        let v1::Node {
            name,
            role,
            address,
            version,
            labels,
            state,
            since_unix_ms,
            fronts,
            lanes,
            ..
        } = node;
        let labels = labels.into_iter().collect();
        Self { name, role, address, version, labels, state, since_unix_ms, fronts, lanes }
    }
}

impl Task {
    /// A task of the contract; `spec`: its YAML, if it is at hand.
    #[must_use]
    pub fn of(task: v1::Task, spec: Option<&str>) -> Self {
        let v1::Task { name, labels, revision, wanted, placement, report } = task;
        let report = report.unwrap_or_default();
        let v1::Placement { reader, decoder, router, lanes, .. } = placement.unwrap_or_default();
        let owned = (0..).zip(&lanes);
        let mut lanes: BTreeMap<u32, Lane> = owned
            .map(|(lane, node)| (lane, Lane { lane, node: node.clone(), ..Lane::default() }))
            .collect();
        for told in &report.lanes {
            lanes.entry(told.lane).or_default().told(told);
        }
        // Only who runs the front says how far it is.
        let measured = (!report.phase.is_empty()).then(|| Measured {
            records: report.records,
            dead_letters: report.dead_letters,
            ddl_gaps: report.ddl_gaps,
            rate: Some(report.rate).filter(|rate| 0.0 < *rate),
            latency_ms: report.latency_ms,
            lag_bytes: report.lag_bytes,
            retries: report.retries,
            watermark: Lsn(report.watermark_lsn),
            ..Measured::default()
        });
        let (source, sink) = spec.map(ends).unwrap_or_default();
        Self {
            name,
            labels: labels.into_iter().collect(),
            revision,
            wanted,
            state: report.state,
            cause: report.cause,
            remedy: report.remedy,
            since_unix_ms: report.since_unix_ms,
            phase: report.phase,
            source,
            sink,
            reader,
            decoder,
            router,
            lanes: lanes.into_values().collect(),
            measured,
        }
    }
}

impl Lane {
    fn told(&mut self, told: &v1::LaneReport) {
        self.lane = told.lane;
        // The placement says whose it is; who runs it says how it fares.
        if self.node.is_empty() {
            self.node.clone_from(&told.node);
        }
        self.state.clone_from(&told.state);
        if let Some(position) = &told.position {
            self.position = format!("{} #{}", Lsn(position.commit_lsn), position.ordinal);
        }
        self.records = Some(told.records).filter(|records| 0 < *records);
    }
}

/// Where a spec reads and writes. Names and addresses only.
fn ends(spec: &str) -> (End, End) {
    let Ok(spec) = config::Task::parse(spec) else { return Default::default() };
    let at = |connection: Option<String>, servers: &[String]| match connection {
        Some(name) => format!("connection {name}"),
        None if servers.len() <= NAMES_MAX => servers.join(", "),
        None => {
            let more = servers.len() - NAMES_MAX;
            format!("{} and {more} more", servers[..NAMES_MAX].join(", "))
        }
    };
    let source =
        End { title: spec.source.database, at: at(spec.source.connection, &spec.source.hosts) };
    let format = serde_json::to_value(spec.sink.format).ok();
    let sink = End {
        title: format.and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default(),
        at: at(spec.sink.connection, &spec.sink.brokers),
    };
    (source, sink)
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
