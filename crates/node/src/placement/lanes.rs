//! Where lanes go: what must move goes to the worker with the fewest lanes, and then as few more move as
//! balance needs.

use super::{Part, Room, Scope, Standing, Unplaced};
use std::collections::{BTreeMap, BTreeSet};

/// A lane: its task and its number.
type Lane<'a> = (&'a str, usize);

impl<'a> Room<'a> {
    /// Lanes by worker, over all tasks.
    pub(super) fn loads(&self) -> BTreeMap<&str, usize> {
        let mut loads = BTreeMap::new();
        for node in self.seats.values().flat_map(|it| it.lanes.iter().flatten()) {
            *loads.entry(node.as_str()).or_default() += 1;
        }
        loads
    }

    pub(super) fn place_lanes(&mut self) {
        let mut homeless: Vec<(usize, Lane<'a>)> = Vec::new();
        for (&task, wanted) in self.seats.keys().zip(self.tasks.values()) {
            let labels = &wanted.labels.producers;
            let choice = self.candidates(&[labels]).len();
            let lanes = self.seats[task].lanes.iter().enumerate();
            let lost = lanes
                .filter(|(_, owner)| !owner.as_deref().is_some_and(|it| self.may_stay(it, labels)));
            homeless.extend(lost.map(|(lane, _)| (choice, (task, lane))));
        }
        // Who has the least choice chooses first, so that the others can make up for it.
        homeless.sort_unstable();
        let before: Vec<Option<String>> = homeless
            .iter()
            .map(|&(_, (task, lane))| self.seats[task].lanes[lane].clone())
            .collect();
        for &(_, (task, lane)) in &homeless {
            self.seat((task, lane), None);
        }
        for (&(_, (task, lane)), owner) in homeless.iter().zip(before) {
            let wanted = &self.tasks[task].labels.producers;
            let (loads, own) = (self.loads(), self.shares(task));
            let share = |node: &str| own.get(node).copied().unwrap_or_default();
            let load = |node: &str| loads.get(node).copied().unwrap_or_default();
            let candidates = self.candidates(&[wanted]).into_iter();
            let Some(node) = candidates.min_by_key(|it| (load(it), share(it), *it)) else {
                let (part, reason) = (Part::Lane(lane), self.reason(wanted));
                self.unplaced.push(Unplaced { task: task.into(), part, reason });
                let owner = owner.filter(|it| self.is_missing(it));
                self.seat((task, lane), owner.as_deref());
                continue;
            };
            self.seat((task, lane), Some(node));
        }
        if self.scope == Scope::All {
            let mut moved: BTreeSet<Lane<'a>> = homeless.into_iter().map(|(_, it)| it).collect();
            // Ends: each step lowers the sum of the squares of the loads.
            while let Some((lane, to)) = self.improvement(&moved) {
                self.seat(lane, Some(to));
                moved.insert(lane);
            }
        }
    }

    fn seat(&mut self, (task, lane): Lane<'a>, node: Option<&str>) {
        let seats = self.seats.get_mut(task).expect("every task has seats");
        seats.lanes[lane] = node.map(str::to_owned);
    }

    /// Lanes of one task by worker.
    fn shares(&self, task: &str) -> BTreeMap<&str, usize> {
        let mut shares = BTreeMap::new();
        for node in self.seats[task].lanes.iter().flatten() {
            *shares.entry(node.as_str()).or_default() += 1;
        }
        shares
    }

    /// The best next move for balance: from the worker that has most to the one that has least, a lane
    /// that moves anyway, or one of the task that is spread worst.
    fn improvement(&self, moved: &BTreeSet<Lane<'a>>) -> Option<(Lane<'a>, &'a str)> {
        let loads = self.loads();
        let load = |node: &str| loads.get(node).copied().unwrap_or_default();
        let ready = self.workers.iter().filter(|(_, it)| it.standing == Standing::Ready);
        let mut ready: Vec<&'a str> = ready.map(|(name, _)| name.as_str()).collect();
        ready.sort_by_key(|it| (load(it), *it));
        let most: Vec<&str> = ready.iter().rev().copied().collect();
        for from in most {
            for &to in ready.iter().filter(|it| load(it) + 2 <= load(from)) {
                let lanes = self.seats.iter().flat_map(|(&task, seats)| {
                    let spread = self.spread(task, from, to);
                    let own = seats.lanes.iter().enumerate();
                    let own = own.filter(|(_, owner)| owner.as_deref() == Some(from));
                    own.map(move |(lane, _)| (spread, (task, lane)))
                });
                let able = lanes.filter(|(_, (task, _))| {
                    let wanted = &self.tasks[*task].labels.producers;
                    super::matches(&self.workers[to].labels, wanted)
                });
                let best = able.max_by_key(|(spread, lane)| (moved.contains(lane), *spread, *lane));
                if let Some((_, lane)) = best {
                    return Some((lane, to));
                }
            }
        }
        None
    }

    /// How many more lanes of the task `from` has than `to`.
    fn spread(&self, task: &str, from: &str, to: &str) -> i64 {
        let owners = || self.seats[task].lanes.iter().flatten();
        let more = owners().filter(|it| *it == from).count();
        let less = owners().filter(|it| *it == to).count();
        i64::try_from(more).unwrap_or(i64::MAX) - i64::try_from(less).unwrap_or(i64::MAX)
    }
}
