//! The front of one task on this worker: a thread with an actix system of its own.

use super::hosts::Placed;
use super::specs::{Refused, Specs};
use super::{Context, lock};
use crate::front::Wanted;
use crate::task_state::TaskState;
use config::Means;
use config::precheck::Item;
use pipeline::alerts::Alerts;
use pipeline::precheck::Unfit;
use pipeline::progress::Trouble;
use pipeline::rate::Rate;
use pipeline::{Options, Outcome, Progress};
use std::convert::Infallible;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// What became of a run.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) state: TaskState,
    pub(super) cause: String,
    pub(super) remedy: String,
    pub(super) since: SystemTime,
}

/// A front that runs here, or has run.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) wanted: Wanted,
    pub(super) progress: Arc<Progress>,
    rate: Arc<Mutex<Rate>>,
    snapshot_rate: Arc<Mutex<Rate>>,
    said: Arc<Mutex<Said>>,
    stop: CancellationToken,
    specs: Arc<Specs>,
    /// What the precheck of a changed spec waits for, while the task goes on.
    checking: Arc<Progress>,
    /// The task's own precheck is behind it: changed specs are looked at while it goes on.
    has_begun: Arc<AtomicBool>,
    /// A changed spec that has passed its precheck, and for which the run was ended: it takes another one.
    succeeded_by: Arc<Mutex<Option<Arc<config::Task>>>>,
    /// The task with the same servers whose window for lost connections holds here.
    window_of: Arc<Mutex<Option<String>>>,
    /// `true` once the thread has ended.
    ended: watch::Receiver<bool>,
}

/// WAL behind which a task is catching up rather than following.
const BEHIND_BYTES: u64 = 64 << 20;

/// What a person can do about what is tried again.
const RETRYING: &str = "mend the cause; it is tried again by itself";
const CHANGE_WAITS: &str = "mend the cause, or apply another spec; the task goes on meanwhile";
const ALERTS_REMEDY: &str = "correct the setting, or leave `alerts` out";

/// Over which the rate of a task is counted, as the contract has it.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// How a run is begun.
pub(super) struct Beginning {
    pub(super) spec: config::Task,
    /// What ran before, where `spec` is not known to have been in force: the run begins by it where `spec` does not pass.
    pub(super) kept: Option<config::Task>,
    /// Why the task did not run before, where somebody was told.
    pub(super) left: Option<String>,
    pub(super) wanted: Wanted,
    pub(super) reseed: bool,
    /// With `reseed`: no snapshot.
    pub(super) accept_gap: bool,
    /// It streams by this spec, until now on another node: what is taken over at once needs no precheck, which
    /// would cost longer than all else. What must hold at each begin is looked at all the same.
    pub(super) proven: bool,
}

impl Runner {
    pub(super) fn start(context: Context, runtime: Handle, beginning: Beginning) -> Self {
        let Beginning { spec, kept, left, wanted, reseed, accept_gap, proven } = beginning;
        let progress = Arc::new(Progress::default());
        let state = match (wanted.release, proven) {
            (true, _) => TaskState::Releasing,
            (false, true) => TaskState::Initializing,
            (false, false) => TaskState::Prechecking,
        };
        let said =
            Said { state, cause: String::new(), remedy: String::new(), since: SystemTime::now() };
        let said = Arc::new(Mutex::new(said));
        let stop = CancellationToken::new();
        let (ending, ended) = watch::channel(false);
        let rate = Arc::new(Mutex::new(Rate::over(RATE_WINDOW)));
        let snapshot_rate = Arc::new(Mutex::new(Rate::over(RATE_WINDOW)));
        let specs = Arc::new(Specs::new(Arc::new(spec.clone())));
        let runner = Self {
            wanted,
            progress,
            rate,
            snapshot_rate,
            said,
            stop,
            specs,
            checking: Arc::default(),
            has_begun: Arc::default(),
            succeeded_by: Arc::default(),
            window_of: Arc::default(),
            ended,
        };
        let own = runner.clone();
        let options = Options {
            until_caught_up: false,
            reseed,
            accept_gap: reseed && accept_gap,
            release: runner.wanted.release,
            recover: true,
            hurried: true,
            folder: context.secrets_dir.clone(),
            data_dir: context.data_dir.clone(),
        };
        let name = format!("task {}", spec.task);
        let work = move || {
            let live = async {
                let spec = own.first_spec(spec, kept.filter(|_| !proven), &options.folder).await;
                own.live(context, runtime, spec, options, proven, left).await;
            };
            // The system's drop would wait for calls that still block on a server.
            std::mem::ManuallyDrop::new(actix_rt::System::new()).block_on(live);
            // Also where it panics: the sender is dropped then.
            ending.send_replace(true);
        };
        if let Err(error) = std::thread::Builder::new().name(name).spawn(work) {
            let release = runner.wanted.release;
            let state = if release { TaskState::ReleaseFailed } else { TaskState::Failed };
            runner.say(state, format!("no thread for the task: {error}"), "");
        }
        runner
    }

