//! A task on a cluster, under a workload, to which faults happen; and how long each lane was silent.

use crate::ground::{Ground, NODES};
use record::lane::lane;
use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::checker::Promises;
use tests::cluster::Cluster;
use tests::pulse::{self, Pulse};
use tests::scene::CATCH_UP_MAX;
use tests::seed::say;
use tests::status::Status;
use tests::task::Spec;
use tests::workload::{self, Pace, Workload};

const LANES: u8 = 4;
/// Partitions of the pulse, so that every lane has one.
const PARTITIONS: u8 = 32;

/// How rows begin that are no faults.
const PLANNED: &str = "planned: ";

pub(crate) struct Storm<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) cluster: Cluster<'a>,
    workload: Workload,
    pulse: Pulse,
    rows: Vec<Row>,
    pub(crate) brokers_lost: u16,
}

/// What was heard of a fault.
struct Row {
    fault: String,
    goal: Option<Duration>,
    silences: Vec<Duration>,
    took: Duration,
}

/// A fault, and what it may cost.
pub(crate) struct Fault {
    pub(crate) name: String,
    /// Longest silence of a lane.
    pub(crate) goal: Option<Duration>,
    /// How long it lasts at least, also where everything flows again before.
    pub(crate) lasts: Duration,
}

fn spec(spec: Spec) -> Spec {
    let pulse = format!("{{table: public.pulse, partitions: {PARTITIONS}}}");
    spec.line(&format!("lanes: {LANES}")).objects(&[&pulse, "{table: \"*.*\"}"])
}

impl<'a> Storm<'a> {
    /// One coordinator and one worker.
    pub(crate) fn start(ground: &'a Ground, seed: u64, pace: Pace) -> Self {
        let scene = &ground.scene;
        workload::create(&mut scene.sql());
        pulse::create(&mut scene.sql());
        let cluster = Cluster::start_on(scene, ground.site(), &ground.disk.path, 1, 1);
        cluster.apply(&spec(cluster.spec()));
        cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
        // Snapshots under load are shown elsewhere.
        let workload = Workload::start(scene, seed, pace);
        let pulse = Pulse::start(scene, LANES, |topic, partition| lane(topic, partition, LANES));
        pulse.await_beat("the snapshot");
        Self { ground, cluster, workload, pulse, rows: Vec::new(), brokers_lost: 0 }
    }

    /// Lets something happen. Rows of every lane must come through while it lasts, and once it is over; what
    /// comes back then must be given lanes again.
    pub(crate) fn over(
        &mut self,
        fault: &Fault,
        strike: impl FnOnce(&mut Self),
        mend: Option<&mut dyn FnMut(&mut Self)>,
    ) {
        let Fault { name, goal, lasts } = fault;
        let begun = Instant::now();
        self.pulse.reset();
        strike(self);
        self.pulse.await_beat(name);
        sleep(lasts.saturating_sub(begun.elapsed()));
        self.pulse.await_beat(name);
        self.note(name.clone(), *goal, begun);
        if let Some(mend) = mend {
            let begun = Instant::now();
            self.pulse.reset();
            mend(self);
            self.pulse.await_beat(name);
            self.settle(name);
            self.note(format!("  back: {name}"), None, begun);
        }
        self.cluster.assert_alive();
        self.workload.await_committed(5);
    }

    /// Waits until somebody leads, and every worker has lanes.
    fn settle(&self, after: &str) {
        self.cluster.await_leader(CATCH_UP_MAX, |_| true);
        let workers = self.workers();
        let is_whole = |status: &Status| status.flows() && status.nodes() == workers;
        let what = format!("lanes on every worker after: {after}");
        self.cluster.await_status(&what, CATCH_UP_MAX, is_whole);
    }

    /// Workers that run.
    pub(crate) fn workers(&self) -> Vec<String> {
        let mut running = self.cluster.running();
        running.retain(|name| name.starts_with('w'));
        running
    }

    /// Coordinators that run.
    pub(crate) fn coordinators(&self) -> Vec<String> {
        let mut running = self.cluster.running();
        running.retain(|name| name.starts_with('c'));
        running
    }

    fn note(&mut self, fault: String, goal: Option<Duration>, begun: Instant) {
        let row = Row { fault, goal, silences: self.pulse.silences(), took: begun.elapsed() };
        say(&row.line());
        self.rows.push(row);
    }

