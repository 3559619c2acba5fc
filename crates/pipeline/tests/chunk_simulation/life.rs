//! One process of the task: lanes, a front with router and acknowledger, the stage that copies, and the meta
//! lane's queue. What a process knows ends with it; what the broker has does not.

use super::Bug;
use super::broker::{self, Plan, Shared, lock};
use super::copying::{Asked, Copying, Emission, READERS, idle};
use super::postgres::{self, Logged, Server};
use super::{LANES, PARTITIONS, Reached};
use crate::bench::{self, SimulatedTime};
use kafka::meta::{MetaRecord, Watermark};
use pipeline::batch::{Decoded, Durable, LaneBatch, Routed, TableLearned};
use pipeline::chunk::copy::Record;
use pipeline::chunk::merge::Verdict;
use pipeline::commit::CommitBudget;
use pipeline::frontier::Frontier;
use pipeline::lane::{Event, Lane, OpenSink};
use pipeline::meta::never_back;
use pipeline::planner::Plans;
use pipeline::progress::Progress;
use pipeline::routing::Routing;
use pipeline::start::{self, Facts, Parted, SnapshotProgress, Start, decide};
use rand::Rng;
use rand::rngs::SmallRng;
use record::encode::Encoder;
use record::plan::{TablePlan, TaskPlan};
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use supervision::Credit;
use wal::{ChangeBatch, Chunk, Lsn, Position};

const SYSTEM: u64 = 1;

static TASK: LazyLock<TaskPlan> = LazyLock::new(|| {
    let mut spec = bench::spec();
    spec.sink.format_options.tombstones = false;
    TaskPlan::new(&spec, "appdb").expect("a plan")
});

/// By lanes.
static PLANS: LazyLock<Vec<Arc<TablePlan>>> = LazyLock::new(|| {
    let plan = |lanes| TablePlan::new(postgres::table(), &TASK, 0, PARTITIONS, lanes);
    (1..=LANES).map(|lanes| Arc::new(plan(lanes).expect("a plan"))).collect()
});

/// What a process stands in.
pub(crate) struct Around {
    pub(crate) rng: SmallRng,
    pub(crate) server: Server,
    pub(crate) broker: Shared,
    pub(crate) bug: Option<Bug>,
    pub(crate) reached: Reached,
    pub(crate) now: Instant,
    /// What happens to chunks, where somebody wants to read it.
    pub(crate) trace: Option<Vec<String>>,
}

impl Around {
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }
}

struct Owner {
    lane: Lane,
    queue: VecDeque<LaneBatch>,
    beside: SimulatedTime,
}

/// What the meta lane's thread is to write, and for which front.
enum Order {
    Watermark(u64, Watermark),
    Plan { generation: u64, version: u64, plan: Box<Plan> },
}

/// A chunk whose place has not come.
struct Waiting {
    /// Name of its plan.
    of: String,
    ticket: u64,
    epoch: u64,
    number: u64,
    batch: ChangeBatch,
    is_redo: bool,
}

impl Waiting {
    fn name(&self) -> String {
        format!("{}/{}", self.of, self.number)
    }
}

struct Front {
    generation: u64,
    routing: Routing,
    frontier: Frontier,
    /// Next act to be read: transaction and ordinal.
    at: (usize, usize),
    /// What commits before is routed.
    routed_to: Lsn,
    /// What the acknowledger knows to be in the low watermark.
    confirmed: Lsn,
    /// A watermark is on its way.
    writing: bool,
    /// What was last reported to be durable.
    reported: u64,
    /// The router's.
    waiting: VecDeque<Waiting>,
    copying: Copying,
}

pub(crate) struct Life {
    number: u64,
    /// What is to be copied, as far as the process knows it to be written down.
    plan: Plan,
    watermark: Watermark,
    /// What its meta lane would write again.
    newest: Watermark,
    /// Where each lane stands, as far as was heard.
    positions: Vec<Position>,
    orders: VecDeque<Order>,
    owners: Vec<Option<Owner>>,
    front: Option<Front>,
    generations: u64,
}

