//! Tasks that share a source or a sink try a lost connection again for the shortest of their windows (product.md,
//! P67): who cares least for it decides, since all of them burden the same server. Pure.
//!
//! In:    the cluster as the control topic says.
//! Out:   the retry windows of a task, and whose they are.
//! Holds: of each task what its present spec says, so that a spec is read once.

use crate::state::{ClusterState, Desired};
use crate::task_state::TaskState;
use config::Retry;
use config::units::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// `other` stays below `connection` by so much at least: the smallest step that specs can name.
const BELOW: Duration = Duration::from_secs(60);

/// What each task that runs says of its servers and windows.
#[derive(Debug, Default)]
pub struct Windows {
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    spec_rev: u64,
    runs: bool,
    /// Empty where this release cannot read the spec.
    servers: BTreeSet<Server>,
    connection: Duration,
}

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Server {
    Source(String),
    Sink(String),
}

/// The windows by which a task goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    pub retry: Retry,
    /// The task whose window `retry.connection` is, where it is another one's.
    pub of: Option<String>,
}

impl Windows {
    /// Takes note of tasks that came, went or changed.
    pub fn follow(&mut self, state: &ClusterState) {
        self.known.retain(|name, _| state.tasks.contains_key(name));
        for (name, task) in &state.tasks {
            let state = state.states.get(name).map(|it| it.state);
            let runs = task.desired == Desired::Running && state.is_none_or(TaskState::runs);
            match self.known.get_mut(name) {
                Some(known) if known.spec_rev == task.spec_rev => known.runs = runs,
                Some(_) | None => {
                    self.known.insert(name.clone(), Known::of(task.spec_rev, runs, &task.spec));
                }
            }
        }
    }

    /// By which windows a task goes, whose spec has `own`.
    #[must_use]
    pub fn of(&self, task: &str, own: Retry) -> Shared {
        let unshared = Shared { retry: own, of: None };
        let Some(known) = self.known.get(task) else { return unshared };
        let shares = |(name, it): &(&String, &Known)| {
            name.as_str() != task && it.runs && !it.servers.is_disjoint(&known.servers)
        };
        let shortest = self.known.iter().filter(shares).min_by_key(|(_, it)| it.connection);
        let Some((name, shortest)) = shortest.filter(|(_, it)| it.connection < own.connection.0)
        else {
            return unshared;
        };
        let connection = shortest.connection;
        let other = own.other.0.min(connection.saturating_sub(BELOW));
        let retry = Retry { connection: Span(connection), other: Span(other), ..own };
        Shared { retry, of: Some(name.clone()) }
    }
}

impl Known {
    fn of(spec_rev: u64, runs: bool, spec: &str) -> Self {
        let Ok(spec) = config::Task::parse(spec) else {
            let (servers, connection) = (BTreeSet::new(), Duration::MAX);
            return Self { spec_rev, runs, servers, connection };
        };
        let hosts = spec.source.hosts.iter().map(|it| Server::Source(with_port(it, "5432")));
        let brokers = spec.sink.brokers.iter().map(|it| Server::Sink(with_port(it, "9092")));
        let servers = hosts.chain(brokers).collect();
        Self { spec_rev, runs, servers, connection: spec.retry.connection.0 }
    }
}

/// Names of hosts are the same in any case.
fn with_port(address: &str, port: &str) -> String {
    let address = address.to_ascii_lowercase();
    let has_port = address.rsplit_once(':').is_some_and(|(_, it)| it.parse::<u16>().is_ok());
    if has_port { address } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{State, Task};

    fn minutes(minutes: u64) -> Span {
        Span(Duration::from_secs(60 * minutes))
    }

    fn task(host: &str, broker: &str, connection: u64, desired: Desired) -> Task {
        let spec = format!(
            "version: 1\ntask: t\nsource: {{hosts: [\"{host}\"], database: d, user: u}}\n\
             sink: {{brokers: [\"{broker}\"]}}\nretry: {{connection: {connection}m, other: 9m}}\n\
             objects: [{{table: \"a.*\"}}]\n"
        );
        Task { spec_rev: connection, desired, ..Task::new(spec) }
    }

    fn own() -> Retry {
        Retry { connection: minutes(720), other: minutes(30), ..Retry::default() }
    }

    /// The windows of `shop` beside these.
    fn beside(others: &[(&str, Task)]) -> (u64, u64, Option<String>) {
        let mut state = ClusterState::default();
        state.tasks.insert("shop".into(), task("db1", "k1", 720, Desired::Running));
        for (name, task) in others {
            state.tasks.insert((*name).into(), task.clone());
        }
        let mut windows = Windows::default();
        windows.follow(&state);
        let Shared { retry, of } = windows.of("shop", own());
        let minutes = |span: Span| span.0.as_secs() / 60;
        (minutes(retry.connection), minutes(retry.other), of)
    }

    #[test]
    fn the_shortest_window_of_those_that_share_a_server_holds() {
        let running = |host, broker, minutes| task(host, broker, minutes, Desired::Running);
        assert_eq!(beside(&[]), (720, 30, None));
        assert_eq!(beside(&[("a", running("db2", "k2", 10))]), (720, 30, None));
        let source = ("a", running("DB1:5432", "k2", 60));
        assert_eq!(beside(std::slice::from_ref(&source)), (60, 30, Some("a".into())));
        let sink = ("b", running("db2", "k1:9092", 20));
        assert_eq!(beside(&[source, sink]), (20, 19, Some("b".into())));
        assert_eq!(beside(&[("a", running("db1", "k1", 1440))]), (720, 30, None));
    }

    #[test]
    fn who_does_not_run_decides_nothing() {
        for desired in [Desired::Suspended, Desired::Released] {
            assert_eq!(beside(&[("a", task("db1", "k1", 10, desired))]), (720, 30, None));
        }
        let (mut state, mut windows) = (ClusterState::default(), Windows::default());
        for (name, minutes) in [("shop", 720), ("a", 10)] {
            state.tasks.insert(name.into(), task("db1", "k1", minutes, Desired::Running));
        }
        let mut of = |a: TaskState| {
            state.states.insert("a".into(), State::new(a, 1));
            windows.follow(&state);
            windows.of("shop", own()).of
        };
        assert_eq!(of(TaskState::Retrying), Some("a".into()));
        assert_eq!(of(TaskState::PrecheckFailed), None);
    }

    #[test]
    fn a_task_that_changes_or_goes_is_followed() {
        let (mut state, mut windows) = (ClusterState::default(), Windows::default());
        state.tasks.insert("shop".into(), task("db1", "k1", 720, Desired::Running));
        let mut minutes = |other: Option<Task>| {
            state.tasks.remove("a");
            state.tasks.extend(other.map(|it| ("a".to_owned(), it)));
            windows.follow(&state);
            windows.of("shop", own()).retry.connection.0.as_secs() / 60
        };
        assert_eq!(minutes(Some(task("db1", "k2", 60, Desired::Running))), 60);
        assert_eq!(minutes(Some(task("db1", "k2", 90, Desired::Running))), 90);
        assert_eq!(minutes(Some(task("db1", "k2", 90, Desired::Suspended))), 720);
        assert_eq!(minutes(Some(task("db1", "k2", 90, Desired::Running))), 90);
        assert_eq!(minutes(None), 720);
    }
}