    /// The newest spec, unless another one ran before and this one does not pass now: it is looked at again once that
    /// goes on.
    async fn first_spec(
        &self,
        spec: config::Task,
        kept: Option<config::Task>,
        folder: &Path,
    ) -> Arc<config::Task> {
        let spec = Arc::new(spec);
        let Some(kept) = kept else { return spec };
        let is_fit = spec.unconfined(folder).is_empty() && Alerts::check(&spec, folder).is_ok();
        let passes = async {
            is_fit && !pipeline::precheck(&spec, folder, false).await.iter().any(Item::holds)
        };
        let passes = tokio::select! {
            passes = passes => passes,
            () = self.stop.cancelled() => return spec,
        };
        if passes {
            return spec;
        }
        info!(task = spec.task, "the changed spec does not pass now, the one before it goes on");
        let kept = Arc::new(kept);
        self.specs.took(&kept);
        kept
    }

    async fn live(
        &self,
        context: Context,
        runtime: Handle,
        spec: Arc<config::Task>,
        options: Options,
        proven: bool,
        left: Option<String>,
    ) {
        let (folder, release) = (&options.folder, options.release);
        let unconfined = spec.unconfined(folder);
        if !unconfined.is_empty() {
            let cause = config::Problems(unconfined).to_string();
            let state = if release { TaskState::ReleaseFailed } else { TaskState::PrecheckFailed };
            self.say(state, cause, "correct the spec and apply it again");
            return;
        }
        let exposed = spec.exposed_secrets(folder);
        if !exposed.is_empty() {
            let (task, files) = (&spec.task, exposed.join(", "));
            warn!(
                task,
                files, "secret files can be read by everybody on this machine; chmod 600 them"
            );
        }
        let silent = config::Task { alerts: None, ..config::Task::clone(&spec) };
        // Nobody needs to be told of what is removed.
        let told = if release { &silent } else { &*spec };
        let alerts = match Alerts::start(told, folder, &self.progress, left) {
            Ok(alerts) => alerts,
            Err(error) => return self.say(TaskState::PrecheckFailed, error, ALERTS_REMEDY),
        };
        if !release {
            self.progress.trace.begin(&spec.task);
        }
        let alerts = match self.pass(&spec, folder, release || proven, alerts).await {
            Some(alerts) => alerts,
            None => return,
        };
        self.has_begun.store(true, Relaxed);
        let (name, begun, folder) = (spec.task.clone(), spec, folder.clone());
        let hosts = Rc::new(Placed::new(&name, context, runtime, Arc::clone(&self.specs)));
        // What was changed during the precheck is of no record's concern.
        let newest = self.specs.newest();
        let heeding = begun.heeding(&newest);
        let spec = if heeding == *newest { newest } else { Arc::new(heeding) };
        let stop = self.stop.clone();
        if release {
            // There is nothing to wait for: it opens, drains and removes.
            stop.cancel();
        }
        let progress = Arc::clone(&self.progress);
        info!(task = name, "front starts");
        let outcome = tokio::select! {
            outcome = pipeline::run_on(spec, options, progress, stop, hosts) => outcome,
            never = self.check_specs(begun, &folder, &alerts) => match never {},
        };
        info!(task = name, ?outcome, "front ended");
        alerts.finish(&outcome).await;
        if release { self.released_with(outcome) } else { self.ended_with(outcome) }
    }

