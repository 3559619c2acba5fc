//! Tells the receivers of alerts of tasks that no worker may have: nothing of them runs that could tell it itself.

use super::Desk;
use crate::state::{ClusterState, Desired};
use pipeline::alerts::{self, Event, Seen, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tracing::warn;

/// For people who read an alert.
const REMEDY: &str = "see `cluster status`; start or uncordon a worker with the labels";

/// What was told of tasks without a place. Pure.
#[derive(Debug, Default)]
pub(super) struct Homeless {
    watches: BTreeMap<String, Watch>,
}

impl Homeless {
    /// What is to be told now, given the tasks that parts of which have no place, and why.
    fn look(&mut self, unplaced: &BTreeMap<String, String>, now: Instant) -> Vec<(String, Event)> {
        let names: BTreeSet<String> = unplaced.keys().chain(self.watches.keys()).cloned().collect();
        let mut told = Vec::new();
        for name in names {
            let trouble = unplaced.get(&name).cloned();
            let has_place = trouble.is_none();
            let watch = self.watches.entry(name.clone()).or_insert_with(|| Watch::new(None));
            let events = watch.look(now, &Seen { trouble, ..Seen::default() });
            if has_place && !watch.has_to_end() {
                self.watches.remove(&name);
            }
            told.extend(events.into_iter().map(|event| (name.clone(), event)));
        }
        told
    }
}

impl Desk {
    /// To be called several times a second. A leader that has just begun knows too few workers.
    pub(super) fn tell_of_homeless(&mut self, now: Instant) {
        if !self.leadership.may_move(now) {
            self.homeless = Homeless::default();
            return;
        }
        for (name, event) in self.homeless.look(&self.unplaced, now) {
            let Some(spec) = runs(&self.cluster, &name) else { continue };
            let cause = self.unplaced.get(&name).cloned().unwrap_or_default();
            let folder = self.secrets_dir.clone();
            tokio::task::spawn_blocking(move || {
                let (state, remedy) =
                    if event == Event::Failure { ("unplaced", REMEDY) } else { ("running", "") };
                // The receiver may be a secret that only workers have.
                let told = match spec.unconfined(&folder).is_empty() {
                    true => alerts::tell(&spec, &folder, event, [state, &cause, remedy]),
                    false => Ok(()),
                };
                if let Err(error) = told {
                    warn!(task = name, error, "nobody is told that the task has no place");
                }
            });
        }
    }
}

/// The spec of a task that somebody wants to run.
fn runs(cluster: &ClusterState, name: &str) -> Option<config::Task> {
    let task = cluster.tasks.get(name).filter(|it| it.desired == Desired::Running)?;
    task.read().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_task_without_a_place_is_told_once_and_so_is_that_it_has_one_again() {
        let (mut homeless, start) = (Homeless::default(), Instant::now());
        let none = BTreeMap::new();
        let shop = BTreeMap::from([("shop".to_owned(), "no worker has registered".to_owned())]);
        let mut told = Vec::new();
        for second in 0..60 {
            let unplaced = if (10..40).contains(&second) { &shop } else { &none };
            let events = homeless.look(unplaced, start + Duration::from_secs(second));
            told.extend(events.into_iter().map(|(name, event)| (second, name, event)));
        }
        let shop = || "shop".to_owned();
        assert_eq!(told, [(15, shop(), Event::Failure), (45, shop(), Event::Recovered)]);
        assert!(homeless.watches.is_empty());
    }
}
