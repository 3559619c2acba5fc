//! What a consumer with `read_committed` gets: every record of every partition, from the beginning
//! to the end.

use crate::servers::Server;
use crate::topics;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A record as it lies in Kafka.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Topics and everything in them.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Number of partitions.
    pub partitions: BTreeMap<String, i32>,
    /// In order inside each partition.
    pub records: Vec<Record>,
}

/// What a test may hold, in bytes of keys and values: beyond this the machine would end the test
/// without a word.
const HELD_MAX: usize = 2 << 30;
/// No partition is silent for longer: a broker that has anything to say says so at once.
const LONGEST: Duration = Duration::from_secs(90);
/// How long the markers of a committed transaction may take to reach every partition.
const MARKERS_MAX: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Topics {
    /// Reads the topics whose names begin with `prefix`, each partition to the end that it has when
    /// it is reached, which is not before this call.
    ///
    /// # Panics
    /// When the broker does not answer, or has more than a test should have written.
    #[must_use]
    pub fn read(kafka: &Server, prefix: &str) -> Self {
        Self::read_by(kafka, prefix, "read_committed")
    }

    /// The same with the records of transactions that were aborted or are open.
    ///
    /// # Panics
    /// When the broker does not answer.
    #[must_use]
    pub fn read_uncommitted(kafka: &Server, prefix: &str) -> Self {
        Self::read_by(kafka, prefix, "read_uncommitted")
    }

    fn read_by(kafka: &Server, prefix: &str, isolation: &str) -> Self {
        let partitions = topics::list(kafka, |topic| topic.starts_with(prefix));
        let mut records = Vec::new();
        let mut held = 0;
        let consumer = consumer(kafka, isolation);
        // One topic after the other: the client's end of a partition does not say of which topic.
        for (topic, &count) in &partitions {
            read_topic(&consumer, topic, count, |message| {
                held += message.key_len() + message.payload_len();
                assert!(held <= HELD_MAX, "{topic}: the topics hold more than a test can read");
                records.push(record(message));
            });
        }
        Self { partitions, records }
    }

    /// Records of one topic.
    pub fn of<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.topic == topic)
    }
}

impl Record {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.iter().find(|(header, _)| header == name);
        value.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// The value as JSON; null for a tombstone.
    ///
    /// # Panics
    /// When it is no JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Some(value) => serde_json::from_slice(value).expect("JSON"),
            None => serde_json::Value::Null,
        }
    }

    /// The key as JSON; null where there is none.
    ///
    /// # Panics
    /// When it is no JSON.
    #[must_use]
    pub fn key_json(&self) -> serde_json::Value {
        match &self.key {
            Some(key) => serde_json::from_slice(key).expect("JSON"),
            None => serde_json::Value::Null,
        }
    }
}

/// Waits until consumers of committed records see all that is in the topics whose names pass: a commit returns
/// before its markers are in the log. Nothing may be writing. Who waits in vain reads what is there: somebody
/// may hold a transaction open.
///
/// # Panics
/// When the broker does not answer.
pub fn await_settled(kafka: &Server, wanted: impl Fn(&str) -> bool) {
    let partitions = topics::list(kafka, wanted);
    // The broker would not answer about none.
    if partitions.is_empty() {
        return;
    }
    let [visible, written] = ["read_committed", "read_uncommitted"].map(|it| consumer(kafka, it));
    let begun = Instant::now();
    while begun.elapsed() < MARKERS_MAX {
        let seen = ends(&visible, &partitions);
        if seen.is_some() && seen == ends(&written, &partitions) {
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Where each partition ends; `None` where a broker does not say so yet.
fn ends(
    consumer: &BaseConsumer,
    partitions: &BTreeMap<String, i32>,
) -> Option<BTreeMap<(String, i32), Offset>> {
    let mut asked = TopicPartitionList::new();
    for (topic, &count) in partitions {
        for partition in 0..count {
            let added = asked.add_partition_offset(topic, partition, Offset::End);
            added.expect("a partition can be asked for");
        }
    }
    let told = consumer.offsets_for_times(asked, LONGEST).ok()?;
    let end = |it: TopicPartitionListElem<'_>| {
        it.error().is_ok().then(|| ((it.topic().to_owned(), it.partition()), it.offset()))
    };
    told.elements().into_iter().map(end).collect()
}

/// Number of records in a topic for a consumer with `read_committed`.
///
/// # Panics
/// When the broker does not answer.
#[must_use]
pub fn count(kafka: &Server, topic: &str) -> u64 {
    let partitions = topics::list(kafka, |name| name == topic);
    let mut records = 0;
    let count = partitions.get(topic).copied().unwrap_or_default();
    each(kafka, topic, count, |_| records += 1);
    records
}

/// Each record of a topic's partitions for a consumer with `read_committed`.
///
/// # Panics
/// When the broker does not answer.
pub(crate) fn each(
    kafka: &Server,
    topic: &str,
    partitions: i32,
    each: impl FnMut(&BorrowedMessage<'_>),
) {
    read_topic(&consumer(kafka, "read_committed"), topic, partitions, each);
}

pub(crate) fn consumer(kafka: &Server, isolation: &str) -> BaseConsumer {
    topics::client(kafka)
        .set("group.id", "distributary-tests")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "20")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer")
}

fn read_topic(
    consumer: &BaseConsumer,
    topic: &str,
    partitions: i32,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) {
    assign(consumer, topic, partitions);
    let mut open: BTreeSet<i32> = (0..partitions).collect();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => each(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            // The others of a cluster answer for a broker that is away.
            Some(Err(error)) if is_away(&error) && heard.elapsed() < LONGEST => continue,
            Some(Err(error)) => panic!("{topic} cannot be read: {error}"),
            None => {
                assert!(heard.elapsed() < LONGEST, "{topic} is silent in {open:?}");
                continue;
            }
        }
        heard = Instant::now();
    }
}

/// Reads a topic from its beginning.
pub(crate) fn assign(consumer: &BaseConsumer, topic: &str, partitions: i32) {
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a partition can be assigned");
    }
    consumer.assign(&assignment).expect("partitions can be assigned");
}

fn is_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, NotLeaderForPartition};
    error.rdkafka_error_code().is_some_and(|code| {
        [AllBrokersDown, BrokerTransportFailure, NotLeaderForPartition].contains(&code)
    })
}

fn record(message: &impl Message) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let header = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
        };
        headers.iter().map(header).collect()
    });
    Record {
        topic: message.topic().into(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
