//! A spec that is changed while its task runs here, on its way into force.

use config::Task;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How far the newest spec of a task has come. Shared by who reads it, who checks it and who carries it out.
#[derive(Debug)]
pub(super) struct Specs {
    /// As the control topic has it.
    applied: watch::Sender<Arc<Task>>,
    /// The newest that has passed the precheck; `None`: that with which the run began.
    passed: watch::Sender<Option<Arc<Task>>>,
    in_force: Mutex<Arc<Task>>,
}

impl Specs {
    pub(super) fn new(spec: Arc<Task>) -> Self {
        let (applied, passed) = (watch::channel(Arc::clone(&spec)).0, watch::channel(None).0);
        Self { applied, passed, in_force: Mutex::new(spec) }
    }

    pub(super) fn newest(&self) -> Arc<Task> {
        Arc::clone(&self.applied.borrow())
    }

    pub(super) fn apply(&self, spec: Task) {
        self.applied.send_replace(Arc::new(spec));
    }

    /// Sees what was applied after this call.
    pub(super) fn applied(&self) -> watch::Receiver<Arc<Task>> {
        self.applied.subscribe()
    }

    pub(super) fn pass(&self, spec: Arc<Task>) {
        self.passed.send_replace(Some(spec));
    }

    pub(super) fn passed(&self) -> watch::Receiver<Option<Arc<Task>>> {
        self.passed.subscribe()
    }

    pub(super) fn took(&self, spec: &Arc<Task>) {
        *self.lock() = Arc::clone(spec);
    }

    /// Whether the newest one is not in force yet.
    pub(super) fn is_modifying(&self) -> bool {
        !Arc::ptr_eq(&self.applied.borrow(), &self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Task>> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_modifying_until_it_is_in_force() {
        let specs = Specs::new(Arc::new(Task::default()));
        assert!(!specs.is_modifying());
        specs.apply(Task { task: "a".into(), ..Task::default() });
        let first = specs.newest();
        assert!(specs.is_modifying());
        specs.apply(Task { task: "b".into(), ..Task::default() });
        specs.took(&first);
        assert!(specs.is_modifying(), "a newer one waits");
        specs.took(&specs.newest());
        assert!(!specs.is_modifying());
    }
}
