//! What persons order: what is to be written for it, or why it cannot be. Pure.

use super::control::KeyValue;
use super::plan::{addresses, is_eligible, next};
use super::reports::Reports;
use super::{difference, plan_tables, spec};
use crate::membership::Members;
use crate::placement::{Standing, Worker};
use crate::state::{
    ClusterState, Connection, Copies, CopyOrder, Desired, Key, Node, Placement, State, Task, Term,
    write,
};
use crate::task_state::{self, TaskState};
use config::pattern::TablePattern;
use record::selection::Selection;
use rpc::{Code, Error, v1};
use std::collections::BTreeMap;

/// Orders of a task to read a table again that may wait or be under way.
const COPIES_MAX: usize = 16;
/// Tasks, and as many connections, that a cluster keeps.
const TASKS_MAX: usize = 500;

#[derive(Clone, Debug)]
pub(super) enum Order {
    Apply {
        yaml: String,
    },
    Task {
        name: String,
        order: task_state::Order,
        accept_gap: bool,
    },
    /// Read a table again while the task streams.
    Snapshot {
        name: String,
        table: String,
        condition: String,
    },
    Drain {
        node: String,
    },
    Uncordon {
        node: String,
    },
    /// To `node`, or to another worker of our choice.
    MoveLane {
        task: String,
        lane: usize,
        node: Option<String>,
    },
    SetConnection {
        name: String,
        kind: String,
        yaml: String,
    },
    RemoveConnection {
        name: String,
    },
}

/// What a person is told once the order is durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Done {
    pub(super) plan: Option<v1::Plan>,
    /// Of the spec, where it was changed.
    pub(super) revision: u64,
    /// Whether a connection is new.
    pub(super) created: bool,
    /// Tasks that go on by a connection that was changed.
    pub(super) users: Vec<String>,
    /// Id of a snapshot that was asked for.
    pub(super) snapshot: String,
    pub(super) notes: Vec<String>,
}

/// What is known when an order is carried out.
pub(super) struct Situation<'a> {
    pub(super) cluster: &'a ClusterState,
    pub(super) members: &'a Members,
    pub(super) reports: &'a Reports,
    pub(super) term: Term,
    /// Who orders.
    pub(super) by: &'a str,
    pub(super) now_ms: i64,
}

/// Records of one transaction.
#[derive(Debug)]
pub(super) struct Records {
    term: Term,
    pub(super) entries: Vec<KeyValue>,
}

impl Records {
    pub(super) fn new(term: Term) -> Self {
        Self { term, entries: Vec::new() }
    }

    pub(super) fn put(&mut self, key: &Key, body: &impl serde::Serialize) {
        self.entries.push((key.to_string(), Some(write(self.term, body))));
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.entries.push((key.to_string(), None));
    }

    /// Everything of a task that is released.
    pub(super) fn remove_task(&mut self, name: &str, cluster: &ClusterState) {
        if cluster.placements.contains_key(name) {
            self.remove(&Key::Placement(name.into()));
        }
        if cluster.copies.contains_key(name) {
            self.remove(&Key::Copies(name.into()));
        }
        self.remove(&Key::State(name.into()));
        self.remove(&Key::Task(name.into()));
    }
}

/// What a spec would do to its task.
pub(super) fn preview(
    cluster: &ClusterState,
    reports: &Reports,
    yaml: &str,
) -> Result<v1::Plan, Error> {
    plan_of(cluster, reports, &spec::accept(yaml, spec::among(cluster, None))?.task)
}

fn plan_of(
    cluster: &ClusterState,
    reports: &Reports,
    after: &config::Task,
) -> Result<v1::Plan, Error> {
    let known = cluster.tasks.get(&after.task);
    let before = known.map(|it| it.read().map_err(Error::spec)).transpose()?;
    let items = difference::difference(before.as_ref(), after);
    let unchanged = before.is_some() && items.is_empty();
    let creates = before.is_none();
    let name = after.task.clone();
    let mut plan = v1::Plan { task: name, creates, unchanged, items, ..v1::Plan::default() };
    if let Some(before) = &before {
        plan_tables::tell(&mut plan, before, after, reports.seen(&after.task));
    }
    Ok(plan)
}

