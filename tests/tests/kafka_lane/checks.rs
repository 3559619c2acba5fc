//! The precheck on a real broker.

use crate::own_broker::{PASSWORD, Turn, USER};
use crate::{Bench, point};
use config::precheck::{Item, State};
use kafka::precheck::{WantedTopic, check, connectivity};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::topics;

/// Every item by its name: what scripts rely on.
fn states(items: &[Item]) -> BTreeMap<&str, State> {
    let states: BTreeMap<_, _> = items.iter().map(|it| (&*it.name, it.state)).collect();
    assert_eq!(states.len(), items.len(), "a name occurs twice: {items:?}");
    for item in items {
        assert_eq!(item.state == State::Pass, item.remedy.is_empty(), "{item:?}");
    }
    states
}

fn run(bench: &Bench, spec: &config::Task, wanted: &[(&str, i32)]) -> Vec<Item> {
    let wanted: Vec<WantedTopic> = wanted
        .iter()
        .map(|&(name, partitions)| WantedTopic { name: name.into(), partitions, bytes: 1 << 20 })
        .collect();
    check(&bench.settings, Ok(()), spec, &bench.names, &wanted)
}

#[test]
fn a_good_sink_passes_but_for_its_copies() {
    let bench = Bench::new();
    let items = run(&bench, &bench.spec(), &[(&bench.topic, 3), ("no.such.topic", 1)]);
    let expected = [
        ("sink.authorization", State::Pass),
        ("sink.broker-version", State::Pass),
        ("sink.conflicting-topics", State::Pass),
        ("sink.connection", State::Pass),
        ("sink.in-sync", State::Pass),
        ("sink.internal-topics", State::Pass),
        ("sink.message-size", State::Pass),
        ("sink.properties", State::Pass),
        // One broker, and that is what it is for.
        ("sink.replication", State::Warning),
        ("sink.space", State::Pass),
        ("sink.topic-partitions", State::Pass),
        ("sink.topics", State::Pass),
        ("sink.transaction-timeout", State::Pass),
        ("sink.unclean-election", State::Pass),
    ];
    assert_eq!(states(&items), BTreeMap::from(expected), "{items:#?}");
    assert!(topics::list(&bench.kafka, |name| name == "no.such.topic").is_empty(), "it wrote");
}

#[test]
fn what_is_wrong_is_named() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    spec.sync.schema = false;
    let items = run(&bench, &spec, &[(&bench.topic, 12), ("no.such.topic", 1)]);
    let states = states(&items);
    assert_eq!(states["sink.topics"], State::Fail);
    assert_eq!(states["sink.topic-partitions"], State::Warning);
    let item = items.iter().find(|it| it.name == "sink.topics").expect("an item");
    assert!(item.seen.contains("no.such.topic"), "{item:?}");
}

/// Each of these topics is wrong in one way.
#[test]
fn settings_of_topics_that_do_harm_are_named() {
    let bench = Bench::new();
    let admin = kafka::topics::Admin::new(&bench.settings).expect("a client");
    let topic = |what: &str, key: &str, value: &str| kafka::topics::NewTopic {
        name: format!("{}-{what}", bench.topic),
        partitions: 1,
        replication_factor: 1,
        config: BTreeMap::from([(key.to_owned(), value.to_owned())]),
    };
    let topics = [
        topic("sync", "min.insync.replicas", "2"),
        topic("unclean", "unclean.leader.election.enable", "true"),
        topic("space", "retention.bytes", "1000"),
        topic("size", "max.message.bytes", "1000"),
    ];
    admin.create(&topics).expect("topics");
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let wanted: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let items = run(&bench, &bench.spec(), &wanted);
    admin.delete(&names).expect("deleted");
    for (item, topic) in
        ["sink.in-sync", "sink.unclean-election", "sink.space", "sink.message-size"]
            .iter()
            .zip(&names)
    {
        let item = items.iter().find(|it| it.name == *item).expect("an item");
        assert_eq!(item.state, State::Warning, "{item:?}");
        assert!(item.seen.contains(topic.as_str()) && !item.why.is_empty(), "{item:?}");
        // Brokers that are down may come back: it is waited for.
        assert_eq!((item.holds(), item.may_pass), (item.name == "sink.in-sync", item.holds()));
    }
}

#[test]
fn topics_that_the_brokers_would_not_make_are_named() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    spec.sink.replication_factor = 3;
    let items = run(&bench, &spec, &[("no.such.topic", 1)]);
    let item = items.iter().find(|it| it.name == "sink.topics").expect("an item");
    assert_eq!(item.state, State::Fail, "{item:?}");
    assert!(item.seen.contains("no.such.topic"), "{item:?}");
    assert!(item.remedy.contains("sink.replication_factor"), "{item:?}");
    assert!(topics::list(&bench.kafka, |name| name == "no.such.topic").is_empty(), "it wrote");
}