    /// What a busy machine does by itself.
    pub(crate) fn rest(&mut self, lasts: Duration) {
        let rest = Fault { name: format!("{PLANNED}nothing"), goal: None, lasts };
        self.over(&rest, |_| (), None);
    }

    /// From one coordinator and one worker to all that there may be, one after the other; or, with
    /// `upto`, to fewer.
    pub(crate) fn grow(&mut self, upto: usize) {
        let planned = |name: &str| Fault {
            name: format!("{PLANNED}{name} joins"),
            goal: Some(Duration::from_secs(1)),
            lasts: Duration::ZERO,
        };
        let new: Vec<&str> = NODES.into_iter().filter(|name| !name.ends_with('1')).collect();
        for name in new.into_iter().filter(|name| name[1..].parse::<usize>().unwrap_or(0) <= upto) {
            self.over(
                &planned(name),
                |storm| {
                    match name.strip_prefix('c') {
                        Some(number) => {
                            storm.cluster.add_coordinator(number.parse().expect("a number"));
                        }
                        None => storm.cluster.add_worker(name),
                    }
                    storm.settle(name);
                },
                None,
            );
        }
    }

    /// Back to one of each: the last worker is drained first, the others end as they are told to.
    pub(crate) fn shrink(&mut self) {
        let drained = self.workers().pop().expect("workers");
        let leave = |name: String| Fault {
            name,
            goal: Some(Duration::from_secs(1)),
            lasts: Duration::ZERO,
        };
        self.over(
            &leave(format!("{PLANNED}{drained} is drained")),
            |storm| {
                storm.cluster.call(&["cluster", "drain", &drained]).expect(0);
                let is_empty = |status: &Status| !status.nodes().contains(&drained);
                storm.cluster.await_status("no lane on it", CATCH_UP_MAX, is_empty);
            },
            None,
        );
        // The one with the front last: its leaving moves more than a lane.
        let front = self.cluster.status().front();
        let mut workers = self.workers();
        workers.sort_by_key(|name| (*name != drained, *name == front));
        workers.pop();
        let mut coordinators = self.coordinators();
        coordinators.pop();
        for name in workers.into_iter().chain(coordinators) {
            self.over(
                &leave(format!("{PLANNED}{name} ends by SIGTERM")),
                |storm| drop(storm.cluster.end(&name)),
                None,
            );
        }
    }

    /// Faults so far.
    pub(crate) fn faults(&self) -> usize {
        faults(&self.rows)
    }

    /// Ends everything and compares. One process takes over what the cluster has left.
    pub(crate) fn finish(self) {
        let Self { ground, cluster, workload, pulse, rows, .. } = self;
        workload.stop();
        drop(pulse);
        let scene = &ground.scene;
        cluster.call(&["task", "suspend", &scene.name]).expect(0);
        drop(cluster);
        scene.catch_up(&spec(scene.spec()));
        let report = scene.check(Promises::default());
        say("\nlongest silence of each lane, of all (goal), how long it took in all; s");
        rows.iter().for_each(|row| say(&row.line()));
        let faults = faults(&rows);
        say(&format!(
            "{}: {faults} faults, {} records, {} rows: nothing lost, doubled or out of order",
            scene.name, report.records, report.rows
        ));
    }
}

/// Neither planned, nor what follows a fault.
fn faults(rows: &[Row]) -> usize {
    rows.iter().filter(|row| !row.fault.starts_with(PLANNED) && !row.fault.starts_with(' ')).count()
}

impl Row {
    fn line(&self) -> String {
        let mut line = String::new();
        for silence in &self.silences {
            // To a string it does not fail.
            let _ = write!(line, "{:6.2} ", silence.as_secs_f64());
        }
        let longest = self.silences.iter().max().copied().unwrap_or_default();
        let goal = self.goal.map_or_else(String::new, |goal| {
            let over = if goal < longest { ", MISSED" } else { "" };
            format!(" ({}{over})", goal.as_secs())
        });
        let (longest, took) = (longest.as_secs_f64(), self.took.as_secs());
        format!("{line} {longest:6.2}{goal:13} {took:4}  {}", self.fault)
    }
}
