//! Topics: which exist, with how many partitions; creating and deleting them.

use crate::Error;
use crate::client::Watch;
use crate::error::is_missing_topic;
use crate::lookup::Lookup;
use crate::names::{CHECKPOINT_PARTITIONS, Names};
use crate::precheck::{IN_SYNC_MIN, REPLICAS_MIN, is_weak};
use crate::settings::{CONNECT_MAX, Settings};
use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResourceResult, NewPartitions, NewTopic as Wanted,
    OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::util::Timeout;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const CALL_MAX: Duration = Duration::from_secs(15);
/// How long a created topic may take to show in the metadata.
const VISIBLE_MAX: Duration = Duration::from_secs(30);
/// How long a broker may know less than another one: a topic that it does not show for so long is gone.
const BEHIND_MAX: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Topics of one request: brokers refuse larger ones.
const TOPICS_PER_REQUEST: usize = 500;

/// A topic that is ours, and how it must be kept.
pub(crate) struct Internal {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    /// What it holds, for messages.
    pub(crate) holds: &'static str,
    /// What to do where something else has made it.
    pub(crate) remedy: &'static str,
    /// Made with three copies, two in step, where there are as many brokers; otherwise as the brokers
    /// make topics.
    pub(crate) copied: bool,
}

/// Settings of a topic or a broker.
pub(crate) type Config = BTreeMap<String, String>;

