//! Lanes and the meta lane on a real broker: fencing, checkpoints, takeovers, what was taken away.

#[path = "kafka_lane/checks.rs"]
mod checks;
#[path = "kafka_lane/late_commit.rs"]
mod late_commit;
#[path = "kafka_lane/own_broker.rs"]
mod own_broker;
#[path = "kafka_lane/proxy.rs"]
mod proxy;
#[path = "kafka_lane/unfenced.rs"]
mod unfenced;

use kafka::meta::{MetaLane, MetaRecord, MetaState, SnapshotState, Watermark};
use kafka::names::{LaneId, Names};
use kafka::settings::Settings;
use kafka::sink::{CommitPoint, LaneSink, Opened};
use kafka::topics::Admin;
use rand::{RngCore, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use record::Record;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tests::reader::{Topics, count};
use tests::seed::unique;
use tests::servers::Server;
use tests::{deadline, topics};
use wal::{Lsn, Position};

const LANE: LaneId = LaneId::Lane(3);
/// Only there so that a test ends where a broker hangs.
const SOON: Duration = Duration::from_secs(90);

/// A task with one topic of three partitions.
struct Bench {
    kafka: Server,
    settings: Settings,
    names: Names,
    topic: String,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut config::Sink)) -> Self {
        Self::on(Server::start("kafka"), change)
    }

    fn on(kafka: Server, change: impl FnOnce(&mut config::Sink)) -> Self {
        let task = format!("lane_{}", unique());
        let topic = format!("{task}.rows");
        topics::create(&kafka, &topic, 3);
        let mut spec = config::Task { task: task.clone(), ..config::Task::default() };
        spec.sink.brokers = vec![kafka.address.clone()];
        change(&mut spec.sink);
        let settings = Settings::new(&spec, Path::new(".")).expect("valid settings");
        let names = Names::new("distributary", &task).expect("valid names");
        let admin = Admin::new(&settings).expect("a client");
        admin.ensure_internal(&names).expect("the checkpoint topic");
        Self { kafka, settings, names, topic }
    }

    fn spec(&self) -> config::Task {
        let mut spec = config::Task { task: self.names.task().into(), ..config::Task::default() };
        spec.sink.brokers = vec![self.kafka.address.clone()];
        spec
    }

    fn open(&self) -> Result<(Box<dyn LaneSink>, Opened), kafka::Error> {
        kafka::open(&self.settings, &self.names, LANE, 1, &[])
    }

    fn opened(&self) -> (Box<dyn LaneSink>, Opened) {
        self.open().expect("the lane opens")
    }

    fn send(&self, lane: &mut dyn LaneSink, key: &str) -> Result<(), kafka::Error> {
        lane.send(&Record {
            topic: &self.topic,
            partition: 1,
            key: Some(key.as_bytes()),
            value: Some(b"{}"),
            headers: &[("distributary.seq", b"7")],
            timestamp_ms: 1_709_605_230_500,
        })
    }

    /// A commit returns before its markers are in the log: a reader may come in between.
    fn assert_keys(&self, expected: &[&str]) {
        let enough = || Some(self.keys()).filter(|keys| expected.len() <= keys.len());
        let keys = deadline::await_some("committed records", SOON, enough);
        assert_eq!(keys, expected);
    }

    fn keys(&self) -> Vec<String> {
        let topics = Topics::read(&self.kafka, &self.topic);
        let key = |record: &tests::reader::Record| {
            String::from_utf8(record.key.clone().unwrap_or_default()).expect("UTF-8")
        };
        topics.of(&self.topic).map(key).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let (task, topic) = (self.names.task().to_owned(), self.topic.clone());
        topics::delete(&self.kafka, |name| name == topic || name.contains(&task));
    }
}

fn point(commit_lsn: u64, ordinal: u64) -> CommitPoint {
    CommitPoint {
        position: Position { commit_lsn: Lsn(commit_lsn), ordinal },
        end_lsn: Lsn(commit_lsn + 8),
        complete: true,
        sealed: false,
        counted: 0,
    }
}

