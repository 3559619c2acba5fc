//! The workers as the leader sees them. Pure: the caller says what time it is.
//!
//! In:    what workers say over their connections, and the time.
//! Out:   [`Change`]: what the leader must look at, and what is worth a line in the log.
//! Holds: the last sign of life of each worker, and the connection that speaks for it.
//! Never: decides who may write. A worker taken for dead may live; its lanes' new owners fence it.
//!
//! A name belongs to the newest connection that registered it: a worker that was restarted must not
//! wait for its former self to be found dead.

use crate::placement::{Labels, Standing, Worker};
use crate::state::Node;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The times of delivery-protocol.md, section 10.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    pub suspect: Duration,
    pub dead: Duration,
    /// After its connection has ended a worker has so long to register again: killed processes are
    /// known by it long before their beats are missed.
    pub reconnect: Duration,
    /// Without a tick for so long, the leader itself was paused: what workers said meanwhile is not
    /// yet read, and their silence means nothing.
    pub pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            suspect: Duration::from_secs(3),
            dead: Duration::from_secs(6),
            reconnect: Duration::from_secs(1),
            pause: Duration::from_secs(2),
        }
    }
}

/// Dead and departed workers that are remembered for `cluster status`.
pub const GONE_MAX: usize = 64;

/// What a worker says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    pub address: String,
    pub labels: Labels,
    /// Version of its program.
    pub ver: String,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Health {
    Live,
    /// Silent for a short while, or its connection ended.
    Suspect,
    /// It leaves, and waits until what it has runs elsewhere.
    Leaving,
    /// It has left.
    Left,
    Dead,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    pub registration: Registration,
    pub health: Health,
    /// Number of the connection that speaks for it.
    pub connection: u64,
    /// Last sign of life.
    pub heard: Instant,
    /// When its connection ended.
    closed: Option<Instant>,
}

/// What has become of a worker.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Change {
    #[error("worker `{node}` has joined")]
    Joined { node: String },
    /// The older connection must be closed.
    #[error(
        "worker `{node}` has registered again from {address} while {former} still spoke for it; the \
         newer one counts. If both run, give one another name"
    )]
    Replaced { node: String, connection: u64, former: String, address: String },
    #[error("worker `{node}` is here again")]
    Recovered { node: String },
    #[error("worker `{node}` is silent")]
    Suspected { node: String },
    #[error("worker `{node}` is taken for dead")]
    Died { node: String },
    #[error("worker `{node}` is about to leave")]
    Leaving { node: String },
    #[error("worker `{node}` has left")]
    Left { node: String },
}

/// What came over a connection that does not speak for the worker: it must register (again), or, if
/// another one has taken its name, end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unknown {
    #[error("this worker is not registered here: register first")]
    Unregistered,
    #[error("another worker has registered under this name since")]
    Replaced,
}

#[derive(Clone, Debug)]
pub struct Members {
    timing: Timing,
    members: BTreeMap<String, Member>,
    ticked: Option<Instant>,
}