    /// The task's own precheck; `None`: it does not begin, and that is said.
    async fn pass(
        &self,
        spec: &config::Task,
        folder: &Path,
        proven: bool,
        alerts: Alerts,
    ) -> Option<Alerts> {
        if proven {
            return Some(alerts);
        }
        let retry = || self.specs.newest().retry;
        let passed = tokio::select! {
            passed = pipeline::precheck::pass_again(spec, folder, &self.progress, retry) => passed,
            () = self.stop.cancelled() => return None,
        };
        match passed {
            Ok(()) => {
                self.say(TaskState::Initializing, String::new(), "");
                return Some(alerts);
            }
            Err(Unfit::Items(failed)) => {
                self.progress.trace.fail("precheck not passed");
                let (cause, remedy) = texts(&failed);
                self.say(TaskState::PrecheckFailed, cause.clone(), &remedy);
                alerts.unfit(&cause, &remedy).await;
            }
            Err(Unfit::GaveUp(outcome)) => {
                alerts.finish(&outcome).await;
                self.ended_with(outcome);
            }
        }
        None
    }

    /// What is applied while the task runs passes the precheck first, as at a start, unless no record depends on it.
    /// The task goes on meanwhile, and also where it does not pass. What comes later is looked at in its place.
    async fn check_specs(
        &self,
        begun: Arc<config::Task>,
        folder: &Path,
        alerts: &Alerts,
    ) -> Infallible {
        let mut applied = self.specs.applied();
        applied.mark_changed();
        let mut last = begun;
        loop {
            if applied.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let spec = Arc::clone(&applied.borrow_and_update());
            // What is the same in other words has to pass, too.
            if !self.specs.is_modifying() && *spec == *last {
                continue;
            }
            self.checking.troubled(None);
            let mut newer = applied.clone();
            let checked = tokio::select! {
                checked = self.check(&mut last, &spec, folder, alerts) => checked,
                _ = newer.changed() => continue,
            };
            match checked {
                Ok(true) => {
                    last = Arc::clone(&spec);
                    self.specs.pass(spec);
                }
                Ok(false) => {
                    *lock(&self.succeeded_by) = Some(spec);
                    self.stop();
                }
                Err((cause, remedy)) => {
                    let cause = format!("the changed spec is not in force: {cause}");
                    warn!(
                        task = spec.task,
                        cause, remedy, "the task goes on by the spec before it"
                    );
                    if self.specs.refuse(&spec, &cause, &remedy) {
                        alerts.refused(&cause, &remedy);
                    }
                }
            }
        }
    }

    /// Whether a changed spec can come into force in this run, which goes by `last`; else it takes another one. What
    /// no record depends on holds at once.
    ///
    /// # Errors
    /// Cause and remedy, where it cannot be carried out.
    async fn check(
        &self,
        last: &mut Arc<config::Task>,
        spec: &Arc<config::Task>,
        folder: &Path,
        alerts: &Alerts,
    ) -> Result<bool, (String, String)> {
        let unconfined = spec.unconfined(folder);
        if !unconfined.is_empty() {
            let remedy = "correct the spec and apply it again";
            return Err((config::Problems(unconfined).to_string(), remedy.into()));
        }
        if last.alerts != spec.alerts {
            alerts.change(spec, folder).map_err(|error| (error, ALERTS_REMEDY.to_owned()))?;
        }
        let takes = last.means_to(spec);
        if matches!(takes, None | Some(Means::AtOnce)) {
            return Ok(true);
        }
        let heeding = last.heeding(spec);
        if heeding != **last {
            *last = Arc::new(heeding);
            self.specs.pass(Arc::clone(last));
        }
        let retry = || self.specs.newest().retry;
        match pipeline::precheck::pass(spec, folder, &self.checking, retry).await {
            Ok(()) => Ok(self.is_in_place(takes)),
            Err(Unfit::Items(failed)) => Err(texts(&failed)),
            Err(Unfit::GaveUp(Outcome::Failed { cause } | Outcome::Parked { cause, .. })) => {
                Err((cause, "mend the cause, then apply the spec again".into()))
            }
            Err(Unfit::GaveUp(outcome)) => Err((format!("{outcome:?}"), String::new())),
        }
    }