/// Administration of topics. All calls block.
pub struct Admin {
    admin: AdminClient<Watch>,
    lookup: Lookup,
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
        let admin = settings
            .admin()
            .create_with_context(Watch::default())
            .map_err(|error| Error::from_kafka("making an administration client", &error))?;
        Ok(Self { admin, lookup: Lookup::new(settings)? })
    }

    /// As [`Self::new`], and asks for the brokers already. What is wrong is told by the call that needs them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn connected(settings: &Settings) -> Result<Self, Error> {
        let this = Self::new(settings)?;
        let _ = this.lookup.try_metadata(CONNECT_MAX);
        Ok(this)
    }

    /// The id of the cluster.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn cluster_id(&self) -> Result<String, Error> {
        self.lookup.cluster_id()
    }

    pub(crate) fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// Creates the checkpoint topic where it is missing, and checks how it is kept.
    ///
    /// # Errors
    /// When it cannot be created, or has settings under which checkpoints could be lost.
    pub fn ensure_internal(&self, names: &Names) -> Result<(), Error> {
        self.ensure(&Internal::checkpoints(names))
    }

    /// Creates an internal topic where it is missing, and checks how it is kept.
    pub(crate) fn ensure(&self, topic: &Internal) -> Result<(), Error> {
        let name = &topic.name;
        let is_new = self.partitions(std::slice::from_ref(name))?.get(name) == Some(&None);
        if is_new {
            let brokers = self.lookup.metadata(Some(name))?.brokers().len();
            self.create(&[topic.made_new(brokers)])?;
        }
        let until = Instant::now() + VISIBLE_MAX;
        loop {
            match self.verify_internal(topic) {
                // One broker shows it, and another one that is asked next may not yet.
                Err(Error::TopicMissing { .. } | Error::Client { .. })
                    if is_new && Instant::now() < until =>
                {
                    std::thread::sleep(LOOK_AGAIN);
                }
                verified => return verified,
            }
        }
    }

    /// Creates the topic of low watermarks, or of transactions, where it is missing. It is for consumers: how long it
    /// keeps them is theirs to say.
    pub(crate) fn ensure_told(&self, name: &str) -> Result<(), Error> {
        let topics = [name.to_owned()];
        let found = || Ok::<_, Error>(self.partitions(&topics)?.get(name).copied().flatten());
        if found()?.is_none() {
            let (name, config) = (name.to_owned(), BTreeMap::new());
            self.create(&[NewTopic { name, partitions: 1, replication_factor: -1, config }])?;
        }
        match found()? {
            Some(1) | None => Ok(()),
            Some(partitions) => {
                let reason = format!(
                    "it has {partitions} partitions instead of 1, in which nothing has an order; it \
                     was made by something else: use another `sink.state_prefix`"
                );
                Err(Error::InternalTopic { topic: name.to_owned(), reason })
            }
        }
    }

    /// Checks how an internal topic is kept.
    pub(crate) fn verify_internal(&self, topic: &Internal) -> Result<(), Error> {
        let Internal { name, partitions, holds, remedy, .. } = topic;
        let unusable = |reason: String| Error::InternalTopic { topic: name.clone(), reason };
        let found = self.partitions(std::slice::from_ref(name))?.get(name).copied().flatten();
        let Some(found) = found else { return Err(Error::TopicMissing { topic: name.clone() }) };
        if found != *partitions {
            return Err(unusable(format!(
                "it has {found} partitions instead of {partitions}; it was made by something else: {remedy}"
            )));
        }
        let config = self.config(name)?;
        for (key, wanted) in
            [("cleanup.policy", "compact"), ("unclean.leader.election.enable", "false")]
        {
            if let Some(value) = config.get(key).filter(|value| *value != wanted) {
                return Err(unusable(format!(
                    "`{key}` is `{value}`, under which {holds} can be lost; set it to `{wanted}`"
                )));
            }
        }
        Ok(())
    }

    /// Whether a lost broker can lose what a topic has acknowledged.
    pub(crate) fn is_weak(&self, topic: &str) -> Result<bool, Error> {
        let in_sync_min = self.config(topic)?.get("min.insync.replicas").cloned();
        let metadata = self.lookup.metadata(Some(topic))?;
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let replicas = partitions.map(|it| it.replicas().len()).min().unwrap_or_default();
        Ok(is_weak(replicas, in_sync_min.and_then(|it| it.parse().ok())))
    }

    /// `max.message.bytes` of a topic; `None`: the brokers do not say.
    pub(crate) fn record_bytes_max(&self, topic: &str) -> Result<Option<u64>, Error> {
        Ok(self.config(topic)?.get("max.message.bytes").and_then(|text| text.parse().ok()))
    }

    /// Makes sure that a topic has so many partitions at least: creates it, or adds to it, where
    /// `may_create`.
    ///
    /// # Errors
    /// [`Error::TopicMissing`] and [`Error::TooFewPartitions`], where nothing may be created; when the
    /// brokers refuse.
    pub fn ensure_partitions(&self, wanted: &NewTopic, may_create: bool) -> Result<(), Error> {
        let topic = wanted.name.clone();
        let found = self.partitions(std::slice::from_ref(&topic))?.get(&topic).copied().flatten();
        match found {
            Some(found) if wanted.partitions <= found => Ok(()),
            None if may_create => self.create(std::slice::from_ref(wanted)),
            None => Err(Error::TopicMissing { topic }),
            Some(_) if may_create => self.grow(wanted),
            Some(found) => Err(Error::TooFewPartitions { topic, found, wanted: wanted.partitions }),
        }
    }

    fn grow(&self, wanted: &NewTopic) -> Result<(), Error> {
        let doing = format!("adding partitions to topic `{}`", wanted.name);
        let count = usize::try_from(wanted.partitions).unwrap_or_default();
        let asked = [NewPartitions::new(&wanted.name, count)];
        let answers = block_on(self.admin.create_partitions(&asked, &options()))
            .map_err(|error| self.explain(&doing, &error))?;
        for answer in answers {
            if let Err((_, code)) = answer {
                return Err(Error::from_code(&doing, code, &code.to_string()));
            }
        }
        let has_grown = |found: Option<i32>| wanted.partitions <= found.unwrap_or_default();
        self.wait_until(&doing, std::slice::from_ref(&wanted.name), has_grown)
    }

    fn config(&self, topic: &str) -> Result<Config, Error> {
        Ok(self.configs(&[topic.to_owned()])?.remove(topic).unwrap_or_default())
    }

    /// Settings of topics that exist.
    pub(crate) fn configs(&self, topics: &[String]) -> Result<BTreeMap<String, Config>, Error> {
        let doing = "reading the settings of topics";
        let mut configs = BTreeMap::new();
        for some in topics.chunks(TOPICS_PER_REQUEST) {
            let asked: Vec<_> = some.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
            for (specifier, config) in self.describe(doing, &asked)? {
                if let OwnedResourceSpecifier::Topic(topic) = specifier {
                    configs.insert(topic, config);
                }
            }
        }
        Ok(configs)
    }

    /// Settings of a broker. Needs a right on the cluster that a task need not have.
    pub(crate) fn broker_config(&self, broker: i32) -> Result<Config, Error> {
        let asked = [ResourceSpecifier::Broker(broker)];
        let answers = self.describe("reading the settings of a broker", &asked)?;
        Ok(answers.into_iter().next().map(|(_, config)| config).unwrap_or_default())
    }

    fn describe(
        &self,
        doing: &str,
        asked: &[ResourceSpecifier<'_>],
    ) -> Result<Vec<(OwnedResourceSpecifier, Config)>, Error> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let answers = block_on(self.admin.describe_configs(asked, &options()))
            .map_err(|error| self.explain(doing, &error))?;
        let known = |answer: ConfigResourceResult| {
            let answer = answer.map_err(|code| Error::from_code(doing, code, &code.to_string()))?;
            let entries = answer.entries.into_iter();
            let config = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
            Ok((answer.specifier, config))
        };
        answers.into_iter().map(known).collect()
    }

    /// Number of partitions of each topic; `None`: it does not exist.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn partitions(&self, topics: &[String]) -> Result<BTreeMap<String, Option<i32>>, Error> {
        self.lookup.partitions(topics)
    }

    /// Checks that topics still have the partitions on which routing rests. More are not used: `may_grow` says whether
    /// there may be some.
    ///
    /// # Errors
    /// [`Error::TopicChanged`], [`Error::TopicGrown`]; when no broker answers.
    pub fn verify_pins(&self, pins: &BTreeMap<String, i32>, may_grow: bool) -> Result<(), Error> {
        let found = self.partitions_known(pins)?;
        let grown = || if may_grow { None } else { grown(pins, &found) };
        changed(pins, &found).or_else(grown).map_or(Ok(()), Err)
    }

    /// Checks that topics have no more partitions than routing rests on, for whoever does not want them unused.
    ///
    /// # Errors
    /// [`Error::TopicGrown`]; when no broker answers.
    pub fn verify_not_grown(&self, pins: &BTreeMap<String, i32>) -> Result<(), Error> {
        grown(pins, &self.partitions_known(pins)?).map_or(Ok(()), Err)
    }

    /// Of topics that were there: one that is not shown is asked for again, as another broker may know more.
    fn partitions_known(
        &self,
        pins: &BTreeMap<String, i32>,
    ) -> Result<BTreeMap<String, Option<i32>>, Error> {
        let topics: Vec<String> = pins.keys().cloned().collect();
        Ok(self.partitions_once(&topics, BEHIND_MAX, |found| found.is_some())?.0)
    }

    /// As [`Self::partitions`], once each is as it shall be, or it has taken too long; whether they are.
    fn partitions_once(
        &self,
        topics: &[String],
        longest: Duration,
        is: impl Fn(Option<i32>) -> bool,
    ) -> Result<(BTreeMap<String, Option<i32>>, bool), Error> {
        let until = Instant::now() + longest;
        loop {
            let found = self.partitions(topics)?;
            let are = found.values().all(|&found| is(found));
            if are || until < Instant::now() {
                return Ok((found, are));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
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
        self.wait_until("changing topics", &names, |found| found.is_some())
    }

    /// Those that the brokers would not create, and why. None is created.
    pub(crate) fn refused(&self, topics: &[NewTopic]) -> Result<Vec<(String, Error)>, Error> {
        let wanted: Vec<Wanted<'_>> = topics.iter().map(NewTopic::as_wanted).collect();
        let doing = "asking whether topics can be created";
        let answers = block_on(self.admin.create_topics(&wanted, &options().validate_only(true)))
            .map_err(|error| self.explain(doing, &error))?;
        let refused = |answer| match answer {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => None,
            Err((topic, code)) => {
                let doing = format!("creating topic `{topic}`");
                let error = Error::from_code(&doing, code, &code.to_string());
                Some((topic, error))
            }
        };
        Ok(answers.into_iter().filter_map(refused).collect())
    }

    /// Why the brokers would not create an internal topic; `None`: they would. It is not created.
    pub(crate) fn refuses_internal(&self, topic: &Internal) -> Result<Option<Error>, Error> {
        let brokers = self.lookup.metadata(Some(&topic.name))?.brokers().len();
        let refused = self.refused(&[topic.made_new(brokers)])?;
        Ok(refused.into_iter().next().map(|(_, error)| error))
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
        self.wait_until("changing topics", topics, |found| found.is_none())
    }

    fn wait_until(
        &self,
        doing: &str,
        topics: &[String],
        done: impl Fn(Option<i32>) -> bool,
    ) -> Result<(), Error> {
        if self.partitions_once(topics, VISIBLE_MAX, done)?.1 {
            return Ok(());
        }
        let reason = "the brokers do not show the change in time".into();
        Err(Error::Unreachable { doing: doing.into(), reason })
    }

    /// Whether a topic holds no records. One that does not exist holds none.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn is_empty(&self, topic: &str) -> Result<bool, Error> {
        Ok(self.lookup.with_records(&[topic.to_owned()])?.is_empty())
    }

    fn explain(&self, doing: &str, error: &KafkaError) -> Error {
        match self.admin.inner().context().take_trouble() {
            Some((code, reason)) => Error::from_code(doing, code, &reason),
            None => Error::from_kafka(doing, error),
        }
    }
}