impl Members {
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self { timing, members: BTreeMap::new(), ticked: None }
    }

    /// A worker registers over a new connection; connections are numbered in the order of their coming.
    ///
    /// # Errors
    /// A newer connection has registered under this name.
    pub fn register(
        &mut self,
        node: &str,
        registration: Registration,
        connection: u64,
        now: Instant,
    ) -> Result<Vec<Change>, Unknown> {
        let address = registration.address.clone();
        let member =
            Member { registration, health: Health::Live, connection, heard: now, closed: None };
        let name = || node.to_owned();
        let Some(former) = self.members.get(node) else {
            self.members.insert(name(), member);
            return Ok(vec![Change::Joined { node: name() }]);
        };
        if connection < former.connection {
            return Err(Unknown::Replaced);
        }
        let change = match former.health {
            Health::Left | Health::Dead => Change::Joined { node: name() },
            Health::Live | Health::Suspect | Health::Leaving
                if former.closed.is_none() && former.connection != connection =>
            {
                let (connection, former) = (former.connection, former.registration.address.clone());
                Change::Replaced { node: name(), connection, former, address }
            }
            Health::Live | Health::Suspect | Health::Leaving => Change::Recovered { node: name() },
        };
        self.members.insert(name(), member);
        Ok(vec![change])
    }

    /// A sign of life.
    ///
    /// # Errors
    /// This connection does not speak for the worker.
    pub fn beat(
        &mut self,
        node: &str,
        connection: u64,
        now: Instant,
    ) -> Result<Vec<Change>, Unknown> {
        let member = self.speaking(node, connection)?;
        member.heard = now;
        if member.health == Health::Suspect {
            member.health = Health::Live;
            return Ok(vec![Change::Recovered { node: node.into() }]);
        }
        Ok(Vec::new())
    }

    /// The worker is about to end and gives back what it has.
    ///
    /// # Errors
    /// This connection does not speak for the worker.
    pub fn leave(
        &mut self,
        node: &str,
        connection: u64,
        now: Instant,
    ) -> Result<Vec<Change>, Unknown> {
        let member = self.speaking(node, connection)?;
        member.heard = now;
        if member.health == Health::Leaving {
            return Ok(Vec::new());
        }
        member.health = Health::Leaving;
        Ok(vec![Change::Leaving { node: node.into() }])
    }

    /// A connection has ended, for whatever reason.
    pub fn closed(&mut self, node: &str, connection: u64, now: Instant) -> Vec<Change> {
        let Ok(member) = self.speaking(node, connection) else {
            return Vec::new();
        };
        member.closed = Some(now);
        let node = String::from(node);
        match member.health {
            Health::Leaving => {
                member.health = Health::Left;
                self.forget();
                vec![Change::Left { node }]
            }
            Health::Live => {
                member.health = Health::Suspect;
                vec![Change::Suspected { node }]
            }
            Health::Suspect | Health::Left | Health::Dead => Vec::new(),
        }
    }

    /// Time passes. To be told several times a second.
    pub fn tick(&mut self, now: Instant) -> Vec<Change> {
        let Timing { suspect, dead, reconnect, pause } = self.timing;
        let gap = self.ticked.replace(now).map(|it| now.saturating_duration_since(it));
        let missed = gap.filter(|it| pause < *it).unwrap_or_default();
        let mut changes = Vec::new();
        for (node, member) in &mut self.members {
            member.heard += missed;
            member.closed = member.closed.map(|it| it + missed);
            let silent = now.saturating_duration_since(member.heard);
            let closed = member.closed.map(|it| now.saturating_duration_since(it));
            match member.health {
                Health::Left | Health::Dead => {}
                Health::Live | Health::Suspect | Health::Leaving
                    if dead <= silent || closed.is_some_and(|it| reconnect <= it) =>
                {
                    member.health = Health::Dead;
                    changes.push(Change::Died { node: node.clone() });
                }
                Health::Live if suspect <= silent => {
                    member.health = Health::Suspect;
                    changes.push(Change::Suspected { node: node.clone() });
                }
                Health::Live | Health::Suspect | Health::Leaving => {}
            }
        }
        if !changes.is_empty() {
            self.forget();
        }
        changes
    }

    /// Everyone known, the dead and departed included.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(node, member)| (node.as_str(), member))
    }

    #[must_use]
    pub fn get(&self, node: &str) -> Option<&Member> {
        self.members.get(node)
    }

    /// Who may be placed on. `nodes` is what persons have said about them.
    #[must_use]
    pub fn workers(&self, nodes: &BTreeMap<String, Node>) -> BTreeMap<String, Worker> {
        let living = self.members.iter().filter_map(|(node, member)| {
            let Node { cordoned, draining } = nodes.get(node).copied().unwrap_or_default();
            let standing = match member.health {
                Health::Left | Health::Dead => return None,
                Health::Leaving => Standing::Leaving,
                Health::Live | Health::Suspect if draining => Standing::Leaving,
                Health::Suspect => Standing::Holding,
                Health::Live if cordoned => Standing::Holding,
                Health::Live => Standing::Ready,
            };
            let Registration { address, labels, ver: _ } = member.registration.clone();
            Some((node.clone(), Worker { address, labels, standing }))
        });
        living.collect()
    }

    fn speaking(&mut self, node: &str, connection: u64) -> Result<&mut Member, Unknown> {
        let member = self.members.get_mut(node).ok_or(Unknown::Unregistered)?;
        // A newer one has said something before its registration came, or that one was lost.
        match connection.cmp(&member.connection) {
            Ordering::Less => return Err(Unknown::Replaced),
            Ordering::Greater => return Err(Unknown::Unregistered),
            Ordering::Equal => {}
        }
        match member.health {
            Health::Left | Health::Dead => Err(Unknown::Unregistered),
            Health::Live | Health::Suspect | Health::Leaving => Ok(member),
        }
    }

    /// Forgets those that are gone for longest, beyond the limit.
    fn forget(&mut self) {
        let is_gone = |it: &Member| matches!(it.health, Health::Left | Health::Dead);
        let gone = self.members.iter().filter(|(_, it)| is_gone(it));
        let mut gone: Vec<_> = gone.map(|(node, it)| (it.heard, node.clone())).collect();
        gone.sort_unstable();
        for (_, node) in gone.iter().take(gone.len().saturating_sub(GONE_MAX)) {
            self.members.remove(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Bench {
        members: Members,
        start: Instant,
    }

    impl Bench {
        /// Worker `w1` over connection 1, at 0 s.
        fn joined() -> Self {
            let mut bench =
                Self { members: Members::new(Timing::default()), start: Instant::now() };
            assert_eq!(bench.register(1, 0.0), Ok(vec![Change::Joined { node: w1() }]));
            bench
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn register(&mut self, connection: u64, seconds: f64) -> Result<Vec<Change>, Unknown> {
            let at = self.at(seconds);
            let address = format!("host{connection}:7420");
            let registration = Registration { address, labels: Labels::new(), ver: "0".into() };
            self.members.register("w1", registration, connection, at)
        }

        fn beat(&mut self, connection: u64, seconds: f64) -> Result<Vec<Change>, Unknown> {
            let at = self.at(seconds);
            self.members.beat("w1", connection, at)
        }

        /// What four ticks a second report, up to then.
        fn tick(&mut self, seconds: f64) -> Vec<Change> {
            let ticked = self.members.ticked.unwrap_or(self.start);
            let end = self.at(seconds);
            let steps = (end - ticked).as_millis() / 250;
            let quarter = |step| ticked + Duration::from_millis(250) * step;
            let times = (1..=u32::try_from(steps).expect("few")).map(quarter).chain([end]);
            times.flat_map(|at| self.members.tick(at)).collect()
        }

        fn standing(&self, node: Node) -> Option<Standing> {
            let nodes = BTreeMap::from([(w1(), node)]);
            self.members.workers(&nodes).get("w1").map(|it| it.standing)
        }
    }

    fn w1() -> String {
        "w1".into()
    }

    #[test]
    fn silence_is_suspect_and_then_deadly() {
        let mut bench = Bench::joined();
        assert_eq!(bench.beat(1, 1.0), Ok(vec![]));
        assert_eq!(bench.tick(3.9), []);
        assert_eq!(bench.tick(4.0), [Change::Suspected { node: w1() }]);
        assert_eq!(bench.standing(Node::default()), Some(Standing::Holding));
        assert_eq!(bench.tick(6.9), []);
        assert_eq!(bench.tick(7.0), [Change::Died { node: w1() }]);
        assert_eq!(bench.standing(Node::default()), None);
        assert_eq!(bench.beat(1, 7.5), Err(Unknown::Unregistered));
    }

    #[test]
    fn a_leader_that_was_paused_takes_nobody_for_dead() {
        let mut bench = Bench::joined();
        bench.tick(1.0);
        let at = bench.at(60.0);
        assert_eq!(bench.members.tick(at), []);
        assert_eq!(bench.tick(63.0), [Change::Suspected { node: w1() }]);
        assert_eq!(bench.tick(66.0), [Change::Died { node: w1() }]);
    }

    #[test]
    fn a_beat_in_time_recovers() {
        let mut bench = Bench::joined();
        bench.tick(4.0);
        assert_eq!(bench.beat(1, 5.0), Ok(vec![Change::Recovered { node: w1() }]));
        assert_eq!(bench.tick(7.0), []);
        assert_eq!(bench.standing(Node::default()), Some(Standing::Ready));
    }

    #[test]
    fn an_ended_connection_is_deadly_within_a_second_unless_there_is_another() {
        let mut bench = Bench::joined();
        let at = bench.at(0.5);
        assert_eq!(bench.members.closed("w1", 1, at), [Change::Suspected { node: w1() }]);
        assert_eq!(bench.tick(1.4), []);
        assert_eq!(bench.tick(1.5), [Change::Died { node: w1() }]);

        let mut bench = Bench::joined();
        bench.members.closed("w1", 1, at);
        assert_eq!(bench.register(2, 1.0), Ok(vec![Change::Recovered { node: w1() }]));
        assert_eq!(bench.tick(2.0), []);
    }

    #[test]
    fn a_name_belongs_to_the_newer_connection() {
        let mut bench = Bench::joined();
        let changes = bench.register(2, 1.0).expect("it is newer");
        let [Change::Replaced { connection: 1, former, address, .. }] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!((former.as_str(), address.as_str()), ("host1:7420", "host2:7420"));
        assert!(changes[0].to_string().contains("`w1`"));
        assert_eq!(bench.beat(1, 1.5), Err(Unknown::Replaced));
        let at = bench.at(1.5);
        assert_eq!(bench.members.closed("w1", 1, at), []);
        assert_eq!(bench.tick(3.0), []);
        assert_eq!(bench.register(1, 3.0), Err(Unknown::Replaced));
        assert_eq!(bench.beat(2, 3.0), Ok(vec![]));
        assert_eq!(bench.beat(3, 3.0), Err(Unknown::Unregistered));
    }

    #[test]
    fn who_leaves_is_emptied_and_then_gone_without_delay() {
        let mut bench = Bench::joined();
        let at = bench.at(1.0);
        let leaving = Ok(vec![Change::Leaving { node: w1() }]);
        assert_eq!(bench.members.leave("w1", 1, at), leaving);
        assert_eq!(bench.members.leave("w1", 1, at), Ok(vec![]));
        assert_eq!(bench.standing(Node::default()), Some(Standing::Leaving));
        assert_eq!(bench.members.closed("w1", 1, at), [Change::Left { node: w1() }]);
        assert_eq!(bench.standing(Node::default()), None);
        assert_eq!(bench.register(2, 2.0), Ok(vec![Change::Joined { node: w1() }]));
    }

    #[test]
    fn who_leaves_in_silence_dies() {
        let mut bench = Bench::joined();
        let at = bench.at(1.0);
        bench.members.leave("w1", 1, at).expect("it is registered");
        let silent = [Change::Died { node: w1() }];
        assert_eq!(bench.tick(7.0), silent);
    }

    #[test]
    fn persons_cordon_and_drain() {
        let bench = Bench::joined();
        let cordoned = Node { cordoned: true, draining: false };
        assert_eq!(bench.standing(cordoned), Some(Standing::Holding));
        let draining = Node { cordoned: true, draining: true };
        assert_eq!(bench.standing(draining), Some(Standing::Leaving));
    }

    #[test]
    fn the_dead_are_remembered_up_to_a_limit() {
        let (mut members, start) = (Members::new(Timing::default()), Instant::now());
        for worker in 0..2 * GONE_MAX {
            let address = "host:7420".into();
            let registration = Registration { address, labels: Labels::new(), ver: "0".into() };
            let at = start + Duration::from_millis(worker as u64);
            let node = format!("w{worker}");
            members.register(&node, registration, worker as u64, at).expect("new");
        }
        members.tick(start + Duration::from_secs(60));
        assert_eq!(members.all().count(), GONE_MAX);
        assert!(members.get("w0").is_none() && members.get("w127").is_some());
    }

    proptest! {
        /// A worker that speaks in time is never taken for dead, and one that does not is.
        #[test]
        fn only_silence_kills(beats in prop::collection::vec(1u64..9_000, 1..20)) {
            let mut bench = Bench::joined();
            let mut at = 0.0;
            let mut alive = true;
            for gap in beats.into_iter().map(|ms| ms as f64 / 1_000.0) {
                let died = bench.tick(at + gap - 0.001).contains(&Change::Died { node: w1() });
                at += gap;
                prop_assert!(!died || (alive && 6.0 <= gap));
                prop_assert!(died || !alive || gap < 6.5);
                alive &= !died;
                prop_assert_eq!(bench.beat(1, at).is_ok(), alive);
            }
        }
    }
}
