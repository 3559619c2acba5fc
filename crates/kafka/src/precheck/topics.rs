//! The task's topics and its internal ones: what is there, and whether it fits.

use super::brokers::Copies;
use super::{WantedTopic, failed, listed};
use crate::Error;
use crate::names::Names;
use crate::topics::{Admin, Config, Internal, NewTopic};
use config::precheck::Item;
use config::{Acks, ConflictingTopics, Oversize};
use rdkafka::metadata::Metadata;
use std::collections::BTreeMap;

/// Missing topics that brokers are asked for.
const TOPICS_ASKED_MAX: usize = 100;
/// A row as a record, of the bytes that it takes in its table: names, positions and the state before it.
const GROWTH: u64 = 2;
const MILLIS_PER_HOUR: i64 = 3_600_000;
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
    /// Copies in step now, of the partition that has the fewest.
    in_sync: usize,
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
            let in_sync = topic.partitions().iter().map(|it| it.isr().len()).min();
            let (replicas, in_sync) = (replicas.unwrap_or_default(), in_sync.unwrap_or_default());
            let found = Existing { partitions, replicas, in_sync, config: Config::new() };
            existing.insert(topic.name().to_owned(), found);
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
            or_failed("sink.topics", self.missing()),
            self.partitions(),
            or_failed("sink.conflicting-topics", self.conflicts()),
            self.sizes(),
            self.in_sync(),
            self.unclean(),
            self.space(),
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
            let refused = self.admin.refuses_internal(&Internal::checkpoints(self.names))?;
            let seen = format!("`{name}` will be created");
            return Ok(refused.map_or(Item::pass(NAME, seen), |error| failed(NAME, &error)));
        }
        self.admin.verify_internal(&Internal::checkpoints(self.names))?;
        Ok(Item::pass(NAME, format!("`{name}` exists and is kept as it must be")))
    }

    /// The largest record that a topic takes, where it exists; `None` inside: that may not be seen.
    pub(super) fn limit(&self, topic: &str) -> Option<Option<u64>> {
        self.existing.get(topic).map(|it| number(&it.config, "max.message.bytes"))
    }

    /// The topics that exist: their names, and the largest record that each takes.
    pub(super) fn limits(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        self.existing
            .iter()
            .map(|(name, it)| (name.as_str(), number(&it.config, "max.message.bytes")))
    }

    fn missing(&self) -> Result<Item, Error> {
        const NAME: &str = "sink.topics";
        let missing: Vec<&str> = self
            .wanted
            .iter()
            .map(|topic| &*topic.name)
            .filter(|name| !self.existing.contains_key(*name))
            .collect();
        let there = self.wanted.len() - missing.len();
        if missing.is_empty() {
            return Ok(Item::pass(NAME, format!("all {there} topics exist")));
        }
        if self.task.sync.schema {
            let seen = format!("{there} topics exist, {} will be created", missing.len());
            return Ok(self.refused(&missing)?.unwrap_or_else(|| Item::pass(NAME, seen)));
        }
        let remedy = "create them, or set `sync.schema: true` so that the task does";
        let seen = format!("{} do not exist: {}", missing.len(), listed(missing));
        Ok(Item::fail(NAME, seen, remedy))
    }

    /// What the brokers would answer to whoever made these topics: they are asked without making any.
    fn refused(&self, missing: &[&str]) -> Result<Option<Item>, Error> {
        const NAME: &str = "sink.topics";
        let sink = &self.task.sink;
        let made = |name: &&str| NewTopic {
            name: (*name).to_owned(),
            partitions: self
                .wanted
                .iter()
                .find(|it| it.name == **name)
                .map_or(1, |it| it.partitions),
            replication_factor: sink.replication_factor,
            config: sink.topic_config.clone(),
        };
        let asked: Vec<NewTopic> = missing.iter().take(TOPICS_ASKED_MAX).map(made).collect();
        let refused = self.admin.refused(&asked)?;
        let Some((_, first)) = refused.first() else { return Ok(None) };
        let remedy = if matches!(first, Error::NotAuthorized { .. }) {
            format!(
                "kafka-acls.sh --add --allow-principal User:{} --operation Create --operation Describe \
                 --operation Write --topic … (or `--topic PREFIX --resource-pattern-type prefixed`), or \
                 create them",
                sink.security.user.as_deref().unwrap_or("…")
            )
        } else {
            "correct `sink.topic_config`, `sink.replication_factor` or `partitions`".to_owned()
        };
        let names = listed(refused.iter().map(|(name, _)| name.as_str()));
        let seen = format!("cannot be created: {names}: {first}");
        Ok(Some(Item::fail(NAME, seen, remedy)))
    }

    /// Whether brokers would take records with `acks: all` now.
    fn in_sync(&self) -> Item {
        const NAME: &str = "sink.in-sync";
        let short = |(topic, it): (&String, &Existing)| {
            let wanted = number(&it.config, "min.insync.replicas")?;
            let found = u64::try_from(it.in_sync).unwrap_or(u64::MAX);
            (found < wanted).then(|| format!("`{topic}` has {found} copies in step of {wanted}"))
        };
        let short: Vec<String> = match self.task.sink.acks {
            Acks::All => self.existing.iter().filter_map(short).collect(),
            Acks::Zero | Acks::One => Vec::new(),
        };
        if short.is_empty() {
            return Item::pass(NAME, "as many copies are in step as records need");
        }
        let remedy = "start the brokers that are down, or kafka-configs.sh --alter --entity-type topics \
                      --entity-name … --add-config min.insync.replicas=…";
        let seen = listed(short.iter().map(|it| &**it));
        Item { may_pass: true, ..Item::warning(NAME, seen, remedy) }
    }

    fn unclean(&self) -> Item {
        const NAME: &str = "sink.unclean-election";
        let is_unclean = |it: &Existing| {
            it.config.get("unclean.leader.election.enable").is_some_and(|value| value == "true")
        };
        let found: Vec<&str> = self
            .existing
            .iter()
            .filter(|(_, it)| is_unclean(it))
            .map(|(topic, _)| topic.as_str())
            .collect();
        if found.is_empty() {
            return Item::pass(NAME, "no topic lets an out-of-date broker become leader");
        }
        let remedy = "kafka-configs.sh --alter --entity-type topics --entity-name … --add-config \
                      unclean.leader.election.enable=false";
        let seen = format!("an out-of-date broker may become leader of {}", listed(found));
        Item::warning(NAME, seen, remedy)
    }

    /// What the copy of the tables takes, roughly, against what retention keeps.
    fn space(&self) -> Item {
        const NAME: &str = "sink.space";
        let of_topic = |topic: &WantedTopic, name: &str| {
            let spec = || self.task.sink.topic_config.get(name);
            let existing = self.existing.get(&topic.name);
            existing
                .map_or_else(spec, |it| it.config.get(name))
                .and_then(|it| it.parse::<i64>().ok())
        };
        let mut short = Vec::new();
        let (mut bytes, mut hours) = (0_u64, None);
        for topic in self.wanted {
            let needed = topic.bytes.saturating_mul(GROWTH);
            bytes = bytes.saturating_add(needed);
            let partitions =
                self.existing.get(&topic.name).map_or(topic.partitions, |it| it.partitions);
            let kept = of_topic(topic, "retention.bytes")
                .and_then(|kept| u64::try_from(kept).ok())
                .map(|kept| kept.saturating_mul(u64::from(partitions.unsigned_abs())));
            if kept.is_some_and(|kept| kept < needed) {
                let (needed, kept) = (needed >> 20, kept.unwrap_or_default() >> 20);
                short.push(format!(
                    "`{}` needs about {needed} MiB and keeps {kept} MiB",
                    topic.name
                ));
            }
            let own = of_topic(topic, "retention.ms").filter(|millis| 0 <= *millis);
            hours = hours.into_iter().chain(own.map(|millis| millis / MILLIS_PER_HOUR)).min();
        }
        let hours = hours
            .map_or_else(String::new, |hours| format!("; the shortest retention is {hours} hours"));
        let seen = format!(
            "a copy of the tables takes about {} MiB for each replica, before compression{hours}",
            bytes >> 20
        );
        if short.is_empty() {
            return Item::pass(NAME, seen);
        }
        let seen = format!("{seen}; {}", listed(short.iter().map(|it| &**it)));
        let remedy = "raise `retention.bytes` of the topic (it holds for each partition), or set \
                      `cleanup.policy: compact`";
        Item::warning(NAME, seen, remedy)
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
