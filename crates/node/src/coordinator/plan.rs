//! What the leader makes of tasks, workers and what persons have said: the placements to be written. Pure.
//!
//! The number of a placement only grows, also for a task that was released and came again: the
//! nodes that run lanes tell late orders by it.

use crate::placement::{Labels, Move, Part, Scope, Standing, Wanted, Worker, place};
use crate::state::{ClusterState, Desired, Placement};
use crate::task_state::TaskState;
use std::collections::{BTreeMap, BTreeSet};
use tracing::error;

/// What is to be written, and what is worth a line.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) changed: BTreeMap<String, Placement>,
    pub(super) moves: Vec<Move>,
    /// Why parts of a task have no place.
    pub(super) unplaced: BTreeMap<String, String>,
}

/// The placements that are not as they should be.
pub(super) fn plan(
    cluster: &ClusterState,
    workers: &BTreeMap<String, Worker>,
    scope: Scope,
) -> Planned {
    let (mut tasks, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
    for name in cluster.tasks.keys() {
        match wanted(cluster, name) {
            Ok(Some(wanted)) => {
                tasks.insert(name.clone(), wanted);
            }
            Ok(None) => {}
            // It goes on where it is: whoever wrote it knows more.
            Err(problems) => {
                error!(task = name, %problems, "the spec cannot be read by this release");
                unreadable.insert(name);
            }
        }
    }
    let placed = place(&tasks, workers, &cluster.placements, scope);
    let mut planned = Planned { moves: placed.moves, ..Planned::default() };
    for it in placed.unplaced {
        let what = match it.part {
            Part::Reader | Part::Decoder | Part::Router => "it has no place",
            Part::Lane(_) => "lanes have no place",
            Part::Snapshot => "what reads its tables has no place (`placement.snapshot`)",
        };
        planned.unplaced.entry(it.task).or_insert_with(|| format!("{what}: {}", it.reason));
    }
    for (name, mut placement) in placed.placements {
        if scope == Scope::All {
            heed_pins(&mut placement, &tasks[&name].labels.producers, workers);
        }
        let before = cluster.placements.get(&name);
        let lives = |node: &str| workers.contains_key(node);
        placement.from = before.and_then(|it| placement.handed_over_by(it, lives));
        placement.gone =
            before.map(|before| placement.gone_since(before, lives)).unwrap_or_default();
        placement.addresses = addresses(&placement, before, workers);
        if let Some(next) = next(before, placement, cluster) {
            planned.changed.insert(name, next);
        }
    }
    for (name, before) in &cluster.placements {
        let idle = !tasks.contains_key(name) && !unreadable.contains(name);
        if idle && before.nodes().next().is_some() {
            let empty = Placement { pinned: before.pinned.clone(), ..Placement::default() };
            planned.changed.extend(next(Some(before), empty, cluster).map(|it| (name.clone(), it)));
        }
    }
    planned
}

/// What a task is to have; `None`: nothing. A task that is released needs somebody who removes what it
/// has made.
fn wanted(cluster: &ClusterState, name: &str) -> Result<Option<Wanted>, config::Problems> {
    let task = &cluster.tasks[name];
    let state = cluster.states.get(name).map(|it| it.state);
    let runs = match task.desired {
        Desired::Running => state.is_none_or(TaskState::runs),
        Desired::Suspended => false,
        Desired::Released => true,
    };
    if !runs {
        return Ok(None);
    }
    let spec = config::Task::parse(&task.spec)?;
    // Until a changed spec is in force, what ran before needs its lanes.
    let kept = task.read_kept().map_or(0, |it| it.lanes.0);
    let lanes = usize::from(spec.lanes.0.max(kept));
    Ok(Some(Wanted { lanes, source: spec.source.hosts, labels: spec.placement }))
}

/// Whether a worker may be given what wants `labels`.
pub(super) fn is_eligible(worker: &Worker, labels: &Labels) -> bool {
    worker.standing == Standing::Ready
        && labels.iter().all(|(key, value)| worker.labels.get(key) == Some(value))
}

fn heed_pins(placement: &mut Placement, labels: &Labels, workers: &BTreeMap<String, Worker>) {
    let lanes = placement.lanes.len();
    placement.pinned.retain(|lane, _| *lane < lanes);
    for (&lane, node) in &placement.pinned {
        if workers.get(node).is_some_and(|it| is_eligible(it, labels)) {
            placement.lanes[lane] = Some(node.clone());
        }
    }
}

pub(super) fn addresses(
    placement: &Placement,
    before: Option<&Placement>,
    workers: &BTreeMap<String, Worker>,
) -> BTreeMap<String, String> {
    let address = |node: &str| {
        let known = workers.get(node).map(|it| &it.address);
        known.or_else(|| before?.addresses.get(node)).cloned()
    };
    let nodes = placement.nodes().chain(placement.from.as_deref());
    nodes.filter_map(|node| Some((node.to_owned(), address(node)?))).collect()
}

/// The placement with its number; `None`: it is as it was.
pub(super) fn next(
    before: Option<&Placement>,
    placement: Placement,
    cluster: &ClusterState,
) -> Option<Placement> {
    // Each number was written once, so it is at most the offset of its record.
    let first = u64::try_from(cluster.next_offset()).unwrap_or_default();
    let Some(before) = before else { return Some(Placement { rev: first, ..placement }) };
    // Who is gone belongs to the change that it led to.
    let same = Placement { rev: before.rev, gone: before.gone.clone(), ..placement.clone() };
    (same != *before).then(|| Placement { rev: before.rev + 1, ..placement })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::state::{Key, Node, State, Task, write};

    /// A cluster that is written to as a leader of term 0 does.
    pub(in super::super) struct Bench {
        pub(in super::super) cluster: ClusterState,
        pub(in super::super) workers: BTreeMap<String, Worker>,
    }

    impl Bench {
        pub(in super::super) fn new(workers: &[&str]) -> Self {
            let mut bench = Self { cluster: ClusterState::default(), workers: BTreeMap::new() };
            let fence = br#"{"v":1,"node":"c1","address":"c1:7420","ver":"0"}"#;
            bench.cluster.apply(0, "f", Some(fence)).expect("a fence");
            for name in workers {
                let address = format!("{name}:7420");
                let standing = Standing::Ready;
                let worker = Worker { address, labels: Labels::new(), standing };
                bench.workers.insert((*name).into(), worker);
            }
            bench
        }

        pub(in super::super) fn put(&mut self, key: &Key, body: &impl serde::Serialize) {
            self.write(&key.to_string(), Some(&write(0, body)));
        }

        pub(in super::super) fn write(&mut self, key: &str, value: Option<&[u8]>) {
            let at = self.cluster.next_offset();
            self.cluster.apply(at, key, value).expect("obeyed");
        }

        pub(in super::super) fn task(&mut self, lanes: usize, desired: Desired, state: TaskState) {
            let spec = format!(
                "version: 1\ntask: shop\nlanes: {lanes}\nsource: {{hosts: [\"db:5432\"], database: shop, \
                 user: u}}\nsink: {{brokers: [\"k:9092\"]}}\nobjects: [{{table: \"public.*\"}}]\n"
            );
            let changed_by = "ann".into();
            let task = Task { desired, created_ms: 1, changed_by, ..Task::new(spec) };
            self.put(&Key::Task("shop".into()), &task);
            self.put(&Key::State("shop".into()), &State::new(state, 1));
        }

        pub(in super::super) fn plan(&mut self, scope: Scope) -> usize {
            let planned = plan(&self.cluster, &self.workers, scope);
            for (name, placement) in &planned.changed {
                self.put(&Key::Placement(name.clone()), placement);
            }
            planned.changed.len()
        }

        pub(in super::super) fn placement(&self) -> &Placement {
            &self.cluster.placements["shop"]
        }

        pub(in super::super) fn lanes_of(&self, node: &str) -> usize {
            self.placement().lanes.iter().flatten().filter(|it| *it == node).count()
        }
    }

    #[test]
    fn a_task_that_runs_has_a_place_and_a_suspended_one_has_none() {
        let mut bench = Bench::new(&["w1", "w2"]);
        bench.task(4, Desired::Running, TaskState::Prechecking);
        assert_eq!(bench.plan(Scope::Unplaced), 1);
        assert_eq!((bench.lanes_of("w1"), bench.lanes_of("w2")), (2, 2));
        assert_eq!(bench.placement().addresses["w1"], "w1:7420");
        assert_eq!(bench.plan(Scope::All), 0, "nothing has changed");
        let rev = bench.placement().rev;
        bench.task(4, Desired::Suspended, TaskState::Suspended);
        assert_eq!(bench.plan(Scope::Unplaced), 1);
        assert_eq!(bench.placement(), &Placement { rev: rev + 1, ..Placement::default() });
        assert_eq!(bench.plan(Scope::All), 0);
        bench.task(4, Desired::Running, TaskState::Parked);
        assert_eq!(bench.plan(Scope::All), 0, "a person must decide first");
    }

    #[test]
    fn a_released_task_keeps_its_place_until_it_is_gone() {
        let mut bench = Bench::new(&["w1"]);
        bench.task(4, Desired::Released, TaskState::Releasing);
        assert_eq!(bench.plan(Scope::Unplaced), 1);
        assert_eq!(bench.placement().front.as_deref(), Some("w1"));
        assert_eq!(bench.lanes_of("w1"), 4, "somebody must fence them");
    }

    #[test]
    fn the_number_of_a_placement_grows_over_lives_of_its_task() {
        let mut bench = Bench::new(&["w1"]);
        bench.task(1, Desired::Running, TaskState::Prechecking);
        bench.plan(Scope::All);
        let rev = bench.placement().rev;
        bench.write("placement/shop", None);
        bench.plan(Scope::All);
        assert!(rev < bench.placement().rev);
    }

    #[test]
    fn a_lane_that_a_person_has_moved_stays_while_its_worker_may_have_it() {
        let mut bench = Bench::new(&["w1", "w2"]);
        bench.task(2, Desired::Running, TaskState::Synchronizing);
        bench.plan(Scope::All);
        let mut moved = bench.placement().clone();
        let at = moved.lanes.iter().position(|it| it.as_deref() == Some("w1")).expect("one each");
        moved.lanes[at] = Some("w2".into());
        moved.pinned.insert(at, "w2".into());
        bench.put(&Key::Placement("shop".into()), &moved);
        for _ in 0..3 {
            bench.plan(Scope::All);
            assert_eq!(bench.placement().lanes[at].as_deref(), Some("w2"));
        }
        assert_eq!(bench.plan(Scope::All), 0, "it comes to rest");
        bench.workers.get_mut("w2").expect("known").standing = Standing::Leaving;
        bench.plan(Scope::All);
        assert_eq!(bench.lanes_of("w1"), 2);
    }

    #[test]
    fn who_lives_is_asked_to_hand_over_and_who_is_dead_is_not() {
        let mut bench = Bench::new(&["w1", "w2", "w3"]);
        bench.task(2, Desired::Running, TaskState::Synchronizing);
        bench.plan(Scope::All);
        assert_eq!(bench.placement().from, None, "it ran nowhere before");
        let first = bench.placement().router().expect("placed").to_owned();
        bench.workers.get_mut(&first).expect("known").standing = Standing::Leaving;
        bench.plan(Scope::All);
        let second = bench.placement().router().expect("placed").to_owned();
        assert_ne!(second, first);
        assert_eq!(bench.placement().from.as_ref(), Some(&first));
        assert_eq!(bench.placement().addresses[&first], format!("{first}:7420"));
        bench.workers.remove(&first);
        bench.plan(Scope::All);
        assert_eq!(bench.placement().router(), Some(&*second));
        bench.workers.remove(&second);
        bench.plan(Scope::All);
        assert_eq!(bench.placement().from, None, "nobody is left to be asked");
    }

    #[test]
    fn nobody_waits_for_lanes_of_the_dead() {
        let mut bench = Bench::new(&["w1", "w2", "w3"]);
        bench.task(3, Desired::Running, TaskState::Synchronizing);
        bench.plan(Scope::All);
        let router = bench.placement().router().expect("placed").to_owned();
        let others: Vec<_> = ["w1", "w2", "w3"].into_iter().filter(|it| *it != router).collect();
        bench.workers.get_mut(others[0]).expect("known").standing = Standing::Leaving;
        bench.plan(Scope::All);
        assert_eq!(bench.lanes_of(others[0]), 0);
        assert_eq!(bench.placement().gone, Vec::<String>::new(), "it ends them in good order");
        bench.workers.remove(others[1]);
        bench.plan(Scope::All);
        assert_eq!(bench.placement().gone, [others[1]]);
        assert_eq!(bench.plan(Scope::All), 0, "it comes to rest");
    }

    #[test]
    fn what_cannot_be_read_stays_where_it_is() {
        let mut bench = Bench::new(&["w1", "w2"]);
        bench.task(2, Desired::Running, TaskState::Synchronizing);
        bench.plan(Scope::All);
        let mut task = bench.cluster.tasks["shop"].clone();
        task.spec = "version: 2\n".into();
        bench.put(&Key::Task("shop".into()), &task);
        assert_eq!(bench.plan(Scope::All), 0);
    }

    #[test]
    fn why_a_task_has_no_place_is_said() {
        let mut bench = Bench::new(&[]);
        bench.task(1, Desired::Running, TaskState::Prechecking);
        bench.put(&Key::Node("w9".into()), &Node::default());
        let planned = plan(&bench.cluster, &bench.workers, Scope::All);
        assert_eq!(planned.unplaced["shop"], "it has no place: no worker has registered");
    }
}
