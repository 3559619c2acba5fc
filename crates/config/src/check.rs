//! What the types cannot say. Pure; all problems at once, each with its path.

use crate::pattern::TablePattern;
use crate::task::{Acks, Delivery, NewPartitions, Object, Oversize, Switch, Task, Unrepresentable};
use crate::{Choice, DdlCapture, IdentityPolicy, OnIncompatible, Problem, ReadFrom};
use std::time::Duration;

/// Rust's own words for a place in the spec.
pub(crate) fn problem(path: &str, text: impl Into<String>) -> Problem {
    Problem { line: 0, path: path.to_owned(), text: text.into() }
}

/// Hosts with ports; the default port is added where none is given.
pub(crate) fn check_addresses(path: &str, addresses: &[String], found: &mut Vec<Problem>) {
    for (index, address) in addresses.iter().enumerate() {
        let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if address.is_empty() || matches!(port, Some(Err(_))) && !address.ends_with(']') {
            let text = format!("`{address}` is no host:port, e.g. db1:5432 or [::1]:5432");
            found.push(problem(&format!("{path}[{index}]"), text));
        }
    }
}

/// Whether the name may be part of slot, topic and transactional id names.
fn is_task_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(plain)
}

fn check_template(path: &str, template: &str, found: &mut Vec<Problem>) {
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let Some(end) = rest[start..].find('}') else {
            found.push(problem(path, "has `{` without `}`"));
            return;
        };
        let name = &rest[start + 1..start + end];
        if !["schema", "table", "database", "task"].contains(&name) {
            let known = "{schema}, {table}, {database}, {task}";
            found.push(problem(path, format!("`{{{name}}}` is unknown (known: {known})")));
        }
        rest = &rest[start + end + 1..];
    }
    if template.is_empty() {
        found.push(problem(path, "must not be empty"));
    }
}

