//! What befalls the cluster, and how the trouble ends.

use super::coordinator::{Coordinator, Order, Said};
use super::worker::Worker;
use super::world::World;
use rand::Rng;
use std::time::{Duration, Instant};

impl World {
    /// At most one thing for each kind of process, and at times an order of a person.
    pub(crate) fn befall(&mut self) {
        let [coordinators, workers] = self.rates;
        if self.rng.random_range(0..100) < coordinators {
            self.befall_coordinator();
        }
        if self.rng.random_range(0..100) < workers {
            self.befall_worker();
        }
        if self.rng.random_range(0..100) < 2 {
            self.order();
        }
        if self.rng.random_range(0..100) < 2 && !self.absent.is_empty() {
            self.start();
        }
    }

    fn a_while(&mut self) -> Option<Instant> {
        Some(self.now + Duration::from_millis(self.rng.random_range(500..25_000)))
    }

    fn befall_coordinator(&mut self) {
        let at = self.rng.random_range(0..self.coordinators.len());
        let (now, bug, until) = (self.now, self.bug, self.a_while());
        match self.rng.random_range(0..4) {
            0 => self.coordinators[at].condition.paused = until,
            1 => {
                self.coordinators[at].condition.cut = until;
                // Should it lead, it hears nobody.
                self.trouble_all(until);
            }
            2 => {
                let (control, network) = (&mut self.control, &mut self.network);
                let it = &mut self.coordinators[at];
                if it.condition.paused.is_none() {
                    it.resign(now, control, network, &mut self.rng);
                }
            }
            _ => {
                let (name, jitter) = (self.coordinators[at].name.clone(), self.rng.random());
                self.coordinators[at] = Coordinator::new(name, now, bug, jitter);
            }
        }
    }

    fn befall_worker(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.workers.len());
        let (now, bug, until) = (self.now, self.bug, self.a_while());
        let name = self.workers[at].name.clone();
        self.trouble(&name);
        let (network, rng) = (&mut self.network, &mut self.rng);
        match rng.random_range(0..5) {
            0 => self.workers[at].condition.paused = until,
            1 => self.workers[at].condition.cut = until,
            2 => self.workers[at].leaving = true,
            3 => {
                // The process stands still, is taken for dead and started again under its name.
                self.workers[at].condition.paused = until;
                self.workers.push(Worker::new(name.clone(), now, bug));
            }
            _ => {
                let killed = self.workers.swap_remove(at);
                killed.say(Said::Closed, now, network, rng);
                self.absent.push(name.clone());
            }
        }
        if let Some(until) = until {
            let entry = self.troubled.get_mut(&name).expect("just entered");
            *entry = (*entry).max(until + Duration::from_secs(30));
        }
    }

    fn trouble_all(&mut self, until: Option<Instant>) {
        for worker in 0..5 {
            let name = format!("w{worker}");
            self.trouble(&name);
            if let (Some(until), Some(known)) = (until, self.troubled.get_mut(&name)) {
                *known = (*known).max(until + Duration::from_secs(30));
            }
        }
    }

    fn order(&mut self) {
        let order = match self.rng.random_range(0..4) {
            0 => Order::Apply {
                task: format!("t{}", self.rng.random_range(0..4)),
                lanes: self.rng.random_range(1..5),
            },
            1 => Order::Release { task: format!("t{}", self.rng.random_range(0..4)) },
            kind => {
                let node = format!("w{}", self.rng.random_range(0..5));
                Order::Drain { node, draining: kind == 2 }
            }
        };
        self.orders.push_back(order);
    }

    fn start(&mut self) {
        let at = self.rng.random_range(0..self.absent.len());
        let name = self.absent.swap_remove(at);
        self.trouble(&name);
        if !self.workers.iter().any(|it| it.name == name) {
            self.workers.push(Worker::new(name, self.now, self.bug));
        }
    }

    /// The trouble ends: everybody wakes, is reached, and somebody is there to work.
    pub(crate) fn heal(&mut self) {
        self.network.trouble = 0;
        let (now, bug) = (self.now, self.bug);
        for coordinator in &mut self.coordinators {
            (coordinator.condition.paused, coordinator.condition.cut) = (None, None);
            if coordinator.leadership.is_retired() {
                let jitter = self.rng.random();
                *coordinator = Coordinator::new(coordinator.name.clone(), now, bug, jitter);
            }
        }
        for worker in &mut self.workers {
            (worker.condition.paused, worker.condition.cut) = (None, None);
        }
        // Of two with one name the one that leaves may drive the other out.
        let alone = |name: &str| self.workers.iter().filter(|it| it.name == name).count() == 1;
        let mut willing = self.workers.iter().filter(|it| !it.leaving && alone(&it.name));
        let willing = willing.next().map(|it| it.name.clone());
        let node = match willing {
            Some(name) => name,
            None => {
                let name = String::from("w9");
                self.workers.push(Worker::new(name.clone(), now, bug));
                name
            }
        };
        self.orders.push_back(Order::Drain { node, draining: false });
    }
}