impl Life {
    /// Takes the task over.
    pub(crate) fn open(number: u64, lanes: u8, around: &mut Around) -> Self {
        let mut broker = lock(&around.broker);
        broker.meta.owner = number;
        let (watermark, plan) = (broker.meta.watermark.clone(), broker.meta.plan.clone());
        drop(broker);
        around
            .note(|| format!("process {number} takes over, written down are {:?}", plan.1.chunks));
        if !plan.1.chunks.is_empty() {
            around.reached.taken_over_with_open_chunks += 1;
        }
        Self {
            number,
            plan,
            newest: watermark.clone(),
            watermark,
            positions: vec![Position::ZERO; usize::from(lanes)],
            orders: VecDeque::new(),
            owners: (0..lanes).map(|_| None).collect(),
            front: None,
            generations: 0,
        }
    }

    /// Whether a connection holds the lock of the table.
    pub(crate) fn holds(&self) -> bool {
        self.front.as_ref().is_some_and(|it| it.copying.holds())
    }

    /// The copy of this number is written down as done.
    pub(crate) fn has_copied(&self, snapshot: u32) -> bool {
        self.plan.0 == name(snapshot) && self.plan.1.done
    }

    /// Begins where the broker says, once every lane is open.
    fn begin(&mut self, around: &mut Around) -> Result<(), String> {
        if self.owners.iter().any(Option::is_none) {
            return Ok(());
        }
        // What fronts that ended had asked for is written first.
        while !self.orders.is_empty() {
            self.serve(around);
        }
        let newest = self.newest.clone();
        if !self.write_watermark(newest.clone(), around) {
            return Ok(());
        }
        self.watermark = newest;
        let from = match decide(&self.facts(&around.server)) {
            Start::Resume { from } => from,
            other @ (Start::Fresh { .. } | Start::Accept { .. } | Start::Park { .. }) => {
                return Err(format!("I6: the task does not go on: {other:?}"));
            }
        };
        let lanes = u8::try_from(self.owners.len()).expect("few lanes");
        self.generations += 1;
        let mut routing = Routing::new(self.generations, usize::from(lanes));
        let plans = Plans::from(Some(plan(lanes)));
        routing.learn(TableLearned { table: postgres::table(), plans, inference: None });
        if around.bug != Some(Bug::EarlierLifeForgotten) {
            routing.merge.routed_before(around.server.given_out());
        }
        let process = self.number;
        around.note(|| format!("process {process} streams from {from}"));
        self.front = Some(Front {
            generation: self.generations,
            routing,
            frontier: Frontier::new(lanes),
            at: (around.server.behind(from), 0),
            routed_to: Lsn::ZERO,
            confirmed: self.watermark.lsn,
            writing: false,
            reported: 0,
            waiting: VecDeque::new(),
            copying: Copying::restored(self.plan.clone(), around.bug),
        });
        Ok(())
    }

