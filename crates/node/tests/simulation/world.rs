//! A cluster in a world that goes wrong, and what must hold in it.

use super::Bug;
use super::coordinator::{Coordinator, Order, Said, Told, wanted};
use super::kafka::{Control, Lanes};
use super::process::Reader;
use super::worker::{Hold, META, Worker};
use node::placement::{Labels, Scope, Standing, place};
use node::state::{Placement, Term};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Within so long after the trouble everything is owned again: a silence (8 s and jitter of 2 s) that a
/// pause began anew, a taking that failed, settling (10 s), a death (6 s), a forced move (5 s).
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// What befell a worker may have it moved so long afterwards: its leader may have died over it.
const TROUBLE_LASTS: Duration = Duration::from_secs(30);

/// Messages on their way, and how much goes wrong.
pub(crate) struct Network {
    /// Percent of the calls that go wrong.
    pub(crate) trouble: u32,
    connections: u64,
    said: Vec<(Instant, String, String, Said, u64)>,
    told: Vec<(Instant, Told)>,
    /// Messages dropped in a row, by worker and whether they register it: a connection that drops all
    /// is cut.
    dropped: BTreeMap<(String, bool), u32>,
}

impl Network {
    pub(crate) fn fails(&self, rng: &mut SmallRng) -> bool {
        rng.random_range(0..100) < self.trouble
    }

    /// How many records a node reads in a turn.
    pub(crate) fn records_max(&self, rng: &mut SmallRng) -> usize {
        if self.trouble == 0 || rng.random_range(0..5) > 0 {
            usize::MAX
        } else {
            rng.random_range(0..3)
        }
    }

    pub(crate) fn connect(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    pub(crate) fn say(
        &mut self,
        leader: &str,
        worker: &str,
        said: Said,
        connection: u64,
        now: Instant,
        rng: &mut SmallRng,
    ) {
        let copies = if self.trouble == 0 {
            1
        } else {
            [0, 1, 1, 1, 1, 1, 1, 1, 1, 2][rng.random_range(0..10)]
        };
        let dropped =
            self.dropped.entry((worker.into(), matches!(said, Said::Register))).or_default();
        let copies = if *dropped == 0 { copies } else { copies.max(1) };
        *dropped = u32::from(copies == 0);
        for _ in 0..copies {
            let at = now + Duration::from_millis(rng.random_range(0..400));
            self.said.push((at, leader.into(), worker.into(), said, connection));
        }
    }

    /// A call to every worker, which may come very late.
    pub(crate) fn tell_all(&mut self, told: &Told, now: Instant, rng: &mut SmallRng) {
        let late = if rng.random_range(0..4) == 0 { 20_000 } else { 300 };
        let at = now + Duration::from_millis(rng.random_range(0..late));
        self.told.push((at, told.clone()));
    }
}

/// How often what the schedules are for has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) leaders: usize,
    pub(crate) moves: usize,
    /// Records of lower terms that nobody obeyed.
    pub(crate) refused: usize,
    /// Owners of lanes that a newer one has fenced.
    pub(crate) fenced: usize,
    /// Fronts that their next owner was given.
    pub(crate) handed_over: usize,
}

