//! The task's topics and its internal ones: what is there, and whether it fits.

use super::brokers::Copies;
use super::{WantedTopic, failed, listed};
use crate::Error;
use crate::names::Names;
use crate::topics::{Admin, Config, Internal};
use config::precheck::Item;
use config::{ConflictingTopics, Oversize};
use rdkafka::metadata::Metadata;
use std::collections::BTreeMap;

/// What a topic takes unless it was told otherwise.
const RECORD_BYTES_USUAL: u64 = 1 << 20;

pub(super) struct Topics<'a> {
    admin: &'a Admin,
    task: &'a config::Task,
    names: &'a Names,
    wanted: &'a [WantedTopic],
    /// The wanted ones and the checkpoint topic, if they exist.
    existing: BTreeMap<String, Existing>,
}

struct Existing {
    partitions: i32,
    replicas: usize,
    config: Config,
}

impl<'a> Topics<'a> {
    pub(super) fn new(
        admin: &'a Admin,
        metadata: &Metadata,
        task: &'a config::Task,
        names: &'a Names,
        wanted: &'a [WantedTopic],
    ) -> Result<Self, Error> {
        let mut existing = BTreeMap::new();
        let checkpoints = names.checkpoints();
        let is_ours = |name: &str| name == checkpoints || wanted.iter().any(|it| it.name == name);
        for topic in metadata.topics().iter().filter(|it| is_ours(it.name())) {
            if topic.partitions().is_empty() {
                continue;
            }
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            let replicas = topic.partitions().iter().map(|it| it.replicas().len()).min();
            let (replicas, config) = (replicas.unwrap_or_default(), Config::new());
            existing.insert(topic.name().to_owned(), Existing { partitions, replicas, config });
        }
        let topics: Vec<String> = existing.keys().cloned().collect();
        for (topic, config) in admin.configs(&topics)? {
            if let Some(existing) = existing.get_mut(&topic) {
                existing.config = config;
            }
        }
        Ok(Self { admin, task, names, wanted, existing })
    }

    pub(super) fn items(&self) -> Vec<Item> {
        let or_failed =
            |name, item: Result<Item, Error>| item.unwrap_or_else(|error| failed(name, &error));
        vec![
            or_failed("sink.internal-topics", self.internal()),
            self.missing(),
            self.partitions(),
            or_failed("sink.conflicting-topics", self.conflicts()),
            self.sizes(),
        ]
        .into_iter()
        .chain(self.compacted())
        .collect()
    }

    pub(super) fn existing(&self) -> Vec<Copies> {
        let copies = |(topic, it): (&String, &Existing)| Copies {
            topic: topic.clone(),
            replicas: it.replicas,
            in_sync_min: number(&it.config, "min.insync.replicas")
                .and_then(|it| u32::try_from(it).ok()),
        };
        self.existing.iter().map(copies).collect()
    }

    fn internal(&self) -> Result<Item, Error> {
        const NAME: &str = "sink.internal-topics";
        let name = self.names.checkpoints();
        if !self.existing.contains_key(&name) {
            return Ok(Item::pass(NAME, format!("`{name}` will be created")));
        }
        self.admin.verify_internal(&Internal::checkpoints(self.names))?;
        Ok(Item::pass(NAME, format!("`{name}` exists and is kept as it must be")))
    }

    fn missing(&self) -> Item {
        const NAME: &str = "sink.topics";
        let missing: Vec<&str> = self
            .wanted
            .iter()
            .map(|topic| &*topic.name)
            .filter(|name| !self.existing.contains_key(*name))
            .collect();
        let there = self.wanted.len() - missing.len();
        if missing.is_empty() {
            return Item::pass(NAME, format!("all {there} topics exist"));
        }
        if self.task.sync.schema {
            let seen = format!("{there} topics exist, {} will be created", missing.len());
            return Item::pass(NAME, seen);
        }
        let remedy = "create them, or set `sync.schema: true` so that the task does";
        let seen = format!("{} do not exist: {}", missing.len(), listed(missing));
        Item::fail(NAME, seen, remedy)
    }

    fn partitions(&self) -> Item {
        const NAME: &str = "sink.topic-partitions";
        let differ = |wanted: &WantedTopic| {
            let found = self.existing.get(&wanted.name)?.partitions;
            let (name, wanted) = (&wanted.name, wanted.partitions);
            (found != wanted).then(|| format!("`{name}` has {found} instead of {wanted}"))
        };
        let differ: Vec<String> = self.wanted.iter().filter_map(differ).collect();
        if differ.is_empty() {
            return Item::pass(NAME, "as the spec says");
        }
        let remedy = "what is there is used; correct `partitions` in the spec to silence this";
        Item::warning(NAME, listed(differ.iter().map(|it| &**it)), remedy)
    }

    /// Data of somebody else. A task that has run before finds its own.
    fn conflicts(&self) -> Result<Item, Error> {
        const NAME: &str = "sink.conflicting-topics";
        if self.task.sink.conflicting_topics == ConflictingTopics::Ignore {
            return Ok(Item::pass(NAME, "not looked for: `sink.conflicting_topics` is `ignore`"));
        }
        let there: Vec<String> = self.existing.keys().cloned().collect();
        let mut full = self.admin.lookup().with_records(&there)?;
        let checkpoints = self.names.checkpoints();
        if full.contains(&checkpoints) {
            return Ok(Item::pass(NAME, "the task has run before"));
        }
        full.retain(|topic| *topic != checkpoints);
        if full.is_empty() {
            return Ok(Item::pass(NAME, "no topic holds data of others"));
        }
        let names = listed(full.iter().map(|it| &**it));
        let seen = format!("{} topics hold data already: {names}", full.len());
        let remedy = "choose other topics (`sink.topic`), empty them, or set \
                      `sink.conflicting_topics: ignore`";
        Ok(Item::fail(NAME, seen, remedy))
    }

    /// Topics in which the parts of a large record would not last.
    fn compacted(&self) -> Option<Item> {
        if self.task.sink.oversize != Oversize::Chunk {
            return None;
        }
        let wanted = |topic: &String| self.wanted.iter().any(|it| it.name == *topic);
        let is_compacted = |it: &Existing| {
            it.config.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"))
        };
        let found: Vec<&str> = self
            .existing
            .iter()
            .filter(|(topic, it)| wanted(topic) && is_compacted(it))
            .map(|(topic, _)| &**topic)
            .collect();
        if found.is_empty() {
            return None;
        }
        let seen = format!(
            "parts of a large record have one key, and compaction keeps the last part only: {}",
            listed(found)
        );
        let remedy = "set `cleanup.policy=delete` for them, or another `sink.oversize`";
        Some(Item::fail("sink.oversize", seen, remedy))
    }

    fn sizes(&self) -> Item {
        const NAME: &str = "sink.message-size";
        let small = |(topic, it): (&String, &Existing)| {
            let limit = number(&it.config, "max.message.bytes")?;
            (limit < RECORD_BYTES_USUAL).then(|| format!("`{topic}` up to {limit} bytes"))
        };
        let small: Vec<String> = self.existing.iter().filter_map(small).collect();
        if small.is_empty() {
            return Item::pass(NAME, "topics take records of 1 MiB or more");
        }
        let remedy = "raise their `max.message.bytes`, or set `sink.oversize`, and \
                      `batch.size` in `sink.properties` below the smallest: many records are one batch";
        Item::warning(NAME, listed(small.iter().map(|it| &**it)), remedy)
    }
}

fn number(config: &Config, name: &str) -> Option<u64> {
    config.get(name)?.parse().ok()
}
