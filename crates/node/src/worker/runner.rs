//! The front of one task on this worker: a thread with an actix system of its own.

use super::Context;
use super::hosts::Placed;
use super::specs::Specs;
use crate::front::Wanted;
use crate::task_state::TaskState;
use config::Means;
use config::precheck::Item;
use pipeline::alerts::Alerts;
use pipeline::precheck::Unfit;
use pipeline::rate::Rate;
use pipeline::{Options, Outcome, Progress};
use std::convert::Infallible;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// The task with the same servers whose window for lost connections holds here.
    window_of: Arc<Mutex<Option<String>>>,
    /// `true` once the thread has ended.
    ended: watch::Receiver<bool>,
}

/// WAL behind which a task is catching up rather than following.
const BEHIND_BYTES: u64 = 64 << 20;

/// What a person can do about what is tried again.
const RETRYING: &str = "mend the cause; it is tried again by itself";
const ALERTS_REMEDY: &str = "correct the setting, or leave `alerts` out";

/// Over which the rate of a task is counted, as the contract has it.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// How a run is begun.
pub(super) struct Beginning {
    pub(super) spec: config::Task,
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
        let Beginning { spec, wanted, reseed, accept_gap, proven } = beginning;
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
        let window_of = Arc::default();
        let runner =
            Self { wanted, progress, rate, snapshot_rate, said, stop, specs, window_of, ended };
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
            let live = own.live(context, runtime, spec, options, proven);
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

