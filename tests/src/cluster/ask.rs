//! What is said to a cluster by the command line, and what it answers.

use super::{CALL_MAX, Cluster};
use crate::deadline::{await_seeing, await_some};
use crate::process::{Distributary, Ended};
use crate::status::Status;
use crate::task::Spec;
use std::cell::RefCell;
use std::thread::sleep;
use std::time::Duration;

/// Between two calls of one that waits: each is a process, and would take time from those that it asks about.
const CALL_PAUSE: Duration = Duration::from_millis(300);

impl Cluster<'_> {
    /// Calls the command line with all coordinators.
    #[must_use]
    pub fn call(&self, arguments: &[&str]) -> Ended {
        let access = self.site.access(&self.coordinators);
        let mut all = arguments.to_vec();
        all.extend(access.iter().map(String::as_str));
        let more: Vec<_> = self.environment.iter().map(|(key, value)| (&**key, &**value)).collect();
        Distributary::start_in(self.scene.folder(), &all, &more).wait(CALL_MAX)
    }

    /// Applies the spec and starts the task.
    ///
    /// # Panics
    /// When it is refused.
    pub fn apply(&self, spec: &Spec) {
        let path = spec.write(self.scene.folder());
        let path = path.to_str().expect("UTF-8");
        self.call(&["task", "apply", path]).expect(0);
        self.call(&["task", "start", spec.task()]).expect(0);
    }

    /// What `task status -o json` says.
    ///
    /// # Panics
    /// When it says no JSON.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status_of(&self.scene.name)
    }

    /// The same of another task.
    ///
    /// # Panics
    /// When it says no JSON.
    #[must_use]
    pub fn status_of(&self, task: &str) -> Status {
        let ended = self.ask_status(task);
        ended.expect(0);
        Status::parse(&ended.stdout)
    }

    fn ask_status(&self, task: &str) -> Ended {
        self.call(&["task", "status", task, "-o", "json"])
    }

    /// Waits until the task's status is as it shall be.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn await_status(
        &self,
        what: &str,
        longest: Duration,
        is: impl Fn(&Status) -> bool,
    ) -> Status {
        self.await_status_of(&self.scene.name, what, longest, is)
    }

    /// The same of another task.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn await_status_of(
        &self,
        task: &str,
        what: &str,
        longest: Duration,
        is: impl Fn(&Status) -> bool,
    ) -> Status {
        let seen = RefCell::new(String::new());
        let ask = || {
            // A coordinator that has just begun does not know the task yet.
            let ended = self.ask_status(task);
            let status = (ended.code == Some(0)).then(|| Status::parse(&ended.stdout));
            let status = status.filter(&is);
            if status.is_none() {
                seen.replace(format!("{} {}", ended.stdout.trim_end(), ended.stderr.trim_end()));
                sleep(CALL_PAUSE);
            }
            status
        };
        await_seeing(what, longest, ask, || seen.take())
    }

    /// Waits until one of these coordinators leads.
    ///
    /// # Panics
    /// When none does in time.
    pub fn await_leader(&self, longest: Duration, may_be: impl Fn(&str) -> bool) {
        await_some("somebody who leads", longest, || {
            let leader = self.leader().filter(|leader| may_be(leader));
            if leader.is_none() {
                sleep(CALL_PAUSE);
            }
            leader
        });
    }

    /// Name of the coordinator that leads, if one does.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        let ended = self.call(&["cluster", "status", "-o", "json"]);
        let status: serde_json::Value = serde_json::from_str(&ended.stdout).ok()?;
        status["leader"].as_str().map(str::to_owned)
    }
}
