//! The reader sees what was committed, all of it, and nothing else: what every other suite rests
//! on.

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::Duration;
use tests::reader::{Topics, count};
use tests::seed::unique;
use tests::servers::Server;
use tests::topics;

const SOON: Duration = Duration::from_secs(90);

struct Bench {
    kafka: Server,
    topic: String,
}

impl Bench {
    fn new() -> Self {
        let kafka = Server::start("kafka");
        let topic = format!("reader_{}.t", unique());
        topics::create(&kafka, &topic, 3);
        Self { kafka, topic }
    }

    fn producer(&self, name: &str) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka.address)
            .set("transactional.id", format!("{}.{name}", self.topic))
            .create()
            .expect("a producer");
        producer.init_transactions(SOON).expect("a producer id");
        producer
    }

    /// Puts `rows` records into a transaction that is left open.
    fn begin(&self, producer: &BaseProducer, rows: i32, value: &str) {
        producer.begin_transaction().expect("a transaction");
        for row in 0..rows {
            let key = row.to_string();
            let record = BaseRecord::to(&self.topic).key(&key).payload(value).partition(row % 3);
            producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
            producer.poll(Duration::ZERO);
        }
        producer.flush(SOON).expect("the broker takes them");
    }

    fn values(&self, topics: &Topics) -> Vec<String> {
        let value = |record: &tests::reader::Record| {
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
        };
        let mut values: Vec<_> = topics.of(&self.topic).map(value).collect();
        values.sort();
        values.dedup();
        values
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        topics::delete(&self.kafka, |topic| topic == self.topic);
    }
}

#[test]
fn only_what_was_committed_is_read_and_all_of_it() {
    let bench = Bench::new();
    let producer = bench.producer("one");
    bench.begin(&producer, 5000, "committed");
    producer.commit_transaction(SOON).unwrap();
    bench.begin(&producer, 100, "aborted");
    producer.abort_transaction(SOON).unwrap();
    bench.begin(&producer, 7, "committed later");
    producer.commit_transaction(SOON).unwrap();
    // Nothing but markers and aborted records follows the last record that counts.
    bench.begin(&producer, 30, "aborted");
    producer.abort_transaction(SOON).unwrap();
    let topics = Topics::read(&bench.kafka, &bench.topic);
    assert_eq!(topics.partitions[&bench.topic], 3);
    assert_eq!(topics.records.len(), 5007);
    assert_eq!(bench.values(&topics), ["committed", "committed later"]);
    assert_eq!(count(&bench.kafka, &bench.topic), 5007);
    let all = Topics::read_uncommitted(&bench.kafka, &bench.topic);
    assert_eq!(all.records.len(), 5137);
}

#[test]
fn an_open_transaction_hides_what_follows_it_until_it_is_fenced() {
    let bench = Bench::new();
    let (open, other) = (bench.producer("open"), bench.producer("other"));
    bench.begin(&open, 3, "open");
    bench.begin(&other, 3, "behind it");
    other.commit_transaction(SOON).unwrap();
    assert_eq!(Topics::read(&bench.kafka, &bench.topic).records.len(), 0);
    // As a process that takes the place of a killed one does.
    drop(bench.producer("open"));
    let topics = Topics::read(&bench.kafka, &bench.topic);
    assert_eq!(bench.values(&topics), ["behind it"]);
}

#[test]
fn an_empty_topic_is_read_at_once() {
    let bench = Bench::new();
    let topics = Topics::read(&bench.kafka, &bench.topic);
    assert_eq!((topics.partitions.len(), topics.records.len()), (1, 0));
    assert_eq!(Topics::read(&bench.kafka, "no such topic").partitions.len(), 0);
}
