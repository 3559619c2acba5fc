//! Topics: made, counted and deleted.

use crate::servers::Server;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::{MetadataBroker, MetadataTopic};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::runtime::Builder;

/// Only there so that a test ends where a broker hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// Partition counts of the topics whose names pass.
///
/// # Panics
/// When the broker does not answer.
#[must_use]
pub fn list(kafka: &Server, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, i32> {
    let consumer: BaseConsumer = client(kafka).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(None, LONGEST).expect("metadata");
    let topic = |topic: &MetadataTopic| {
        let partitions = i32::try_from(topic.partitions().len()).expect("a partition count");
        (topic.name().to_owned(), partitions)
    };
    metadata.topics().iter().map(topic).filter(|(name, _)| wanted(name)).collect()
}

/// Numbers of the brokers that are there, and of those that hold replicas.
///
/// # Panics
/// When no broker answers.
#[must_use]
pub fn brokers(kafka: &Server) -> BTreeSet<i32> {
    let consumer: BaseConsumer = client(kafka).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(None, LONGEST).expect("metadata");
    let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    let holders = partitions.flat_map(|partition| partition.replicas().iter().copied());
    metadata.brokers().iter().map(MetadataBroker::id).chain(holders).collect()
}

/// Creates a topic.
///
/// # Panics
/// When the broker refuses.
pub fn create(kafka: &Server, name: &str, partitions: i32) {
    let (admin, options) = admin(kafka);
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
    // The name of one that was just deleted is free a moment later.
    crate::deadline::await_true("the topic created", LONGEST, || {
        let results = wait(admin.create_topics([&topic], &options)).expect("an answer");
        results.into_iter().all(|result| match result {
            Ok(_) => true,
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => false,
            Err((topic, code)) => panic!("{topic} cannot be created: {code}"),
        })
    });
    crate::deadline::await_true("the topic in the metadata", LONGEST, || {
        list(kafka, |topic| topic == name).contains_key(name)
    });
}

/// Changes one setting of a topic.
///
/// # Panics
/// When the broker refuses.
pub fn set(kafka: &Server, name: &str, key: &str, value: &str) {
    let (admin, options) = admin(kafka);
    let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
    let results = wait(admin.alter_configs([&change], &options)).expect("an answer");
    results.into_iter().for_each(|result| drop(result.expect("a setting of the topic")));
}

/// Deletes the topics whose names pass.
///
/// # Panics
/// When the broker refuses.
pub fn delete(kafka: &Server, doomed: impl Fn(&str) -> bool) {
    let names = list(kafka, doomed);
    let names: Vec<&str> = names.keys().map(String::as_str).collect();
    if names.is_empty() {
        return;
    }
    let (admin, options) = admin(kafka);
    let results = wait(admin.delete_topics(&names, &options)).expect("topics can be deleted");
    for result in results {
        if let Err((topic, code)) = result
            && code != RDKafkaErrorCode::UnknownTopicOrPartition
        {
            panic!("{topic} cannot be deleted: {code}");
        }
    }
}

/// Deletes the topics whose names pass, until no broker shows them: one shows a topic for a moment longer, and whoever
/// reads it then sees it whole.
///
/// # Panics
/// When the broker refuses, or shows them still.
pub fn remove(kafka: &Server, doomed: impl Fn(&str) -> bool) {
    delete(kafka, &doomed);
    crate::deadline::await_true("the topics gone from the metadata", LONGEST, || {
        list(kafka, &doomed).is_empty()
    });
}

/// What every client here begins with.
#[must_use]
pub fn client(kafka: &Server) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.address);
    config
}

/// A client for administration, and how long it waits.
///
/// # Panics
/// When the client cannot be made.
#[must_use]
pub fn admin(kafka: &Server) -> (AdminClient<DefaultClientContext>, AdminOptions) {
    let options =
        AdminOptions::new().operation_timeout(Some(LONGEST)).request_timeout(Some(LONGEST));
    (client(kafka).create().expect("an admin client"), options)
}

/// Waits for an answer.
///
/// # Panics
/// Without threads and sockets.
pub fn wait<T>(answer: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(answer)
}