    fn facts(&self, server: &Server) -> Facts<'static> {
        Facts {
            on_divergence: config::OnDivergence::Park,
            task: "shop",
            slot_name: "distributary_shop",
            snapshot: SnapshotProgress::Done,
            watermark: Some(self.watermark.clone()),
            lanes: self.positions.clone(),
            slot: Some(start::Slot {
                confirmed_flush: server.slot,
                lost: false,
                conflicting: false,
            }),
            expiry: None,
            server: start::Server {
                system_id: SYSTEM,
                timeline: 1,
                end: server.end,
                parted: Parted::Never,
            },
            reseed: false,
        }
    }

    /// The front reads some of a transaction, or a keepalive; a new one begins at the slot.
    pub(crate) fn read(&mut self, around: &mut Around) -> Result<(), String> {
        if self.front.is_none() {
            (0..self.owners.len()).try_for_each(|lane| self.revive(lane, around))?;
            self.begin(around)?;
        }
        let Some(front) = &mut self.front else { return Ok(()) };
        let (transaction, from) = front.at;
        let batch = match around.server.wal.get(transaction) {
            None => idle(around.server.end),
            Some(next) => {
                let to = around.rng.random_range(from..=next.acts.len());
                let ends = to == next.acts.len();
                front.at = if ends { (transaction + 1, 0) } else { (transaction, to) };
                let batch = postgres::batch(next, from..to);
                let (process, Logged { xid, commit, acts }) = (self.number, next);
                if let Some(trace) = &mut around.trace {
                    let acts = &acts[from..to];
                    trace.push(format!("process {process} routes {xid} at {commit}: {acts:?}"));
                }
                batch
            }
        };
        let until = batch.committed_end_lsn.max(batch.idle_until).unwrap_or_default();
        front.routed_to = front.routed_to.max(until);
        let decoded = Decoded { batch, credit: Credit::none() };
        let routed = front.routing.route(decoded, &mut to(&mut self.owners));
        routed.into_iter().for_each(|it| front.frontier.routed(it));
        self.merge(around);
        Ok(())
    }

    /// The router hands on the chunks whose place has come.
    fn merge(&mut self, around: &mut Around) {
        let Some(front) = &mut self.front else { return };
        around.reached.together += u64::from(1 < front.waiting.len());
        while let Some(mut chunk) = front.waiting.pop_front() {
            match front.routing.merge.emit(chunk.ticket, &mut chunk.batch) {
                Verdict::Wait => return front.waiting.push_front(chunk),
                Verdict::Again => {
                    around.reached.told_in_part += 1;
                    if chunk.of == front.copying.name {
                        front.copying.again(chunk.epoch, chunk.number);
                    }
                }
                Verdict::Emit { left_out, .. } => {
                    around.reached.left_out += left_out;
                    front.hand_on(chunk, self.number, &mut self.owners, around);
                }
            }
        }
    }

    /// A connection of the stage that copies goes on.
    pub(crate) fn copy(&mut self, around: &mut Around) {
        let Some(front) = &mut self.front else { return };
        let number = around.rng.random_range(0..READERS);
        let (server, merge) = (&around.server, &mut front.routing.merge);
        let asked = front.copying.step(number, server, merge, &mut around.rng, front.routed_to);
        let (process, told) = (self.number, &front.copying);
        around.note(|| format!("process {process}: connection {number} {}", told.tell(number)));
        match asked {
            Asked::Nothing => {}
            Asked::Dirty => around.reached.dirty += 1,
            Asked::BegunAgain => around.reached.begun_again += 1,
            Asked::Emit(emission) => self.emit(*emission, around),
        }
    }

    fn emit(&mut self, emission: Emission, around: &mut Around) {
        let Some(front) = &mut self.front else { return };
        let Emission { ticket, epoch, number, files, batch, is_redo } = emission;
        let of = front.copying.name.clone();
        let snapshot = Some(of.as_str().into());
        let name = format!("{of}/{number}");
        let open = front.copying.open(number);
        let process = self.number;
        around
            .note(|| format!("process {process} has read {name}, open {open:?}, redo: {is_redo}"));
        around.reached.files.entry(name.clone()).or_insert(files);
        let batch = ChangeBatch { snapshot, chunk: Some(Arc::new(Chunk { name, open })), ..batch };
        front.waiting.push_back(Waiting { of, ticket, epoch, number, batch, is_redo });
        self.merge(around);
    }

    /// A connection of the stage that copies breaks.
    pub(crate) fn lose_reader(&mut self, around: &mut Around) {
        let number = around.rng.random_range(0..READERS);
        if let Some(front) = &mut self.front {
            front.copying.lose(number, &mut front.routing.merge);
        }
    }

    /// What is read is written down. `wanted`: once all is copied, the table is asked for again until this snapshot.
    pub(crate) fn save(&mut self, wanted: u32) {
        let Some(Front { generation, copying, .. }) = &mut self.front else { return };
        let generation = *generation;
        if let Some((version, plan)) = copying.save() {
            let plan = Box::new(plan);
            return self.orders.push_back(Order::Plan { generation, version, plan });
        }
        if copying.is_done() && !copying.is_saving && copying.name != name(wanted) {
            copying.is_saving = true;
            let plan = Box::new((name(wanted), Record::waiting("public", "orders", true)));
            self.orders.push_back(Order::Plan { generation, version: 0, plan });
        }
    }

    pub(crate) fn work(&mut self, lane: usize, now: Instant) {
        let Some(owner) = &mut self.owners[lane] else { return };
        let Some(batch) = owner.queue.pop_front() else { return };
        owner.beside.now = now;
        if owner.lane.write(&batch, &mut owner.beside).is_err() {
            self.owners[lane] = None;
        }
    }

    pub(crate) fn idle(&mut self, lane: usize, now: Instant) {
        let Some(owner) = &mut self.owners[lane] else { return };
        if !owner.queue.is_empty() {
            return;
        }
        owner.beside.now = now;
        if owner.lane.idle(&mut owner.beside).is_err() {
            self.owners[lane] = None;
        }
    }

    /// A report of the lane reaches router and acknowledger.
    pub(crate) fn hear(&mut self, lane: usize) {
        let Some(owner) = &mut self.owners[lane] else { return };
        let Some(Event::Durable { generation, seq, position }) = owner.beside.reports.pop_front()
        else {
            return;
        };
        self.positions[lane] = position.max(self.positions[lane]);
        let Some(front) = &mut self.front else { return };
        if generation == front.generation {
            let lane = u8::try_from(lane).expect("few lanes");
            front.routing.durable(&Durable { generation, lane, seq, position });
            front.frontier.durable(lane, seq);
        }
    }

    /// The acknowledger reports what is durable, and asks for the next low watermark. `reads`: the slot is
    /// this process's own still, and is told what the low watermark says.
    pub(crate) fn ask(&mut self, reads: bool, around: &mut Around) {
        let Some(front) = &mut self.front else { return };
        if reads {
            around.server.confirm(front.confirmed);
            if around.rng.random() {
                around.server.remember();
            }
        }
        let seq = front.frontier.seq();
        if front.reported < seq && front.frontier.outstanding() == 0 {
            front.report();
        }
        let Some(lsn) = front.frontier.confirmable() else { return };
        let is_lost = self.owners.iter().any(Option::is_none);
        if front.writing || lsn <= front.confirmed || is_lost {
            return;
        }
        front.writing = true;
        let watermark = watermark(lsn, self.positions.clone());
        self.orders.push_back(Order::Watermark(front.generation, watermark));
    }

    fn write_watermark(&mut self, asked: Watermark, around: &mut Around) -> bool {
        let mut records = [MetaRecord::Watermark(asked)];
        never_back(&mut records, Some(&MetaRecord::Watermark(self.newest.clone())));
        let [MetaRecord::Watermark(written)] = records else { unreachable!("it stays one") };
        self.newest = written.clone();
        let mut broker = lock(&around.broker);
        broker.write_meta(self.number, |meta| meta.watermark = written).is_ok()
    }

    /// The meta lane's thread takes its next order. The front that asked may be gone, and does not hear of it.
    pub(crate) fn serve(&mut self, around: &mut Around) {
        match self.orders.pop_front() {
            None => {}
            Some(Order::Watermark(generation, asked)) => {
                let is_written = self.write_watermark(asked.clone(), around);
                let Some(front) = self.front.as_mut().filter(|it| it.generation == generation)
                else {
                    return;
                };
                if !is_written {
                    return self.end_front();
                }
                front.writing = false;
                front.confirmed = asked.lsn;
                front.report();
                self.watermark = asked;
            }
            Some(Order::Plan { generation, version, plan }) => {
                let written = lock(&around.broker).write_meta(self.number, |meta| {
                    for (number, range) in &plan.1.chunks {
                        let ranges = meta.ranges.entry(format!("{}/{number}", plan.0)).or_default();
                        if !ranges.contains(range) {
                            ranges.push(range.clone());
                        }
                    }
                    meta.plan = (*plan).clone();
                });
                let Some(front) = self.front.as_mut().filter(|it| it.generation == generation)
                else {
                    return;
                };
                if written.is_err() {
                    return self.end_front();
                }
                if plan.0 == front.copying.name {
                    front.copying.has_saved(version, &plan.1);
                } else {
                    front.copying = Copying::restored((*plan).clone(), around.bug);
                }
                self.plan = *plan;
            }
        }
    }

    /// A lane without an owner gets one, and what is not durable again.
    pub(crate) fn revive(&mut self, lane: usize, around: &mut Around) -> Result<(), String> {
        if self.owners[lane].is_some() {
            return Ok(());
        }
        let (broker, number) = (Arc::clone(&around.broker), u8::try_from(lane).expect("few lanes"));
        let open: OpenSink = Box::new(move || broker::open(&broker, number));
        let mut beside = SimulatedTime::new(around.now);
        let lanes = u8::try_from(self.owners.len()).expect("few lanes");
        let budget = CommitBudget {
            events_max: around.rng.random_range(1..8),
            ..CommitBudget::new(Duration::from_millis(200), lanes)
        };
        let (encoder, progress) = (Encoder::new(&TASK), Arc::new(Progress::default()));
        let floor = Position::ZERO;
        let Ok(opened) = Lane::open(open, encoder, budget, progress, floor, &mut beside) else {
            return Ok(());
        };
        if let Some(Event::Opened { position, .. }) = beside.reports.pop_front() {
            let known = &mut self.positions[lane];
            if position < *known {
                return Err(format!("I5: lane {lane} was opened at {position}, below {known}"));
            }
            *known = position;
        }
        let retained = self.front.iter().flat_map(|front| front.routing.retained(lane));
        let queue = retained.cloned().collect();
        self.owners[lane] = Some(Owner { lane: opened, queue, beside });
        Ok(())
    }

    pub(crate) fn lose_lane(&mut self, lane: usize) {
        self.owners[lane] = None;
    }

    /// Of what the front had sent, lanes keep what they have queued.
    pub(crate) fn end_front(&mut self) {
        self.front = None;
    }
}

