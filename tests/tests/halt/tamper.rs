//! What others do to the topics of a task.

use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;
use tests::deadline::await_true;
use tests::servers::Server;
use tests::topics::{self, admin, client, wait};

const LONGEST: Duration = Duration::from_secs(60);

/// A topic that is gone for everyone.
pub(crate) fn delete(kafka: &Server, topic: &str) {
    topics::remove(kafka, |name| name == topic);
}

/// Deletes a topic and makes an empty one of that name.
pub(crate) fn make_again(kafka: &Server, topic: &str, partitions: i32) {
    delete(kafka, topic);
    create(kafka, topic, partitions, &[]);
}

pub(crate) fn create(kafka: &Server, topic: &str, partitions: i32, config: &[(&str, &str)]) {
    let (admin, options) = admin(kafka);
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let new = config.iter().fold(new, |new, (key, value)| new.set(key, value));
    // The name of a topic that was just deleted is free a moment later.
    await_true("the topic made", LONGEST, || {
        wait(admin.create_topics([&new], &options)).expect("an answer").iter().all(Result::is_ok)
    });
    await_true("the topic shown", LONGEST, || {
        topics::list(kafka, |it| it == topic).get(topic) == Some(&partitions)
    });
}

pub(crate) fn grow(kafka: &Server, topic: &str, partitions: usize) {
    let (admin, options) = admin(kafka);
    let more = NewPartitions::new(topic, partitions);
    let results = wait(admin.create_partitions([&more], &options)).expect("an answer");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    await_true("the partitions shown", LONGEST, || {
        topics::list(kafka, |it| it == topic)[topic] as usize == partitions
    });
}

/// Removes all records that a partition holds now, as retention does.
pub(crate) fn expire(kafka: &Server, topic: &str, partition: i32) {
    let (admin, options) = admin(kafka);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::End).expect("a partition");
    let result = wait(admin.delete_records(&list, &options)).expect("an answer");
    for element in result.elements() {
        element.error().expect("records can be deleted");
    }
}

pub(crate) fn set(kafka: &Server, topic: &str, key: &str, value: &str) {
    let (admin, options) = admin(kafka);
    let alter = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
    let results = wait(admin.alter_configs([&alter], &options)).expect("an answer");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// A record of somebody else; no value: a tombstone.
pub(crate) fn write(kafka: &Server, topic: &str, partition: i32, key: &str, value: Option<&[u8]>) {
    let producer: BaseProducer = client(kafka).create().expect("a producer");
    let record = BaseRecord::<str, [u8]>::to(topic).partition(partition).key(key);
    let record = match value {
        Some(value) => record.payload(value),
        None => record,
    };
    producer.send(record).map_err(|(error, _)| error).expect("a record is queued");
    producer.flush(LONGEST).expect("a record is written");
}
