//! Where each task runs: lanes balanced over all tasks, few moves, labels respected, the front of a task
//! together on one worker, which is near its source where several are as free. Pure and deterministic:
//! the same input has the same plan.
//!
//! Balanced means: no lane could go from one worker to another that may have it and has at least two
//! lanes fewer. Fronts stay where they can: moving one interrupts all lanes of its task.

mod front;
mod lanes;
mod near;
mod readers;

use crate::state::Placement;
use std::collections::BTreeMap;

/// Labels that a worker has or a stage wants.
pub type Labels = BTreeMap<String, String>;

/// What a worker may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    Ready,
    /// Keeps what it has and gets nothing more: cordoned, or silent for a short while.
    Holding,
    /// Loses what it has: draining, or about to leave.
    Leaving,
}

/// A live worker. Dead ones are left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Worker {
    pub address: String,
    pub labels: Labels,
    pub standing: Standing,
}

/// What a task that is to run wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub lanes: usize,
    /// The source, `host:port` each: its reader had better be near.
    pub source: Vec<String>,
    /// Labels per stage.
    pub labels: config::Placement,
}

/// What may be changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Only what is placed nowhere gets a place: a new leader does not know yet who lives.
    Unplaced,
    All,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    Reader,
    Decoder,
    Router,
    Lane(usize),
    /// Whatever reads tables while the task streams.
    Snapshot,
}

/// A part of a task whose place changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Move {
    pub task: String,
    pub part: Part,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// A part of a task that no live worker can have. Its place is empty, or that of a missing worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unplaced {
    pub task: String,
    pub part: Part,
    pub reason: String,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// Of every task that was asked for; its `rev` has grown if it changed.
    pub placements: BTreeMap<String, Placement>,
    pub moves: Vec<Move>,
    pub unplaced: Vec<Unplaced>,
}

impl Plan {
    /// The placements that are not as they were.
    pub fn changed<'a>(
        &'a self,
        now: &'a BTreeMap<String, Placement>,
    ) -> impl Iterator<Item = (&'a str, &'a Placement)> {
        let is_new = |name: &str, it: &Placement| now.get(name) != Some(it);
        self.placements
            .iter()
            .map(|(name, it)| (name.as_str(), it))
            .filter(move |(name, it)| is_new(name, it))
    }
}

/// Places `tasks` on `workers`, beginning from where they are now. A task that is not among `tasks`
/// holds no place: its placement is the caller's to remove.
#[must_use]
pub fn place(
    tasks: &BTreeMap<String, Wanted>,
    workers: &BTreeMap<String, Worker>,
    now: &BTreeMap<String, Placement>,
    scope: Scope,
) -> Plan {
    let mut room = Room { tasks, workers, scope, seats: BTreeMap::new(), unplaced: Vec::new() };
    for (name, wanted) in tasks {
        let mut seats = now.get(name).cloned().unwrap_or_default();
        seats.lanes.resize(wanted.lanes, None);
        room.seats.insert(name, seats);
    }
    room.place_fronts();
    room.place_lanes();
    room.place_readers();

    let mut plan = Plan { unplaced: room.unplaced, ..Plan::default() };
    for (name, mut placement) in room.seats {
        let before = now.get(name).cloned().unwrap_or_default();
        plan.moves.extend(moves(name, &before, &placement));
        placement.addresses = addresses(&placement, &before, workers);
        if placement != before {
            placement.rev = before.rev + 1;
        }
        plan.placements.insert(name.to_owned(), placement);
    }
    plan
}

/// A plan in the making.
struct Room<'a> {
    tasks: &'a BTreeMap<String, Wanted>,
    workers: &'a BTreeMap<String, Worker>,
    scope: Scope,
    seats: BTreeMap<&'a str, Placement>,
    unplaced: Vec<Unplaced>,
}

impl<'a> Room<'a> {
    /// Whether what runs on `node` and wants `labels` stays there.
    fn may_stay(&self, node: &str, labels: &Labels) -> bool {
        self.scope == Scope::Unplaced
            || self
                .workers
                .get(node)
                .is_some_and(|it| it.standing != Standing::Leaving && matches(&it.labels, labels))
    }

    /// Whether nothing is known of `node`. Where nobody else can have it, it keeps what it has: should it
    /// live, and only the leader not hear it, data flows on.
    fn is_missing(&self, node: &str) -> bool {
        !self.workers.contains_key(node)
    }

    /// Workers that may get what wants `labels`.
    fn candidates(&self, labels: &[&Labels]) -> Vec<&'a str> {
        let workers = self.workers.iter().filter(|(_, it)| {
            it.standing == Standing::Ready && labels.iter().all(|them| matches(&it.labels, them))
        });
        workers.map(|(name, _)| name.as_str()).collect()
    }

    /// Why there is no candidate.
    fn reason(&self, labels: &Labels) -> String {
        let matching = self.workers.iter().filter(|(_, it)| matches(&it.labels, labels));
        let matching: Vec<_> = matching.map(|(name, _)| name.as_str()).collect();
        if self.workers.is_empty() {
            return "no worker has registered".into();
        }
        if matching.is_empty() {
            let wanted: Vec<_> = labels.iter().map(|(key, it)| format!("{key}={it}")).collect();
            return format!("no worker has the labels {}", wanted.join(", "));
        }
        format!(
            "every worker that may have it is cordoned, draining or silent: {}",
            matching.join(", ")
        )
    }
}

fn matches(has: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| has.get(key) == Some(value))
}

fn moves(task: &str, before: &Placement, after: &Placement) -> Vec<Move> {
    let owned = |node: Option<&str>| node.map(str::to_owned);
    let mut parts = vec![
        (Part::Reader, owned(before.front.as_deref()), owned(after.front.as_deref())),
        (Part::Decoder, owned(before.decoder()), owned(after.decoder())),
        (Part::Router, owned(before.router()), owned(after.router())),
    ];
    // Lanes that a smaller revision no longer has were not moved.
    parts.extend(after.lanes.iter().enumerate().map(|(lane, to)| {
        (Part::Lane(lane), before.lanes.get(lane).cloned().flatten(), to.clone())
    }));
    let moved = parts.into_iter().filter(|(_, from, to)| from != to);
    moved.map(|(part, from, to)| Move { task: task.into(), part, from, to }).collect()
}

fn addresses(
    placement: &Placement,
    before: &Placement,
    workers: &BTreeMap<String, Worker>,
) -> BTreeMap<String, String> {
    let address = |node: &str| {
        let known = workers.get(node).map(|it| &it.address);
        known.or_else(|| before.addresses.get(node)).cloned()
    };
    placement.nodes().filter_map(|node| Some((node.to_owned(), address(node)?))).collect()
}

#[cfg(test)]
mod tests;
