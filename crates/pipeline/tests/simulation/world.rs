//! One task in a world that goes wrong: a server that restarts or is replaced by its standby, fronts and
//! lanes that die at any moment, a broker that answers late or never.

use super::Bug;
use super::broker::{self, Broker, MetaLog, Shared, lock};
use super::history::{self, History, LANES, PARTITIONS, ROWS};
use super::invariants::{View, Watch};
use super::postgres::{BEGIN, Server, Setup, Transaction};
use crate::bench::{self, SimulatedTime};
use config::{Hash, Shape};
use kafka::meta::{MetaRecord, Revision, Watermark};
use pipeline::batch::{Decoded, Durable, Held, LaneBatch, MarkReached, Marked, TableLearned};
use pipeline::commit::CommitBudget;
use pipeline::frontier::Frontier;
use pipeline::lane::{Event, Lane, OpenSink};
use pipeline::meta::never_back;
use pipeline::planner::Plans;
use pipeline::progress::Progress;
use pipeline::routing::Routing;
use pipeline::start::{self, Facts, Parted, SnapshotProgress, Start, decide};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use record::encode::Encoder;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervision::Credit;
use wal::{ChangeBatch, Lsn, Position};

const SYSTEM: u64 = 1;

struct Owner {
    lane: Lane,
    queue: VecDeque<LaneBatch>,
    /// What a dead front had sent, still under way.
    late: VecDeque<LaneBatch>,
    /// Highest front whose batch it was given.
    newest: u64,
    around: SimulatedTime,
}

struct Front {
    generation: u64,
    timeline: u32,
    routing: Routing,
    frontier: Frontier,
    /// Next row to be read: transaction and ordinal.
    at: (usize, u64),
    /// What the acknowledger knows to be in the low watermark.
    confirmed: Lsn,
    /// A watermark is on its way.
    writing: bool,
}

/// What one process knows of its task, as its meta lane's thread and its loop do.
struct Process {
    number: u64,
    watermark: Watermark,
    /// What its meta lane would write again.
    newest: Watermark,
    /// Where each lane stands, as far as was heard.
    positions: Vec<Position>,
    /// Watermarks in the queue of the meta lane, each with the front that waits for the answer.
    orders: VecDeque<(u64, Watermark)>,
    /// By which its lanes were opened, with the marks since.
    revision: Revision,
    /// As the meta lane has it, as far as it knows.
    recorded: Revision,
    /// A changed spec that no mark was recorded for, or maybe one was.
    wanted: Option<Hash>,
}

impl Process {
    /// Takes the task over.
    fn open(number: u64, broker: &mut Broker, lanes: u8) -> Self {
        broker.meta.owner = number;
        let watermark = broker.meta.watermark.clone();
        let recorded = broker.meta.revision.clone();
        Self {
            number,
            revision: recorded.clone().passed(watermark.lsn),
            recorded,
            wanted: None,
            newest: watermark.clone(),
            watermark,
            positions: vec![Position::ZERO; usize::from(lanes)],
            orders: VecDeque::new(),
        }
    }

    /// The meta lane's thread takes its next order. Gives the front that asked, and for what.
    fn serve(
        &mut self,
        broker: &mut Broker,
        bug: Option<Bug>,
    ) -> Option<(u64, Watermark, Result<(), kafka::Error>)> {
        let (generation, asked) = self.orders.pop_front()?;
        let written = self.write(asked.clone(), broker, bug);
        Some((generation, asked, written))
    }

    /// The meta lane's thread writes what was asked for, or what it knows to be newer.
    fn write(
        &mut self,
        asked: Watermark,
        broker: &mut Broker,
        bug: Option<Bug>,
    ) -> Result<(), kafka::Error> {
        let mut records = [MetaRecord::Watermark(asked)];
        if bug != Some(Bug::AnswerForgotten) {
            never_back(&mut records, Some(&MetaRecord::Watermark(self.newest.clone())));
        }
        let [MetaRecord::Watermark(written)] = records else { unreachable!("it stays one") };
        self.newest = written.clone();
        broker.write_watermark(self.number, written)
    }