#[test]
fn records_and_checkpoint_come_together_and_survive_the_owner() {
    let bench = Bench::new();
    let (mut lane, first) = bench.opened();
    assert_eq!((first.checkpoint.clone(), first.position()), (None, Position::ZERO));
    bench.send(lane.as_mut(), "a").expect("sent");
    assert_eq!(lane.commit(&point(50, 3)).expect("committed").txn_seq, 1);
    bench.send(lane.as_mut(), "b").expect("sent");
    assert_eq!(lane.commit(&point(60, 0)).expect("committed").txn_seq, 2);
    drop(lane);
    let (mut lane, second) = bench.opened();
    assert!(first.term < second.term);
    let checkpoint = second.checkpoint.clone().expect("a checkpoint");
    assert_eq!(second.position(), point(60, 0).position);
    assert_eq!((checkpoint.txn_seq, second.end_lsn()), (2, Lsn(68)));
    assert_eq!(checkpoint.prev_end[&bench.topic].len(), 1);
    bench.send(lane.as_mut(), "c").expect("sent");
    assert_eq!(lane.commit(&point(70, 0)).expect("committed").txn_seq, 3);
    bench.assert_keys(&["a", "b", "c"]);
}

#[test]
fn headers_time_and_tombstones_arrive() {
    let bench = Bench::new();
    let (mut lane, _) = bench.opened();
    bench.send(lane.as_mut(), "a").expect("sent");
    let (topic, key) = (bench.topic.as_str(), Some(b"a".as_slice()));
    let tombstone = Record { topic, partition: 1, key, value: None, headers: &[], timestamp_ms: 5 };
    lane.send(&tombstone).expect("sent");
    lane.commit(&point(50, 0)).expect("committed");
    bench.assert_keys(&["a", "a"]);
    let topics = Topics::read(&bench.kafka, &bench.topic);
    let records: Vec<_> = topics.of(&bench.topic).collect();
    assert_eq!(records[0].header("distributary.seq").as_deref(), Some("7"));
    assert_eq!((&records[1].key, &records[1].value), (&Some(b"a".to_vec()), &None));
}

#[test]
fn a_new_owner_fences_the_old_one_and_hides_what_it_left_open() {
    let bench = Bench::new();
    let (mut old, _) = bench.opened();
    bench.send(old.as_mut(), "old").expect("sent");
    let (mut new, opened) = bench.opened();
    assert_eq!(opened.position(), Position::ZERO);
    let error = old.commit(&point(50, 0)).expect_err("fenced");
    assert!(matches!(error, kafka::Error::Fenced { .. }), "{error}");
    let again = old.commit(&point(50, 0)).expect_err("of no more use");
    assert!(matches!(again, kafka::Error::Poisoned), "{again}");
    bench.send(new.as_mut(), "new").expect("sent");
    new.commit(&point(50, 0)).expect("committed");
    bench.assert_keys(&["new"]);
}

#[test]
fn clients_that_connect_beforehand_leave_the_owner_alone_and_see_all_that_it_has_done() {
    let bench = Bench::new();
    let (mut old, first) = bench.opened();
    kafka::ready::prepare(&bench.settings, &bench.names, LANE).wait(SOON);
    for (at, key) in [(50, "a"), (60, "b")] {
        bench.send(old.as_mut(), key).expect("sent");
        old.commit(&point(at, 0)).expect("not fenced");
    }
    bench.send(old.as_mut(), "left open").expect("sent");
    let (mut new, second) = bench.opened();
    assert!(first.term < second.term);
    assert_eq!(second.position(), point(60, 0).position, "what came after they had connected");
    let fenced = old.commit(&point(70, 0)).expect_err("fenced");
    assert!(matches!(fenced, kafka::Error::Fenced { .. }), "{fenced}");
    bench.send(new.as_mut(), "c").expect("sent");
    assert_eq!(new.commit(&point(80, 0)).expect("committed").txn_seq, 3);
    bench.assert_keys(&["a", "b", "c"]);
    // Whoever holds the meta lane is not disturbed either.
    let (mut meta, _) = meta(&bench);
    kafka::ready::prepare(&bench.settings, &bench.names, LaneId::Meta).wait(SOON);
    meta.write(&[MetaRecord::Watermark(watermark(80))]).expect("not fenced");
    let (_, state) = self::meta(&bench);
    assert_eq!(state.watermark, Some(watermark(80)));
    assert!(meta.write(&[MetaRecord::Watermark(watermark(90))]).is_err(), "fenced");
}

