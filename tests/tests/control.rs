//! The control log on a real broker: one leader writes, every node reads, and nobody takes a role back.

use kafka::Error;
use kafka::control::{
    ControlEntry, ControlReader, ControlSettings, FENCE_KEY, Heartbeat, LEADER_KEY, LeaderFence,
    Leadership, ensure_control,
};
use rdkafka::admin::{NewTopic, TopicReplication};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tests::deadline::await_some;
use tests::seed::{say, unique};
use tests::servers::Server;
use tests::topics;

const SOON: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_millis(200);

/// A control log of its own.
struct Log {
    kafka: Server,
    settings: ControlSettings,
}

impl Log {
    fn new() -> Self {
        let log = Self::without_topic(Server::start("kafka"));
        ensure_control(&log.settings).expect("the control topic");
        log
    }

    fn without_topic(kafka: Server) -> Self {
        let (brokers, prefix) = ([kafka.address.clone()], format!("control_{}", unique()));
        let security = config::Security::default();
        let settings = ControlSettings::new(&brokers, &prefix, &security, Path::new("."));
        Self { kafka, settings: settings.expect("valid settings") }
    }

    fn take(&self, node: &str) -> (Leadership, Vec<ControlEntry>) {
        Leadership::take(&self.settings, node, &format!("{node}:7420")).expect("leading")
    }

    fn reader(&self) -> ControlReader {
        ControlReader::new(&self.settings).expect("a reader")
    }

    fn delete(&self) {
        topics::delete(&self.kafka, |name| name == self.settings.topic());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.delete();
    }
}

fn state(key: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (key.into(), Some(value.into()))
}

/// Everything up to an offset that somebody has told.
fn read_to(reader: &mut ControlReader, offset: i64) -> Vec<ControlEntry> {
    let mut entries = Vec::new();
    await_some("the record at the offset", SOON, || {
        match reader.poll(PATIENCE) {
            Ok(some) => entries.extend(some),
            Err(error @ Error::InternalTopic { .. }) => panic!("{error}"),
            Err(error) => say(&format!("passes: {error}")),
        }
        reader.has_read(offset).then_some(())
    });
    entries
}

/// The last value of each key of the state, as text.
fn state_of(entries: &[ControlEntry]) -> BTreeMap<&str, &str> {
    let mut state = BTreeMap::new();
    for entry in entries.iter().filter(|it| ![FENCE_KEY, LEADER_KEY].contains(&&*it.key)) {
        match &entry.value {
            Some(value) => state.insert(&*entry.key, std::str::from_utf8(value).expect("UTF-8")),
            None => state.remove(&*entry.key),
        };
    }
    state
}

fn is_fenced(result: &Result<impl Sized, Error>) -> bool {
    matches!(result, Err(Error::Fenced { .. }))
}

#[test]
fn a_new_leader_fences_the_old_one_for_good() {
    let log = Log::new();
    let (mut old, nothing) = log.take("c1");
    assert_eq!(nothing.len(), 1, "its own fence");
    old.write(&[state("task/a", "1")]).expect("written");
    let (mut new, entries) = log.take("c2");
    assert!(old.term() < new.term());
    assert_eq!(state_of(&entries), BTreeMap::from([("task/a", "1")]));
    assert!(is_fenced(&old.write(&[state("task/a", "stale")])));
    assert!(is_fenced(&old.beat()) && is_fenced(&old.settle()), "it never takes the role back");
    new.write(&[state("task/a", "2")]).expect("still the leader");
    assert!(is_fenced(&old.write(&[state("task/a", "stale")])));
    new.beat().expect("still the leader");
    let entries = read_to(&mut log.reader(), new.committed());
    assert_eq!(state_of(&entries), BTreeMap::from([("task/a", "2")]));
}

#[test]
fn a_reader_sees_terms_and_records_in_order_and_whole_transactions() {
    let log = Log::new();
    let mut reader = log.reader();
    let mut terms = Vec::new();
    for node in ["c1", "c2", "c1"] {
        let (mut leader, _) = log.take(node);
        let records = [state("task/a", node), state("task/b", node), ("task/a".into(), None)];
        leader.write(&records).expect("written");
        leader.beat().expect("alive");
        leader.beat().expect("alive");
        terms.push((leader.term(), node.to_owned()));
        assert!(!reader.has_read(leader.committed()));
        let entries = read_to(&mut reader, leader.committed());
        let keys: Vec<_> = entries.iter().map(|it| &*it.key).collect();
        assert_eq!(keys, [FENCE_KEY, "task/a", "task/b", "task/a", LEADER_KEY, LEADER_KEY]);
        assert!(entries.is_sorted_by_key(|it| it.offset));
        assert_eq!(state_of(&entries), BTreeMap::from([("task/b", node)]));
        let value = |at: usize| entries[at].value.as_deref().expect("a value");
        let fence: LeaderFence = serde_json::from_slice(value(0)).expect("a fence");
        assert_eq!((entries[0].offset, fence.node.as_str()), (leader.term(), node));
        assert_eq!(fence.address, format!("{node}:7420"));
        let beats =
            [4, 5].map(|at| serde_json::from_slice::<Heartbeat>(value(at)).expect("a beat"));
        assert_eq!(
            beats.each_ref().map(|it| (it.term, it.beat)),
            [(leader.term(), 1), (leader.term(), 2)]
        );
        assert!(beats.iter().all(|it| it.owner == fence.owner && it.node == node));
    }
    assert!(terms.is_sorted() && terms[0].0 < terms[1].0, "{terms:?}");
    assert!(reader.poll(PATIENCE).expect("nothing").is_empty());
}

