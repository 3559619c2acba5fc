//! A spec that changes between two runs takes force at one position: lanes, hash, partitioning and the
//! objects change under a workload while processes are killed, and nothing is lost or doubled.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::thread::sleep;
use std::time::Duration;
use tests::checker::Promises;
use tests::cluster::Cluster;
use tests::deadline::await_true;
use tests::event::Event;
use tests::reader::{Record, Topics};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::status::Status;
use tests::task::Spec;
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
    let rounds = if full() { 24 } else { 4 };
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
    let events = topics.records.iter().filter(|record| record.value.is_some());
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
    let rounds = if full() { 24 } else { 4 };
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
        let path = spec.line("lanes: 4").write(scene.folder());
        cluster.call(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
    };
    let spec = without(by(cluster.spec(), "w0"), "extra.t").line("lanes: 4");
    cluster.apply(&spec);
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    workload.await_committed(30);
    let mut expected = vec!["w0".to_owned()];
    for round in 1..=if full() { 12 } else { 2 } {
        let word = format!("w{round}");
        let excluded = if round == 1 { "extra.t" } else { "extra.gone" };
        apply(&cluster, without(by(cluster.spec(), &word), excluded));
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
        }
        expected.push(word);
        scene.sql().run(&format!("UPDATE extra.t SET n = {round} WHERE id % 7 = {round}"));
        workload.await_committed(20);
    }
    scene.sql().run("INSERT INTO extra.gone VALUES (777); DELETE FROM extra.gone WHERE id = 777");
    workload.stop();
    let last = expected.last().expect("one").clone();
    let spec = without(mapped(&scene, &last), "extra.gone").line("lanes: 4");
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
    say(&format!("live: {} records, {} rows", report.records, report.rows));
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