    /// Records a mark before anything goes by it.
    fn mark(&mut self, at: Lsn, broker: &mut Broker, bug: Option<Bug>) -> Result<(), kafka::Error> {
        let Some(hash) = self.wanted else { return Ok(()) };
        let recorded = self.recorded.clone().passed(self.watermark.lsn);
        let recorded = recorded.marked(at, Shape { hash, ..Shape::default() });
        if bug != Some(Bug::MarkNotRecorded) {
            broker.write_revision(self.number, recorded.clone())?;
        }
        self.revision.marks.retain(|mark| mark.at < at);
        self.revision.marks.extend(recorded.marks.last().cloned());
        (self.recorded, self.wanted) = (recorded, None);
        Ok(())
    }

    /// The plans of the table, by revision.
    fn plans(&self, lanes: u8, unpinned: bool) -> Plans {
        let plan = |shape: &Shape| Some(history::plan(lanes, unpinned, shape.hash));
        let mut plans = Plans::from(plan(&self.revision.shape));
        self.revision.marks.iter().for_each(|it| plans.learn(it.number, plan(&it.shape)));
        plans
    }

    fn marks(&self) -> Vec<(Lsn, Arc<Marked>)> {
        let marked = |number, shape: &Shape| Arc::new(Marked { number, shape: shape.clone() });
        self.revision.marks.iter().map(|it| (it.at, marked(it.number, &it.shape))).collect()
    }

    /// Whether the task is still this process's own. What fronts that ended had asked for is written
    /// then, and heard of.
    fn prove(&mut self, broker: &mut Broker, bug: Option<Bug>) -> bool {
        if bug == Some(Bug::AnswerForgotten) {
            return true;
        }
        while self.serve(broker, bug).is_some() {}
        let is_ours = broker.write_watermark(self.number, self.newest.clone()).is_ok();
        if is_ours {
            self.watermark = self.newest.clone();
        }
        is_ours
    }
}

/// What the present process is about to change.
struct Change {
    lanes: u8,
    /// Where the present revision ends.
    end: Lsn,
    sealed: BTreeSet<usize>,
}