impl Situation<'_> {
    /// # Errors
    /// Why it cannot be done, and what can.
    pub(super) fn carry_out(&self, order: &Order) -> Result<(Records, Done), Error> {
        let mut records = Records::new(self.term);
        let done = match order {
            Order::Apply { yaml } => self.apply(yaml, &mut records)?,
            Order::Task { name, order, accept_gap } => {
                self.task(name, *order, *accept_gap, &mut records)?
            }
            Order::Snapshot { name, table, condition } => {
                self.snapshot(name, table, condition, &mut records)?
            }
            Order::Drain { node } => {
                self.known(node)?;
                records.put(&Key::Node(node.clone()), &Node { cordoned: true, draining: true });
                Done::default()
            }
            Order::Uncordon { node } => {
                self.known(node)?;
                if self.cluster.nodes.contains_key(node) {
                    records.remove(&Key::Node(node.clone()));
                }
                Done::default()
            }
            Order::MoveLane { task, lane, node } => {
                self.move_lane(task, *lane, node.as_deref(), &mut records)?
            }
            Order::SetConnection { name, kind, yaml } => {
                self.set_connection(name, kind, yaml, &mut records)?
            }
            Order::RemoveConnection { name } => {
                self.remove_connection(name, &mut records)?;
                Done::default()
            }
        };
        Ok((records, done))
    }

    fn apply(&self, yaml: &str, records: &mut Records) -> Result<Done, Error> {
        let spec::Accepted { task, spec, applied } =
            spec::accept(yaml, spec::among(self.cluster, None))?;
        let plan = plan_of(self.cluster, self.reports, &task)?;
        let name = &plan.task;
        let known = self.cluster.tasks.get(name);
        if known.is_some_and(|it| it.desired == Desired::Released) {
            let cause = format!("task `{name}` is being released");
            let remedy = "wait until it is gone from `task list`, then apply again";
            return Err(Error::new(Code::State, cause, remedy));
        }
        if plan.unchanged {
            return Ok(Done { plan: Some(plan), ..Done::default() });
        }
        let (task, state) = match known {
            Some(known) => {
                let state = self.state(name);
                let next = state.state.ordered(name, task_state::Order::Apply).map_err(refused)?;
                possible(known, &task, &state)?;
                (self.respecified(known, spec, applied, state.state), self.moved_on(&state, next))
            }
            None if TASKS_MAX <= self.cluster.tasks.len() => return Err(full("tasks")),
            None => {
                let (created_ms, changed_by) = (self.now_ms, self.by.to_owned());
                let task = Task { applied, created_ms, changed_by, ..Task::new(spec) };
                let state = State::new(TaskState::NotConfigured, self.now_ms);
                (task, Some(state.ordered_by(self.by)))
            }
        };
        records.put(&Key::Task(name.clone()), &task);
        if let Some(state) = state {
            records.put(&Key::State(name.clone()), &state);
        }
        Ok(Done { revision: task.spec_rev, plan: Some(plan), ..Done::default() })
    }

    fn task(
        &self,
        name: &str,
        order: task_state::Order,
        accept_gap: bool,
        records: &mut Records,
    ) -> Result<Done, Error> {
        use task_state::Order as O;
        let known = self.cluster.tasks.get(name).ok_or_else(|| Error::not_found("task", name))?;
        let state = self.state(name);
        let mut task = Task { changed_by: self.by.to_owned(), ..known.clone() };
        if order == O::Release && known.desired == Desired::Released {
            task.restarts += 1;
            self.renew_placement(name, records);
            records.put(&Key::Task(name.into()), &task);
            let state = state.followed_by(TaskState::Releasing, None, None, self.now_ms);
            let state = state.ordered_by(self.by);
            records.put(&Key::State(name.into()), &state);
            let notes = vec!["it was being released already, and is tried again".into()];
            return Ok(Done { notes, ..Done::default() });
        }
        let next = state.state.ordered(name, order).map_err(refused)?;
        let mut notes = Vec::new();
        match order {
            O::Start | O::Resume => task.desired = Desired::Running,
            O::Suspend => {
                task.desired = Desired::Suspended;
                notes.push("the slot is kept and holds back WAL on the server".into());
            }
            O::Restart => {
                task.desired = Desired::Running;
                task.restarts += 1;
                self.renew_placement(name, records);
            }
            O::Reseed => {
                task.desired = Desired::Running;
                task.reseeds += 1;
                task.accept_gap = accept_gap;
                // What begins anew begins as a person says now.
                task.kept = None;
                if accept_gap {
                    notes.push("`task status` names the changes that are left out".into());
                }
            }
            O::Release if state.state == TaskState::NotConfigured => {
                records.remove_task(name, self.cluster);
                notes.push("the task had never run: there was nothing to remove".into());
                return Ok(Done { notes, ..Done::default() });
            }
            O::Release => {
                task.desired = Desired::Released;
                notes.push(
                    "it is gone once a worker has removed slot, publication and topics".into(),
                );
            }
            // Orders with words of their own.
            O::Apply | O::Snapshot => {
                let cause = format!("`{order}` says more than the name of a task");
                return Err(Error::new(Code::Argument, cause, ""));
            }
        }
        records.put(&Key::Task(name.into()), &task);
        let state = state.followed_by(next, None, None, self.now_ms).ordered_by(self.by);
        records.put(&Key::State(name.into()), &state);
        Ok(Done { notes, ..Done::default() })
    }

    /// What the worker cannot find out only later is judged here.
    fn snapshot(
        &self,
        name: &str,
        table: &str,
        condition: &str,
        records: &mut Records,
    ) -> Result<Done, Error> {
        let known = self.cluster.tasks.get(name).ok_or_else(|| Error::not_found("task", name))?;
        let state = self.state(name).state;
        state.ordered(name, task_state::Order::Snapshot).map_err(refused)?;
        let spec = config::Task::parse(&known.spec).map_err(Error::spec)?;
        if !spec.sync.incremental {
            let cause = format!("task `{name}` has no stream that a table could be read beside");
            let remedy = "`task reseed` reads everything again";
            return Err(Error::new(Code::State, cause, remedy));
        }
        copyable(&spec, table, condition)?;
        let mut copies = self.cluster.copies.get(name).cloned().unwrap_or_default();
        if COPIES_MAX <= copies.open.len() {
            let cause = format!("{} snapshots of task `{name}` are not done", copies.open.len());
            return Err(Error::new(Code::Busy, cause, "wait; `task status` shows them"));
        }
        let number = copies.last + 1;
        let snapshot = format!("d{number}-{}", self.now_ms);
        let (table, condition) = (table.to_owned(), condition.to_owned());
        copies.open.push(CopyOrder { number, snapshot: snapshot.clone(), table, condition });
        records.put(&Key::Copies(name.into()), &Copies { last: number, ..copies });
        Ok(Done { snapshot, ..Done::default() })
    }

    /// What is on its way from the life before is of an older placement, and not believed.
    fn renew_placement(&self, name: &str, records: &mut Records) {
        if let Some(placement) = self.cluster.placements.get(name)
            && placement.nodes().next().is_some()
        {
            let renewed = Placement { rev: placement.rev + 1, ..placement.clone() };
            records.put(&Key::Placement(name.into()), &renewed);
        }
    }

    fn move_lane(
        &self,
        name: &str,
        lane: usize,
        node: Option<&str>,
        records: &mut Records,
    ) -> Result<Done, Error> {
        let task = self.cluster.tasks.get(name).ok_or_else(|| Error::not_found("task", name))?;
        let before = self.cluster.placements.get(name);
        let owner = before.and_then(|it| it.lanes.get(lane));
        let (Some(before), Some(owner)) = (before, owner) else {
            return Err(Error::not_found("lane", &format!("{name}/{lane}")));
        };
        let labels = config::Task::parse(&task.spec).map_err(Error::spec)?.placement.producers;
        let workers = self.members.workers(&self.cluster.nodes);
        let node = match node {
            Some(node) => {
                let worker = workers.get(node).ok_or_else(|| Error::not_found("worker", node))?;
                if !is_eligible(worker, &labels) {
                    return Err(ineligible(node, worker));
                }
                node
            }
            None => {
                let load = |node: &str| {
                    let lanes = self.cluster.placements.values().flat_map(|it| it.lanes.iter());
                    lanes.flatten().filter(|it| *it == node).count()
                };
                let others = workers.iter().filter(|(name, worker)| {
                    Some(*name) != owner.as_ref() && is_eligible(worker, &labels)
                });
                let least = others.min_by_key(|(name, _)| (load(name), *name));
                least.map(|(name, _)| name.as_str()).ok_or_else(|| {
                    let cause = "no other worker can have it";
                    Error::new(
                        Code::State,
                        cause,
                        "see `cluster status` for their states and labels",
                    )
                })?
            }
        };
        let mut placement = before.clone();
        placement.lanes[lane] = Some(node.to_owned());
        placement.pinned.insert(lane, node.to_owned());
        placement.addresses = addresses(&placement, Some(before), &workers);
        if let Some(placement) = next(Some(before), placement, self.cluster) {
            records.put(&Key::Placement(name.into()), &placement);
        }
        Ok(Done::default())
    }

    fn set_connection(
        &self,
        name: &str,
        kind: &str,
        yaml: &str,
        records: &mut Records,
    ) -> Result<Done, Error> {
        let plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        };
        let is_name = name.len() <= 40
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(plain);
        if !is_name {
            let remedy = "give a small letter, then up to 39 small letters, digits, _ or -";
            return Err(Error::new(Code::Argument, format!("`{name}` is no name"), remedy));
        }
        spec::accept_connection(kind, yaml)?;
        let created = !self.cluster.connections.contains_key(name);
        if created && TASKS_MAX <= self.cluster.connections.len() {
            return Err(full("connections"));
        }
        let connection = Connection { kind: kind.into(), spec: yaml.into() };
        if self.cluster.connections.get(name) == Some(&connection) {
            return Ok(Done::default());
        }
        records.put(&Key::Connection(name.into()), &connection);
        let users = self.follow_connection(name, &connection, records)?;
        Ok(Done { created, users, ..Done::default() })
    }

    /// Tasks that name a changed connection go on by it, as by a changed spec: in the same transaction, so that nobody
    /// sees one without the other.
    fn follow_connection(
        &self,
        name: &str,
        changed: &Connection,
        records: &mut Records,
    ) -> Result<Vec<String>, Error> {
        let users = users(self.cluster, name);
        for user in &users {
            let known = &self.cluster.tasks[user];
            let find = spec::among(self.cluster, Some((name, changed)));
            let accepted = spec::accept(known.as_applied(), find).map_err(|error| {
                let wrong: Vec<_> = error.spec.iter().map(ToString::to_string).collect();
                let cause = format!("task `{user}` could not go on by it: {}", wrong.join("; "));
                Error::new(Code::State, cause, "correct the settings, or change the task first")
            })?;
            let spec::Accepted { task: _, spec, applied } = accepted;
            if spec == known.spec {
                continue;
            }
            let state = self.state(user);
            let task = self.respecified(known, spec, applied, state.state);
            records.put(&Key::Task(user.clone()), &task);
            // One that is being released goes on with that.
            let next = state.state.ordered(user, task_state::Order::Apply).ok();
            if let Some(state) = next.and_then(|next| self.moved_on(&state, next)) {
                records.put(&Key::State(user.clone()), &state);
            }
        }
        Ok(users)
    }

    /// What runs is kept until the changed spec is in force.
    fn respecified(
        &self,
        known: &Task,
        spec: String,
        applied: Option<String>,
        state: TaskState,
    ) -> Task {
        let (spec_rev, changed_by) = (known.spec_rev + 1, self.by.to_owned());
        let has_begun = state.runs() && state != TaskState::Prechecking;
        let before = known.kept.clone().or_else(|| has_begun.then(|| known.spec.clone()));
        let bytes = spec.len() + applied.as_ref().map_or(0, String::len);
        let kept = before.filter(|it| *it != spec && bytes + it.len() <= spec::SPEC_BYTES_MAX);
        Task { spec, applied, kept, spec_rev, changed_by, ..known.clone() }
    }

    /// The state of a task whose spec has changed; `None`: what keeps it from running is still so.
    fn moved_on(&self, state: &State, next: TaskState) -> Option<State> {
        let followed = || state.followed_by(next, None, None, self.now_ms).ordered_by(self.by);
        (next != state.state).then(followed)
    }

    fn remove_connection(&self, name: &str, records: &mut Records) -> Result<(), Error> {
        if !self.cluster.connections.contains_key(name) {
            return Err(Error::not_found("connection", name));
        }
        let users = users(self.cluster, name);
        if !users.is_empty() {
            let cause = format!("connection `{name}` is used by {}", users.join(", "));
            return Err(Error::new(
                Code::State,
                cause,
                "release these tasks, or change their specs",
            ));
        }
        records.remove(&Key::Connection(name.into()));
        Ok(())
    }

    fn known(&self, node: &str) -> Result<(), Error> {
        let known = self.members.get(node).is_some() || self.cluster.nodes.contains_key(node);
        if known { Ok(()) } else { Err(Error::not_found("worker", node)) }
    }

    fn state(&self, name: &str) -> State {
        let known = self.cluster.states.get(name).cloned();
        known.unwrap_or_else(|| State::new(TaskState::NotConfigured, self.now_ms))
    }
}

