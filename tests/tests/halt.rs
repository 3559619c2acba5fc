//! Where the guarantee cannot be kept the task is parked (delivery-protocol.md, sections 1 and 12):
//! cause and remedy named, nothing written, the slot left alone, and the next run parks as this one
//! did. `--reseed` is the way out, and a real one.

#[path = "halt/tamper.rs"]
mod tamper;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tests::catalog::contents;
use tests::checker::{Promises, check, checkpoints};
use tests::deadline::await_true;
use tests::event::Event;
use tests::process::Ended;
use tests::reader::{Record, Topics};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::servers::Server;
use tests::sql::{Sql, quoted};
use tests::standby::Pair;
use tests::task::{STATE_PREFIX, Spec};
use tests::topics;

/// A start that parks takes no longer; one that parks under way waits for the client's time-outs.
const PARK_MAX: Duration = Duration::from_secs(180);

const PARKED: i32 = 1;
const PRECHECK: i32 = 3;

/// Partitions of each topic, as pinned.
const PARTITIONS: i32 = 3;
const LANES: u8 = 2;

/// A task that has run, and what it has still to deliver.
struct Ground {
    scene: Scene,
    spec: Spec,
    sql: Sql,
}

/// What a run that parks must leave as it is.
#[derive(Debug, Eq, PartialEq)]
struct Left {
    /// Of the data topics.
    partitions: BTreeMap<String, i32>,
    /// One line each.
    records: BTreeSet<String>,
    slots: Vec<Vec<Option<String>>>,
}

impl Ground {
    /// Every lane has a partition of `often`, which the names decide: none stays behind with what it
    /// wrote to `seldom` last.
    fn new(label: &str) -> Self {
        let spreads = |scene: &Scene| {
            let topic = format!("{}.public.often", scene.name);
            let lanes = (0..PARTITIONS).map(|it| record::lane::lane(&topic, it, LANES));
            lanes.collect::<BTreeSet<_>>().len() == usize::from(LANES)
        };
        let mut scenes = std::iter::repeat_with(|| Scene::new(label, "postgres-15"));
        Self::on(scenes.find(spreads).expect("names do not end"))
    }

    /// Tables `often` and `seldom`, both in Kafka; only `often` was written to last.
    fn on(scene: Scene) -> Self {
        let mut sql = scene.sql();
        sql.run(
            "CREATE TABLE often (id int PRIMARY KEY, n int); \
             CREATE TABLE seldom (id int PRIMARY KEY, n int); \
             INSERT INTO often SELECT n, 0 FROM generate_series(1, 60) n; \
             INSERT INTO seldom SELECT n, 0 FROM generate_series(1, 60) n",
        );
        let spec = Self::spec(&scene);
        let mut ground = Self { scene, spec, sql };
        ground.go_on();
        ground
    }

    fn spec(scene: &Scene) -> Spec {
        let lanes = format!("lanes: {LANES}");
        scene.spec().line(&lanes).sink(&format!("partitions: {PARTITIONS}"))
    }

    /// Changes rows in every partition of `often`.
    fn write(&mut self) {
        self.sql.run("UPDATE often SET n = n + 1");
    }

    fn go_on(&mut self) {
        self.write();
        self.scene.catch_up(&self.spec);
    }

    fn kafka(&self) -> &Server {
        &self.scene.kafka
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.public.{table}", self.scene.name)
    }

    fn checkpoint_topic(&self) -> String {
        format!("{STATE_PREFIX}.{}.ckpt", self.scene.name)
    }

    /// The newest value of a key in a partition of the checkpoint topic.
    fn newest(&self, partition: i32, key: &str) -> Vec<u8> {
        let state = self.scene.state();
        let of = |record: &&Record| {
            record.partition == partition
                && record.key.as_deref() == Some(key.as_bytes())
                && record.topic == self.checkpoint_topic()
        };
        let last = state.records.iter().rfind(of).expect("a record of that key");
        last.value.clone().expect("a value")
    }