fn changed(pins: &BTreeMap<String, i32>, found: &BTreeMap<String, Option<i32>>) -> Option<Error> {
    let mut changed = pins.iter().filter_map(|(topic, &pinned)| {
        let found = found.get(topic).copied().flatten();
        let topic = topic.clone();
        (found.unwrap_or_default() < pinned).then_some(Error::TopicChanged { topic, found, pinned })
    });
    changed.next()
}

fn grown(pins: &BTreeMap<String, i32>, found: &BTreeMap<String, Option<i32>>) -> Option<Error> {
    let mut grown = pins.iter().filter_map(|(topic, &pinned)| {
        let found = found.get(topic).copied().flatten().filter(|&found| pinned < found)?;
        Some(Error::TopicGrown { topic: topic.clone(), found, pinned })
    });
    grown.next()
}

impl Internal {
    pub(crate) fn checkpoints(names: &Names) -> Self {
        Self {
            name: names.checkpoints(),
            partitions: CHECKPOINT_PARTITIONS,
            holds: "checkpoints",
            remedy: "use another `sink.state_prefix`, or delete it and run with --reseed",
            copied: false,
        }
    }

    fn made_new(&self, brokers: usize) -> NewTopic {
        let config = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", "1048576"),
            ("segment.ms", "3600000"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("unclean.leader.election.enable", "false"),
        ];
        let mut config: Config =
            config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let mut replication_factor = -1;
        if self.copied && REPLICAS_MIN <= brokers {
            replication_factor = i32::try_from(REPLICAS_MIN).unwrap_or(replication_factor);
            config.insert("min.insync.replicas".into(), IN_SYNC_MIN.to_string());
        }
        let (name, partitions) = (self.name.clone(), self.partitions);
        NewTopic { name, partitions, replication_factor, config }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_grow_but_neither_shrink_nor_go() {
        let pins = BTreeMap::from([("orders".to_owned(), 4)]);
        let found = |count| changed(&pins, &BTreeMap::from([("orders".to_owned(), count)]));
        assert!(found(Some(4)).is_none());
        assert!(found(Some(9)).is_none());
        assert!(matches!(found(Some(3)), Some(Error::TopicChanged { found: Some(3), .. })));
        assert!(matches!(found(None), Some(Error::TopicChanged { found: None, pinned: 4, .. })));
        let text = found(None).expect("an error").to_string();
        assert!(text.contains("does not exist any more") && text.contains("--reseed"), "{text}");
    }

    #[test]
    fn more_partitions_are_noticed_and_fewer_are_another_matter() {
        let pins = BTreeMap::from([("orders".to_owned(), 4)]);
        let found = |count| grown(&pins, &BTreeMap::from([("orders".to_owned(), count)]));
        assert!(found(Some(4)).is_none() && found(Some(3)).is_none() && found(None).is_none());
        let text = found(Some(9)).expect("an error").to_string();
        assert!(text.contains("has 9 partitions") && text.contains("first 4"), "{text}");
    }
}
