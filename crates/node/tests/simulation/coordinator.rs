//! A coordinator: the pure parts of the package, and calls that go wrong between them.

use super::Bug;
use super::kafka::{Control, Outcome, Write};
use super::process::{Condition, Reader};
use super::world::Network;
use node::leader::{self, Action, Event, Leadership};
use node::membership::{self, Members, Registration, Unknown};
use node::placement::{Labels, Scope, Standing, Wanted, place};
use node::state::{Changed, Desired, Heartbeat, Node, Placement, Task, Term, write};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What a person asks for.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Apply { task: String, lanes: usize },
    Release { task: String },
    Drain { node: String, draining: bool },
}

/// What a worker says over connection `connection`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    Register,
    Beat,
    Leave,
    Closed,
}

/// What a leader answers or calls.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Unknown(Unknown, u64),
    /// Something was written: read. What it was is told along, for those who want to go wrong.
    Written {
        term: Term,
        placements: BTreeMap<String, node::state::Placement>,
    },
}

pub(crate) struct Coordinator {
    pub(crate) name: String,
    pub(crate) condition: Condition,
    pub(crate) reader: Reader,
    pub(crate) leadership: Leadership,
    members: Members,
    producer: Option<(i64, Term)>,
    /// The leader's producer is about to be opened.
    taking: bool,
    /// A transaction was never answered: none can follow it.
    hangs: bool,
    /// What was planned last is what there is to plan.
    planned: Option<Scope>,
    /// Own writes are read up to here before the next plan.
    written: i64,
    bug: Option<Bug>,
}

impl Coordinator {
    pub(crate) fn new(name: String, now: Instant, bug: Option<Bug>, jitter: u32) -> Self {
        let mut timing = leader::Timing::default();
        if bug == Some(Bug::MovesAtOnce) {
            timing.settling = Duration::ZERO;
        }
        Self {
            name,
            condition: Condition::default(),
            reader: Reader::new(bug),
            leadership: Leadership::new(timing, now, jitter),
            members: members(bug),
            producer: None,
            taking: false,
            hangs: false,
            planned: None,
            written: 0,
            bug,
        }
    }

