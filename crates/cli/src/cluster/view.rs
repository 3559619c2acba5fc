//! What a cluster says of itself, for programs: the contract's messages in one flat form each. Fields are
//! added, never renamed: scripts rely on them.

use rpc::v1;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use wal::{Lsn, Position};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) revision: u64,
    pub(super) wanted: String,
    /// Null where no worker has reported.
    pub(super) state: Option<String>,
    pub(super) cause: Option<String>,
    pub(super) remedy: Option<String>,
    pub(super) since_unix_ms: Option<u64>,
    pub(super) phase: Option<String>,
    pub(super) watermark_lsn: Option<String>,
    pub(super) retained_bytes: Option<u64>,
    pub(super) latency_ms: Option<u64>,
    pub(super) records: Option<u64>,
    /// Changes that went to the dead-letter topic.
    pub(super) dead_letters: Option<u64>,
    pub(super) records_per_second: Option<f64>,
    pub(super) retries: Option<u64>,
    /// Null while it is not placed.
    pub(super) placement: Option<Placement>,
    pub(super) lanes: Vec<Lane>,
    /// Tables of snapshots, what is being read first; where there are many, not all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tables: Vec<Table>,
    /// How many tables the snapshots have, and of how many nothing more will be read; null where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tables_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tables_over: Option<u64>,
    /// Of all snapshots together; null where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot_rows_per_second: Option<f64>,
    /// Its states, oldest first; only where one task was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) history: Vec<StateChange>,
}

/// A state that a task was in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StateChange {
    pub(super) state: String,
    pub(super) since_unix_ms: u64,
    /// When the next one began; null: it is the present one.
    pub(super) until_unix_ms: Option<u64>,
    pub(super) cause: Option<String>,
    /// Who has ordered it; null: nobody.
    pub(super) by: Option<String>,
}

pub(super) fn history(changes: Vec<v1::StateChange>) -> Vec<StateChange> {
    let next: Vec<_> = changes.iter().skip(1).map(|it| it.since_unix_ms).collect();
    let until = next.into_iter().map(Some).chain([None]);
    let change = |(it, until_unix_ms): (v1::StateChange, Option<u64>)| StateChange {
        state: it.state,
        since_unix_ms: it.since_unix_ms,
        until_unix_ms,
        cause: some(it.cause),
        by: some(it.by),
    };
    changes.into_iter().zip(until).map(change).collect()
}

/// A table of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Table {
    pub(super) table: String,
    /// As its records carry it in `distributary.snapshot`.
    pub(super) snapshot: String,
    /// Whether somebody asked for it, by `task snapshot`.
    pub(super) asked: bool,
    pub(super) state: String,
    pub(super) cause: Option<String>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// The server's estimate; null where there is none.
    pub(super) rows_estimated: Option<u64>,
    pub(super) rows_per_second: f64,
    pub(super) left_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Placement {
    pub(super) revision: u64,
    pub(super) reader: String,
    pub(super) decoder: String,
    pub(super) router: String,
    /// One node for each lane.
    pub(super) lanes: Vec<String>,
    /// Those that read tables while the task streams, where its spec asks for that.
    pub(super) snapshot: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Lane {
    pub(super) lane: u32,
    /// Where it runs.
    pub(super) node: Option<String>,
    /// Where it shall run.
    pub(super) placed: Option<String>,
    pub(super) state: Option<String>,
    pub(super) position: Option<String>,
    pub(super) records: Option<u64>,
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<v1::Task> for Task {
    fn from(task: v1::Task) -> Self {
        let v1::Task { name, labels, revision, wanted, placement, report } = task;
        let placement = placement.map(Placement::from);
        let lanes = lanes(placement.as_ref(), report.as_ref());
        let figure = |of: fn(&v1::TaskReport) -> u64| report.as_ref().map(of);
        Self {
            name,
            labels,
            revision,
            wanted,
            since_unix_ms: figure(|it| it.since_unix_ms).filter(|&since| since != 0),
            watermark_lsn: figure(|it| it.watermark_lsn)
                .filter(|&lsn| lsn != 0)
                .map(|lsn| Lsn(lsn).to_string()),
            retained_bytes: figure(|it| it.retained_bytes),
            latency_ms: report.as_ref().and_then(|it| it.latency_ms),
            records: figure(|it| it.records),
            dead_letters: figure(|it| it.dead_letters),
            records_per_second: report.as_ref().map(|it| it.rate),
            retries: figure(|it| it.retries),
            placement,
            lanes,
            tables_count: figure(|it| it.tables_count).filter(|&count| count != 0),
            tables_over: report.as_ref().filter(|it| it.tables_count != 0).map(|it| it.tables_over),
            snapshot_rows_per_second: report
                .as_ref()
                .filter(|it| it.tables_count != 0)
                .map(|it| it.snapshot_rate),
            tables: report
                .iter()
                .flat_map(|it| it.tables.iter().cloned().map(Table::from))
                .collect(),
            state: report.as_ref().and_then(|it| some(it.state.clone())),
            cause: report.as_ref().and_then(|it| some(it.cause.clone())),
            remedy: report.as_ref().and_then(|it| some(it.remedy.clone())),
            phase: report.and_then(|it| some(it.phase)),
            history: Vec::new(),
        }
    }
}

impl From<v1::TableReport> for Table {
    fn from(it: v1::TableReport) -> Self {
        // Of what was refused only the words of the order are known.
        let table =
            if it.schema.is_empty() { it.table } else { format!("{}.{}", it.schema, it.table) };
        Self {
            table,
            snapshot: it.snapshot,
            asked: it.order != 0,
            state: it.state,
            cause: some(it.cause),
            rows: it.rows,
            bytes: it.bytes,
            rows_estimated: Some(it.rows_estimated).filter(|&rows| rows != 0),
            rows_per_second: it.rate,
            left_ms: it.left_ms,
        }
    }
}

/// Where lanes shall run and what they say, lane by lane.
fn lanes(placement: Option<&Placement>, report: Option<&v1::TaskReport>) -> Vec<Lane> {
    let empty =
        |lane| Lane { lane, node: None, placed: None, state: None, position: None, records: None };
    let mut lanes = BTreeMap::new();
    for (lane, node) in (0..).zip(placement.into_iter().flat_map(|it| &it.lanes)) {
        lanes.insert(lane, Lane { placed: some(node.clone()), ..empty(lane) });
    }
    for said in report.into_iter().flat_map(|it| &it.lanes) {
        let lane = lanes.entry(said.lane).or_insert_with(|| empty(said.lane));
        lane.node = some(said.node.clone());
        lane.state = some(said.state.clone());
        lane.position = said
            .position
            .map(|it| Position { commit_lsn: Lsn(it.commit_lsn), ordinal: it.ordinal }.to_string());
        lane.records = Some(said.records);
    }
    lanes.into_values().collect()
}

impl From<v1::Placement> for Placement {
    fn from(placement: v1::Placement) -> Self {
        let v1::Placement { placement_rev, reader, decoder, router, lanes, snapshot } = placement;
        Self { revision: placement_rev, reader, decoder, router, lanes, snapshot }
    }
}

/// The answer to an order.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TaskChanged {
    pub(super) task: Task,
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Cluster {
    /// Null where nobody leads, or nobody is known to.
    pub(super) leader: Option<String>,
    pub(super) term: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) tasks: Vec<Task>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) role: String,
    pub(super) address: String,
    pub(super) version: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) state: String,
    pub(super) since_unix_ms: u64,
    pub(super) fronts: u32,
    pub(super) lanes: u32,
    /// Tasks whose tables it reads while they stream.
    pub(super) snapshots: u32,
}