#[test]
fn clients_for_a_task_that_was_never_begun_make_no_topic() {
    let bench = Bench::new();
    let names = Names::new("never_begun", bench.names.task()).expect("valid names");
    kafka::ready::prepare(&bench.settings, &names, LANE).wait(SOON);
    let found = topics::list(&bench.kafka, |name| name == names.checkpoints());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_position_that_turns_back_is_refused() {
    let bench = Bench::new();
    let (mut lane, _) = bench.opened();
    bench.send(lane.as_mut(), "a").expect("sent");
    lane.commit(&point(50, 3)).expect("committed");
    bench.send(lane.as_mut(), "b").expect("sent");
    let error = lane.commit(&point(50, 2)).expect_err("refused");
    assert!(matches!(error, kafka::Error::CheckpointDiverged { .. }), "{error}");
    bench.assert_keys(&["a"]);
}

#[test]
fn a_topic_made_again_is_noticed() {
    let bench = Bench::new();
    let (mut lane, _) = bench.opened();
    bench.send(lane.as_mut(), "a").expect("sent");
    lane.commit(&point(50, 0)).expect("committed");
    drop(lane);
    topics::remove(&bench.kafka, |name| name == bench.topic);
    topics::create(&bench.kafka, &bench.topic, 3);
    let error = bench.open().err().expect("refused");
    assert!(matches!(error, kafka::Error::TopicTruncated { .. }), "{error}");
}

#[test]
fn a_topic_that_is_gone_is_noticed() {
    let bench = Bench::new();
    let (mut lane, _) = bench.opened();
    bench.send(lane.as_mut(), "a").expect("sent");
    lane.commit(&point(50, 0)).expect("committed");
    drop(lane);
    topics::remove(&bench.kafka, |name| name == bench.topic);
    let error = bench.open().err().expect("refused");
    assert!(matches!(error, kafka::Error::TopicTruncated { end: 0, .. }), "{error}");
}

/// Its records are in the log before ours: for a reader of committed records the topic ends there.
#[test]
fn an_open_transaction_of_a_stranger_is_no_truncation() {
    let bench = Bench::new();
    let stranger = stranger(&bench.kafka, &bench.names.task().replace("lane_", "stranger_"));
    stranger.begin_transaction().expect("begun");
    send_raw(&stranger, &bench.topic, "theirs");
    let (mut lane, _) = bench.opened();
    bench.send(lane.as_mut(), "ours").expect("sent");
    lane.commit(&point(50, 0)).expect("committed");
    drop(lane);
    assert!(bench.keys().is_empty(), "the stranger holds nothing back");
    assert_eq!(bench.opened().1.position(), point(50, 0).position);
    stranger.abort_transaction(SOON).expect("aborted");
    bench.assert_keys(&["ours"]);
}

/// As after a broker forgot to end the last transaction and the next one was aborted with its records.
#[test]
fn committed_records_that_an_abort_took_along_are_noticed() {
    let bench = Bench::new();
    let (mut lane, _) = bench.opened();
    bench.send(lane.as_mut(), "seen").expect("sent");
    lane.commit(&point(50, 0)).expect("committed");
    drop(lane);
    let seen = bench.opened().1.checkpoint.expect("a checkpoint");
    let stranger = stranger(&bench.kafka, &bench.names.task().replace("lane_", "stranger_"));
    stranger.begin_transaction().expect("begun");
    send_raw(&stranger, &bench.topic, "gone");
    stranger.abort_transaction(SOON).expect("aborted");
    bench.assert_keys(&["seen"]);

    let mut forged = kafka::checkpoint::Checkpoint { txn_seq: seen.txn_seq + 1, ..seen };
    // The record of the lane, the marker of its transaction, then the stranger's record.
    let end = forged.prev_end.get_mut(&bench.topic).and_then(|ends| ends.get_mut(&1));
    *end.expect("an end") += 2;
    let json = serde_json::to_string(&forged).expect("JSON");
    stranger.begin_transaction().expect("begun");
    let topic = bench.names.checkpoints();
    let record = BaseRecord::to(&topic).partition(LANE.partition()).key("c").payload(&json);
    stranger.send(record).map_err(|(error, _)| error).expect("queued");
    stranger.commit_transaction(SOON).expect("committed");
    let error = bench.open().err().expect("refused");
    assert!(matches!(error, kafka::Error::CommittedAborted { offset: 2, .. }), "{error}");
}

/// A transactional producer that is none of ours.
fn stranger(kafka: &Server, id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.address)
        .set("transactional.id", id)
        .set("retry.backoff.ms", "1000")
        .set("retry.backoff.max.ms", "1000")
        .create()
        .expect("a producer");
    producer.init_transactions(SOON).expect("initialised");
    producer
}