    /// One turn. Returns the term of which it has begun to be the leader.
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        control: &mut Control,
        network: &mut Network,
        orders: &mut VecDeque<Order>,
        rng: &mut SmallRng,
    ) -> Result<Option<Term>, String> {
        let mut events = Vec::new();
        if self.condition.cut.is_none() {
            for changed in self.reader.read(control, network.records_max(rng))? {
                match changed {
                    Changed::Fence(term) => events.push(Event::Fence { term }),
                    Changed::Beat(term) => {
                        let resigned =
                            self.reader.cluster.leader.as_ref().is_some_and(|it| it.resigned);
                        events.push(Event::Beat { term, resigned });
                    }
                    Changed::Nothing => {}
                    Changed::Task(_)
                    | Changed::Placement(_)
                    | Changed::State(_)
                    | Changed::Node(_)
                    | Changed::Connection(_)
                    | Changed::Copies(_) => self.planned = None,
                }
            }
        }
        events.push(Event::Tick);
        if self.taking && rng.random_range(0..3) > 0 {
            self.taking = false;
            events.push(self.take(control, network, rng));
        }
        let mut led = None;
        for event in events {
            self.tell(event, now, &mut led, control, network, rng);
        }
        if self.leadership.term().is_some() {
            self.lead(now, control, network, orders, rng);
        }
        Ok(led)
    }

    pub(crate) fn resign(
        &mut self,
        now: Instant,
        control: &mut Control,
        network: &mut Network,
        rng: &mut SmallRng,
    ) {
        self.tell(Event::Resign, now, &mut None, control, network, rng);
    }

    fn take(&mut self, control: &mut Control, network: &Network, rng: &mut SmallRng) -> Event {
        if self.condition.cut.is_some() || network.fails(rng) {
            return Event::Dropped;
        }
        let (epoch, term) = control.take(&self.name);
        if network.fails(rng) {
            return Event::Dropped;
        }
        (self.producer, self.hangs) = (Some((epoch, term)), false);
        Event::Taken { term }
    }

    fn tell(
        &mut self,
        event: Event,
        now: Instant,
        led: &mut Option<Term>,
        control: &mut Control,
        network: &mut Network,
        rng: &mut SmallRng,
    ) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let action = self.leadership.handle(event, now, rng.random());
            match action {
                None => {}
                Some(Action::Take) => {
                    self.producer = None;
                    self.taking = true;
                }
                Some(Action::Lead { term, renewed }) => {
                    *led = Some(term);
                    self.planned = None;
                    if !renewed {
                        self.members = members(self.bug);
                    }
                }
                Some(Action::Beat { beat, resigned }) => {
                    let (node, address) = (self.name.clone(), format!("{}:7420", self.name));
                    let body = Heartbeat { node, address, beat, resigned };
                    let (_, term) = self.producer.expect("a leader has a producer");
                    let value = write(term, &body);
                    let writes = vec![("leader".into(), Some(value))];
                    next = self.commit(writes, now, control, network, rng);
                }
                Some(Action::StepDown(_)) => {
                    self.producer = None;
                    next = Some(Event::Dropped);
                }
            }
        }
    }

    /// What becomes of a transaction; `None`: nothing is heard of it.
    fn commit(
        &mut self,
        writes: Vec<Write>,
        now: Instant,
        control: &mut Control,
        network: &Network,
        rng: &mut SmallRng,
    ) -> Option<Event> {
        let (epoch, term) = self.producer.filter(|_| !self.hangs)?;
        let cut = self.condition.cut.is_some();
        if cut || network.fails(rng) {
            match rng.random_range(0..4) {
                0 => {}
                1 if !cut => {
                    control.write(epoch, term, writes);
                }
                _ => control.delay(epoch, term, writes),
            }
            self.hangs = rng.random();
            return (!self.hangs).then_some(Event::Unclean);
        }
        match control.write(epoch, term, writes) {
            Outcome::Committed => {
                self.written = control.end();
                Some(Event::Committed { began: now })
            }
            Outcome::Fenced => Some(Event::Fenced),
        }
    }

    pub(crate) fn hear(
        &mut self,
        node: &str,
        said: Said,
        connection: u64,
        now: Instant,
    ) -> Option<Unknown> {
        let labels = Labels::new();
        let address = format!("{node}:7420");
        let changes = match said {
            Said::Register => {
                let registration = Registration { address, labels, ver: "0".into() };
                self.members.register(node, registration, connection, now)
            }
            Said::Beat => self.members.beat(node, connection, now),
            Said::Leave => self.members.leave(node, connection, now),
            Said::Closed => Ok(self.members.closed(node, connection, now)),
        };
        match changes {
            Ok(changes) => {
                if !changes.is_empty() {
                    self.planned = None;
                }
                None
            }
            Err(unknown) => Some(unknown),
        }
    }

    fn lead(
        &mut self,
        now: Instant,
        control: &mut Control,
        network: &mut Network,
        orders: &mut VecDeque<Order>,
        rng: &mut SmallRng,
    ) {
        let jump = self.bug == Some(Bug::WallClock) && rng.random_range(0..60) == 0;
        let clock = if jump { now + Duration::from_secs(20) } else { now };
        if !self.members.tick(clock).is_empty() {
            self.planned = None;
        }
        if self.reader.cluster.next_offset() < self.written {
            return;
        }
        let term = self.leadership.term().expect("it leads");
        if let Some(order) = orders.pop_front() {
            let writes = self.carry_out(&order, term);
            let outcome = self.commit(writes, now, control, network, rng);
            if !matches!(outcome, Some(Event::Committed { .. })) {
                orders.push_front(order);
            }
            if let Some(event) = outcome {
                self.tell(event, now, &mut None, control, network, rng);
            }
            return;
        }
        let scope = if self.leadership.may_move(now) { Scope::All } else { Scope::Unplaced };
        if self.planned == Some(scope) {
            return;
        }
        let cluster = &self.reader.cluster;
        let mut workers = self.members.workers(&cluster.nodes);
        if self.bug == Some(Bug::DrainForgotten) {
            for worker in workers.values_mut().filter(|it| it.standing == Standing::Leaving) {
                worker.standing = Standing::Holding;
            }
        }
        let tasks = wanted(&cluster.tasks);
        let plan = place(&tasks, &workers, &cluster.placements, scope);
        let changed: BTreeMap<_, _> = plan
            .changed(&cluster.placements)
            .map(|(task, it)| {
                let lives = |node: &str| workers.contains_key(node);
                let before = cluster.placements.get(task);
                let from = before.and_then(|before| it.handed_over_by(before, lives));
                (task.to_owned(), Placement { from, ..it.clone() })
            })
            .collect();
        self.planned = Some(scope);
        if changed.is_empty() {
            return;
        }
        let writes =
            changed.iter().map(|(task, it)| (format!("placement/{task}"), Some(write(term, it))));
        let outcome = self.commit(writes.collect(), now, control, network, rng);
        network.tell_all(&Told::Written { term, placements: changed }, now, rng);
        if !matches!(outcome, Some(Event::Committed { .. })) {
            self.planned = None;
        }
        if let Some(event) = outcome {
            self.tell(event, now, &mut None, control, network, rng);
        }
    }

    fn carry_out(&self, order: &Order, term: Term) -> Vec<Write> {
        match order {
            Order::Apply { task, lanes } => {
                let record = Task {
                    spec_rev: self.reader.cluster.tasks.get(task).map_or(0, |it| it.spec_rev) + 1,
                    desired: Desired::Running,
                    changed_by: "ann".into(),
                    ..Task::new(lanes.to_string())
                };
                vec![(format!("task/{task}"), Some(write(term, &record)))]
            }
            Order::Release { task } => {
                ["task", "placement"].map(|kind| (format!("{kind}/{task}"), None)).into()
            }
            Order::Drain { node, draining } => {
                let record = Node { cordoned: *draining, draining: *draining };
                vec![(format!("node/{node}"), Some(write(term, &record)))]
            }
        }
    }
}

fn members(bug: Option<Bug>) -> Members {
    let mut timing = membership::Timing::default();
    if bug == Some(Bug::WallClock) {
        timing.pause = Duration::MAX;
    }
    Members::new(timing)
}

/// What the tasks of the control topic want.
pub(crate) fn wanted(tasks: &BTreeMap<String, Task>) -> BTreeMap<String, Wanted> {
    let lanes = |it: &Task| it.spec.parse().expect("a number of lanes");
    tasks
        .iter()
        .map(|(name, it)| (name.clone(), Wanted { lanes: lanes(it), ..Wanted::default() }))
        .collect()
}
