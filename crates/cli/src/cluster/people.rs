//! What a cluster says of itself, for people. Pure: the caller says what time it is.

use super::figures::{self, NONE, or_none};
use super::view::{
    Cluster, Connection, Lane, Node, Placement, Plan, PlanItem, PlanTable, StateChange, Table, Task,
};
use crate::{report, table};
use serde_json::Value;
use std::collections::BTreeMap;

/// Longer values are cut: the other forms have all of them.
const VALUE_CHARS_MAX: usize = 40;

pub(super) fn tasks(tasks: &[Task], now_unix_ms: u64) -> String {
    let heading = [
        "TASK", "STATE", "FOR", "PHASE", "LATENCY", "RATE", "RETRIES", "WAL HELD", "FRONT",
        "LANES ON",
    ];
    let rows: Vec<_> = tasks.iter().map(|task| cells(task, now_unix_ms)).collect();
    let table = table::aligned(heading, &[4, 5, 6, 7], &rows);
    let stuck = tasks.iter().filter(|task| task.cause.is_some());
    let causes: String = stuck.map(|task| format!("\n{}: {}", task.name, why(task))).collect();
    let causes = if causes.is_empty() { causes } else { format!("{causes}\n") };
    format!("{table}{causes}\n{}\n", report::counted(tasks.len(), "task"))
}

fn cells(task: &Task, now_unix_ms: u64) -> [String; 10] {
    [
        task.name.clone(),
        state(task).to_owned(),
        figures::age(task.since_unix_ms.unwrap_or_default(), now_unix_ms),
        or_none(task.phase.as_deref().unwrap_or_default()),
        shown(task.latency_ms, figures::span),
        task.records_per_second.map_or_else(|| NONE.into(), figures::rate),
        shown(task.retries, figures::count),
        shown(task.retained_bytes, figures::bytes),
        task.placement.as_ref().map_or_else(|| NONE.into(), front),
        lanes_on(&task.lanes),
    ]
}

fn state(task: &Task) -> &str {
    task.state.as_deref().unwrap_or(NONE)
}

/// Cause and remedy, below each other.
fn why(task: &Task) -> String {
    let cause = task.cause.as_deref().unwrap_or_default();
    match &task.remedy {
        Some(remedy) => format!("{cause}\n  remedy: {remedy}"),
        None => cause.to_owned(),
    }
}

fn shown(figure: Option<u64>, how: fn(u64) -> String) -> String {
    figure.map_or_else(|| NONE.into(), how)
}

/// One name where the front is together.
fn front(placement: &Placement) -> String {
    let Placement { reader, decoder, router, .. } = placement;
    if reader == decoder && decoder == router {
        return or_none(reader);
    }
    [reader, decoder, router].map(|node| or_none(node)).join(", ")
}

/// Lanes by their nodes: `w1: 0-3, w2: 4-7`.
fn lanes_on(lanes: &[Lane]) -> String {
    let mut nodes = BTreeMap::<&str, Vec<u8>>::new();
    for lane in lanes {
        let node = lane.node.as_deref().or(lane.placed.as_deref()).unwrap_or(NONE);
        nodes.entry(node).or_default().push(u8::try_from(lane.lane).unwrap_or(u8::MAX));
    }
    let each = nodes.iter().map(|(node, lanes)| format!("{node}: {}", table::ranges(lanes)));
    or_none(&each.collect::<Vec<_>>().join("; "))
}