pub(crate) struct World {
    pub(crate) rng: SmallRng,
    pub(crate) bug: Option<Bug>,
    pub(crate) now: Instant,
    pub(crate) control: Control,
    lanes: Lanes,
    pub(crate) network: Network,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) orders: VecDeque<Order>,
    /// Names of workers that do not run.
    pub(crate) absent: Vec<String>,
    /// Until when it is no wonder that a worker's lanes are moved.
    pub(crate) troubled: BTreeMap<String, Instant>,
    /// What a node knows that reads everything at once.
    pub(crate) truth: Reader,
    leaders: BTreeMap<Term, String>,
    /// Per step, in percent: what befalls coordinators, and workers.
    pub(crate) rates: [u32; 2],
    moves: usize,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let now = Instant::now();
        let coordinators = (0..rng.random_range(1..4))
            .map(|it| Coordinator::new(format!("c{it}"), now, bug, rng.random()))
            .collect();
        let count = rng.random_range(1..5);
        let workers = (0..count).map(|it| Worker::new(format!("w{it}"), now, bug)).collect();
        let mut orders = VecDeque::new();
        for task in 0..rng.random_range(1..4) {
            let (task, lanes) = (format!("t{task}"), rng.random_range(1..5));
            orders.push_back(Order::Apply { task, lanes });
        }
        let network = Network {
            trouble: [0, 4, 12][rng.random_range(0..3)],
            connections: 0,
            said: Vec::new(),
            told: Vec::new(),
            dropped: BTreeMap::new(),
        };
        let mut control = Control::default();
        control.leaks = rng.random();
        let rates = [0, 1].map(|_| [0, 4, 12][rng.random_range(0..3)]);
        Self {
            rng,
            bug,
            now,
            control,
            lanes: Lanes::default(),
            network,
            coordinators,
            workers,
            orders,
            absent: (count..5).map(|it| format!("w{it}")).collect(),
            troubled: BTreeMap::new(),
            truth: Reader::new(None),
            leaders: BTreeMap::new(),
            rates,
            moves: 0,
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        let records = self.control.records.iter();
        let stale = records.filter(|it| it.term.is_some_and(|term| term < it.highest));
        Seen {
            leaders: self.leaders.len(),
            moves: self.moves,
            refused: stale.count(),
            fenced: self.lanes.fenced,
            handed_over: self.lanes.handed_over,
        }
    }

    /// A step with trouble.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.now += Duration::from_millis(self.rng.random_range(50..900));
        self.befall();
        self.turn()
    }

    /// Everybody who can takes a turn.
    fn turn(&mut self) -> Result<(), String> {
        let now = self.now;
        if self.rng.random_range(0..10) == 0 {
            self.control.deliver_late(self.rng.random_range(0..64));
            self.judge()?;
        }
        self.deliver();
        for at in 0..self.coordinators.len() {
            let coordinator = &mut self.coordinators[at];
            coordinator.condition.heal(now);
            if coordinator.condition.paused.is_some() {
                continue;
            }
            let (control, network) = (&mut self.control, &mut self.network);
            let led = coordinator.turn(now, control, network, &mut self.orders, &mut self.rng)?;
            let name = coordinator.name.clone();
            if let Some(term) = led
                && let Some(other) = self.leaders.insert(term, name.clone())
            {
                return Err(format!("{other} and {name} lead in term {term}"));
            }
            self.judge()?;
        }
        for worker in &mut self.workers {
            worker.condition.heal(now);
            if worker.condition.paused.is_none() && !worker.exited {
                let (control, lanes) = (&self.control, &mut self.lanes);
                worker.turn(now, control, lanes, &mut self.network, &mut self.rng)?;
            }
        }
        self.bury();
        self.lanes.broken.take().map_or(Ok(()), Err)
    }

    /// Removes workers that have ended. Who was not asked to is started again.
    fn bury(&mut self) {
        let ended = self.workers.extract_if(.., |it| it.exited).collect::<Vec<_>>();
        for Worker { name, leaving, .. } in ended {
            self.trouble(&name);
            if self.workers.iter().any(|it| it.name == name) {
                continue;
            }
            if leaving {
                self.absent.push(name);
            } else {
                self.workers.push(Worker::new(name, self.now, self.bug));
            }
        }
    }

    pub(crate) fn trouble(&mut self, worker: &str) {
        let until = self.now + TROUBLE_LASTS;
        let known = self.troubled.entry(worker.into()).or_insert(until);
        *known = until.max(*known);
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, later) =
            std::mem::take(&mut self.network.said).into_iter().partition(|it| it.0 <= now);
        self.network.said = later;
        let due: Vec<(Instant, String, String, Said, u64)> = due;
        for (at, leader, name, said, connection) in due {
            let to = self.coordinators.iter_mut().find(|it| it.name == leader);
            let Some(to) = to.filter(|it| it.condition.cut.is_none()) else {
                continue;
            };
            if to.condition.paused.is_some() {
                self.network.said.push((at, leader, name, said, connection));
                continue;
            }
            if let Some(unknown) = to.hear(&name, said, connection, now) {
                let told = || Told::Unknown(unknown, connection);
                let of_name = self.workers.iter_mut().filter(|it| it.name == name);
                of_name.for_each(|it| it.inbox.push(told()));
            }
        }
        let (due, later) =
            std::mem::take(&mut self.network.told).into_iter().partition(|it| it.0 <= now);
        self.network.told = later;
        let due: Vec<(Instant, Told)> = due;
        for (_, told) in due {
            let reached = self.workers.iter_mut().filter(|it| it.condition.cut.is_none());
            reached.for_each(|it| it.inbox.push(told.clone()));
        }
    }

    /// Reads what was written last: terms in order, and no lane moved without need.
    fn judge(&mut self) -> Result<(), String> {
        if self.truth.cluster.next_offset() == self.control.end() {
            return Ok(());
        }
        let before = self.truth.cluster.placements.clone();
        self.truth.read(&self.control, usize::MAX)?;
        let after = &self.truth.cluster.placements;
        let loads = loads(after);
        for (task, placement) in after {
            let old = before.get(task).map_or(&[][..], |it| &it.lanes);
            for (lane, (from, to)) in old.iter().zip(&placement.lanes).enumerate() {
                let Some(from) = from.as_ref().filter(|_| from != to) else {
                    continue;
                };
                self.moves += 1;
                let load = |node: &str| loads.get(node).copied().unwrap_or_default();
                let balances = to.as_ref().is_some_and(|to| load(to) <= load(from) + 1);
                if !balances && !self.may_lose(from) {
                    return Err(format!("{task}/{lane} moved from {from} to {to:?} without need"));
                }
            }
        }
        Ok(())
    }

    fn may_lose(&self, worker: &str) -> bool {
        let troubled = self.troubled.get(worker).is_some_and(|it| self.now <= *it);
        let drains = self.truth.cluster.nodes.get(worker).is_some_and(|it| it.draining);
        let mut alive = self.workers.iter().filter(|it| it.name == worker);
        troubled || drains || !alive.any(|it| !it.leaving)
    }

    /// The trouble ends; everything must come to rest in bounded time.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.heal();
        let end = self.now + RECOVERY_MAX;
        loop {
            self.now += Duration::from_millis(250);
            self.turn()?;
            match self.rests() {
                Ok(()) => break,
                Err(error) if end < self.now => return Err(error),
                Err(_) => {}
            }
        }
        let coordinators = self.coordinators.iter_mut().map(|it| (&it.name, &mut it.reader));
        let workers = self.workers.iter_mut().map(|it| (&it.name, &mut it.reader));
        for (name, reader) in coordinators.chain(workers) {
            reader.read(&self.control, usize::MAX)?;
            if self.bug.is_none() && reader.cluster != self.truth.cluster {
                return Err(format!("{name} knows another cluster than the control topic holds"));
            }
        }
        Ok(())
    }

    /// What is not yet as it must be in the end.
    fn rests(&self) -> Result<(), String> {
        let cluster = &self.truth.cluster;
        if !self.orders.is_empty() {
            return Err(format!("nobody carries out {:?}", self.orders));
        }
        let leads = |it: &&Coordinator| it.leadership.term().is_some();
        let leaders: Vec<_> = self.coordinators.iter().filter(leads).map(|it| &it.name).collect();
        if leaders.len() != 1 {
            return Err(format!("{leaders:?} lead"));
        }
        for (name, node) in &cluster.nodes {
            let has = |it: &Worker| !it.holds.is_empty() || !it.fronts.is_empty();
            let holds = self.workers.iter().any(|it| it.name == *name && has(it));
            let placed =
                cluster.placements.values().flat_map(Placement::nodes).any(|it| it == name);
            if node.draining && (holds || placed) {
                return Err(format!("{name} is drained and has something"));
            }
        }
        let tasks = wanted(&cluster.tasks);
        for (task, wanted) in &tasks {
            for lane in 0..wanted.lanes {
                let placement = cluster.placements.get(task);
                let owner = placement.and_then(|it| it.lanes.get(lane)?.as_deref());
                if !owner.is_some_and(|it| self.owns(it, task, lane)) {
                    return Err(format!("{task}/{lane}, placed on {owner:?}, is owned by nobody"));
                }
            }
        }
        for (task, placement) in &cluster.placements {
            let runs = |it: &&Worker| it.fronts.contains_key(task);
            let run: Vec<_> = self.workers.iter().filter(runs).collect();
            let router = placement.router().filter(|_| tasks.contains_key(task));
            if !run.iter().map(|it| it.name.as_str()).eq(router) {
                let run: Vec<_> = run.iter().map(|it| &it.name).collect();
                return Err(format!(
                    "the front of {task} is placed on {router:?} and runs on {run:?}"
                ));
            }
            let newest = self.lanes.logs.get(&(task.clone(), META)).map(|it| it.term);
            let is_open = |it: &&Worker| match it.fronts[task].hold {
                Hold::Open { term, .. } => Some(term) == newest,
                Hold::Waiting { .. } | Hold::Lost { .. } => false,
            };
            if !run.iter().all(is_open) {
                return Err(format!(
                    "the front of {task}, placed on {router:?}, is owned by nobody"
                ));
            }
        }
        let plan = place(&tasks, &self.living(), &cluster.placements, Scope::All);
        if plan.moves.is_empty() { Ok(()) } else { Err(format!("still to come: {:?}", plan.moves)) }
    }

    fn owns(&self, worker: &str, task: &str, lane: usize) -> bool {
        let key = (task.to_owned(), lane);
        let newest = self.lanes.logs.get(&key).map(|it| it.term);
        self.workers.iter().filter(|it| it.name == worker).any(|it| match it.holds.get(&key) {
            Some(Hold::Open { term, .. }) => Some(*term) == newest,
            Some(Hold::Waiting { .. } | Hold::Lost { .. }) | None => false,
        })
    }

    /// The workers as a leader sees them that knows everything.
    pub(crate) fn living(&self) -> BTreeMap<String, node::placement::Worker> {
        let worker = |it: &Worker| {
            let drains = self.truth.cluster.nodes.get(&it.name).is_some_and(|it| it.draining);
            let standing = if drains || it.leaving { Standing::Leaving } else { Standing::Ready };
            let address = format!("{}:7420", it.name);
            (it.name.clone(), node::placement::Worker { address, labels: Labels::new(), standing })
        };
        self.workers.iter().map(worker).collect()
    }
}

fn loads(placements: &BTreeMap<String, Placement>) -> BTreeMap<&str, usize> {
    let mut loads = BTreeMap::new();
    for node in placements.values().flat_map(|it| it.lanes.iter().flatten()) {
        *loads.entry(node.as_str()).or_default() += 1;
    }
    loads
}
