//! A worker: it obeys the control topic, opens and closes lanes, and beats.

use super::Bug;
use super::coordinator::{Said, Told};
use super::kafka::{Control, LaneKey, Lanes, Outcome};
use super::process::{Condition, Reader};
use super::world::Network;
use node::front::{self, Step, Wanted};
use node::membership::Unknown;
use node::state::Placement;
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What fences a front, beside the lanes of its task: the meta lane.
pub(crate) const META: usize = usize::MAX;

/// A front that runs, or is about to.
#[derive(Debug)]
pub(crate) struct Front {
    wanted: Wanted,
    moving: Option<Instant>,
    pub(crate) hold: Hold,
}

/// A new owner waits so long at most for the one before to give a lane back.
const FORCED_MS: u64 = 5_000;

#[derive(Debug)]
pub(crate) enum Hold {
    /// The owner before may still give it back.
    Waiting {
        until: Instant,
    },
    Open {
        term: i64,
        position: u64,
    },
    /// Fenced, or in doubt. Whether it is still ours stands in the control topic, up to there.
    Lost {
        read_to: i64,
    },
}

pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) condition: Condition,
    pub(crate) reader: Reader,
    pub(crate) holds: BTreeMap<LaneKey, Hold>,
    /// By task.
    pub(crate) fronts: BTreeMap<String, Front>,
    pub(crate) inbox: Vec<Told>,
    /// It was asked to end, and gives back what it has.
    pub(crate) leaving: bool,
    pub(crate) exited: bool,
    /// The coordinator that it has registered with, and the number of the connection.
    pub(crate) connection: Option<(String, u64)>,
    beaten: Instant,
    bug: Option<Bug>,
}

impl Worker {
    pub(crate) fn new(name: String, now: Instant, bug: Option<Bug>) -> Self {
        Self {
            name,
            condition: Condition::default(),
            reader: Reader::new(bug),
            holds: BTreeMap::new(),
            fronts: BTreeMap::new(),
            inbox: Vec::new(),
            leaving: false,
            exited: false,
            connection: None,
            beaten: now,
            bug,
        }
    }

    pub(crate) fn turn(
        &mut self,
        now: Instant,
        control: &Control,
        lanes: &mut Lanes,
        network: &mut Network,
        rng: &mut SmallRng,
    ) -> Result<(), String> {
        let cut = self.condition.cut.is_some();
        if !cut {
            let records_max = self.listen(network.records_max(rng))?;
            self.reader.read(control, records_max)?;
        }
        if self.exited {
            return Ok(());
        }
        self.reconcile(now, rng);
        self.reconcile_fronts(now, lanes, network, rng);
        self.work(now, control, lanes, network, rng);
        if !cut {
            self.speak(now, network, rng);
        }
        Ok(())
    }

    fn listen(&mut self, mut records_max: usize) -> Result<usize, String> {
        for told in std::mem::take(&mut self.inbox) {
            match told {
                Told::Unknown(unknown, connection) => {
                    if self.connection.as_ref().is_some_and(|it| it.1 == connection) {
                        self.connection = None;
                        self.exited |= unknown == Unknown::Replaced;
                    }
                }
                Told::Written { term, placements } if self.bug == Some(Bug::CallsObeyed) => {
                    if Some(term) < self.reader.cluster.term() {
                        let highest = self.reader.cluster.term();
                        return Err(format!("I8: a call of {term} obeyed in {highest:?}"));
                    }
                    self.reader.cluster.placements.extend(placements);
                }
                Told::Written { .. } => records_max = usize::MAX,
            }
        }
        Ok(records_max)
    }

    /// Lets go of what is placed elsewhere, and begins with what is new.
    fn reconcile(&mut self, now: Instant, rng: &mut SmallRng) {
        let cluster = &self.reader.cluster;
        let mut own = BTreeSet::new();
        for (task, placement) in &cluster.placements {
            let lanes = placement.lanes.iter().enumerate();
            let lanes = lanes.filter(|(_, owner)| owner.as_ref() == Some(&self.name));
            own.extend(lanes.map(|(lane, _)| (task.clone(), lane)));
        }
        self.holds.retain(|lane, _| own.contains(lane));
        for lane in own {
            let wait = Duration::from_millis(rng.random_range(0..FORCED_MS));
            self.holds.entry(lane).or_insert(Hold::Waiting { until: now + wait });
        }
    }