impl From<v1::ClusterView> for Cluster {
    fn from(cluster: v1::ClusterView) -> Self {
        let v1::ClusterView { leader, term, nodes, tasks } = cluster;
        let (nodes, tasks) = (nodes.into_iter(), tasks.into_iter());
        Self {
            leader: some(leader),
            term,
            nodes: nodes.map(Node::from).collect(),
            tasks: tasks.map(Task::from).collect(),
        }
    }
}

impl From<v1::Node> for Node {
    fn from(node: v1::Node) -> Self {
        let v1::Node { name, role, address, version, labels, .. } = node;
        let v1::Node { state, since_unix_ms, fronts, lanes, snapshots, .. } = node;
        Self {
            name,
            role,
            address,
            version,
            labels,
            state,
            since_unix_ms,
            fronts,
            lanes,
            snapshots,
        }
    }
}

/// What a spec does to a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Plan {
    pub(super) task: String,
    pub(super) creates: bool,
    pub(super) unchanged: bool,
    pub(super) items: Vec<PlanItem>,
    /// Some of those that are captured otherwise afterwards.
    pub(super) tables: Vec<PlanTable>,
    pub(super) tables_count: u64,
    /// Why not all are told of.
    pub(super) tables_note: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PlanTable {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) change: &'static str,
    /// Null: none.
    pub(super) topic_before: Option<String>,
    pub(super) topic_after: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PlanItem {
    pub(super) path: String,
    /// Null: not there.
    pub(super) before: Value,
    pub(super) after: Value,
    pub(super) effect: &'static str,
    pub(super) note: String,
}

impl From<v1::Plan> for Plan {
    fn from(plan: v1::Plan) -> Self {
        let v1::Plan { task, creates, unchanged, items, tables, tables_count, tables_note } = plan;
        let items = items.into_iter().map(PlanItem::from).collect();
        let tables = tables.into_iter().map(PlanTable::from).collect();
        Self { task, creates, unchanged, items, tables, tables_count, tables_note }
    }
}

impl From<v1::PlanTable> for PlanTable {
    fn from(table: v1::PlanTable) -> Self {
        use v1::plan_table::Change;
        let change = match table.change() {
            Change::Unspecified => "unknown",
            Change::Copied => "copied",
            Change::Streamed => "streamed",
            Change::Removed => "removed",
            Change::Moved => "moved",
        };
        let topic = |name: String| Some(name).filter(|name| !name.is_empty());
        let v1::PlanTable { schema, table, topic_before, topic_after, .. } = table;
        let (topic_before, topic_after) = (topic(topic_before), topic(topic_after));
        Self { schema, table, change, topic_before, topic_after }
    }
}

impl From<v1::PlanItem> for PlanItem {
    fn from(item: v1::PlanItem) -> Self {
        use v1::plan_item::Effect;
        let effect = match item.effect() {
            Effect::Unspecified => "unknown",
            Effect::AtOnce => "at-once",
            Effect::Restart => "restart",
            Effect::Seal => "seal",
            Effect::Snapshot => "snapshot",
            Effect::Mark => "mark",
            Effect::Lanes => "lanes",
        };
        let json = |text: String| match text.as_str() {
            "" => Value::Null,
            json => serde_json::from_str(json).unwrap_or(Value::String(text)),
        };
        let v1::PlanItem { path, before, after, note, .. } = item;
        Self { path, before: json(before), after: json(after), effect, note }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Connection {
    pub(super) name: String,
    pub(super) kind: String,
    /// Its settings, as YAML.
    pub(super) yaml: String,
    pub(super) tasks: Vec<String>,
}

impl From<v1::Connection> for Connection {
    fn from(connection: v1::Connection) -> Self {
        let v1::Connection { name, kind, yaml, tasks } = connection;
        Self { name, kind, yaml, tasks }
    }
}
