//! What is placed here is started, what is not is stopped.

use super::report;
use super::runner::{Beginning, Runner};
use super::{Context, lock};
use crate::front::{self, Step, Wanted};
use crate::link::server::HandOver;
use crate::state::{self, ClusterState, Placement};
use crate::task_state::TaskState;
use crate::windows::Windows;
use pipeline::progress::SeenTable;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// How often what runs is compared with what shall, besides at every change.
const LOOK: Duration = Duration::from_millis(500);
/// A front that was overtaken, and is placed here all the same, waits so long.
const OVERTAKEN_PAUSE: Duration = Duration::from_secs(5);
/// How long a front that shall run elsewhere, or anew, may take to drain.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// The fronts whose router is on this worker. Clones share them.
#[derive(Clone)]
pub(super) struct Tasks {
    context: Context,
    fronts: Arc<Mutex<BTreeMap<String, Front>>>,
    /// What ran here last, by task.
    ran: Arc<Mutex<BTreeMap<String, Wanted>>>,
    /// Specs that have passed while another one ran here, by task.
    passed: Arc<Mutex<BTreeMap<String, Arc<config::Task>>>>,
    /// The placements that were read last, by task.
    read: Arc<Mutex<BTreeMap<String, Placement>>>,
    windows: Arc<Mutex<Windows>>,
}

struct Front {
    runner: Runner,
    /// What its spec says itself.
    retry: config::Retry,
    placement_rev: u64,
    /// Told to stop, at this time.
    stopping: Option<Instant>,
    /// Its router is placed elsewhere, since this time; it goes on until its next owner is ready.
    moving: Option<Instant>,
}

impl Tasks {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            fronts: Arc::default(),
            ran: Arc::default(),
            passed: Arc::default(),
            read: Arc::default(),
            windows: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Front>> {
        lock(&self.fronts)
    }

    /// Compares, again and again.
    pub(super) async fn carry_out(self) {
        let mut cluster = self.context.cluster.clone();
        loop {
            let state = cluster.borrow_and_update().clone();
            self.connect(&state);
            self.compare(&state);
            let _ = tokio::time::timeout(LOOK, cluster.changed()).await;
        }
    }

    /// Lets what opens lanes that come here connect while their former owners still write.
    fn connect(&self, state: &ClusterState) {
        let mut read = lock(&self.read);
        read.retain(|task, _| state.placements.contains_key(task));
        for (name, placement) in &state.placements {
            if read.get(name).is_some_and(|it| it.rev == placement.rev) {
                continue;
            }
            let Some(before) = read.insert(name.clone(), placement.clone()) else { continue };
            let lanes = front::coming(&before, placement, &self.context.node.node);
            let Some(task) = state.tasks.get(name).filter(|_| !lanes.is_empty()) else { continue };
            let (spec, folder) = (task.spec.clone(), self.context.secrets_dir.clone());
            // What is wrong with the spec is told by whoever opens the lanes.
            tokio::task::spawn_blocking(move || {
                let spec = config::Task::parse(&spec).ok()?;
                let is_confined = spec.unconfined(&folder).is_empty();
                is_confined.then(|| pipeline::hosts::connect(&spec, &folder, &lanes))
            });
        }
    }

    fn compare(&self, state: &ClusterState) {
        let mut windows = lock(&self.windows);
        windows.follow(state);
        let mut fronts = self.lock();
        let hands_over = rpc::HAND_OVER <= self.context.peers.protocols().max;
        for (name, front) in fronts.iter_mut() {
            if let Some(next) = front.runner.succeeded_by().filter(|_| front.stopping.is_none()) {
                info!(task = name, "a changed spec has passed, and takes another run");
                lock(&self.passed).insert(name.clone(), next);
                front.stop(name);
            }
            let (runs, now) = (front.runner.wanted.clone(), Instant::now());
            match front::step(state, &self.context.node.node, name, &runs, front.moving, now) {
                Step::GoOn { placement_rev } if front.stopping.is_none() => {
                    (front.placement_rev, front.moving) = (placement_rev, None);
                    front.share(name, &windows);
                }
                // Nobody asks a node for that which speaks as an older release does.
                Step::HandOver { .. } if !hands_over => front.stop(name),
                Step::HandOver { since } => front.moving = Some(since),
                Step::GoOn { .. } => {}
                Step::Modify { wanted, placement_rev } => {
                    let spec = state.tasks.get(name).map(state::Task::read).and_then(Result::ok);
                    if spec.is_some_and(|spec| front.modify(spec, &wanted, &windows)) {
                        info!(task = name, "a changed spec is looked at while the task goes on");
                        (front.placement_rev, front.moving) = (placement_rev, None);
                        lock(&self.ran).insert(name.clone(), wanted);
                    } else {
                        front.stop(name);
                    }
                }
                Step::Stop => front.stop(name),
            }
        }
        fronts.retain(|name, front| {
            let is_over = |since: Instant| front.runner.has_ended() || DRAIN_MAX < since.elapsed();
            // What has ended by itself stays, to say why, until something else is wanted.
            let gone = front.stopping.is_some_and(is_over) || is_overtaken(front);
            if gone && !front.runner.has_ended() {
                warn!(task = name, "a front does not drain in time; its successor will fence it");
            }
            !gone
        });
        for (name, task) in &state.tasks {
            if !fronts.contains_key(name)
                && let Some(front) = self.begin(state, name, task, &windows)
            {
                fronts.insert(name.clone(), front);
            }
        }
    }

