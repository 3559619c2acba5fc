//! The one task that decides: told of everything, it runs the pure machines and orders what follows.
//!
//! In:    what the control topic shows, what became of orders, what workers and people say, the time.
//! Out:   [`Order`]s for the writer, answers, hints for the workers.
//! Holds: the fold of the control topic, the workers' streams, at most one transaction under way.
//! Never: waits for anything but the next message.

mod doubt;
mod duties;
mod handle;
mod homeless;
mod workers;

pub(super) use handle::{Handle, Heard, Join, Outward, Request};

use super::control::{Control, Order, Outcome, Read};
use super::orders::{self, Done};
use super::reports::Reports;
use super::view::{Since, View};
use super::{Error, Timings};
use crate::leader::{Action, Cause, Event, Leadership};
use crate::membership::Members;
use crate::placement::Scope;
use crate::state::{Changed, ClusterState, Term, Unusable};
use doubt::Doubts;
use duties::Flight;
use handle::{Change, Reply};
use homeless::Homeless;
use kafka::control::ControlEntry;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use workers::Connection;

/// Several times a second, as the machines ask.
const TICK: Duration = Duration::from_millis(200);
/// Requests that wait; more wait at their callers.
const REQUESTS_MAX: usize = 256;
/// How long a leader that is to end may take to say so.
const RESIGN_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) struct Desk {
    name: String,
    address: String,
    timings: Timings,
    control: Control,
    inbox: mpsc::Receiver<Request>,
    versions: watch::Sender<u64>,

    leadership: Leadership,
    /// The writer has the leader's producer, or is about to.
    seated: bool,
    cluster: ClusterState,
    /// What was in the control topic when this coordinator began is in `cluster`.
    present: bool,
    members: Members,
    reports: Reports,
    connections: BTreeMap<u64, Connection>,

    /// Orders of people that wait.
    waiting: VecDeque<Change>,
    flight: Option<Flight>,
    /// Orders of which the control topic will tell what became of them.
    doubts: Doubts<(Change, Done)>,
    /// Whether the leader's own duties come before the next order.
    duties_first: bool,
    /// With what scope nothing was left to plan; `None`: look again.
    planned: Option<Scope>,
    /// A worker has reported what was not looked at yet.
    reported: bool,
    unplaced: BTreeMap<String, String>,
    homeless: Homeless,
    /// What paths of specs are relative to.
    secrets_dir: PathBuf,
    since: Since,
    /// What watchers may want to see has changed.
    dirty: bool,
}

enum Wake {
    Stop,
    Tick,
    Read(Option<Read>),
    Outcome(Option<Outcome>),
    Request(Option<Request>),
}

impl Desk {
    pub(super) fn new(
        name: String,
        address: String,
        control: Control,
        timings: Timings,
        secrets_dir: PathBuf,
    ) -> (Self, mpsc::Sender<Request>, watch::Receiver<u64>) {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (versions, watching) = watch::channel(0);
        let leadership = Leadership::new(timings.leader, Instant::now(), rand::random());
        let desk = Self {
            name,
            address,
            timings,
            control,
            inbox,
            versions,
            leadership,
            seated: false,
            cluster: ClusterState::default(),
            present: false,
            members: Members::new(timings.members),
            reports: Reports::default(),
            connections: BTreeMap::new(),
            waiting: VecDeque::new(),
            flight: None,
            doubts: Doubts::default(),
            duties_first: false,
            planned: None,
            reported: false,
            unplaced: BTreeMap::new(),
            homeless: Homeless::default(),
            secrets_dir,
            since: Since::default(),
            dirty: false,
        };
        (desk, requests, watching)
    }