/// Whether a task that has run may go on by a changed spec, as far as the specs alone say. What the servers have against
/// it, the worker finds out.
fn possible(known: &Task, next: &config::Task, state: &State) -> Result<(), Error> {
    let has_run = |state: TaskState| {
        matches!(state, TaskState::Initializing | TaskState::Synchronizing | TaskState::CatchingUp)
    };
    // What has never begun leaves nothing that has to fit.
    if !state.changes().any(|it| has_run(it.state)) {
        return Ok(());
    }
    let Ok(before) = config::Task::parse(known.kept.as_ref().unwrap_or(&known.spec)) else {
        return Ok(());
    };
    let refuse = |cause: String, remedy: &str| Err(Error::new(Code::State, cause, remedy));
    if before.source.streams != next.source.streams {
        let cause = "`source.streams` cannot change: tables would move between slots".to_owned();
        return refuse(cause, "release the task, or apply the spec under another name");
    }
    match before.shape().keeps_formats_apart(&next.shape()) {
        Ok(()) => Ok(()),
        Err(cause) => refuse(cause, ""),
    }
}

/// Tasks that name a connection.
pub(super) fn users(cluster: &ClusterState, connection: &str) -> Vec<String> {
    let uses = |task: &Task| {
        let applied = config::Task::parse(task.as_applied());
        applied.is_ok_and(|it| it.connections().any(|(_, name)| name == connection))
    };
    cluster.tasks.iter().filter(|(_, it)| uses(it)).map(|(name, _)| name.clone()).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
fn refused(refused: task_state::Refused) -> Error {
    Error::new(Code::State, refused.to_string(), "")
}

fn full(what: &str) -> Error {
    let cause = format!("the cluster has {TASKS_MAX} {what}, which is all it keeps");
    Error::new(Code::Busy, cause, "release or remove what is not needed")
}

fn ineligible(node: &str, worker: &Worker) -> Error {
    let (why, remedy) = match worker.standing {
        Standing::Leaving => ("is drained or about to leave", "uncordon it, or choose another one"),
        Standing::Holding => ("is cordoned or silent", "choose another one"),
        Standing::Ready => ("has not the labels of `placement.producers`", "choose another one"),
    };
    Error::new(Code::State, format!("worker `{node}` {why}"), remedy)
}

/// What a worker has of all tasks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Load {
    /// Or stages of them.
    pub(super) fronts: u32,
    pub(super) lanes: u32,
    /// Tasks whose tables it reads.
    pub(super) snapshots: u32,
}