fn send_raw(producer: &BaseProducer, topic: &str, key: &str) {
    let record = BaseRecord::to(topic).partition(1).key(key).payload("{}");
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    deadline::await_true("delivery", SOON, || {
        producer.poll(Duration::ZERO);
        producer.in_flight_count() == 0
    });
}

#[test]
fn a_record_above_the_topics_limit_is_named() {
    let bench = Bench::new();
    let (mut lane, _) = bench.opened();
    // Nothing that a compression could make smaller.
    let mut value = vec![0; 2 << 20];
    rand::rngs::SmallRng::seed_from_u64(1).fill_bytes(&mut value);
    let record = Record {
        topic: &bench.topic,
        partition: 0,
        key: None,
        value: Some(&value),
        headers: &[],
        timestamp_ms: 1,
    };
    let failed = lane.send(&record).and_then(|()| lane.commit(&point(50, 0)));
    let error = failed.expect_err("refused");
    assert!(matches!(error, kafka::Error::RecordTooLarge { .. }), "{error}");
    assert_eq!(count(&bench.kafka, &bench.topic), 0);
}

#[test]
fn a_queue_that_is_full_makes_the_sender_wait() {
    let bench = Bench::new();
    let (mut lane, _) = bench.opened();
    // Several times what the client's queue holds.
    let value = vec![b'x'; 1 << 20];
    for number in 0..200_u32 {
        let key = number.to_string();
        let record = Record {
            topic: &bench.topic,
            partition: 1,
            key: Some(key.as_bytes()),
            value: Some(&value),
            headers: &[],
            timestamp_ms: 1,
        };
        lane.send(&record).expect("sent");
        assert!(lane.pending() <= 64, "{} records of 1 MiB in the queue", lane.pending());
    }
    lane.commit(&point(50, 0)).expect("committed");
    let numbers: Vec<String> = (0..200).map(|number: u32| number.to_string()).collect();
    bench.assert_keys(&numbers.iter().map(|it| &**it).collect::<Vec<_>>());
}

#[test]
fn every_compression_arrives() {
    use config::Compression::{Gzip, Lz4, None, Snappy, Zstd};
    for compression in [None, Lz4, Gzip, Snappy, Zstd] {
        let bench = Bench::with(|sink| sink.compression = compression);
        let (mut lane, _) = bench.opened();
        bench.send(lane.as_mut(), "a").expect("sent");
        lane.commit(&point(50, 0)).expect("committed");
        bench.assert_keys(&["a"]);
    }
}

fn meta(bench: &Bench) -> (MetaLane, MetaState) {
    MetaLane::open(&bench.settings, &bench.names).expect("the meta lane opens")
}

