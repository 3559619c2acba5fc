//! A task where its router is: opens the lanes, finds where to begin, keeps a front running, ends.
//!
//! The loop below is the one place that decides; it is told of everything by the guardian.

mod begin;
mod copy;
mod definitions;
mod events;
mod mark;
mod revision;
mod row_filters;
mod tables;
mod wire;

pub(crate) use begin::microseconds_now;

use crate::acknowledger::{Positions, WriteWatermark};
use crate::batch::Advanced;
use crate::copying::Copying;
use crate::describe::Catalog;
use crate::descriptions::Descriptions;
use crate::failure::Failure;
use crate::front::{self, Front, StreamFeed};
use crate::guardian::{Guardian, News};
use crate::heartbeat::Pulse;
use crate::hosts::{Here, Host, Hosts, Upstream};
use crate::lanes::{Factory, Lanes};
use crate::meta::Meta;
use crate::planner::{self, Planner};
use crate::progress::{Progress, Trouble};
use crate::streams::Beside;
use crate::tables::Oids;
use crate::turns::Turns;
use crate::upstream::{OpenStage, UpstreamStage, slot_name};
use actix::{Actor, Addr};
use kafka::meta::{MetaState, Switch, Watermark};
use kafka::names::{LaneId, Names};
use kafka::ready::Preparing;
use kafka::topics::Admin;
use postgres::Session;
use record::told::Teller;
use revision::{Next, Present};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use supervision::{Budget, FailureClass, FailureLog, RestartPolicy, Verdict};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wal::{Lsn, Position};
use wire::Wire;

/// How long a drain may take before the rest is left to the next start.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long a lane that is not open is waited for then, where somebody waits for the end.
const CLOSED_MAX: Duration = Duration::from_millis(500);
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// How long what a front needs is prepared before the former owner is asked to end: it waits 5 s for that.
const PREPARE_MAX: Duration = Duration::from_secs(3);

/// What is asked of a run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// End once everything that was committed before the start is delivered.
    pub until_caught_up: bool,
    /// Begin again: new slot, new snapshot.
    pub reseed: bool,
    /// With `reseed`: no snapshot, what lies between is left out and named.
    pub accept_gap: bool,
    /// At the end remove slot, publication and internal topics; data topics stay.
    pub release: bool,
    /// A task that has been given up is begun again, for `retry.recover_for` (P68).
    pub recover: bool,
    /// Somebody waits for its end: the server is not asked then how much WAL it keeps.
    pub hurried: bool,
    /// What paths of the spec are relative to.
    pub folder: PathBuf,
    /// Where transactions in progress are spooled.
    pub data_dir: PathBuf,
}

/// How a run ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// `until_caught_up`, or a task without a stream: everything is delivered.
    CaughtUp,
    /// Stopped by request; the slot is kept.
    Stopped {
        /// WAL that the server keeps for the slot now; `None`: the server did not say.
        retained_bytes: Option<u64>,
    },
    Released,
    /// A person must decide.
    Parked {
        cause: String,
        remedy: String,
    },
    Failed {
        cause: String,
    },
    /// Another process owns the task now.
    Overtaken {
        cause: String,
    },
}

