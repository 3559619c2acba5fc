//! The cluster as people see it, in the words of the contract. Pure.

use super::orders::{Load, loads, users};
use super::reports::{Reports, shown};
use crate::membership::{Health, Members};
use crate::state::{ClusterState, Placement};
use crate::task_state::TaskState;
use rpc::{Error, v1};
use std::collections::BTreeMap;

/// What one coordinator knows.
pub(super) struct View<'a> {
    pub(super) cluster: &'a ClusterState,
    pub(super) members: &'a Members,
    pub(super) reports: &'a Reports,
    /// Why parts of tasks have no place.
    pub(super) unplaced: &'a BTreeMap<String, String>,
    /// Since when workers are in their states.
    pub(super) since: &'a Since,
    /// Name and address of the coordinator itself.
    pub(super) own: [&'a str; 2],
    pub(super) leads: bool,
}

/// States of nodes, and since when.
#[derive(Debug, Default)]
pub(super) struct Since(BTreeMap<String, (&'static str, u64)>);

impl Since {
    /// Whether anybody's state is another one.
    pub(super) fn note(&mut self, states: BTreeMap<String, &'static str>, now_ms: u64) -> bool {
        let is_same = |(node, state): (&String, &&str)| {
            self.0.get(node).is_some_and(|(last, _)| last == state)
        };
        if states.len() == self.0.len() && states.iter().all(is_same) {
            return false;
        }
        let before = std::mem::take(&mut self.0);
        self.0.extend(states.into_iter().map(|(node, state)| {
            let same = before.get(&node).filter(|(last, _)| *last == state);
            let since = same.map_or(now_ms, |(_, since)| *since);
            (node, (state, since))
        }));
        true
    }
}

impl View<'_> {
    pub(super) fn tasks(&self) -> Vec<v1::Task> {
        self.cluster.tasks.keys().filter_map(|name| self.task(name).ok()).collect()
    }

    /// # Errors
    /// There is none of that name.
    pub(super) fn task(&self, name: &str) -> Result<v1::Task, Error> {
        let task = self.cluster.tasks.get(name).ok_or_else(|| Error::not_found("task", name))?;
        let placement = self.cluster.placements.get(name);
        let labels = config::Task::parse(&task.spec).map(|it| it.labels).unwrap_or_default();
        Ok(v1::Task {
            name: name.to_owned(),
            labels,
            revision: task.spec_rev,
            wanted: task.desired.word().to_owned(),
            placement: placement.filter(|it| it.nodes().next().is_some()).map(Into::into),
            report: Some(self.report(name, placement)),
        })
    }

    /// States of a task, oldest first, with the present one.
    pub(super) fn history(&self, name: &str) -> Vec<v1::StateChange> {
        let state = self.cluster.states.get(name);
        let change = |it: crate::state::Change| v1::StateChange {
            state: it.state.word().to_owned(),
            since_unix_ms: millis(it.since_ms),
            cause: it.cause.unwrap_or_default(),
            by: it.by.unwrap_or_default(),
        };
        state.into_iter().flat_map(crate::state::State::changes).map(change).collect()
    }

    /// What workers say, with the state that the control topic holds.
    fn report(&self, name: &str, placement: Option<&Placement>) -> v1::TaskReport {
        let folded = placement.and_then(|it| self.reports.folded(name, it));
        let mut report = folded.unwrap_or_default();
        let live = (std::mem::take(&mut report.cause), std::mem::take(&mut report.remedy));
        let live_state = std::mem::take(&mut report.state);
        name.clone_into(&mut report.task);
        let state = self.cluster.states.get(name);
        let written = state.map_or(TaskState::NotConfigured, |it| it.state);
        let stands = shown(written, self.cluster.front_is_silent(name));
        report.state = stands.word().to_owned();
        let text = |it: Option<&String>| it.cloned().unwrap_or_default();
        report.cause = text(state.and_then(|it| it.cause.as_ref()));
        report.remedy = text(state.and_then(|it| it.remedy.as_ref()));
        // How often it was tried is not in the record.
        if report.state == live_state && !live.0.is_empty() {
            (report.cause, report.remedy) = live;
        }
        let since = state.filter(|_| stands == written);
        report.since_unix_ms = since.map_or(0, |it| millis(it.since_ms));
        if report.cause.is_empty()
            && let Some(reason) = self.unplaced.get(name)
        {
            report.cause.clone_from(reason);
            "see `cluster status`; start or uncordon a worker with the labels"
                .clone_into(&mut report.remedy);
        }
        report
    }

    pub(super) fn cluster(&self) -> v1::ClusterView {
        let leader = self.cluster.leader.as_ref().filter(|it| !it.resigned);
        let leader = leader.filter(|it| self.leads || it.node != self.own[0]);
        let mut nodes = self.coordinators(leader.map(|it| (it.node.as_str(), it)));
        nodes.extend(self.workers());
        v1::ClusterView {
            leader: leader.map(|it| it.node.clone()).unwrap_or_default(),
            term: leader.map_or(0, |it| millis(it.term)),
            nodes,
            tasks: self.tasks(),
        }
    }

    /// # Errors
    /// There is none of that name.
    pub(super) fn worker(&self, name: &str) -> Result<v1::Node, Error> {
        let mut workers = self.workers().into_iter();
        workers.find(|it| it.name == name).ok_or_else(|| Error::not_found("worker", name))
    }

    /// This one and the leader: others say nothing of themselves.
    fn coordinators(&self, leader: Option<(&str, &crate::state::Leader)>) -> Vec<v1::Node> {
        let node = |name: &str, address: &str, version: &str, state: &str| v1::Node {
            name: name.to_owned(),
            role: "coordinator".into(),
            address: address.to_owned(),
            version: version.to_owned(),
            state: state.to_owned(),
            ..v1::Node::default()
        };
        let [name, address] = self.own;
        let state = if self.leads { "leader" } else { "alive" };
        let own = node(name, address, env!("CARGO_PKG_VERSION"), state);
        let other = leader
            .filter(|(leader, _)| *leader != name)
            .map(|(leader, it)| node(leader, &it.address, &it.ver, "leader"));
        let mut nodes: Vec<_> = other.into_iter().chain([own]).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes
    }

    fn workers(&self) -> Vec<v1::Node> {
        let loads = loads(&self.cluster.placements);
        let mut nodes: BTreeMap<&str, v1::Node> = BTreeMap::new();
        let node = |name: &str, state: &str| {
            let Load { fronts, lanes, snapshots } = loads.get(name).copied().unwrap_or_default();
            let since = self.since.0.get(name).map_or(0, |(_, since)| *since);
            v1::Node {
                name: name.to_owned(),
                role: "worker".into(),
                state: state.to_owned(),
                since_unix_ms: since,
                fronts,
                lanes,
                snapshots,
                ..v1::Node::default()
            }
        };
        // Who does not lead knows those that have something.
        for placement in self.cluster.placements.values() {
            for (name, address) in &placement.addresses {
                let it = v1::Node { address: address.clone(), ..node(name, "") };
                nodes.insert(name, it);
            }
        }
        for (name, it) in &self.cluster.nodes {
            let state = if it.draining { emptied(loads.contains_key(name.as_str())) } else { "" };
            nodes.entry(name).or_insert_with(|| node(name, "")).state = state.into();
        }
        for (name, state) in self.states() {
            let Some((name, member)) = self.members.all().find(|(it, _)| *it == name) else {
                continue;
            };
            let registration = &member.registration;
            nodes.insert(
                name,
                v1::Node {
                    address: registration.address.clone(),
                    version: registration.ver.clone(),
                    labels: registration.labels.clone(),
                    ..node(name, state)
                },
            );
        }
        nodes.into_values().collect()
    }

    /// States of the workers that have registered here.
    pub(super) fn states(&self) -> BTreeMap<String, &'static str> {
        let loads = loads(&self.cluster.placements);
        let states = self.members.all().filter_map(|(name, member)| {
            let draining = self.cluster.nodes.get(name).is_some_and(|it| it.draining);
            let state = match member.health {
                Health::Left => return None,
                Health::Dead => "dead",
                Health::Suspect => "suspect",
                Health::Leaving => "draining",
                Health::Live if draining => emptied(loads.contains_key(name)),
                Health::Live => "alive",
            };
            Some((name.to_owned(), state))
        });
        states.collect()
    }

    pub(super) fn connections(&self) -> Vec<v1::Connection> {
        let connection = |(name, it): (&String, &crate::state::Connection)| v1::Connection {
            name: name.clone(),
            kind: it.kind.clone(),
            yaml: it.spec.clone(),
            tasks: users(self.cluster, name),
        };
        self.cluster.connections.iter().map(connection).collect()
    }

    /// # Errors
    /// There is no such task.
    pub(super) fn placement(&self, name: &str) -> Result<v1::Placement, Error> {
        let placement = self.cluster.placements.get(name);
        placement.map(Into::into).ok_or_else(|| Error::not_found("task", name))
    }
}

/// What a drained worker's state is.
fn emptied(has_parts: bool) -> &'static str {
    if has_parts { "draining" } else { "drained" }
}

/// Times and offsets are never negative.
fn millis(it: i64) -> u64 {
    u64::try_from(it).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::reports::news;

    #[test]
    fn the_words_of_reports_are_those_of_the_states() {
        use TaskState as S;
        for state in S::ALL {
            let is_order = matches!(state, S::NotConfigured | S::Suspended | S::Modifying);
            assert_eq!(news(state.word()).is_none(), is_order, "{state}");
        }
        assert_eq!(S::PrecheckFailed.word(), "precheck-failed");
    }

    #[test]
    fn a_state_keeps_its_beginning() {
        let mut since = Since::default();
        let states = |state| BTreeMap::from([("w1".to_owned(), state), ("w2".to_owned(), "alive")]);
        assert!(since.note(states("alive"), 5));
        assert!(!since.note(states("alive"), 6));
        assert!(since.note(states("dead"), 7));
        assert_eq!((since.0["w1"], since.0["w2"]), (("dead", 7), ("alive", 5)));
    }
}