    /// Whether a change that takes so much can come into force while the task runs.
    fn is_in_place(&self, takes: Option<Means>) -> bool {
        let Progress { streaming, snapshot_running, .. } = &*self.progress;
        match takes {
            None | Some(Means::AtOnce | Means::Lanes) => true,
            Some(Means::Mark) => streaming.load(Relaxed) && !snapshot_running.load(Relaxed),
            Some(Means::Seal | Means::Restart | Means::Never) => false,
        }
    }

    /// Takes up a changed spec while the task runs; `false`: it takes another run. One that takes that, too, is looked
    /// at first where something runs ([`Self::succeeded_by`]).
    pub(super) fn modify(&self, spec: config::Task) -> bool {
        if self.has_ended() || !self.said().state.runs() {
            return false;
        }
        let takes = self.specs.base().means_to(&spec);
        let is_taken = self.has_begun.load(Relaxed) || matches!(takes, None | Some(Means::AtOnce));
        if is_taken {
            self.specs.apply(spec);
        }
        is_taken
    }

    /// The changed spec that has passed, and takes another run.
    pub(super) fn succeeded_by(&self) -> Option<Arc<config::Task>> {
        lock(&self.succeeded_by).clone()
    }

    /// Number of the applied spec by which the task goes in `state`; 0: that is an older one.
    pub(super) fn spec_rev(&self, state: TaskState) -> u64 {
        let streams = matches!(
            state,
            TaskState::Synchronizing | TaskState::CatchingUp | TaskState::Completed
        );
        if streams && !self.specs.is_modifying() { self.wanted.spec_rev } else { 0 }
    }

    /// Goes by other retry windows while the task runs; `false`: they are those that hold, or it has ended.
    pub(super) fn retries_within(&self, retry: config::Retry) -> bool {
        let newest = self.specs.newest();
        let is_other = newest.retry != retry && !self.has_ended();
        is_other && self.modify(config::Task { retry, ..config::Task::clone(&newest) })
    }

    /// Notes whose window for lost connections holds.
    pub(super) fn shares(&self, task: Option<String>) {
        *lock(&self.window_of) = task;
    }

    /// Where the windows are from, for who reads when it is given up.
    fn windows(&self) -> String {
        match &*lock(&self.window_of) {
            Some(task) => format!("`retry` of task `{task}`, which has the same servers"),
            None => "`retry` of the spec".into(),
        }
    }

    /// What is left is removed by another try: nothing was forgotten.
    fn released_with(&self, outcome: Outcome) {
        let cause = match outcome {
            Outcome::Released => return self.say(TaskState::Released, String::new(), ""),
            Outcome::Parked { cause, .. }
            | Outcome::Failed { cause }
            | Outcome::Overtaken { cause } => cause,
            Outcome::CaughtUp | Outcome::Stopped { .. } => match self.progress.trouble() {
                Some(trouble) => trouble.cause,
                None => "it ended before everything was removed".into(),
            },
        };
        let remedy = "mend the cause, then `task release` again";
        self.say(TaskState::ReleaseFailed, cause, remedy);
    }

    fn ended_with(&self, outcome: Outcome) {
        match outcome {
            Outcome::CaughtUp => self.say(TaskState::Completed, String::new(), ""),
            Outcome::Released => self.say(TaskState::Released, String::new(), ""),
            Outcome::Stopped { .. } => {}
            Outcome::Parked { cause, remedy } => self.say(TaskState::Parked, cause, &remedy),
            Outcome::Failed { cause } => {
                let remedy = "see the cause; `task restart` tries again";
                self.say(TaskState::Failed, cause, remedy);
            }
            // Should it be placed here still, it is started again after a pause.
            Outcome::Overtaken { cause } => self.say(TaskState::Retrying, cause, ""),
        }
    }

    fn say(&self, state: TaskState, cause: String, remedy: &str) {
        let mut said = self.lock();
        *said = Said { state, cause, remedy: remedy.to_owned(), since: SystemTime::now() };
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        lock(&self.said)
    }