impl Task {
    /// What is wrong with the values, beyond what their types say.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if self.version != 1 {
            found.push(problem("version", "is required and must be 1"));
        }
        if !is_task_name(&self.task) {
            let text = "is required: a small letter, then up to 39 small letters, digits or _";
            found.push(problem("task", text));
        }
        if !(1..=64).contains(&self.lanes.0) {
            found.push(problem("lanes", "must be from 1 to 64"));
        }
        self.check_source(&mut found);
        self.check_sink(&mut found);
        self.check_retry(&mut found);
        self.check_streams(&mut found);
        if self.alerts.as_ref().is_some_and(|alerts| alerts.webhook.is_none()) {
            found.push(problem("alerts.webhook", "is required, e.g. ${env:ALERTS_URL}"));
        }
        if !self.sync.snapshot && !self.sync.incremental {
            found.push(problem("sync", "nothing to do: switch on `snapshot` or `incremental`"));
        }
        if self.snapshot.parallel == 0 || 64 < self.snapshot.parallel {
            found.push(problem("snapshot.parallel", "must be from 1 to 64"));
        }
        if self.objects.iter().all(|object| object.exclude) {
            let text = "is required: at least one rule that selects, e.g. `- table: public.*`";
            found.push(problem("objects", text));
        }
        found.extend(crate::pem::problems(self.certificates(), self.keys()));
        for (index, object) in self.objects.iter().enumerate() {
            let path = format!("objects[{index}]");
            object.check(&path, &mut found);
            if object.publication_filter && self.source.replica_identity == IdentityPolicy::Keep {
                // The server refuses users' updates where the filter's columns are no part of the identity.
                let text = "needs `source.replica_identity: full`";
                found.push(problem(&format!("{path}.publication_filter"), text));
            }
        }
        found
    }

    fn check_source(&self, found: &mut Vec<Problem>) {
        let source = &self.source;
        if source.hosts.is_empty() == source.connection.is_none() {
            let text = "is required, e.g. [db1:5432] (or `connection`, not both)";
            found.push(problem("source.hosts", text));
        }
        check_addresses("source.hosts", &source.hosts, found);
        // What is missing, or does not go together, may be the connection's.
        if source.connection.is_some() {
            return;
        }
        for (path, value) in [("source.database", &source.database), ("source.user", &source.user)]
        {
            if value.is_empty() {
                found.push(problem(path, "is required"));
            }
        }
        if source.read_from == ReadFrom::Standby && source.slot_failover == Choice::On {
            let text = "slots of a standby cannot be copied to others: `auto` or `off` with `read_from: standby`";
            found.push(problem("source.slot_failover", text));
        }
        let slot = self.slot_of(1);
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if 63 < slot.len() || !slot.bytes().all(plain) {
            let text = "with the task's name must be at most 63 of a-z, 0-9 and _";
            found.push(problem("source.slot_prefix", text));
        }
        if source.streaming == Switch::On && source.ddl == DdlCapture::Messages {
            let text = "cannot be `messages` with `source.streaming: on`: the server does not say to which savepoint a \
                        message belongs; set it to auto or tables";
            found.push(problem("source.ddl", text));
        }
        if source.tls.cert.is_some() != source.tls.key.is_some() {
            found.push(problem("source.tls", "`cert` and `key` go together"));
        }
        if crate::SqlAscii::parse(&source.sql_ascii).is_none() {
            let known = crate::encoding::ENCODINGS.join(", ");
            let text = format!("must be fail, base64, replace, or one of {known}");
            found.push(problem("source.sql_ascii", text));
        }
    }

    /// A mask without its key would be none.
    fn check_masks(&self, found: &mut Vec<Problem>) {
        if self.has_masks() && self.mask_key.is_none() {
            let text = "is required by `columns.mask`, e.g. ${file:mask.key}";
            found.push(problem("mask_key", text));
        }
    }

    /// Whether any column is masked.
    #[must_use]
    pub fn has_masks(&self) -> bool {
        let masks = |object: &Object| object.columns.as_ref().is_some_and(|it| !it.mask.is_empty());
        self.objects.iter().any(masks)
    }

    /// Whether anything may go to the dead-letter topic.
    #[must_use]
    pub fn has_dead_letters(&self) -> bool {
        let sink = &self.sink;
        let registry = sink.registry.as_ref().map(|it| it.on_incompatible);
        sink.oversize == Oversize::DeadLetter
            || sink.unrepresentable == Unrepresentable::DeadLetter
            || registry == Some(OnIncompatible::DeadLetter)
    }

    fn check_sink(&self, found: &mut Vec<Problem>) {
        let sink = &self.sink;
        if sink.brokers.is_empty() == sink.connection.is_none() {
            let text = "is required, e.g. [k1:9092] (or `connection`, not both)";
            found.push(problem("sink.brokers", text));
        }
        check_addresses("sink.brokers", &sink.brokers, found);
        if sink.connection.is_some() {
            return;
        }
        check_template("sink.topic", &sink.topic, found);
        check_template("sink.dead_letter_topic", &sink.dead_letter_topic, found);
        if let Some(topic) = &sink.ddl_topic {
            check_template("sink.ddl_topic", topic, found);
        }
        if sink.partitions < 1 {
            found.push(problem("sink.partitions", "must be at least 1"));
        }
        if sink.replication_factor == 0 || sink.replication_factor < -1 {
            found.push(problem("sink.replication_factor", "must be -1 or at least 1"));
        }
        let interval = sink.commit_interval.0;
        if !(Duration::from_millis(10)..=Duration::from_secs(10)).contains(&interval) {
            found.push(problem("sink.commit_interval", "must be from 10ms to 10s"));
        }
        if sink.delivery == Delivery::ExactlyOnce && sink.acks != Acks::All {
            let text = "exactly-once needs `all`; or choose `delivery: at-least-once`";
            found.push(problem("sink.acks", text));
        }
        if sink.heartbeat_topic == Switch::On {
            if sink.format == crate::Format::MaxwellJson {
                let text = "maxwell-json has no heartbeats; leave it out, or use `watermark_topic`";
                found.push(problem("sink.heartbeat_topic", text));
            }
            if self.source.heartbeat_interval.0 < Duration::from_millis(100) {
                let text = "must be at least 100ms for `sink.heartbeat_topic`";
                found.push(problem("source.heartbeat_interval", text));
            }
        }
        for (key, text) in sink.format_options.misplaced(sink.format) {
            found.push(problem(&format!("sink.format_options.{key}"), text));
        }
        match &sink.registry {
            Some(registry) => registry.check(found),
            None if sink.format.needs_registry() => {
                found.push(problem("sink.registry", "is required for this format, with its `url`"));
            }
            None => {}
        }
    }

    fn check_retry(&self, found: &mut Vec<Problem>) {
        let minutes =
            |from: u64, to: u64| Duration::from_secs(60 * from)..=Duration::from_secs(60 * to);
        if !minutes(10, 1440).contains(&self.retry.connection.0) {
            found.push(problem("retry.connection", "must be from 10m to 1440m"));
        }
        if !minutes(1, 1440).contains(&self.retry.other.0) {
            found.push(problem("retry.other", "must be from 1m to 1440m"));
        } else if self.retry.connection.0 <= self.retry.other.0 {
            found.push(problem("retry.other", "must be less than `retry.connection`"));
        }
    }

    /// Secrets whose value stands in the spec, by path.
    #[must_use]
    pub fn literal_secrets(&self) -> Vec<String> {
        crate::secret::literals(self.secrets())
    }

    /// Settings that a cluster cannot carry out yet.
    #[must_use]
    pub fn unsupported_in_cluster(&self) -> Vec<Problem> {
        let text = "several streams are carried by `distributary run` only, in one process, and not by a cluster yet: \
                    leave it out, or run the task with `distributary run`";
        let is_several = 1 < self.source.streams;
        is_several.then(|| problem("source.streams", text)).into_iter().collect()
    }

    /// Settings that this release reads but cannot carry out yet, or not without another one. Nothing is ignored in silence.
    #[must_use]
    pub fn unsupported(&self) -> Vec<Problem> {
        let sink = &self.sink;
        let mut found = Vec::new();
        if sink.registry.is_some() && !sink.format.needs_registry() {
            let text = "is not carried out by this release; leave it out";
            found.push(problem("sink.registry", text));
        }
        if sink.new_partitions == NewPartitions::Switch {
            // Which keys move, and behind what, only a seal of all lanes could say.
            let text = "`switch` is not carried out by this release: choose `pin`, which goes on in the partitions that the \
                        task began with, or `park`, which stops; a run with --reseed begins anew in all of them";
            found.push(problem("sink.new_partitions", text));
        }
        self.check_masks(&mut found);
        for (index, object) in self.objects.iter().enumerate() {
            let is_judged = object.condition.as_ref().is_some_and(|text| !text.is_empty());
            if is_judged && self.source.sql_ascii != "fail" {
                // Texts are judged as they are written, and the server judges bytes.
                let text = "cannot be judged where `source.sql_ascii` rewrites texts; leave out one of them";
                found.push(problem(&format!("objects[{index}].where"), text));
            }
        }
        found
    }
}

impl Object {
    fn check(&self, path: &str, found: &mut Vec<Problem>) {
        if let Err(error) = TablePattern::parse(&self.table) {
            found.push(problem(&format!("{path}.table"), error.to_string()));
        }
        if self.partitions.is_some_and(|partitions| partitions < 1) {
            found.push(problem(&format!("{path}.partitions"), "must be at least 1"));
        }
        if self.publication_filter && self.condition.as_ref().is_none_or(String::is_empty) {
            let text = "needs a condition: set `where`, or leave it out";
            found.push(problem(&format!("{path}.publication_filter"), text));
        }
        if let Some(topic) = &self.topic {
            check_template(&format!("{path}.topic"), topic, found);
        }
    }
}