    /// Starts the front of a task that is placed here.
    fn begin(
        &self,
        state: &ClusterState,
        name: &str,
        task: &state::Task,
        windows: &Windows,
    ) -> Option<Front> {
        let (wanted, placement_rev) = front::wanted(state, &self.context.node.node, name)?;
        // Unreadable specs are not applied; a later release may have written this one.
        let mut spec = match task.read() {
            Ok(spec) => spec,
            Err(problems) => {
                warn!(task = name, %problems, "the task's spec cannot be read here");
                return None;
            }
        };
        let retry = spec.retry;
        let shared = windows.of(name, retry);
        spec.retry = shared.retry;
        let kept = task.read_kept().map(|kept| config::Task { retry: shared.retry, ..kept });
        // The leader notes it as done once the front has begun anew, so that no later start repeats it.
        let reseed = task.reseeded < task.reseeds;
        let accept_gap = task.accept_gap;
        let told = state.states.get(name);
        let left = told.and_then(front::left);
        let state = told.map(|it| it.state);
        let streams = matches!(state, Some(TaskState::Synchronizing | TaskState::CatchingUp));
        let last = lock(&self.ran).insert(name.to_owned(), wanted.clone());
        let has_passed = lock(&self.passed).remove(name).is_some_and(|it| *it == spec);
        // A changed spec is modifying until the front that is to carry it out says otherwise; the one before it may
        // still have said so meanwhile, and ran here.
        let has_run = streams && kept.is_none() && last.is_none_or(|it| it == wanted);
        let proven = has_passed || has_run;
        let beginning = Beginning { spec, kept, left, wanted, reseed, accept_gap, proven };
        let runner = Runner::start(self.context.clone(), Handle::current(), beginning);
        runner.shares(shared.of);
        Some(Front { runner, retry, placement_rev, stopping: None, moving: None })
    }

    /// Ends a front when its next owner asks for that.
    pub(super) fn hand_over(&self) -> HandOver {
        let tasks = self.clone();
        Arc::new(move |name| {
            let runner = tasks.lock().get_mut(name).map(|front| {
                front.stop(name);
                front.runner.clone()
            });
            Box::pin(async move {
                if let Some(runner) = runner {
                    runner.ended(DRAIN_MAX).await;
                }
            })
        })
    }

    /// By task: under which placement its front runs here, and what it has seen of the database.
    pub(super) fn seen(&self) -> Vec<(String, u64, Arc<[SeenTable]>)> {
        let fronts = self.lock();
        let seen = |(name, front): (&String, &Front)| {
            let tables = front.runner.progress.seen_tables()?;
            Some((name.clone(), front.placement_rev, tables))
        };
        fronts.iter().filter_map(seen).collect()
    }

    /// Reports of the fronts here, and of lanes whose fronts run elsewhere.
    pub(super) fn reports(&self) -> Vec<rpc::v1::TaskReport> {
        let fronts = self.lock();
        let state = self.context.cluster.borrow().clone();
        let mut reports: Vec<_> = fronts
            .iter()
            .map(|(name, front)| {
                report::of_front(name, &self.context.node.node, &front.runner, front.placement_rev)
            })
            .collect();
        reports.extend(report::of_lanes(&self.context, &state));
        reports
    }

    /// Reports of the fronts here, each with its figures.
    pub(super) fn fronts(&self) -> Vec<(rpc::v1::TaskReport, Arc<pipeline::Progress>)> {
        let fronts = self.lock();
        let told = |(name, front): (&String, &Front)| {
            let node = &self.context.node.node;
            let report = report::of_front(name, node, &front.runner, front.placement_rev);
            (report, Arc::clone(&front.runner.progress))
        };
        fronts.iter().map(told).collect()
    }

    /// Whether anything runs here.
    pub(super) fn is_busy(&self) -> bool {
        let runs = self.lock().values().any(|it| !it.runner.has_ended());
        let Context { hosted, stages, .. } = &self.context;
        runs || !hosted.all().is_empty() || !stages.all().is_empty()
    }

    /// Until nothing runs here any more.
    pub(super) async fn emptied(&self) {
        while self.is_busy() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets every front drain and end.
    pub(super) async fn end(&self, patience: Duration) {
        let runners: Vec<Runner> = self.lock().values().map(|front| front.runner.clone()).collect();
        runners.iter().for_each(Runner::stop);
        let until = Instant::now() + patience;
        for runner in runners {
            runner.ended(until.saturating_duration_since(Instant::now())).await;
        }
    }
}

impl Front {
    /// Whether it goes on by this spec, which needs neither a seal nor another run.
    fn modify(&mut self, mut spec: config::Task, wanted: &Wanted, windows: &Windows) -> bool {
        let retry = spec.retry;
        let shared = windows.of(&spec.task, retry);
        spec.retry = shared.retry;
        let is_taken = self.stopping.is_none() && self.runner.modify(spec);
        if is_taken {
            self.runner.wanted = wanted.clone();
            self.retry = retry;
            self.runner.shares(shared.of);
        }
        is_taken
    }

    /// Goes by the windows that tasks with the same servers leave it now.
    fn share(&mut self, name: &str, windows: &Windows) {
        let shared = windows.of(name, self.retry);
        if self.runner.retries_within(shared.retry) {
            info!(task = name, ?shared, "other retry windows hold");
            self.runner.shares(shared.of);
        }
    }

    fn stop(&mut self, name: &str) {
        if self.stopping.is_none() {
            info!(task = name, "front stops");
            self.runner.stop();
            self.stopping = Some(Instant::now());
        }
    }
}

fn is_overtaken(front: &Front) -> bool {
    let said = front.runner.said();
    front.runner.has_ended()
        && said.state == TaskState::Retrying
        && said.since.elapsed().is_ok_and(|since| OVERTAKEN_PAUSE < since)
}