    async fn live(
        &self,
        context: Context,
        runtime: Handle,
        spec: config::Task,
        options: Options,
        proven: bool,
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
        let silent = config::Task { alerts: None, ..spec.clone() };
        // Nobody needs to be told of what is removed.
        let alerts = Alerts::start(if release { &silent } else { &spec }, folder, &self.progress);
        let alerts = match alerts {
            Ok(alerts) => alerts,
            Err(error) => return self.say(TaskState::PrecheckFailed, error, ALERTS_REMEDY),
        };
        if !release {
            self.progress.trace.begin(&spec.task);
        }
        if !release && !proven {
            let retry = || self.specs.newest().retry;
            let passed = tokio::select! {
                passed = pipeline::precheck::pass(&spec, folder, &self.progress, retry) => passed,
                () = self.stop.cancelled() => return,
            };
            match passed {
                Ok(()) => self.say(TaskState::Initializing, String::new(), ""),
                Err(Unfit::Items(failed)) => {
                    self.progress.trace.fail("precheck not passed");
                    return self.unfit(&failed);
                }
                Err(Unfit::GaveUp(outcome)) => {
                    alerts.finish(&outcome).await;
                    return self.ended_with(outcome);
                }
            }
        }
        let (name, begun) = (spec.task.clone(), Arc::new(spec));
        let hosts = Rc::new(Placed::new(&name, context, runtime, Arc::clone(&self.specs)));
        let spec = self.specs.newest();
        let folder = folder.clone();
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

    /// What is applied while the task runs passes the precheck first, as at a start, unless no record depends on it.
    /// What does not ends the run.
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
            let unconfined = spec.unconfined(folder);
            if !unconfined.is_empty() {
                let cause = config::Problems(unconfined).to_string();
                self.say(TaskState::PrecheckFailed, cause, "correct the spec and apply it again");
                self.stop();
                continue;
            }
            if last.alerts != spec.alerts
                && let Err(error) = alerts.change(&spec, folder)
            {
                self.say(TaskState::PrecheckFailed, error, ALERTS_REMEDY);
                self.stop();
                continue;
            }
            let takes = last.means_to(&spec);
            last = Arc::clone(&spec);
            if matches!(takes, None | Some(Means::AtOnce)) {
                self.specs.pass(spec);
                continue;
            }
            // What is in trouble now is told by the run itself.
            let retry = || self.specs.newest().retry;
            match pipeline::precheck::pass(&spec, folder, &Progress::default(), retry).await {
                Ok(()) => self.specs.pass(spec),
                Err(Unfit::Items(failed)) => {
                    self.unfit(&failed);
                    self.stop();
                }
                Err(Unfit::GaveUp(outcome)) => {
                    self.ended_with(outcome);
                    self.stop();
                }
            }
        }
    }

    fn unfit(&self, failed: &[Item]) {
        let texts = failed.iter().map(|it| format!("{}: {}", it.name, it.seen));
        let cause = texts.collect::<Vec<_>>().join("; ");
        let remedies = failed.iter().map(|it| it.remedy.as_str()).collect::<Vec<_>>();
        self.say(TaskState::PrecheckFailed, cause, &remedies.join("; "));
    }

    /// Takes up a changed spec while the task runs; `false`: it takes a seal or another run.
    pub(super) fn modify(&self, spec: config::Task) -> bool {
        if self.has_ended() || !self.said().state.runs() {
            return false;
        }
        let Progress { streaming, snapshot_running, .. } = &*self.progress;
        let in_place = match self.specs.newest().means_to(&spec) {
            None | Some(Means::AtOnce | Means::Lanes) => true,
            Some(Means::Mark) => streaming.load(Relaxed) && !snapshot_running.load(Relaxed),
            Some(Means::Seal | Means::Restart | Means::Never) => false,
        };
        if in_place {
            self.specs.apply(spec);
        }
        in_place
    }

    /// Goes by other retry windows while the task runs; `false`: they are those that hold, or it has ended.
    pub(super) fn retries_within(&self, retry: config::Retry) -> bool {
        let newest = self.specs.newest();
        let is_other = newest.retry != retry && !self.has_ended();
        is_other && self.modify(config::Task { retry, ..config::Task::clone(&newest) })
    }

    /// Notes whose window for lost connections holds.
    pub(super) fn shares(&self, task: Option<String>) {
        *self.window_of.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// Where the windows are from, for who reads when it is given up.
    fn windows(&self) -> String {
        match &*self.window_of.lock().unwrap_or_else(PoisonError::into_inner) {
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
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be reported now.
    pub(super) fn said(&self) -> Said {
        let mut said = self.lock();
        // A precheck says for itself how it ends; only what it waits for is told in between.
        let is_checked = said.state != TaskState::Prechecking || self.progress.trouble().is_some();
        if said.state.runs() && is_checked && !self.has_ended() {
            let (state, cause) = self.running();
            if state != said.state || cause != said.cause {
                let since = if state == said.state { said.since } else { SystemTime::now() };
                let remedy = if state == TaskState::Retrying { RETRYING } else { "" };
                *said = Said { state, cause, remedy: remedy.into(), since };
            }
        }
        said.clone()
    }

    /// Records per second, as of the looks of the last seconds.
    pub(super) fn rate(&self) -> f64 {
        let records = self.progress.records.load(Relaxed);
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.per_second(records, Instant::now())
    }

    /// Rows per second that the snapshot reads.
    pub(super) fn snapshot_rate(&self) -> f64 {
        let rows = self.progress.snapshot_rows.load(Relaxed);
        let mut rate = self.snapshot_rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.per_second(rows, Instant::now())
    }

    fn running(&self) -> (TaskState, String) {
        let progress = &self.progress;
        if let Some(trouble) = progress.trouble() {
            let left = trouble.until.saturating_duration_since(Instant::now());
            let cause = format!(
                "{}; tried {} times since {} s ago, given up in {} min ({})",
                trouble.cause,
                trouble.retries,
                trouble.since.elapsed().as_secs(),
                left.as_secs().div_ceil(60),
                self.windows(),
            );
            return (TaskState::Retrying, cause);
        }
        if !progress.streaming.load(Relaxed) {
            return (TaskState::Initializing, String::new());
        }
        if self.specs.is_modifying() {
            return (TaskState::Modifying, String::new());
        }
        let lag = progress.server_end().0.saturating_sub(progress.watermark().0);
        let is_behind = BEHIND_BYTES < lag;
        let state = if is_behind { TaskState::CatchingUp } else { TaskState::Synchronizing };
        (state, String::new())
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