    /// The real decision; what is asked for comes through, or is lost.
    fn reconcile_fronts(
        &mut self,
        now: Instant,
        lanes: &mut Lanes,
        network: &Network,
        rng: &mut SmallRng,
    ) {
        let (cluster, name) = (&self.reader.cluster, &self.name);
        let cut = self.condition.cut.is_some();
        let bug = self.bug == Some(Bug::MovedForGood);
        self.fronts.retain(|task, front| {
            match front::step(cluster, name, task, &front.wanted, front.moving, now) {
                Step::GoOn { .. } => {
                    front.moving = None;
                    true
                }
                // Not every change comes into force in place.
                Step::Modify { wanted, .. } => {
                    (front.wanted, front.moving) = (wanted, None);
                    rng.random()
                }
                Step::HandOver { since } => {
                    front.moving = Some(since);
                    let asked = !cut && lanes.asked.remove(&(task.clone(), name.clone()));
                    lanes.handed_over += usize::from(asked);
                    !asked
                }
                Step::Stop => bug,
            }
        });
        for (task, placement) in &cluster.placements {
            let Some((wanted, _)) = front::wanted(cluster, name, task) else { continue };
            if self.fronts.contains_key(task) {
                continue;
            }
            let mut until = now;
            if let Some(from) = front::former(placement) {
                until = now + front::HAND_OVER_MAX;
                if !cut && !network.fails(rng) {
                    lanes.asked.insert((task.clone(), from.to_owned()));
                }
            }
            let hold = Hold::Waiting { until };
            self.fronts.insert(task.clone(), Front { wanted, moving: None, hold });
        }
    }

    fn work(
        &mut self,
        now: Instant,
        control: &Control,
        lanes: &mut Lanes,
        network: &Network,
        rng: &mut SmallRng,
    ) {
        let cut = self.condition.cut.is_some();
        let read = self.reader.cluster.next_offset();
        let placements = &self.reader.cluster.placements;
        for (task, front) in &mut self.fronts {
            let from = placements.get(task).and_then(front::former);
            let key = |from: &str| (task.clone(), from.to_owned());
            // It has answered: it is waited for no more.
            if let (Hold::Waiting { until }, Some(from)) = (&mut front.hold, from)
                && !cut
                && !lanes.asked.contains(&key(from))
                && rng.random()
            {
                *until = now;
            }
        }
        let fronts = self.fronts.iter_mut();
        let fronts = fronts.map(|(task, front)| ((task.clone(), META), &mut front.hold));
        let holds = self.holds.iter_mut().map(|(lane, hold)| (lane.clone(), hold));
        for (lane, hold) in holds.chain(fronts) {
            let lane = &lane;
            let fails = cut || network.fails(rng);
            let in_doubt = || Hold::Lost { read_to: control.end() };
            match hold {
                Hold::Waiting { until } if now < *until => {}
                Hold::Lost { read_to } if read < *read_to => {}
                Hold::Lost { .. } if self.bug == Some(Bug::LostForGood) => {}
                Hold::Waiting { .. } | Hold::Lost { .. } => {
                    if !cut {
                        let (term, position) = lanes.open(lane);
                        // The answer can be lost.
                        *hold = if fails { in_doubt() } else { Hold::Open { term, position } };
                    }
                }
                Hold::Open { term, position } => {
                    if fails && (cut || rng.random()) {
                        *hold = in_doubt();
                        continue;
                    }
                    match lanes.commit(lane, *term, *position, self.bug) {
                        Outcome::Committed if fails => *hold = in_doubt(),
                        Outcome::Committed => *position += 1,
                        Outcome::Fenced => *hold = in_doubt(),
                    }
                }
            }
        }
    }

    /// Registers with the leader that the control topic names, and beats.
    fn speak(&mut self, now: Instant, network: &mut Network, rng: &mut SmallRng) {
        let Some(leader) = &self.reader.cluster.leader else {
            return;
        };
        if self.connection.as_ref().is_none_or(|(node, _)| *node != leader.node) {
            self.connection = Some((leader.node.clone(), network.connect()));
            self.beaten = now;
            self.say(Said::Register, now, network, rng);
            return;
        }
        if self.leaving && self.is_empty() {
            self.say(Said::Closed, now, network, rng);
            self.exited = true;
        } else if Duration::from_secs(1) <= now - self.beaten {
            self.beaten = now;
            let said = if self.leaving { Said::Leave } else { Said::Beat };
            self.say(said, now, network, rng);
        }
    }

    pub(crate) fn say(&self, said: Said, now: Instant, network: &mut Network, rng: &mut SmallRng) {
        if let Some((leader, connection)) = &self.connection {
            network.say(leader, &self.name, said, *connection, now, rng);
        }
    }

    /// Whether it has no part in any task.
    fn is_empty(&self) -> bool {
        let placements = self.reader.cluster.placements.values();
        let is_empty = self.holds.is_empty() && self.fronts.is_empty();
        is_empty && !placements.flat_map(Placement::nodes).any(|it| it == self.name)
    }
}
