//! The lanes of a task: who owns each now, and how a lost owner is replaced alone.

use crate::batch::{Durable, LaneBatch, LaneOpened, LaneStopped};
use crate::guardian::{Guardian, News};
use crate::hosts::{Host, Hosts, OpenLane};
use crate::planner::Pins;
use crate::producer::{Attach, Producer, Seal, StartLane, Stop};
use crate::progress::{LaneState, Progress, Trouble};
use actix::{Actor, Addr, Recipient};
use kafka::names::Names;
use kafka::settings::Settings;
use record::plan::TaskPlan;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use supervision::{FailureLog, Lifeline, RestartPolicy, Stage, StageFailed, Verdict};
use telemetry::traces::Span;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};
use wal::{Lsn, Position};

/// How long a lane that moves may take to commit what it holds; then the next owner fences it.
const MOVE_MAX: Duration = Duration::from_secs(5);

/// How long a lane that opens its producer anew may take to commit what it holds: more than a full queue takes.
const RENEW_MAX: Duration = Duration::from_secs(20);

/// What every lane of a task is made of.
pub struct Factory {
    pub kafka: Settings,
    pub names: Names,
    pub plan: TaskPlan,
    pub pins: Pins,
    /// In force; its lanes are those that routing rests on, more may be open.
    pub spec: Arc<config::Task>,
    pub hosts: Rc<dyn Hosts>,
    pub revision: u64,
    /// Where the revision begins.
    pub floor: Position,
    /// Of the source, where records tell it.
    pub server_version: u32,
    /// A person has decided to begin again: what the lanes hold does not count.
    pub anew: bool,
    pub progress: Arc<Progress>,
    pub guardian: Addr<Guardian>,
    pub news: UnboundedSender<News>,
    pub policy: RestartPolicy,
    /// Of this owner of the task: its meta lane's.
    pub term: i64,
}

/// Bits of a life's number that count the lives which one process begins.
const LIVES_BITS: u32 = 24;

/// A number that is higher than that of every earlier life of a lane, also under another owner of the task, whose term
/// was lower: a node that writes lanes refuses what comes late.
fn next_life(term: i64) -> u64 {
    static LIVES: AtomicU64 = AtomicU64::new(1);
    let begun = LIVES.fetch_add(1, Ordering::Relaxed);
    (u64::try_from(term).unwrap_or_default() << LIVES_BITS).saturating_add(begun)
}

impl Factory {
    /// Something that is done with a lane.
    fn span(&self, name: &'static str, lane: u8) -> Span {
        self.progress.trace.span(name, &self.spec.task).with("lane", i64::from(lane))
    }
}

/// All lanes of a task. Lives as long as the task; fronts come and go.
pub struct Lanes {
    factory: Factory,
    lanes: Vec<Lane>,
    /// Threads that have not ended yet.
    running: Arc<AtomicUsize>,
    /// Which settings of producers are the newest; they only grow.
    settings: u64,
}

struct Lane {
    life: u64,
    host: Host,
    /// Told to end, to begin elsewhere.
    moving: bool,
    /// The settings that its producer was opened with.
    settings: u64,
    /// Told to open its producer anew, and not open again yet.
    renewing: bool,
    /// Until the lane was once open: what it has written since does count.
    anew: bool,
    producer: Option<Addr<Producer>>,
    opened: Option<Position>,
    failures: FailureLog,
    /// While it is opened.
    opening: Span,
    /// While it goes elsewhere, or opens its producer anew.
    changing: Span,
}

