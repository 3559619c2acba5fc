//! Task specs.

use crate::servers::Server;
use crate::sql::{PASSWORD, ROLE};
use std::fs;
use std::path::{Path, PathBuf};

/// Internal topics of test tasks begin so.
pub const STATE_PREFIX: &str = "it";

/// A task spec that is being written.
#[derive(Clone, Debug)]
pub struct Spec {
    task: String,
    /// `hosts`, or the connection that has them.
    hosts: String,
    database: String,
    user: String,
    password: Option<String>,
    brokers: String,
    topic: String,
    source: Vec<String>,
    sink: Vec<String>,
    top: Vec<String>,
    objects: Vec<String>,
}

impl Spec {
    /// All tables of a database, each to a topic of its own that begins with the task's name.
    #[must_use]
    pub fn new(task: &str, postgres: &Server, database: &str, kafka: &Server) -> Self {
        Self {
            task: task.into(),
            hosts: format!("hosts: [{}]", postgres.address),
            database: database.into(),
            user: ROLE.into(),
            password: Some(PASSWORD.into()),
            brokers: kafka.address.clone(),
            topic: "{task}.{schema}.{table}".into(),
            source: Vec::new(),
            sink: vec![format!("state_prefix: {STATE_PREFIX}")],
            top: Vec::new(),
            objects: vec!["{table: \"*.*\"}".into()],
        }
    }

    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Connects to other hosts.
    #[must_use]
    pub fn hosts(self, hosts: &str) -> Self {
        Self { hosts: format!("hosts: [{hosts}]"), ..self }
    }

    /// Connects to the hosts of a named connection.
    #[must_use]
    pub fn connection(self, name: &str) -> Self {
        Self { hosts: format!("connection: {name}"), ..self }
    }

    #[must_use]
    pub fn database(self, database: &str) -> Self {
        Self { database: database.into(), ..self }
    }

    #[must_use]
    pub fn user(self, user: &str, password: Option<&str>) -> Self {
        Self { user: user.into(), password: password.map(Into::into), ..self }
    }

    #[must_use]
    pub fn brokers(self, brokers: &str) -> Self {
        Self { brokers: brokers.into(), ..self }
    }

    #[must_use]
    pub fn topic(self, pattern: &str) -> Self {
        Self { topic: pattern.into(), ..self }
    }

    /// Adds a line below `source`.
    #[must_use]
    pub fn source(mut self, line: &str) -> Self {
        self.source.push(line.into());
        self
    }

    /// Leaves a line below `source` out again.
    #[must_use]
    pub fn without_source(mut self, line: &str) -> Self {
        self.source.retain(|it| it != line);
        self
    }

    /// Adds a line below `sink`.
    #[must_use]
    pub fn sink(mut self, line: &str) -> Self {
        self.sink.push(line.into());
        self
    }

    /// Adds a line at the top.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.top.push(line.into());
        self
    }

    /// Captures these in place of everything: YAML mappings.
    #[must_use]
    pub fn objects(self, objects: &[&str]) -> Self {
        Self { objects: objects.iter().map(|&object| object.into()).collect(), ..self }
    }

    /// The spec.
    #[must_use]
    pub fn yaml(&self) -> String {
        let mut lines = vec!["version: 1".into(), format!("task: {}", self.task)];
        lines.push("source:".into());
        lines.push(format!("  {}", self.hosts));
        lines.push(format!("  database: \"{}\"", self.database));
        lines.push(format!("  user: {}", self.user));
        lines.extend(self.password.iter().map(|word| format!("  password: {word}")));
        lines.extend(self.source.iter().map(|line| format!("  {line}")));
        lines.push("sink:".into());
        lines.push(format!("  brokers: [{}]", self.brokers));
        lines.push(format!("  topic: \"{}\"", self.topic));
        lines.extend(self.sink.iter().map(|line| format!("  {line}")));
        lines.extend(self.top.iter().cloned());
        // Most tests count records, and have nothing to do with those of definitions (`tests/ddl.rs` has).
        if !self.top.iter().any(|line| line.starts_with("sync:")) {
            lines.push("sync: {definitions: false}".into());
        }
        lines.push("objects:".into());
        lines.extend(self.objects.iter().map(|object| format!("  - {object}")));
        lines.join("\n") + "\n"
    }

    /// Writes `TASK.yaml` in a folder.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{}.yaml", self.task));
        fs::write(&path, self.yaml()).expect("the folder can be written");
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_one_that_the_product_reads() {
        let postgres = Server { name: "postgres-15".into(), address: "127.0.0.1:24315".into() };
        let kafka = Server { name: "kafka".into(), address: "127.0.0.1:29092".into() };
        let yaml = Spec::new("shop_1", &postgres, "shop", &kafka)
            .source("heartbeat_interval: 1s")
            .sink("delivery: at-least-once")
            .line("lanes: 1")
            .objects(&["{table: public.*}"])
            .yaml();
        let task = config::Task::parse(&yaml).unwrap();
        assert_eq!(task.task, "shop_1");
        assert_eq!(task.lanes.0, 1);
        assert_eq!(task.sink.delivery, config::Delivery::AtLeastOnce);
        assert_eq!(task.objects[0].table, "public.*");
    }
}