pub(crate) struct World {
    rng: SmallRng,
    bug: Option<Bug>,
    broker: Shared,
    server: Server,
    /// Transactions that will yet be committed.
    to_write: usize,
    /// The time line that lanes are fed from.
    history: History,
    front: Option<Front>,
    generations: u64,
    process: Process,
    owners: Vec<Option<Owner>>,
    /// Processes that were paused, taken for dead, and woke up.
    zombies: Vec<(Process, Vec<Owner>)>,
    /// Lanes of each revision so far; the last one is in force.
    revisions: Vec<u8>,
    change: Option<Change>,
    /// Why the task was parked: nothing but a person goes on from there.
    pub(crate) parked: Option<String>,
    watch: Watch,
    started: Instant,
    steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup, bug: Option<Bug>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let to_write = rng.random_range(3..25);
        let lanes = rng.random_range(1..=LANES);
        let positions = vec![Position::ZERO; usize::from(lanes)];
        let watermark = watermark(BEGIN, 1, positions);
        let (start, shape, marks) = (Lsn::ZERO, Shape::default(), Vec::new());
        let revision = Revision { number: 1, start, shape, marks };
        let meta = MetaLog { owner: 0, watermark, revision, written: (0, 0) };
        // One more than the pinned ones: for a front that does not heed the pins.
        let broker = Broker::shared(LANES, PARTITIONS + 1, meta, rng.random(), bug);
        let (process, watch) = {
            let mut held = lock(&broker);
            (Process::open(1, &mut held, lanes), Watch::new(&held))
        };
        Self {
            rng,
            bug,
            broker,
            server: Server::new(setup),
            to_write,
            history: History::new(),
            front: None,
            generations: 0,
            process,
            owners: (0..LANES).map(|_| None).collect(),
            zombies: Vec::new(),
            revisions: vec![lanes],
            change: None,
            parked: None,
            watch,
            started: Instant::now(),
            steps: 0,
        }
    }

    fn lanes(&self) -> u8 {
        *self.revisions.last().expect("the first one")
    }

    /// One step of the scheduler, then every invariant.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        if self.parked.is_some() {
            return Ok(());
        }
        self.steps += 1;
        let lane = self.rng.random_range(0..usize::from(self.lanes()));
        match self.rng.random_range(0..520) {
            0..100 => self.read()?,
            100..240 => self.work(lane)?,
            240..300 => self.idle(lane),
            300..360 => self.hear(lane),
            360..382 => self.ask(),
            382..404 => self.serve(),
            404..420 => self.seal(),
            420..440 => self.revive(lane)?,
            440..450 => lock(&self.broker).deliver_late(lane),
            450..453 => self.end_front(),
            453..456 => self.owners[lane] = None,
            456..459 => {
                self.kill();
                self.change_spec();
            }
            459..461 => self.restart_server(),
            461..464 => self.wake_zombie(),
            464..480 => self.write(),
            480..502 => self.server.replicate(),
            502..508 => self.server.copy_slot(),
            508 => self.fail_over(),
            509..513 => self.arrive_late(lane),
            513..519 => self.mark(),
            _ => self.meddle(),
        }
        self.check()
    }

    /// No more trouble: everything must arrive, unless a person must decide.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        lock(&self.broker).trouble = 0;
        // The WAL goes on at least to where the revision ends: maybe an older primary's end.
        while 0 < self.to_write || self.change.as_ref().is_some_and(|it| self.server.end() < it.end)
        {
            self.to_write = self.to_write.max(1);
            self.write();
        }
        for _ in 0..400 {
            self.server.replicate();
            self.read()?;
            for lane in 0..usize::from(self.lanes()) {
                self.revive(lane)?;
                self.work(lane)?;
                self.idle(lane);
                self.hear(lane);
            }
            self.ask();
            self.serve();
            self.seal();
            self.check()?;
            if self.parked.is_some() || self.has_arrived() {
                break;
            }
        }
        if self.parked.is_some() || self.has_arrived() {
            return Ok(());
        }
        let broker = lock(&self.broker);
        let shown: Vec<usize> = broker.partitions.iter().map(Vec::len).collect();
        let slot = self.server.slot;
        Err(format!("never arrived: partitions show {shown:?} events, the slot stands at {slot:?}"))
    }

    /// Everything is visible, the slot stands at the end, and the changed spec is in force.
    fn has_arrived(&self) -> bool {
        let broker = lock(&self.broker);
        let mut partitions = broker.partitions.iter().zip(&self.history.expected);
        self.change.is_none()
            && self.history.timeline == self.server.timeline
            && self.server.slot == Some(self.server.end())
            && partitions.all(|(shown, expected)| shown.len() == expected.len())
    }

    /// Another transaction commits.
    fn write(&mut self) {
        if self.to_write == 0 {
            return;
        }
        self.to_write -= 1;
        let written = self.server.write(self.rng.random_range(1..ROWS));
        if self.server.timeline == self.history.timeline {
            self.history.wrote(written);
        }
    }

    /// The next process has another number of lanes in its spec, or the same.
    fn change_spec(&mut self) {
        let wanted = self.change.as_ref().map_or(self.lanes(), |change| change.lanes);
        let other = self.rng.random_range(1..=LANES);
        let lanes = if self.rng.random() { wanted } else { other };
        self.change = (lanes != self.lanes()).then(|| {
            // The server's present end: whatever any lane holds commits before.
            let end = Lsn(self.server.end().0 + self.rng.random_range(0..=2));
            Change { lanes, end, sealed: BTreeSet::new() }
        });
    }

    /// A running task takes up a spec of another shape.
    fn mark(&mut self) {
        let lanes = self.lanes();
        let Some(front) = self.front.as_mut().filter(|_| self.change.is_none()) else { return };
        let other = match self.process.recorded.newest().1.hash {
            Hash::Murmur2 => Hash::Java,
            Hash::Java => Hash::Murmur2,
        };
        self.process.wanted = Some(other);
        let Held { at, tables } = front.routing.hold(self.server.end());
        if self.process.mark(at, &mut lock(&self.broker), self.bug).is_err() {
            return self.end_front();
        }
        self.history.goes_by(&self.process.revision, &self.server.wal);
        let Some((at, marked)) = self.process.marks().pop() else { return };
        let plan = |table| (table, Some(history::plan(lanes, false, other)));
        let plans = tables.into_iter().map(plan).collect();
        let owners = &mut self.owners;
        let routed = front.routing.reach(MarkReached { at, marked, plans }, &mut |lane, part| {
            if let Some(owner) = &mut owners[lane] {
                owner.queue.push_back(part.clone());
            }
        });
        routed.into_iter().for_each(|it| front.frontier.routed(it));
    }

    /// Once everything of the revision is durable, lanes are sealed one by one; after the last one the
    /// next revision is in force, and the task is opened again.
    fn seal(&mut self) {
        let (now, lanes) = (self.now(), self.lanes());
        let Some(change) = &mut self.change else { return };
        // Only a front that was let begin finds that the revision is over.
        let is_over = self.front.is_some() || !change.sealed.is_empty();
        let is_durable = change.end <= self.process.watermark.lsn;
        if !is_over || !is_durable && self.bug != Some(Bug::SealedEarly) {
            return;
        }
        for lane in 0..usize::from(lanes) {
            if change.sealed.contains(&lane) {
                continue;
            }
            let Some(owner) = &mut self.owners[lane] else { return };
            owner.around.now = now;
            let sealed = owner.lane.seal(change.end, &mut owner.around);
            self.owners[lane] = None;
            if sealed.is_err() {
                return;
            }
            change.sealed.insert(lane);
        }
        let Change { lanes, end, .. } = *change;
        let positions = vec![Position::just_before(end); usize::from(lanes)];
        let watermark = Watermark { lsn: end, lanes: positions, ..self.process.watermark.clone() };
        let mut broker = lock(&self.broker);
        broker.meta.watermark = watermark;
        let (number, shape) = self.process.recorded.newest();
        let (number, shape) = (number + 1, shape.clone());
        broker.meta.revision = Revision { number, start: end, shape, marks: Vec::new() };
        self.process = Process::open(self.process.number + 1, &mut broker, lanes);
        drop(broker);
        self.revisions.push(lanes);
        self.change = None;
        self.end_front();
        if self.rng.random() {
            // The slot was not told yet.
            self.restart_server();
        }
    }

    fn are_open(&self) -> bool {
        let is_sealed =
            |lane: usize| self.change.as_ref().is_some_and(|it| it.sealed.contains(&lane));
        (0..usize::from(self.lanes())).all(|lane| self.owners[lane].is_some() || is_sealed(lane))
    }

    fn is_on_another_line(&self) -> bool {
        self.process.watermark.timeline != self.server.timeline
    }

    /// A front begins where the real decision says, once every lane is open; on a new time line once
    /// more.
    fn begin(&mut self) -> Result<(), String> {
        let lanes = self.lanes();
        if self.parked.is_some() || !self.are_open() {
            return Ok(());
        }
        if !self.process.prove(&mut lock(&self.broker), self.bug) {
            return Ok(());
        }
        if self.is_on_another_line() && self.bug != Some(Bug::OldLineQueued) {
            self.owners.iter_mut().for_each(|it| *it = None);
            (0..usize::from(lanes)).try_for_each(|lane| self.revive(lane))?;
            if !self.are_open() {
                return Ok(());
            }
        }
        let from = match decide(&self.facts()) {
            Start::Resume { from } => from,
            Start::Park { cause, .. } | Start::Accept { cause } => {
                if self.breaks_off().is_none() && !self.is_in_doubt() {
                    return Err(format!("parked without need: {cause}"));
                }
                self.parked = Some(cause);
                return Ok(());
            }
            Start::Fresh { .. } => return Err("a task that was fed began from nothing".into()),
        };
        if let Some(why) = self.breaks_off() {
            return Err(format!("went on where a person must decide: {why}"));
        }
        if self.is_on_another_line() && self.bug != Some(Bug::LineNotNoted) {
            let (timeline, lanes) = (self.server.timeline, self.process.positions.clone());
            let noted = Watermark { timeline, lanes, ..self.process.watermark.clone() };
            let written = self.process.write(noted.clone(), &mut lock(&self.broker), self.bug);
            if written.is_err() {
                return Ok(());
            }
            self.process.watermark = noted;
        }
        if self.history.timeline != self.server.timeline {
            self.history.feed(self.server.timeline, &self.server.wal);
        }
        // What may have been recorded and is not known must not be left so.
        if self.process.mark(self.server.end(), &mut lock(&self.broker), self.bug).is_err() {
            return Ok(());
        }
        self.history.goes_by(&self.process.revision, &self.server.wal);
        self.generations += 1;
        let end = self.change.as_ref().map(|change| change.end);
        let routing = Routing::new(self.generations, usize::from(lanes)).until(end);
        let mut routing = routing.marked(self.process.marks());
        let unpinned = self.bug == Some(Bug::PinIgnored) && 1 < self.generations;
        let mixed = self.bug == Some(Bug::LanesMixed) && self.generations.is_multiple_of(2);
        let plans = self.process.plans(lanes - u8::from(mixed && 1 < lanes), unpinned);
        routing.learn(TableLearned { table: bench::table(), plans, inference: None });
        self.front = Some(Front {
            generation: self.generations,
            timeline: self.server.timeline,
            routing,
            frontier: Frontier::new(lanes),
            at: (self.server.behind(from), 0),
            confirmed: self.process.watermark.lsn,
            writing: false,
        });
        Ok(())
    }

    fn facts(&self) -> Facts<'static> {
        let blind = self.bug == Some(Bug::TimelineIgnored);
        let end = if blind { Lsn(u64::MAX) } else { self.server.end() };
        let made_again =
            (self.bug == Some(Bug::SlotMadeAgain)).then_some(self.process.watermark.lsn);
        let slot = self.server.slot.or(made_again);
        let timeline = self.server.timeline;
        let switch = self.server.left(self.process.watermark.timeline).filter(|_| !blind);
        let parted = switch.map_or(Parted::Never, Parted::At);
        Facts {
            on_divergence: config::OnDivergence::Park,
            task: "shop",
            slot_name: "distributary_shop",
            snapshot: SnapshotProgress::Done,
            watermark: Some(self.process.watermark.clone()),
            lanes: self.process.positions.clone(),
            slot: slot.map(|confirmed_flush| start::Slot {
                confirmed_flush,
                lost: false,
                conflicting: false,
            }),
            expiry: None,
            server: start::Server { system_id: SYSTEM, timeline, end, parted },
            reseed: false,
        }
    }

    /// Why the stream of this server does not go on where the topics stand. `None`: it does.
    fn breaks_off(&self) -> Option<String> {
        let broker = lock(&self.broker);
        let durable = broker.meta.watermark.lsn;
        match self.server.slot {
            None => return Some("the slot is gone".into()),
            Some(slot) if durable < slot => return Some(format!("the slot went on to {slot}")),
            Some(_) => {}
        }
        let switch = self.server.left(self.history.timeline)?;
        let shown = broker.partitions.iter().filter_map(|shown| shown.last());
        let newest = shown.map(|it| it.at.commit_lsn).max().unwrap_or_default();
        (switch <= newest).then(|| format!("the line was left at {switch}, {newest} was delivered"))
    }

    /// Nothing is lost, but the process cannot know: the slot is ahead of what it heard to be durable, or
    /// the server has lost WAL that held nothing for the task.
    fn is_in_doubt(&self) -> bool {
        let known = self.process.watermark.lsn;
        let left = self.server.left(self.history.timeline);
        self.server.slot.is_some_and(|slot| known < slot) || left.is_some_and(|left| left < known)
    }

    /// The front reads some rows; a new one begins at the slot.
    fn read(&mut self) -> Result<(), String> {
        if self.front.is_none() {
            // All at once, as a process does.
            (0..usize::from(self.lanes())).try_for_each(|lane| self.revive(lane))?;
            self.begin()?;
        }
        let Some(front) = &mut self.front else { return Ok(()) };
        let (transaction, from) = front.at;
        let Some(&next) = self.server.sent().get(transaction) else {
            // A keepalive: nothing else has committed.
            let sent = self.server.sent().last().map_or(BEGIN, Transaction::end);
            let idle_until = Some(sent);
            let batch =
                ChangeBatch { idle_until, ends_transaction: true, ..ChangeBatch::default() };
            let decoded = Decoded { batch, credit: Credit::none() };
            let routed = front.routing.route(decoded, &mut |_, _| {});
            routed.into_iter().for_each(|it| front.frontier.routed(it));
            return Ok(());
        };
        let to = self.rng.random_range(from..=next.rows);
        let ends = to == next.rows;
        let mut batch = bench::inserts(next.commit.0, from..to, ends);
        if batch.changes.is_empty() {
            batch.tables.clear();
        }
        front.at = if ends { (transaction + 1, 0) } else { (transaction, to) };
        let owners = &mut self.owners;
        let decoded = Decoded { batch, credit: Credit::none() };
        let routed = front.routing.route(decoded, &mut |lane, part| {
            if let Some(owner) = &mut owners[lane] {
                owner.queue.push_back(part.clone());
            }
        });
        routed.into_iter().for_each(|it| front.frontier.routed(it));
        if self.bug == Some(Bug::ConfirmedEarly) && ends {
            self.server.confirm(next.end());
        }
        Ok(())
    }

    fn work(&mut self, lane: usize) -> Result<(), String> {
        let now = self.now();
        let Some(owner) = &mut self.owners[lane] else { return Ok(()) };
        let Some(mut batch) = owner.queue.pop_front() else { return Ok(()) };
        owner.around.now = now;
        let generation = batch.generation;
        if self.bug == Some(Bug::OldFrontObeyed) {
            batch.generation = generation.max(owner.newest);
        }
        let sent = lock(&self.broker).lanes[lane].sent;
        let written = owner.lane.write(&batch, &mut owner.around);
        if generation < owner.newest && sent < lock(&self.broker).lanes[lane].sent {
            let newest = owner.newest;
            return Err(format!("I8: lane {lane} wrote for front {generation} after {newest}"));
        }
        owner.newest = generation.max(owner.newest);
        if written.is_err() {
            self.owners[lane] = None;
        }
        Ok(())
    }

    fn idle(&mut self, lane: usize) {
        let now = self.now();
        let Some(owner) = &mut self.owners[lane] else { return };
        if !owner.queue.is_empty() {
            return;
        }
        owner.around.now = now;
        if owner.lane.idle(&mut owner.around).is_err() {
            self.owners[lane] = None;
        }
    }

    /// A report of the lane reaches router and acknowledger.
    fn hear(&mut self, lane: usize) {
        let Some(owner) = &mut self.owners[lane] else { return };
        let Some(Event::Durable { generation, seq, position }) = owner.around.reports.pop_front()
        else {
            return;
        };
        let known = &mut self.process.positions[lane];
        *known = position.max(*known);
        let Some(front) = &mut self.front else { return };
        if generation == front.generation {
            let lane = u8::try_from(lane).expect("few lanes");
            front.routing.durable(&Durable { generation, lane, seq, position });
            front.frontier.durable(lane, seq);
        }
    }

    /// The slot is told what the low watermark says; the next low watermark is asked for.
    fn ask(&mut self) {
        let Some(front) = &mut self.front else { return };
        self.server.confirm(front.confirmed);
        if self.rng.random() {
            self.server.remember();
        }
        let Some(lsn) = front.frontier.confirmable() else { return };
        if front.writing || lsn <= front.confirmed {
            return;
        }
        front.writing = true;
        let lanes = self.process.positions.clone();
        let watermark = watermark(lsn, front.timeline, lanes);
        self.process.orders.push_back((front.generation, watermark));
    }

    /// A low watermark is written. The front that asked for it may be gone, and does not hear of it.
    fn serve(&mut self) {
        let served = self.process.serve(&mut lock(&self.broker), self.bug);
        let Some((generation, asked, written)) = served else { return };
        let Some(front) = self.front.as_mut().filter(|it| it.generation == generation) else {
            return;
        };
        if written.is_err() {
            return self.end_front();
        }
        front.writing = false;
        front.confirmed = asked.lsn;
        self.process.watermark = asked;
    }

    /// A lane without an owner gets one, and what is not durable again.
    fn revive(&mut self, lane: usize) -> Result<(), String> {
        let is_sealed = self.change.as_ref().is_some_and(|change| change.sealed.contains(&lane));
        if self.owners[lane].is_some() || is_sealed {
            return Ok(());
        }
        let (broker, number) = (Arc::clone(&self.broker), u8::try_from(lane).expect("few lanes"));
        let revision = self.revisions.len() as u64;
        let open: OpenSink = Box::new(move || broker::open(&broker, number, revision));
        let mut around = SimulatedTime::new(self.now());
        let budget = CommitBudget {
            events_max: self.rng.random_range(1..8),
            ..CommitBudget::new(Duration::from_millis(200), self.lanes())
        };
        let encoder = Encoder::new(&bench::task_plan());
        let progress = Arc::new(Progress::default());
        let start = self.process.revision.start;
        let begin = if start == Lsn::ZERO { Position::ZERO } else { Position::just_before(start) };
        let floor = if self.bug == Some(Bug::FloorIgnored) { Position::ZERO } else { begin };
        let Ok(opened) = Lane::open(open, encoder, budget, progress, floor, &mut around) else {
            return Ok(());
        };
        if let Some(Event::Opened { position, .. }) = around.reports.pop_front() {
            // Where a planted fault has no floor, the start still has: it would notice.
            let position = position.max(begin);
            let known = &mut self.process.positions[lane];
            if position < *known {
                return Err(format!("I5: lane {lane} was opened at {position}, below {known}"));
            }
            *known = position;
        }
        let keeps = self.bug != Some(Bug::NotSentAgain);
        let retained = self.front.iter().flat_map(|front| front.routing.retained(lane));
        let queue = retained.filter(|_| keeps).cloned().collect();
        let late = VecDeque::new();
        self.owners[lane] = Some(Owner { lane: opened, queue, late, newest: 0, around });
        Ok(())
    }

    /// A front ends; some of what it sent may not have arrived.
    fn end_front(&mut self) {
        if self.front.take().is_none() {
            return;
        }
        for owner in self.owners.iter_mut().flatten() {
            // One connection: what is still under way from before comes first.
            if owner.late.is_empty() {
                let from = self.rng.random_range(0..=owner.queue.len());
                owner.late.extend(owner.queue.drain(from..));
            }
        }
    }

    /// What a dead front had sent arrives.
    fn arrive_late(&mut self, lane: usize) {
        let Some(owner) = &mut self.owners[lane] else { return };
        owner.queue.extend(owner.late.pop_front());
    }

    /// The process is killed, or paused and taken for dead; another one takes the task over.
    fn kill(&mut self) {
        self.front = None;
        let number = self.process.number + 1;
        let next = Process::open(number, &mut lock(&self.broker), self.lanes());
        let process = std::mem::replace(&mut self.process, next);
        let owners: Vec<_> = self.owners.iter_mut().filter_map(Option::take).collect();
        if self.rng.random() {
            self.zombies.push((process, owners));
        }
    }

    fn wake_zombie(&mut self) {
        let Some((mut process, owners)) = self.zombies.pop() else { return };
        while let Some((_, _, written)) = process.serve(&mut lock(&self.broker), self.bug) {
            if written.is_err() {
                break;
            }
        }
        for mut zombie in owners {
            let mut batches = std::iter::from_fn(|| zombie.queue.pop_front());
            let written = batches.try_for_each(|it| zombie.lane.write(&it, &mut zombie.around));
            if written.is_ok() {
                // Whether it may write or not, it ends here.
                let _ = zombie.lane.idle(&mut zombie.around);
            }
        }
    }

    /// The server restarts and has forgotten the newest confirmations.
    fn restart_server(&mut self) {
        self.server.restart();
        self.end_front();
    }

    /// The standby takes over; nobody reaches the old primary any more.
    fn fail_over(&mut self) {
        if self.server.promote() {
            self.end_front();
        }
    }

    fn meddle(&mut self) {
        if self.front.is_none() {
            self.server.meddle();
        }
    }

    fn now(&self) -> Instant {
        self.started + Duration::from_millis(30 * self.steps)
    }

    fn check(&mut self) -> Result<(), String> {
        let slot = self.server.slot.filter(|_| !self.server.is_meddled);
        let view = View { history: &self.history, lanes: &self.revisions, slot };
        self.watch.check(&lock(&self.broker), &view)
    }
}

fn watermark(lsn: Lsn, timeline: u32, lanes: Vec<Position>) -> Watermark {
    Watermark { lsn, system_id: SYSTEM, timeline, lanes, history: Vec::new(), standby: false }
}