fn watermark(lsn: u64) -> Watermark {
    let lanes = vec![point(lsn, 1).position];
    Watermark {
        lsn: Lsn(lsn),
        system_id: 7,
        timeline: 1,
        lanes,
        history: Vec::new(),
        standby: false,
    }
}

#[test]
fn the_meta_lane_keeps_what_was_written_last() {
    let bench = Bench::new();
    let (mut lane, state) = meta(&bench);
    assert_eq!(state, MetaState::default());
    let snapshot = SnapshotState { id: "s".into(), done: true, lsn: Lsn(5), gap: None };
    let pin = MetaRecord::Pin { topic: "t".into(), partitions: 4 };
    let first = [MetaRecord::Watermark(watermark(10)), pin, MetaRecord::Snapshot(snapshot.clone())];
    lane.write(&first).expect("written");
    lane.write(&[MetaRecord::Watermark(watermark(20))]).expect("written");
    drop(lane);
    let (_, state) = meta(&bench);
    assert_eq!(state.watermark, Some(watermark(20)));
    assert_eq!(state.snapshot, Some(snapshot));
    assert_eq!(state.pins, BTreeMap::from([("t".to_owned(), 4)]));
}

#[test]
fn whoever_opens_the_meta_lane_owns_the_task_for_good() {
    let bench = Bench::new();
    let (mut old, _) = meta(&bench);
    let (mut new, _) = meta(&bench);
    for _ in 0..2 {
        let error = old.write(&[MetaRecord::Watermark(watermark(10))]).expect_err("fenced");
        assert!(matches!(error, kafka::Error::Fenced { .. }), "{error}");
    }
    new.write(&[MetaRecord::Watermark(watermark(20))]).expect("still the owner");
    drop((old, new));
    assert_eq!(meta(&bench).1.watermark, Some(watermark(20)));
}

#[test]
fn a_checkpoint_topic_that_could_lose_checkpoints_is_refused() {
    let bench = Bench::new();
    let name = "distributary.other_".to_owned() + &unique() + ".ckpt";
    topics::create(&bench.kafka, &name, 65);
    let task = name.trim_start_matches("distributary.").trim_end_matches(".ckpt");
    let names = Names::new("distributary", task).expect("valid names");
    let admin = Admin::new(&bench.settings).expect("a client");
    let error = admin.ensure_internal(&names).expect_err("refused").to_string();
    assert!(error.contains("cleanup.policy") && error.contains("compact"), "{error}");
    topics::delete(&bench.kafka, |topic| topic == name);
}

#[test]
fn a_broker_that_is_not_there_is_unreachable() {
    let mut spec = config::Task { task: "nowhere".into(), ..config::Task::default() };
    spec.sink.brokers = vec!["127.0.0.1:1".into()];
    let settings = Settings::new(&spec, Path::new(".")).expect("valid settings");
    let error = Admin::new(&settings)
        .and_then(|admin| admin.partitions(&["t".to_owned()]))
        .expect_err("nobody answers");
    assert!(matches!(error, kafka::Error::Unreachable { .. }), "{error}");
}

/// No timed claim: a lone transaction takes some milliseconds, and 100 ms in each would mean that the
/// binding's flush waits for its step. The quickest counts, since the machine may be busy.
#[test]
fn a_lone_transaction_does_not_wait_for_the_bindings_flush() {
    let bench = Bench::new();
    let (mut lane, _) = bench.opened();
    let mut took: Vec<Duration> = Vec::new();
    for lsn in 0..30 {
        let started = std::time::Instant::now();
        bench.send(lane.as_mut(), "a").expect("sent");
        lane.commit(&point(100 + lsn, 0)).expect("committed");
        took.push(started.elapsed());
    }
    took.sort();
    println!("lone transaction: median {:?}, longest {:?}", took[15], took[29]);
    assert!(took[0] < Duration::from_millis(100), "{took:?}");
}
