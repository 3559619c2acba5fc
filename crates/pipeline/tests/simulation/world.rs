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
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervision::Credit;
use wal::{Lsn, Position};

const LANES: u8 = 3;
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
    expected: Vec<Vec<Seen>>,
    lanes: u8,
    started: Instant,
    steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let transactions: Vec<u64> =
            (0..rng.random_range(2..9)).map(|_| rng.random_range(1..7)).collect();
        let lanes = if rng.random_ratio(1, 4) { 1 } else { LANES };
        let mut world = Self {
            broker: Broker::shared(lanes, rng.random(), bug),
            rng,
            bug,
            source: Source { transactions, confirmed: Lsn(50), remembered: Lsn(50) },
            front: None,
            generations: 0,
            owners: (0..lanes).map(|_| None).collect(),
            zombies: Vec::new(),
            watermark: Lsn(50),
            expected: vec![Vec::new(); usize::from(lanes)],
            lanes,
            started: Instant::now(),
            steps: 0,
        };
        world.expect();
        world
    }

    /// What each lane must show in the end, by routing alone.
    fn expect(&mut self) {
        let plan = bench::table_plan(PARTITIONS, self.lanes);
        let mut scratch = record::route::Scratch::default();
        for (transaction, &rows) in self.source.transactions.iter().enumerate() {
            let lsn = commit_lsn(transaction);
            let batch = bench::inserts(lsn, 0..rows, true);
            for index in 0..u32::try_from(rows).expect("few") {
                plan.route(&batch, index, &mut scratch, &mut |piece| {
                    let seen = (Lsn(lsn).to_string(), index.to_string(), piece.partition);
                    self.expected[usize::from(piece.lane)].push(seen);
                });
            }
        }
    }

    /// One step of the scheduler, then every invariant.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        let lane = self.rng.random_range(0..usize::from(self.lanes));
        match self.rng.random_range(0..100) {
            0..28 => self.read(),
            28..58 => self.work(lane),
            58..70 => self.idle(lane),
            70..80 => self.hear(lane),
            80..86 => self.confirm(),
            86..91 => self.revive(lane),
            91..93 => lock(&self.broker).deliver_late(lane),
            93..95 => self.front = None,
            95..96 => self.owners[lane] = None,
            96..97 => self.kill(),
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
            for lane in 0..usize::from(self.lanes) {
                self.revive(lane);
                self.work(lane);
                self.idle(lane);
                self.hear(lane);
            }
            self.confirm();
            self.check()?;
        }
        let broker = lock(&self.broker);
        for (lane, (log, expected)) in broker.lanes.iter().zip(&self.expected).enumerate() {
            if log.visible != *expected {
                return Err(format!("lane {lane} shows {:?}, not {expected:?}", log.visible));
            }
        }
        Ok(())
    }

    /// The front reads some rows; a new one begins at the slot.
    fn read(&mut self) {
        let lanes = usize::from(self.lanes);
        let plan = bench::table_plan(PARTITIONS, self.lanes);
        if self.front.is_none() {
            self.generations += 1;
            let confirmed = self.source.confirmed.0;
            let from = self.source.transactions.iter().enumerate();
            let from = from.take_while(|(it, _)| commit_lsn(*it) + 8 <= confirmed).count();
            let mut routing = Routing::new(self.generations, lanes);
            routing.learn(TableLearned { table: bench::table(), plan: Some(plan) });
            self.front = Some(Front {
                generation: self.generations,
                routing,
                frontier: Frontier::new(self.lanes),
                at: (from, 0),
            });
        }
        let Some(front) = &mut self.front else { return };
        let (transaction, from) = front.at;
        let Some(&rows) = self.source.transactions.get(transaction) else { return };
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
        if self.owners[lane].is_some() {
            return;
        }
        let (broker, number) = (Arc::clone(&self.broker), u8::try_from(lane).expect("few lanes"));
        let open: OpenSink = Box::new(move || broker::open(&broker, number));
        let mut around = Around { now: self.now(), reports: VecDeque::new() };
        let budget = CommitBudget {
            events_max: self.rng.random_range(1..8),
            ..CommitBudget::new(Duration::from_millis(200), self.lanes)
        };
        let encoder = Encoder::new(&bench::task_plan());
        let progress = Arc::new(Progress::default());
        let Ok(lane_opened) =
            Lane::open(open, encoder, budget, progress, Position::ZERO, &mut around)
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

    /// I2, I3, I5 and I6 of delivery-protocol.md, section 11.
    fn check(&self) -> Result<(), String> {
        let broker = lock(&self.broker);
        for (lane, (log, expected)) in broker.lanes.iter().zip(&self.expected).enumerate() {
            if !expected.starts_with(&log.visible) {
                return Err(format!(
                    "I3: lane {lane} shows {:?}, no prefix of {expected:?}",
                    log.visible
                ));
            }
            if log.covered != log.visible.len() {
                return Err(format!("I2: lane {lane} shows what its checkpoint does not cover"));
            }
            let durable = log.checkpoint.as_ref().map_or(Lsn::ZERO, |it| it.pos.commit_lsn);
            let owed = expected.get(log.visible.len());
            let owes = owed.is_some_and(|(lsn, ..)| {
                lsn.parse::<Lsn>().expect("an LSN").0 + 8 <= self.source.confirmed.0
            });
            if owes {
                return Err(format!(
                    "I6: the slot stands at {}, lane {lane} at {durable}",
                    self.source.confirmed
                ));
            }
        }
        Ok(())
    }
}