    /// What is to be reported now.
    pub(super) fn said(&self) -> Said {
        let mut said = self.lock();
        // A precheck says for itself how it ends; only what it waits for is told in between.
        let is_checked = said.state != TaskState::Prechecking || self.progress.trouble().is_some();
        if said.state.runs() && is_checked && !self.has_ended() {
            let (state, cause, remedy) = self.running();
            if state != said.state || cause != said.cause {
                let since = if state == said.state { said.since } else { SystemTime::now() };
                *said = Said { state, cause, remedy, since };
            }
        }
        said.clone()
    }

    /// How far the task is, in the words of the contract.
    pub(super) fn phase(&self) -> &'static str {
        let Progress { streaming, snapshot_running, .. } = &*self.progress;
        match (self.has_begun.load(Relaxed), snapshot_running.load(Relaxed)) {
            (false, _) => "precheck",
            (true, true) => "snapshot",
            (true, false) if streaming.load(Relaxed) => "incremental",
            // Topics, publication and slot are made, and readers are told of tables.
            (true, false) => "schema",
        }
    }

    /// Records per second, as of the looks of the last seconds.
    pub(super) fn rate(&self) -> f64 {
        let records = self.progress.records.load(Relaxed);
        let mut rate = lock(&self.rate);
        rate.per_second(records, Instant::now())
    }

    /// Rows per second that the snapshot reads.
    pub(super) fn snapshot_rate(&self) -> f64 {
        let rows = self.progress.snapshot_rows.load(Relaxed);
        let mut rate = lock(&self.snapshot_rate);
        rate.per_second(rows, Instant::now())
    }

    /// State, cause and remedy.
    fn running(&self) -> (TaskState, String, String) {
        let progress = &self.progress;
        if let Some(trouble) = progress.trouble() {
            return (TaskState::Retrying, self.tried(&trouble), RETRYING.into());
        }
        let (cause, remedy) = match self.specs.refused() {
            Some(Refused { cause, remedy, .. }) => (cause, remedy),
            None => (String::new(), String::new()),
        };
        if !progress.streaming.load(Relaxed) {
            return (TaskState::Initializing, cause, remedy);
        }
        if self.specs.is_modifying() && cause.is_empty() {
            let waits = self.checking.trouble();
            let (cause, remedy) = waits.map_or_else(Default::default, |trouble| {
                let cause = format!("the changed spec waits: {}", self.tried(&trouble));
                (cause, CHANGE_WAITS.to_owned())
            });
            return (TaskState::Modifying, cause, remedy);
        }
        let lag = progress.server_end().0.saturating_sub(progress.watermark().0);
        let is_behind = BEHIND_BYTES < lag;
        let state = if is_behind { TaskState::CatchingUp } else { TaskState::Synchronizing };
        (state, cause, remedy)
    }

    fn tried(&self, trouble: &Trouble) -> String {
        let left = trouble.until.saturating_duration_since(Instant::now());
        format!(
            "{}; tried {} times since {} s ago, given up in {} min ({})",
            trouble.cause,
            trouble.retries,
            trouble.since.elapsed().as_secs(),
            left.as_secs().div_ceil(60),
            self.windows(),
        )
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow() || self.ended.has_changed().is_err()
    }

    /// Lets it drain and end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Until the thread has ended; `false`: it took longer than `patience`.
    pub(super) async fn ended(&self, patience: Duration) -> bool {
        let mut ended = self.ended.clone();
        let in_time = tokio::time::timeout(patience, ended.wait_for(|ended| *ended)).await;
        if in_time.is_err() {
            warn!("a front does not end in time; its successor will fence it");
        } else if self.ended.has_changed().is_err() && !*self.ended.borrow() {
            error!("a front has panicked; see the log line of the panic");
        }
        in_time.is_ok()
    }
}

/// Cause and remedy.
fn texts(failed: &[Item]) -> (String, String) {
    let causes: Vec<_> = failed.iter().map(|it| format!("{}: {}", it.name, it.seen)).collect();
    let remedies: Vec<_> = failed.iter().map(|it| it.remedy.as_str()).collect();
    (causes.join("; "), remedies.join("; "))
}