/// Parts that each worker has.
pub(super) fn loads(placements: &BTreeMap<String, Placement>) -> BTreeMap<&str, Load> {
    let mut loads: BTreeMap<&str, Load> = BTreeMap::new();
    for placement in placements.values() {
        for node in placement.front_nodes() {
            loads.entry(node).or_default().fronts += 1;
        }
        for lane in placement.lanes.iter().flatten() {
            loads.entry(lane).or_default().lanes += 1;
        }
        for node in placement.snapshot.iter().flatten() {
            loads.entry(node).or_default().snapshots += 1;
        }
    }
    loads
}

/// Whether a table may be read again, as far as the spec can tell.
fn copyable(spec: &config::Task, table: &str, condition: &str) -> Result<(), Error> {
    let wrong = |cause: String, remedy| Error::new(Code::Argument, cause, remedy);
    let pattern = TablePattern::parse(table).map_err(|it| wrong(it.to_string(), ""))?;
    let Some((schema, name)) = pattern.exact() else {
        let cause = format!("`{table}` may mean several tables");
        return Err(wrong(cause, "name one: `schema.table`, quoted as in SQL"));
    };
    let selection = Selection::new(spec).map_err(|it| wrong(it.to_string(), ""))?;
    if selection.selected(&schema, &name).is_none() {
        let cause = format!("no object of task `{}` selects {table}", spec.task);
        return Err(wrong(cause, "see its `objects` by `task show`"));
    }
    if !condition.is_empty() {
        record::check_condition(condition).map_err(|it| wrong(it.to_string(), ""))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
