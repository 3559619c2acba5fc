//! One task in a world that goes wrong: a source whose slot steps back, fronts and lanes that die at
//! any moment, a broker that answers late or never.

use super::Bug;
use super::broker::{self, Broker, Event as Seen, Shared, lock};
use crate::bench;
use pipeline::batch::{Decoded, Durable, LaneBatch, TableLearned};
use pipeline::commit::CommitBudget;
use pipeline::frontier::Frontier;
use pipeline::lane::{Event, Lane, OpenSink, Surroundings};
use pipeline::progress::Progress;
use pipeline::routing::Routing;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use record::encode::Encoder;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervision::Credit;
use wal::{ChangeBatch, Lsn, Position};

/// Lanes of a revision, at most.
const LANES: u8 = 4;
const PARTITIONS: i32 = 9;

/// What the source holds: transactions with so many rows, ten LSNs apart.
struct Source {
    transactions: Vec<u64>,
    confirmed: Lsn,
    /// Confirmed positions that a restart of the server may step back to.
    remembered: Lsn,
}

fn commit_lsn(transaction: usize) -> u64 {
    100 + 10 * transaction as u64
}

/// The lane's surroundings: simulated time, reports kept for the scheduler.
struct Around {
    now: Instant,
    reports: VecDeque<Event>,
}

impl Surroundings for Around {
    fn now(&self) -> Instant {
        self.now
    }

    fn now_us(&self) -> i64 {
        0
    }

    fn report(&mut self, event: Event) {
        self.reports.push_back(event);
    }
}

struct Owner {
    lane: Lane,
    queue: VecDeque<LaneBatch>,
    around: Around,
}

struct Front {
    generation: u64,
    routing: Routing,
    frontier: Frontier,
    /// Next row to be read: transaction and ordinal.
    at: (usize, u64),
}