/// Runs a task until it is stopped, has caught up, or cannot go on. The precheck was done before.
/// Needs an actix system on this thread.
pub async fn run(
    spec: Arc<config::Task>,
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Outcome {
    if options.reseed
        && let Err(failure) = crate::streams::release_surplus(&spec, &options).await
    {
        return Outcome::Failed { cause: failure.cause };
    }
    if 1 < spec.source.streams {
        return crate::streams::run(spec, options, progress, stop).await;
    }
    run_on(spec, options, progress, stop, Rc::new(Here)).await
}

/// As [`run`], with lanes and the stages before the router where `hosts` says. The snapshot is read here.
pub async fn run_on(
    spec: Arc<config::Task>,
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
    hosts: Rc<dyn Hosts>,
) -> Outcome {
    run_beside(spec, options, progress, stop, hosts, Beside::default()).await
}

/// As [`run_on`], beside other streams of the task.
pub(crate) async fn run_beside(
    spec: Arc<config::Task>,
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
    hosts: Rc<dyn Hosts>,
    beside: Beside,
) -> Outcome {
    let trace = Arc::clone(&progress);
    let outcome = run_again(spec, options, progress, stop, hosts, beside).await;
    trace_end(&trace, &outcome);
    outcome
}

/// The start of the task ends at the latest with the task.
pub(crate) fn trace_end(progress: &Progress, outcome: &Outcome) {
    match outcome {
        Outcome::Parked { cause, .. }
        | Outcome::Failed { cause }
        | Outcome::Overtaken { cause } => progress.trace.fail(cause),
        Outcome::CaughtUp | Outcome::Stopped { .. } | Outcome::Released => progress.trace.end(),
    }
}

/// Begins again what has failed, where that is asked for.
async fn run_again(
    spec: Arc<config::Task>,
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
    hosts: Rc<dyn Hosts>,
    beside: Beside,
) -> Outcome {
    let mut options = options;
    let mut recovery = Recovery::new(&spec.retry);
    loop {
        let (spec, progress) = (Arc::clone(&spec), Arc::clone(&progress));
        let (stop, hosts) = (stop.clone(), Rc::clone(&hosts));
        let opening = Opening::new(
            Arc::clone(&spec),
            options.clone(),
            Arc::clone(&progress),
            stop.clone(),
            hosts,
        );
        let mut opening = match opening {
            Ok(opening) => opening,
            Err(failure) => return parked(failure),
        };
        opening.beside = beside.clone();
        opening.prepare().await;
        let outcome = opening.live().await;
        // It may have been changed meanwhile.
        let retry = opening.newest().retry;
        recovery.follow(&retry);
        let Outcome::Failed { cause } = outcome else { return outcome };
        if options.release {
            return Outcome::Failed { cause };
        }
        // What begins a process again that has ended, recovers the task, for as long as it likes.
        if !options.recover && !recovery.recover_for.is_zero() {
            let kept = match retry.on_expiry {
                config::OnExpiry::Keep => "",
                config::OnExpiry::DropSlot => {
                    "; its slot is kept for whoever begins it again (`retry.recover_for: 0` has it dropped at once)"
                }
            };
            return Outcome::Failed { cause: format!("{cause}{kept}") };
        }
        let Some(pause) = recovery.pause(&cause, &progress) else {
            let spec = config::Task { retry, ..config::Task::clone(&spec) };
            return expire(&spec, &options.folder, cause).await;
        };
        tokio::select! {
            () = stop.cancelled() => return Outcome::Stopped { retained_bytes: None },
            () = tokio::time::sleep(pause) => {}
        }
        options = opening.options;
    }
}

/// Between two attempts to begin a failed task again.
const RECOVERY_PAUSE: Duration = Duration::from_secs(300);

/// Attempts to begin a task again that has been given up (P68).
pub(crate) struct Recovery {
    recover_for: Duration,
    first: Option<Instant>,
    last: Option<Instant>,
    count: u32,
    window: Duration,
}

impl Recovery {
    pub(crate) fn new(retry: &config::Retry) -> Self {
        let window = retry.connection.0.max(retry.other.0);
        Self { recover_for: retry.recover_for.0, first: None, last: None, count: 0, window }
    }

    /// Other windows hold.
    pub(crate) fn follow(&mut self, retry: &config::Retry) {
        let Self { recover_for, window, .. } = Self::new(retry);
        (self.recover_for, self.window) = (recover_for, window);
    }

    /// When it is over.
    fn until(&self, now: Instant) -> Instant {
        let first = self.first.unwrap_or(now);
        first.checked_add(self.recover_for).unwrap_or(now)
    }

    /// As [`Self::next`], now; tells what is waited for.
    pub(crate) fn pause(&mut self, cause: &str, progress: &Progress) -> Option<Duration> {
        let began = Instant::now();
        let pause = self.next(began)?;
        let cause =
            format!("has failed and is begun again after a pause (`retry.recover_for`): {cause}");
        warn!(cause, pause_s = pause.as_secs(), "given up for now");
        let (since, until) = (self.first.unwrap_or(began), self.until(began));
        progress.troubled(Some(Trouble { cause, retries: self.count, since, until }));
        Some(pause)
    }

    /// How long to wait before the next attempt; `None`: it is over. Pure. Who has run for longer than it would
    /// have taken to give up has recovered.
    fn next(&mut self, now: Instant) -> Option<Duration> {
        let pause = RECOVERY_PAUSE;
        let has_run =
            |last: Instant| 2 * (self.window + pause) < now.saturating_duration_since(last);
        if self.last.is_some_and(has_run) {
            (self.first, self.count) = (None, 0);
        }
        let first = *self.first.get_or_insert(now);
        self.last = Some(now);
        self.count += 1;
        (now.saturating_duration_since(first) + pause <= self.recover_for).then_some(pause)
    }
}

/// What becomes of a task that is tried no more. `retry.on_expiry: drop-slot`: the server is not to keep WAL for it. That is
/// recorded first, so that whoever starts the task later is told why its slot is gone.
pub(crate) async fn expire(spec: &config::Task, folder: &Path, cause: String) -> Outcome {
    if spec.retry.on_expiry == config::OnExpiry::Keep {
        return Outcome::Failed { cause };
    }
    let name = slot_name(spec);
    match give_up_slot(spec, folder, &name, &cause).await {
        Ok(false) => Outcome::Failed { cause },
        Ok(true) => Outcome::Parked {
            cause: format!("{cause}; its slot `{name}` was dropped (`retry.on_expiry`)"),
            remedy: "mend the cause, then begin again with a new snapshot (--reseed)".into(),
        },
        Err(failure) => {
            let kept = format!("the slot `{name}` could not be dropped: {failure}");
            Outcome::Failed { cause: format!("{cause}; {kept}") }
        }
    }
}

/// `false`: there was none.
async fn give_up_slot(
    spec: &config::Task,
    folder: &Path,
    name: &str,
    cause: &str,
) -> Result<bool, Failure> {
    let settings = postgres::settings::Settings::new(spec, folder)?;
    let of_slot = Session::connect_slot(&settings).await?;
    if of_slot.slot(name).await?.is_none() {
        return Ok(false);
    }
    let session = Session::connect(&settings).await?;
    crate::slots::record_expiry(&session, name, cause).await?;
    warn!(slot = name, cause, "the slot is dropped, as `retry.on_expiry` says");
    // What the triggers write would be for nobody.
    session.drop_ddl_capture(name).await?;
    drop_slot(&of_slot, &settings, name).await?;
    Ok(true)
}

/// Until the task ends.
async fn tell_of_changes(hosts: Rc<dyn Hosts>, news: UnboundedSender<News>) {
    loop {
        tokio::select! {
            () = news.closed() => return,
            () = hosts.changed() => {}
        }
        if news.send(News::Hosts).is_err() {
            return;
        }
    }
}

fn parked(failure: Failure) -> Outcome {
    Outcome::Parked {
        cause: failure.cause,
        remedy: "see the cause; then run the task again".into(),
    }
}

fn first(positions: &Positions, lanes: config::Lanes) -> Vec<Position> {
    positions.borrow().iter().take(usize::from(lanes.0)).copied().collect()
}

fn policy(retry: &config::Retry) -> RestartPolicy {
    RestartPolicy {
        delay_min: Duration::from_millis(200),
        delay_max: Duration::from_secs(15),
        connection_window: retry.connection.0,
        other_window: retry.other.0,
    }
}

/// Failures of the front or of its precheck, and what follows them.
pub(crate) struct Retries {
    log: FailureLog,
    policy: RestartPolicy,
}

impl Retries {
    pub(crate) fn new(retry: &config::Retry) -> Self {
        Self { log: FailureLog::default(), policy: policy(retry) }
    }

    /// Other windows hold, also for what is tried again now.
    pub(crate) fn follow(&mut self, retry: &config::Retry) {
        self.policy = policy(retry);
    }

    /// How long to wait before the next attempt, or how the run ends.
    pub(crate) fn after(
        &mut self,
        failure: Failure,
        progress: &Progress,
    ) -> Result<Duration, Outcome> {
        progress.failed(failure.class);
        match failure.class {
            FailureClass::Fatal | FailureClass::Poison => return Err(parked(failure)),
            FailureClass::Fenced => return Err(Outcome::Overtaken { cause: failure.cause }),
            FailureClass::Connection | FailureClass::Transient => {}
        }
        match self.log.record(failure.class, Instant::now(), rand::random(), &self.policy) {
            Verdict::RestartAfter(delay) => {
                let retry = self.log.count();
                let class = failure.class.word();
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                warn!(class, cause = %failure.cause, retry, delay_ms, "interrupted, trying again");
                let since = self.log.since().unwrap_or_else(Instant::now);
                let until = since + self.policy.window(failure.class);
                let trouble = Trouble { cause: failure.cause, retries: retry, since, until };
                progress.troubled(Some(trouble));
                Ok(delay)
            }
            Verdict::GiveUp => Err(Outcome::Failed {
                cause: format!(
                    "tried again for {:?} without success (`retry` of the spec): {}",
                    self.log.since().map(|since| since.elapsed()).unwrap_or_default(),
                    failure.cause
                ),
            }),
        }
    }
}

/// A task before its lanes exist.
struct Opening {
    spec: Arc<config::Task>,
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
    postgres: postgres::settings::Settings,
    kafka: kafka::settings::Settings,
    names: Names,
    retries: Retries,
    hosts: Rc<dyn Hosts>,
    /// Connected before the task was ours; for its first begin.
    session: Option<Session>,
    /// The internal topics were looked after before the task was ours; for the first attempt.
    topics_made: bool,
    beside: Beside,
}

impl Opening {
    fn new(
        spec: Arc<config::Task>,
        options: Options,
        progress: Arc<Progress>,
        stop: CancellationToken,
        hosts: Rc<dyn Hosts>,
    ) -> Result<Self, Failure> {
        let postgres = postgres::settings::Settings::new(&spec, &options.folder)?;
        let kafka = kafka::settings::Settings::new(&spec, &options.folder)?;
        let names = Names::new(&spec.sink.state_prefix, &spec.life())
            .map_err(|error| Failure::fatal(error.to_string()))?;
        let retries = Retries::new(&spec.retry);
        Ok(Self {
            spec,
            options,
            progress,
            stop,
            postgres,
            kafka,
            names,
            retries,
            hosts,
            session: None,
            topics_made: false,
            beside: Beside::default(),
        })
    }

    /// What can be done while the former owner of the task still streams; then it is asked to end. What fails here
    /// is tried again, and told, by whoever needs it.
    async fn prepare(&mut self) {
        let hosts = Rc::clone(&self.hosts);
        let Some(handed_over) = hosts.handed_over(&self.progress.trace) else { return };
        let prepared = async {
            let session = Session::connect(&self.postgres);
            let ready = async { tokio::join!(self.ensure_topics(), session, self.connected()) };
            let ready = tokio::time::timeout(PREPARE_MAX, ready).await;
            handed_over.await;
            ready.map_or((false, None), |(topics, session, ())| (topics.is_ok(), session.ok()))
        };
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            prepared = prepared => (self.topics_made, self.session) = prepared,
        }
    }

    /// Begins to connect what opens the lanes here. Nobody is fenced by that.
    fn connect_lanes(&self) -> Vec<Preparing> {
        let is_here = |lane: &u8| self.hosts.of(*lane) == Host::Here;
        let here = (0..self.spec.lanes.0).filter(is_here).map(LaneId::Lane);
        here.map(|lane| kafka::ready::prepare(&self.kafka, &self.names, lane)).collect()
    }

    async fn connected(&self) {
        let mut connecting = self.connect_lanes();
        connecting.push(kafka::ready::prepare(&self.kafka, &self.names, LaneId::Meta));
        let wait = move || connecting.iter().for_each(|it| it.wait(PREPARE_MAX));
        // What is not there is made, or told, by whoever needs it.
        let _ = tokio::task::spawn_blocking(wait).await;
    }

    /// The spec as it was last changed.
    fn newest(&self) -> Arc<config::Task> {
        self.hosts.spec().unwrap_or_else(|| Arc::clone(&self.spec))
    }

    fn take_newest(&mut self) {
        self.spec = self.newest();
        self.kafka = self.kafka.producing_as(&self.spec.sink);
        self.retries.follow(&self.spec.retry);
    }

    fn budget(&self) -> Budget {
        let budget = crate::upstream::budget();
        self.progress.paid_from(&budget);
        budget
    }

    async fn ensure_topics(&self) -> Result<(), Failure> {
        let (kafka, names) = (self.kafka.clone(), self.names.clone());
        let made = move || Admin::new(&kafka)?.ensure_internal(&names);
        Ok(tokio::task::spawn_blocking(made).await??)
    }

    /// Until the task ends: one spec after the other.
    async fn live(&mut self) -> Outcome {
        // In this order: a release is stopped before it begins, and opens all the same.
        tokio::select! {
            biased;
            () = self.beside.may_begin() => {}
            () = self.stop.cancelled() => return Outcome::Stopped { retained_bytes: None },
        }
        loop {
            let mut task = match self.task().await {
                Ok(task) => task,
                Err(outcome) => return outcome,
            };
            let outcome = task.live().await;
            // What was asked for once is done, and the rest is read anew.
            self.options = task.options;
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    /// Opens the task, again and again where that may pass.
    async fn task(&mut self) -> Result<Task, Outcome> {
        loop {
            let failure = match self.attempt().await {
                Ok(task) => return Ok(task),
                Err(failure) => failure,
            };
            self.retries.follow(&self.newest().retry);
            let delay = self.retries.after(failure, &self.progress)?;
            tokio::select! {
                () = self.stop.cancelled() => return Err(Outcome::Stopped { retained_bytes: None }),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// `server_version_num` of the source, where records tell it; else 0.
    async fn server_version(&self, spec: &config::Task) -> Result<u32, Failure> {
        if spec.sink.format != config::Format::DtsAvro {
            return Ok(0);
        }
        Ok(Session::connect(&self.postgres).await?.server().version)
    }

    /// Dead letters of each lane have a partition before the lane begins.
    async fn ensure_letters(
        &self,
        spec: &config::Task,
        plan: &record::plan::TaskPlan,
    ) -> Result<(), Failure> {
        let Some(letters) = planner::letters(spec, plan) else { return Ok(()) };
        let (kafka, may_create) = (self.kafka.clone(), spec.sync.schema);
        let ensure = move || Admin::new(&kafka)?.ensure_partitions(&letters, may_create);
        Ok(tokio::task::spawn_blocking(ensure).await??)
    }

    /// Plans by the present revision, and by those of the marks that are recorded.
    fn planner(
        &self,
        present: &Present,
        meta: &Meta,
        state: &MetaState,
        server_version: u32,
    ) -> Result<Planner, Failure> {
        let (spec, folder) = (&present.spec, &self.options.folder);
        let mask_key = planner::mask_key(spec, folder)?;
        let (kafka, meta, pins) = (self.kafka.clone(), meta.clone(), state.pins.clone());
        let planner = Planner::new(Arc::clone(spec), kafka, meta, pins, server_version, mask_key)?;
        for mark in &present.marks {
            let spec = Arc::new(spec.shaped(&mark.shape));
            let mask_key = planner::mask_key(&spec, folder)?;
            planner.add(Rc::new(planner.revision(Arc::new(mark.into()), spec, mask_key)?));
        }
        Ok(planner)
    }

    async fn open_meta(&self, anew: bool) -> Result<(Meta, MetaState), Failure> {
        let mut span = self.progress.trace.span("meta.open", &self.spec.task);
        let opened = Meta::open(self.kafka.clone(), self.names.clone(), anew).await;
        span.note(&opened);
        let (meta, state) = opened?;
        if !anew {
            crate::streams::unchanged(&self.spec, &state)?;
        }
        Ok((meta, state))
    }

    /// Before anybody is fenced: the internal topics, and the clients of the lanes here, which connect while the meta
    /// lane is opened.
    async fn make_ready(&mut self) -> Result<(), Failure> {
        if !self.options.release {
            self.progress.trace.begin(&self.spec.task);
        }
        if !std::mem::take(&mut self.topics_made) {
            self.ensure_topics().await?;
        }
        drop(self.connect_lanes());
        Ok(())
    }

    /// What its lanes are made of.
    fn factory(
        &self,
        present: &Present,
        planner: &Planner,
        server_version: u32,
        guardian: Addr<Guardian>,
        news: UnboundedSender<News>,
        term: i64,
    ) -> Factory {
        Factory {
            kafka: self.kafka.clone(),
            names: self.names.clone(),
            plan: planner.first().task.clone(),
            pins: planner.shared_pins(),
            spec: Arc::clone(&present.spec),
            hosts: Rc::clone(&self.hosts),
            revision: present.number,
            floor: present.floor,
            server_version,
            anew: self.options.reseed,
            progress: Arc::clone(&self.progress),
            guardian,
            news,
            policy: self.retries.policy,
            term,
        }
    }

    /// Opens the meta lane, which fences an older process, and starts the lanes.
    async fn attempt(&mut self) -> Result<Task, Failure> {
        self.take_newest();
        self.make_ready().await?;
        let anew = self.options.reseed;
        let (meta, state) = self.open_meta(anew).await?;
        let present = Present::new(&self.spec, &state, anew);
        present.tell(&state);
        let spec = &present.spec;
        let server_version = self.server_version(spec).await?;
        let planner = self.planner(&present, &meta, &state, server_version)?;
        self.ensure_letters(spec, &planner.first().task).await?;
        let (sender, news) = unbounded_channel();
        let guardian = Guardian(sender.clone()).start();
        actix_rt::spawn(tell_of_changes(Rc::clone(&self.hosts), sender.clone()));
        let (told, term) = (guardian.clone(), meta.term());
        let factory = self.factory(&present, &planner, server_version, told, sender, term);
        let lanes = Lanes::start(factory, present.lanes);
        Ok(Task {
            slot_name: slot_name(spec),
            spec: Arc::clone(spec),
            wanted: Arc::clone(&self.spec),
            options: self.options.clone(),
            progress: Arc::clone(&self.progress),
            stop: self.stop.clone(),
            postgres: self.postgres.clone(),
            kafka: self.kafka.clone(),
            names: self.names.clone(),
            retries: Retries::new(&spec.retry),
            hosts: Rc::clone(&self.hosts),
            beside: self.beside.clone(),
            session: self.session.take(),
            slot_host: SlotHost::default(),
            upstream: None,
            planner: Rc::new(planner),
            meta,
            state: Rc::new(RefCell::new(state)),
            lanes,
            positions: Positions::default(),
            budget: self.budget(),
            turns: Rc::new(Turns::new(self.spec.throttle.snapshot.into())),
            guardian,
            news,
            generation: 0,
            target: None,
            history: None,
            snapshot_failed: false,
            copying: None,
            known: Rc::default(),
            infers: Cell::new(false),
            telling: Rc::default(),
            filters_due: Rc::default(),
            wire: Wire::default(),
            end: None,
            sealed: BTreeSet::new(),
            present,
            in_doubt: false,
        })
    }
}

/// A task whose meta lane is open and whose lanes are started.
struct Task {
    /// Also the name of the publication.
    slot_name: String,
    /// That with which the lanes were opened.
    spec: Arc<config::Task>,
    /// That which is in force, or comes into force.
    wanted: Arc<config::Task>,
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
    postgres: postgres::settings::Settings,
    kafka: kafka::settings::Settings,
    names: Names,
    retries: Retries,
    hosts: Rc<dyn Hosts>,
    beside: Beside,
    /// For the first life of the front.
    session: Option<Session>,
    slot_host: SlotHost,
    /// Where the stages before the router were in the last life of the front.
    upstream: Option<Upstream>,
    planner: Rc<Planner>,
    meta: Meta,
    /// What the meta lane holds.
    state: Rc<RefCell<MetaState>>,
    lanes: Lanes,
    positions: Positions,
    budget: Budget,
    /// Of whatever reads tables.
    turns: Rc<Turns>,
    guardian: Addr<Guardian>,
    news: UnboundedReceiver<News>,
    generation: u64,
    /// Once this is durable the task has caught up.
    target: Option<Lsn>,
    /// Where the line of the connected server left the older ones; `None`: that is not known.
    history: Option<Vec<Switch>>,
    /// A snapshot of this run could not be finished: the next one holds its tables.
    snapshot_failed: bool,
    /// Reads tables beside the stream.
    copying: Option<Addr<Copying>>,
    /// Relations that were published when this run looked last.
    known: Rc<RefCell<Option<Oids>>>,
    /// DDL cannot be captured, so it is told from the stream.
    infers: Cell<bool>,
    /// A mark is about to tell of tables.
    telling: Rc<Cell<bool>>,
    /// When row filters are tried again that busy tables have not got.
    filters_due: Rc<Cell<Option<Instant>>>,
    /// In which form values are asked for.
    wire: Wire,
    present: Present,
    /// Whether the last mark was recorded is not known.
    in_doubt: bool,
    /// Where the present revision ends, once that is known.
    end: Option<Lsn>,
    /// Lanes that are sealed there.
    sealed: BTreeSet<u8>,
}

/// The server that has the slot, in this life of the front.
#[derive(Default)]
struct SlotHost {
    /// Where it is, or was, a standby; `None`: it is the read-write one, which has a session.
    session: Option<Rc<Session>>,
    /// It was in recovery when this life began.
    is_standby: bool,
}

/// Why a life of the front ended.
enum End {
    Outcome(Outcome),
    /// Everything of the present revision is durable.
    Revision,
    /// Every lane is to begin anew.
    Anew,
    /// What a lane was told to be durable is not: the task is opened again, which judges by what Kafka has.
    Undone,
    Stopped,
    /// The stages before the router are to run elsewhere or to read texts, or tables wait to be copied.
    Moved,
    Failure(Failure),
}

impl<E: Into<Failure>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

impl Task {
    /// Until the run ends; `None`: the task must be opened again, by the next revision or with lanes that begin anew.
    async fn live(&mut self) -> Option<Outcome> {
        let outcome = loop {
            let Err(mut end) = self.one_generation().await;
            if let (End::Revision, Some(at), Some(Next::Seal(next))) =
                (&end, self.end, &self.present.next)
            {
                match self.end_revision(at, next.clone()).await {
                    Ok(()) => break None,
                    Err(failed) => end = failed,
                }
            }
            if let Err(outcome) = self.recover(end).await {
                break outcome;
            }
        };
        self.lanes.stop(CLOSE_MAX).await;
        Some(self.farewell(outcome?).await)
    }

    /// Lets the delay after a failure pass, or says how the run ends; `None`: the task must be opened again.
    async fn recover(&mut self, mut end: End) -> Result<(), Option<Outcome>> {
        loop {
            let failure = match end {
                End::Revision | End::Moved => return Ok(()),
                End::Anew | End::Undone => return Err(None),
                End::Outcome(outcome) => return Err(Some(outcome)),
                End::Stopped => return Err(Some(Outcome::Stopped { retained_bytes: None })),
                End::Failure(failure) => failure,
            };
            let delay = self.retries.after(failure, &self.progress).map_err(Some)?;
            match self.idle(delay).await {
                Ok(()) => return Ok(()),
                Err(next) => end = next,
            }
        }
    }

    /// One life of the front, from the first SQL to its end.
    async fn one_generation(&mut self) -> Result<std::convert::Infallible, End> {
        self.upstream = None;
        if !self.options.release {
            self.progress.trace.begin(&self.spec.task);
        }
        self.lanes_open().await?;
        self.generation += 1;
        let stop = self.stop.clone();
        let (session, from) = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(End::Stopped),
            begun = self.begin_traced() => begun?,
        };
        let durable = self.watermark_lsn().unwrap_or(from);
        if self.end.is_some_and(|end| end <= durable) {
            return Err(End::Revision);
        }
        let is_there = self.target.is_some_and(|target| target <= from) && !self.has_to_copy();
        if is_there || !self.spec.sync.incremental {
            return Err(End::Outcome(Outcome::CaughtUp));
        }
        self.stream(session, from).await
    }

    async fn begin_traced(&mut self) -> Result<(Rc<Session>, Lsn), End> {
        let mut span = self.progress.trace.span("task.begin", &self.spec.task);
        let begun = self.begin().await;
        if let Err(End::Failure(failure)) = &begun {
            span.fail(failure.cause.clone());
        }
        begun
    }

    /// Streams until something ends this life.
    async fn stream(
        &mut self,
        session: Rc<Session>,
        from: Lsn,
    ) -> Result<std::convert::Infallible, End> {
        let binary = self.choose_wire(&session).await?;
        let places = self.hosts.upstream();
        self.upstream = Some(places.clone());
        let feed = StreamFeed {
            open: OpenStage {
                stage: UpstreamStage::Reader,
                spec: Arc::clone(&self.spec),
                generation: self.generation,
                from,
                line: session.server().line(),
                confirmed: self.watermark_lsn().unwrap_or(from),
                eager: self.is_eager(),
                binary,
            },
            settings: self.postgres.clone(),
            data_dir: self.options.data_dir.clone(),
            describe: Rc::new(Catalog::new(
                Rc::clone(&session),
                Rc::clone(&self.planner),
                self.descriptions(),
                self.infers.get(),
            )),
            write: self.watermark_writer(&session),
            places,
            hosts: Rc::clone(&self.hosts),
        };
        let wire = if binary.is_some() { "binary" } else { "text" };
        info!(generation = self.generation, lsn = %from, wire, "streaming");
        self.progress.streaming.store(true, Relaxed);
        self.progress.trace.end();
        // What came while the tables were read, and no record depends on, holds since then.
        self.tell_in_force();
        let front = self.front().stream(feed);
        self.tell_plans();
        let _pulse = self.pulse();
        self.copy_beside(&front)?;
        let looking = self.look_after_tables(&session);
        let end = self.watch(&front, &session).await;
        drop(looking);
        self.stop_copying();
        // What is undone must not be confirmed.
        if !matches!(end, End::Failure(_) | End::Undone) {
            self.drain(&front).await;
        }
        front.retire(CLOSE_MAX).await;
        Err(end)
    }

    /// Follows the front until something ends it.
    async fn watch(&mut self, front: &Front, session: &Session) -> End {
        loop {
            let noted = match self.next(Some(front)).await {
                Ok(noted) => noted,
                Err(end) => return end,
            };
            let watermark = match noted {
                events::Noted::Advanced(Advanced { watermark, seq, .. }) => {
                    self.settled(seq);
                    watermark
                }
                events::Noted::Copied => {
                    // A changed spec may have waited for that.
                    let copied = match self.copied(front) {
                        Ok(()) => self.mark(session, Some(front)).await,
                        Err(failure) => Err(End::Failure(failure)),
                    };
                    if let Err(end) = copied {
                        return end;
                    }
                    if self.end.is_none() && matches!(self.present.next, Some(Next::Seal(_))) {
                        return End::Moved;
                    }
                    self.progress.watermark()
                }
                events::Noted::Other => {
                    if let Err(end) = self.modify(session, front).await {
                        return end;
                    }
                    continue;
                }
                events::Noted::LaneOpened(_) => {
                    self.tell_in_force();
                    continue;
                }
                events::Noted::SnapshotRead(_) | events::Noted::LaneSealed(_) => continue,
            };
            self.retries.log.progressed();
            self.progress.troubled(None);
            self.lanes.progressed();
            self.progress.advanced(watermark);
            self.filter_late(session).await;
            if self.end.is_some_and(|end| end <= watermark) {
                return End::Revision;
            }
            if self.target.is_some_and(|target| target <= watermark) && !self.has_to_copy() {
                return End::Outcome(Outcome::CaughtUp);
            }
        }
    }

    fn front(&self) -> front::Context<'_> {
        front::Context {
            task: &self.spec.task,
            generation: self.generation,
            lanes: &self.lanes,
            lanes_count: self.lanes.count(),
            budget: &self.budget,
            positions: &self.positions,
            progress: &self.progress,
            guardian: &self.guardian,
            eager: self.is_eager(),
            counts: self.spec.sink.transaction_topic == config::Switch::On,
            omits_ddl: self.spec.compat.dts_ddl,
            end: self.end,
            marks: self.marks(),
            descriptions: self.descriptions(),
        }
    }

    /// Whether somebody waits for each position.
    fn is_eager(&self) -> bool {
        self.options.until_caught_up || self.end.is_some()
    }

    /// Whether the stages before the router are to run elsewhere than they did.
    fn has_moved(&self) -> bool {
        self.upstream.as_ref().is_some_and(|places| *places != self.hosts.upstream())
    }

    /// Where the lanes of the spec stand; more may be open, to take them from an older owner.
    fn lane_positions(&self) -> Vec<Position> {
        first(&self.positions, self.spec.lanes)
    }

    fn watermark_lsn(&self) -> Option<Lsn> {
        self.state.borrow().watermark.as_ref().map(|watermark| watermark.lsn)
    }

    /// What the meta lane keeps of tables.
    fn descriptions(&self) -> Descriptions {
        Descriptions::new(self.meta.clone(), Rc::clone(&self.state))
    }

    /// Words what consumers are told beside the rows.
    fn teller(&self) -> Arc<Teller> {
        Arc::new(Teller::new(&self.planner.first().task))
    }

    /// Heartbeats, where the spec asks for them.
    fn pulse(&self) -> Option<Pulse> {
        let is_on = self.spec.sink.heartbeat_topic == config::Switch::On;
        let interval = self.spec.source.heartbeat_interval.0;
        is_on.then(|| Pulse::begin(self.meta.clone(), self.teller(), interval))
    }

    /// Writes watermarks of the connected server.
    fn watermark_writer(&self, session: &Session) -> WriteWatermark {
        let (meta, state) = (self.meta.clone(), Rc::clone(&self.state));
        let (positions, count) = (Rc::clone(&self.positions), self.spec.lanes);
        let (system_id, timeline) = (session.server().system_id, session.server().timeline);
        let (history, teller) = (self.told_history(), self.teller());
        let standby = self.slot_host.is_standby;
        Rc::new(move |lsn, beside| {
            let (lanes, history) = (first(&positions, count), history.clone());
            let watermark = Watermark { lsn, system_id, timeline, lanes, history, standby };
            let (meta, state, teller) = (meta.clone(), Rc::clone(&state), Arc::clone(&teller));
            Box::pin(async move {
                meta.advance(watermark.clone(), beside, teller).await?;
                state.borrow_mut().watermark = Some(watermark);
                Ok(())
            })
        })
    }

    /// What the server keeps is told, or everything is removed.
    async fn farewell(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::CaughtUp | Outcome::Stopped { .. } if self.options.release => {
                self.release().await.map_or_else(
                    |failure| Outcome::Failed {
                        cause: format!("not everything could be removed: {failure}; run it again"),
                    },
                    |()| Outcome::Released,
                )
            }
            Outcome::Stopped { .. } if self.options.hurried => outcome,
            Outcome::Stopped { .. } => {
                Outcome::Stopped { retained_bytes: self.retained().await.ok().flatten() }
            }
            Outcome::CaughtUp
            | Outcome::Released
            | Outcome::Parked { .. }
            | Outcome::Failed { .. }
            | Outcome::Overtaken { .. } => outcome,
        }
    }

    async fn retained(&self) -> Result<Option<u64>, Failure> {
        let session = Session::connect_slot(&self.postgres).await?;
        Ok(session.slot(&self.slot_name).await?.map(|slot| slot.retained_bytes))
    }

    async fn release(&self) -> Result<(), Failure> {
        release(&self.postgres, &self.kafka, &self.names, &self.slot_name).await
    }

    async fn drop_slot(&self, session: &Session) -> Result<(), Failure> {
        drop_slot(self.at_slot(session), &self.postgres, &self.slot_name).await
    }
}

/// Helper objects, slot, publication, then the internal topics: without them the slot would have no owner.
pub(crate) async fn release(
    postgres: &postgres::settings::Settings,
    kafka: &kafka::settings::Settings,
    names: &Names,
    slot: &str,
) -> Result<(), Failure> {
    let session = Session::connect(postgres).await?;
    // First, so that nothing more is written for nobody.
    session.drop_ddl_capture(slot).await?;
    let of_slot = Session::connect_slot(postgres).await?;
    drop_slot(&of_slot, postgres, slot).await?;
    session.drop_publication(slot).await?;
    crate::tail::drop_left(&session, slot).await;
    let (kafka, topics) = (kafka.clone(), names.topics_of_task());
    tokio::task::spawn_blocking(move || Admin::new(&kafka)?.delete(&topics)).await??;
    info!(slot, "task released");
    Ok(())
}

async fn drop_slot(
    session: &Session,
    settings: &postgres::settings::Settings,
    name: &str,
) -> Result<(), Failure> {
    let Some(slot) = session.slot(name).await? else { return Ok(()) };
    if slot.active_pid.is_some() {
        session.end_stale_walsender(name, settings.application_name()).await?;
    }
    Ok(session.drop_slot(name).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovery(recover_for: u64) -> Recovery {
        let mut retry = config::Retry::default();
        retry.recover_for.0 = Duration::from_secs(recover_for);
        retry.connection.0 = Duration::from_secs(600);
        Recovery::new(&retry)
    }

    #[test]
    fn a_failed_task_is_begun_again_for_as_long_as_the_spec_says() {
        let (mut recovery, start) = (recovery(7200), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        // Each attempt takes its window, then comes the pause.
        let tried: Vec<_> = (0..9).map(|it| recovery.next(after(900 * it)).is_some()).collect();
        assert_eq!(tried, [true, true, true, true, true, true, true, true, false]);
        assert_eq!(recovery.next(after(900 * 9)), None, "it is over");
    }

    #[test]
    fn who_has_run_for_long_begins_anew() {
        let (mut recovery, start) = (recovery(1000), Instant::now());
        assert!(recovery.next(start).is_some());
        assert_eq!(recovery.next(start + Duration::from_secs(900)), None);
        assert!(recovery.next(start + Duration::from_secs(100_000)).is_some());
        assert_eq!(recovery.count, 1);
    }

    #[test]
    fn without_recovery_a_failed_task_is_left_alone() {
        assert_eq!(recovery(0).next(Instant::now()), None);
    }
}
