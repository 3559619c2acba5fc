//! What the precheck finds out about a broker with an authorizer.

use crate::{PASSWORD, USER};
use config::precheck::{Item, State};
use kafka::names::{LaneId, Names};
use kafka::precheck::{WantedTopic, check};
use kafka::settings::Settings;
use kafka::sink::CommitPoint;
use kafka::topics::{Admin, NewTopic};
use std::collections::BTreeMap;
use std::path::Path;
use tests::seed::unique;
use tests::servers::Server;
use tests::topics;
use wal::{Lsn, Position};

const PORT: u16 = 29_830;
const SASL_PLAINTEXT: &str = "127.0.0.1:29834";
const PREFIX: &str = "it";

/// Whoever comes without a password is a superuser, the user with one has no right yet.
fn broker() -> Server {
    let settings = [
        "secure=yes",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
    ];
    Server::start_at("kafka:rights", PORT, &settings)
}

fn task(name: &str, brokers: &str) -> config::Task {
    let mut task = config::Task { task: name.into(), ..config::Task::default() };
    task.sink.brokers = vec![brokers.into()];
    task.sink.state_prefix = PREFIX.into();
    task
}

fn with_password(name: &str) -> config::Task {
    let mut task = task(name, SASL_PLAINTEXT);
    task.sink.security.protocol = config::Protocol::SaslPlaintext;
    task.sink.security.mechanism = Some(config::Mechanism::Plain);
    task.sink.security.user = Some(USER.into());
    let secret = serde_json::from_value(PASSWORD.into()).expect("a secret");
    task.sink.security.password = Some(secret);
    task
}

fn settings(task: &config::Task) -> Settings {
    Settings::new(task, Path::new(".")).expect("settings")
}

fn checked(task: &config::Task, topics: &[&str]) -> Vec<Item> {
    let names = Names::new(PREFIX, &task.task).expect("names");
    let wanted = |name: &&str| WantedTopic { name: (*name).into(), partitions: 1, bytes: 0 };
    check(&settings(task), Ok(()), task, &names, &topics.iter().map(wanted).collect::<Vec<_>>())
}

#[track_caller]
fn expect(items: &[Item], name: &str, state: State, words: &[&str]) {
    let item = items.iter().find(|item| item.name == name);
    let item = item.unwrap_or_else(|| panic!("no item {name}: {items:#?}"));
    assert_eq!(item.state, state, "{items:#?}");
    for word in words {
        let is_said = item.seen.contains(word) || item.remedy.contains(word);
        assert!(is_said, "`{word}` is not said: {item:#?}");
    }
}