pub(super) fn task(task: &Task, now_unix_ms: u64) -> String {
    let mut lines: Vec<(&str, String)> = vec![("task", task.name.clone())];
    if !task.labels.is_empty() {
        lines.push(("labels", labels(&task.labels)));
    }
    lines.push(("revision", task.revision.to_string()));
    lines.push(("wanted", or_none(&task.wanted)));
    let since = task.since_unix_ms.map(|since| figures::age(since, now_unix_ms));
    let since = since.map_or_else(String::new, |since| format!(" for {since}"));
    lines.push(("state", format!("{}{since}", state(task))));
    for (name, text) in [("cause", &task.cause), ("remedy", &task.remedy), ("phase", &task.phase)] {
        lines.extend(text.as_ref().map(|text| (name, text.replace('\n', "\n           "))));
    }
    lines.push(("watermark", or_none(task.watermark_lsn.as_deref().unwrap_or_default())));
    lines.push(("WAL held", shown(task.retained_bytes, figures::bytes)));
    lines.push(("latency", shown(task.latency_ms, figures::span)));
    let rate = task.records_per_second.map_or_else(|| NONE.into(), figures::rate);
    lines.push(("records", format!("{}, {rate}", shown(task.records, figures::count))));
    let set_aside = task.dead_letters.filter(|&count| count != 0);
    lines.extend(
        set_aside.map(|count| {
            ("set aside", format!("{} in the dead-letter topic", figures::count(count)))
        }),
    );
    lines.push(("retries", shown(task.retries, figures::count)));
    let placement = task.placement.as_ref();
    let front = placement.map_or_else(|| "not placed".into(), front);
    lines.push(("front", front));
    if let (Some(count), Some(over)) = (task.tables_count, task.tables_over) {
        let [count, over] = [count, over].map(figures::count);
        let rate = task.snapshot_rows_per_second.map_or_else(|| NONE.into(), figures::rate);
        lines.push(("snapshot", format!("{over} of {count} tables are read, {rate}")));
    }
    let lines: String = lines.iter().map(|(name, text)| format!("{name:<9}  {text}\n")).collect();
    let lines = format!("{lines}{}", tables(&task.tables));
    if task.lanes.is_empty() {
        return lines;
    }
    let rows: Vec<_> = task.lanes.iter().map(lane).collect();
    let table = table::aligned(["LANE", "NODE", "STATE", "POSITION", "RECORDS"], &[0, 4], &rows);
    format!("{lines}\n{table}")
}

