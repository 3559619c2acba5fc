//! What the HTTP port of a worker shows: its own stages and lanes, and whether it can do its work.

use super::Context;
use super::tasks::Tasks;
use crate::http::status::{Lane, Member, Slot, Snapshot, Status, Task};
use crate::http::{Ready, View};
use crate::state::{ClusterState, Leader};
use config::node::Role;
use pipeline::Progress;
use pipeline::progress::LaneState;
use rpc::v1;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const NOTE: &str =
    "A worker shows its own part: what runs elsewhere, the coordinators' pages show.";

pub(super) fn of(context: Context, tasks: Tasks) -> (View, Ready) {
    let ready = {
        let (context, tasks) = (context.clone(), tasks.clone());
        Ready::at_once(move || can_work(&context, &tasks))
    };
    (View::at_once(move || status(&context, &tasks)), ready)
}

/// Without coordinators, what runs goes on, and the worker with it.
fn can_work(context: &Context, tasks: &Tasks) -> Result<(), String> {
    if context.cluster.borrow().next_offset() == 0 {
        return Err("the control topic is not read yet, or holds nothing".into());
    }
    if context.joined.load(Relaxed) || tasks.is_busy() {
        return Ok(());
    }
    Err("no coordinator that leads is found, and nothing runs here".into())
}

fn status(context: &Context, tasks: &Tasks) -> Status {
    let cluster = context.cluster.borrow().clone();
    let mut shown: Vec<Task> = tasks.fronts().into_iter().map(|it| front(&cluster, it)).collect();
    for (name, ..) in context.stages.all() {
        place_of(&mut shown, &cluster, &name);
    }
    let hosted = context.hosted.all();
    for ((name, lane), it) in hosted {
        let at = place_of(&mut shown, &cluster, &name);
        let lane = u32::from(lane);
        let lanes = &mut shown[at].lanes;
        let at = lanes.iter().position(|one| one.lane == lane).unwrap_or_else(|| {
            lanes.push(Lane { lane, ..Lane::default() });
            lanes.len() - 1
        });
        let told = &mut lanes[at];
        told.node.clone_from(&context.node.node);
        told.state = if it.open { "running" } else { "opening" }.into();
        told.position = format!("{} #{}", it.position.commit_lsn, it.position.ordinal);
        told.records = Some(it.progress.records.load(Relaxed));
    }
    // Without one that is heard, the last one that wrote is history.
    let joined = context.joined.load(Relaxed);
    let leader = cluster.leader.as_ref().filter(|it| joined && !it.resigned);
    Status {
        note: NOTE.into(),
        leader: leader.map(|it| it.node.clone()),
        term: cluster.term().and_then(|term| u64::try_from(term).ok()).unwrap_or_default(),
        members: members(context, leader, &shown),
        tasks: shown,
        ..Status::new(&context.node.node, Role::Worker)
    }
}

/// Where a task is shown; one that was not yet is as its placement says.
fn place_of(shown: &mut Vec<Task>, cluster: &ClusterState, name: &str) -> usize {
    shown.iter().position(|task| task.name == name).unwrap_or_else(|| {
        shown.push(Task::of(placed(cluster, name, None), spec(cluster, name)));
        shown.len() - 1
    })
}

/// A task whose router is here, with everything that its figures say.
fn front(cluster: &ClusterState, (report, progress): (v1::TaskReport, Arc<Progress>)) -> Task {
    let name = report.task.clone();
    let snapshot = Snapshot {
        rate: report.snapshot_rate,
        tables: report.tables_count,
        tables_done: report.tables_over,
        ..Snapshot::default()
    };
    let mut task = Task::of(placed(cluster, &name, Some(report)), spec(cluster, &name));
    for (lane, it) in task.lanes.iter_mut().zip(progress.lanes()) {
        if it.state == LaneState::Waiting {
            lane.state = "waiting".into();
        }
    }
    let reads = task.reader == task.router;
    if let Some(measured) = &mut task.measured {
        let rows =
            [&progress.snapshot_rows, &progress.snapshot_rows_estimated].map(|it| it.load(Relaxed));
        measured.commits = Some(progress.commits.load(Relaxed));
        measured.wal_bytes = Some(progress.wal_bytes.load(Relaxed));
        measured.source_end = Some(progress.server_end());
        measured.credit = progress.credit();
        let spool = [&progress.spool_bytes, &progress.spool_transactions];
        measured.spool = reads.then(|| spool.map(|it| it.load(Relaxed)).into());
        measured.slot = progress.slot_health().map(|health| Slot {
            retained_bytes: health.retained_bytes,
            safe_bytes: health.safe_bytes,
            in_danger: pipeline::health::danger(&health).is_some(),
            oldest_transaction_s: health.oldest.map_or(0, |it| it.age.as_secs()),
            standbys_missing: health.standbys_missing.len() as u64,
        });
        measured.failures = Some(progress.failures());
        if rows != [0, 0] {
            measured.snapshot = Some(advanced(snapshot, rows, &progress));
            measured.snapshot_rows = Some(rows.into());
        }
    }
    task
}

/// With what the rows say, so many of so many.
fn advanced(snapshot: Snapshot, [rows, estimated]: [u64; 2], progress: &Progress) -> Snapshot {
    let rate = snapshot.rate;
    let left = estimated.checked_sub(rows).filter(|left| 0 < *left && 0.0 < rate);
    let bytes = progress.snapshot_bytes.load(Relaxed);
    Snapshot { bytes, left_s: left.map(|left| left as f64 / rate), ..snapshot }
}

/// The task in the words of the contract, as the control topic places it.
fn placed(cluster: &ClusterState, name: &str, report: Option<v1::TaskReport>) -> v1::Task {
    let task = cluster.tasks.get(name);
    v1::Task {
        name: name.to_owned(),
        revision: task.map_or(0, |it| it.spec_rev),
        wanted: task.map_or("", |it| it.desired.word()).into(),
        placement: cluster.placements.get(name).map(Into::into),
        report,
        ..v1::Task::default()
    }
}

fn spec<'a>(cluster: &'a ClusterState, name: &str) -> Option<&'a str> {
    cluster.tasks.get(name).map(crate::state::Task::as_applied)
}

/// This worker, and the leader.
fn members(context: &Context, leader: Option<&Leader>, tasks: &[Task]) -> Vec<Member> {
    let node = &context.node;
    let has_stage = |it: &&Task| [&it.reader, &it.decoder, &it.router].contains(&&node.node);
    let lanes: usize =
        tasks.iter().flat_map(|it| &it.lanes).filter(|it| it.node == node.node).count();
    let worker = Member {
        name: node.node.clone(),
        role: Role::Worker.as_str().into(),
        address: node.address(),
        version: env!("CARGO_PKG_VERSION").into(),
        labels: node.labels.clone(),
        state: "alive".into(),
        fronts: u32::try_from(tasks.iter().filter(has_stage).count()).unwrap_or(u32::MAX),
        lanes: u32::try_from(lanes).unwrap_or(u32::MAX),
        ..Member::default()
    };
    let leader = leader.map(|it| Member {
        name: it.node.clone(),
        role: Role::Coordinator.as_str().into(),
        address: it.address.clone(),
        version: it.ver.clone(),
        state: "leader".into(),
        ..Member::default()
    });
    leader.into_iter().chain([worker]).collect()
}