#[test]
fn data_of_others_is_a_conflict_until_the_task_has_run() {
    let conflict = |bench: &Bench, spec: &config::Task| {
        states(&run(bench, spec, &[(&bench.topic, 3)]))["sink.conflicting-topics"]
    };
    let bench = Bench::new();
    let mut spec = bench.spec();
    assert_eq!(conflict(&bench, &spec), State::Pass);
    let stranger = crate::stranger(&bench.kafka, &format!("{}-stranger", bench.topic));
    rdkafka::producer::Producer::begin_transaction(&stranger).expect("begun");
    crate::send_raw(&stranger, &bench.topic, "theirs");
    assert_eq!(conflict(&bench, &spec), State::Fail, "also while it is not committed");
    spec.sink.conflicting_topics = config::ConflictingTopics::Ignore;
    assert_eq!(conflict(&bench, &spec), State::Pass);
    spec.sink.conflicting_topics = config::ConflictingTopics::Report;
    let (mut lane, _) = bench.opened();
    lane.commit(&point(50, 0)).expect("committed");
    assert_eq!(conflict(&bench, &spec), State::Pass, "the task has run before");
}

#[test]
fn a_broker_that_is_not_there_is_one_failed_item() {
    let mut spec = config::Task { task: "nowhere".into(), ..config::Task::default() };
    spec.sink.brokers = vec!["127.0.0.1:1".into()];
    let settings = kafka::settings::Settings::new(&spec, Path::new(".")).expect("valid settings");
    let names = kafka::names::Names::new("distributary", "nowhere").expect("valid names");
    let items = check(&settings, Ok(()), &spec, &names, &[]);
    let expected = [("sink.connection", State::Fail), ("sink.properties", State::Pass)];
    assert_eq!(states(&items), BTreeMap::from(expected), "{items:#?}");
    let items = connectivity(&settings);
    assert_eq!(states(&items)["sink.connectivity"], State::Fail);
    assert!(items[0].seen.contains("127.0.0.1:1"), "{items:?}");
}

fn with_password(turn: &Turn, password: &str) -> config::Task {
    let mut spec = config::Task { task: "secured".into(), ..config::Task::default() };
    spec.sink.brokers = vec![turn.kafka_with_password().address];
    spec.sink.security.protocol = config::Protocol::SaslPlaintext;
    spec.sink.security.mechanism = Some(config::Mechanism::Plain);
    spec.sink.security.user = Some(USER.into());
    let secret = serde_json::from_value(password.into()).expect("a secret");
    spec.sink.security.password = Some(secret);
    spec
}

#[test]
fn a_wrong_password_is_told_soon_and_not_repeated() {
    let turn = Turn::take();
    let spec = with_password(&turn, "hunter2");
    let settings = kafka::settings::Settings::new(&spec, Path::new(".")).expect("valid settings");
    let names = kafka::names::Names::new("distributary", "secured").expect("valid names");
    // The quickest of three: the machine may be busy. Who waits for a connection waits for 15 s.
    let mut took = Vec::new();
    let mut items = Vec::new();
    while took.len() < 3 && !took.iter().any(|it| *it < Duration::from_secs(10)) {
        let started = Instant::now();
        items = check(&settings, Ok(()), &spec, &names, &[]);
        took.push(started.elapsed());
    }
    assert!(took.iter().any(|it| *it < Duration::from_secs(10)), "it took {took:?}");
    let alone = connectivity(&settings);
    assert!(alone[0].seen.contains("answers from 127.0.0.1"), "{alone:?}");
    assert_eq!((alone[0].state, &*alone[0].remedy), (State::Fail, "correct `sink.security`"));
    let item = items.iter().find(|it| it.name == "sink.connection").expect("an item");
    assert_eq!((item.state, item.remedy.as_str()), (State::Fail, "correct `sink.security`"));
    assert!(!format!("{items:?}").contains("hunter2"), "{items:?}");
    let error = kafka::topics::Admin::new(&settings)
        .and_then(|admin| admin.partitions(&["t".to_owned()]))
        .expect_err("refused");
    assert!(matches!(error, kafka::Error::Authentication { .. }), "{error}");
}

#[test]
fn the_right_password_opens() {
    let turn = Turn::take();
    let spec = with_password(&turn, PASSWORD);
    let settings = kafka::settings::Settings::new(&spec, Path::new(".")).expect("valid settings");
    let names = kafka::names::Names::new("distributary", "secured").expect("valid names");
    kafka::topics::Admin::new(&settings)
        .and_then(|admin| admin.ensure_internal(&names))
        .expect("the checkpoint topic");
    let (mut lane, _) = kafka::open(&settings, &names, kafka::names::LaneId::Lane(0), 1, &[])
        .expect("the lane opens");
    lane.commit(&point(u64::MAX >> 1, 0)).expect("committed");
}
