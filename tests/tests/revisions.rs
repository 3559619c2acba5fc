//! A spec that changes between two runs takes force at one position: lanes, hash, partitioning and the
//! objects change under a workload while processes are killed, and nothing is lost or doubled.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;
use tests::checker::Promises;
use tests::cluster::Cluster;
use tests::deadline::await_true;
use tests::event::Event;
use tests::reader::{Record, Topics};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::segments::batches;
use tests::sql::Sql;
use tests::status::Status;
use tests::task::Spec;
use tests::topics;
use tests::workload::{self, Pace, Workload};

/// What users change: lanes and the partition map, together and alone.
fn variants(scene: &Scene) -> Vec<Spec> {
    let spec = || scene.spec();
    vec![
        spec().line("lanes: 3"),
        spec().line("lanes: 16").sink("hash: java"),
        spec().line("lanes: 1").sink("partitioning: table"),
        spec()
            .line("lanes: 64")
            .objects(&["{table: shop.lines, partition_key: [order_id]}", "{table: \"*.*\"}"]),
        spec().line("lanes: 2").sink("partitioning: partition-0"),
    ]
}

#[test]
fn a_changed_spec_takes_force_at_one_position() {
    let seed = seed("revisions", 31);
    let mut rng = SmallRng::seed_from_u64(seed);
    let scene = Scene::new("revisions", "postgres-15");
    workload::create(&mut scene.sql());
    let workload = Workload::start(&scene, seed, Pace::default());
    let mut run = scene.run(&scene.spec(), &[]);
    scene.await_streaming(&mut run);
    workload.await_committed(50);
    run.kill();
    let variants = variants(&scene);
    let rounds = if full() { 24 } else { 3 };
    for round in 0..rounds {
        let spec = &variants[round % variants.len()];
        // Killed while the old lanes are sealed, or just after, or far into the new revision.
        for _ in 0..rng.random_range(0..2) {
            let mut run = scene.run(spec, &[]);
            run.await_log("the spec has changed", CATCH_UP_MAX);
            sleep(Duration::from_millis(rng.random_range(0..2500)));
            let killed = run.kill();
            if killed.stderr.contains("the spec is in force") {
                break;
            }
        }
        let mut run = scene.run(spec, &[]);
        scene.await_streaming(&mut run);
        workload.await_committed(rng.random_range(20..80));
        if rng.random() {
            run.kill();
        } else {
            run.interrupt(CATCH_UP_MAX).expect(0);
        }
    }
    workload.stop();
    let last = &variants[(rounds - 1) % variants.len()];
    // The last run may have been killed before its spec was in force.
    scene.catch_up(last);
    let ended = scene.catch_up(last);
    assert!(!ended.stderr.contains("the spec has changed"), "{}", ended.stderr);
    let report = scene.check(Promises { partitions_kept: false, ..Promises::default() });
    say(&format!("revisions: {} records, {} rows", report.records, report.rows));
}

/// Topics of one mapping begin with its word.
fn by(spec: Spec, word: &str) -> Spec {
    spec.topic(&format!("{{task}}.{word}.{{schema}}.{{table}}"))
}

fn mapped(scene: &Scene, word: &str) -> Spec {
    by(scene.spec(), word)
}

/// Everything but one table.
fn without(spec: Spec, table: &str) -> Spec {
    spec.objects(&[&format!("{{table: {table}, exclude: true}}"), "{table: \"*.*\"}"])
}

/// The mappings by which the stream was written, in the order of its positions: each row is one change of it.
fn mappings(scene: &Scene, topics: &Topics) -> Vec<String> {
    let events =
        topics.records.iter().filter(|it| it.value.is_some() && !it.topic.ends_with(".ddl"));
    let mut told: Vec<_> = events
        .filter_map(|record| {
            let word = record.topic.strip_prefix(&format!("{}.", scene.name))?.split('.').next()?;
            let id = Event::parse(record).expect("an event").id;
            // Rows of the snapshot have no place in the stream.
            Some(((id.lsn, id.seq?), word.to_owned()))
        })
        .collect();
    told.sort();
    let mut words: Vec<_> = told.into_iter().map(|(_, word)| word).collect();
    words.dedup();
    words
}