#[test]
fn missing_rights_are_named_without_writing_anything() {
    let broker = broker();
    let name = format!("rights_{}", unique());
    let (there, new) = (format!("{name}.there"), format!("{name}.new"));
    let both = [there.as_str(), new.as_str()];
    let admin = Admin::new(&settings(&task(&name, &broker.address))).expect("a client");
    let (config, replication_factor) = (BTreeMap::new(), 1);
    let topic = NewTopic { name: there.clone(), partitions: 1, replication_factor, config };
    admin.create(&[topic]).expect("a topic");

    let task_of_superuser = task(&name, &broker.address);
    let items = checked(&task_of_superuser, &both);
    // Of a topic that is not there no right can be tried.
    let words = ["the authorizer permits", "yet to be made", "--operation Read"];
    expect(&items, "sink.authorization", State::Warning, &words);
    expect(&items, "sink.topics", State::Pass, &["will be created"]);
    expect(&items, "sink.transaction-timeout", State::Pass, &["long enough"]);

    let task = with_password(&name);
    // Settings that may not be read are not those of an old broker.
    let items = checked(&task, &both);
    expect(&items, "sink.broker-version", State::Warning, &["DescribeConfigs"]);
    let words = [&format!("{PREFIX}.{name}.meta"), "--transactional-id", USER];
    expect(&checked(&task, &both), "sink.authorization", State::Fail, &words);
    expect(&checked(&task, &both), "sink.topics", State::Fail, &["Create", &new]);

    let words = ["does not permit", &format!("{PREFIX}.{name}.ckpt")];
    expect(&checked(&task, &both), "sink.internal-topics", State::Fail, &words);

    broker.permit(&format!(
        "TRANSACTIONAL_ID:{PREFIX}.{name}.:WRITE,TOPIC:{name}.:DESCRIBE,TOPIC:{name}.:CREATE,\
         TOPIC:{name}.:DESCRIBE_CONFIGS,TOPIC:{PREFIX}.{name}.:DESCRIBE,\
         TOPIC:{PREFIX}.{name}.:CREATE"
    ));
    let items = checked(&task, &both);
    expect(&items, "sink.topics", State::Pass, &["will be created"]);
    expect(&items, "sink.internal-topics", State::Pass, &["will be created"]);
    expect(&items, "sink.authorization", State::Fail, &["writing is not permitted", &there]);

    broker.permit(&format!("TOPIC:{name}.:WRITE"));
    expect(&checked(&task, &both), "sink.authorization", State::Warning, &["yet to be made"]);

    let names = Names::new(PREFIX, &name).expect("names");
    admin.ensure_internal(&names).expect("the topic of checkpoints");
    broker.permit(&format!("TOPIC:{PREFIX}.{name}.:DESCRIBE_CONFIGS"));
    let checkpoints = names.checkpoints();
    let words =
        ["writing is not permitted", "reading is not permitted", &checkpoints, "--operation Read"];
    expect(&checked(&task, &both), "sink.authorization", State::Fail, &words);
    broker.permit(&format!("TOPIC:{PREFIX}.{name}.:WRITE"));
    let items = checked(&task, &both);
    expect(&items, "sink.authorization", State::Fail, &["reading is not permitted"]);
    // A lane says so at once, too.
    let refused = kafka::open(&settings(&task), &names, LaneId::Lane(0), 1, &[]);
    let refused = refused.map(drop).expect_err("it may not read").to_string();
    assert!(refused.contains(&checkpoints), "{refused}");
    broker.permit(&format!("TOPIC:{PREFIX}.{name}.:READ"));
    expect(&checked(&task, &both), "sink.authorization", State::Pass, &["reading checkpoints"]);

    assert!(admin.is_empty(&there).expect("it answers"), "a record was left");
    let made = topics::list(&broker, |topic| topic == new);
    assert!(made.is_empty(), "a topic was made: {made:?}");
    admin.delete(&[there]).expect("deleted");
}

fn point(commit_lsn: u64) -> CommitPoint {
    CommitPoint {
        position: Position { commit_lsn: Lsn(commit_lsn), ordinal: 0 },
        end_lsn: Lsn(commit_lsn + 8),
        complete: true,
        sealed: false,
        counted: 0,
    }
}

/// Where no request for long transactions is refused, a precheck beside a running task must not take its place.
#[test]
fn nobody_is_fenced_where_transactions_may_last_for_weeks() {
    let settings = [
        "secure=yes",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
        "transaction.max.timeout.ms=2147483647",
    ];
    let broker = Server::start_at("kafka:weeks", PORT + 10, &settings);
    let name = format!("weeks_{}", unique());
    let superuser = task(&name, &broker.address);
    let names = Names::new(PREFIX, &name).expect("names");
    let admin = Admin::new(&self::settings(&superuser)).expect("a client");
    admin.ensure_internal(&names).expect("the checkpoint topic");
    let lane = LaneId::Lane(0);
    let (mut running, _) =
        kafka::open(&self::settings(&superuser), &names, lane, 1, &[]).expect("the lane opens");
    expect(&checked(&superuser, &[]), "sink.authorization", State::Pass, &["permits"]);
    running.commit(&point(50)).expect("it owns its lane still");

    let mut limited = with_password(&name);
    limited.sink.brokers = vec![format!("127.0.0.1:{}", PORT + 14)];
    let words = [&format!("{PREFIX}.{name}.lane.0"), "prefixed", USER];
    expect(&checked(&limited, &[]), "sink.authorization", State::Fail, &words);
    let topic = format!("TOPIC:{PREFIX}.{name}.");
    broker.permit(&format!(
        "TRANSACTIONAL_ID:{PREFIX}.{name}.:WRITE,{topic}:DESCRIBE,{topic}:READ,{topic}:WRITE"
    ));
    expect(&checked(&limited, &[]), "sink.authorization", State::Pass, &["permits"]);
    running.commit(&point(60)).expect("it owns its lane still");
}
