//! Topics: which exist, with how many partitions; creating and deleting them.

use crate::Error;
use crate::client::Watch;
use crate::error::is_missing_topic;
use crate::names::{CHECKPOINT_PARTITIONS, Names};
use crate::settings::Settings;
use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic as Wanted, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::util::Timeout;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const CALL_MAX: Duration = Duration::from_secs(15);
/// How long a created topic may take to show in the metadata.
const VISIBLE_MAX: Duration = Duration::from_secs(30);
/// Topics of one request: brokers refuse larger ones.
const TOPICS_PER_REQUEST: usize = 500;
/// More topics than this are looked up with one request for all.
const SINGLE_LOOKUPS_MAX: usize = 8;

/// Administration of topics. All calls block.
pub struct Admin {
    admin: AdminClient<Watch>,
    consumer: BaseConsumer<Watch>,
}

/// A topic to be created.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication_factor: i32,
    pub config: BTreeMap<String, String>,
}

impl Admin {
    /// Makes the clients; nothing is sent yet.
    ///
    /// # Errors
    /// Settings that no client can be made of.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let failed =
            |error: KafkaError| Error::from_kafka("making an administration client", &error);
        let config = settings.admin();
        Ok(Self {
            admin: config.create_with_context(Watch::default()).map_err(failed)?,
            consumer: config.create_with_context(Watch::default()).map_err(failed)?,
        })
    }

    /// Creates the checkpoint topic where it is missing, and checks how it is kept.
    ///
    /// # Errors
    /// When it cannot be created, or has settings under which checkpoints could be lost.
    pub fn ensure_internal(&self, names: &Names) -> Result<(), Error> {
        let name = names.checkpoints();
        let config = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", "1048576"),
            ("segment.ms", "3600000"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("unclean.leader.election.enable", "false"),
        ];
        if self.partitions(std::slice::from_ref(&name))?.get(&name) == Some(&None) {
            self.create(&[NewTopic {
                name: name.clone(),
                partitions: CHECKPOINT_PARTITIONS,
                replication_factor: -1,
                config: config.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            }])?;
        }
        self.verify_internal(&name)
    }

    fn verify_internal(&self, name: &str) -> Result<(), Error> {
        let unusable = |reason: String| Error::InternalTopic { topic: name.into(), reason };
        let found = self.partitions(&[name.to_owned()])?.get(name).copied().flatten();
        if found != Some(CHECKPOINT_PARTITIONS) {
            return Err(unusable(format!(
                "it has {} partitions instead of {CHECKPOINT_PARTITIONS}; it was made by something \
                 else: use another `sink.state_prefix`",
                found.unwrap_or_default()
            )));
        }
        let config = self.config(name)?;
        for (key, wanted) in
            [("cleanup.policy", "compact"), ("unclean.leader.election.enable", "false")]
        {
            if let Some(value) = config.get(key).filter(|value| *value != wanted) {
                return Err(unusable(format!(
                    "`{key}` is `{value}`, under which checkpoints can be lost; set it to `{wanted}`"
                )));
            }
        }
        Ok(())
    }

    /// Settings of a topic.
    pub(crate) fn config(&self, topic: &str) -> Result<BTreeMap<String, String>, Error> {
        let doing = format!("reading the settings of topic `{topic}`");
        let asked = [ResourceSpecifier::Topic(topic)];
        let answers = block_on(self.admin.describe_configs(&asked, &options()))
            .map_err(|error| self.explain(&doing, &error))?;
        let mut config = BTreeMap::new();
        for answer in answers {
            let answer =
                answer.map_err(|code| Error::from_code(&doing, code, &code.to_string()))?;
            let entries = answer.entries.into_iter();
            config.extend(entries.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(config)
    }

    /// Number of partitions of each topic; `None`: it does not exist.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn partitions(&self, topics: &[String]) -> Result<BTreeMap<String, Option<i32>>, Error> {
        let mut found: BTreeMap<String, Option<i32>> =
            topics.iter().map(|topic| (topic.clone(), None)).collect();
        let mut note = |metadata: &Metadata| -> Result<(), Error> {
            for topic in metadata.topics() {
                let Some(count) = found.get_mut(topic.name()) else { continue };
                match topic.error().map(RDKafkaErrorCode::from) {
                    None => *count = i32::try_from(topic.partitions().len()).ok(),
                    Some(code) if is_missing_topic(code) => {}
                    Some(code) => {
                        let doing = format!("looking up topic `{}`", topic.name());
                        return Err(Error::from_code(&doing, code, &code.to_string()));
                    }
                }
            }
            Ok(())
        };
        if topics.len() <= SINGLE_LOOKUPS_MAX {
            for topic in topics {
                note(&self.metadata(Some(topic))?)?;
            }
        } else {
            note(&self.metadata(None)?)?;
        }
        Ok(found)
    }

    pub(crate) fn metadata(&self, topic: Option<&str>) -> Result<Metadata, Error> {
        self.consumer.fetch_metadata(topic, CALL_MAX).map_err(|error| {
            // What the library says on its own names the cause; the call only times out.
            match self.consumer.client().context().take_trouble() {
                Some((code, reason)) => Error::from_code("reading metadata", code, &reason),
                None => Error::from_kafka("reading metadata", &error),
            }
        })
    }

    /// Creates topics and waits until the brokers show them. One that exists already is left alone.
    ///
    /// # Errors
    /// When a topic cannot be created.
    pub fn create(&self, topics: &[NewTopic]) -> Result<(), Error> {
        for some in topics.chunks(TOPICS_PER_REQUEST) {
            let wanted: Vec<Wanted<'_>> = some.iter().map(NewTopic::as_wanted).collect();
            let answers = block_on(self.admin.create_topics(&wanted, &options()))
                .map_err(|error| self.explain("creating topics", &error))?;
            for answer in answers {
                match answer {
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, code)) => {
                        let doing = format!("creating topic `{topic}`");
                        return Err(Error::from_code(&doing, code, &code.to_string()));
                    }
                }
            }
        }
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        self.wait_until(&names, |found| found.is_some())
    }

    /// Deletes topics and waits until they are gone. One that does not exist is left alone.
    ///
    /// # Errors
    /// When a topic cannot be deleted.
    pub fn delete(&self, topics: &[String]) -> Result<(), Error> {
        for some in topics.chunks(TOPICS_PER_REQUEST) {
            let names: Vec<&str> = some.iter().map(String::as_str).collect();
            let answers = block_on(self.admin.delete_topics(&names, &options()))
                .map_err(|error| self.explain("deleting topics", &error))?;
            for answer in answers {
                match answer {
                    Ok(_) => {}
                    Err((_, code)) if is_missing_topic(code) => {}
                    Err((topic, code)) => {
                        let doing = format!("deleting topic `{topic}`");
                        return Err(Error::from_code(&doing, code, &code.to_string()));
                    }
                }
            }
        }
        self.wait_until(topics, |found| found.is_none())
    }

    fn wait_until(&self, topics: &[String], done: fn(Option<i32>) -> bool) -> Result<(), Error> {
        let until = Instant::now() + VISIBLE_MAX;
        while !self.partitions(topics)?.values().all(|&found| done(found)) {
            if until < Instant::now() {
                return Err(Error::Unreachable {
                    doing: "changing topics".into(),
                    reason: "the brokers do not show the change in time".into(),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Whether a topic holds no records. One that does not exist holds none.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn is_empty(&self, topic: &str) -> Result<bool, Error> {
        let count = self.partitions(&[topic.to_owned()])?.get(topic).copied().flatten();
        for partition in 0..count.unwrap_or_default() {
            let (low, high) =
                self.consumer.fetch_watermarks(topic, partition, CALL_MAX).map_err(|error| {
                    Error::from_kafka(&format!("asking where topic `{topic}` ends"), &error)
                })?;
            if low < high {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn explain(&self, doing: &str, error: &KafkaError) -> Error {
        match self.admin.inner().context().take_trouble() {
            Some((code, reason)) => Error::from_code(doing, code, &reason),
            None => Error::from_kafka(doing, error),
        }
    }
}

impl NewTopic {
    fn as_wanted(&self) -> Wanted<'_> {
        let replication = TopicReplication::Fixed(self.replication_factor);
        let wanted = Wanted::new(&self.name, self.partitions, replication);
        self.config.iter().fold(wanted, |wanted, (key, value)| wanted.set(key, value))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(Timeout::After(CALL_MAX)))
        .operation_timeout(Some(Timeout::After(CALL_MAX)))
}