#[test]
fn a_changed_mapping_takes_force_by_a_mark_at_one_position() {
    let seed = seed("marks", 53);
    let mut rng = SmallRng::seed_from_u64(seed);
    let scene = Scene::new("marks", "postgres-15");
    workload::create(&mut scene.sql());
    let workload = Workload::start(&scene, seed, Pace::default());
    let mut run = scene.run(&mapped(&scene, "one"), &[]);
    scene.await_streaming(&mut run);
    workload.await_committed(50);
    run.kill();
    let words = ["two", "three", "one"];
    let rounds = if full() { 24 } else { 3 };
    let mut expected = vec!["one"];
    for round in 0..rounds {
        let word = words[round % words.len()];
        expected.push(word);
        let spec = mapped(&scene, word);
        // Killed while the mark is written, or just after: the slot then stands before it.
        if rng.random() {
            let mut run = scene.run(&spec, &[]);
            run.await_log("the spec has changed", CATCH_UP_MAX);
            sleep(Duration::from_millis(rng.random_range(0..1500)));
            run.kill();
        }
        let mut run = scene.run(&spec, &[]);
        scene.await_streaming(&mut run);
        workload.await_committed(rng.random_range(20..60));
        assert!(!run.log().contains("lanes sealed"), "{}", run.log());
        if rng.random() {
            run.kill();
        } else {
            run.interrupt(CATCH_UP_MAX).expect(0);
        }
    }
    workload.stop();
    let last = mapped(&scene, words[(rounds - 1) % words.len()]);
    let ended = scene.catch_up(&last);
    assert!(!ended.stderr.contains("the spec has changed"), "{}", ended.stderr);
    let report = scene.check(Promises { partitions_kept: false, ..Promises::default() });
    assert_eq!(mappings(&scene, &scene.topics()), expected, "each mapping from one position on");
    say(&format!("marks: {} records, {} rows", report.records, report.rows));
}

/// What was written to the table that a spec took out went nowhere, and the publication follows.
fn assert_left_alone(scene: &Scene, topics: &Topics) {
    let of_gone = |record: &&Record| record.topic.ends_with(".extra.gone");
    let key = |record: &Record| record.key.clone().unwrap_or_default();
    let late = topics.records.iter().filter(of_gone).map(key);
    assert_eq!(late.filter(|key| String::from_utf8_lossy(key).contains("777")).count(), 0);
    let published = scene.superuser().value(&format!(
        "SELECT string_agg(tablename, ',') FROM pg_publication_tables \
         WHERE pubname = '{}' AND schemaname = 'extra'",
        scene.slot()
    ));
    assert_eq!(published, "t", "the publication follows");
}

/// Each lane begins to write as a changed spec says, here and on another node, while the front and the others go on.
fn assert_lanes_write_anew(scene: &Scene, cluster: &mut Cluster<'_>, prefix: &str) {
    const ZSTD: usize = 4;
    let is_new = |topic: &str| batches(&scene.kafka, topic).iter().any(|it| it.codec == ZSTD);
    await_true("batches with the other compression", CATCH_UP_MAX, || {
        topics::list(&scene.kafka, |it| it.starts_with(prefix)).keys().any(|it| is_new(it))
    });
    cluster.await_status("the spec in force", CATCH_UP_MAX, Status::flows);
    let logs = format!("{}{}", cluster.log("w1"), cluster.log("w2"));
    for (words, times) in [
        ("front starts", 1),
        ("mark recorded", 1),
        ("lanes sealed", 0),
        ("lane opens its producer anew", 4),
    ] {
        assert_eq!(logs.matches(words).count(), times, "{words}: {logs}");
    }
    // Two lanes are never away at the same time.
    let renewed = |line: &&str| line.contains("lane opens its producer anew");
    let opened = |line: &&str| line.contains("lane opened");
    let lines: Vec<_> = logs.lines().filter(|it| renewed(it) || opened(it)).collect();
    let first = lines.iter().position(renewed).expect("one");
    for pair in lines[first..].chunks(2) {
        assert!(renewed(&pair[0]) && pair.get(1).is_some_and(opened), "{lines:#?}");
    }
}