    /// Decides until it is stopped and leads no more.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut until = None;
        loop {
            let wake = tokio::select! {
                biased;
                () = stop.cancelled(), if until.is_none() => Wake::Stop,
                _ = tick.tick() => Wake::Tick,
                outcome = self.control.outcomes.recv() => Wake::Outcome(outcome),
                read = self.control.read.recv() => Wake::Read(read),
                request = self.inbox.recv() => Wake::Request(request),
            };
            let now = Instant::now();
            match wake {
                Wake::Stop => {
                    until = Some(now + RESIGN_TIME_MAX);
                    self.tell(Event::Resign, now);
                }
                Wake::Tick => self.tick(now),
                Wake::Read(Some(Read::Unled)) => self.tell(Event::Unled, now),
                Wake::Read(Some(Read::Entries(entries))) => self.read(entries, now),
                Wake::Read(Some(Read::Present)) => (self.present, self.dirty) = (true, true),
                Wake::Read(Some(Read::Lost(error))) => return Err(error.into()),
                Wake::Outcome(Some(outcome)) => self.learn(outcome, now)?,
                Wake::Request(Some(request)) => self.serve(request, now),
                Wake::Read(None) | Wake::Outcome(None) => return Err(Error::Silent),
                // The services hold it for as long as they run.
                Wake::Request(None) => return Ok(()),
            }
            self.advance(now);
            self.publish();
            match until {
                Some(_) if !self.seated => break,
                Some(until) if until <= now => {
                    warn!("Kafka does not answer: ending without having resigned");
                    break;
                }
                Some(_) | None => {}
            }
        }
        self.forget_workers();
        info!("coordinator ends");
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        self.tell(Event::Tick, now);
        self.give_up_doubts(now);
        self.tell_of_homeless(now);
        let changes = self.members.tick(now);
        self.heed(&changes);
        let states = self.view().states();
        self.dirty |= self.since.note(states, u64::try_from(millis_now()).unwrap_or_default());
    }

    fn tell(&mut self, event: Event, now: Instant) {
        let action = self.leadership.handle(event, now, rand::random());
        match action {
            None => {}
            Some(Action::Take) => {
                self.seated = true;
                self.lose_flight(now);
                self.order(Order::Take);
            }
            Some(Action::Lead { term, renewed }) => {
                info!(term, renewed, "this coordinator leads");
                if !renewed {
                    self.forget_workers();
                }
                // It has read its own fence, and with it all that was before.
                self.present = true;
                (self.planned, self.reported, self.dirty) = (None, true, true);
            }
            Some(Action::Beat { beat: _, resigned }) => self.order(Order::Beat { resigned }),
            Some(Action::StepDown(cause)) => {
                match cause {
                    Cause::Resigned => info!("this coordinator leads no more: {cause}"),
                    Cause::Fenced | Cause::Uncommitted => {
                        warn!("this coordinator leads no more: {cause}");
                    }
                }
                self.lose_flight(now);
                self.forget_workers();
                self.order(Order::Drop);
            }
        }
        if event == Event::Dropped {
            self.seated = false;
            self.forget_workers();
        }
    }

    fn order(&self, order: Order) {
        // That its thread is gone is seen at the other channel.
        let _ = self.control.orders.send(order);
    }

    fn learn(&mut self, outcome: Outcome, now: Instant) -> Result<(), Error> {
        match outcome {
            Outcome::Taken { term } => self.tell(Event::Taken { term }, now),
            Outcome::Dropped => self.tell(Event::Dropped, now),
            Outcome::Committed { began, offset, is_beat } => {
                if !is_beat {
                    self.land(offset);
                }
                self.tell(Event::Committed { began }, now);
            }
            Outcome::Unclean => {
                self.lose_flight(now);
                self.tell(Event::Unclean, now);
            }
            Outcome::Fenced => {
                self.lose_flight(now);
                self.tell(Event::Fenced, now);
            }
            Outcome::Lost(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn read(&mut self, entries: Vec<ControlEntry>, now: Instant) {
        for ControlEntry { offset, key, value } in entries {
            for (change, done) in self.doubts.read(&key, value.as_deref()) {
                change.answer(Ok(done));
            }
            match self.cluster.apply(offset, &key, value.as_deref()) {
                Ok(Changed::Fence(term)) => {
                    self.dirty = true;
                    self.tell(Event::Fence { term }, now);
                    // Whoever leads now may still do it; who does not says so in `advance`.
                    for (change, _) in self.doubts.fenced(term) {
                        self.waiting.push_front(change);
                    }
                    self.yield_to_leader();
                }
                Ok(Changed::Beat(term)) => {
                    let resigned = self.cluster.leader.as_ref().is_some_and(|it| it.resigned);
                    self.dirty |= resigned;
                    self.tell(Event::Beat { term, resigned }, now);
                }
                Ok(Changed::Task(name)) => {
                    if !self.cluster.tasks.contains_key(&name) {
                        self.reports.forget_task(&name);
                    }
                    (self.planned, self.dirty) = (None, true);
                }
                Ok(Changed::State(_) | Changed::Node(_)) => {
                    (self.planned, self.dirty) = (None, true);
                }
                Ok(Changed::Placement(_) | Changed::Connection(_) | Changed::Copies(_)) => {
                    self.dirty = true;
                }
                Ok(Changed::Nothing) => {}
                Err(unusable @ Unusable::Stale { .. }) => warn!(%unusable, "record not obeyed"),
                Err(unusable) => error!(%unusable, "record not obeyed"),
            }
        }
    }

    fn serve(&mut self, request: Request, now: Instant) {
        match request {
            Request::Ask(look) => look(self),
            Request::Change(change) => match self.leadership.term() {
                Some(_) if self.waiting.len() < REQUESTS_MAX => self.waiting.push_back(change),
                Some(_) => {
                    let remedy = "try again later";
                    let error = rpc::Error::new(rpc::Code::Busy, "too many orders wait", remedy);
                    change.answer(Err(error));
                }
                None => change.answer(Err(rpc::Error::not_leader(self.leader()))),
            },
            Request::Heard { node, connection, said } => self.hear(&node, connection, said, now),
        }
    }

    /// Where the leader is, if it is another one.
    fn leader(&self) -> Option<String> {
        let leader = self.cluster.leader.as_ref()?;
        (!leader.resigned && leader.node != self.name).then(|| leader.address.clone())
    }

    fn term(&self) -> Option<Term> {
        self.leadership.term()
    }

    /// Whether what is shown is true, or was a moment ago.
    fn is_present(&self) -> bool {
        self.present
    }

    /// What a spec would do to its task.
    pub(super) fn preview(&self, yaml: &str) -> Result<rpc::v1::Plan, rpc::Error> {
        super::orders::preview(&self.cluster, &self.reports, yaml)
    }

    pub(super) fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            cluster: &self.cluster,
            members: &self.members,
            reports: &self.reports,
            unplaced: &self.unplaced,
            since: &self.since,
            own: [&self.name, &self.address],
            leads: self.term().is_some(),
        }
    }

    /// Tells those who watch.
    fn publish(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.versions.send_modify(|version| *version += 1);
        }
    }
}

/// For people only: nothing is decided by it.
fn millis_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