impl Front {
    /// A chunk has found its place.
    fn hand_on(
        &mut self,
        chunk: Waiting,
        process: u64,
        owners: &mut [Option<Owner>],
        around: &mut Around,
    ) {
        let name = chunk.name();
        let Waiting { of, epoch, number, batch, is_redo, .. } = chunk;
        let plans = [Some(plan(u8::try_from(owners.len()).expect("few lanes")))].into();
        let routed = self.routing.route_aside(batch, &plans, Credit::none(), &mut to(owners));
        let (seq, lanes) = (routed.seq, routed.lanes);
        around.note(|| format!("process {process}: {name} is batch {seq} of lanes {lanes:b}"));
        if is_redo {
            around.reached.note_redo(&name, &routed, &lock(&around.broker));
        }
        // It may be left of a plan that is over.
        if of == self.copying.name {
            if around.bug == Some(Bug::SettledEarly) {
                self.copying.settled(epoch, number);
            } else {
                self.copying.emitted.insert(seq, (epoch, number));
            }
        }
        self.frontier.routed(routed);
    }

    /// Everything up to where the frontier stands is durable.
    fn report(&mut self) {
        self.reported = self.frontier.seq();
        self.copying.settle(self.reported);
    }
}

/// Gives each lane that has an owner its part.
fn to(owners: &mut [Option<Owner>]) -> impl FnMut(usize, &LaneBatch) {
    |lane, part| {
        if let Some(owner) = &mut owners[lane] {
            owner.queue.push_back(part.clone());
        }
    }
}

/// Name of a snapshot's plan.
pub(crate) fn name(snapshot: u32) -> String {
    format!("s{snapshot}/{}", postgres::OID)
}

pub(crate) fn plan(lanes: u8) -> Arc<TablePlan> {
    Arc::clone(&PLANS[usize::from(lanes) - 1])
}

pub(crate) fn watermark(lsn: Lsn, lanes: Vec<Position>) -> Watermark {
    Watermark { lsn, system_id: SYSTEM, timeline: 1, lanes, history: Vec::new(), standby: false }
}

impl Reached {
    /// A chunk is handed on again: some lanes may hold it.
    fn note_redo(&mut self, name: &str, routed: &Routed, broker: &broker::Broker) {
        let holds = |it: &broker::LaneLog| it.held().iter().any(|held| held == name);
        let has_part = |lane: usize| routed.lanes >> lane & 1 == 1;
        let (mut held, mut owed) = (false, false);
        for (lane, log) in broker.lanes.iter().enumerate() {
            held |= holds(log);
            owed |= has_part(lane) && !holds(log);
        }
        self.redone += 1;
        self.held_by_some += u64::from(held && owed);
    }
}