/// The plan of a change says which tables come, go, and get other topics.
fn assert_tables_named(scene: &Scene, cluster: &Cluster<'_>, spec: &Spec) {
    let path = spec.clone().line("lanes: 4").line(TELLS).write(scene.folder());
    let path = path.to_str().expect("UTF-8");
    let plan = cluster.call(&["task", "apply", path, "--dry-run", "-o", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.expect(0).stdout).expect("JSON");
    let tables = plan["plan"]["tables"].as_array().expect("tables");
    let of = |name: &str| {
        let table = tables.iter().find(|it| it["schema"] == "extra" && it["table"] == name);
        table.unwrap_or_else(|| panic!("{name}: {plan}"))
    };
    assert_eq!(of("t")["change"], "copied", "{plan}");
    assert_eq!(
        (&of("t")["topic_before"], of("t")["topic_after"].is_string()),
        (&serde_json::Value::Null, true)
    );
    assert_eq!(of("gone")["change"], "removed", "{plan}");
    assert!(tables.iter().any(|it| it["change"] == "moved"), "{plan}");
    assert_eq!(plan["plan"]["tables_count"].as_u64(), Some(tables.len() as u64), "{plan}");
}

/// Row P20 for a table that a mark has brought.
fn assert_told_once(topics: &Topics) {
    let statements = topics.records.iter().filter(|it| it.topic.ends_with(".ddl"));
    let told = statements.filter(|it| it.json().to_string().contains("CREATE TABLE extra.t "));
    assert_eq!(told.count(), 1, "readers are told once of the table");
}

/// Readers are told of tables, which most tests do without.
const TELLS: &str = "sync: {definitions: true}";

#[test]
fn a_running_task_takes_up_a_changed_spec_while_it_streams() {
    let seed = seed("live", 71);
    let mut rng = SmallRng::seed_from_u64(seed);
    let scene = Scene::new("live", "postgres-15");
    workload::create(&mut scene.sql());
    scene.sql().run(
        "CREATE SCHEMA extra; CREATE TABLE extra.gone (id int PRIMARY KEY); \
         CREATE TABLE extra.t (id int PRIMARY KEY, n int); \
         INSERT INTO extra.gone VALUES (1); INSERT INTO extra.t SELECT i, 0 FROM generate_series(1, 3000) i",
    );
    let workload = Workload::start(&scene, seed, Pace::default());
    let mut cluster = Cluster::start(&scene, 1, 2);
    let apply = |cluster: &Cluster<'_>, spec: Spec| {
        let path = spec.line("lanes: 4").line(TELLS).write(scene.folder());
        cluster.call(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
    };
    cluster.apply(&without(by(cluster.spec(), "w0"), "extra.t").line("lanes: 4").line(TELLS));
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    workload.await_committed(30);
    let mut expected = vec!["w0".to_owned()];
    for round in 1..=if full() { 12 } else { 2 } {
        let word = format!("w{round}");
        let excluded = if round == 1 { "extra.t" } else { "extra.gone" };
        let changed = without(by(cluster.spec(), &word), excluded);
        if round == 2 {
            assert_tables_named(&scene, &cluster, &changed);
        }
        apply(&cluster, changed);
        // The first one may be carried out in peace.
        if 1 < round {
            sleep(Duration::from_millis(rng.random_range(0..2000)));
            let worker = format!("w{}", rng.random_range(1..3));
            cluster.kill(&worker);
            cluster.begin(&worker);
        }
        let prefix = format!("{}.{word}.", scene.name);
        await_true("records by the changed spec", CATCH_UP_MAX, || {
            !Topics::read(&scene.kafka, &prefix).records.is_empty()
        });
        if round == 1 {
            let logs = format!("{}{}", cluster.log("w1"), cluster.log("w2"));
            assert_eq!(logs.matches("front starts").count(), 1, "the front goes on: {logs}");
            assert_eq!(logs.matches("mark recorded").count(), 1, "{logs}");
            assert!(!logs.contains("lanes sealed"), "{logs}");
            let other = without(by(cluster.spec(), &word), excluded).sink("compression: zstd");
            apply(&cluster, other.sink("commit_interval: 100ms"));
            assert_lanes_write_anew(&scene, &mut cluster, &prefix);
        }
        expected.push(word);
        scene.sql().run(&format!("UPDATE extra.t SET n = {round} WHERE id % 7 = {round}"));
        workload.await_committed(20);
    }
    scene.sql().run("INSERT INTO extra.gone VALUES (777); DELETE FROM extra.gone WHERE id = 777");
    workload.stop();
    let last = expected.last().expect("one").clone();
    let spec = without(mapped(&scene, &last), "extra.gone").line("lanes: 4").line(TELLS);
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    drop(cluster);
    scene.catch_up(&spec);
    let promises = Promises {
        partitions_kept: false,
        everything: false,
        beside_stream: true,
        ..Promises::default()
    };
    let report = scene.check(promises);
    let topics = scene.topics();
    assert_eq!(mappings(&scene, &topics), expected, "each mapping from one position on");
    assert_left_alone(&scene, &topics);
    assert_told_once(&topics);
    say(&format!("live: {} records, {} rows", report.records, report.rows));
}

/// What one spec makes of the rows of `extra.probe`, whose topics lie apart from those of the task.
#[derive(Clone, Debug)]
struct Wish {
    /// In the topic's name.
    word: u32,
    /// Rows of kind `b` are left out.
    is_filtered: bool,
    /// Inserted rows are left out.
    is_deaf: bool,
    is_renamed: bool,
    is_masked: bool,
    is_short: bool,
    /// What no record depends on: a throttle, and who is told.
    rows_max: u32,
    lanes: u8,
    /// The publication leaves out rows, too.
    is_pushed: bool,
}

/// A row as it was found: the word of its topic, and whether columns were renamed, masked, left out.
type Shown = (u32, bool, bool, bool);

impl Wish {
    fn first() -> Self {
        let (is_filtered, is_deaf, is_renamed) = (false, false, false);
        let (is_masked, is_short, rows_max, lanes) = (false, false, 0, 4);
        let (word, is_pushed) = (0, true);
        Self {
            word,
            is_filtered,
            is_deaf,
            is_renamed,
            is_masked,
            is_short,
            rows_max,
            lanes,
            is_pushed,
        }
    }

    /// One thing is another one.
    fn changed(&self, rng: &mut SmallRng, word: u32) -> Self {
        let mut next = self.clone();
        match rng.random_range(0..10) {
            0 => next.word = word,
            1 => next.is_filtered = !next.is_filtered,
            2 => next.is_deaf = !next.is_deaf,
            3 => next.is_renamed = !next.is_renamed,
            4 => next.is_masked = !next.is_masked,
            5 => next.is_short = !next.is_short,
            // All lanes are sealed, and the next revision begins.
            6 | 7 => next.lanes = rng.random_range(1..7),
            8 => next.is_pushed = !next.is_pushed,
            _ => next.rows_max = rng.random_range(5_000..50_000),
        }
        next
    }

    fn spec(&self, scene: &Scene, cluster: &Cluster<'_>) -> Spec {
        let filter = if self.is_filtered { "kind <> 'b'" } else { "kind <> 'c'" };
        let operations = if self.is_deaf { "update, delete" } else { "insert, update, delete" };
        let exclude = if self.is_short { "[more]" } else { "[]" };
        let rename = if self.is_renamed { "{kind: sort}" } else { "{}" };
        let mask = if self.is_masked { "{note: hmac-sha256}" } else { "{}" };
        let object = format!(
            "{{table: extra.probe, topic: {}_probe.w{}, where: \"{filter}\", operations: [{operations}], \
             publication_filter: {}, \
             columns: {{exclude: {exclude}, rename: {rename}, mask: {mask}}}}}",
            scene.name, self.word, self.is_pushed
        );
        let spec = cluster.spec().objects(&[&object, "{table: \"*.*\"}"]);
        let spec = spec.line(&format!("lanes: {}", self.lanes));
        let spec = spec.line("mask_key: ${file:mask.key}");
        spec.line(&format!("throttle: {{incremental: {{rows: {}}}}}", self.rows_max))
    }

    /// What becomes of a row.
    fn of(&self, id: u32) -> Option<Shown> {
        let is_out = self.is_deaf || (self.is_filtered && kind(id) == "b");
        (!is_out).then_some((self.word, self.is_renamed, self.is_masked, self.is_short))
    }
}

fn kind(id: u32) -> &'static str {
    if id.is_multiple_of(3) { "b" } else { "a" }
}

