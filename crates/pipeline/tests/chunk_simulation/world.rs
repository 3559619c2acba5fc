//! The scheduler: at random, one thing goes on after the other.

use super::broker::{Broker, Commit, MetaLog, lock};
use super::invariants::Watch;
use super::life::{Around, Life, name, watermark};
use super::postgres::{BEGIN, Server};
use super::{Bug, LANES, PARTITIONS, Reached};
use kafka::checkpoint::Checkpoint;
use pipeline::chunk::copy::Record;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use wal::Position;

pub(crate) struct World {
    around: Around,
    life: Life,
    /// Processes that were paused, taken for dead, and go on: they know nothing of it.
    zombies: Vec<Life>,
    lives: u64,
    lanes: u8,
    /// Transactions that will yet be written.
    to_write: usize,
    /// Of ten times, how often the stream is read on where it could be.
    pace: u32,
    /// What goes on, and for how many more steps: things come in bursts.
    burst: (u32, u32),
    /// How often the table is copied.
    snapshots: u32,
    watch: Watch,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let lanes = rng.random_range(1..=LANES).max(rng.random_range(1..=LANES));
        let (snapshots, pace) = (rng.random_range(1..=2), rng.random_range(1..=10));
        let server = Server::new(&mut rng);
        let positions = vec![Position::ZERO; usize::from(lanes)];
        let meta = MetaLog {
            owner: 0,
            watermark: watermark(BEGIN, positions),
            plan: (name(1), Record::waiting("public", "orders", true)),
            ranges: BTreeMap::new(),
        };
        let broker = Broker::shared(lanes, PARTITIONS, meta, rng.random(), bug);
        let (to_write, now) = (rng.random_range(2..30), Instant::now());
        let reached = Reached::default();
        let mut around = Around { rng, server, broker, bug, reached, now, trace: None };
        Self {
            life: Life::open(1, lanes, &mut around),
            around,
            zombies: Vec::new(),
            lives: 1,
            lanes,
            to_write,
            pace,
            burst: (0, 0),
            snapshots,
            watch: Watch::default(),
        }
    }

    /// Keeps a record of what happens to chunks.
    pub(crate) fn traced(mut self) -> Self {
        self.around.trace = Some(Vec::new());
        self
    }

    pub(crate) fn reached(&self) -> &Reached {
        &self.around.reached
    }

    /// One step of the scheduler, then every invariant.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        let Self { around, life, .. } = self;
        around.now += Duration::from_millis(30);
        let lane = around.rng.random_range(0..usize::from(self.lanes));
        self.burst = match self.burst {
            (_, 0) => (around.rng.random_range(0..560), around.rng.random_range(0..6)),
            (what, more) => (what, more - 1),
        };
        match self.burst.0 {
            0..70 if around.rng.random_ratio(self.pace, 10) => life.read(around)?,
            0..70 => {}
            70..150 => life.work(lane, around.now),
            150..190 => life.idle(lane, around.now),
            190..225 => life.hear(lane),
            225..245 => life.ask(true, around),
            245..300 => life.serve(around),
            300..340 => life.save(self.snapshots),
            340..440 => life.copy(around),
            440..455 => life.revive(lane, around)?,
            455..460 => lock(&around.broker).deliver_late(lane),
            460..478 => self.write(),
            478..515 => self.go_on(),
            515..518 => life.lose_reader(around),
            518..520 => life.end_front(),
            520..523 => life.lose_lane(lane),
            523..527 if self.burst.1 == 0 => self.kill(),
            527 if self.burst.1 == 0 => self.restart_server(),
            523..528 => {}
            _ => self.go_on_zombie(lane),
        }
        self.check()
    }

    fn write(&mut self) {
        if self.to_write == 0 {
            return;
        }
        self.to_write -= 1;
        self.around.server.write(&mut self.around.rng);
    }

    fn go_on(&mut self) {
        let is_held = self.life.holds() || self.zombies.iter().any(Life::holds);
        self.around.server.go_on(&mut self.around.rng, is_held);
    }

    /// The process is killed, or paused and taken for dead; another one takes the task over.
    fn kill(&mut self) {
        self.lives += 1;
        let next = Life::open(self.lives, self.lanes, &mut self.around);
        let before = std::mem::replace(&mut self.life, next);
        if self.around.rng.random() {
            self.zombies.push(before);
        }
    }

    /// Whatever a process does without the slot, which was taken from it.
    fn go_on_zombie(&mut self, lane: usize) {
        let Self { around, zombies, .. } = self;
        let count = zombies.len();
        if count == 0 {
            return;
        }
        let zombie = &mut zombies[around.rng.random_range(0..count)];
        match around.rng.random_range(0..20) {
            0..6 => zombie.work(lane, around.now),
            6..9 => zombie.idle(lane, around.now),
            9..11 => zombie.hear(lane),
            11 => zombie.ask(false, around),
            12..14 => zombie.serve(around),
            14 => zombie.save(self.snapshots),
            15..19 => zombie.copy(around),
            _ => drop(zombies.pop()),
        }
    }

    /// Nobody is connected to a server that restarts.
    fn restart_server(&mut self) {
        self.life.end_front();
        self.zombies.iter_mut().for_each(Life::end_front);
        self.around.server.restart();
    }

    /// No more trouble: everything must arrive.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        lock(&self.around.broker).trouble = 0;
        self.around.note(|| "no more trouble".into());
        self.zombies.clear();
        for _ in 0..2_000 {
            let Self { around, life, .. } = self;
            around.now += Duration::from_millis(30);
            life.read(around)?;
            for lane in 0..usize::from(self.lanes) {
                life.revive(lane, around)?;
                life.work(lane, around.now);
                life.idle(lane, around.now);
                life.hear(lane);
            }
            (0..2).for_each(|_| life.copy(around));
            life.save(self.snapshots);
            life.ask(true, around);
            life.serve(around);
            self.write();
            self.go_on();
            self.check()?;
            if self.has_arrived() {
                return self.watch.shows(&self.around.server);
            }
        }
        let Around { server, .. } = &self.around;
        let plan = &lock(&self.around.broker).meta.plan;
        Err(format!("C7: it does not end: the slot stands at {}, {plan:?}", server.slot))
    }

    /// The table is copied, everything of the stream is visible, and the slot stands at the end.
    fn has_arrived(&self) -> bool {
        let Around { server, .. } = &self.around;
        self.to_write == 0
            && server.is_quiet()
            && server.slot == server.end
            && self.life.has_copied(self.snapshots)
    }

    fn check(&mut self) -> Result<(), String> {
        let Around { broker, server, reached, .. } = &self.around;
        self.watch.check(&lock(broker), server, &reached.files)
    }

    /// What happened to chunks, what lanes have committed, what consumers got.
    pub(crate) fn trace(&self) -> String {
        let Some(trace) = &self.around.trace else { return String::new() };
        let mut lines = trace.clone();
        let broker = lock(&self.around.broker);
        for (lane, log) in broker.lanes.iter().enumerate() {
            for Commit { checkpoint, chunks } in &log.commits {
                let Checkpoint { txn_seq, pos, snap, .. } = checkpoint;
                let rows: BTreeSet<_> = chunks.iter().flatten().collect();
                lines
                    .push(format!("lane {lane}: {txn_seq} at {pos} with {rows:?}, holds {snap:?}"));
            }
        }
        for (partition, shown) in broker.partitions.iter().enumerate() {
            lines.extend(shown.iter().map(|it| format!("partition {partition}: {it:?}")));
        }
        lines.join("\n")
    }
}