/// Counts a thread for as long as it runs.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lanes {
    /// Starts the owners of `count` lanes; each reports [`News::Opened`] or [`News::Failed`].
    #[must_use]
    pub fn start(factory: Factory, count: u8) -> Self {
        let anew = factory.anew;
        let lane = |_| Lane {
            life: 0,
            host: Host::Nowhere,
            moving: false,
            settings: 0,
            renewing: false,
            anew,
            producer: None,
            opened: None,
            failures: FailureLog::default(),
            opening: Span::default(),
            changing: Span::default(),
        };
        let lanes = (0..count).map(lane).collect();
        let mut lanes = Self { factory, lanes, running: Arc::default(), settings: 0 };
        (0..count).for_each(|lane| lanes.start_one(lane));
        lanes
    }

    fn start_one(&mut self, number: u8) {
        let host = self.factory.hosts.of(number);
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return };
        lane.life = next_life(self.factory.term);
        lane.opened = None;
        lane.producer = None;
        lane.moving = false;
        lane.settings = self.settings;
        lane.host = host;
        lane.opening = self.factory.span("lane.open", number).with("host", lane.host.to_string());
        let (life, anew, host) = (lane.life, lane.anew, lane.host.clone());
        let state = if host == Host::Nowhere { LaneState::Waiting } else { LaneState::Opening };
        self.factory.progress.lane(number, &host, state, None);
        let Some(start) = self.starter(number, life, anew, &host) else {
            warn!(lane = number, "no node can take the lane; it waits for one");
            return;
        };
        let guardian = &self.factory.guardian;
        let stage = Stage::Producer(number);
        let lifeline = Lifeline::new(guardian.clone().recipient(), life, stage);
        let owner = Producer::new(number, life, start, guardian.clone(), lifeline);
        self.lanes[usize::from(number)].producer = Some(owner.start());
    }

    /// How the lane begins its next life; `None`: no node can take it.
    fn starter(&self, number: u8, life: u64, anew: bool, host: &Host) -> Option<StartLane> {
        let factory = &self.factory;
        let open = OpenLane {
            spec: Arc::clone(&factory.spec),
            lane: number,
            life,
            revision: factory.revision,
            floor: factory.floor,
            server_version: factory.server_version,
            anew,
            routed: factory.spec.lanes.0,
            pins: factory.pins.clone(),
            traceparent: self.lanes[usize::from(number)].opening.traceparent(),
        };
        let progress = Arc::clone(&factory.progress);
        match host {
            Host::Here => {
                let (kafka, names) = (factory.kafka.clone(), factory.names.clone());
                let thread = open.thread(kafka, names, &factory.plan, progress);
                self.running.fetch_add(1, Ordering::AcqRel);
                let running = Running(Arc::clone(&self.running));
                Some(Box::new(move |report| thread.spawn(report, running)))
            }
            Host::Node(node) => Some(factory.hosts.start(node, open, progress)),
            Host::Nowhere => None,
        }
    }

    /// Begins a new life of a lane at once. What its present owner has queued is not waited for: it is
    /// committed before the new one has fenced it, or never.
    pub fn reopen(&mut self, number: u8) {
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return };
        if let Some(producer) = lane.producer.take() {
            // Without it the thread would wait for more.
            producer.do_send(Stop);
        }
        self.start_one(number);
    }

    /// Lets lanes that shall run elsewhere commit what they hold and end; they begin there then. The
    /// others are not touched.
    pub fn relocate(&mut self) {
        for number in 0..self.count() {
            let host = self.factory.hosts.of(number);
            let lane = &mut self.lanes[usize::from(number)];
            if lane.host == host || lane.moving {
                continue;
            }
            info!(lane = number, from = %lane.host, to = %host, "lane moves");
            // One that is not open has nothing to commit; its node may be why it is not. Here it may be about to open its
            // producer, which would fence the next owner. The dead say nothing, and a link to them may break only later.
            let waits = match &lane.host {
                Host::Here => lane.producer.is_some(),
                Host::Node(node) => lane.opened.is_some() && !self.factory.hosts.is_gone(node),
                Host::Nowhere => false,
            };
            let span = self.factory.span("lane.move", number);
            lane.changing = span.with("from", lane.host.to_string()).with("to", host.to_string());
            self.begin_again(number, if waits { MOVE_MAX } else { Duration::ZERO });
        }
    }

    /// Lets a lane commit what it holds and end; its next life begins then, or after `patience`, and fences it.
    fn begin_again(&mut self, number: u8, patience: Duration) {
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return };
        lane.moving = true;
        self.factory.progress.lane(number, &lane.host, LaneState::Draining, None);
        if let Some(producer) = &lane.producer {
            producer.do_send(Stop);
        }
        let life = lane.life;
        self.due_after(patience, number, life);
    }

    /// Producers are opened with other settings from now on (`config::Means::Lanes`). The lanes that are open open theirs
    /// anew, one after the other, so that all others go on.
    pub fn renew(&mut self, kafka: Settings, spec: &config::Task) {
        self.factory.kafka = kafka;
        self.factory.spec = Arc::new(self.factory.spec.producing_as(spec));
        self.settings += 1;
        self.renew_next();
    }

    /// Whether every producer was opened with the newest settings.
    #[must_use]
    pub fn are_renewed(&self) -> bool {
        self.lanes.iter().all(|it| it.settings == self.settings && !it.renewing)
    }

    /// The lanes end anyway: none opens its producer anew for that.
    pub fn keep_producers(&mut self) {
        let newest = self.settings;
        self.lanes.iter_mut().for_each(|it| it.settings = newest);
    }

    fn renew_next(&mut self) {
        if self.lanes.iter().any(|it| it.renewing) {
            return;
        }
        let is_due = |it: &Lane| it.settings != self.settings && it.opened.is_some() && !it.moving;
        let due = (0..).zip(&mut self.lanes).find(|(_, it)| is_due(it));
        let Some((number, lane)) = due else { return };
        lane.renewing = true;
        info!(lane = number, "lane opens its producer anew");
        lane.changing = self.factory.span("lane.renew", number);
        self.begin_again(number, RENEW_MAX);
    }

    /// A lane has ended as it was told to: one that moves can begin at its next place.
    pub fn stopped(&mut self, stopped: &LaneStopped) {
        let LaneStopped { lane: number, life } = *stopped;
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return };
        if lane.life == life && lane.moving {
            lane.producer = None;
            lane.opened = None;
            self.due_after(Duration::ZERO, number, life);
        }
    }

    /// Whether the report is of the present owner of its lane. Notes where the lane stands.
    pub fn opened(&mut self, opened: &LaneOpened) -> bool {
        match self.lanes.get_mut(usize::from(opened.lane)) {
            Some(lane) if lane.life == opened.life => {
                lane.opened = Some(opened.position);
                (lane.opening, lane.changing) = (Span::default(), Span::default());
                lane.anew = false;
                let position = Some(opened.position);
                let progress = &self.factory.progress;
                progress.lane(opened.lane, &lane.host, LaneState::Running, position);
                lane.renewing = false;
                self.renew_next();
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether every lane has an owner that is open.
    #[must_use]
    pub fn are_open(&self) -> bool {
        self.lanes.iter().all(|lane| lane.opened.is_some())
    }

    /// Where each lane stood when its present owner opened it.
    #[must_use]
    pub fn positions(&self) -> Vec<Position> {
        self.lanes.iter().map(|lane| lane.opened.unwrap_or(Position::ZERO)).collect()
    }

    /// The owners that are open now.
    #[must_use]
    pub fn producers(&self) -> Vec<Option<Recipient<LaneBatch>>> {
        let open = |lane: &Lane| {
            let producer = lane.producer.as_ref().filter(|_| lane.opened.is_some())?;
            Some(producer.clone().recipient())
        };
        self.lanes.iter().map(open).collect()
    }

    /// Other windows hold, also for lanes that are tried again now.
    pub fn follow(&mut self, policy: RestartPolicy) {
        self.factory.policy = policy;
    }

    /// Lets one lane, or all, report to a front.
    pub fn attach(&self, only: Option<u8>, listeners: &[Recipient<Durable>]) {
        for (number, lane) in (0..).zip(&self.lanes) {
            if only.is_none_or(|only| only == number)
                && let Some(producer) = &lane.producer
            {
                producer.do_send(Attach { listeners: listeners.to_vec() });
            }
        }
    }

    /// The owner of `lane`, to hand it to the router.
    #[must_use]
    pub fn producer(&self, lane: u8) -> Option<Recipient<LaneBatch>> {
        Some(self.lanes.get(usize::from(lane))?.producer.clone()?.recipient())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        u8::try_from(self.lanes.len()).unwrap_or(u8::MAX)
    }

    /// Lets a lane say durably that its revision ended, and end. [`News::Sealed`] follows, or a failure.
    pub fn seal(&self, lane: u8, end: Lsn) {
        if let Some(producer) =
            self.lanes.get(usize::from(lane)).and_then(|it| it.producer.as_ref())
        {
            producer.do_send(Seal(end));
        }
    }

    /// Whether a lane has this life now.
    #[must_use]
    pub fn is_present(&self, lane: u8, life: u64) -> bool {
        self.lanes.get(usize::from(lane)).is_some_and(|it| it.life == life)
    }

    /// A lane's owner was lost: decides, and lets [`News::LaneDue`] come after the delay.
    /// Late news of an earlier owner is not counted.
    pub fn failed(&mut self, lane_number: u8, failed: &StageFailed) -> Option<Verdict> {
        let policy = self.factory.policy;
        let lane = self.lanes.get_mut(usize::from(lane_number))?;
        if lane.life != failed.generation {
            return None;
        }
        self.factory.progress.failed(failed.class);
        lane.producer = None;
        lane.opened = None;
        lane.opening.fail(failed.cause.clone());
        lane.opening = Span::default();
        self.factory.progress.lane(lane_number, &lane.host, LaneState::Retrying, None);
        let verdict = lane.failures.record(failed.class, Instant::now(), rand::random(), &policy);
        if let Verdict::RestartAfter(delay) = verdict {
            let life = lane.life;
            let retry = lane.failures.count();
            let since = lane.failures.since().unwrap_or_else(Instant::now);
            let until = since + policy.window(failed.class);
            let cause = format!("lane {lane_number} cannot be opened: {}", failed.cause);
            let trouble = Trouble { cause, retries: retry, since, until };
            self.factory.progress.lane_troubled(lane_number, trouble);
            info!(
                lane = lane_number,
                retry,
                delay_ms = delay.as_millis(),
                "lane will be opened again"
            );
            self.due_after(delay, lane_number, life);
        }
        Some(verdict)
    }

    /// Since when a lane has failed again and again.
    pub fn failing_since(&self, lane: u8) -> Option<Instant> {
        self.lanes.get(usize::from(lane))?.failures.since()
    }

    fn due_after(&self, delay: Duration, lane: u8, life: u64) {
        let news = self.factory.news.clone();
        actix_rt::spawn(async move {
            tokio::time::sleep(delay).await;
            // The task may have ended meanwhile.
            let _ = news.send(News::LaneDue { lane, life });
        });
    }

    /// The delay after a failure has passed.
    pub fn due(&mut self, lane: u8, life: u64) {
        if self.is_present(lane, life) {
            self.start_one(lane);
        }
    }

    /// What was routed has become durable: past failures do not count any more.
    pub fn progressed(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.failures.progressed());
    }

    /// Lets every lane commit what it holds and end; waits for the threads up to `patience`.
    pub async fn stop(&mut self, patience: Duration) {
        for producer in self.lanes.iter_mut().filter_map(|lane| lane.producer.take()) {
            producer.do_send(Stop);
        }
        let until = tokio::time::Instant::now() + patience;
        while self.running.load(Ordering::Acquire) != 0 && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_life_of_a_lane_is_above_the_ones_before() {
        let lives = [3, 3, 7, 7, 1 << 39].map(next_life);
        assert!(lives.is_sorted_by(|a, b| a < b), "{lives:?}");
    }
}
