//! A spec that is changed while its task runs here, on its way into force.

use super::lock;
use config::Task;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// How far the newest spec of a task has come. Shared by who reads it, who checks it and who carries it out.
#[derive(Debug)]
pub(super) struct Specs {
    /// As the control topic has it.
    applied: watch::Sender<Arc<Task>>,
    /// The newest that has passed the precheck; `None`: that with which the run began.
    passed: watch::Sender<Option<Arc<Task>>>,
    in_force: Mutex<Arc<Task>>,
    refused: Mutex<Option<Refused>>,
}

/// Why an applied spec does not come into force: the task goes on by the one before.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    spec: Arc<Task>,
    pub(super) cause: String,
    pub(super) remedy: String,
}

impl Specs {
    pub(super) fn new(spec: Arc<Task>) -> Self {
        let (applied, passed) = (watch::channel(Arc::clone(&spec)).0, watch::channel(None).0);
        Self { applied, passed, in_force: Mutex::new(spec), refused: Mutex::default() }
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
        *lock(&self.in_force) = Arc::clone(spec);
    }

    /// The spec by which the run goes, or is about to.
    pub(super) fn base(&self) -> Arc<Task> {
        let passed = self.passed.borrow().clone();
        passed.unwrap_or_else(|| Arc::clone(&lock(&self.in_force)))
    }

    /// Whether the newest one is not in force yet.
    pub(super) fn is_modifying(&self) -> bool {
        !Arc::ptr_eq(&self.applied.borrow(), &lock(&self.in_force))
    }

    /// The spec does not come into force. Gives whether that is news: the same was not said of one before.
    pub(super) fn refuse(&self, spec: &Arc<Task>, cause: &str, remedy: &str) -> bool {
        let refused =
            Refused { spec: Arc::clone(spec), cause: cause.into(), remedy: remedy.into() };
        let before = lock(&self.refused).replace(refused);
        before.is_none_or(|before| before.cause != cause)
    }

    /// Why the newest spec does not come into force.
    pub(super) fn refused(&self) -> Option<Refused> {
        let refused = lock(&self.refused).clone();
        refused.filter(|it| Arc::ptr_eq(&it.spec, &self.applied.borrow()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Task {
        Task { task: name.into(), ..Task::default() }
    }

    #[test]
    fn a_spec_is_modifying_until_it_is_in_force() {
        let specs = Specs::new(Arc::new(Task::default()));
        assert!(!specs.is_modifying());
        specs.apply(named("a"));
        let first = specs.newest();
        assert!(specs.is_modifying());
        specs.apply(named("b"));
        specs.took(&first);
        assert!(specs.is_modifying(), "a newer one waits");
        specs.took(&specs.newest());
        assert!(!specs.is_modifying());
    }

    #[test]
    fn what_is_refused_is_told_until_another_one_is_applied_and_is_news_once() {
        let specs = Specs::new(Arc::new(Task::default()));
        let refuse = |name: &str, cause: &str| {
            specs.apply(named(name));
            assert!(specs.refused().is_none(), "nobody has looked at it");
            let is_news = specs.refuse(&specs.newest(), cause, "mend it");
            assert_eq!(specs.refused().expect("refused").cause, cause);
            is_news
        };
        assert!(refuse("a", "no column"));
        assert!(!refuse("b", "no column"), "told already");
        assert!(refuse("c", "no table"));
        assert_eq!(*specs.base(), Task::default(), "the run goes on");
        specs.apply(named("d"));
        specs.pass(specs.newest());
        assert_eq!(*specs.base(), named("d"));
    }
}