#[test]
fn keys_of_the_log_itself_are_not_for_state() {
    let log = Log::new();
    let (mut leader, _) = log.take("c1");
    for key in [FENCE_KEY, LEADER_KEY] {
        leader.write(&[state(key, "{}")]).expect_err("refused");
    }
    leader.write(&[state("task/a", "1")]).expect("it harms nobody");
}

#[test]
fn a_topic_that_could_lose_state_is_refused() {
    let log = Log::without_topic(Server::start("kafka"));
    topics::create(&log.kafka, log.settings.topic(), 1);
    let error = ensure_control(&log.settings).expect_err("refused").to_string();
    assert!(error.contains("`cleanup.policy` is `delete`"), "{error}");
    let log = Log::without_topic(Server::start("kafka"));
    topics::create(&log.kafka, log.settings.topic(), 3);
    let error = ensure_control(&log.settings).expect_err("refused").to_string();
    assert!(error.contains("3 partitions instead of 1"), "{error}");
}

#[test]
fn a_topic_made_again_is_noticed_by_its_reader_and_its_leader() {
    let log = Log::new();
    let (mut leader, _) = log.take("c1");
    let mut reader = log.reader();
    leader.write(&[state("task/a", "1"), state("task/b", "1")]).expect("written");
    read_to(&mut reader, leader.committed());
    log.delete();
    let lost = |error: &Error| matches!(error, Error::InternalTopic { .. });
    let error = await_some("the reader's error", SOON, || reader.poll(PATIENCE).err().filter(lost));
    assert!(error.to_string().contains("deleted, truncated or created anew"), "{error}");
    ensure_control(&log.settings).expect("the control topic");
    assert!(reader.poll(PATIENCE).is_err_and(|error| lost(&error)), "for good");
    let error = await_some("the leader's error", SOON, || {
        leader.beat().err().filter(|error| {
            say(&format!("the leader: {error}"));
            lost(error)
        })
    });
    assert!(error.to_string().contains("find out by whom"), "{error}");
    assert!(is_fenced(&leader.beat()), "it leads no more");
}

/// A broker of our own: it is killed, and its cleaner does not rest.
fn own_broker() -> Server {
    Server::start_with("kafka:control", &["log.cleaner.backoff.ms=200"])
}

#[test]
fn a_reader_that_comes_late_sees_the_compacted_state() {
    let log = Log::without_topic(own_broker());
    let topic = NewTopic::new(log.settings.topic(), 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("segment.ms", "100")
        .set("min.cleanable.dirty.ratio", "0.01");
    let (admin, options) = topics::admin(&log.kafka);
    topics::wait(admin.create_topics([&topic], &options)).expect("the topic");
    ensure_control(&log.settings).expect("it is kept as it must be");
    let (mut leader, _) = log.take("c1");
    let (mut last, first) = (String::new(), format!("task/{}", leader.committed()));
    let entries = await_some("a log that is compacted", SOON, || {
        for _ in 0..10 {
            last = leader.committed().to_string();
            let once = state(&format!("task/{last}"), "deleted");
            leader.write(&[state("task/a", &last), once.clone()]).expect("written");
            leader.write(&[(once.0, None)]).expect("written");
            leader.beat().expect("alive");
        }
        let entries = read_to(&mut log.reader(), leader.committed());
        let is_first = |it: &ControlEntry| it.key == first && it.value.is_some();
        (!entries.iter().any(is_first)).then_some(entries)
    });
    assert_eq!(state_of(&entries), BTreeMap::from([("task/a", &*last)]));
    let (mut next, entries) = log.take("c2");
    assert_eq!(state_of(&entries), BTreeMap::from([("task/a", &*last)]));
    next.beat().expect("leading");
}

#[test]
fn a_leader_and_a_reader_outlive_a_broker_that_is_killed() {
    let log = Log::without_topic(own_broker());
    ensure_control(&log.settings).expect("the control topic");
    let (mut leader, _) = log.take("c1");
    let (mut reader, mut entries, mut wanted) = (log.reader(), Vec::new(), BTreeMap::new());
    std::thread::scope(|scope| {
        let faults = scope.spawn(|| {
            for verb in ["kill", "start", "restart"] {
                log.kafka.order(verb);
            }
        });
        let mut rounds_after = 0;
        let mut number = 0;
        while rounds_after < 5 {
            rounds_after += u32::from(faults.is_finished());
            number += 1;
            let (key, value) = (format!("task/{}", number % 7), number.to_string());
            // Written again until it is certain, as a leader does that knows what it wants.
            await_some("a write that succeeds", SOON, || {
                let written = leader.write(&[state(&key, &value)]);
                assert!(!is_fenced(&written), "there is no other leader");
                written.inspect_err(|error| say(&format!("write {number}: {error}"))).ok()
            });
            wanted.insert(key, value);
            entries.extend(reader.poll(Duration::ZERO).unwrap_or_default());
        }
    });
    let end = leader.settle().expect("nothing is undecided");
    entries.extend(read_to(&mut reader, end));
    let wanted: BTreeMap<_, _> = wanted.iter().map(|(key, it)| (&**key, &**it)).collect();
    assert_eq!(state_of(&entries), wanted, "what was read as it came");
    assert!(entries.is_sorted_by_key(|it| it.offset), "and nothing twice");
    assert_eq!(state_of(&read_to(&mut log.reader(), end)), wanted, "what is there");
    let (_, entries) = log.take("c2");
    assert_eq!(state_of(&entries), wanted, "what the next leader finds");
    assert!(is_fenced(&leader.beat()));
}