/// Rows of the probe, as they were found.
fn shown(topics: &Topics) -> BTreeMap<u32, Shown> {
    let mut found = BTreeMap::new();
    for record in &topics.records {
        let (_, word) = record.topic.rsplit_once(".w").expect("a topic of the probe");
        let after = &record.json()["after"];
        let id = after["id"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("a row");
        let is_masked = after["note"] != "plain";
        let shown = (
            word.parse().expect("a number"),
            after.get("sort").is_some(),
            is_masked,
            after.get("more").is_none(),
        );
        assert_eq!(found.insert(id, shown), None, "row {id} came twice");
    }
    found
}

/// Each row is as one of the wishes wants it, and none is by an older wish than a row before it.
fn assert_in_turn(wishes: &[Wish], rows: u32, found: &BTreeMap<u32, Shown>) {
    let mut present = 0;
    for id in 1..=rows {
        let row = found.get(&id).copied();
        let next = (present..wishes.len()).find(|&it| wishes[it].of(id) == row);
        present = next.unwrap_or_else(|| {
            panic!("row {id} is {row:?}, after wish {present} of {wishes:#?}");
        });
    }
    let last = wishes.last().expect("one");
    assert_eq!(wishes[present].of(1), last.of(1), "the last one is in force");
}

#[test]
fn random_changes_hold_each_from_one_position_on() {
    let seed = seed("changes", 83);
    let mut rng = SmallRng::seed_from_u64(seed);
    let scene = Scene::new("changes", "postgres-15");
    workload::create(&mut scene.sql());
    scene.sql().run(
        "CREATE SCHEMA extra; \
         CREATE TABLE extra.probe (id int PRIMARY KEY, kind text, note text, more int)",
    );
    std::fs::write(scene.folder().join("mask.key"), "0123456789abcdef").expect("written");
    let workload = Workload::start(&scene, seed, Pace::default());
    let mut cluster = Cluster::start(&scene, 1, 2);
    let mut wishes = vec![Wish::first()];
    cluster.apply(&wishes[0].spec(&scene, &cluster));
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    let (mut sql, mut rows) = (scene.sql(), 0);
    let mut insert = |count: u32| {
        for _ in 0..count {
            rows += 1;
            let kind = kind(rows);
            sql.run(&format!("INSERT INTO extra.probe VALUES ({rows}, '{kind}', 'plain', 1)"));
        }
        rows
    };
    insert(10);
    let rounds = if full() { 30 } else { 4 };
    for round in 1..=rounds {
        let before = wishes.last().expect("one");
        let wish = match round {
            // Another word at last, which nothing else looks like.
            _ if round == rounds => Wish { word: round, is_deaf: false, ..before.clone() },
            // Whatever the seed says, lanes are sealed once before a worker is killed.
            2 => Wish { lanes: before.lanes % 6 + 1, ..before.clone() },
            _ => before.changed(&mut rng, round),
        };
        let path = wish.spec(&scene, &cluster).write(scene.folder());
        cluster.call(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
        wishes.push(wish);
        insert(rng.random_range(5..25));
        if round % 3 == 0 {
            let worker = format!("w{}", rng.random_range(1..3));
            cluster.kill(&worker);
            insert(5);
            cluster.begin(&worker);
        }
        cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
        insert(10);
    }
    let prefix = format!("{}_probe.", scene.name);
    let last = wishes.last().expect("one").clone();
    await_true("rows by the last spec", CATCH_UP_MAX, || {
        insert(3);
        shown(&Topics::read(&scene.kafka, &prefix)).values().any(|it| it.0 == last.word)
    });
    let rows = insert(0);
    workload.stop();
    let state = |it: &Status| it.text("state") == "synchronizing" && it.flows();
    cluster.await_status("the stream", CATCH_UP_MAX, state);
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    let catch_up = last.spec(&scene, &cluster);
    drop(cluster);
    let password = tests::sql::PASSWORD;
    scene.catch_up(&catch_up.user(tests::sql::ROLE, Some(password)));
    // Of the probe the topics have something else on purpose.
    scene.sql().run("DROP SCHEMA extra CASCADE");
    let report = scene.check(Promises { everything: false, ..Promises::default() });
    let found = shown(&Topics::read(&scene.kafka, &prefix));
    assert_in_turn(&wishes, rows, &found);
    tests::topics::delete(&scene.kafka, |topic| topic.starts_with(&prefix));
    say(&format!("changes: {rounds} changes, {rows} rows, {} records", report.records));
}

/// Rows of the probe, from 1 on, until it is dropped: how many there are.
struct Inserting {
    rows: Arc<AtomicU32>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Inserting {
    fn start(mut sql: Sql) -> Self {
        let (rows, ends) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, is_over) = (Arc::clone(&rows), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            for id in 1.. {
                if is_over.load(Relaxed) {
                    return;
                }
                let kind = kind(id);
                sql.run(&format!("INSERT INTO extra.probe VALUES ({id}, '{kind}', 'plain', 1)"));
                counted.store(id, Relaxed);
                std::thread::sleep(Duration::from_millis(if full() { 1 } else { 3 }));
            }
        });
        Self { rows, ends, thread: Some(thread) }
    }

    fn end(mut self) -> u32 {
        self.ends.store(true, Relaxed);
        self.thread.take().expect("once").join().expect("no panic");
        self.rows.load(Relaxed)
    }
}

/// The server leaves rows out by one condition before the change and by another one after it: at no position by one that is
/// not in force.
#[test]
fn conditions_of_the_publication_change_without_losing_a_row() {
    let scene = Scene::new("pushed", "postgres-15");
    scene.superuser().run(
        "CREATE SCHEMA extra AUTHORIZATION distributary; SET ROLE distributary; \
         CREATE TABLE extra.probe (id int PRIMARY KEY, kind text, note text, more int)",
    );
    std::fs::write(scene.folder().join("mask.key"), "0123456789abcdef").expect("written");
    let mut cluster = Cluster::start(&scene, 1, 2);
    let mut wishes = vec![Wish::first()];
    cluster.apply(&wishes[0].spec(&scene, &cluster));
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    let inserting = Inserting::start(scene.sql());
    let filter = || {
        scene.sql().value(
            "SELECT coalesce(string_agg(pg_get_expr(prqual, prrelid), ''), '') FROM pg_publication_rel",
        )
    };
    let rounds = if full() { 24 } else { 6 };
    for word in 1..=rounds {
        let before = wishes.last().expect("one");
        let lanes = if word % 4 == 2 { before.lanes % 6 + 1 } else { before.lanes };
        let is_pushed = word % 5 != 0;
        let wish =
            Wish { word, is_filtered: !before.is_filtered, lanes, is_pushed, ..before.clone() };
        let path = wish.spec(&scene, &cluster).write(scene.folder());
        // There is no filter to be taken away, and the new one has to wait.
        let busy = (is_pushed && !before.is_pushed).then(|| {
            let mut sql = scene.sql();
            sql.run("BEGIN; LOCK TABLE extra.probe IN ROW EXCLUSIVE MODE");
            sql
        });
        cluster.call(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
        if let Some(sql) = busy {
            await_true("that the table is busy", CATCH_UP_MAX, || {
                let logs = cluster.log("w1") + &cluster.log("w2");
                logs.contains("the table is busy, its row filter is set later")
            });
            drop(sql);
        }
        if word % 3 == 0 && word != 6 {
            let worker = format!("w{}", word % 2 + 1);
            cluster.kill(&worker);
            cluster.begin(&worker);
        }
        let kind = match (is_pushed, wish.is_filtered) {
            (false, _) => "",
            (true, true) => "'b'",
            (true, false) => "'c'",
        };
        await_true("the row filter", CATCH_UP_MAX, || {
            let filter = filter();
            if kind.is_empty() { filter.is_empty() } else { filter.contains(kind) }
        });
        wishes.push(wish);
        cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    }
    let prefix = format!("{}_probe.", scene.name);
    await_true("rows by the last spec", CATCH_UP_MAX, || {
        shown(&Topics::read(&scene.kafka, &prefix)).values().any(|it| it.0 == rounds)
    });
    let rows = inserting.end();
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    let catch_up = wishes.last().expect("one").spec(&scene, &cluster);
    drop(cluster);
    scene.catch_up(&catch_up.user(tests::sql::ROLE, Some(tests::sql::PASSWORD)));
    let found = shown(&Topics::read(&scene.kafka, &prefix));
    assert_in_turn(&wishes, rows, &found);
    tests::topics::delete(&scene.kafka, |topic| topic.starts_with(&prefix));
    say(&format!("pushed: {rounds} changes, {rows} rows, {} of them captured", found.len()));
}

#[test]
fn a_changed_spec_that_cannot_be_carried_out_changes_nothing() {
    let scene = Scene::new("refused", "postgres-15");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY)");
    scene.catch_up(&scene.spec());
    scene.sql().run("INSERT INTO t SELECT generate_series(1, 20)");
    let bad = scene.spec().objects(&["{table: public.t, partition_key: [wrong]}"]);
    let ended = scene.run(&bad, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    // The precheck refuses it: nothing has begun.
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("no column `wrong`"), "{}", ended.stderr);
    scene.catch_up(&scene.spec());
    scene.check(Promises::default());
}

#[test]
fn a_changed_spec_before_the_stream_begins_needs_no_seal() {
    let scene = Scene::new("unsealed", "postgres-15");
    scene
        .sql()
        .run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 200)");
    scene.run(&scene.spec(), &[]).await_log("lane opened", CATCH_UP_MAX);
    let spec = scene.spec().line("lanes: 2").sink("hash: java");
    scene.catch_up(&spec);
    scene.sql().run("UPDATE t SET id = id + 1000 WHERE id % 3 = 0");
    scene.catch_up(&spec);
    scene.check(Promises { partitions_kept: false, ..Promises::default() });
}