    fn left(&self) -> Left {
        self.scene.await_settled();
        let Topics { partitions, records } = self.scene.topics();
        let line = |it: &Record| {
            let value = it.value.as_deref().map(String::from_utf8_lossy);
            format!("{}[{}]@{} {value:?}", it.topic, it.partition, it.offset)
        };
        let records = records.iter().map(line).collect();
        let slots = Sql::superuser(&self.scene.postgres, "postgres").rows(&format!(
            "SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots WHERE database = '{}'",
            self.scene.name
        ));
        Left { partitions, records, slots }
    }

    /// The task parks, twice and alike, and leaves everything as it is. All `words` are said.
    #[track_caller]
    fn parks(&mut self, words: &[&str]) {
        self.write();
        self.is_refused(PARKED, 2, words);
    }

    /// The same with one run, where the next would find nothing else than in a case beside it.
    #[track_caller]
    fn parks_once(&mut self, words: &[&str]) {
        self.write();
        self.is_refused(PARKED, 1, words);
    }

    #[track_caller]
    fn is_refused(&self, code: i32, runs: usize, words: &[&str]) {
        let before = self.left();
        let mut causes = BTreeSet::new();
        for _ in 0..runs {
            let ended = self.scene.run(&self.spec, &["--until-caught-up"]).wait(PARK_MAX);
            ended.expect(code);
            causes.insert(cause(&ended, words));
            let after = self.left();
            let more: Vec<_> = after.records.difference(&before.records).take(5).collect();
            assert!(more.is_empty(), "it wrote {more:#?}");
            assert!(after == before, "{:?} {:?}", after.partitions, after.slots);
        }
        assert_eq!(causes.len(), 1, "the second run parks otherwise: {causes:#?}");
    }

    /// The way out: everything is right afterwards.
    #[track_caller]
    fn reseed(&mut self) {
        let reseed = ["--until-caught-up", "--reseed"];
        self.scene.run(&self.spec, &reseed).wait(CATCH_UP_MAX).expect(0);
        self.check();
    }

    /// And the task goes on from there.
    #[track_caller]
    fn reseed_and_go_on(&mut self) {
        self.reseed();
        self.sql.run("UPDATE seldom SET n = n + 1 WHERE id % 7 = 0");
        self.go_on();
        self.check();
    }

    /// What was written since the last reseed against the database; each partition says first that
    /// what was there before does not count.
    #[track_caller]
    fn check(&self) {
        let mut topics = self.scene.topics();
        let begins = begins(&topics);
        for (topic, &count) in &topics.partitions {
            for partition in 0..count.min(PARTITIONS) {
                let begin = begins.get(&(topic.clone(), partition));
                assert!(begin.is_some(), "{topic}[{partition}] does not say that it begins again");
            }
        }
        topics.records.retain(|it| {
            begins.get(&(it.topic.clone(), it.partition)).is_some_and(|&begin| begin <= it.offset)
        });
        let promises = Promises { everything: false, ..Promises::default() };
        let expected = contents(&mut self.scene.superuser());
        let report = check(promises, &topics, &expected);
        report.assert_clean();
        assert!(120 <= report.rows, "nothing was compared");
        let mut state = self.scene.state();
        let anew = anew(&state);
        state.records.retain(|it| anew.get(&it.partition).is_none_or(|&from| from < it.offset));
        let confirmed = self.left().slots;
        let confirmed = confirmed[0][1].as_deref().and_then(tests::event::lsn_of);
        checkpoints(&state, confirmed).assert_clean();
    }
}