/// States, oldest first.
pub(super) fn history(changes: &[StateChange], now_unix_ms: u64) -> String {
    let cells = |it: &StateChange| {
        [
            figures::moment(it.since_unix_ms),
            it.state.clone(),
            figures::age(it.since_unix_ms, it.until_unix_ms.unwrap_or(now_unix_ms)),
            or_none(it.by.as_deref().unwrap_or_default()),
            or_none(it.cause.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = changes.iter().map(cells).collect();
    table::aligned(["SINCE (UTC)", "STATE", "FOR", "BY", "CAUSE"], &[], &rows)
}

/// What is read or waits, and what somebody asked for.
fn tables(tables: &[Table]) -> String {
    let shown: Vec<&Table> = tables.iter().filter(|it| it.asked || it.state != "done").collect();
    if shown.is_empty() {
        return String::new();
    }
    let cells = |it: &&Table| {
        [
            it.table.clone(),
            it.snapshot.clone(),
            it.state.clone(),
            figures::count(it.rows),
            shown_estimate(it),
            figures::bytes(it.bytes),
            figures::rate(it.rows_per_second),
            self::shown(it.left_ms, figures::span),
            done(it),
        ]
    };
    let rows: Vec<_> = shown.iter().map(cells).collect();
    let heading =
        ["TABLE", "SNAPSHOT", "STATE", "ROWS", "OF ABOUT", "BYTES", "RATE", "LEFT", "DONE"];
    let table = table::aligned(heading, &[3, 4, 5, 6, 7], &rows);
    let cause = |it: &&Table| it.cause.as_ref().map(|cause| format!("{}: {cause}\n", it.table));
    let causes: String = shown.iter().filter_map(cause).collect();
    format!("\n{table}{causes}")
}

fn done(table: &Table) -> String {
    match table.state.as_str() {
        "done" => figures::bar(1, 1),
        _ => table.rows_estimated.map_or_else(|| NONE.into(), |it| figures::bar(table.rows, it)),
    }
}

fn shown_estimate(table: &Table) -> String {
    shown(table.rows_estimated, figures::count)
}

fn lane(lane: &Lane) -> [String; 5] {
    let node = match (&lane.node, &lane.placed) {
        (Some(node), Some(placed)) if node != placed => format!("{node} -> {placed}"),
        (Some(node), _) | (None, Some(node)) => node.clone(),
        (None, None) => NONE.to_owned(),
    };
    [
        lane.lane.to_string(),
        node,
        or_none(lane.state.as_deref().unwrap_or_default()),
        or_none(lane.position.as_deref().unwrap_or_default()),
        shown(lane.records, figures::count),
    ]
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let each = labels.iter().map(|(name, value)| format!("{name}={value}"));
    or_none(&each.collect::<Vec<_>>().join(", "))
}

pub(super) fn cluster(cluster: &Cluster, now_unix_ms: u64) -> String {
    let leader = match &cluster.leader {
        Some(leader) => format!("{leader} leads, term {}", cluster.term),
        None => "nobody leads, or nobody is known to; what runs goes on".to_owned(),
    };
    let nodes = nodes(&cluster.nodes, now_unix_ms);
    format!("{leader}\n\n{nodes}\n{}", tasks(&cluster.tasks, now_unix_ms))
}

fn nodes(nodes: &[Node], now_unix_ms: u64) -> String {
    let heading = [
        "NODE", "ROLE", "STATE", "FOR", "FRONTS", "LANES", "READS", "ADDRESS", "VERSION", "LABELS",
    ];
    let rows = nodes.iter().map(|node| {
        let runs = |count: u32| match node.role.as_str() {
            "coordinator" => NONE.to_owned(),
            _ => count.to_string(),
        };
        [
            node.name.clone(),
            node.role.clone(),
            node.state.clone(),
            figures::age(node.since_unix_ms, now_unix_ms),
            runs(node.fronts),
            runs(node.lanes),
            runs(node.snapshots),
            or_none(&node.address),
            or_none(&node.version),
            labels(&node.labels),
        ]
    });
    table::aligned(heading, &[4, 5, 6], &rows.collect::<Vec<_>>())
}

/// A node's line after an order.
pub(super) fn node(node: &Node) -> String {
    let (fronts, lanes) = (node.fronts as usize, node.lanes as usize);
    let runs = format!("{}, {}", report::counted(fronts, "front"), report::counted(lanes, "lane"));
    format!("{} `{}` is {}; it runs {runs}\n", node.role, node.name, node.state)
}

pub(super) fn plan(plan: &Plan) -> String {
    let task = &plan.task;
    if plan.unchanged {
        return format!("task `{task}`: nothing changes\n");
    }
    let what = match (plan.creates, plan.items.len()) {
        (true, _) => "is new".to_owned(),
        (false, 1) => "changes in one setting".to_owned(),
        (false, count) => format!("changes in {count} settings"),
    };
    if plan.items.is_empty() {
        return format!("task `{task}` {what}\n");
    }
    let rows: Vec<_> = plan.items.iter().map(item).collect();
    let table = table::aligned(["SETTING", "BEFORE", "AFTER", "TAKES", "NOTE"], &[], &rows);
    let mut text = format!("task `{task}` {what}\n\n{table}\n");
    if !plan.tables.is_empty() {
        let rows: Vec<_> = plan.tables.iter().map(plan_table).collect();
        text += &table::aligned(["TABLE", "IS", "TOPIC BEFORE", "TOPIC AFTER"], &[], &rows);
        let more = plan.tables_count.saturating_sub(plan.tables.len() as u64);
        if 0 < more {
            text += &format!("and {more} more\n");
        }
        text.push('\n');
    }
    if !plan.tables_note.is_empty() {
        text += &format!("tables: {}\n\n", plan.tables_note);
    }
    text
}

fn plan_table(it: &PlanTable) -> [String; 4] {
    let what = match it.change {
        "copied" => "added, and copied while the stream goes on",
        "streamed" => "added, without the rows that it holds",
        "moved" => "sent to another topic",
        other => other,
    };
    let topic = |topic: &Option<String>| or_none(topic.as_deref().unwrap_or_default());
    let name = format!("{}.{}", it.schema, it.table);
    [name, what.into(), topic(&it.topic_before), topic(&it.topic_after)]
}

fn item(item: &PlanItem) -> [String; 5] {
    let (before, after) = (value(&item.before), value(&item.after));
    [item.path.clone(), before, after, item.effect.to_owned(), item.note.clone()]
}

fn value(value: &Value) -> String {
    let text = match value {
        Value::Null => return NONE.to_owned(),
        Value::String(text) => text.replace('\n', " "),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    if text.chars().count() <= VALUE_CHARS_MAX {
        return or_none(&text);
    }
    text.chars().take(VALUE_CHARS_MAX - 1).chain(['…']).collect()
}

pub(super) fn connections(connections: &[Connection]) -> String {
    let rows = connections
        .iter()
        .map(|it| [it.name.clone(), it.kind.clone(), or_none(&it.tasks.join(", "))]);
    let table = table::aligned(["NAME", "KIND", "TASKS"], &[], &rows.collect::<Vec<_>>());
    format!("{table}\n{}\n", report::counted(connections.len(), "connection"))
}
