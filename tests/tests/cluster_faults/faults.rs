//! What is done, to whom, and what it may cost.

use crate::ground::{broker, start_broker};
use crate::storm::{Fault, Storm};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fmt;
use std::thread::sleep;
use std::time::Duration;
use tests::lan::Cable;
use tests::scene::CATCH_UP_MAX;
use tests::seed::full;
use tests::servers::{ask, ask_both};
use tests::topics;

/// Longer than every time-out of the cluster, of the broker (30 s for a transaction) and of the links.
const PAUSE: Duration = Duration::from_secs(35);
/// Longer than it takes to be replaced, also where the leader must be replaced first.
const CUT: Duration = Duration::from_secs(28);
/// Longer than it takes to be taken for dead.
const SHORT_CUT: Duration = Duration::from_secs(12);
/// Enough for those who hear of nothing else to notice.
const FULL_DISK: Duration = Duration::from_secs(5);

/// A new leader moves nothing for so long: what fails next would be measured by that.
const NEW_LEADER_WAITS: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// `kill -9`.
    Kill,
    /// SIGSTOP; SIGCONT when others have taken its place.
    Pause,
    /// All its cables are pulled.
    Cut,
    /// Only the cable to the brokers is.
    CutBrokers,
    /// No room where its spool is; it is also killed, and begins without room.
    FillDisk,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// The worker with the front.
    Reader,
    /// A worker with lanes only.
    Producer,
    Leader,
    Coordinators,
    LeaderAndReader,
    Broker,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "killed",
            Self::Pause => "paused",
            Self::Cut => "cut off",
            Self::CutBrokers => "cut off from Kafka only",
            Self::FillDisk => "killed and begun on a full disk",
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reader => "the reader's worker",
            Self::Producer => "a producer's worker",
            Self::Leader => "the leader",
            Self::Coordinators => "all coordinators",
            Self::LeaderAndReader => "the leader and the reader's worker",
            Self::Broker => "a broker",
        })
    }
}

/// The longest silence of a lane that is allowed, where one is.
fn goal(act: Act, role: Role) -> Option<Duration> {
    let seconds = match (act, role) {
        (_, Role::Broker) => return None,
        // Data does not need them.
        (_, Role::Leader | Role::Coordinators) => 1,
        (Act::Kill | Act::FillDisk, _) => 5,
        (Act::Pause | Act::Cut, _) => 8,
        (Act::CutBrokers, Role::LeaderAndReader) => 25,
        (Act::CutBrokers, _) => 13,
    };
    Some(Duration::from_secs(seconds))
}

impl Storm<'_> {
    /// Lets it happen, waits until rows come through all the same, and mends it.
    pub(crate) fn suffer(&mut self, act: Act, role: Role) {
        if role == Role::Broker {
            return self.lose_a_broker();
        }
        let victims = self.victims(role);
        let names = victims.join(", ");
        let lasts = match act {
            Act::Kill => Duration::ZERO,
            Act::Pause => PAUSE,
            Act::Cut | Act::CutBrokers if full() => CUT,
            Act::Cut | Act::CutBrokers => SHORT_CUT,
            Act::FillDisk => FULL_DISK,
        };
        let fault = Fault { name: format!("{role} {act} ({names})"), goal: goal(act, role), lasts };
        let strike = |storm: &mut Self| {
            victims.iter().for_each(|victim| storm.strike(act, victim));
            if role == Role::Leader && act == Act::Kill {
                storm.cluster.await_leader(CATCH_UP_MAX, |leader| leader != victims[0]);
            }
        };
        let mut mend = |storm: &mut Self| victims.iter().for_each(|it| storm.mend(act, it));
        self.over(&fault, strike, Some(&mut mend));
        if matches!(role, Role::Leader | Role::Coordinators | Role::LeaderAndReader) {
            sleep(NEW_LEADER_WAITS);
        }
    }

    fn victims(&self, role: Role) -> Vec<String> {
        let leader = || self.cluster.leader().expect("somebody leads");
        let status = self.cluster.status();
        let front = status.front();
        match role {
            Role::Reader => vec![front],
            Role::Producer => {
                let other = status.nodes().into_iter().find(|node| *node != front);
                vec![other.expect("a worker with lanes only")]
            }
            Role::Leader => vec![leader()],
            Role::Coordinators => self.coordinators(),
            Role::LeaderAndReader => vec![leader(), front],
            Role::Broker => Vec::new(),
        }
    }

    fn strike(&mut self, act: Act, victim: &str) {
        let lan = &self.ground.lan;
        match act {
            Act::Kill => self.cluster.kill(victim),
            Act::Pause => self.cluster.signal(victim, Signal::STOP),
            Act::Cut => lan.pull(victim, &Cable::ALL),
            Act::CutBrokers => lan.pull(victim, &[Cable::Brokers]),
            Act::FillDisk => {
                self.ground.disk.fill();
                self.cluster.kill(victim);
                self.cluster.begin(victim);
            }
        }
    }

    fn mend(&mut self, act: Act, victim: &str) {
        let lan = &self.ground.lan;
        match act {
            Act::Kill => self.cluster.begin(victim),
            Act::Pause => self.cluster.signal(victim, Signal::CONT),
            Act::Cut => lan.plug(victim, &Cable::ALL),
            Act::CutBrokers => lan.plug(victim, &[Cable::Brokers]),
            Act::FillDisk => self.ground.disk.free(),
        }
    }

    /// Any of the three, in turn.
    fn lose_a_broker(&mut self) {
        self.brokers_lost += 1;
        let victim = broker(1 + (self.brokers_lost % 3));
        let fault = Fault {
            name: format!("one of three brokers killed ({victim})"),
            goal: None,
            lasts: Duration::ZERO,
        };
        let mut start = |_: &mut Self| drop(ask("start", &victim));
        self.over(&fault, |_| drop(ask("kill", &victim)), Some(&mut start));
    }

    /// A fourth broker comes, gets what the third one has, and the third one goes. Nothing is restarted (P47).
    pub(crate) fn scale_brokers(&mut self) {
        let before = self.cluster.ids();
        let kafka = self.ground.scene.kafka.clone();
        let step = |name: &str| Fault { name: name.into(), goal: None, lasts: Duration::ZERO };
        self.over(&step("a fourth broker came"), |_| drop(start_broker(4)), None);
        let (third, fourth) = (broker(3), broker(4));
        let moved = |_: &mut Self| drop(ask_both("move", &third, &fourth));
        self.over(&step("all of the third broker's replicas moved to the fourth"), moved, None);
        let removed = |_: &mut Self| {
            drop(ask("stop", &third));
            drop(ask_both("forget", &third, &broker(1)));
        };
        self.over(&step("the third broker was removed"), removed, None);
        assert_eq!(topics::brokers(&kafka), BTreeSet::from([1, 2, 4]));
        assert_eq!(self.cluster.ids(), before, "nobody was restarted");
    }
}
