//! How long a task is silent: rows of a table of their own, waited for as a `read_committed` consumer.

use crate::deadline::await_true;
use crate::reader::count;
use crate::scene::Scene;
use crate::seed::say;
use crate::sql::Sql;
use std::time::{Duration, Instant};

/// Longer than any fault here is allowed to have consequences.
const SEEN_MAX: Duration = Duration::from_secs(120);

/// A table that only the probe writes to.
pub struct Probe<'a> {
    scene: &'a Scene,
    topic: String,
    marks: u64,
    /// What the snapshot left in the topic: a truncate record for each time that it began again.
    before: u64,
}

impl<'a> Probe<'a> {
    /// Makes the table. The task must capture `public.probe` to the topic of its name.
    #[must_use]
    pub fn new(scene: &'a Scene) -> Self {
        scene.sql().run("CREATE TABLE public.probe (id int PRIMARY KEY)");
        Self { scene, topic: format!("{}.public.probe", scene.name), marks: 0, before: 0 }
    }

    /// Counts from here on: the snapshot is over.
    pub fn begin(&mut self) {
        self.before = count(&self.scene.kafka, &self.topic);
    }

    /// Writes a row on a connection of its own, so also after a restart of the server.
    pub fn mark(&mut self) {
        self.marks += 1;
        Sql::connect(&self.scene.postgres, &self.scene.name)
            .run(&format!("INSERT INTO public.probe VALUES ({})", self.marks));
    }

    /// Waits until every mark is visible; prints and returns how long it took since `since`.
    ///
    /// # Panics
    /// When they are not in time, or there are more than were written.
    pub fn await_seen(&self, fault: &str, since: Instant) -> Duration {
        let mut seen = 0;
        await_true(&format!("a row after: {fault}"), SEEN_MAX, || {
            seen = count(&self.scene.kafka, &self.topic) - self.before;
            self.marks <= seen
        });
        let took = since.elapsed();
        assert_eq!(seen, self.marks, "more rows than were written, after: {fault}");
        say(&format!("recovery: {:6} ms  {fault}", took.as_millis()));
        took
    }
}