/// The revision in force, as the meta lane holds it.
struct Revision {
    number: u64,
    start: Lsn,
    lanes: u8,
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
    source: Source,
    front: Option<Front>,
    generations: u64,
    owners: Vec<Option<Owner>>,
    /// Owners of a process that was paused, taken for dead, and woke up.
    zombies: Vec<Owner>,
    watermark: Lsn,
    revision: Revision,
    change: Option<Change>,
    /// Transactions that any front has begun to read.
    furthest: usize,
    /// By partition.
    expected: Vec<Vec<Seen>>,
    started: Instant,
    steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let transactions: Vec<u64> =
            (0..rng.random_range(2..9)).map(|_| rng.random_range(1..7)).collect();
        let lanes = rng.random_range(1..=LANES);
        let partitions = usize::try_from(PARTITIONS).expect("few");
        let mut world = Self {
            broker: Broker::shared(LANES, PARTITIONS, rng.random(), bug),
            rng,
            bug,
            source: Source { transactions, confirmed: Lsn(50), remembered: Lsn(50) },
            front: None,
            generations: 0,
            owners: (0..LANES).map(|_| None).collect(),
            zombies: Vec::new(),
            watermark: Lsn(50),
            revision: Revision { number: 1, start: Lsn::ZERO, lanes },
            change: None,
            furthest: 0,
            expected: vec![Vec::new(); partitions],
            started: Instant::now(),
            steps: 0,
        };
        world.expect();
        world
    }

    /// What each partition must show in the end, by routing alone.
    fn expect(&mut self) {
        let plan = bench::table_plan(PARTITIONS, 1);
        let mut scratch = record::route::Scratch::default();
        for (transaction, &rows) in self.source.transactions.iter().enumerate() {
            let lsn = commit_lsn(transaction);
            let batch = bench::inserts(lsn, 0..rows, true);
            for index in 0..u32::try_from(rows).expect("few") {
                plan.route(&batch, index, &mut scratch, &mut |piece| {
                    let seen = (Lsn(lsn).to_string(), index.to_string(), piece.partition);
                    self.expected[usize::try_from(piece.partition).expect("few")].push(seen);
                });
            }
        }
    }

    /// One step of the scheduler, then every invariant.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        let lane = self.rng.random_range(0..usize::from(self.revision.lanes));
        match self.rng.random_range(0..100) {
            0..28 => self.read(),
            28..58 => self.work(lane),
            58..70 => self.idle(lane),
            70..80 => self.hear(lane),
            80..84 => self.confirm(),
            84..86 => self.seal(),
            86..91 => self.revive(lane),
            91..93 => lock(&self.broker).deliver_late(lane),
            93..95 => self.front = None,
            95..96 => self.owners[lane] = None,
            96..97 => {
                self.kill();
                self.change_spec();
            }
            97..98 => self.restart_source(),
            _ => self.wake_zombie(),
        }
        self.check()
    }

    /// No more trouble: everything must arrive.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        lock(&self.broker).trouble = 0;
        for _ in 0..400 {
            self.read();
            for lane in 0..usize::from(self.revision.lanes) {
                self.revive(lane);
                self.work(lane);
                self.idle(lane);
                self.hear(lane);
            }
            self.confirm();
            self.seal();
            self.check()?;
        }
        if self.change.is_some() {
            return Err("the changed spec never took force".into());
        }
        let broker = lock(&self.broker);
        for (partition, (shown, expected)) in
            broker.partitions.iter().zip(&self.expected).enumerate()
        {
            if shown != expected {
                return Err(format!("partition {partition} shows {shown:?}, not {expected:?}"));
            }
        }
        Ok(())
    }

    /// The next process has another number of lanes in its spec.
    fn change_spec(&mut self) {
        let lanes = self.rng.random_range(1..=LANES);
        self.change = (lanes != self.revision.lanes).then(|| {
            // The server's present end: whatever any lane holds commits before.
            let from = self.furthest.min(self.source.transactions.len());
            let transactions = self.rng.random_range(from..=self.source.transactions.len());
            let end = Lsn(commit_lsn(transactions) - self.rng.random_range(0..=2));
            Change { lanes, end, sealed: BTreeSet::new() }
        });
    }

    /// Once everything of the revision is durable, lanes are sealed one by one; after the last one the
    /// next revision is in force, and the task is opened again.
    fn seal(&mut self) {
        let now = self.now();
        let Some(change) = &mut self.change else { return };
        if self.watermark < change.end && self.bug != Some(Bug::SealedEarly) {
            return;
        }
        for lane in 0..usize::from(self.revision.lanes) {
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
        self.revision = Revision { number: self.revision.number + 1, start: end, lanes };
        self.change = None;
        self.front = None;
        if self.rng.random() {
            // The slot was not told yet.
            self.restart_source();
        }
    }

    /// The front reads some rows; a new one begins at the slot.
    fn read(&mut self) {
        let lanes = self.revision.lanes;
        let plan = bench::table_plan(PARTITIONS, lanes);
        if self.front.is_none() {
            self.generations += 1;
            let confirmed = self.source.confirmed.0;
            let from = self.source.transactions.iter().enumerate();
            let from = from.take_while(|(it, _)| commit_lsn(*it) + 8 <= confirmed).count();
            let end = self.change.as_ref().map(|change| change.end);
            let mut routing = Routing::new(self.generations, usize::from(lanes)).until(end);
            routing.learn(TableLearned { table: bench::table(), plan: Some(plan) });
            self.front = Some(Front {
                generation: self.generations,
                routing,
                frontier: Frontier::new(lanes),
                at: (from, 0),
            });
        }
        let Some(front) = &mut self.front else { return };
        let (transaction, from) = front.at;
        let Some(&rows) = self.source.transactions.get(transaction) else {
            // A keepalive: nothing else has committed.
            let idle_until = Some(Lsn(commit_lsn(transaction)));
            let batch =
                ChangeBatch { idle_until, ends_transaction: true, ..ChangeBatch::default() };
            let decoded = Decoded { batch, credit: Credit::none() };
            let routed = front.routing.route(decoded, &mut |_, _| {});
            return front.frontier.routed(routed);
        };
        self.furthest = self.furthest.max(transaction + 1);
        let to = self.rng.random_range(from..=rows);
        let ends = to == rows;
        let mut batch = bench::inserts(commit_lsn(transaction), from..to, ends);
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
        front.frontier.routed(routed);
        if self.bug == Some(Bug::ConfirmedEarly) && ends {
            self.watermark = Lsn(commit_lsn(transaction) + 8);
        }
    }

    fn work(&mut self, lane: usize) {
        let now = self.now();
        let Some(owner) = &mut self.owners[lane] else { return };
        let Some(batch) = owner.queue.pop_front() else { return };
        owner.around.now = now;
        if owner.lane.write(&batch, &mut owner.around).is_err() {
            self.owners[lane] = None;
        }
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
        let Some(front) = &mut self.front else { return };
        if generation == front.generation {
            let lane = u8::try_from(lane).expect("few lanes");
            front.routing.durable(&Durable { generation, lane, seq, position });
            front.frontier.durable(lane, seq);
        }
    }

    /// The low watermark is written, then the slot is told.
    fn confirm(&mut self) {
        let frontier = self.front.as_ref().and_then(|front| front.frontier.confirmable());
        if let Some(lsn) = frontier {
            self.watermark = self.watermark.max(lsn);
        }
        self.source.confirmed = self.source.confirmed.max(self.watermark);
        if self.rng.random() {
            self.source.remembered = self.source.confirmed;
        }
    }

    /// A lane without an owner gets one, and what is not durable again.
    fn revive(&mut self, lane: usize) {
        let is_sealed = self.change.as_ref().is_some_and(|change| change.sealed.contains(&lane));
        if self.owners[lane].is_some() || is_sealed {
            return;
        }
        let (broker, number) = (Arc::clone(&self.broker), u8::try_from(lane).expect("few lanes"));
        let revision = self.revision.number;
        let open: OpenSink = Box::new(move || broker::open(&broker, number, revision));
        let mut around = Around { now: self.now(), reports: VecDeque::new() };
        let budget = CommitBudget {
            events_max: self.rng.random_range(1..8),
            ..CommitBudget::new(Duration::from_millis(200), self.revision.lanes)
        };
        let encoder = Encoder::new(&bench::task_plan());
        let progress = Arc::new(Progress::default());
        let floor = if self.revision.start == Lsn::ZERO || self.bug == Some(Bug::FloorIgnored) {
            Position::ZERO
        } else {
            Position::just_before(self.revision.start)
        };
        let Ok(lane_opened) = Lane::open(open, encoder, budget, progress, floor, &mut around)
        else {
            return;
        };
        let keeps = self.bug != Some(Bug::NotSentAgain);
        let retained = self.front.iter().flat_map(|front| front.routing.retained(lane));
        let queue = retained.filter(|_| keeps).cloned().collect();
        self.owners[lane] = Some(Owner { lane: lane_opened, queue, around });
    }

    /// The process is killed, or paused and taken for dead.
    fn kill(&mut self) {
        self.front = None;
        let paused = self.rng.random();
        let owners = self.owners.iter_mut().filter_map(Option::take);
        if paused {
            self.zombies.extend(owners);
        } else {
            owners.for_each(drop);
        }
    }

    fn wake_zombie(&mut self) {
        let Some(mut zombie) = self.zombies.pop() else { return };
        while let Some(batch) = zombie.queue.pop_front() {
            if zombie.lane.write(&batch, &mut zombie.around).is_err() {
                return;
            }
        }
        // Whether it may write or not, it ends here.
        let _ = zombie.lane.idle(&mut zombie.around);
    }

    /// The server restarts and has forgotten the newest confirmations.
    fn restart_source(&mut self) {
        self.source.confirmed = self.source.remembered;
        self.front = None;
    }

    fn now(&self) -> Instant {
        self.started + Duration::from_millis(30 * self.steps)
    }

    /// I2, I3, I6 and I7 of delivery-protocol.md, section 11. (I5 the lanes check themselves; I1, I4 and I8
    /// show as I3.)
    fn check(&self) -> Result<(), String> {
        let broker = lock(&self.broker);
        if let Some(shared) = &broker.shared {
            return Err(shared.clone());
        }
        for (lane, log) in broker.lanes.iter().enumerate() {
            if log.covered != log.visible.len() {
                return Err(format!("I2: lane {lane} shows what its checkpoint does not cover"));
            }
        }
        for (partition, (shown, expected)) in
            broker.partitions.iter().zip(&self.expected).enumerate()
        {
            if !expected.starts_with(shown) {
                return Err(format!(
                    "I3: partition {partition} shows {shown:?}, no prefix of {expected:?}"
                ));
            }
            let owes = expected.get(shown.len()).is_some_and(|(lsn, ..)| {
                lsn.parse::<Lsn>().expect("an LSN").0 + 8 <= self.source.confirmed.0
            });
            if owes {
                return Err(format!(
                    "I6: the slot stands at {}, partition {partition} shows {shown:?}",
                    self.source.confirmed
                ));
            }
        }
        Ok(())
    }
}
