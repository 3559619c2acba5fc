//! How long a task is silent: rows of a table of their own, waited for as a `read_committed` consumer.

use crate::deadline::await_true;
use crate::reader::each;
use crate::scene::Scene;
use crate::seed::say;
use crate::sql::Sql;
use crate::topics;
use rdkafka::message::{BorrowedMessage, Message};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Longer than any fault here is allowed to have consequences.
const SEEN_MAX: Duration = Duration::from_secs(240);

/// A table that only the probe writes to.
pub struct Probe<'a> {
    scene: &'a Scene,
    topic: String,
    marks: u64,
}

impl<'a> Probe<'a> {
    /// Makes the table. The task must capture `public.probe` to the topic of its name.
    #[must_use]
    pub fn new(scene: &'a Scene) -> Self {
        scene.sql().run("CREATE TABLE public.probe (id int PRIMARY KEY)");
        Self { scene, topic: format!("{}.public.probe", scene.name), marks: 0 }
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
            seen = self.seen();
            self.marks <= seen
        });
        let took = since.elapsed();
        assert_eq!(seen, self.marks, "more rows than were written, after: {fault}");
        say(&format!("recovery: {:6} ms  {fault}", took.as_millis()));
        took
    }

    /// Rows in the topic. Snapshots leave truncate records there, which are none.
    fn seen(&self) -> u64 {
        let kafka = &self.scene.kafka;
        let partitions = topics::list(kafka, |name| name == self.topic);
        let partitions = partitions.get(&self.topic).copied().unwrap_or_default();
        let mut rows = 0;
        each(kafka, &self.topic, partitions, |message| rows += u64::from(is_row(message)));
        rows
    }
}

fn is_row(message: &BorrowedMessage<'_>) -> bool {
    let value = message.payload().map(serde_json::from_slice::<Value>);
    matches!(value, Some(Ok(value)) if !value["after"].is_null())
}