/// The line that names the cause, after a look that cause and remedy are there. Without numbers:
/// which lane is the first to fail is chance.
#[track_caller]
fn cause(ended: &Ended, words: &[&str]) -> String {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    for word in words.iter().chain(&["remedy"]) {
        assert!(said.contains(word), "`{word}` is not said:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    let of_cause = |line: &&str| line.contains(words[0]);
    let line = said.lines().rfind(of_cause).expect("a line of the cause");
    line.chars().filter(|it| !it.is_ascii_digit()).collect()
}

/// Where the newest snapshot begins, by topic and partition.
fn begins(topics: &Topics) -> BTreeMap<(String, i32), i64> {
    let mut begins = BTreeMap::new();
    for record in topics.records.iter().filter(|record| record.value.is_some()) {
        let Ok(event) = Event::parse(record) else { continue };
        if event.op == 't' && event.snapshot.is_some() {
            begins.insert((record.topic.clone(), record.partition), record.offset);
        }
    }
    begins
}

/// What each partition of the checkpoint topic holds up to here does not count.
fn anew(state: &Topics) -> BTreeMap<i32, i64> {
    let mut anew = BTreeMap::new();
    for record in &state.records {
        let Some(json) = &record.value else { continue };
        let Ok(json) = serde_json::from_slice::<Value>(json) else { continue };
        let begins = match record.key.as_deref() {
            Some(b"c") => json["txn_seq"] == 0,
            Some(b"snapshot") => json["done"] == false,
            _ => false,
        };
        if begins {
            anew.insert(record.partition, record.offset);
        }
    }
    anew
}

#[test]
fn a_data_topic_that_is_not_what_it_was() {
    let mut ground = Ground::new("halt_topic");
    let (often, seldom) = (ground.topic("often"), ground.topic("seldom"));
    for topic in [&often, &seldom] {
        tamper::delete(&ground.scene.kafka, topic);
        ground.parks(&[topic, "deleted", "--reseed"]);
        assert!(!ground.left().partitions.contains_key(topic), "made again from nothing");
        ground.reseed_and_go_on();
        tamper::make_again(&ground.scene.kafka, topic, PARTITIONS);
        ground.parks(&[topic, "created anew", "--reseed"]);
        ground.reseed_and_go_on();
    }
    // Made again, and used by somebody.
    tamper::make_again(&ground.scene.kafka, &often, PARTITIONS);
    for partition in 0..PARTITIONS {
        tamper::write(&ground.scene.kafka, &often, partition, "k", Some(b"a stranger's"));
    }
    ground.parks(&[&often, "created anew", "--reseed"]);
    tamper::make_again(&ground.scene.kafka, &often, PARTITIONS - 1);
    ground.parks(&[&often, "created anew", "--reseed"]);
    ground.reseed();
    let written: BTreeSet<_> =
        ground.scene.topics().of(&often).map(|record| record.partition).collect();
    assert_eq!(written.len() as i32, PARTITIONS - 1, "it takes what is there");
}

#[test]
fn what_a_topic_may_do() {
    let mut ground = Ground::new("halt_legal");
    let often = ground.topic("often");
    for partition in 0..PARTITIONS {
        tamper::expire(ground.kafka(), &often, partition);
    }
    ground.go_on();
    assert_eq!(ground.scene.topics().of(&often).count(), 60, "one transaction");
    tamper::grow(ground.kafka(), &often, 7);
    ground.go_on();
    let topics = ground.scene.topics();
    assert_eq!(topics.of(&often).count(), 120);
    assert!(topics.of(&often).all(|record| record.partition < PARTITIONS), "the pin counts");
    // A table that is gone takes its topic along.
    ground.sql.run("DROP TABLE seldom");
    ground.go_on();
    tamper::delete(ground.kafka(), &ground.topic("seldom"));
    ground.go_on();
    assert_eq!(ground.scene.topics().of(&often).count(), 240);
}

/// Those that the task does not write to are noticed where the spec asks for it, and more so than ignored.
#[test]
fn more_partitions_than_the_task_writes_to() {
    let mut ground = Ground::new("halt_grown");
    let often = ground.topic("often");
    let pinned = ground.spec.clone();
    ground.spec = pinned.clone().sink("new_partitions: park");
    ground.go_on();
    let words = [often.as_str(), "has 7 partitions", "`pin`", "--reseed"];
    under_way(&mut ground, &words, |ground| tamper::grow(ground.kafka(), &often, 7));
    // Both ways out.
    ground.spec = pinned.clone();
    ground.go_on();
    let topics = ground.scene.topics();
    assert!(topics.of(&often).all(|record| record.partition < PARTITIONS), "the pin counts");
    ground.spec = pinned.sink("new_partitions: park");
    ground.parks_once(&words);
    ground.reseed();
    let written: BTreeSet<_> =
        ground.scene.topics().of(&often).map(|record| record.partition).collect();
    assert_eq!(written.len(), 7, "it takes what is there");
}

/// Writes while a topic is taken away from a running task.
fn under_way(ground: &mut Ground, words: &[&str], during: impl FnOnce(&Ground)) {
    let spec = ground.spec.clone();
    let mut run = ground.scene.run(&spec, &[]);
    ground.scene.await_streaming(&mut run);
    ground.write();
    during(ground);
    let until = std::time::Instant::now() + PARK_MAX;
    while !run.has_ended() && std::time::Instant::now() < until {
        ground.write();
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = run.wait(Duration::from_secs(1));
    ended.expect(PARKED);
    cause(&ended, words);
    ground.parks(words);
}

#[test]
fn a_data_topic_that_is_taken_away_under_way() {
    let mut ground = Ground::new("halt_away");
    let topic = ground.topic("often");
    under_way(&mut ground, &[&topic, "deleted", "--reseed"], |ground| {
        tamper::delete(ground.kafka(), &topic);
    });
    ground.reseed();
    under_way(&mut ground, &[&topic, "created anew", "--reseed"], |ground| {
        tamper::make_again(ground.kafka(), &topic, PARTITIONS);
    });
    assert_eq!(ground.scene.topics().of(&topic).count(), 0, "it went on in another topic");
    ground.reseed();
}

/// A server of this suite alone, with settings that others do not want. Wiped in the end.
struct Own(Server);

impl Own {
    fn start(name: &str, setting: &str) -> Self {
        Self(Server::start_with(name, &[setting]))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.order("wipe");
    }
}

#[test]
fn a_broker_that_makes_topics_by_itself() {
    let own = Own::start("kafka:halt", "auto.create.topics.enable=true");
    let mut ground =
        Ground::on(Scene::on("halt_auto", Server::start("postgres-15"), own.0.clone()));
    let topic = ground.topic("often");
    tamper::delete(ground.kafka(), &topic);
    ground.parks(&[&topic, "deleted", "--reseed"]);
    assert!(!ground.left().partitions.contains_key(&topic), "it made the topic by asking");
    ground.reseed();
    // Now the running producer's next look brings the topic back, empty, or finds none just before.
    under_way(&mut ground, &[&topic, "deleted", "--reseed"], |ground| {
        topics::delete(ground.kafka(), |name| name == topic);
    });
    assert_eq!(ground.scene.topics().of(&topic).count(), 0, "it went on in another topic");
    ground.reseed();
}

#[test]
fn a_slot_that_the_server_gave_up() {
    let own = Own::start("postgres-15:halt", "max_slot_wal_keep_size=1MB");
    let mut ground = Ground::on(Scene::on("halt_lost", own.0.clone(), Server::start("kafka")));
    let slot = ground.scene.slot();
    let mut superuser = ground.scene.superuser();
    let status = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'");
    await_true("a lost slot", CATCH_UP_MAX, || {
        ground.write();
        superuser.run("SELECT pg_switch_wal()");
        superuser.run("CHECKPOINT");
        superuser.value(&status) == "lost"
    });
    ground.parks(&["wal_status = lost", "--reseed"]);
    ground.reseed();
}

#[test]
fn the_checkpoint_topic_is_not_what_it_was() {
    let mut ground = Ground::new("halt_ckpt");
    let topic = ground.checkpoint_topic();
    for policy in ["delete", "compact,delete"] {
        tamper::set(ground.kafka(), &topic, "cleanup.policy", policy);
        ground.write();
        ground.is_refused(PRECHECK, 1, &["cleanup.policy", &topic, "compact"]);
    }
    tamper::set(ground.kafka(), &topic, "cleanup.policy", "compact");
    ground.go_on();
    let slot = ground.scene.slot();
    tamper::delete(ground.kafka(), &topic);
    ground.write();
    ground.is_refused(PRECHECK, 1, &["hold data already"]);
    ground.spec = ground.spec.clone().sink("conflicting_topics: ignore");
    ground.parks(&["checkpoints of task", &slot, "--reseed"]);
    ground.reseed();
    tamper::delete(ground.kafka(), &topic);
    let config = [("cleanup.policy", "compact"), ("unclean.leader.election.enable", "false")];
    tamper::create(ground.kafka(), &topic, 65, &config);
    ground.parks(&["checkpoints of task", &slot, "--reseed"]);
    ground.reseed();
    tamper::make_again(ground.kafka(), &topic, 1);
    ground.write();
    ground.is_refused(PRECHECK, 1, &["partitions instead of 65", &topic, "--reseed"]);
    tamper::delete(ground.kafka(), &topic);
    ground.reseed();
}

#[test]
fn a_checkpoint_that_somebody_else_has_written() {
    let mut ground = Ground::new("halt_lane");
    let topic = ground.checkpoint_topic();
    let old = ground.newest(1, "c");
    ground.go_on();
    let new = String::from_utf8(ground.newest(1, "c")).expect("JSON");
    let json: Value = serde_json::from_str(&new).expect("JSON");
    let task = format!("\"{}\"", ground.scene.name);
    let foreign = new.replace(&task, "\"another\"");
    let ahead = new.replace(&format!("\"txn_seq\":{}", json["txn_seq"]), "\"txn_seq\":900000");
    let low = ahead.replace(json["pos"].as_str().expect("a position"), "0/1:0");
    let later = new.replace("\"v\":1", "\"v\":2");
    tamper::write(ground.kafka(), &topic, 1, "c", Some(&old));
    ground.parks(&["transaction", &topic, "partition 1", "--reseed"]);
    ground.reseed();
    let cases: [(Option<&[u8]>, &str); 5] = [
        (Some(b"{\"v\":1,"), "not readable"),
        (Some(foreign.as_bytes()), "belongs to task `another`"),
        (Some(low.as_bytes()), "position 0/1:0 follows"),
        (Some(later.as_bytes()), "layout has version 2"),
        (None, "deleted by someone else"),
    ];
    for (value, word) in cases {
        tamper::write(ground.kafka(), &topic, 1, "c", value);
        ground.parks_once(&[word, &topic, "partition 1", "--reseed"]);
        ground.reseed();
    }
    ground.go_on();
    ground.check();
}

#[test]
fn a_record_of_the_meta_lane_that_somebody_else_has_written() {
    let mut ground = Ground::new("halt_meta");
    let topic = ground.checkpoint_topic();
    let old = ground.newest(0, "w");
    let pin = format!("pin/{}", ground.topic("seldom"));
    ground.go_on();
    tamper::write(ground.kafka(), &topic, 0, "w", Some(&old));
    ground.parks(&["beyond", "--reseed"]);
    ground.reseed();
    let cases: [(&str, Option<&[u8]>, &str); 5] = [
        ("w", Some(b"garbled"), "record `w`"),
        ("w", None, "record `w`"),
        ("snapshot", None, "record `snapshot`"),
        (&pin, None, "record `pin/"),
        (&pin, Some(b"{\"partitions\":9}"), "writes to 9"),
    ];
    for (key, value, word) in cases {
        tamper::write(ground.kafka(), &topic, 0, key, value);
        ground.parks_once(&[word, "--reseed"]);
        ground.reseed();
    }
    ground.go_on();
    ground.check();
}

#[test]
fn a_slot_that_is_not_where_the_task_left_it() {
    let mut ground = Ground::new("halt_slot");
    let slot = ground.scene.slot();
    let mut superuser = ground.scene.superuser();
    ground.write();
    superuser
        .run(&format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_insert_lsn())"));
    ground.parks(&["advanced", &slot, "--reseed"]);
    superuser.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    ground.parks(&["is gone", &slot, "--reseed"]);
    ground.reseed();
    superuser.run(&format!(
        "SELECT pg_drop_replication_slot('{slot}'); \
         SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    ground.parks(&["made again", &slot, "--reseed"]);
    ground.reseed();
    superuser.run(&format!("DROP PUBLICATION {slot}"));
    ground.parks(&["publication", &slot, "--reseed"]);
    ground.reseed();
    superuser.run(&format!("ALTER PUBLICATION {slot} DROP TABLE seldom"));
    ground.parks(&["public.seldom", "publication", &slot, "--reseed"]);
    ground.reseed();
    // A table that is new is none that was taken out.
    ground.sql.run("CREATE TABLE new (id int PRIMARY KEY)");
    ground.go_on();
    ground.sql.run("DROP TABLE new");
    // Nor is anything known of a slot when only the internal topics are gone, with the data topics.
    topics::remove(&ground.scene.kafka, |topic| topic.contains(&ground.scene.name));
    ground.parks(&["checkpoints of task", &slot, "--reseed"]);
    ground.reseed();
}

/// `--accept-gap`: no snapshot, everything from there on, and the range in between named.
#[test]
fn a_gap_that_is_accepted_is_named() {
    let mut ground = Ground::new("halt_gap");
    let slot = ground.scene.slot();
    let records = |ground: &Ground| ground.left().records.len();
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
    ground.scene.superuser().run(&drop);
    ground.parks_once(&["is gone", &slot, "--accept-gap"]);
    let before = records(&ground);
    let accept = ["--until-caught-up", "--reseed", "--accept-gap"];
    let ended = ground.scene.run(&ground.spec, &accept).wait(CATCH_UP_MAX);
    ended.expect(0);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    let named = said.lines().find(|line| line.contains("the gap was accepted"));
    let named = named.unwrap_or_else(|| panic!("no gap is named:\n{said}"));
    assert!(
        named.contains("changes after") && named.contains("(timeline 1) and before"),
        "{named}"
    );
    assert_eq!(records(&ground), before, "neither the gap nor a snapshot is written");
    let snapshot = String::from_utf8(ground.newest(0, "snapshot")).expect("UTF-8");
    let snapshot: Value = serde_json::from_str(&snapshot).expect("JSON");
    assert_eq!(snapshot["gap"]["timeline"], 1, "{snapshot}");
    assert_eq!(snapshot["gap"]["before"], snapshot["lsn"], "{snapshot}");
    // All that follows arrives, once, and later runs know nothing of the gap any more.
    ground.write();
    ground.go_on();
    assert_eq!(records(&ground), before + 2 * 60);
    ground.reseed_and_go_on();
}

#[test]
fn a_standby_that_lacks_what_was_delivered() {
    // It is not waited for.
    let pair = Pair::start(17, "unsafe", &[]);
    let scene = Scene::on("halt_failover", pair.primary.clone(), Server::start("kafka"));
    let mut ground = Ground::on(scene);
    pair.keep_slot(&ground.scene.name, &ground.scene.slot());
    let slot = ground.scene.slot();
    pair.await_slot(&slot, || ground.go_on());
    pair.standby.order("stop");
    ground.go_on();
    let delivered = end(&ground);
    pair.primary.order("kill");
    pair.standby.order("start");
    pair.promote();
    takes_its_place(&mut ground, &pair.standby);
    // Its slot is there, and its WAL goes on beyond everything that the first one had.
    await_more_wal(&mut ground, delivered);
    ground.parks(&["left timeline 1 at", "timeline 2", "already in Kafka", "--reseed"]);
    ground.reseed_and_go_on();
    // The task is fed by timeline 2 now. The old primary becomes another timeline 2, with the same slot,
    // and with more WAL than the task has seen.
    let delivered = end(&ground);
    pair.standby.order("kill");
    pair.promote_the_other();
    takes_its_place(&mut ground, &pair.primary);
    await_more_wal(&mut ground, delivered);
    ground.parks_once(&["promoted beside it", "timeline 2", "already in Kafka", "--reseed"]);
    // The spec may say to go on all the same: without a snapshot, and without what was written meanwhile.
    let park = ground.spec.clone();
    ground.spec = park.clone().source("on_divergence: accept");
    let before = ground.left().records.len();
    // Also where the process ends before the new slot is there.
    let mut run = ground.scene.run(&ground.spec, &["--until-caught-up"]);
    run.await_log("the divergence is accepted", CATCH_UP_MAX);
    let killed = run.kill();
    let ended = ground.scene.run(&ground.spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    ended.expect(0);
    let said = format!("{}{}{}", killed.stderr, ended.stdout, ended.stderr);
    for words in ["the divergence is accepted", "promoted beside it", "the gap was accepted"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(ground.left().records.len(), before, "neither the gap nor a snapshot is written");
    ground.write();
    ground.go_on();
    assert_eq!(ground.left().records.len(), before + 2 * 60);
    ground.spec = park;
    ground.reseed_and_go_on();
}

/// The task goes to another server from here on.
fn takes_its_place(ground: &mut Ground, server: &Server) {
    ground.scene.postgres = server.clone();
    ground.spec = ground.spec.clone().hosts(&server.address);
    ground.sql = ground.scene.sql();
}

fn end(ground: &Ground) -> u64 {
    let text = ground.scene.superuser().value("SELECT pg_current_wal_flush_lsn()");
    tests::event::lsn_of(&text).expect("a position")
}

fn await_more_wal(ground: &mut Ground, than: u64) {
    await_true("more WAL than the other one had", CATCH_UP_MAX, || {
        ground.write();
        ground.scene.superuser().run("SELECT pg_switch_wal()");
        than < end(ground)
    });
}

#[test]
fn another_server_behind_the_same_spec() {
    let mut ground = Ground::new("halt_server");
    // Its WAL may end below what is in Kafka: then positions say nothing.
    let other = Scene::on("halt_other", Server::start("postgres-14"), ground.scene.kafka.clone());
    let mut there = Sql::superuser(&other.postgres, "postgres");
    let name = quoted(&ground.scene.name);
    there.run(&format!("ALTER DATABASE {} RENAME TO {name}", quoted(&other.name)));
    let mut sql = Sql::connect(&other.postgres, &ground.scene.name);
    sql.run(
        "CREATE TABLE often (id int PRIMARY KEY, n int); \
         CREATE TABLE seldom (id int PRIMARY KEY, n int); \
         INSERT INTO often SELECT n, 7 FROM generate_series(1, 70) n; \
         INSERT INTO seldom SELECT n, 7 FROM generate_series(1, 70) n",
    );
    ground.spec = ground.spec.clone().hosts(&other.postgres.address);
    ground.parks(&["system identifier", "--reseed"]);
    // From here on the other one is the source, and the scene's own.
    let first = std::mem::replace(&mut ground.scene.postgres, other.postgres.clone());
    ground.sql = sql;
    ground.reseed_and_go_on();
    // Both are removed by the scenes: each finds its database under its own name.
    ground.scene.postgres = first;
    let slot = ground.scene.slot();
    drop(std::mem::replace(&mut ground.sql, ground.scene.sql()));
    there.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    there.run(&format!("ALTER DATABASE {name} RENAME TO {}", quoted(&other.name)));
}
